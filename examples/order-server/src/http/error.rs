//! What goes wrong, as clients are told: `{"error":{"code","message"}}`.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::control::Void;
use crate::input::FieldError;
use crate::store::StoreError;
use ws_sink::auth::AuthError;

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    pub(super) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
    }

    pub(super) fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn rate_limited(after: Duration) -> Self {
        let message = "too many changes; wait as long as Retry-After says";
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
        Self { retry_after: Some(after), ..error }
    }

    pub(super) fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
        Self { retry_after: Some(Duration::from_secs(1)), ..error }
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => {
                Self::new(StatusCode::NOT_FOUND, "not_found", error.to_string())
            }
            StoreError::Transition(_) => {
                Self::new(StatusCode::CONFLICT, "bad_transition", error.to_string())
            }
            StoreError::KeyReused => {
                Self::new(StatusCode::CONFLICT, "idempotency_key_reused", error.to_string())
            }
            error => {
                // What exactly is wrong is for the log, not for whoever asks.
                tracing::warn!(error = %chain(&error), "the store is away");
                Self::unavailable("the store is away; nothing was done, try again")
            }
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Expired => {
                let message = "the token has expired: log in again";
                Self::new(StatusCode::UNAUTHORIZED, "token_expired", message)
            }
            AuthError::Unavailable(_) => {
                tracing::warn!(error = %chain(&error), "nobody can be vouched for");
                Self::unavailable("tokens cannot be checked now")
            }
            error => Self::unauthenticated(error.to_string()),
        }
    }
}

impl From<Void> for ApiError {
    fn from(void: Void) -> Self {
        match void {
            Void::Revoked => Self::new(
                StatusCode::UNAUTHORIZED,
                "revoked",
                "the token was revoked: log in again, if you still may",
            ),
            Void::Outdated => Self::new(
                StatusCode::UNAUTHORIZED,
                "token_expired",
                "the token is too old: log in again",
            ),
            Void::NoRole => Self::forbidden("none of the token's roles may do anything here"),
            Void::Unknown => Self::unavailable(
                "it is not known yet whether this token was revoked: try again, or log in anew",
            ),
        }
    }
}

/// An error and its sources, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message}});
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            let secs = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, secs.max(1).into());
        }
        response
    }
}

pub(super) async fn no_route() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
}

pub(super) async fn no_method() -> ApiError {
    let message = "this path does not answer to this method";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
