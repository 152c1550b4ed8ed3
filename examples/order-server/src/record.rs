//! What is written to Kafka when an order changes: one change, one record.
//!
//! A record carries the whole order and its version beside the fields that readers of
//! its topic know, so that events of different topics may arrive in any order.

use serde::Serialize;

use crate::money::Cents;
use crate::order::Order;
use crate::status::Status;
use crate::time::Time;

/// The topics that are read, and those of them that are written.
pub mod topics {
    /// An order was placed.
    pub const ORDER_CREATED: &str = "order.created";
    /// A change that is no status; read, for others write it.
    pub const ORDER_UPDATED: &str = "order.updated";
    /// Being packed.
    pub const ORDER_PROCESSING: &str = "order.processing";
    /// The money is there.
    pub const ORDER_PAID: &str = "order.paid";
    /// On its way.
    pub const ORDER_SHIPPED: &str = "order.shipped";
    /// Arrived.
    pub const ORDER_DELIVERED: &str = "order.delivered";
    /// Called off.
    pub const ORDER_CANCELLED: &str = "order.cancelled";
    /// Stock changed; read only.
    pub const INVENTORY_UPDATED: &str = "inventory.updated";
    /// A new product; read only.
    pub const PRODUCT_CREATED: &str = "product.created";
    /// A product changed; read only.
    pub const PRODUCT_UPDATED: &str = "product.updated";

    /// All that are read.
    pub const ALL: [&str; 10] = [
        ORDER_CREATED,
        ORDER_UPDATED,
        ORDER_PROCESSING,
        ORDER_PAID,
        ORDER_SHIPPED,
        ORDER_DELIVERED,
        ORDER_CANCELLED,
        INVENTORY_UPDATED,
        PRODUCT_CREATED,
        PRODUCT_UPDATED,
    ];
}

/// The topic of an order that has become `status`.
pub fn topic_of(status: Status) -> &'static str {
    match status {
        Status::Pending => topics::ORDER_CREATED,
        Status::Paid => topics::ORDER_PAID,
        Status::Processing => topics::ORDER_PROCESSING,
        Status::Shipped => topics::ORDER_SHIPPED,
        Status::Delivered => topics::ORDER_DELIVERED,
        Status::Cancelled => topics::ORDER_CANCELLED,
    }
}

/// A record that waits to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it goes.
    pub topic: String,
    /// The order's id: one order, one partition.
    pub key: String,
    /// JSON.
    pub payload: Vec<u8>,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was placed.
    Placed,
    /// It got its status; the one before, and whether it had been paid by then.
    Status {
        /// What it was.
        previous: Status,
        /// Whether paid was among its past statuses.
        was_paid: bool,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    event: &'a str,
    #[serde(flatten)]
    order: &'a Order,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paid_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processing_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipped_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_amount: Option<Cents>,
}

impl Record {
    /// The record of `change`, after which the order is `order`.
    ///
    /// # Panics
    /// Never: an order has texts, numbers and times only.
    pub fn of(order: &Order, change: Change) -> Self {
        let topic = topic_of(order.status);
        let since = |status| (order.status == status).then_some(order.updated_at);
        let (previous_status, was_paid) = match change {
            Change::Placed => (None, false),
            Change::Status { previous, was_paid } => (Some(previous), was_paid),
        };
        let refund = order.status == Status::Cancelled && was_paid;
        let payload = Payload {
            event: topic,
            order,
            previous_status,
            paid_at: since(Status::Paid),
            processing_at: since(Status::Processing),
            shipped_at: since(Status::Shipped),
            delivered_at: since(Status::Delivered),
            refund_amount: refund.then_some(order.total),
        };
        let payload = serde_json::to_vec(&payload).expect("an order has a JSON form");
        Self { topic: topic.to_owned(), key: order.order_id.clone(), payload }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::input::tests::two_items;
    use crate::money::Rate;

    #[test]
    fn every_status_has_its_topic_and_the_whole_order() {
        let now = Time::from_millis(7);
        for status in Status::ALL {
            let mut order = Order::place("ann", two_items(), Rate::default(), now).unwrap();
            let mut change = Change::Placed;
            if status != Status::Pending {
                order.become_(status, None, now);
                change = Change::Status { previous: Status::Pending, was_paid: true };
            }
            let record = Record::of(&order, change);
            assert_eq!(record.key, order.order_id);
            let payload: Value = serde_json::from_slice(&record.payload).unwrap();
            assert_eq!(payload["event"], record.topic);
            assert_eq!(payload["total"], 40.28);
            assert_eq!(payload["version"], order.version);
            assert_eq!(payload["refundAmount"].is_number(), status == Status::Cancelled);
            if status != Status::Pending {
                assert_eq!(payload[format!("{status}At")], now.to_string(), "{status}");
                assert_eq!(payload["previousStatus"], "pending");
            }
            let back: Order = serde_json::from_slice(&record.payload).unwrap();
            assert_eq!(back, order);
        }
    }
}
