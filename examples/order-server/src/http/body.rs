//! A request's body: JSON, of a bounded size, in a bounded time.

use std::time::Duration;

use axum::body::{Bytes, HttpBody as _};
use axum::extract::{FromRequest, Request};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::MAX_BODY_BYTES;
use super::error::ApiError;

/// How long a client may take to send its body.
const PATIENCE: Duration = Duration::from_secs(10);

/// A body that is one JSON value; one that is missing is an empty object.
pub(super) struct JsonBody(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let json = is_json(request.headers());
        // One that says beforehand that it is too large is not waited for.
        if request.body().size_hint().lower() > MAX_BODY_BYTES as u64 {
            return Err(too_large());
        }
        let read = tokio::time::timeout(PATIENCE, Bytes::from_request(request, state));
        let bytes = match read.await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return Err(too_large());
            }
            Ok(Err(_)) => return Err(ApiError::bad_request("body: cannot be read")),
            Err(_) => {
                let message = format!("body: not sent within {} s", PATIENCE.as_secs());
                return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message));
            }
        };
        if bytes.is_empty() {
            return Ok(Self(Value::Object(Map::new())));
        }
        if !json {
            let message = "Content-Type must be application/json";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(ApiError::new(status, "unsupported_media_type", message));
        }
        let value = serde_json::from_slice(&bytes);
        value.map(Self).map_err(|error| ApiError::bad_request(format!("body: not JSON: {error}")))
    }
}

fn too_large() -> ApiError {
    let message = format!("a body has at most {MAX_BODY_BYTES} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
}

fn is_json(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = media.and_then(|value| value.split(';').next()).map(str::trim);
    media.is_some_and(|media| {
        media.eq_ignore_ascii_case("application/json")
            || media
                .to_ascii_lowercase()
                .strip_prefix("application/")
                .is_some_and(|kind| kind.ends_with("+json"))
    })
}
