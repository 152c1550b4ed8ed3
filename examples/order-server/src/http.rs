//! The server over HTTP: the API for clients, health for machines, pages for people.

mod body;
mod caller;
mod cors;
mod error;
mod health;
mod login;
mod metrics;
mod orders;
mod pages;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, patch, post};
use fanout::{Access, SourceStatus};
use ws_sink::handshake::Origins;

pub(crate) use error::chain;
pub use metrics::install as install_metrics;

use crate::auth::ShopAuth;
use crate::config::AuthMode;
use crate::money::Rate;
use crate::rate::RateLimit;
use crate::relay::RelayStatus;
use crate::store::Store;

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
    /// How the source of events is doing.
    pub source: SourceStatus,
    /// Whether orders are published from here.
    pub relay: RelayStatus,
    /// Taken before a snapshot is read.
    pub cursor: Box<CursorNow>,
    /// When the server was started.
    pub started: Instant,
}

/// All routes but the socket's, which is the wiring's to add.
pub fn routes(shop: Arc<Shop>) -> Router {
    let api = Router::new()
        .route("/api/login", post(login::login))
        .route("/api/ticket", post(login::ticket))
        .route("/api/orders", post(orders::place).get(orders::list))
        .route("/api/orders/{id}", get(orders::find))
        .route("/api/orders/{id}/status", patch(orders::set_status))
        .route("/api/orders/{id}/cancel", post(orders::cancel))
        .route("/api/stats", get(orders::stats))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    Router::new()
        .merge(api)
        .route("/health", get(health::health))
        .route("/livez", get(health::live))
        .route("/health/live", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::render))
        .merge(pages::routes())
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(from_fn_with_state(shop.clone(), cors::cors))
        .layer(from_fn(metrics::count))
        .with_state(shop)
}
