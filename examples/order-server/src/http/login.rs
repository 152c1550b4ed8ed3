//! Logging in during development, logging out, and tickets.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use fanout::Identity;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::Shop;
use super::body::JsonBody;
use super::caller::{COOKIE, Caller, check_origin};
use super::error::{ApiError, chain};
use super::peer;
use crate::access;
use crate::auth::Person;
use crate::config::AuthMode;
use crate::input::{FieldError, object, text};
use crate::tickets::TicketError;

/// Longest e-mail; what makes a room's name too long is refused beside it.
const MAX_EMAIL: usize = 100;
const MAX_NAME: usize = 100;

/// By which address, and whether over TLS.
pub(super) struct Asked {
    by: String,
    secure: &'static str,
}

impl FromRequestParts<Arc<Shop>> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, shop: &Arc<Shop>) -> Result<Self, Infallible> {
        let over_tls = shop.peers.over_tls(&parts.headers, &parts.extensions);
        let secure = if over_tls { "; Secure" } else { "" };
        Ok(Self { by: peer::bucket(&parts.extensions), secure })
    }
}

pub(super) async fn login(
    State(shop): State<Arc<Shop>>,
    asked: Asked,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    if shop.mode != AuthMode::Dev {
        let message = "nobody logs in here: get a token from whoever signs them";
        return Err(ApiError::forbidden(message));
    }
    check_origin(&headers, &shop.origins)?;
    shop.logins.take(&asked.by, Instant::now()).map_err(ApiError::rate_limited)?;
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
    let cookie = cookie(&signed.token, signed.life, &asked);
    let answer = json!({
        "token": signed.token,
        "subject": person.email,
        "roles": [role],
        "expiresAt": signed.expires_at,
    });
    Ok(([(header::SET_COOKIE, cookie)], Json(answer)).into_response())
}

/// Takes the cookie away, whoever it is of. The token itself stays good until it expires or
/// is revoked: other tabs and clients may have it too.
pub(super) async fn logout(
    State(shop): State<Arc<Shop>>,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    // Else any page could log people out.
    check_origin(&headers, &shop.origins)?;
    let cookie = cookie("", Duration::ZERO, &asked);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Scripts cannot read it, and other sites' forms do not bring it along.
fn cookie(token: &str, life: Duration, asked: &Asked) -> HeaderValue {
    let (life, secure) = (life.as_secs(), asked.secure);
    let text = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={life}{secure}");
    let mut cookie = HeaderValue::try_from(text).expect("a token is base 64");
    cookie.set_sensitive(true);
    cookie
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
        Some(Value::String(role)) if role == access::SUPPORT => access::SUPPORT,
        Some(Value::String(role)) if role == access::USER => access::USER,
        Some(_) => return Err(FieldError::new("role", "`admin`, `support` or `user`")),
    };
    Ok((Person { email, name }, role))
}

pub(super) async fn ticket(
    State(shop): State<Arc<Shop>>,
    caller: Caller,
) -> Result<Response, ApiError> {
    match shop.auth.tickets.issue(caller.0, Instant::now()) {
        Ok(ticket) => Ok(Json(json!({"ticket": ticket})).into_response()),
        Err(TicketError::TooManyOfSubject { wait }) => Err(ApiError::rate_limited(wait)),
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
        assert_eq!(role(json!({"email": "admin@x", "role": "support"})), Ok("support"));
        assert_eq!(role(json!({"email": "ann@x", "role": "root"})), Err("role".into()));
        assert_eq!(role(json!({"email": " "})), Err("email".into()));
        assert_eq!(role(json!({"email": "x".repeat(101)})), Err("email".into()));
        assert_eq!(role(json!({"email": "a", "name": 7})), Err("name".into()));
        assert_eq!(check(&json!({"email": " Ann@X "})).unwrap().0.email, "ann@x");
    }
}
