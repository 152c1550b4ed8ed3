//! What browsers are told of every answer, whatever it is.
//!
//! An answer that says nothing itself gets the strictest: it is kept nowhere, runs nothing,
//! and stands in no frame. Pages say what they need beyond that.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue, header};

use super::Shop;

/// For what is no page.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// Nothing here needs a device.
const NO_DEVICES: &str = "camera=(), display-capture=(), geolocation=(), microphone=(), \
    payment=(), publickey-credentials-get=(), usb=()";

/// A year. Not for subdomains, which are not this server's to speak for.
const HSTS: &str = "max-age=31536000";

const ALWAYS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), NO_DEVICES),
];

const UNLESS_SAID: [(HeaderName, &str); 2] =
    [(header::CACHE_CONTROL, "no-store"), (header::CONTENT_SECURITY_POLICY, NOTHING)];

/// Adds them. HSTS only over TLS: elsewhere browsers pass it over, and must.
pub(super) async fn secure(
    State(shop): State<Arc<Shop>>,
    request: Request,
    next: Next,
) -> Response {
    let over_tls = shop.peers.over_tls(request.headers(), request.extensions());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in UNLESS_SAID {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if over_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
    response
}
