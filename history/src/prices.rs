//! What must not be in the bytes that somebody gets, found by looking at the bytes alone:
//! neither by the policy nor by the redaction that the server has.

use order_server::access::{ADMIN, SUPPORT};

/// How every amount begins that this checker writes, and nothing else that it writes does.
pub(crate) const AMOUNT: f64 = 7071.25;
const AMOUNT_BYTES: &str = "7071.";

/// What other services write and nobody declares: the admins' alone.
const INTERNAL: [&str; 1] = ["note"];
const PRICES: [&str; 9] = [
    "unitPrice",
    "price",
    "subtotal",
    "tax",
    "total",
    "totalAmount",
    "refundAmount",
    "discount",
    "revenue",
];

/// What is in `json` that this view must never see.
pub(crate) fn hidden(view: &str, json: &str) -> Option<&'static str> {
    let field = |name: &&&str| json.contains(&format!("\"{name}\":"));
    if view == ADMIN {
        return None;
    }
    if let Some(name) = INTERNAL.iter().find(field) {
        return Some(name);
    }
    if view != SUPPORT {
        return None;
    }
    let amount = json.contains(AMOUNT_BYTES).then_some("an amount");
    PRICES.iter().find(field).copied().or(amount)
}

#[cfg(test)]
mod tests {
    use order_server::access::USER;

    use super::*;

    #[test]
    fn support_has_no_price_and_a_user_no_note() {
        let total = r#"{"data":{"total":1}}"#;
        let amount = r#"{"data":{"message":"for 7071.25"}}"#;
        let note = r#"{"data":{"note":"x"}}"#;
        let sees = |view, json| hidden(view, json).is_none();
        assert_eq!([total, amount, note].map(|json| sees(ADMIN, json)), [true, true, true]);
        assert_eq!([total, amount, note].map(|json| sees(SUPPORT, json)), [false, false, false]);
        assert_eq!([total, amount, note].map(|json| sees(USER, json)), [true, true, false]);
        assert!(sees(SUPPORT, r#"{"data":{"status":"paid","totals":7071}}"#));
    }
}
