//! The broadcast example, over real WebSockets.

#[allow(dead_code)] // Its `main`.
#[path = "../broadcast.rs"]
mod broadcast;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(Duration::from_secs(20), future).await;
    result.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

async fn start() -> SocketAddr {
    let args = broadcast::Args::parse_from(["broadcast", "--port", "0", "--shards", "2"]);
    let (listener, app) = broadcast::server(&args).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    addr
}

impl Client {
    /// Connects, and takes the welcome: from then on it is in its rooms.
    async fn connect(addr: SocketAddr, query: &str) -> (Self, Value) {
        let url = format!("ws://{addr}/ws{query}");
        let connected = within("the handshake", tokio_tungstenite::connect_async(url)).await;
        let mut client = Self(connected.unwrap().0);
        let welcome = client.next().await;
        assert_eq!(welcome["event"], "welcome");
        (client, welcome)
    }

    async fn next(&mut self) -> Value {
        match within("a frame", self.0.next()).await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
            other => panic!("no text frame, but {other:?}"),
        }
    }

    /// Sends all of them in one write.
    async fn send(&mut self, frames: impl IntoIterator<Item = Value>) {
        for frame in frames {
            self.0.feed(Message::text(frame.to_string())).await.unwrap();
        }
        within("sending", self.0.flush()).await.unwrap();
    }
}

fn message(room: &str, data: &Value) -> Value {
    json!({"event": "message", "room": room, "data": data})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_publishes_all_hear_in_order() {
    let addr = start().await;
    let (mut ann, welcome) = Client::connect(addr, "").await;
    assert_eq!(welcome["data"]["rooms"], json!(["all"]));
    let (mut bob, _) = Client::connect(addr, "").await;
    ann.send((0..500).map(|n| json!({"event": "publish", "data": {"n": n}}))).await;
    for n in 0..500 {
        let expected = message("all", &json!({"n": n}));
        assert_eq!((ann.next().await, bob.next().await), (expected.clone(), expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_asked_for_is_the_only_one() {
    let addr = start().await;
    let (mut all, _) = Client::connect(addr, "").await;
    let (mut seven, welcome) = Client::connect(addr, "?room=r:7").await;
    assert_eq!(welcome["data"]["rooms"], json!(["r:7"]));
    let (mut eight, _) = Client::connect(addr, "?room=r:8").await;
    // From whoever is in it or not; the room of all comes last, so that whatever else
    // anybody got would stand before it.
    all.send([
        json!({"event": "publish", "room": "r:7", "data": 7}),
        json!({"event": "publish", "room": "r:8", "data": 8}),
        json!({"event": "publish", "data": "all"}),
        json!({"event": "publish", "room": "r:7", "data": "end"}),
        json!({"event": "publish", "room": "r:8", "data": "end"}),
    ])
    .await;
    assert_eq!(all.next().await, message("all", &json!("all")));
    for (client, room, n) in [(&mut seven, "r:7", 7), (&mut eight, "r:8", 8)] {
        assert_eq!(client.next().await, message(room, &json!(n)));
        assert_eq!(client.next().await, message(room, &json!("end")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_answered_and_the_rest_goes_on() {
    let addr = start().await;
    let (mut ann, _) = Client::connect(addr, "").await;
    for (frame, code) in [
        (json!({"event": "shout", "id": 1, "data": 1}), "bad_frame"),
        (json!({"event": "publish", "id": 1, "room": "no such name"}), "bad_room"),
        (json!({"event": "publish", "id": 1, "room": 7}), "bad_room"),
        (json!({"event": "auth", "id": 1, "data": {"token": "x"}}), "bad_token"),
        (json!({"event": "subscribe", "id": 1, "data": {"room": "r:7"}}), "forbidden"),
    ] {
        ann.send([frame.clone()]).await;
        let error = ann.next().await;
        assert_eq!((&error["event"], &error["id"]), (&json!("error"), &json!(1)), "{frame}");
        assert_eq!(error["data"]["code"], code, "{frame}");
    }
    ann.send([json!({"event": "publish", "id": 2, "data": "x"})]).await;
    // An answer and what it is about come in either order.
    let got = [ann.next().await, ann.next().await];
    assert!(got.contains(&message("all", &json!("x"))), "{got:?}");
    assert!(got.contains(&json!({"event": "accepted", "id": 2, "data": {}})), "{got:?}");
}
