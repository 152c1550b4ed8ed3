//! Support: sees every order, and nothing of what is paid.

use serde_json::{Value, json};

use crate::raw::listens;
use crate::support::socket::Socket;
use crate::support::{Client, apples};
use crate::{ready, somebody};

/// What one pear costs, two, the tax, and all of it. No time of day looks like these.
const PRICES: [&str; 4] = ["719.37", "1438.74", "143.87", "1582.61"];

fn pears() -> Value {
    json!({"items": [{"sku": "P", "name": "Pear", "quantity": 2, "unitPrice": 719.37}]})
}

fn has_no_price(text: &str) {
    for price in PRICES {
        assert!(!text.contains(price), "{price} in {text}");
    }
    for name in ["unitPrice", "subtotal", "\"tax\"", "total", "refundAmount", "revenue"] {
        assert!(!text.contains(name), "{name} in {text}");
    }
}

#[tokio::test]
async fn support_sees_orders_without_their_prices() {
    let server = ready(&["--tax-percent", "10"]).await;
    let (ann, admin) =
        (Client::login(&server, "ann@x").await, Client::login(&server, "admin@x").await);
    let support = somebody(&server, "sam@x", "support").await;
    let (mut socket, welcome) = Socket::welcome(&support).await;
    assert_eq!(welcome["rooms"], json!(["admin:dashboard", "everyone"]));
    let (mut boss, _) = Socket::welcome(&admin).await;

    let order = ann.post("/api/orders", &pears()).await.json();
    assert_eq!(order["total"], 1582.61);
    let id = order["orderId"].as_str().unwrap();
    let path = format!("/api/orders/{id}");
    for (event, status) in [
        ("admin:order:created", None),
        ("admin:order:updated", Some("paid")),
        ("admin:order:updated", Some("shipped")),
        ("admin:order:cancelled", Some("cancelled")),
    ] {
        // One after the other: each goes through a topic of its own.
        if let Some(status) = status {
            let set = admin.patch(&format!("{path}/status"), &json!({"status": status})).await;
            assert_eq!(set.json()["total"], 1582.61);
        }
        let frame = socket.next().await;
        assert_eq!(frame["event"], event, "{frame}");
        has_no_price(&frame.to_string());
        let data = &frame["data"];
        assert_eq!((&data["orderId"], &data["buyerId"]), (&json!(id), &json!("ann@x")));
        assert_eq!(data["items"][0], json!({"sku": "P", "name": "Pear", "quantity": 2}));
        assert_eq!(boss.expect(event).await["total"], 1582.61);
    }

    // The same over REST, and where it comes back to an earlier place.
    let list = support.get("/api/orders").await;
    assert_eq!(list.json()["orders"][0]["status"], "cancelled");
    has_no_price(list.text());
    let found = support.get(&path).await;
    assert_eq!(found.json()["history"].as_array().unwrap().len(), 4, "{}", found.text());
    has_no_price(found.text());
    let stats = support.get("/api/stats").await;
    assert_eq!(stats.json()["byStatus"]["cancelled"], 1);
    has_no_price(stats.text());
    let cursor = welcome["cursor"].as_str().unwrap();
    let mut again = Socket::open(&support, &format!("/ws?cursor={cursor}")).await;
    assert_eq!(again.expect("welcome").await["recovered"], true);
    for _ in 0..4 {
        let frame = again.next().await;
        assert!(frame["event"].as_str().unwrap().starts_with("admin:order:"), "{frame}");
        has_no_price(&frame.to_string());
    }
    let ticket = support.send("POST", "/api/ticket", "").await.json();
    let ticket = ticket["ticket"].as_str().unwrap();
    let nobody = Client::nobody(&server);
    let stream = listens(&nobody, &format!("/events?ticket={ticket}&cursor={cursor}")).await;
    assert_eq!(stream.matches("event: admin:order:").count(), 4, "{stream}");
    has_no_price(&stream);
    drop((socket, boss, again));
    server.stop().await;
}

#[tokio::test]
async fn support_changes_nothing() {
    let server = ready(&[]).await;
    let id = Client::login(&server, "ann@x").await.order().await;
    let path = format!("/api/orders/{}", id["orderId"].as_str().unwrap());
    let support = somebody(&server, "sam@x", "support").await;
    for (method, path, body) in [
        ("POST", "/api/orders".to_owned(), apples()),
        ("PATCH", format!("{path}/status"), json!({"status": "paid"})),
        ("POST", format!("{path}/cancel"), json!({})),
        ("POST", "/api/revoke".to_owned(), json!({"subject": "ann@x"})),
    ] {
        let support = support.with("content-type", "application/json");
        let answer = support.send(method, &path, body.to_string()).await;
        assert_eq!(answer.error(403).0, "forbidden", "{method} {path}");
    }
    assert_eq!(support.get(&path).await.json()["status"], "pending");
    let (mut socket, _) = Socket::welcome(&support).await;
    for room in ["user:ann@x", "orders:ann@x", "user:sam@x", "admin:other"] {
        assert_eq!(socket.subscribe(room).await["data"]["code"], "forbidden", "{room}");
    }
    drop(socket);
    server.stop().await;
}
