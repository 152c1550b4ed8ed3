use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fanout::{Body, Lane};
use serde_json::{Value, json};

use super::*;
use crate::input::tests::two_items;
use crate::money::Rate;
use crate::order::Order;
use crate::record::{Change, Record};
use crate::status::Status;
use crate::time::Time;

const TIMESTAMP: &str = "2023-11-14T22:13:20.000Z";

/// Rooms with commas between, event, body.
type Routed = (String, String, Value);

fn try_route(topic: &str, payload: impl Into<Bytes>) -> Result<Vec<Routed>, RouteError> {
    let lane = Arc::new(Lane::new("test", topic, 0));
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let event = Event::new(lane, 0, payload.into()).with_time(time);
    let mut out = Vec::new();
    ShopRouter.route(&event, &mut out)?;
    let each = |emission: &Emission| {
        let rooms: Vec<_> = emission.rooms.iter().map(ToString::to_string).collect();
        let Body::Shared(json) = &emission.body else { panic!("every role sees the same") };
        let body: Value = serde_json::from_str(json.as_str()).unwrap();
        assert_eq!(body["timestamp"], TIMESTAMP, "{body}");
        (rooms.join(","), emission.event.to_string(), body)
    };
    Ok(out.iter().map(each).collect())
}

fn route(topic: &str, payload: &Value) -> Vec<Routed> {
    try_route(topic, payload.to_string()).unwrap()
}

fn heads(routed: &[Routed]) -> Vec<(&str, &str)> {
    routed.iter().map(|(rooms, event, _)| (rooms.as_str(), event.as_str())).collect()
}

/// Checks that `body` has these fields with these values.
fn has(body: &Value, fields: &Value) {
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&body[name], value, "{name} of {body}");
    }
}

const BUYER: &str = "user:ann,orders:ann";

#[test]
fn each_status_of_ours_reaches_buyer_and_admins_whole() {
    let order = Order::place("ann", two_items(), Rate::default(), Time::from_millis(7)).unwrap();
    for status in Status::ALL {
        let (mut order, mut change) = (order.clone(), Change::Placed);
        if status != Status::Pending {
            order.become_(status, Some("because".into()), Time::from_millis(9));
            change = Change::Status { previous: Status::Pending, was_paid: true };
        }
        let record = Record::of(&order, change);
        let routed = try_route(&record.topic, record.payload).unwrap();
        let name = match status {
            Status::Pending => "created",
            Status::Cancelled => "cancelled",
            _ => "updated",
        };
        let (to_buyer, to_admin) = (format!("order:{name}"), format!("admin:order:{name}"));
        let notified = !matches!(status, Status::Paid | Status::Processing);
        let mut expected = vec![(BUYER, to_buyer.as_str())];
        expected.extend(notified.then_some((BUYER, "notification")));
        expected.push(("admin:dashboard", to_admin.as_str()));
        assert_eq!(heads(&routed), expected);

        let whole = serde_json::to_value(&order).unwrap();
        for (_, _, body) in [routed.first().unwrap(), routed.last().unwrap()] {
            has(body, &whole);
            has(body, &json!({"totalAmount": 40.28, "buyerId": "ann", "status": status}));
            assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()));
            if status != Status::Pending {
                assert_eq!(body["previousStatus"], "pending");
            }
        }
        assert_ne!(routed[0].2["message"], routed.last().unwrap().2["message"]);
        if notified {
            let priority = if status == Status::Pending { "normal" } else { "high" };
            let id = &order.order_id;
            has(&routed[1].2, &json!({"orderId": id, "priority": priority, "status": status}));
            has(&routed[1].2, &json!({"type": "order", "message": routed[0].2["message"]}));
            assert!(routed[1].2["title"].is_string());
        }
        if status == Status::Cancelled {
            has(&routed[0].2, &json!({"refundAmount": 40.28, "reason": "because"}));
            assert!(routed[0].2["cancelledAt"].is_string());
        }
    }
}

#[test]
fn partial_records_of_other_services_are_routed_with_what_they_have() {
    let created = json!({"_id": "7", "userId": "ann", "totalAmount": 12.50, "items": []});
    let routed = route("order.created", &created);
    assert_eq!(
        heads(&routed),
        [
            (BUYER, "order:created"),
            (BUYER, "notification"),
            ("admin:dashboard", "admin:order:created")
        ]
    );
    let wanted =
        json!({"orderId": "7", "buyerId": "ann", "totalAmount": 12.5, "status": "pending"});
    has(&routed[0].2, &wanted);
    has(&routed[2].2, &wanted);

    // The status that a topic is named after needs no field, nor does its time.
    for (topic, status, since, notified) in [
        ("order.paid", "paid", "paidAt", false),
        ("order.processing", "processing", "processingAt", false),
        ("order.shipped", "shipped", "shippedAt", true),
        ("order.delivered", "delivered", "deliveredAt", true),
    ] {
        let routed = route(topic, &json!({"orderId": 7, "userId": 42, since: "then"}));
        let wanted =
            json!({"orderId": "7", "buyerId": "42", "status": status, "updatedAt": "then"});
        has(&routed[0].2, &wanted);
        assert_eq!(routed[0].0, "user:42,orders:42");
        assert_eq!(routed.len(), if notified { 3 } else { 2 }, "{topic}");
    }

    // `order.updated` says the status itself.
    let updated = |status| json!({"orderId": "7", "buyerId": "ann", "status": status});
    assert_eq!(route("order.updated", &updated("shipped")).len(), 3);
    assert_eq!(route("order.updated", &updated("paid")).len(), 2);
    let routed = route("order.updated", &json!({"orderId": "7", "buyerId": "ann"}));
    assert_eq!(routed[0].2["message"], "Your order has been updated");
    assert!(routed[0].2.get("status").is_none());
}

#[test]
fn without_a_buyer_only_admins_are_told() {
    let unroomable = "x".repeat(200);
    for record in [
        json!({"orderId": "7"}),
        json!({"orderId": "7", "buyerId": null}),
        json!({"orderId": "7", "buyerId": {"a": 1}}),
        json!({"orderId": "7", "buyerId": unroomable}),
    ] {
        for (topic, event) in [
            ("order.created", "admin:order:created"),
            ("order.shipped", "admin:order:updated"),
            ("order.cancelled", "admin:order:cancelled"),
        ] {
            let routed = route(topic, &record);
            assert_eq!(heads(&routed), [("admin:dashboard", event)], "{record}");
        }
    }
}

#[test]
fn nobody_names_himself_into_anothers_room() {
    let routed = route("order.created", &json!({"orderId": "7", "buyerId": "x:y,admin"}));
    assert_eq!(routed[0].0, "user:x%3Ay%2Cadmin,orders:x%3Ay%2Cadmin");
}

#[test]
fn stock_is_told_of_and_alerts_when_low() {
    for (stock, low, out, severity) in [
        (10, false, false, None),
        (9, true, false, Some("warning")),
        (0, true, true, Some("critical")),
        (-1, true, true, Some("critical")),
    ] {
        let record = json!({"productId": "p", "sku": "S", "productName": "Pear",
            "stock": stock, "previousStock": 11, "updatedAt": "then", "secret": 1});
        let routed = route("inventory.updated", &record);
        let mut expected = vec![
            ("inventory:updates", "inventory:updated"),
            ("admin:dashboard", "admin:inventory:updated"),
        ];
        expected.extend(severity.map(|_| ("admin:dashboard", "admin:alert")));
        assert_eq!(heads(&routed), expected);
        let body = json!({"productId": "p", "stock": stock, "previousStock": 11, "sku": "S",
            "productName": "Pear", "isLowStock": low, "isOutOfStock": out, "updatedAt": "then",
            "timestamp": TIMESTAMP});
        assert_eq!((&routed[0].2, &routed[1].2), (&body, &body));
        if let Some(severity) = severity {
            has(&routed[2].2, &json!({"type": "inventory", "severity": severity, "stock": stock}));
            assert!(routed[2].2["message"].as_str().unwrap().contains("Pear"));
        }
    }
    let routed = route("inventory.updated", &json!({"productId": "p"}));
    assert_eq!(routed.len(), 2);
    assert!(routed[0].2.get("isLowStock").is_none());
}

#[test]
fn products_are_told_of() {
    let product = json!({"_id": "p", "name": "Pear", "sku": "S", "category": "fruit",
        "price": 1.20, "stock": 5, "createdAt": "then"});
    let routed = route("product.created", &product);
    assert_eq!(heads(&routed), [("admin:dashboard", "admin:product:created")]);
    has(&routed[0].2, &json!({"productId": "p", "category": "fruit", "price": 1.2, "stock": 5}));

    let product = json!({"productId": "p", "name": "Pear", "price": 1.30, "stock": 5,
        "changes": {"price": 1.3}, "updatedAt": "now"});
    let routed = route("product.updated", &product);
    let expected = [("admin:dashboard", "admin:product:updated"), ("everyone", "product:updated")];
    assert_eq!(heads(&routed), expected);
    has(&routed[0].2, &json!({"productId": "p", "changes": {"price": 1.3}}));
    let body = json!({"productId": "p", "name": "Pear", "price": 1.3, "stock": 5,
        "updatedAt": "now", "timestamp": TIMESTAMP});
    assert_eq!(routed[1].2, body);
}

#[test]
fn what_is_no_object_or_of_no_topic_is_an_error() {
    for bad in ["", "{", "[]", "7", "null", "{} {}"] {
        for topic in topics::ALL {
            assert!(try_route(topic, bad).is_err(), "{topic}: {bad}");
        }
    }
    let unknown = try_route("order.lost", "{}").unwrap_err();
    assert!(unknown.to_string().contains("order.lost"), "{unknown}");
    for topic in topics::ALL {
        assert!(!try_route(topic, "{}").unwrap().is_empty(), "{topic}");
    }
}

#[test]
fn the_same_record_gives_the_same_bytes() {
    let payload = r#"{"b":1.10,"orderId":"7","a":[1, 2],"buyerId":"ann","total":19.90}"#;
    let bytes = || {
        let event = Event::new(Arc::new(Lane::new("l", "order.created", 0)), 3, payload.into());
        let mut out = Vec::new();
        ShopRouter.route(&event, &mut out).unwrap();
        format!("{out:?}")
    };
    assert_eq!(bytes(), bytes());
    // Numbers stay the text they were.
    assert!(bytes().contains(r#""b":1.10"#) && bytes().contains(r#""totalAmount":19.90"#));
}
