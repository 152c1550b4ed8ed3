//! What an address may not say: a token. How long it may be is the door's to check.
//!
//! Addresses end up in the logs of proxies, in histories and in referrers, where a token
//! is anybody's. Whoever puts one there is told so, and nothing else: it would work, and
//! nobody would notice.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use super::error::ApiError;

/// Refuses a query that has a token in it.
pub(super) async fn check(request: Request, next: Next) -> Response {
    match refusal(request.uri().query().unwrap_or_default()) {
        Some(error) => error.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(query: &str) -> Option<ApiError> {
    let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    names.into_iter().any(is_token).then(|| {
        ApiError::bad_request(
            "a token does not belong into an address, where proxies log it: send it as \
             `Authorization: Bearer`, as a subprotocol or in a first frame, or get a ticket \
             (POST /api/ticket). This one is to be replaced",
        )
    })
}

/// `token`, `access_token`, `id_token` and the like, however they are written.
fn is_token(name: &str) -> bool {
    let name = percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase();
    matches!(&*name, "token" | "jwt" | "bearer" | "authorization") || name.ends_with("_token")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_noticed_however_its_name_is_written() {
        for query in [
            "token=x",
            "a=1&access_token=x",
            "TOKEN=x",
            "%74oken=x",
            "id%5Ftoken",
            "room=a&&refresh_token=x&b",
        ] {
            assert!(refusal(query).is_some(), "{query}");
        }
        for query in ["", "ticket=x", "cursor=token", "room=token", "tokens=1", "a=b=token=c"] {
            assert!(refusal(query).is_none(), "{query}");
        }
    }

    #[test]
    fn the_refusal_shows_nothing_of_it() {
        assert!(!format!("{:?}", refusal("token=hunter2")).contains("hunter2"));
    }
}
