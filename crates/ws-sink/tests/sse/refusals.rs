//! Who is not let in, and how he is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fanout::{Hub, Identity, Limits};
use futures::future::BoxFuture;
use serde_json::json;
use tokio::sync::Semaphore;
use ws_sink::auth::{AuthError, Authenticator, Credential};
use ws_sink::handshake::Query;
use ws_sink::{Sockets, Sse, SseConfig};

use crate::client::{Response, Server, bearer, listen, serve, start, tokens};
use crate::common::{access, token, within};

/// Takes tickets, and guests.
pub(crate) struct Tickets;

impl Authenticator for Tickets {
    fn authenticate<'a>(
        &'a self,
        credential: Credential<'a>,
    ) -> BoxFuture<'a, Result<Identity, AuthError>> {
        let identity = match credential {
            Credential::Ticket("of-ann") => Ok(Identity::new("ann", ["user"])),
            _ => Err(AuthError::Invalid("no ticket")),
        };
        Box::pin(async { identity })
    }

    fn anonymous(&self, query: &Query) -> Option<Identity> {
        (!query.rooms.is_empty()).then(|| Identity::new("guest", ["user"]))
    }
}

fn hub() -> Hub {
    Hub::builder(access()).shards(2).readiness(Sockets::new).build().unwrap()
}

async fn answer(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    Response::of(server.addr, method, path, "HTTP/1.1", headers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_honest_client_asks_is_an_http_error_that_says_what() {
    let server = start().await;
    let auth = ("authorization", &*bearer("ann", "user"));
    for (path, header, status, says) in [
        ("/events?room=a%20b", auth, 400, "`room`"),
        ("/events?cursor=a&cursor=b", auth, 400, "`cursor`"),
        ("/events", ("origin", "https://evil.example"), 403, "`Origin`"),
        ("/events", ("origin", "null"), 403, "`Origin`"),
        ("/events", ("accept", "application/json, text/html"), 406, "text/event-stream"),
    ] {
        let mut response = server.get(path, &[header]).await;
        assert_eq!(response.status, status, "{path}");
        let length: usize = response.header("content-length").unwrap().parse().unwrap();
        let mut text = String::new();
        while text.len() < length {
            text += &response.some_text().await;
        }
        assert!(text.contains(says), "{text}");
    }
    let own = format!("http://{}", server.addr);
    for header in [
        ("origin", own.as_str()),
        ("accept", "text/event-stream"),
        ("accept", "text/html, */*;q=0.8"),
        ("accept", "Text/*"),
    ] {
        let (_, welcome) = server.open("/events", &[auth, header]).await;
        assert_eq!(welcome.name, "welcome", "{header:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_open_nothing() {
    let server = start().await;
    let auth = ("authorization", &*bearer("ann", "user"));
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let response = answer(&server, method, "/events", &[auth]).await;
        assert_eq!((response.status, response.header("allow")), (405, Some("get, head")));
    }
    let head = answer(&server, "HEAD", "/events", &[auth]).await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(head.header("content-length"), None);
    assert_eq!(server.hub.stats().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_verified_is_told_by_an_event() {
    let server = start().await;
    for (token, code, name, final_) in [
        (token("ann", "user", -3600), 4002, "token_expired", false),
        (token("ann", "stranger", 3600), 4501, "forbidden", true),
        (format!("{}x", token("ann", "user", 3600)), 4500, "unauthenticated", true),
        ("rubbish".to_owned(), 4500, "unauthenticated", true),
        (String::new(), 4500, "unauthenticated", true),
    ] {
        let bearer = format!("Bearer {token}");
        let mut stream = server.get("/events", &[("authorization", &bearer)]).await;
        assert_eq!(stream.status, 200, "an EventSource hears no status");
        assert_eq!(stream.closed().await, json!({"code": code, "name": name}));
        assert_eq!(stream.retry.unwrap() == 60_000, final_);
    }
    for path in ["/events", "/events?ticket=x", "/events?role=admin&token=x"] {
        let mut stream = server.get(path, &[]).await;
        assert_eq!(stream.closed().await["code"], 4500, "{path}");
    }
    server.connections(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_before_the_source_is_ready() {
    let (hub, ready) = (hub(), Arc::new(AtomicBool::new(false)));
    let gate = ready.clone();
    let config = SseConfig::default();
    let sse = Sse::gated(&hub, tokens(), config, move || gate.load(Ordering::SeqCst));
    let server = listen(hub, sse).await;
    assert_eq!(server.get("/events", &[]).await.status, 503);
    ready.store(true, Ordering::SeqCst);
    server.connect("ann", "user").await;
}

/// Vouches for nobody until there is a permit.
struct Slow(Arc<Semaphore>);

impl Authenticator for Slow {
    fn authenticate<'a>(&'a self, _: Credential<'a>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        Box::pin(async {
            self.0.acquire().await.expect("open").forget();
            Ok(Identity::new("ann", ["user"]))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openings_are_bounded_and_one_that_is_given_up_makes_room() {
    let (hub, permits) = (hub(), Arc::new(Semaphore::new(0)));
    let mut config = SseConfig::default();
    config.pending = 1;
    config.auth_timeout = std::time::Duration::from_secs(600);
    let server = listen(hub.clone(), Sse::with_config(&hub, Slow(permits.clone()), config)).await;
    let auth = [("authorization", "Bearer x")];
    // Its head and its first bytes come before it is known who it is.
    let mut first = server.get("/events", &auth).await;
    assert_eq!(first.status, 200);
    assert!(first.some_text().await.starts_with("retry: "));
    assert_eq!(server.get("/events", &auth).await.status, 503);
    drop(first);
    let mut second = within("room", async {
        loop {
            let response = server.get("/events", &auth).await;
            if response.status == 200 {
                return response;
            }
        }
    })
    .await;
    permits.add_permits(1);
    assert_eq!(second.next().await.name, "welcome");
    assert_eq!(permits.available_permits(), 0, "the one that was given up took none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_full_says_so() {
    let mut limits = Limits::default();
    limits.connections = 1;
    let server = serve(access(), limits, SseConfig::default()).await;
    let (first, _) = server.connect("ann", "user").await;
    let mut second = server.get("/events", &[("authorization", &bearer("ann", "user"))]).await;
    assert_eq!(second.closed().await["code"], 4004);
    drop(first);
    server.connections(0).await;
    server.connect("ann", "user").await;
}
