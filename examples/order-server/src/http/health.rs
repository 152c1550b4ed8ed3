//! Health: for balancers and for people.
//!
//! Anybody may ask, so nothing is said of where brokers and files are or what they answered:
//! that is in the log.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fanout::SourceStatus;
use http::StatusCode;
use serde_json::{Value, json};

use super::Shop;
use super::error::chain;
use crate::control::Known;
use crate::time::Time;

/// How long the store may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(3);

const UNREADABLE: &str = "Kafka has something that cannot be read";

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

/// Ready once events and revocations are read and orders can be kept; names what is not.
/// Whether this server relays is told and decides nothing: those that stand by serve all the
/// same.
pub(super) async fn ready(State(shop): State<Arc<Shop>>) -> Response {
    let source = self::source(&shop.source);
    let store = match tokio::time::timeout(PATIENCE, shop.store.check()).await {
        Ok(Ok(())) => "ok",
        Ok(Err(error)) => {
            tracing::debug!(error = %chain(&error), "the store is away");
            "away"
        }
        Err(_) => "does not answer",
    };
    let known = shop.control.known();
    let control = control(&known);
    let ready = source == "ok" && control == "ok" && store == "ok";
    let (status, word) = if ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    if !ready {
        let problem = |status: &SourceStatus| status.health().problem;
        let (events, controls) = (problem(&shop.source), problem(known.status()));
        tracing::debug!(source, control, store, events, controls, "not ready");
    }
    let relay = if shop.relay.relays() { "relays" } else { "stands by" };
    let body = json!({"status": word, "source": source, "control": control,
        "store": store, "relay": relay});
    (status, Json(body)).into_response()
}

/// How the control topic is doing. While anything of it cannot be read, such as when it was
/// deleted, what is revoked is not known here: that is not ready.
fn control(known: &Known) -> &'static str {
    match source(known.status()) {
        _ if known.never_again() => "to be restarted",
        "ok" if !known.status().health().whole() => UNREADABLE,
        words => words,
    }
}

/// How a source is doing, in words that are for everybody.
fn source(status: &SourceStatus) -> &'static str {
    let health = status.health();
    match (health.ready(), health.connected) {
        (true, _) => "ok",
        (false, false) => "Kafka does not answer",
        (false, true) if health.caught_up => UNREADABLE,
        (false, true) => "reading what was written before the start",
    }
}
