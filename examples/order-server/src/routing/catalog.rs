//! Records of stock and products. Clients get the fields of the table, not all that
//! another service happens to write.

use bytes::Bytes;
use fanout::{Emission, Room, RouteError};

use super::fields::{Body, Fields};
use crate::access::{DASHBOARD, EVERYONE, INVENTORY};

/// Below this much stock an admin is alerted.
const LOW_STOCK: f64 = 10.0;

const PRODUCT_ID: [&str; 2] = ["productId", "_id"];

/// To one room, about one product.
fn emission(
    fields: &Fields<'_>,
    room: &str,
    event: &'static str,
    body: &Body<'_>,
) -> Result<Emission, RouteError> {
    let emission = Emission::new(Room::new(room)?, event, body.json()?);
    Ok(match fields.text(&PRODUCT_ID) {
        Some(id) => emission.with_key(Bytes::copy_from_slice(id.as_bytes())),
        None => emission,
    })
}

fn body<'a>(fields: &Fields<'a>, names: &[&'a str]) -> Body<'a> {
    let id = fields.body().with_some("productId", fields.text(&PRODUCT_ID));
    names.iter().fold(id, |body, name| body.from(fields, name, &[name]))
}

pub(super) fn inventory(fields: &Fields<'_>, out: &mut Vec<Emission>) -> Result<(), RouteError> {
    let stock = fields.number(&["stock"]);
    let body = body(fields, &["stock", "previousStock", "sku", "productName", "updatedAt"])
        .with_some("isLowStock", stock.map(|stock| stock < LOW_STOCK))
        .with_some("isOutOfStock", stock.map(|stock| stock <= 0.0));
    out.push(emission(fields, INVENTORY, "inventory:updated", &body)?);
    out.push(emission(fields, DASHBOARD, "admin:inventory:updated", &body)?);
    if let Some(stock) = stock.filter(|stock| *stock < LOW_STOCK) {
        out.push(emission(fields, DASHBOARD, "admin:alert", &alert(fields, stock))?);
    }
    Ok(())
}

fn alert<'a>(fields: &Fields<'a>, stock: f64) -> Body<'a> {
    let name = fields.text(&["productName", "sku", "productId", "_id"]);
    let name = name.as_deref().unwrap_or("A product");
    let (severity, message) = if stock <= 0.0 {
        ("critical", format!("{name} is out of stock"))
    } else {
        ("warning", format!("{name} is running low: {stock} left"))
    };
    body(fields, &["stock"])
        .with("type", "inventory")
        .with("severity", severity)
        .with("message", &message)
}

pub(super) fn product_created(
    fields: &Fields<'_>,
    out: &mut Vec<Emission>,
) -> Result<(), RouteError> {
    let body = body(fields, &["name", "sku", "category", "price", "stock", "createdAt"]);
    out.push(emission(fields, DASHBOARD, "admin:product:created", &body)?);
    Ok(())
}

pub(super) fn product_updated(
    fields: &Fields<'_>,
    out: &mut Vec<Emission>,
) -> Result<(), RouteError> {
    let names = ["name", "sku", "category", "price", "stock", "changes", "updatedAt"];
    let to_admin = body(fields, &names);
    out.push(emission(fields, DASHBOARD, "admin:product:updated", &to_admin)?);
    let to_all = body(fields, &["name", "price", "stock", "updatedAt"]);
    out.push(emission(fields, EVERYONE, "product:updated", &to_all)?);
    Ok(())
}
