//! An order, as it is kept, answered and written to Kafka.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::input::NewOrder;
use crate::money::{Cents, Rate};
use crate::status::Status;
use crate::time::Time;

/// An order in its newest version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Its name, made by the server.
    pub order_id: String,
    /// The subject of who placed it.
    pub buyer_id: String,
    /// What was ordered.
    pub items: Vec<Item>,
    /// The items' sum.
    pub subtotal: Cents,
    /// On top of it.
    pub tax: Cents,
    /// What is to be paid.
    pub total: Cents,
    /// ISO 4217.
    pub currency: String,
    /// What has become of it.
    pub status: Status,
    /// Counts up from 1 with every change.
    pub version: u32,
    /// A text or an object of texts, as it was given.
    pub shipping_address: Option<Value>,
    /// When it was placed.
    pub created_at: Time,
    /// When it last changed.
    pub updated_at: Time,
    /// When it was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<Time>,
    /// Why it got its status, where somebody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Which product.
    pub sku: String,
    /// What it is called.
    pub name: String,
    /// How many.
    pub quantity: u32,
    /// For one.
    pub unit_price: Cents,
}

/// A status an order had, or has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    /// Which.
    pub status: Status,
    /// The version that brought it.
    pub version: u32,
    /// Since when.
    pub at: Time,
    /// Why, where somebody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Order {
    /// A placed order with a new random id.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    ///
    /// # Panics
    /// Never: what [`NewOrder::check`] lets through can be counted.
    pub fn place(
        buyer: &str,
        new: NewOrder,
        tax: Rate,
        now: Time,
    ) -> Result<Self, getrandom::Error> {
        let line = |item: &Item| item.unit_price.times(item.quantity);
        let subtotal =
            new.items.iter().map(|item| line(item).expect("checked against the limits")).sum();
        let tax: Cents = Cents::share(subtotal, tax);
        Ok(Self {
            order_id: random_id("ord_", 10)?,
            buyer_id: buyer.to_owned(),
            items: new.items,
            subtotal,
            tax,
            total: Cents(subtotal.0 + tax.0),
            currency: new.currency,
            status: Status::Pending,
            version: 1,
            shipping_address: new.shipping_address,
            created_at: now,
            updated_at: now,
            cancelled_at: None,
            reason: None,
        })
    }

    /// The next version, with another status. Whether it may follow is checked before.
    pub fn become_(&mut self, status: Status, reason: Option<String>, now: Time) {
        self.status = status;
        self.version += 1;
        // Clocks step back; an order's times do not.
        self.updated_at = now.max(self.updated_at);
        self.cancelled_at = (status == Status::Cancelled).then_some(self.updated_at);
        self.reason = reason;
    }
}

/// `prefix` and this many random bytes in hexadecimal.
///
/// # Errors
/// Where the system gives no random numbers.
pub fn random_id(prefix: &str, bytes: usize) -> Result<String, getrandom::Error> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random)?;
    let mut id = prefix.to_owned();
    for byte in random {
        write!(id, "{byte:02x}").expect("a string takes everything");
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::tests::two_items;

    #[test]
    fn sums_are_of_whole_cents() {
        let tax = Rate::from_percent("19").unwrap();
        let order = Order::place("ann", two_items(), tax, Time::from_millis(0)).unwrap();
        // 2 * 19.99 + 3 * 0.10
        assert_eq!(order.subtotal, Cents(4028));
        assert_eq!((order.tax, order.total), (Cents(765), Cents(4793)));
        let json = serde_json::to_string(&order).unwrap();
        assert!(json.contains(r#""subtotal":40.28,"tax":7.65,"total":47.93"#), "{json}");
        assert!(!json.contains("cancelledAt"), "{json}");
        assert_eq!(serde_json::from_str::<Order>(&json).unwrap(), order);
    }

    #[test]
    fn a_change_counts_and_its_time_does_not_go_back() {
        let now = Time::from_millis(5_000);
        let mut order = Order::place("ann", two_items(), Rate::default(), now).unwrap();
        order.become_(Status::Cancelled, Some("late".into()), Time::from_millis(4_000));
        assert_eq!((order.version, order.updated_at), (2, now));
        assert_eq!(order.cancelled_at, Some(now));
    }

    #[test]
    fn ids_differ() {
        let ids = [random_id("ord_", 10).unwrap(), random_id("ord_", 10).unwrap()];
        assert_ne!(ids[0], ids[1]);
        assert_eq!(ids[0].len(), 24);
    }
}
