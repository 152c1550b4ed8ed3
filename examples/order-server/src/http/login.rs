//! Logging in during development, and tickets.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fanout::Identity;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use super::Shop;
use super::body::JsonBody;
use super::caller::{COOKIE, Caller, check_origin};
use super::error::{ApiError, chain};
use crate::access;
use crate::auth::Person;
use crate::config::AuthMode;
use crate::input::{FieldError, object, text};
use crate::tickets::TicketError;

/// Longest e-mail; what makes a room's name too long is refused beside it.
const MAX_EMAIL: usize = 100;
const MAX_NAME: usize = 100;

pub(super) async fn login(
    State(shop): State<Arc<Shop>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    if shop.mode != AuthMode::Dev {
        let message = "nobody logs in here: get a token from whoever signs them";
        return Err(ApiError::forbidden(message));
    }
    check_origin(&headers, &shop.origins)?;
    let (person, role) = check(&body)?;
    let identity = Identity::new(person.email.as_str(), [role]);
    let fits = shop.access.rights(&identity).is_ok() && access::rooms_of(&person.email).is_ok();
    if !fits {
        let problem = "too long once its special characters are escaped";
        return Err(FieldError::new("email", problem).into());
    }
    let signed = shop.auth.sign(&person, role).map_err(|error| {
        tracing::error!(error = %chain(&error), "cannot sign tokens");
        ApiError::unavailable("tokens cannot be signed")
    })?;
    let cookie = format!(
        "{COOKIE}={}; Path=/; HttpOnly; SameSite=Lax; Max-Age={}",
        signed.token,
        signed.life.as_secs()
    );
    let answer = json!({
        "token": signed.token,
        "subject": person.email,
        "roles": [role],
        "expiresAt": signed.expires_at,
    });
    let mut response = super::orders::uncached(Json(answer));
    let cookie = HeaderValue::try_from(cookie).expect("a token is base 64");
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Who wants to log in, and as what: admin who says so, or has `admin` in the e-mail.
/// Anybody may, which is why this is for development only.
fn check(body: &Value) -> Result<(Person, &'static str), FieldError> {
    let fields = object(body, "body")?;
    let email = text(fields, "email", "email", MAX_EMAIL)?.to_lowercase();
    let name = match fields.get("name") {
        None | Some(Value::Null) => None,
        Some(_) => Some(text(fields, "name", "name", MAX_NAME)?),
    };
    let role = match fields.get("role") {
        None | Some(Value::Null) if email.contains("admin") => access::ADMIN,
        None | Some(Value::Null) => access::USER,
        Some(Value::String(role)) if role == access::ADMIN => access::ADMIN,
        Some(Value::String(role)) if role == access::USER => access::USER,
        Some(_) => return Err(FieldError::new("role", "either `admin` or `user`")),
    };
    Ok((Person { email, name }, role))
}

pub(super) async fn ticket(
    State(shop): State<Arc<Shop>>,
    caller: Caller,
) -> Result<Response, ApiError> {
    match shop.auth.tickets.issue(caller.0, Instant::now()) {
        Ok(ticket) => Ok(super::orders::uncached(Json(json!({"ticket": ticket}))).into_response()),
        Err(error @ TicketError::TooMany) => Err(ApiError::unavailable(error.to_string())),
        Err(error) => {
            tracing::error!(error = %chain(&error), "cannot make tickets");
            Err(ApiError::unavailable("tickets cannot be made"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_admin() {
        let role = |body: Value| check(&body).map(|(_, role)| role).map_err(|error| error.field);
        assert_eq!(role(json!({"email": "ann@x"})), Ok("user"));
        assert_eq!(role(json!({"email": "Admin@x"})), Ok("admin"));
        assert_eq!(role(json!({"email": "ann@x", "role": "admin"})), Ok("admin"));
        assert_eq!(role(json!({"email": "ann@x", "role": "root"})), Err("role".into()));
        assert_eq!(role(json!({"email": " "})), Err("email".into()));
        assert_eq!(role(json!({"email": "x".repeat(101)})), Err("email".into()));
        assert_eq!(role(json!({"email": "a", "name": 7})), Err("name".into()));
        assert_eq!(check(&json!({"email": " Ann@X "})).unwrap().0.email, "ann@x");
    }
}
