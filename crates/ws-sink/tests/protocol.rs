//! The native protocol, to the letter, over real sockets.

mod common;

use std::time::Duration;

use common::{SECRET, access, serve, start, token, within};
use fanout::{Emission, Event, Identity, Json, Limits, MemorySource, Pipeline, Room, RouteError};
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use ws_sink::WsConfig;
use ws_sink::auth::{AuthError, Authenticator, Credential};

fn to(room: &str, event: &'static str, body: &Value) -> Emission {
    Emission::new(Room::new(room).unwrap(), event, Json::of(body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn welcome_says_who_and_where() {
    let server = start().await;
    let (_client, welcome) = server.connect("ann b", "user").await;
    let data = &welcome["data"];
    assert!(data["connection"].as_str().is_some_and(|id| !id.is_empty()));
    let expected = json!({
        "connection": data["connection"], "subject": "ann b", "roles": ["user"],
        "rooms": ["user:ann%20b"], "cursor": server.hub.cursor().as_str(), "recovered": null,
        "heartbeatMs": 25_000,
    });
    assert_eq!(data, &expected);
    assert!(welcome.get("id").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn emissions_carry_room_position_and_data() {
    let server = start().await;
    let (mut ann, _) = server.connect("ann", "user").await;
    let (topic, source) = MemorySource::new("orders");
    let router = |event: &Event, out: &mut Vec<Emission>| -> Result<(), RouteError> {
        out.push(Emission::new(Room::new("user:ann")?, "order:\"created\"", event.json()?));
        let both = Emission::new(Room::new("user:ann")?, "both", event.json()?);
        out.push(both.and_to(Room::new("admin:dashboard")?));
        Ok(())
    };
    tokio::spawn(Pipeline::new(source, router, server.hub.clone()).run());
    topic.send(&json!({"total": 7.5})).await.unwrap();
    let (first, second) = (ann.next().await, ann.next().await);
    let at = |frame: &Value| frame["at"].as_str().unwrap().to_owned();
    let parts = |at: &str| at.split_once('.').map(|(lane, place)| (lane.len(), place.len()));
    assert_eq!(parts(&at(&first)), Some((7, 22)));
    assert_eq!(at(&first)[..8], at(&second)[..8], "one lane");
    assert_ne!(at(&first), at(&second));
    let data = json!({"total": 7.5});
    let expected =
        json!({"event": "order:\"created\"", "room": "user:ann", "at": at(&first), "data": data});
    assert_eq!(first, expected);
    // Several rooms: none is named.
    assert_eq!(second, json!({"event": "both", "at": at(&second), "data": data}));

    let (_, welcome) = server.connect("bob", "user").await;
    assert_eq!(welcome["data"]["cursor"], server.hub.cursor().as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_gets_what_was_missed_then_goes_on() {
    let server = start().await;
    let (topic, source) = MemorySource::new("orders");
    let router = |event: &Event, out: &mut Vec<Emission>| -> Result<(), RouteError> {
        out.push(Emission::new(Room::new("user:ann")?, "one", event.json()?));
        out.push(Emission::new(Room::new("game:1")?, "two", event.json()?));
        Ok(())
    };
    tokio::spawn(Pipeline::new(source, router, server.hub.clone()).run());
    let bearer = format!("Bearer {}", token("ann", "user", 3600));
    let headers = [("authorization", bearer.as_str())];
    let mut client = server.open("/ws?room=game:1", &headers).await;
    let welcome = client.next().await;
    topic.send(&1).await.unwrap();
    let first = client.next().await;
    assert_eq!((&first["event"], &first["data"]), (&json!("one"), &json!(1)));
    drop(client);

    topic.send(&2).await.unwrap();
    let cursor = format!(
        "{},{}",
        welcome["data"]["cursor"].as_str().unwrap(),
        first["at"].as_str().unwrap()
    );
    let path = format!("/ws?cursor={cursor}&room=game:1");
    let mut client = server.open(&path, &headers).await;
    let back = client.next().await;
    assert_eq!(back["data"]["recovered"], true);
    // It goes on between the two emissions of the first event.
    for expected in [("two", 1), ("one", 2), ("two", 2)] {
        let frame = client.next().await;
        assert_eq!((&frame["event"], &frame["data"]), (&json!(expected.0), &json!(expected.1)));
    }
    topic.send(&3).await.unwrap();
    assert_eq!(client.next().await["data"], 3);

    // What was sent back comes again in the welcome: it is what the client has.
    let again = back["data"]["cursor"].as_str().unwrap();
    let mut client = server.open(&format!("/ws?cursor={again}"), &headers).await;
    assert_eq!(client.next().await["data"]["recovered"], true);
    assert_eq!(client.next().await["data"], 2, "without the other room");
    assert_eq!(client.next().await["data"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_asked_for_and_left() {
    let server = start().await;
    let (mut ann, _) = server.connect("ann", "user").await;
    ann.send(r#"{"event":"subscribe","id":7,"data":{"room":"game:1"}}"#).await;
    let subscribed = json!({"event": "subscribed", "id": 7, "data": {"room": "game:1"}});
    assert_eq!(ann.next().await, subscribed);
    ann.send(r#"{"event":"subscribe","id":"again","data":{"room":"game:1"}}"#).await;
    assert_eq!(ann.next().await["id"], "again");
    server.hub.publish(vec![to("game:1", "move", &json!(1))]).await.unwrap();
    assert_eq!(ann.next().await, json!({"event": "move", "room": "game:1", "data": 1}));
    ann.send(r#"{"event":"unsubscribe","id":8,"data":{"room":"game:1"}}"#).await;
    let unsubscribed = json!({"event": "unsubscribed", "id": 8, "data": {"room": "game:1"}});
    assert_eq!(ann.next().await, unsubscribed);
    server.hub.publish(vec![to("game:1", "move", &json!(2))]).await.unwrap();
    ann.send(r#"{"event":"unsubscribe","id":9,"data":{"room":"game:1"}}"#).await;
    assert_eq!(ann.next().await["id"], 9, "leaving twice is no error, and nothing came between");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_request_gets_its_error_and_the_connection_lives() {
    let server = start().await;
    let (mut ann, _) = server.connect("ann", "user").await;
    for (request, code, room) in [
        (r#"{"event":"subscribe","id":1,"data":{"room":"admin:dashboard"}}"#, "forbidden", true),
        (r#"{"event":"subscribe","id":1,"data":{"room":"user:bob"}}"#, "forbidden", true),
        (r#"{"event":"subscribe","id":1,"data":{"room":"no such thing"}}"#, "bad_room", false),
        (r#"{"event":"subscribe","id":1}"#, "bad_room", false),
        (r#"{"event":"unsubscribe","id":1,"data":{"room":"user:ann"}}"#, "bad_room", true),
        (r#"{"event":"auth","id":1,"data":{"token":"forged"}}"#, "bad_token", false),
        (r#"{"event":"auth","id":1,"data":{}}"#, "bad_token", false),
        (r#"{"event":"publish","id":1}"#, "bad_frame", false),
    ] {
        ann.send(request).await;
        let error = ann.next().await;
        assert_eq!((&error["event"], &error["id"]), (&json!("error"), &json!(1)), "{request}");
        assert_eq!(error["data"]["code"], code, "{request}");
        assert_eq!(error["data"].get("room").is_some(), room, "{request}");
        assert!(error["data"]["message"].as_str().is_some_and(|m| !m.is_empty()));
    }
    for n in 0..63 {
        ann.send(format!(r#"{{"event":"subscribe","data":{{"room":"game:{n}"}}}}"#)).await;
        assert_eq!(ann.next().await["event"], "subscribed");
    }
    ann.send(r#"{"event":"subscribe","data":{"room":"game:63"}}"#).await;
    assert_eq!(ann.next().await["data"]["code"], "too_many_rooms");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_bad_frame_in_a_row_closes() {
    let server = start().await;
    let (mut ann, _) = server.connect("ann", "user").await;
    for text in ["rubbish", "[]"] {
        ann.send(text).await;
        assert_eq!(ann.next().await["data"]["code"], "bad_frame");
    }
    ann.send(r#"{"event":"subscribe","data":{"room":"game:1"}}"#).await;
    assert_eq!(ann.next().await["event"], "subscribed", "a good one in between forgives");
    for text in ["rubbish", "7", "{"] {
        ann.send(text).await;
    }
    assert_eq!(ann.closed().await, (4502, json!({"name": "protocol"})));
    server.connections(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_taken_from_each_place() {
    let server = start().await;
    let good = token("ann", "user", 3600);
    let protocols = format!("fanout.v1, bearer.{good}");
    let (bearer, cookie) = (format!("Bearer {good}"), format!("a=b; token={good}"));
    for header in [
        ("authorization", bearer.as_str()),
        ("sec-websocket-protocol", &protocols),
        ("cookie", &cookie),
    ] {
        let mut client = server.open("/ws", &[header]).await;
        assert_eq!(client.next().await["data"]["subject"], "ann", "{}", header.0);
    }
    // A first frame may bring it, with rooms; its id comes back in the welcome.
    let mut client = server.open("/ws", &[]).await;
    let auth = json!({"event": "auth", "id": 3, "data": {"token": good, "rooms": ["game:1"]}});
    client.send(auth.to_string()).await;
    client.send(r#"{"event":"subscribe","id":4,"data":{"room":"game:2"}}"#).await;
    let welcome = client.next().await;
    assert_eq!((&welcome["event"], &welcome["id"]), (&json!("welcome"), &json!(3)));
    assert_eq!(welcome["data"]["rooms"], json!(["user:ann", "game:1"]));
    assert_eq!(client.next().await["id"], 4, "what came right behind it is not lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_verified_is_closed_with_a_code() {
    let server = start().await;
    let none = jwt_like(r#"{"alg":"none","typ":"JWT"}"#);
    for (token, code) in [
        (token("ann", "user", -3600), 4002),
        (token("ann", "stranger", 3600), 4501),
        (format!("{}x", token("ann", "user", 3600)), 4500),
        (none, 4500),
        ("rubbish".to_owned(), 4500),
    ] {
        let bearer = format!("Bearer {token}");
        let mut client = server.open("/ws", &[("authorization", &bearer)]).await;
        assert_eq!(client.closed().await.0, code, "{token}");
    }
    // Saying so in the query makes nobody anybody.
    let mut client = server.open("/ws?role=admin&userId=ann&token=x", &[]).await;
    client.send(r#"{"event":"subscribe","data":{"room":"admin:dashboard"}}"#).await;
    assert_eq!(client.closed().await.0, 4500);
    server.connections(0).await;
}

fn jwt_like(header: &str) -> String {
    let other = token("ann", "admin", 3600);
    let claims = other.split('.').nth(1).unwrap();
    let encode = |text: &str| {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits: Vec<u8> =
            text.bytes().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)).collect();
        bits.chunks(6)
            .map(|six| {
                let value = (0..6).fold(0, |v, i| v << 1 | six.get(i).copied().unwrap_or(0));
                char::from(ALPHABET[usize::from(value)])
            })
            .collect::<String>()
    };
    format!("{}.{claims}.", encode(header))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_never_says_who_he_is_is_closed_in_time() {
    let mut config = WsConfig::default();
    config.auth_timeout = Duration::from_millis(200);
    let server = serve(access(), Limits::default(), config, true).await;
    let mut client = server.open("/ws", &[]).await;
    assert_eq!(client.closed().await.0, 4500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_on_a_live_connection() {
    let server = start().await;
    let (mut ann, _) = server.connect("ann", "admin").await;
    ann.send(r#"{"event":"subscribe","data":{"room":"game:1"}}"#).await;
    assert_eq!(ann.next().await["event"], "subscribed");

    let auth = |subject, role| {
        json!({"event": "auth", "id": 9, "data": {"token": token(subject, role, 3600)}}).to_string()
    };
    ann.send(auth("bob", "user")).await;
    let error = ann.next().await;
    assert_eq!((&error["data"]["code"], &error["id"]), (&json!("bad_token"), &json!(9)));

    ann.send(auth("ann", "user")).await;
    let left = json!({"event": "unsubscribed", "data": {"room": "admin:dashboard"}});
    assert_eq!(ann.next().await, left);
    let renewed = ann.next().await;
    assert_eq!((&renewed["event"], &renewed["id"]), (&json!("authenticated"), &json!(9)));
    assert_eq!(renewed["data"]["roles"], json!(["user"]));
    assert_eq!(renewed["data"]["rooms"], json!(["user:ann", "game:1"]));
    assert!(renewed["data"]["expiresAt"].as_str().unwrap().ends_with('Z'));
    server.hub.publish(vec![to("admin:dashboard", "secret", &json!(1))]).await.unwrap();
    server.hub.publish(vec![to("user:ann", "mine", &json!(2))]).await.unwrap();
    assert_eq!(ann.next().await["event"], "mine");
}

/// Vouches for everybody, for a second time only when it is told to go on.
struct Slow {
    asked: std::sync::atomic::AtomicUsize,
    go_on: std::sync::Arc<tokio::sync::Notify>,
}

impl Authenticator for Slow {
    fn authenticate<'a>(&'a self, _: Credential<'a>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        Box::pin(async {
            if self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0 {
                self.go_on.notified().await;
            }
            Ok(Identity::new("ann", ["user"]))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_takes_time_to_be_checked_holds_up_its_own_requests_alone() {
    let hub = fanout::Hub::builder(access()).readiness(ws_sink::Sockets::new).build().unwrap();
    let go_on = std::sync::Arc::new(tokio::sync::Notify::new());
    let ws = ws_sink::Ws::new(&hub, Slow { asked: 0.into(), go_on: go_on.clone() });
    let server = common::listen(hub, ws).await;
    let (mut ann, _) = server.connect("ann", "user").await;
    ann.send(r#"{"event":"auth","id":1,"data":{"token":"x"}}"#).await;
    for id in 2..200 {
        ann.send(format!(r#"{{"event":"subscribe","id":{id},"data":{{"room":"game:1"}}}}"#)).await;
    }
    // Events come all the same.
    for n in 0..10 {
        server.hub.publish(vec![to("user:ann", "n", &json!(n))]).await.unwrap();
        assert_eq!(ann.next().await["data"], n);
    }
    go_on.notify_one();
    assert_eq!(ann.next().await["event"], "authenticated");
    for id in 2..200 {
        assert_eq!(ann.next().await["id"], id, "what was sent meanwhile is answered in order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_closes_its_connection() {
    let server = start().await;
    let bearer = format!("Bearer {}", token("ann", "user", 2));
    let mut client = server.open("/ws", &[("authorization", &bearer)]).await;
    assert_eq!(client.next().await["event"], "welcome");
    assert_eq!(client.closed().await, (4002, json!({"name": "token_expired"})));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_none_is_a_gap() {
    let server = start().await;
    let bearer = format!("Bearer {}", token("ann", "user", 3600));
    let headers = [("authorization", bearer.as_str())];
    let path = "/ws?cursor=0abcdef.7-0&room=game:1&room=admin:dashboard";
    let mut client = server.open(path, &headers).await;
    let welcome = client.next().await;
    assert_eq!(welcome["data"]["recovered"], false);
    assert_eq!(welcome["data"]["rooms"], json!(["user:ann", "game:1"]));
    let error = client.next().await;
    assert_eq!(error["data"]["code"], "forbidden");
    assert_eq!(error["data"]["room"], "admin:dashboard");
    let gap = json!({"event": "gap", "data": {"reason": "reset", "rooms": ["user:ann", "game:1"]}});
    assert_eq!(client.next().await, gap);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_carry_the_cursor_and_silence_closes() {
    let mut limits = Limits::default();
    limits.heartbeat = Duration::from_millis(300);
    let server = serve(access(), limits, WsConfig::default(), true).await;
    let (mut ann, _) = server.connect("ann", "user").await;
    // Reading answers the pings: it stays for longer than two intervals.
    let cursor = server.hub.cursor().to_string();
    for _ in 0..5 {
        assert_eq!(ann.next().await, json!({"event": "heartbeat", "data": {"cursor": cursor}}));
    }
    // Not reading answers none.
    server.connections(0).await;
    assert_eq!(ann.closed().await.0, 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_tells_when_to_come_back() {
    let server = start().await;
    let (mut ann, _) = server.connect("ann", "user").await;
    let hub = server.hub.clone();
    let drain = tokio::spawn(async move {
        hub.drain(Duration::from_secs(4), Duration::from_secs(10)).await;
    });
    assert_eq!(ann.closed().await, (4000, json!({"name": "draining", "withinMs": 4000})));
    within("the drain", drain).await.unwrap();
    let bearer = format!("Bearer {}", token("ann", "user", 3600));
    let mut late = server.open("/ws", &[("authorization", &bearer)]).await;
    assert_eq!(late.closed().await.0, 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_wire_protocol_is_closed_by_rfc_6455() {
    let server = start().await;
    let (mut binary, _) = server.connect("ann", "user").await;
    within("sending", binary.0.send(Message::binary(vec![1, 2]))).await.unwrap();
    assert_eq!(binary.closed().await.0, 1003);
    let (mut large, _) = server.connect("ann", "user").await;
    within("sending", large.0.send(Message::text("x".repeat(70_000)))).await.unwrap();
    assert_eq!(large.closed().await.0, 1009);
    // A close of the client's is answered with its code.
    let (mut polite, _) = server.connect("ann", "user").await;
    let close = tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: 4321.into(),
        reason: "bye".into(),
    };
    within("closing", polite.0.close(Some(close))).await.unwrap();
    assert_eq!(polite.closed().await.0, 4321);
    server.connections(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_that_no_honest_client_makes_are_refused() {
    let server = start().await;
    let bearer = format!("Bearer {}", token("ann", "user", 3600));
    let auth = ("authorization", bearer.as_str());
    assert_eq!(server.refused("/ws", &[auth, ("origin", "https://evil.example")]).await, 403);
    assert_eq!(server.refused("/ws?room=a%20b", &[auth]).await, 400);
    assert_eq!(server.refused("/ws", &[auth, ("sec-websocket-version", "8")]).await, 426);
    let own = format!("http://{}", server.addr);
    let mut same = server.open("/ws", &[auth, ("origin", &own)]).await;
    assert_eq!(same.next().await["event"], "welcome");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_before_the_source_is_ready() {
    let config = WsConfig::default();
    let hub = fanout::Hub::builder(access()).readiness(ws_sink::Sockets::new).build().unwrap();
    let ready = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tokens = ws_sink::auth::Hs256::new(SECRET).unwrap();
    let gate = ready.clone();
    let ws = ws_sink::Ws::gated(&hub, tokens, config, move || {
        gate.load(std::sync::atomic::Ordering::SeqCst)
    });
    let server = common::listen(hub, ws).await;
    assert_eq!(server.refused("/ws", &[]).await, 503);
    ready.store(true, std::sync::atomic::Ordering::SeqCst);
    server.connect("ann", "user").await;
}

/// A client that pings and never reads made other servers queue without end.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_pings_costs_its_sender_alone() {
    let server = start().await;
    let (flood, _) = server.connect("ann", "user").await;
    let (mut other, _) = server.connect("bob", "user").await;
    let (mut sink, _unread) = flood.0.split();
    let flooding = tokio::spawn(async move {
        // Until the server no longer reads and every buffer between is full.
        while sink.send(Message::Ping(vec![0; 100].into())).await.is_ok() {}
    });
    for n in 0..200 {
        server.hub.publish(vec![to("user:bob", "n", &json!(n))]).await.unwrap();
        assert_eq!(other.next().await["data"], n);
    }
    flooding.abort();
}
