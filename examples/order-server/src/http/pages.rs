//! The pages, from the binary: no build step, no network, no folder to deploy.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, header};

use super::Shop;

/// Only what this server serves: no script, style or connection from elsewhere, nothing
/// inline, no text that becomes a script, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
    object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file of the folder `pages`.
struct Page {
    path: &'static str,
    kind: &'static str,
    body: &'static [u8],
}

macro_rules! page {
    ($path:literal, $kind:expr, $file:literal) => {
        Page {
            path: $path,
            kind: $kind,
            body: include_bytes!(concat!("../../pages/", $file)).as_slice(),
        }
    };
}

static PAGES: &[Page] = &[
    page!("/", HTML, "index.html"),
    page!("/orders", HTML, "orders.html"),
    page!("/admin/orders", HTML, "admin.html"),
    page!("/style.css", STYLE, "style.css"),
    page!("/icon.svg", IMAGE, "icon.svg"),
    page!("/api.js", SCRIPT, "api.js"),
    page!("/app.js", SCRIPT, "app.js"),
    page!("/cancel-dialog.js", SCRIPT, "cancel-dialog.js"),
    page!("/connection.js", SCRIPT, "connection.js"),
    page!("/dom.js", SCRIPT, "dom.js"),
    page!("/live-orders.js", SCRIPT, "live-orders.js"),
    page!("/new-orders.js", SCRIPT, "new-orders.js"),
    page!("/order-card.js", SCRIPT, "order-card.js"),
    page!("/order-list.js", SCRIPT, "order-list.js"),
    page!("/orders.js", SCRIPT, "orders.js"),
    page!("/page-admin.js", SCRIPT, "page-admin.js"),
    page!("/page-login.js", SCRIPT, "page-login.js"),
    page!("/page-orders.js", SCRIPT, "page-orders.js"),
    page!("/session.js", SCRIPT, "session.js"),
    page!("/stats.js", SCRIPT, "stats.js"),
    page!("/statuses.js", SCRIPT, "statuses.js"),
    page!("/toasts.js", SCRIPT, "toasts.js"),
    page!("/told.js", SCRIPT, "told.js"),
];

pub(super) fn routes() -> Router<Arc<Shop>> {
    // What the pages connect with is not theirs: it comes with the socket.
    let client = get(async |request: HeaderMap| ws_sink::client::serve(&request));
    PAGES.iter().fold(Router::new().route("/fanout.js", client), |router, page| {
        router.route(page.path, get(async || page.into_response()))
    })
}

impl IntoResponse for &'static Page {
    fn into_response(self) -> Response {
        let mut response = self.body.into_response();
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, self.kind),
            // A new server has new pages at the same paths.
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pages");
        let files = std::fs::read_dir(folder).unwrap().map(|file| {
            let path = file.unwrap().path();
            let kind = match path.extension().and_then(|kind| kind.to_str()) {
                Some("html") => HTML,
                Some("js") => SCRIPT,
                Some("css") => STYLE,
                Some("svg") => IMAGE,
                _ => panic!("{}: which content type?", path.display()),
            };
            (kind, std::fs::read(path).unwrap())
        });
        let served = PAGES.iter().map(|page| (page.kind, page.body.to_vec()));
        assert_eq!(served.collect::<BTreeSet<_>>(), files.collect::<BTreeSet<_>>());
    }
}
