//! With a source that is told what to answer, and a clock that is told the time.

mod counted;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::{BoxFuture, FutureExt, join_all};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::advance;

use super::set::Secrets;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// Answers with its sets in turn, the last one for ever, and counts.
struct Told {
    answers: Mutex<VecDeque<Vec<&'static str>>>,
    down: Mutex<bool>,
    asked: AtomicUsize,
    /// A load is answered for each permit.
    permits: Semaphore,
}

impl Told {
    fn new(answers: &[&[&'static str]]) -> Arc<Self> {
        let answers = answers.iter().map(|ids| ids.to_vec()).collect();
        let permits = Semaphore::new(1_000_000);
        let (down, asked) = (Mutex::new(false), AtomicUsize::new(0));
        Arc::new(Self { answers: Mutex::new(answers), down, asked, permits })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    /// Holds answers back, until `permits` has some.
    fn hold(&self) {
        self.permits.forget_permits(usize::MAX);
    }
}

fn set(ids: &[&str]) -> KeySet {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
    let x = URL_SAFE_NO_PAD.encode(key.as_bytes());
    let keys: Vec<_> =
        ids.iter().map(|id| json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x})).collect();
    KeySet::read(json!({"keys": keys}).to_string().as_bytes(), Secrets::Taken).unwrap()
}

impl Source for Arc<Told> {
    fn load(&self, _force: bool) -> BoxFuture<'static, Result<Loaded, JwksError>> {
        let this = Arc::clone(self);
        async move {
            this.asked.fetch_add(1, Ordering::SeqCst);
            this.permits.acquire().await.unwrap().forget();
            if *this.down.lock().unwrap() {
                return Err(JwksError::Status { status: 503 });
            }
            let mut answers = this.answers.lock().unwrap();
            let ids =
                if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            match ids.unwrap()[..] {
                ["weak"] => Err(JwksError::Unusable(KeyError::RsaBits { bits: 1024 })),
                ref ids => Ok(Loaded::Set(set(ids))),
            }
        }
        .boxed()
    }
}

fn jwks(told: &Arc<Told>) -> Jwks {
    Jwks::new(Arc::clone(told), DEFAULT_REFRESH_EVERY, UNKNOWN_KEY_EVERY, false)
}

/// `ok`, what a refused token is told, or `unavailable`.
async fn key(jwks: &Jwks, id: &str) -> &'static str {
    match jwks.key(Algorithm::EdDsa, Some(id)).await {
        Ok(_) => "ok",
        Err(AuthError::Invalid(why)) => why,
        Err(AuthError::Unavailable(_)) => "unavailable",
        Err(other) => panic!("{other:?}"),
    }
}

const UNKNOWN: &str = "`kid` is of no key that fits";

/// Until the tasks that run have come as far as they can.
async fn settled() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_tokens_of_an_unknown_key_make_one_request() {
    let told = Told::new(&[&["a"], &["a", "b"]]);
    let jwks = jwks(&told);
    assert_eq!(key(&jwks, "a").await, "ok");
    assert_eq!(told.asked(), 1);
    told.hold();
    let waiting: Vec<_> = (0..100)
        .map(|n| {
            let jwks = jwks.clone();
            let id = if n % 2 == 0 { "b" } else { "c" };
            tokio::spawn(async move { key(&jwks, id).await })
        })
        .collect();
    settled().await;
    assert_eq!(told.asked(), 2);
    assert!(waiting.iter().all(|task| !task.is_finished()));
    // Whose key is known waits for nobody.
    assert_eq!(key(&jwks, "a").now_or_never(), Some("ok"));
    told.permits.add_permits(1000);
    for (n, answer) in join_all(waiting).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), if n % 2 == 0 { "ok" } else { UNKNOWN });
    }
    assert_eq!(told.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_are_asked_for_once_a_minute() {
    let told = Told::new(&[&["a"]]);
    let jwks = jwks(&told);
    assert_eq!(key(&jwks, "a").await, "ok");
    for n in 0..50 {
        assert_eq!(key(&jwks, &format!("made up {n}")).await, UNKNOWN);
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(told.asked(), 2);
    advance(Duration::from_secs(10)).await;
    assert_eq!(key(&jwks, "x").await, UNKNOWN);
    assert_eq!(key(&jwks, "y").await, UNKNOWN);
    assert_eq!(told.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_first_token_waits_and_asks_once() {
    let told = Told::new(&[&["a"]]);
    let jwks = jwks(&told);
    assert_eq!(key(&jwks, "x").await, UNKNOWN);
    assert_eq!(told.asked(), 1, "who has waited for all the keys asks no second time");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_taken_away_goes() {
    let told = Told::new(&[&["a"], &["b"]]);
    let jwks = jwks(&told);
    assert_eq!(key(&jwks, "a").await, "ok");
    advance(Duration::from_millis(599_999)).await;
    assert_eq!(key(&jwks, "a").await, "ok");
    assert_eq!(told.asked(), 1);
    advance(Duration::from_millis(1)).await;
    // Asked for behind the back of the one who comes, and soon there.
    assert_eq!(key(&jwks, "a").await, "ok");
    settled().await;
    assert_eq!(told.asked(), 2);
    assert_eq!(key(&jwks, "b").await, "ok");
    assert_eq!(key(&jwks, "a").await, UNKNOWN);
}

#[tokio::test(start_paused = true)]
async fn after_a_quiet_time_the_first_one_waits_for_the_keys_of_now() {
    let told = Told::new(&[&["a"], &["b"]]);
    let jwks = jwks(&told);
    assert_eq!(key(&jwks, "a").await, "ok");
    advance(DEFAULT_REFRESH_EVERY + MINUTE).await;
    assert_eq!(key(&jwks, "a").await, UNKNOWN);
}

#[tokio::test(start_paused = true)]
async fn keys_are_kept_while_they_cannot_be_had_but_not_for_ever() {
    let told = Told::new(&[&["a"]]);
    let jwks = jwks(&told).max_stale(Duration::from_secs(3600));
    assert_eq!(key(&jwks, "a").await, "ok");
    told.set_down(true);
    for _ in 0..6 {
        advance(Duration::from_secs(599)).await;
        assert_eq!(key(&jwks, "a").await, "ok");
        // It may be the key that could not be fetched.
        assert_eq!(key(&jwks, "new").await, "unavailable");
    }
    advance(MINUTE).await;
    assert_eq!(key(&jwks, "a").await, "unavailable");
    let asked = told.asked();
    assert_eq!(key(&jwks, "a").await, "unavailable");
    assert_eq!(told.asked(), asked, "a source that failed is left alone for a while");
    told.set_down(false);
    advance(RETRY_EVERY).await;
    assert_eq!(key(&jwks, "a").await, "ok");
    assert_eq!(key(&jwks, "x").await, UNKNOWN);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_gave_way_to_unusable_ones_goes_too() {
    let told = Told::new(&[&["a"], &["weak"], &["a"]]);
    let jwks = jwks(&told);
    assert_eq!(key(&jwks, "a").await, "ok");
    advance(DEFAULT_REFRESH_EVERY + MINUTE).await;
    assert_eq!(key(&jwks, "a").await, "unavailable");
    advance(RETRY_EVERY).await;
    assert_eq!(key(&jwks, "a").await, "ok");
}

#[tokio::test(start_paused = true)]
async fn a_failing_source_delays_nobody_who_has_a_key() {
    let told = Told::new(&[&["a"]]);
    let jwks = jwks(&told);
    assert_eq!(key(&jwks, "a").await, "ok");
    told.set_down(true);
    advance(DEFAULT_REFRESH_EVERY + MINUTE).await;
    assert_eq!(key(&jwks, "a").await, "ok", "the first one waits, for an answer");
    told.hold();
    for _ in 0..10 {
        advance(RETRY_EVERY).await;
        settled().await;
        assert_eq!(key(&jwks, "a").now_or_never(), Some("ok"));
        settled().await;
    }
    assert_eq!(told.asked(), 12, "asked again each time, by nobody who waits");
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_takes_the_load_of_others_not_along() {
    let told = Told::new(&[&["a"]]);
    let jwks = jwks(&told);
    told.hold();
    let first = tokio::spawn({
        let jwks = jwks.clone();
        async move { key(&jwks, "a").await }
    });
    settled().await;
    let second = tokio::spawn({
        let jwks = jwks.clone();
        async move { key(&jwks, "a").await }
    });
    settled().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert!(!second.is_finished());
    told.permits.add_permits(1);
    assert_eq!(second.await.unwrap(), "ok");
    assert_eq!(told.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_given_up() {
    let told = Told::new(&[&["a"]]);
    let jwks = jwks(&told);
    told.hold();
    let before = Instant::now();
    assert_eq!(key(&jwks, "a").await, "unavailable");
    assert_eq!(before.elapsed(), LOAD_TIMEOUT);
    assert!(matches!(*jwks.loaded().await.unwrap_err(), JwksError::TimedOut));
    told.permits.add_permits(1000);
    assert!(jwks.loaded().await.is_ok());
    assert_eq!(key(&jwks, "a").await, "ok");
}

#[tokio::test(start_paused = true)]
async fn without_a_name_the_only_key_is_taken() {
    let told = Told::new(&[&["a"], &["a", "b"]]);
    let jwks = jwks(&told);
    assert!(jwks.key(Algorithm::EdDsa, None).await.is_ok());
    let other = jwks.key(Algorithm::Es256, None).await.err().unwrap();
    assert_eq!(other.to_string(), "credential refused: there is no `kid`, and no key fits");
    let several = jwks.key(Algorithm::EdDsa, None).await.err().unwrap();
    let told = "credential refused: there is no `kid`, and several keys fit";
    assert_eq!(several.to_string(), told);
}

#[test]
fn outside_of_a_runtime_nothing_is_loaded_and_nothing_panics() {
    let told = Told::new(&[&["a"]]);
    let jwks = jwks(&told);
    let refused = jwks.key(Algorithm::EdDsa, Some("a")).now_or_never().unwrap();
    assert!(matches!(refused, Err(AuthError::Unavailable(_))));
    assert_eq!(told.asked(), 0);
}

#[test]
fn a_secret_is_never_taken_from_a_url() {
    let jwks = jwks(&Told::new(&[&["a"]]));
    assert!(matches!(jwks.fits(Algorithm::Hs256), Err(KeyError::SecretFromUrl)));
    assert!(jwks.fits(Algorithm::Es256).is_ok(), "nothing is known yet");
    jwks.0.settle(Ok(Loaded::Set(set(&["a"]))));
    assert!(matches!(jwks.fits(Algorithm::Es256), Err(KeyError::NoneFits { .. })));
    assert!(jwks.fits(Algorithm::EdDsa).is_ok());
    assert_eq!(format!("{jwks:?}"), "Jwks { keys: Some(1), .. }");
}
