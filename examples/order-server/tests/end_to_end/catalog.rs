//! Records of the shop's other services: stock, products, and partial orders.

use serde_json::{Value, json};

use crate::kafka::{Kafka, OtherService};
use crate::person::{Cast, Person};

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    /// Admins, in `admin:dashboard`.
    Admin,
    /// Whoever asked for `inventory:updates`.
    Stock,
    /// Everyone who is connected, in `everyone`.
    All,
    /// The buyer alone.
    Ann,
}

struct Case {
    topic: &'static str,
    record: Value,
    /// The events in their order, with all of their fields but the timestamp; of a
    /// buyer's, whose fields the record's are among, those that are named.
    told: Vec<(Who, &'static str, Value)>,
}

fn case(topic: &'static str, record: Value, told: Vec<(Who, &'static str, Value)>) -> Case {
    Case { topic, record, told }
}

/// Records of stock as the inventory service writes them, and what becomes of them.
fn stock_cases(id: &str) -> Vec<Case> {
    use Who::{Admin, Stock};

    let stock = |stock: i32, low: bool, out: bool| {
        let fields = json!({
            "productId": id, "sku": "AP-1", "productName": "Apple", "stock": stock,
            "previousStock": 50, "updatedAt": "2024-05-01T10:00:00.000Z",
            "isLowStock": low, "isOutOfStock": out,
        });
        vec![
            (Stock, "inventory:updated", fields.clone()),
            (Admin, "admin:inventory:updated", fields),
        ]
    };
    let alert = |severity: &str, stock: i32, message: &str| {
        let fields = json!({
            "productId": id, "type": "inventory", "severity": severity, "stock": stock,
            "message": message,
        });
        (Admin, "admin:alert", fields)
    };
    let record = |stock: i32| {
        json!({
            "event": "inventory.updated", "productId": id, "sku": "AP-1", "productName": "Apple",
            "stock": stock, "previousStock": 50, "updatedAt": "2024-05-01T10:00:00.000Z",
        })
    };
    let with = |mut told: Vec<_>, alert| {
        told.push(alert);
        told
    };
    vec![
        case("inventory.updated", record(10), stock(10, false, false)),
        case(
            "inventory.updated",
            record(9),
            with(stock(9, true, false), alert("warning", 9, "Apple is running low: 9 left")),
        ),
        case(
            "inventory.updated",
            record(0),
            with(stock(0, true, true), alert("critical", 0, "Apple is out of stock")),
        ),
        // Partial: what is missing is left out, and nothing is made up.
        case(
            "inventory.updated",
            json!({"productId": id}),
            vec![
                (Stock, "inventory:updated", json!({"productId": id})),
                (Admin, "admin:inventory:updated", json!({"productId": id})),
            ],
        ),
    ]
}

/// Records of the product service.
fn product_cases(id: &str) -> Vec<Case> {
    use Who::{Admin, All};

    let product = json!({
        "productId": id, "name": "Apple", "sku": "AP-1", "category": "Fruit", "price": 1.5,
        "stock": 3, "createdAt": "2024-05-01T10:00:00.000Z",
    });
    let mut product_record = product.clone();
    product_record["_id"] = product_record["productId"].take();
    vec![
        case("product.created", product_record, vec![(Admin, "admin:product:created", product)]),
        case(
            "product.updated",
            json!({
                "_id": id, "name": "Apple", "price": 2.10, "stock": 3, "internal": "x",
                "changes": {"price": [1.5, 2.1]}, "updatedAt": "2024-05-02T10:00:00.000Z",
            }),
            vec![
                (
                    Admin,
                    "admin:product:updated",
                    json!({
                        "productId": id, "name": "Apple", "price": 2.1, "stock": 3,
                        "changes": {"price": [1.5, 2.1]}, "updatedAt": "2024-05-02T10:00:00.000Z",
                    }),
                ),
                (
                    All,
                    "product:updated",
                    json!({
                        "productId": id, "name": "Apple", "price": 2.1, "stock": 3,
                        "updatedAt": "2024-05-02T10:00:00.000Z",
                    }),
                ),
            ],
        ),
        case(
            "product.updated",
            json!({"productId": id, "price": 2}),
            vec![
                (Admin, "admin:product:updated", json!({"productId": id, "price": 2})),
                (All, "product:updated", json!({"productId": id, "price": 2})),
            ],
        ),
    ]
}

/// Records of the shop's own order service, partial and with other names for things.
fn order_cases(ann: &str) -> Vec<Case> {
    use Who::{Admin, Ann};

    vec![
        case(
            "order.created",
            json!({"_id": "o-1", "userId": ann, "totalAmount": 12.5, "items": []}),
            vec![
                (
                    Ann,
                    "order:created",
                    json!({"orderId": "o-1", "status": "pending", "totalAmount": 12.5}),
                ),
                (Ann, "notification", json!({"orderId": "o-1", "priority": "normal"})),
                (Admin, "admin:order:created", json!({"orderId": "o-1", "buyerId": ann})),
            ],
        ),
        case(
            "order.shipped",
            json!({"orderId": "o-1", "buyerId": ann, "shippedAt": "2024-05-03T10:00:00.000Z"}),
            vec![
                (
                    Ann,
                    "order:updated",
                    json!({
                        "orderId": "o-1", "status": "shipped", "message": "Your order has been shipped",
                        "updatedAt": "2024-05-03T10:00:00.000Z",
                    }),
                ),
                (Ann, "notification", json!({"orderId": "o-1", "status": "shipped"})),
                (Admin, "admin:order:updated", json!({"orderId": "o-1", "buyerId": ann})),
            ],
        ),
        case(
            "order.updated",
            json!({"orderId": "o-1", "buyerId": ann, "status": "shipped", "previousStatus": "paid"}),
            vec![
                (Ann, "order:updated", json!({"status": "shipped", "previousStatus": "paid"})),
                (Ann, "notification", json!({"orderId": "o-1", "status": "shipped"})),
                (Admin, "admin:order:updated", json!({"buyerId": ann, "previousStatus": "paid"})),
            ],
        ),
        case(
            "order.cancelled",
            json!({"orderId": "o-1", "buyerId": ann, "refundAmount": 12.5, "reason": "late"}),
            vec![
                (Ann, "order:cancelled", json!({"refundAmount": 12.5, "reason": "late"})),
                (Ann, "notification", json!({"orderId": "o-1", "priority": "high"})),
                (Admin, "admin:order:cancelled", json!({"buyerId": ann, "reason": "late"})),
            ],
        ),
    ]
}

/// Checks one event, of which `fields` are all, or where the whole record is told some.
async fn sees(person: &mut Person, who: Who, event: &str, fields: &Value) {
    let told = person.sees(event, fields).await;
    let room = match who {
        Who::Admin => Some("admin:dashboard"),
        Who::Stock => Some("inventory:updates"),
        Who::All => Some("everyone"),
        // It names both of the buyer's.
        Who::Ann => None,
    };
    assert_eq!(told.room.as_deref(), room, "{told:?}");
    assert!(told.data["timestamp"].is_string(), "{told:?}");
    if !event.contains("order") && event != "notification" {
        let mut rest = told.data.clone();
        rest.as_object_mut().unwrap().remove("timestamp");
        assert_eq!(&rest, fields, "{event} has all of it and nothing else");
    }
}

pub(crate) async fn records_of_other_services_reach_whom_they_concern(kafka: Kafka) {
    let server = kafka.server(&[]).await;
    let cast = Cast::new();
    let mut ann = cast.comes(&server, "ann").await;
    let mut bob = cast.comes(&server, "bob").await;
    let mut admin = cast.comes(&server, "admin").await;
    let mut stock = cast.comes(&server, "stock").await;
    assert_eq!(stock.socket.subscribe("inventory:updates").await["event"], "subscribed");

    let others = OtherService::at(&server);
    let id = cast.name("product");
    let cases = [stock_cases(&id), product_cases(&id), order_cases(&ann.email)];
    for Case { topic, record, told } in cases.into_iter().flatten() {
        // What cannot be used is passed, and holds up nothing.
        for poison in ["", "not JSON", "[1]", "{}{}"] {
            others.writes(topic, poison).await;
        }
        others.writes(topic, &record.to_string()).await;
        for (who, event, fields) in &told {
            match who {
                Who::Admin => sees(&mut admin, *who, event, fields).await,
                Who::Stock => sees(&mut stock, *who, event, fields).await,
                Who::Ann => sees(&mut ann, *who, event, fields).await,
                Who::All => {
                    for person in [&mut ann, &mut bob, &mut admin, &mut stock] {
                        sees(person, *who, event, fields).await;
                    }
                }
            }
        }
    }
    // Nothing else was told to anybody.
    for person in [&mut ann, &mut bob, &mut stock] {
        let marker = person.marks().await;
        admin.sees("admin:order:created", &json!({"orderId": marker["orderId"]})).await;
    }
    drop((ann, bob, admin, stock));
    server.stop().await;
}
