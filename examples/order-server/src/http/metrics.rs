//! Metrics in Prometheus' text form.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Extensions, HeaderMap, header};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::Shop;
use super::error::ApiError;

/// From a record's time to the sockets: what is normal on one machine, in one place, and when
/// something is wrong.
const DELIVERY_SECONDS: [f64; 13] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the process's recorder at the first call, and tidies it up at every one.
/// Where the process has another recorder already, that one stays, and `/metrics`
/// says so.
pub fn install() {
    let handle = HANDLE.get_or_init(|| {
        let delivery = Matcher::Full("fanout_delivery_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(delivery, &DELIVERY_SECONDS);
        let recorder = builder.expect("there are buckets").build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).is_ok().then_some(handle)
    });
    if let Some(handle) = handle {
        handle.run_upkeep();
    }
}

/// To those networks alone that were given: what a shop does in an hour is nobody else's.
pub(super) async fn render(
    State(shop): State<Arc<Shop>>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    if !shop.peers.may_measure(&headers, &extensions) {
        let message = "metrics are for the networks of --metrics-from alone";
        return ApiError::forbidden(message).into_response();
    }
    match HANDLE.get().and_then(Option::as_ref) {
        Some(handle) => {
            let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
            metrics::gauge!("order_server_tasks").set(tasks as f64);
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], handle.render()).into_response()
        }
        None => ApiError::unavailable("metrics go to another recorder").into_response(),
    }
}

/// Counts a request, by its route and not by its path: the number of series stays
/// small whatever is asked for.
pub(super) async fn count(request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = path.unwrap_or_else(|| "none".to_owned());
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PATCH" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let started = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!("order_server_request_seconds", "route" => route.clone())
        .record(started.elapsed().as_secs_f64());
    metrics::counter!(
        "order_server_requests_total",
        "route" => route, "method" => method, "status" => status
    )
    .increment(1);
    response
}
