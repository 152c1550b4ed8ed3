//! An order reaches the right clients: REST, SQLite, Kafka, hub and WebSocket, whole.
//!
//! The broker is the embedded one. Where `FANOUT_TEST_KAFKA` names a real one, the same
//! story is told through it as well, with `FANOUT_TEST_KAFKA_CONTROL` to restart it in
//! the middle.

#![allow(missing_docs, reason = "a test")]

#[allow(dead_code, reason = "each test uses a part of it")]
mod support;

use std::time::{Duration, SystemTime};

use fanout::Identity;
use order_server::server::Running;
use serde_json::{Map, Value, json};
use support::socket::Socket;
use support::{Client, start, until};
use ws_sink::auth::Hs256;

async fn ready(server: &Running) {
    let nobody = Client::nobody(server);
    until("ready", async || (nobody.get("/readyz").await.status == 200).then_some(())).await;
}

/// Somebody with a token and an open socket.
struct Person {
    http: Client,
    socket: Socket,
}

impl Person {
    async fn come(server: &Running, email: &str) -> Self {
        let http = Client::login(server, email).await;
        let (socket, welcome) = Socket::welcome(&http).await;
        assert_eq!(welcome["subject"], email);
        Self { http, socket }
    }

    async fn set(&self, order: &str, status: &str) {
        let path = format!("/api/orders/{order}/status");
        let answer = self.http.patch(&path, &json!({"status": status})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    async fn cancel(&self, order: &str) {
        let answer = self.http.post(&format!("/api/orders/{order}/cancel"), &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

fn id(order: &Value) -> String {
    order["orderId"].as_str().unwrap().to_owned()
}

/// Places, moves and cancels orders; everybody sees what is theirs, in order, once.
async fn story(server: &Running, between: impl AsyncFnOnce()) {
    ready(server).await;
    let mut admin = Person::come(server, "admin@x").await;
    let mut ann = Person::come(server, "ann@x").await;
    let mut bob = Person::come(server, "bob@x").await;

    let order = ann.http.order().await;
    let first = id(&order);
    let created = ann.socket.expect("order:created").await;
    assert_eq!((&created["orderId"], &created["total"]), (&order["orderId"], &json!(39.98)));
    assert_eq!(ann.socket.expect("notification").await["orderId"], order["orderId"]);
    let told = admin.socket.expect("admin:order:created").await;
    assert_eq!((&told["orderId"], &told["buyerId"]), (&order["orderId"], &json!("ann@x")));

    for (version, status) in [(2, "paid"), (3, "processing")] {
        admin.set(&first, status).await;
        updated(&mut ann, &mut admin, status, version).await;
    }
    between().await;
    for (version, status) in [(4, "shipped"), (5, "delivered")] {
        admin.set(&first, status).await;
        updated(&mut ann, &mut admin, status, version).await;
    }

    let second = id(&ann.http.order().await);
    ann.socket.expect("order:created").await;
    ann.socket.expect("notification").await;
    admin.socket.expect("admin:order:created").await;
    ann.cancel(&second).await;
    assert_eq!(ann.socket.expect("order:cancelled").await["orderId"], json!(second));
    assert_eq!(ann.socket.expect("notification").await["priority"], "high");
    let told = admin.socket.expect("admin:order:cancelled").await;
    assert_eq!((&told["orderId"], &told["buyerId"]), (&json!(second), &json!("ann@x")));

    // What is not for Bob would stand before what is.
    let own = id(&bob.http.order().await);
    assert_eq!(bob.socket.expect("order:created").await["orderId"], json!(own));
}

async fn updated(buyer: &mut Person, admin: &mut Person, status: &str, version: u32) {
    for data in [
        buyer.socket.expect("order:updated").await,
        admin.socket.expect("admin:order:updated").await,
    ] {
        assert_eq!((&data["status"], &data["version"]), (&json!(status), &json!(version)));
        assert_eq!((&data["buyerId"], &data["total"]), (&json!("ann@x"), &json!(39.98)));
    }
    if matches!(status, "shipped" | "delivered") {
        assert_eq!(buyer.socket.expect("notification").await["status"], status);
    }
}

#[tokio::test]
async fn an_order_reaches_its_buyer_and_the_admins() {
    let server = start(&[]).await;
    story(&server, async || {}).await;
    server.stop().await;
}

#[tokio::test]
async fn it_does_so_through_a_real_broker_that_restarts() {
    let Ok(brokers) = std::env::var("FANOUT_TEST_KAFKA") else {
        assert!(std::env::var_os("CI").is_none(), "in CI there is a broker");
        eprintln!("skipped: FANOUT_TEST_KAFKA names no broker");
        return;
    };
    let server = start(&["--kafka", &brokers]).await;
    story(&server, async || {
        let control = std::env::var("FANOUT_TEST_KAFKA_CONTROL").expect("it is set beside");
        let (program, folder) = control.rsplit_once(' ').expect("program and folder");
        let restart = tokio::process::Command::new(program).args(["restart", folder]).status();
        assert!(restart.await.unwrap().success());
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn nobody_gets_into_a_room_that_is_not_theirs() {
    let server = start(&[]).await;
    ready(&server).await;
    let mut ann = Person::come(&server, "ann@x").await;
    for room in ["admin:dashboard", "user:bob@x", "orders:bob@x", "orders:*"] {
        let answer = ann.socket.subscribe(room).await;
        assert_eq!(answer["event"], "error", "{answer}");
    }
    for room in ["orders:ann@x", "inventory:updates"] {
        assert_eq!(ann.socket.subscribe(room).await["event"], "subscribed");
    }
    // In both of her rooms, she gets it once.
    ann.http.order().await;
    ann.socket.expect("order:created").await;
    ann.socket.expect("notification").await;
    ann.http.order().await;
    ann.socket.expect("order:created").await;
    drop(ann);
    server.stop().await;
}

#[tokio::test]
async fn garbage_is_answered_and_then_ends_it() {
    let server = start(&[]).await;
    ready(&server).await;
    let mut ann = Person::come(&server, "ann@x").await;
    for garbage in ["{", r#"{"event":"dance"}"#] {
        ann.socket.send(garbage).await;
        assert_eq!(ann.socket.expect("error").await["code"], "bad_frame");
    }
    assert_eq!(ann.socket.subscribe("inventory:updates").await["event"], "subscribed");
    for _ in 0..3 {
        ann.socket.send("[]").await;
    }
    for _ in 0..2 {
        assert_eq!(ann.socket.expect("error").await["code"], "bad_frame");
    }
    // Whether the third is answered before the end is no promise.
    assert_eq!(ann.socket.closed_at_last().await, 4502);
    drop(ann);
    server.stop().await;
}

#[tokio::test]
async fn only_good_tokens_and_unused_tickets_get_in() {
    let secret = b"0123456789abcdef0123456789abcdef";
    let server =
        start(&["--secret", std::str::from_utf8(secret).unwrap(), "--auth", "secret"]).await;
    ready(&server).await;
    let nobody = Client::nobody(&server);
    let token = |secret: &[u8], end: SystemTime, role: &str| {
        let ann = Identity::new("ann", [role]).with_expiry(Some(end));
        Hs256::new(secret).unwrap().sign(&ann, &Map::new()).unwrap()
    };
    let later = SystemTime::now() + Duration::from_secs(3600);
    let ago = SystemTime::now() - Duration::from_secs(3600);
    for (token, code) in [
        (token(&[1; 32], later, "admin"), 4500),
        (token(secret, ago, "user"), 4002),
        (token(secret, later, "guest"), 4501),
    ] {
        let mut socket = Socket::open(&nobody.bearer(&token), "/ws").await;
        assert_eq!(socket.closed().await, code);
    }
    let ann = nobody.bearer(&token(secret, later, "user"));
    Socket::welcome(&ann).await;

    let ticket = ann.send("POST", "/api/ticket", "").await.json();
    let path = format!("/ws?ticket={}", ticket["ticket"].as_str().unwrap());
    let mut by_ticket = Socket::open(&nobody, &path).await;
    assert_eq!(by_ticket.expect("welcome").await["subject"], "ann");
    assert_eq!(Socket::open(&nobody, &path).await.closed().await, 4500);
    drop(by_ticket);
    server.stop().await;
}

#[tokio::test]
async fn a_stopped_server_tells_its_clients_to_come_back() {
    let server = start(&[]).await;
    ready(&server).await;
    let mut ann = Person::come(&server, "ann@x").await;
    let stopping = tokio::spawn(server.stop());
    assert_eq!(ann.socket.closed().await, 4000);
    drop(ann);
    tokio::time::timeout(support::DEADLINE, stopping).await.expect("stopped in time").unwrap();
}
