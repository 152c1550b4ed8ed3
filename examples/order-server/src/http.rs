//! The server over HTTP: the API for clients, health for machines, pages for people.

mod address;
mod body;
mod caller;
mod cors;
mod error;
mod headers;
mod health;
mod login;
mod metrics;
mod orders;
mod pages;
mod peer;
mod revoke;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use fanout::{Access, Redaction, SourceStatus};
use http::header;
use serde::Serialize;
use ws_sink::handshake::Origins;

use caller::Caller;
use error::ApiError;
pub(crate) use error::chain;
pub use metrics::install as install_metrics;
pub use peer::Peers;

use crate::auth::ShopAuth;
use crate::config::AuthMode;
use crate::control::Control;
use crate::money::Rate;
use crate::rate::RateLimit;
use crate::relay::RelayStatus;
use crate::store::Store;
use crate::views;

/// Most bytes of a request's body.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Where the hub stands: all before it has been published.
pub type CursorNow = dyn Fn() -> String + Send + Sync;

/// What requests are answered with.
#[non_exhaustive]
pub struct Shop {
    /// Orders.
    pub store: Store,
    /// Who a token is of.
    pub auth: Arc<ShopAuth>,
    /// Who may connect.
    pub access: Access,
    /// How much of an order each role sees.
    pub redaction: Redaction,
    /// The way that requests came.
    pub peers: Peers,
    /// Who may log in here.
    pub mode: AuthMode,
    /// Whose pages may call.
    pub origins: Origins,
    /// On an order's items.
    pub tax: Rate,
    /// Of orders that name none.
    pub currency: String,
    /// Changes that a subject may make.
    pub limit: RateLimit,
    /// Logins that an address may make.
    pub logins: RateLimit,
    /// What is said to all servers, and what is void by it.
    pub control: Control,
    /// How the source of events is doing.
    pub source: SourceStatus,
    /// Whether orders are published from here.
    pub relay: RelayStatus,
    /// Taken before a snapshot is read.
    pub cursor: Box<CursorNow>,
    /// When the server was started.
    pub started: Instant,
}

impl Shop {
    /// An answer with as much in it as the caller may see.
    fn show<T: Serialize>(
        &self,
        caller: &Caller,
        name: &str,
        answer: &T,
    ) -> Result<Response, ApiError> {
        let seen = views::seen(&self.redaction, &self.access, &caller.0, name, answer);
        let seen = seen.ok_or_else(|| ApiError::forbidden("there is nothing in it for you"))?;
        let kind = [(header::CONTENT_TYPE, "application/json")];
        Ok((kind, seen.as_str().to_owned()).into_response())
    }
}

/// All routes; `live` are those of the sockets, which are the wiring's.
pub fn routes(shop: Arc<Shop>, live: Router<Arc<Shop>>) -> Router {
    let api = Router::new()
        .route("/api/login", post(login::login))
        .route("/api/logout", post(login::logout))
        .route("/api/ticket", post(login::ticket))
        .route("/api/revoke", post(revoke::revoke))
        .route("/api/orders", post(orders::place).get(orders::list))
        .route("/api/orders/{id}", get(orders::find))
        .route("/api/orders/{id}/status", patch(orders::set_status))
        .route("/api/orders/{id}/cancel", post(orders::cancel))
        .route("/api/stats", get(orders::stats))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    Router::new()
        .merge(api)
        .merge(live)
        .route("/health", get(health::health))
        .route("/livez", get(health::live))
        .route("/health/live", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::render))
        .merge(pages::routes())
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(from_fn(address::check))
        .layer(from_fn_with_state(shop.clone(), cors::cors))
        .layer(from_fn_with_state(shop.clone(), headers::secure))
        .layer(from_fn(metrics::count))
        .with_state(shop)
}
