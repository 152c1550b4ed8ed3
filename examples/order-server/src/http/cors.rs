//! Pages of other origins that are on the list may call the API.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};

use super::Shop;

/// Answers preflights, and names the origin in every answer to one on the list. To
/// others nothing is said, and their browser keeps the answer from them.
pub(super) async fn cors(State(shop): State<Arc<Shop>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let origin = headers.get(header::ORIGIN).filter(|_| shop.origins.allow(headers));
    let allowed = origin.cloned();
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight {
        let mut response = StatusCode::NO_CONTENT.into_response();
        if allowed.is_some() {
            let headers = response.headers_mut();
            let set = HeaderValue::from_static;
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, set("GET, POST, PATCH"));
            let names = "authorization, content-type, idempotency-key";
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, set(names));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, set("600"));
        }
        response
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed {
        let set = HeaderValue::from_static;
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, set("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, set("retry-after"));
    }
    response
}
