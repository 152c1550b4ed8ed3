//! Taking rights away: by admins, on all servers at once.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fanout::Revocation;
use http::StatusCode;
use serde_json::{Map, Value};
use ws_sink::auth::MAX_SUBJECT_BYTES;

use super::Shop;
use super::body::JsonBody;
use super::caller::Caller;
use super::error::{ApiError, chain};
use crate::input::{FieldError, object};

/// Longest name of a role or of a connection, in bytes.
const MAX_NAME: usize = 100;

/// Writes it to the control topic: from there it reaches every server, and this one, in a
/// moment. 202 with what was written.
pub(super) async fn revoke(
    State(shop): State<Arc<Shop>>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    caller.must_be_admin()?;
    let revocation = check(&body, SystemTime::now())?;
    let written = shop.control.revoke(&revocation).await.map_err(|error| {
        tracing::warn!(error = %chain(&error), "a revocation was not written");
        ApiError::unavailable("Kafka does not answer: it is not known to be revoked, try again")
    })?;
    metrics::counter!("order_server_revocations_total").increment(1);
    tracing::info!(by = caller.subject(), what = written.as_str(), "revoked");
    let written: Value = serde_json::from_str(written.as_str()).expect("it was written as JSON");
    Ok((StatusCode::ACCEPTED, Json(written)).into_response())
}

/// A subject, one of its roles, or a connection; and nothing else, lest somebody believe
/// that it counted.
fn check(body: &Value, now: SystemTime) -> Result<Revocation, FieldError> {
    let fields = object(body, "body")?;
    let known = ["subject", "role", "connection"];
    if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        // Not the name itself: what is put in the wrong place may be a token.
        let len = name.len();
        let problem = format!("a field of {len} bytes is none of `subject`, `role`, `connection`");
        return Err(FieldError::new("body", problem));
    }
    let subject = exact(fields, "subject", MAX_SUBJECT_BYTES)?;
    let role = exact(fields, "role", MAX_NAME)?;
    let connection = exact(fields, "connection", MAX_NAME)?;
    match (subject, role, connection) {
        (Some(subject), None, None) => {
            Ok(Revocation::Subject { subject: subject.into(), before: now })
        }
        (Some(subject), Some(role), None) => {
            let (subject, role) = (subject.into(), fanout::Role::from(role));
            Ok(Revocation::Role { subject, role, before: now })
        }
        (None, None, Some(connection)) => {
            let id = connection.parse();
            let id =
                id.map_err(|_| FieldError::new("connection", "as `welcome` has told the client"))?;
            Ok(Revocation::Connection(id))
        }
        _ => Err(FieldError::new(
            "body",
            "give `subject`, with or without `role`, or `connection` alone",
        )),
    }
}

/// A text as it is, where it is there: a subject with a space too many is another one.
fn exact<'a>(
    fields: &'a Map<String, Value>,
    name: &'static str,
    max: usize,
) -> Result<Option<&'a str>, FieldError> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if (1..=max).contains(&text.len()) => Ok(Some(text)),
        Some(_) => Err(FieldError::new(name, format!("a text of 1 to {max} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_subject_a_role_or_a_connection() {
        let now = SystemTime::now();
        let ann: Arc<str> = "ann".into();
        let read = |body: Value| check(&body, now).map_err(|error| error.field);
        let subject = Revocation::Subject { subject: ann.clone(), before: now };
        assert_eq!(read(json!({"subject": "ann"})), Ok(subject));
        let role = Revocation::Role { subject: ann, role: "admin".into(), before: now };
        assert_eq!(read(json!({"subject": "ann", "role": "admin"})), Ok(role));
        for (body, field) in [
            (json!({}), "body"),
            (json!([]), "body"),
            (json!({"role": "admin"}), "body"),
            (json!({"subject": "ann", "connection": "1-1-1-1"}), "body"),
            (json!({"subject": "ann", "before": 7}), "body"),
            (json!({"subject": ""}), "subject"),
            (json!({"subject": null}), "subject"),
            (json!({"subject": "x".repeat(257)}), "subject"),
            (json!({"subject": "ann", "role": 7}), "role"),
            (json!({"connection": "not one"}), "connection"),
        ] {
            assert_eq!(read(body.clone()), Err(field.into()), "{body}");
        }
        let error = check(&json!({"hunter2": 1}), now).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
