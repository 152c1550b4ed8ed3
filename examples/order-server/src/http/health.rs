//! Health: for balancers and for people.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::Shop;
use super::error::chain;
use crate::time::Time;

/// How long the store may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn health(State(shop): State<Arc<Shop>>) -> Json<Value> {
    Json(json!({
        "status": "ok",
        "service": "order-server",
        "timestamp": Time::now(),
        "uptime": shop.started.elapsed().as_secs(),
    }))
}

pub(super) async fn live() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Ready once events are read and orders can be kept; names what is not. Whether this
/// server relays is told and decides nothing: those that stand by serve all the same.
pub(super) async fn ready(State(shop): State<Arc<Shop>>) -> Response {
    let source = shop.source.health();
    let source = match (source.ready(), source.problem) {
        (true, _) => "ok".to_owned(),
        (false, Some(problem)) => problem,
        (false, None) if source.connected => "reading what was written before the start".into(),
        (false, None) => "Kafka has not answered yet".to_owned(),
    };
    let store = match tokio::time::timeout(PATIENCE, shop.store.check()).await {
        Ok(Ok(())) => "ok".to_owned(),
        Ok(Err(error)) => chain(&error),
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    let ready = source == "ok" && store == "ok";
    let (status, word) = if ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    let relay = if shop.relay.relays() { "relays" } else { "stands by" };
    let body = json!({"status": word, "source": source, "store": store, "relay": relay});
    (status, Json(body)).into_response()
}
