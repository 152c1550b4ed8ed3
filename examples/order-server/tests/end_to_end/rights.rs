//! What nobody gets by asking for it, or by saying who they are.

use std::time::{Duration, SystemTime};

use fanout::Identity;
use order_server::server::Running;
use serde_json::{Map, Value, json};
use ws_sink::auth::Hs256;

use crate::kafka::Kafka;
use crate::person::{Cast, Person, id};
use crate::support::socket::Socket;
use crate::support::{Client, apples};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn nobody_gets_into_a_room_that_is_not_theirs() {
    let server = Kafka::Embedded.server(&[]).await;
    let cast = Cast::new();
    let mut ann = cast.comes(&server, "ann").await;
    let mut bob = cast.comes(&server, "bob").await;
    let mut admin = cast.comes(&server, "admin").await;

    let of_bob = |kind: &str| format!("{kind}:{}", bob.email);
    for (room, code) in [
        ("admin:dashboard", "forbidden"),
        ("admin:other", "forbidden"),
        ("inventory:other", "forbidden"),
        (of_bob("user").as_str(), "forbidden"),
        (of_bob("orders").as_str(), "forbidden"),
        (of_bob("admin").as_str(), "forbidden"),
        ("orders:*", "bad_room"),
        ("user:{subject}", "bad_room"),
        ("", "bad_room"),
    ] {
        for person in [&mut ann, &mut admin] {
            let answer = person.socket.subscribe(room).await;
            let own = person.email.starts_with("admin") && room == "admin:dashboard";
            if own {
                assert_eq!(answer["event"], "subscribed", "{answer}");
            } else {
                assert_eq!(answer["event"], "error", "{room}: {answer}");
                assert_eq!(answer["data"]["code"], code, "{room}: {answer}");
            }
        }
    }
    // Not by the path either: it says rooms as a subscription does.
    let path = format!("/ws?room=admin:dashboard&room={}", of_bob("orders"));
    let mut tab = Socket::open(&ann.http, &path).await;
    let rooms = loop {
        let frame = tab.next().await;
        if frame["event"] == "welcome" {
            break frame["data"]["rooms"].clone();
        }
    };
    assert!(!rooms.to_string().contains("admin") && !rooms.to_string().contains("bob"), "{rooms}");

    let own = format!("orders:{}", ann.email);
    for room in [own.as_str(), "inventory:updates"] {
        assert_eq!(ann.socket.subscribe(room).await["event"], "subscribed");
    }
    // Had anything worked, this would come before what is hers.
    bob.marks().await;
    admin.sees("admin:order:created", &json!({"buyerId": bob.email})).await;
    ann.marks().await;
    drop((ann, bob, admin, tab));
    server.stop().await;
}

#[tokio::test]
async fn saying_that_one_is_admin_or_another_gives_nothing() {
    let server = Kafka::Embedded.server(&[]).await;
    let cast = Cast::new();
    let bob = cast.comes(&server, "bob").await;
    let order = bob.http.order().await;

    let name = cast.name("ann");
    let claims = format!("role=admin&userId={}&roles=admin&email=admin@x", bob.email);
    let http = Client::login(&server, &name).await;
    let http = http.with("x-role", "admin").with("x-user-id", &bob.email);
    let mut socket = Socket::open(&http, &format!("/ws?{claims}")).await;
    let welcome = socket.expect("welcome").await;
    assert_eq!((&welcome["subject"], &welcome["roles"]), (&json!(name), &json!(["user"])));

    let path = |path: &str| format!("{path}?{claims}");
    let id = id(&order);
    for (method, call, body, refused) in [
        ("GET", "/api/stats".to_owned(), Value::Null, 403),
        ("GET", format!("/api/orders/{id}"), Value::Null, 404),
        (
            "PATCH",
            format!("/api/orders/{id}/status"),
            json!({"status": "paid", "role": "admin"}),
            403,
        ),
        ("POST", format!("/api/orders/{id}/cancel"), json!({"userId": bob.email}), 404),
    ] {
        let http = http.with("content-type", "application/json");
        let answer = http.send(method, &path(&call), body.to_string()).await;
        assert_eq!(answer.status, refused, "{method} {call}: {}", answer.text());
    }
    // An order is of whom the token says, whatever its body says.
    let mut body = apples();
    body["buyerId"] = json!(bob.email);
    body["userId"] = json!(bob.email);
    body["status"] = json!("delivered");
    let answer = http.post(&path("/api/orders"), &body).await;
    if answer.status == 201 {
        assert_eq!(
            (&answer.json()["buyerId"], &answer.json()["status"]),
            (&json!(name), &json!("pending"))
        );
    } else {
        assert_eq!(answer.error(400).0, "bad_request");
    }
    assert_eq!(http.get(&path("/api/orders")).await.json()["orders"].to_string().find(id), None);
    drop((bob, socket));
    server.stop().await;
}

#[tokio::test]
async fn garbage_is_answered_and_then_ends_it() {
    let server = Kafka::Embedded.server(&[]).await;
    let cast = Cast::new();
    let garbage = [
        "{",
        "",
        "null",
        "[]",
        r#""subscribe""#,
        r#"{"event":7}"#,
        r#"{"event":"dance"}"#,
        r#"{"data":{"room":"inventory:updates"}}"#,
        r#"{"event":"subscribe","event":"subscribe","data":{"room":"inventory:updates"}}"#,
        "{\"event\":\"subscribe\",\"data\":{\"room\":\"\u{0}\"}}",
    ];
    let mut ann = cast.comes(&server, "ann").await;
    for frame in garbage {
        ann.socket.send(frame).await;
        assert_eq!(ann.socket.expect("error").await["code"], "bad_frame", "{frame:?}");
        // One that is good in between: only the third in a row ends it.
        assert_eq!(ann.socket.subscribe("inventory:updates").await["event"], "subscribed");
    }
    for frame in [r#"{"event":"subscribe"}"#, r#"{"event":"subscribe","data":{"room":7}}"#] {
        ann.socket.send(frame).await;
        assert_eq!(ann.socket.expect("error").await["code"], "bad_room", "{frame:?}");
    }
    ann.marks().await;
    for _ in 0..3 {
        ann.socket.send("[]").await;
    }
    // Whether the third is answered before the end is no promise.
    assert_eq!(ann.socket.closed_at_last().await, 4502);
    drop(ann);
    server.stop().await;
}

fn token(secret: &[u8], role: &str, seconds: i64) -> String {
    let step = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    let end = if seconds < 0 { now - step } else { now + step };
    let ann = Identity::new("ann", [role]).with_expiry(Some(end));
    Hs256::new(secret).unwrap().sign(&ann, &Map::new()).unwrap()
}

/// A good token whose claims were exchanged for those of another.
fn forged() -> String {
    let own = token(SECRET.as_bytes(), "user", 3600);
    let wanted = token(&[1; 32], "admin", 3600);
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (own, wanted) = (parts(&own), parts(&wanted));
    [own[0].as_str(), wanted[1].as_str(), own[2].as_str()].join(".")
}

/// `{"alg":"none"}`, and no signature.
fn unsigned() -> String {
    let claims = token(&[1; 32], "admin", 3600);
    format!("eyJhbGciOiJub25lIn0.{}.", claims.split('.').nth(1).unwrap())
}

#[tokio::test]
async fn only_good_tokens_get_in() {
    let server = Kafka::Embedded.server(&["--secret", SECRET, "--auth", "secret"]).await;
    let nobody = Client::nobody(&server);
    // Where tokens are signed elsewhere nobody logs in, as whatever.
    let login = nobody.post("/api/login", &json!({"email": "a@x", "role": "admin"})).await;
    assert_eq!(login.status, 403, "{}", login.text());

    for (token, code) in [
        (token(&[1; 32], "admin", 3600), 4500),
        (forged(), 4500),
        (unsigned(), 4500),
        ("nonsense".to_owned(), 4500),
        (token(SECRET.as_bytes(), "user", -3600), 4002),
        (token(SECRET.as_bytes(), "guest", 3600), 4501),
    ] {
        let by_header = nobody.bearer(&token);
        assert_eq!(Socket::open(&by_header, "/ws").await.closed().await, code, "{token}");
        let list = format!("fanout.v1, bearer.{token}");
        let by_list = nobody.with("sec-websocket-protocol", &list);
        assert_eq!(Socket::open(&by_list, "/ws").await.closed().await, code, "{token}");
        let mut by_frame = Socket::open(&nobody, "/ws").await;
        by_frame.send(&json!({"event": "auth", "data": {"token": token}}).to_string()).await;
        assert_eq!(by_frame.closed_at_last().await, code, "{token}");
        let refused = if code == 4501 { 403 } else { 401 };
        assert_eq!(by_header.get("/api/orders").await.status, refused, "{token}");
        // A token does not belong into a URL, whatever it is worth.
        for path in ["/api/orders", "/ws", "/events"] {
            let by_query = format!("{path}?token={token}");
            assert_eq!(nobody.get(&by_query).await.status, 400);
        }
    }
    let ann = nobody.bearer(&token(SECRET.as_bytes(), "user", 3600));
    Socket::welcome(&ann).await;
    server.stop().await;
}

#[tokio::test]
async fn a_token_that_expires_ends_the_connection() {
    let server = Kafka::Embedded.server(&["--secret", SECRET, "--auth", "secret"]).await;
    // Whole seconds: one at least is left when it is checked.
    let ann = Client::nobody(&server).bearer(&token(SECRET.as_bytes(), "user", 2));
    let mut socket = Socket::open(&ann, "/ws").await;
    assert_eq!(socket.closed_at_last().await, 4002);
    drop(socket);
    server.stop().await;
}

async fn ticket(ann: &Client) -> String {
    let ticket = ann.send("POST", "/api/ticket", "").await.json();
    format!("/ws?ticket={}", ticket["ticket"].as_str().unwrap())
}

#[tokio::test]
async fn a_ticket_is_good_for_once() {
    let server = Kafka::Embedded.server(&[]).await;
    let ann = Client::login(&server, "ann@x").await;
    let path = ticket(&ann).await;
    let nobody = Client::nobody(&server);
    let mut socket = Socket::open(&nobody, &path).await;
    assert_eq!(socket.expect("welcome").await["subject"], "ann@x");
    assert_eq!(Socket::open(&nobody, &path).await.closed().await, 4500);
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_stopped_server_tells_its_clients_to_come_back() {
    let server: Running = Kafka::Embedded.server(&[]).await;
    let mut ann: Person = Cast::new().comes(&server, "ann").await;
    let stopping = tokio::spawn(server.stop());
    assert_eq!(ann.socket.closed().await, 4000);
    drop(ann);
    let stopped = tokio::time::timeout(crate::support::DEADLINE, stopping).await;
    stopped.expect("stopped in time").unwrap();
}
