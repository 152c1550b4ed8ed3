//! What a person reads: a sentence a status.

/// To the buyer.
pub(super) fn to_buyer(status: &str) -> &'static str {
    match status {
        "pending" => "Your order has been placed",
        "paid" => "Your payment has been received",
        "processing" => "Your order is being prepared",
        "shipped" => "Your order has been shipped",
        "delivered" => "Your order has been delivered",
        "cancelled" => "Your order has been cancelled",
        _ => "Your order has been updated",
    }
}

/// To an admin: which order, of whom.
pub(super) fn to_admin(status: &str, order: Option<&str>, buyer: Option<&str>) -> String {
    let order = order.map_or_else(|| "An order".to_owned(), |id| format!("Order {id}"));
    let of = buyer.map(|buyer| format!(" of {buyer}")).unwrap_or_default();
    let what = match status {
        "pending" => "has been placed",
        "paid" => "has been paid",
        "processing" => "is being prepared",
        "shipped" => "has been shipped",
        "delivered" => "has been delivered",
        "cancelled" => "has been cancelled",
        _ => "has been updated",
    };
    format!("{order}{of} {what}")
}

/// The title of a notification.
pub(super) fn title(status: &str) -> &'static str {
    match status {
        "pending" => "Order placed",
        "shipped" => "Order shipped",
        "delivered" => "Order delivered",
        "cancelled" => "Order cancelled",
        _ => "Order updated",
    }
}
