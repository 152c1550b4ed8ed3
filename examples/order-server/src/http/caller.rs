//! Who makes a request, and whether a page of somebody else made them do it.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::FromRequestParts;
use fanout::{Identity, Role};
use http::request::Parts;
use http::{HeaderMap, header};
use ws_sink::auth::Credential;
use ws_sink::handshake::Origins;

use super::Shop;
use super::error::ApiError;
use crate::access;

/// The cookie that holds a token.
pub(super) const COOKIE: &str = "token";

/// Whoever has a valid token.
pub(super) struct Caller(pub(super) Identity);

impl Caller {
    pub(super) fn subject(&self) -> &str {
        &self.0.subject
    }

    fn is(&self, role: &str) -> bool {
        self.0.roles.contains(&Role::new(role))
    }

    /// Whose orders they see: their own, or as admin or support everybody's.
    pub(super) fn sees(&self) -> Option<String> {
        let all = self.is(access::ADMIN) || self.is(access::SUPPORT);
        (!all).then(|| self.subject().to_owned())
    }

    /// Whose orders they may change: their own, or as admin everybody's.
    ///
    /// # Errors
    /// Where they may change none: support looks on.
    pub(super) fn changes(&self) -> Result<Option<String>, ApiError> {
        if self.is(access::ADMIN) {
            return Ok(None);
        }
        let own = || Some(self.subject().to_owned());
        self.is(access::USER).then(own).ok_or_else(|| {
            ApiError::forbidden("this role looks on: it neither places nor changes orders")
        })
    }

    pub(super) fn must_be_admin(&self) -> Result<(), ApiError> {
        if self.is(access::ADMIN) {
            return Ok(());
        }
        Err(ApiError::forbidden("this is for admins"))
    }

    pub(super) fn must_see_all(&self) -> Result<(), ApiError> {
        if self.sees().is_none() {
            return Ok(());
        }
        Err(ApiError::forbidden("this is for admins and support"))
    }
}

impl FromRequestParts<Arc<Shop>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shop: &Arc<Shop>) -> Result<Self, ApiError> {
        let identity = shop.auth.check(credential(parts, &shop.origins)?).await?;
        // As for sockets: what was revoked is void, roles that were taken away are none.
        let identity = shop.control.validate(identity)?;
        if !parts.method.is_safe() {
            let taken = shop.limit.take(&identity.subject, Instant::now());
            taken.map_err(ApiError::rate_limited)?;
        }
        Ok(Self(identity))
    }
}

/// What a request says who it is by. By the cookie only our own pages and those on the
/// list may change something: a browser adds it to whatever any page asks for.
fn credential<'a>(parts: &'a Parts, origins: &Origins) -> Result<Credential<'a>, ApiError> {
    let missing = || ApiError::unauthenticated("a token is required: log in");
    let credential = Credential::presented(&parts.headers, None)?.ok_or_else(missing)?;
    if !parts.method.is_safe() {
        let mut without_cookie = parts.headers.clone();
        without_cookie.remove(header::COOKIE);
        if Credential::presented(&without_cookie, None)?.is_none() {
            check_origin(&parts.headers, origins)?;
        }
    }
    Ok(credential)
}

/// Refuses what a page of another origin made a browser send.
pub(super) fn check_origin(headers: &HeaderMap, origins: &Origins) -> Result<(), ApiError> {
    if origins.allow(headers) {
        return Ok(());
    }
    Err(ApiError::forbidden("pages of this origin are not on the server's list (CORS_ORIGIN)"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_a_cookie_needs_a_known_origin() {
        let passes = |method: &str, list: &[(&'static str, &'static str)]| {
            let mut request = http::Request::builder().method(method).body(()).unwrap();
            *request.headers_mut() = headers(list);
            credential(&request.into_parts().0, &Origins::default()).is_ok()
        };
        let (own, evil) = (("origin", "http://me"), ("origin", "http://evil"));
        let (host, cookie) = (("host", "me"), ("cookie", "token=abc"));
        assert!(passes("POST", &[host, cookie, own]) && passes("POST", &[host, cookie]));
        assert!(passes("GET", &[host, cookie, evil]));
        assert!(!passes("POST", &[host, cookie, evil]) && !passes("PATCH", &[cookie, evil]));
        // A browser may know a password for a proxy: that is no token.
        let basic = ("authorization", "Basic abc");
        assert!(!passes("POST", &[host, cookie, evil, basic]));
        assert!(passes("POST", &[host, evil, ("authorization", "Bearer abc")]));
        assert!(!passes("GET", &[host]));
    }
}
