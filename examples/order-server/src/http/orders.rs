//! Orders over HTTP.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::Shop;
use super::body::JsonBody;
use super::caller::Caller;
use super::error::{ApiError, chain};
use crate::access;
use crate::input::{FieldError, NewOrder, NewStatus, check_reason};
use crate::order::Order;
use crate::status::{Status, UnknownStatus};
use crate::store::Page;
use crate::time::Time;
use crate::views::{ORDERS, STATS};

/// Orders of a page that asks for no number, and at most.
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

/// Longest `Idempotency-Key`, in bytes.
const MAX_KEY: usize = 128;

pub(super) async fn place(
    State(shop): State<Arc<Shop>>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    caller.changes()?;
    let key = idempotency_key(&headers)?;
    let new = NewOrder::check(&body, &shop.currency)?;
    if access::rooms_of(caller.subject()).is_err() {
        let message = "the token's subject is too long to be told of orders";
        return Err(ApiError::forbidden(message));
    }
    let order = Order::place(caller.subject(), new, shop.tax, Time::now()).map_err(|error| {
        tracing::error!(error = %chain(&error), "cannot make order ids");
        ApiError::unavailable("orders cannot be named")
    })?;
    let placed = shop.store.place(order, key).await?;
    if !placed.repeated {
        metrics::counter!("order_server_orders_placed_total").increment(1);
    }
    let location = format!("/api/orders/{}", placed.order.order_id);
    let location = [(header::LOCATION, location)];
    Ok((StatusCode::CREATED, location, shop.show(&caller, ORDERS, &placed.order)?).into_response())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, FieldError> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str().map(str::trim) {
        Ok(key) if (1..=MAX_KEY).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => {
            let problem = format!("1 to {MAX_KEY} printable ASCII characters");
            Err(FieldError::new("Idempotency-Key", problem))
        }
    }
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    status: Option<String>,
    limit: Option<String>,
    before: Option<String>,
}

impl ListQuery {
    /// An empty parameter is as good as none: forms send such.
    fn page(&self, buyer: Option<String>) -> Result<Page, FieldError> {
        let given = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        let status = given(&self.status).map(|text| text.parse::<Status>()).transpose();
        let status =
            status.map_err(|error: UnknownStatus| FieldError::new("status", error.to_string()))?;
        let limit = given(&self.limit).map_or(Ok(DEFAULT_LIMIT), |text| text.parse());
        let limit = limit.ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        let limit = limit.ok_or_else(|| {
            FieldError::new("limit", format!("a whole number from 1 to {MAX_LIMIT}"))
        })?;
        let before = given(&self.before).map(|text| text.parse()).transpose();
        let before = before
            .map_err(|_| FieldError::new("before", "give back the `next` of the page before"))?;
        Ok(Page { buyer, status, before, limit })
    }
}

#[derive(Serialize)]
struct ListAnswer {
    orders: Vec<Order>,
    cursor: String,
    next: Option<String>,
}

pub(super) async fn list(
    State(shop): State<Arc<Shop>>,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) =
        query.map_err(|error| ApiError::bad_request(format!("query: {}", error.body_text())))?;
    let page = query.page(caller.sees())?;
    // Before the read: an event is published only after its change is committed, so
    // all that is before this cursor is in what is read now.
    let cursor = (shop.cursor)();
    let listed = shop.store.list(page).await?;
    let next = listed.next.map(|next| next.to_string());
    shop.show(&caller, ORDERS, &ListAnswer { orders: listed.orders, cursor, next })
}

pub(super) async fn find(
    State(shop): State<Arc<Shop>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    shop.show(&caller, ORDERS, &shop.store.find(id, caller.sees()).await?)
}

pub(super) async fn set_status(
    State(shop): State<Arc<Shop>>,
    caller: Caller,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    caller.must_be_admin()?;
    let new = NewStatus::check(&body)?;
    let order = shop.store.change(id, None, new.status, new.reason, Time::now()).await?;
    shop.show(&caller, ORDERS, &order)
}

pub(super) async fn cancel(
    State(shop): State<Arc<Shop>>,
    caller: Caller,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let buyer = caller.changes()?;
    let reason = check_reason(&body)?;
    let order = shop.store.change(id, buyer, Status::Cancelled, reason, Time::now()).await?;
    shop.show(&caller, ORDERS, &order)
}

pub(super) async fn stats(
    State(shop): State<Arc<Shop>>,
    caller: Caller,
) -> Result<Response, ApiError> {
    caller.must_see_all()?;
    let stats = shop.store.stats(shop.currency.clone(), Time::now()).await?;
    shop.show(&caller, STATS, &stats)
}
