//! Keys from a URL: a provider of the test's own, which counts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use futures::StreamExt as _;
use futures::future::join_all;
use ws_sink::auth::{Algorithm, Jwks, JwksError, Jwt, KeyError, Keys, MAX_JWKS_BYTES};

use crate::file::{UNKNOWN, jwt, set, told};
use crate::pairs::{b64, es256, hs256};

#[derive(Default)]
struct Provider {
    answer: Mutex<(u16, String)>,
    asked: AtomicUsize,
    elsewhere: AtomicUsize,
}

impl Provider {
    /// Serves until the test ends, at this address.
    async fn start(keys: &str) -> (Arc<Self>, String) {
        let provider = Arc::new(Self::default());
        provider.answers(200, keys);
        let app = Router::new().fallback({
            let provider = Arc::clone(&provider);
            async move |uri: Uri, headers: HeaderMap| provider.answer(&uri, &headers)
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (provider, url)
    }

    fn answers(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = (status, body.to_owned());
    }

    fn answer(&self, uri: &Uri, headers: &HeaderMap) -> (StatusCode, HeaderMap, String) {
        if uri.path() != "/jwks" {
            self.elsewhere.fetch_add(1, Ordering::SeqCst);
        }
        assert!(headers.get(header::AUTHORIZATION).is_none());
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (status, body) = self.answer.lock().unwrap().clone();
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, "/elsewhere".parse().unwrap());
        (StatusCode::from_u16(status).unwrap(), headers, body)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_while_tokens_of_both_are_presented() {
    let (a, b) = (es256(1), es256(2));
    let (provider, url) = Provider::start(&set(&[a.named("a")])).await;
    let jwt = Arc::new(jwt(&a, Jwks::url(&url).unwrap()));
    let (old, new) = (a.of_key("a"), b.of_key("b"));
    let all = |token: &str| {
        let asks = (0..100).map(|_| {
            let (jwt, token) = (Arc::clone(&jwt), token.to_owned());
            tokio::spawn(async move { told(&jwt, &token).await })
        });
        join_all(asks.collect::<Vec<_>>())
    };
    let count = |answers: Vec<Result<&'static str, _>>, answer| {
        answers
            .iter()
            .filter(|told: &&Result<_, tokio::task::JoinError>| *told.as_ref().unwrap() == answer)
            .count()
    };
    assert_eq!(count(all(&old).await, "ok"), 100);
    assert_eq!(provider.asked(), 1, "a hundred first tokens are one request");
    provider.answers(200, &set(&[a.named("a"), b.named("b")]));
    let (olds, news) = tokio::join!(all(&old), all(&new));
    assert_eq!((count(olds, "ok"), count(news, "ok")), (100, 100));
    assert_eq!(provider.asked(), 2, "a hundred tokens of an unknown key are one request");
    // Once a minute, whatever is made up.
    for id in 0..20 {
        assert_eq!(told(&jwt, &a.of_key(&id.to_string())).await, UNKNOWN);
    }
    assert_eq!(provider.asked(), 2);
}

#[tokio::test]
async fn a_key_that_was_taken_away_goes_and_an_outage_takes_none() {
    let (a, b) = (es256(1), es256(2));
    let (provider, url) = Provider::start(&set(&[a.named("a")])).await;
    let jwks = Jwks::url(&url).unwrap().refresh_every(Duration::from_secs(1));
    jwks.loaded().await.unwrap();
    let jwt = jwt(&a, jwks);
    assert_eq!(told(&jwt, &a.of_key("a")).await, "ok");
    provider.answers(200, &set(&[b.named("b")]));
    crate::file::until(&jwt, &a.of_key("a"), UNKNOWN).await;
    provider.answers(503, "");
    let asked = provider.asked();
    let start = std::time::Instant::now();
    while provider.asked() == asked {
        assert!(start.elapsed() < Duration::from_secs(20));
        assert_eq!(told(&jwt, &b.of_key("b")).await, "ok");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(told(&jwt, &b.of_key("b")).await, "ok");
}

async fn refusal(status: u16, body: &str) -> Arc<JwksError> {
    let (provider, url) = Provider::start("").await;
    provider.answers(status, body);
    let error = Jwks::url(&url).unwrap().loaded().await.unwrap_err();
    assert_eq!((provider.asked(), provider.elsewhere.load(Ordering::SeqCst)), (1, 0));
    error
}

#[tokio::test]
async fn an_answer_is_capped_and_a_redirect_not_followed() {
    let good = set(&[es256(1).named("a")]);
    for status in [301, 302, 307, 404, 500, 204] {
        let error = refusal(status, &good).await;
        assert!(matches!(*error, JwksError::Status { status: of } if of == status), "{error}");
    }
    let huge = format!("{good}{}", " ".repeat(MAX_JWKS_BYTES));
    assert!(matches!(*refusal(200, &huge).await, JwksError::TooLarge));
    assert!(matches!(*refusal(200, "<html>").await, JwksError::Malformed));
    let many = set(&vec![es256(1).jwk; 65]);
    assert!(matches!(*refusal(200, &many).await, JwksError::TooManyKeys { len: 65 }));
    let weak = serde_json::json!({"kty": "RSA", "e": "AQAB", "n": b64([0xff; 128])});
    let weak = refusal(200, &set(&[weak])).await;
    assert!(matches!(*weak, JwksError::Unusable(KeyError::RsaBits { bits: 1024 })), "{weak}");
    // Whoever can ask for the secret could sign.
    let secret = refusal(200, &set(&[hs256().jwk])).await;
    assert!(matches!(*secret, JwksError::Unusable(KeyError::SecretFromUrl)), "{secret}");
}

/// What is too long is not read to its end.
#[tokio::test]
async fn a_flood_is_cut_off() {
    const CHUNKS: usize = 64;
    let sent = Arc::new(AtomicUsize::new(0));
    let app = Router::new().fallback({
        let sent = Arc::clone(&sent);
        async move || {
            let chunks = futures::stream::iter(0..CHUNKS).map(move |_| {
                sent.fetch_add(1, Ordering::SeqCst);
                Ok::<_, std::convert::Infallible>(vec![b' '; 1024 * 1024])
            });
            Body::from_stream(chunks)
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let error = Jwks::url(&url).unwrap().loaded().await.unwrap_err();
    assert!(matches!(*error, JwksError::TooLarge), "{error}");
    assert!((1..CHUNKS).contains(&sent.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let (a, jwks) = (es256(1), Jwks::url(&url).unwrap());
    let jwt = jwt(&a, jwks.clone());
    assert_eq!(told(&jwt, &a.of_key("a")).await, "unavailable");
    let error = jwks.loaded().await.unwrap_err();
    assert!(matches!(*error, JwksError::Fetch(_)), "{error}");
}

#[tokio::test]
async fn plain_http_is_no_tls() {
    let (provider, url) = Provider::start(&set(&[es256(1).jwk])).await;
    let jwks = Jwks::url(&url.replace("http:", "https:")).unwrap();
    assert!(matches!(*jwks.loaded().await.unwrap_err(), JwksError::Fetch(_)));
    assert_eq!(provider.asked(), 0);
}

#[test]
fn keys_come_from_nowhere_else() {
    for url in [
        "https://login.shop.example/jwks",
        "https://login.shop.example:8443/jwks?x=1",
        "http://127.0.0.1:8080/jwks",
        "http://127.1.2.3/",
        "http://[::1]:8080/jwks",
        "http://localhost/jwks",
    ] {
        assert!(Jwks::url(url).is_ok(), "{url}");
    }
    for url in [
        "",
        "/jwks",
        "login.shop.example/jwks",
        "http://login.shop.example/jwks",
        "http://10.0.0.1/jwks",
        "http://127.0.0.1.evil.example/jwks",
        "http://localhost.evil.example/jwks",
        "http://localhost@evil.example/jwks",
        "https://name:password@login.shop.example/jwks",
        "ftp://login.shop.example/jwks",
        "file:///etc/jwks.json",
    ] {
        let error = Jwks::url(url).map(|_| ()).unwrap_err();
        assert!(matches!(error, JwksError::Url(_)), "{url}: {error}");
        assert!(!error.to_string().contains("password@"), "{error}");
    }
    let jwks = Jwks::url("https://login.shop.example/jwks").unwrap();
    let secret = Jwt::new(Algorithm::Hs256, Keys::jwks(jwks)).unwrap_err();
    assert!(matches!(secret, KeyError::SecretFromUrl));
}
