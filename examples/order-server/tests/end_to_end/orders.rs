//! What becomes of an order, and who sees it.

use serde_json::{Value, json};

use crate::kafka::Kafka;
use crate::person::{Cast, Person, Told, id};

/// Ways that orders go; the first of a way is what follows `pending`.
const WAYS: [&[&str]; 6] = [
    &["paid", "processing", "shipped", "delivered"],
    &["processing", "paid", "delivered"],
    &["shipped", "delivered"],
    &["paid", "cancelled"],
    &["shipped", "cancelled"],
    &["cancelled"],
];

/// What a buyer reads of a status, and the title of the notification where there is one.
fn words(status: &str) -> (&'static str, Option<&'static str>) {
    match status {
        "pending" => ("Your order has been placed", Some("Order placed")),
        "paid" => ("Your payment has been received", None),
        "processing" => ("Your order is being prepared", None),
        "shipped" => ("Your order has been shipped", Some("Order shipped")),
        "delivered" => ("Your order has been delivered", Some("Order delivered")),
        "cancelled" => ("Your order has been cancelled", Some("Order cancelled")),
        other => panic!("no status: {other}"),
    }
}

fn event(status: &str) -> &'static str {
    match status {
        "pending" => "order:created",
        "cancelled" => "order:cancelled",
        _ => "order:updated",
    }
}

/// Everybody who watches.
struct Shop {
    admin: Person,
    ann: Person,
    /// Ann again, who asked for her orders' room too.
    tab: Person,
}

impl Shop {
    /// Checks what everybody is told of an order that was `before`.
    async fn see(&mut self, order: &Value, before: &[&str]) {
        let status = order["status"].as_str().unwrap();
        let (sentence, title) = words(status);
        // The whole order and its version, and the names of the shop's table.
        let mut fields = order.clone();
        fields["totalAmount"] = order["total"].clone();
        fields["previousStatus"] = before.last().copied().into();
        if status == "cancelled" {
            let paid = before.contains(&"paid");
            fields["refundAmount"] = if paid { order["total"].clone() } else { Value::Null };
            assert!(order["cancelledAt"].is_string(), "{order}");
        }
        let mut to_buyer = fields.clone();
        to_buyer["message"] = sentence.into();

        let admin = self.admin.sees(&format!("admin:{}", event(status)), &fields).await;
        assert_eq!(admin.room.as_deref(), Some("admin:dashboard"));
        let message = admin.data["message"].as_str().unwrap();
        assert!(message.contains(id(order)) && message.contains(&self.ann.email), "{message}");
        for ann in [&mut self.ann, &mut self.tab] {
            let told = ann.sees(event(status), &to_buyer).await;
            of_one_record(&told, &admin);
            let Some(title) = title else { continue };
            let told = ann.next().await;
            of_one_record(&told, &admin);
            let priority = if status == "pending" { "normal" } else { "high" };
            let notification = json!({
                "type": "order", "title": title, "message": sentence, "orderId": order["orderId"],
                "status": status, "priority": priority, "timestamp": admin.data["timestamp"],
            });
            assert_eq!((told.event.as_str(), &told.data), ("notification", &notification));
        }
    }
}

/// Checks that two events were made of one record.
fn of_one_record(one: &Told, other: &Told) {
    assert_eq!(one.lane(), other.lane());
    assert_ne!(one.at, other.at);
    assert!(one.data["timestamp"].is_string(), "{one:?}");
    assert_eq!(one.data["timestamp"], other.data["timestamp"]);
}

pub(crate) async fn every_status_reaches_the_buyer_and_the_admins_and_nobody_else(kafka: Kafka) {
    let server = kafka.server(&[]).await;
    let cast = Cast::new();
    let ann = cast.comes(&server, "ann").await;
    let mut tab = ann.another_tab().await;
    let room = format!("orders:{}", ann.email);
    assert_eq!(tab.socket.subscribe(&room).await["event"], "subscribed");
    let mut bob = cast.comes(&server, "bob").await;
    let mut shop = Shop { admin: cast.comes(&server, "admin").await, ann, tab };

    for way in WAYS {
        let mut order = shop.ann.http.order().await;
        assert_eq!((&order["version"], &order["status"]), (&json!(1), &json!("pending")));
        shop.see(&order, &[]).await;
        let mut before = vec!["pending"];
        for status in way {
            // Buyers cancel what was not begun, admins do the rest.
            order = match (*status, before.len()) {
                ("cancelled", 1) => shop.ann.cancels(&order).await,
                _ => shop.admin.sets(&order, status).await,
            };
            shop.see(&order, &before).await;
            before.push(status);
        }
        let now = shop.ann.http.get(&format!("/api/orders/{}", id(&order))).await.json();
        assert_eq!(now["version"], json!(way.len() + 1));
    }

    // All of it is in the log of this node before his order is: had he been told of
    // anything, it would come first. And had anything come twice, it would come here.
    let marker = bob.marks().await;
    let fields = json!({"orderId": marker["orderId"], "buyerId": bob.email});
    shop.admin.sees("admin:order:created", &fields).await;
    let marker = shop.ann.marks().await;
    shop.tab.sees("order:created", &json!({"orderId": marker["orderId"]})).await;
    drop((shop, bob));
    server.stop().await;
}
