//! What clients send, checked: each refusal names the field and its limit.

use serde_json::{Map, Value};

use crate::money::{Cents, MoneyError};
use crate::order::Item;
use crate::status::{Status, UnknownStatus};

/// Most items of an order.
pub const MAX_ITEMS: usize = 100;
/// Most pieces of an item.
pub const MAX_QUANTITY: u64 = 10_000;
/// Highest price of one piece.
pub const MAX_UNIT_PRICE: Cents = Cents(100_000_000);
/// Longest `sku`, in characters.
pub const MAX_SKU: usize = 64;
/// Longest `name`, in characters.
pub const MAX_NAME: usize = 200;
/// Longest `reason`, in characters.
pub const MAX_REASON: usize = 500;
/// Longest part of an address, in characters.
pub const MAX_ADDRESS: usize = 500;
/// Most parts of an address.
pub const MAX_ADDRESS_PARTS: usize = 16;

/// Why a request's body is not taken. Retrying cannot help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// Where, as a path: `items[2].quantity`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// An order to be placed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewOrder {
    /// 1 to [`MAX_ITEMS`].
    pub items: Vec<Item>,
    /// A text, or an object of texts.
    pub shipping_address: Option<Value>,
    /// Three capital letters.
    pub currency: String,
}

/// A status to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewStatus {
    /// Which.
    pub status: Status,
    /// Why.
    pub reason: Option<String>,
}

impl NewOrder {
    /// Checks a request's body. Fields that an order has not are passed over: totals
    /// are the server's to count.
    ///
    /// # Errors
    /// [`FieldError`] for the first field that is wrong.
    pub fn check(body: &Value, default_currency: &str) -> Result<Self, FieldError> {
        let body = object(body, "body")?;
        let Some(Value::Array(items)) = body.get("items") else {
            return Err(FieldError::new("items", "a list of 1 to 100 items is required"));
        };
        if items.is_empty() || items.len() > MAX_ITEMS {
            let problem = format!("1 to {MAX_ITEMS} items, not {}", items.len());
            return Err(FieldError::new("items", problem));
        }
        let items = items.iter().enumerate().map(|(i, item)| check_item(item, i));
        Ok(Self {
            items: items.collect::<Result<_, _>>()?,
            shipping_address: check_address(body.get("shippingAddress"))?,
            currency: match body.get("currency") {
                None | Some(Value::Null) => default_currency.to_owned(),
                Some(Value::String(code)) => check_currency(code)
                    .map_err(|problem| FieldError::new("currency", problem))?
                    .to_owned(),
                Some(_) => return Err(FieldError::new("currency", CURRENCY)),
            },
        })
    }
}

impl NewStatus {
    /// Checks a request's body.
    ///
    /// # Errors
    /// [`FieldError`] for the first field that is wrong.
    pub fn check(body: &Value) -> Result<Self, FieldError> {
        let fields = object(body, "body")?;
        let status = text(fields, "status", "status", 20)?;
        let status = status
            .parse()
            .map_err(|error: UnknownStatus| FieldError::new("status", error.to_string()))?;
        Ok(Self { status, reason: check_reason(body)? })
    }
}

/// The field `reason` of a body, where it has one; an empty one is none.
///
/// # Errors
/// [`FieldError`] where it is no text, or too long.
pub fn check_reason(body: &Value) -> Result<Option<String>, FieldError> {
    let fields = object(body, "body")?;
    match fields.get("reason") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(reason)) if reason.trim().is_empty() => Ok(None),
        Some(_) => text(fields, "reason", "reason", MAX_REASON).map(Some),
    }
}

const CURRENCY: &str = "three capital letters (ISO 4217) such as EUR";

/// Checks a currency's code.
///
/// # Errors
/// Says what a code looks like.
pub fn check_currency(code: &str) -> Result<&str, &'static str> {
    let good = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if good { Ok(code) } else { Err(CURRENCY) }
}

/// A required text field, trimmed, of 1 to `max` characters on one line.
pub(crate) fn text(
    fields: &Map<String, Value>,
    name: &str,
    path: &str,
    max: usize,
) -> Result<String, FieldError> {
    let problem = || format!("a text of 1 to {max} characters");
    match fields.get(name) {
        Some(Value::String(text)) => {
            let text = text.trim();
            let len = text.chars().count();
            if len == 0 || len > max {
                return Err(FieldError::new(path, format!("{}, not {len}", problem())));
            }
            if text.chars().any(|c| c.is_control() && c != '\n') {
                return Err(FieldError::new(path, "control characters are not allowed"));
            }
            Ok(text.to_owned())
        }
        None | Some(Value::Null) => {
            Err(FieldError::new(path, format!("{} is required", problem())))
        }
        Some(_) => Err(FieldError::new(path, format!("must be {}", problem()))),
    }
}

pub(crate) fn object<'a>(
    value: &'a Value,
    path: &str,
) -> Result<&'a Map<String, Value>, FieldError> {
    value.as_object().ok_or_else(|| FieldError::new(path, "must be a JSON object"))
}

fn check_item(item: &Value, index: usize) -> Result<Item, FieldError> {
    let path = |name: &str| format!("items[{index}].{name}");
    let fields = object(item, &format!("items[{index}]"))?;
    let quantity = fields.get("quantity").and_then(Value::as_u64);
    let quantity = quantity.filter(|n| (1..=MAX_QUANTITY).contains(n)).ok_or_else(|| {
        FieldError::new(path("quantity"), format!("a whole number from 1 to {MAX_QUANTITY}"))
    })?;
    Ok(Item {
        sku: text(fields, "sku", &path("sku"), MAX_SKU)?,
        name: text(fields, "name", &path("name"), MAX_NAME)?,
        quantity: quantity as u32,
        unit_price: check_price(fields.get("unitPrice"))
            .map_err(|problem| FieldError::new(path("unitPrice"), problem))?,
    })
}

fn check_price(value: Option<&Value>) -> Result<Cents, String> {
    let range = || format!("a number from 0 to {MAX_UNIT_PRICE} with at most two decimals");
    let Some(Value::Number(number)) = value else { return Err(range()) };
    match number.to_string().parse() {
        Ok(price) if (Cents(0)..=MAX_UNIT_PRICE).contains(&price) => Ok(price),
        Err(error @ MoneyError::TooFine) => Err(format!("{}: it has {error}", range())),
        Ok(_) | Err(_) => Err(range()),
    }
}

fn check_address(value: Option<&Value>) -> Result<Option<Value>, FieldError> {
    const NAME: &str = "shippingAddress";
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(address)) => {
            let only = Map::from_iter([(NAME.to_owned(), Value::from(address.as_str()))]);
            text(&only, NAME, NAME, MAX_ADDRESS).map(|address| Some(address.into()))
        }
        Some(Value::Object(parts)) => {
            if parts.len() > MAX_ADDRESS_PARTS {
                let problem = format!("at most {MAX_ADDRESS_PARTS} parts, not {}", parts.len());
                return Err(FieldError::new(NAME, problem));
            }
            for (name, part) in parts {
                let len = match part {
                    Value::String(text) => text.chars().count(),
                    Value::Null | Value::Number(_) => 0,
                    _ => return Err(FieldError::new(NAME, "its parts must be texts")),
                };
                if len > MAX_ADDRESS || name.chars().count() > MAX_SKU {
                    let problem = format!("parts of at most {MAX_ADDRESS} characters");
                    return Err(FieldError::new(NAME, problem));
                }
            }
            Ok(value.cloned())
        }
        Some(_) => Err(FieldError::new(NAME, "must be a text, or an object of texts")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn two_items() -> NewOrder {
        let body = json!({"items": [
            {"sku": "A", "name": "Apple", "quantity": 2, "unitPrice": 19.99},
            {"sku": "B", "name": "Bean", "quantity": 3, "unitPrice": 0.1},
        ]});
        NewOrder::check(&body, "EUR").unwrap()
    }

    fn with(field: &str, value: Value) -> Value {
        let mut item = json!({"sku": "A", "name": "Apple", "quantity": 1, "unitPrice": 1});
        item[field] = value;
        json!({"items": [item]})
    }

    #[test]
    fn what_is_within_the_limits_is_taken() {
        for body in [
            with("quantity", json!(10_000)),
            with("unitPrice", json!(1_000_000)),
            with("unitPrice", json!(0)),
            with("sku", json!("x".repeat(64))),
            with("more", json!([1])),
        ] {
            assert!(NewOrder::check(&body, "EUR").is_ok(), "{body}");
        }
        let mut order = with("sku", json!("  A "));
        order["currency"] = json!("USD");
        order["shippingAddress"] = json!({"street": "Main 1", "zip": 10_115});
        let order = NewOrder::check(&order, "EUR").unwrap();
        assert_eq!((order.items[0].sku.as_str(), order.currency.as_str()), ("A", "USD"));
        assert!(order.shipping_address.is_some());
    }

    #[test]
    fn each_refusal_names_its_field() {
        let order = |field: &str, value: Value| {
            let mut body = with("sku", json!("A"));
            body[field] = value;
            body
        };
        for (body, field) in [
            (json!([]), "body"),
            (json!({}), "items"),
            (json!({"items": []}), "items"),
            (json!({"items": vec![1; 101]}), "items"),
            (json!({"items": [1]}), "items[0]"),
            (with("sku", json!("")), "items[0].sku"),
            (with("sku", json!("x".repeat(65))), "items[0].sku"),
            (with("sku", json!(null)), "items[0].sku"),
            (with("name", json!("a\u{7}b")), "items[0].name"),
            (with("quantity", json!(0)), "items[0].quantity"),
            (with("quantity", json!(-1)), "items[0].quantity"),
            (with("quantity", json!(1.5)), "items[0].quantity"),
            (with("quantity", json!(10_001)), "items[0].quantity"),
            (with("quantity", json!("1")), "items[0].quantity"),
            (with("unitPrice", json!(-0.01)), "items[0].unitPrice"),
            (with("unitPrice", json!(0.001)), "items[0].unitPrice"),
            (with("unitPrice", json!(1_000_000.01)), "items[0].unitPrice"),
            (with("unitPrice", json!(1e300)), "items[0].unitPrice"),
            (with("unitPrice", json!("1")), "items[0].unitPrice"),
            (order("currency", json!("eur")), "currency"),
            (order("currency", json!("EURO")), "currency"),
            (order("currency", json!(1)), "currency"),
            (order("shippingAddress", json!("")), "shippingAddress"),
            (order("shippingAddress", json!(7)), "shippingAddress"),
            (order("shippingAddress", json!({"a": []})), "shippingAddress"),
            (order("shippingAddress", json!({"a": "x".repeat(501)})), "shippingAddress"),
        ] {
            let error = NewOrder::check(&body, "EUR").unwrap_err();
            assert_eq!(error.field, field, "{body}: {error}");
        }
    }

    #[test]
    fn statuses_and_reasons() {
        let good = NewStatus::check(&json!({"status": "paid", "reason": " wire "})).unwrap();
        assert_eq!((good.status, good.reason.as_deref()), (Status::Paid, Some("wire")));
        for (body, field) in [
            (json!({}), "status"),
            (json!({"status": "lost"}), "status"),
            (json!({"status": "paid", "reason": 1}), "reason"),
            (json!({"status": "paid", "reason": "x".repeat(501)}), "reason"),
        ] {
            assert_eq!(NewStatus::check(&body).unwrap_err().field, field, "{body}");
        }
        assert_eq!(check_reason(&json!({"reason": "  "})), Ok(None));
    }
}
