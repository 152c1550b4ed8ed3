//! Events of the application's own, from clients, over real sockets.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Client, Server, access, listen, token, within};
use fanout::{Access, Close, Emission, Hub, Identity, RoleAccess, Room};
use futures::SinkExt;
use futures::future::{BoxFuture, FutureExt, ready};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use ws_sink::auth::{AuthError, Authenticator, Credential, Hs256};
use ws_sink::handshake::Query;
use ws_sink::{ClientEvent, ClientEvents, Refused, Sender, Sockets, Ws};

/// Tells the test each batch, and takes it when the test lets it.
struct Told {
    batches: mpsc::Sender<Vec<String>>,
    may: Arc<Semaphore>,
}

impl ClientEvents for Told {
    fn check(&self, from: Sender<'_>, event: &ClientEvent) -> Result<(), Refused> {
        match &*event.event {
            "say" | "bye" => Ok(()),
            "odd" => Err(Refused::Malformed("`data` is odd")),
            "in" if event.room.is_none() => Err(Refused::BadRoom("`room` is missing")),
            "mine" if &*from.identity.subject != "ann" => Err(Refused::Forbidden),
            "fast" => Err(Refused::RateLimited),
            _ => Err(Refused::Unknown),
        }
    }

    fn take(
        &self,
        _: Sender<'_>,
        events: Vec<ClientEvent>,
    ) -> BoxFuture<'static, Result<(), Close>> {
        let bye = events.iter().any(|event| event.event == "bye");
        let data = events.iter().map(|event| event.data.as_str().to_owned()).collect();
        let (batches, may) = (self.batches.clone(), self.may.clone());
        async move {
            batches.send(data).await.unwrap();
            may.acquire().await.unwrap().forget();
            if bye { Err(Close::GoingAway) } else { Ok(()) }
        }
        .boxed()
    }
}

struct Heard {
    server: Server,
    batches: mpsc::Receiver<Vec<String>>,
    may: Arc<Semaphore>,
}

async fn start(permits: usize) -> Heard {
    let mut limits = fanout::Limits::default();
    limits.requests = fanout::RequestRate { per_second: 1_000, burst: 1_000 };
    let builder = Hub::builder(access()).limits(limits);
    let hub = builder.shards(1).readiness(Sockets::new).build().unwrap();
    let (sender, batches) = mpsc::channel(16);
    let may = Arc::new(Semaphore::new(permits));
    let told = Told { batches: sender, may: may.clone() };
    let ws = Ws::new(&hub, Hs256::new(common::SECRET).unwrap()).with_events(told);
    Heard { server: listen(hub, ws).await, batches, may }
}

impl Heard {
    async fn batch(&mut self) -> Vec<String> {
        within("a batch", self.batches.recv()).await.unwrap()
    }
}

/// Sends all of them in one write.
async fn send_together(client: &mut Client, frames: impl IntoIterator<Item = Value>) {
    for frame in frames {
        client.0.feed(Message::text(frame.to_string())).await.unwrap();
    }
    within("sending", client.0.flush()).await.unwrap();
}

fn say(n: usize) -> Value {
    json!({"event": "say", "data": n})
}

#[tokio::test(flavor = "multi_thread")]
async fn events_read_together_are_handed_over_together() {
    let mut heard = start(0).await;
    let (mut ann, _) = heard.server.connect("ann", "user").await;
    // The first is being taken while the others arrive: nothing is read meanwhile.
    send_together(&mut ann, [say(0)]).await;
    assert_eq!(heard.batch().await, ["0"]);
    send_together(&mut ann, (1..=300).map(say)).await;
    heard.may.add_permits(1000);
    let mut rest = Vec::new();
    let mut batches = 0;
    while rest.len() < 300 {
        let batch = heard.batch().await;
        assert!((1..=128).contains(&batch.len()), "{}", batch.len());
        rest.extend(batch);
        batches += 1;
    }
    assert_eq!(rest, (1..=300).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(batches < 300, "each came alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_faster_than_is_taken_is_not_read_and_others_are() {
    let mut heard = start(0).await;
    let (mut ann, _) = heard.server.connect("ann", "user").await;
    let (mut bob, _) = heard.server.connect("bob", "user").await;
    send_together(&mut ann, [json!({"event": "say", "id": "a", "data": 1})]).await;
    assert_eq!(heard.batch().await, ["1"]);
    // Ann's second frame is not looked at, though the same shard answers Bob: its answer
    // would come first.
    send_together(&mut ann, [json!({"event": "unsubscribe", "id": "b", "data": {"room": "x"}})])
        .await;
    for n in 0..3 {
        let room = format!("game:{n}");
        send_together(&mut bob, [json!({"event": "subscribe", "data": {"room": room}})]).await;
        assert_eq!(bob.next().await["event"], "subscribed");
    }
    heard.may.add_permits(1);
    assert_eq!(ann.next().await, json!({"event": "accepted", "id": "a", "data": {}}));
    assert_eq!(ann.next().await["id"], "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_answered_each_with_its_code() {
    let mut heard = start(1000).await;
    let (mut bob, _) = heard.server.connect("bob", "user").await;
    for (frame, code, message) in [
        (json!({"event": "nonsense", "id": 1}), "bad_frame", "unknown event"),
        (json!({"event": "odd", "id": 1}), "bad_frame", "`data` is odd"),
        (json!({"event": "in", "id": 1}), "bad_room", "`room` is missing"),
        (json!({"event": "say", "id": 1, "room": ""}), "bad_room", ""),
        (json!({"event": "mine", "id": 1, "room": "a"}), "forbidden", "not allowed"),
        (json!({"event": "fast", "id": 1}), "rate_limited", ""),
    ] {
        send_together(&mut bob, [frame.clone()]).await;
        let error = bob.next().await;
        assert_eq!((&error["event"], &error["id"]), (&json!("error"), &json!(1)), "{frame}");
        assert_eq!(error["data"]["code"], code, "{frame}");
        assert!(error["data"]["message"].as_str().unwrap().contains(message), "{error}");
    }
    // What is refused keeps nothing else from being taken.
    send_together(&mut bob, [say(1), json!({"event": "fast"}), say(2)]).await;
    assert_eq!(bob.next().await["data"]["code"], "rate_limited");
    let mut taken = heard.batch().await;
    if taken.len() < 2 {
        taken.extend(heard.batch().await);
    }
    assert_eq!(taken, ["1", "2"]);
    let nonsense = json!({"event": "nonsense"});
    send_together(&mut bob, [nonsense.clone(), nonsense.clone(), nonsense]).await;
    assert_eq!(bob.closed().await.0, 4502);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_closes_the_connection() {
    let mut heard = start(1).await;
    let (mut ann, _) = heard.server.connect("ann", "user").await;
    send_together(&mut ann, [json!({"event": "bye", "id": 1})]).await;
    assert_eq!(heard.batch().await, ["null"]);
    assert_eq!(ann.closed().await.0, 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_waits_for_what_was_said_before_it() {
    let mut heard = start(0).await;
    let (mut ann, _) = heard.server.connect("ann", "user").await;
    ann.0
        .feed(Message::text(json!({"event": "say", "id": 1, "data": 1}).to_string()))
        .await
        .unwrap();
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    ann.0.send(Message::Close(Some(close))).await.unwrap();
    assert_eq!(heard.batch().await, ["1"]);
    heard.server.connections(1).await;
    heard.may.add_permits(1);
    assert_eq!(ann.next().await["event"], "accepted");
    assert_eq!(ann.closed().await.0, 1000);
    heard.server.connections(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_meanwhile_is_let_go() {
    let mut heard = start(0).await;
    let (mut ann, _) = heard.server.connect("ann", "user").await;
    send_together(&mut ann, [say(1)]).await;
    assert_eq!(heard.batch().await, ["1"]);
    within("the drain", heard.server.hub.drain(Duration::ZERO, Duration::from_millis(1))).await;
    heard.server.connections(0).await;
    assert_eq!(heard.may.available_permits(), 0);
}

/// Lets anybody watch; who wants more brings a token.
struct Watchers(Hs256);

impl Authenticator for Watchers {
    fn authenticate<'a>(
        &'a self,
        credential: Credential<'a>,
    ) -> BoxFuture<'a, Result<Identity, AuthError>> {
        self.0.authenticate(credential)
    }

    fn anonymous(&self, query: &Query) -> Option<Identity> {
        let asks = query.ticket.is_none() && !query.rooms.is_empty();
        asks.then(|| Identity::new("watcher", ["watcher"]))
    }
}

/// Refuses everybody who brings a credential.
struct Nobody;

impl Authenticator for Nobody {
    fn authenticate<'a>(&'a self, _: Credential<'a>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        ready(Err(AuthError::Invalid("nobody"))).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_presents_nothing_may_be_let_in() {
    let access = Access::new([
        RoleAccess::new("user").joins("user:{subject}"),
        RoleAccess::new("watcher").may_join("game:*"),
    ]);
    let hub = Hub::builder(access.unwrap()).readiness(Sockets::new).build().unwrap();
    // Also behind an `Arc`, as authenticators that others share are.
    let watchers = Arc::new(Watchers(Hs256::new(common::SECRET).unwrap()));
    let server = listen(hub.clone(), Ws::new(&hub, watchers)).await;
    let mut watcher = server.open("/ws?room=game:1", &[]).await;
    let welcome = watcher.next().await;
    assert_eq!(welcome["data"]["subject"], "watcher");
    assert_eq!(welcome["data"]["rooms"], json!(["game:1"]));
    let moved = Emission::new(Room::new("game:1").unwrap(), "move", fanout::Json::of(&1).unwrap());
    hub.publish(vec![moved]).await.unwrap();
    assert_eq!(watcher.next().await["event"], "move");
    // A token is not overlooked, good or bad.
    let bearer = format!("Bearer {}", token("ann", "user", 3600));
    let mut ann = server.open("/ws?room=game:1", &[("authorization", &bearer)]).await;
    assert_eq!(ann.next().await["data"]["subject"], "ann");
    let mut forged = server.open("/ws?room=game:1", &[("authorization", "Bearer x")]).await;
    assert_eq!(forged.closed().await.0, 4500);
    // Whom the authenticator does not know so has to say who he is.
    let mut late = server.open("/ws", &[]).await;
    let auth = json!({"event": "auth", "data": {"token": token("ann", "user", 3600)}});
    late.send(auth.to_string()).await;
    assert_eq!(late.next().await["data"]["subject"], "ann");
    // Nobody is anonymous by default.
    let nobody = listen(hub.clone(), Ws::new(&hub, Nobody)).await;
    let mut client = nobody.open("/ws", &[]).await;
    client.send(auth.to_string()).await;
    assert_eq!(client.closed().await.0, 4500);
}
