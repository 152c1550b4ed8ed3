//! What each role sees of an event, and of the same order over REST.
//!
//! ```text
//! admin    all of it
//! support  everything but what is paid
//! user     what the shop tells a buyer
//! ```
//!
//! Records come from other services too, with fields that nobody here knows. So what is
//! shown is named, and not what is hidden: a new field is the admins' until it is named here.

use fanout::{Access, EventViews, Identity, Json, Redaction, RedactionError};
use serde::Serialize;

use crate::access::{ADMIN, SUPPORT, USER};

/// The name that an order, or a list of them, has over REST.
pub const ORDERS: &str = "rest:orders";
/// The name that the statistics have.
pub const STATS: &str = "rest:stats";

/// Of an order, without a price.
const ORDER: &[&str] = &[
    "orderId",
    "buyerId",
    "items.sku",
    "items.name",
    "items.quantity",
    "currency",
    "status",
    "previousStatus",
    "version",
    "shippingAddress",
    "createdAt",
    "updatedAt",
    "paidAt",
    "processingAt",
    "shippedAt",
    "deliveredAt",
    "cancelledAt",
    "reason",
    "message",
    "timestamp",
];

/// What is paid for it.
const PRICES: &[&str] =
    &["items.unitPrice", "subtotal", "tax", "total", "totalAmount", "refundAmount"];

/// Of an answer with several orders.
const LIST: &[&str] = &["history", "cursor", "next"];

const NOTIFICATION: &[&str] =
    &["type", "title", "message", "orderId", "status", "priority", "timestamp"];

/// Of a product, without its price.
const PRODUCT: &[&str] = &[
    "productId",
    "productName",
    "name",
    "sku",
    "category",
    "stock",
    "previousStock",
    "isLowStock",
    "isOutOfStock",
    "changes.name",
    "changes.sku",
    "changes.category",
    "changes.stock",
    "type",
    "severity",
    "message",
    "createdAt",
    "updatedAt",
    "timestamp",
];

/// The declaration, for everything that the shop emits or answers.
///
/// # Errors
/// Where it does not fit to the policy.
pub fn redaction(access: &Access) -> Result<Redaction, RedactionError> {
    // An answer's orders are those of an event, in a list or alone.
    let rest = |paths: &[&str]| {
        let nested = paths.iter().map(|path| format!("orders.{path}"));
        let own = paths.iter().chain(LIST).map(|path| (*path).to_owned());
        nested.chain(own).collect::<Vec<_>>()
    };
    let priced = [ORDER, PRICES].concat();
    let to_admins = |event: &'static str| EventViews::of(event).all(ADMIN).nothing(USER);
    Redaction::new(
        access,
        [
            EventViews::of("order:created")
                .also("order:updated")
                .also("order:cancelled")
                .all(ADMIN)
                .show(SUPPORT, ORDER.to_vec())
                .show(USER, priced.clone()),
            to_admins("admin:order:created")
                .also("admin:order:updated")
                .also("admin:order:cancelled")
                .show(SUPPORT, ORDER.to_vec()),
            EventViews::of("notification")
                .all(ADMIN)
                .show(SUPPORT, NOTIFICATION.to_vec())
                .show(USER, NOTIFICATION.to_vec()),
            EventViews::of("inventory:updated")
                .all(ADMIN)
                .show(SUPPORT, PRODUCT.to_vec())
                .show(USER, PRODUCT.to_vec()),
            EventViews::of("product:updated")
                .all(ADMIN)
                .show(SUPPORT, PRODUCT.to_vec())
                .show(USER, [PRODUCT, &["price"]].concat()),
            to_admins("admin:inventory:updated")
                .also("admin:product:created")
                .also("admin:product:updated")
                .also("admin:alert")
                .show(SUPPORT, PRODUCT.to_vec()),
            EventViews::of(ORDERS).all(ADMIN).show(SUPPORT, rest(ORDER)).show(USER, rest(&priced)),
            to_admins(STATS).show(SUPPORT, ["byStatus", "ordersPerMinute"]),
        ],
    )
}

/// What somebody sees of an answer; `None` where it is nothing.
pub fn seen<T: Serialize>(
    redaction: &Redaction,
    access: &Access,
    identity: &Identity,
    name: &str,
    answer: &T,
) -> Option<Json> {
    let view = access.rights(identity).ok()?.view;
    redaction.apply(name, &view, &Json::of(answer).ok()?)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::access::policy;

    fn seen_by(role: &str, event: &str, body: &Value) -> String {
        let redaction = redaction(&policy()).unwrap();
        let who = Identity::new("x", [role]);
        seen(&redaction, &policy(), &who, event, body)
            .map_or("nothing".into(), |json| json.as_str().to_owned())
    }

    #[test]
    fn support_sees_no_price_wherever_one_is() {
        let order = json!({"orderId": "7", "total": 12.34, "totalAmount": 12.34, "tax": 12.34,
            "subtotal": 12.34, "refundAmount": 12.34, "discount": 12.34, "payment": {"sum": 12.34},
            "items": [{"sku": "S", "unitPrice": 12.34, "price": 12.34}], "status": "paid"});
        let list = json!({"orders": [order], "cursor": "c", "next": null});
        for (event, body) in [
            ("order:created", &order),
            ("admin:order:created", &order),
            ("admin:order:cancelled", &order),
            (ORDERS, &order),
            (ORDERS, &list),
            ("admin:product:updated", &json!({"price": 12.34, "changes": {"price": 12.34}})),
            ("product:updated", &json!({"name": "S", "price": 12.34})),
            (STATS, &json!({"byStatus": {"paid": 1}, "revenue": 12.34})),
        ] {
            let text = seen_by(SUPPORT, event, body);
            assert!(!text.contains("12.34") && text.len() > 2, "{event}: {text}");
            assert!(seen_by(ADMIN, event, body).contains("12.34"));
        }
        let text = seen_by(SUPPORT, ORDERS, &list);
        let list: Value = serde_json::from_str(&text).unwrap();
        let order = json!({"orderId": "7", "items": [{"sku": "S"}], "status": "paid"});
        assert_eq!(list, json!({"orders": [order], "cursor": "c", "next": null}));
    }

    #[test]
    fn a_buyer_sees_prices_and_nothing_that_is_not_named() {
        let order = json!({"orderId": "7", "total": 12.34, "margin": 5, "notes": "rude"});
        let text = seen_by(USER, "order:created", &order);
        assert!(text.contains("12.34") && !text.contains("margin") && !text.contains("rude"));
        for event in ["admin:order:created", "admin:alert", STATS] {
            assert_eq!(seen_by(USER, event, &order), "nothing");
        }
    }
}
