//! The browser client, `fanout.js`, to be served beside the socket.
//!
//! It is part of this crate because the two speak one protocol: a server and the client
//! that it serves never differ in version. It has no dependency and no build step, so it
//! works as it is in `<script type="module">`.
//!
//! ```no_run
//! use axum::{Router, extract::Request, routing::get};
//!
//! let app: Router = Router::new()
//!     .route("/fanout.js", get(async |r: Request| ws_sink::client::serve(r.headers())));
//! ```

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// The module, as text.
pub const SCRIPT: &str = include_str!("../client/fanout.js");

/// Its `Content-Type`.
pub const CONTENT_TYPE: &str = "text/javascript; charset=utf-8";

/// Its `ETag`, quotes included: the same as long as the text is.
pub fn etag() -> &'static str {
    // FNV-1a: two versions that follow each other are to be told apart, and nobody gains
    // by making two that are not.
    static ETAG: LazyLock<String> = LazyLock::new(|| {
        let hash = SCRIPT.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("\"{hash:016x}\"")
    });
    &ETAG
}

/// Answers a GET: the script, or 304 to who has it already (`If-None-Match`).
///
/// Browsers ask each time: a new server has a new client at the same path.
pub fn serve(request: &HeaderMap) -> Response<String> {
    let known = has(request);
    let mut response = Response::new(if known { String::new() } else { SCRIPT.to_owned() });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::ETAG, etag()),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether `If-None-Match` names this version. A proxy that compresses makes the tag weak.
fn has(request: &HeaderMap) -> bool {
    let tags = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    tags.flat_map(|tags| tags.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == etag() || tag == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_with(tags: &'static str) -> Response<String> {
        let mut request = HeaderMap::new();
        request.insert(header::IF_NONE_MATCH, HeaderValue::from_static(tags));
        serve(&request)
    }

    #[test]
    fn it_is_served_with_what_a_browser_asks_for() {
        let response = serve(&HeaderMap::new());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], CONTENT_TYPE);
        assert_eq!(response.headers()["etag"], etag());
        assert!(response.body().contains("export class Fanout "));
    }

    #[test]
    fn who_has_it_is_not_sent_it_again() {
        let weak = format!("\"x\", W/{}", etag()).leak();
        for tags in [etag(), weak, "*"] {
            let response = asked_with(tags);
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{tags}");
            assert_eq!(response.headers()["etag"], etag());
            assert!(response.body().is_empty());
        }
        for tags in ["", "\"\"", "\"x\"", "x"] {
            assert_eq!(asked_with(tags).status(), StatusCode::OK, "{tags}");
        }
    }

    #[test]
    fn the_types_and_the_package_are_of_what_is_served() {
        let types = include_str!("../client/fanout.d.ts");
        for name in ["class Fanout", "class FanoutError", "function comeBackAfter"] {
            assert!(SCRIPT.contains(&format!("export {name}")), "{name}");
            assert!(types.contains(&format!("export {name}")), "{name}");
        }
        let package: serde_json::Value =
            serde_json::from_str(include_str!("../client/package.json")).unwrap();
        assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(package["exports"]["."]["default"], "./fanout.js");
    }
}
