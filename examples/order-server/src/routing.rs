//! From a record to what browsers get: the shop's tables, as a pure function.
//!
//! A topic's emissions come in a fixed order, and nothing but the record decides:
//! positions count emissions, so every node and every replay must agree.
//! `timestamp` is the record's time for the same reason.
//!
//! Records of other services are partial and name things differently; what a record
//! lacks is left out, and what it has is passed on.

mod catalog;
mod fields;
mod orders;
mod sentences;

use fanout::{Emission, Event, RouteError, Router};

use crate::record::topics;
use fields::Fields;

/// The router of the shop.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShopRouter;

impl Router for ShopRouter {
    fn route(&self, event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
        let fields = Fields::read(event)?;
        match event.topic() {
            topics::ORDER_CREATED => orders::created(&fields, out),
            topics::ORDER_CANCELLED => orders::cancelled(&fields, out),
            topics::ORDER_UPDATED => orders::updated(&fields, None, out),
            topics::ORDER_PAID => orders::updated(&fields, Some(orders::PAID), out),
            topics::ORDER_PROCESSING => orders::updated(&fields, Some(orders::PROCESSING), out),
            topics::ORDER_SHIPPED => orders::updated(&fields, Some(orders::SHIPPED), out),
            topics::ORDER_DELIVERED => orders::updated(&fields, Some(orders::DELIVERED), out),
            topics::INVENTORY_UPDATED => catalog::inventory(&fields, out),
            topics::PRODUCT_CREATED => catalog::product_created(&fields, out),
            topics::PRODUCT_UPDATED => catalog::product_updated(&fields, out),
            other => Err(format!("topic `{other}` has no route").into()),
        }
    }
}

#[cfg(test)]
mod tests;
