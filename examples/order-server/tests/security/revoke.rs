//! Rights that are taken away, on all servers and for good.

use std::time::{Duration, SystemTime};

use fanout::Identity;
use order_server::kafka::Broker;
use order_server::server::Running;
use serde_json::{Map, Value, json};
use ws_sink::auth::Hs256;

use crate::support::socket::Socket;
use crate::support::{Answer, Client, Folder, start_in, until};
use crate::{is_ready, ready, somebody};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

async fn revoke(admin: &Client, what: &Value) -> Answer {
    let answer = admin.post("/api/revoke", what).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer
}

/// Waits until a server refuses the client for what was revoked.
async fn is_refused(client: &Client) {
    let refused = until("the token is refused", async || {
        let answer = client.get("/api/orders").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!(refused.error(401).0, "revoked");
}

/// Two servers with one Kafka and one secret.
async fn pair() -> (Running, Running) {
    let own = ["--secret", SECRET, "--auth", "dev", "--login-rate", "0"];
    let one = ready(&own).await;
    let two = ready(&[&own[..], &["--kafka", one.broker().address()]].concat()).await;
    (one, two)
}

#[tokio::test]
async fn a_subject_is_out_everywhere_until_a_new_login() {
    let (one, two) = pair().await;
    let (ann, bob) = (Client::login(&one, "ann@x").await, Client::login(&one, "bob@x").await);
    let at_two = |client: &Client| Client { addr: two.addr(), ..client.clone() };
    let (mut here, _) = Socket::welcome(&ann).await;
    let (mut there, _) = Socket::welcome(&at_two(&ann)).await;
    let (mut other, _) = Socket::welcome(&at_two(&bob)).await;

    let admin = Client::login(&two, "admin@x").await;
    let written = revoke(&admin, &json!({"subject": "ann@x"})).await.json();
    assert_eq!(written["revoke"]["subject"], "ann@x");
    assert!(written["revoke"]["before"].is_u64(), "{written}");
    assert_eq!(here.closed().await, 4503);
    assert_eq!(there.closed().await, 4503);
    for ann in [ann.clone(), at_two(&ann)] {
        is_refused(&ann).await;
        assert_eq!(ann.send("POST", "/api/ticket", "").await.error(401).0, "revoked");
        assert_eq!(Socket::open(&ann, "/ws").await.closed().await, 4503);
    }
    // Whose servers start later know of it too.
    let flags = ["--secret", SECRET, "--kafka", one.broker().address()];
    let three = ready(&flags).await;
    let late = Client { addr: three.addr(), ..ann.clone() };
    is_refused(&late).await;
    assert_eq!(Socket::open(&late, "/ws").await.closed().await, 4503);

    // Nobody else is concerned, and what is issued afterwards is good: from the next second on.
    bob.order().await;
    assert_eq!(other.expect("order:created").await["buyerId"], "bob@x");
    until("a new token is good", async || {
        let again = Client::login(&two, "ann@x").await;
        (again.get("/api/orders").await.status == 200).then_some(())
    })
    .await;
    is_refused(&ann).await;
    drop((here, there, other));
    three.stop().await;
    two.stop().await;
    one.stop().await;
}

#[tokio::test]
async fn a_ticket_of_before_is_void_too() {
    let server = ready(&[]).await;
    let ann = Client::login(&server, "ann@x").await;
    let ticket = ann.send("POST", "/api/ticket", "").await.json();
    let admin = Client::login(&server, "admin@x").await;
    revoke(&admin, &json!({"subject": "ann@x"})).await;
    is_refused(&ann).await;
    let path = format!("/ws?ticket={}", ticket["ticket"].as_str().unwrap());
    assert_eq!(Socket::open(&Client::nobody(&server), &path).await.closed().await, 4503);
    server.stop().await;
}

#[tokio::test]
async fn a_role_is_taken_away_and_the_rest_stays() {
    let (one, two) = pair().await;
    let end = SystemTime::now() + Duration::from_secs(3600);
    let both = Identity::new("boss@x", ["admin", "user"]).with_expiry(Some(end));
    let token = Hs256::new(SECRET.as_bytes()).unwrap().sign(&both, &Map::new()).unwrap();
    let boss = Client::nobody(&one).bearer(&token);
    assert_eq!(boss.get("/api/stats").await.status, 200);
    let (mut socket, welcome) = Socket::welcome(&boss).await;
    assert!(welcome["rooms"].to_string().contains("admin:dashboard"), "{welcome}");

    let admin = Client::login(&two, "admin@x").await;
    revoke(&admin, &json!({"subject": "boss@x", "role": "admin"})).await;
    assert_eq!(socket.expect("unsubscribed").await["room"], "admin:dashboard");
    assert_eq!(socket.expect("authenticated").await["roles"], json!(["user"]));
    until("REST follows", async || (boss.get("/api/stats").await.status == 403).then_some(()))
        .await;
    // What others order is no longer told; one's own is, and the way it is told a user.
    Client::login(&one, "ann@x").await.order().await;
    let order = boss.order().await;
    let told = socket.expect("order:created").await;
    assert_eq!((&told["orderId"], &told["buyerId"]), (&order["orderId"], &json!("boss@x")));
    socket.expect("notification").await;
    assert_eq!(socket.subscribe("admin:dashboard").await["data"]["code"], "forbidden");
    assert_eq!(boss.get("/api/orders").await.json()["orders"].as_array().unwrap().len(), 1);
    drop(socket);
    two.stop().await;
    one.stop().await;
}

#[tokio::test]
async fn one_connection_is_closed_and_may_come_back() {
    let (one, two) = pair().await;
    let ann = Client::login(&one, "ann@x").await;
    let (mut first, welcome) = Socket::welcome(&ann).await;
    let (mut second, _) = Socket::welcome(&ann).await;
    // Through the server that it is not connected to.
    let admin = Client::login(&two, "admin@x").await;
    revoke(&admin, &json!({"connection": welcome["connection"]})).await;
    assert_eq!(first.closed().await, 4503);
    Socket::welcome(&ann).await;
    ann.order().await;
    second.expect("order:created").await;
    drop((first, second));
    two.stop().await;
    one.stop().await;
}

#[tokio::test]
async fn only_admins_revoke_and_only_what_is_clear() {
    let server = ready(&[]).await;
    let body = json!({"subject": "ann@x"});
    let nobody = Client::nobody(&server);
    assert_eq!(nobody.post("/api/revoke", &body).await.error(401).0, "unauthenticated");
    for (email, role) in [("ann@x", "user"), ("sam@x", "support")] {
        let client = somebody(&server, email, role).await;
        assert_eq!(client.post("/api/revoke", &body).await.error(403).0, "forbidden");
    }
    let admin = Client::login(&server, "admin@x").await;
    for body in [
        json!({}),
        json!({"role": "admin"}),
        json!({"subject": "ann@x", "before": 1}),
        json!({"subject": "ann@x", "connection": "1-1-1-1"}),
        json!({"connection": "ann@x"}),
        json!({"subject": ""}),
        json!({"subject": ["ann@x"]}),
    ] {
        assert_eq!(admin.post("/api/revoke", &body).await.error(400).0, "bad_request", "{body}");
    }
    let ann = Client::login(&server, "ann@x").await;
    assert_eq!(ann.get("/api/orders").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn while_kafka_is_away_nothing_is_said_to_be_revoked() {
    let server = ready(&[]).await;
    let Broker::Embedded(broker) = server.broker() else { panic!("it is embedded") };
    let (ann, admin) =
        (Client::login(&server, "ann@x").await, Client::login(&server, "admin@x").await);
    broker.go_down().unwrap();
    let answer = admin.post("/api/revoke", &json!({"subject": "ann@x"})).await;
    let (code, message) = answer.error(503);
    assert!(code == "unavailable" && !message.contains(server.broker().address()), "{message}");
    broker.come_up().unwrap();
    revoke(&admin, &json!({"subject": "ann@x"})).await;
    is_refused(&ann).await;
    server.stop().await;
}

/// What was said before its start a server has not read while Kafka is away: it takes nobody's
/// word for it.
#[tokio::test]
async fn tokens_of_before_a_start_wait_for_kafka() {
    let folder = Folder::new();
    let broker = kafka_source::EmbeddedBroker::start().unwrap();
    for topic in order_server::record::topics::ALL {
        broker.create_topic(topic, 1).unwrap();
    }
    broker.create_topic("fanout.control", 1).unwrap();
    let flags = ["--kafka", broker.bootstrap_servers()];
    let server = start_in(&folder.0, &flags).await;
    is_ready(&Client::nobody(&server)).await;
    let ann = Client::login(&server, "ann@x").await;
    server.stop().await;
    broker.go_down().unwrap();
    // Tokens say when they were made in whole seconds.
    let second = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let made = second(SystemTime::now());
    until("the next second", async || (second(SystemTime::now()) > made).then_some(())).await;

    let server = start_in(&folder.0, &flags).await;
    let ann = Client { addr: server.addr(), ..ann };
    assert_eq!(ann.get("/api/orders").await.error(503).0, "unavailable");
    Client::login(&server, "ann@x").await.order().await;
    broker.come_up().unwrap();
    until("it is known", async || (ann.get("/api/orders").await.status == 200).then_some(())).await;
    server.stop().await;
}
