//! The opening handshake: what an upgrade asks for, and the answer to it.
//!
//! Pure functions of the request's head; the upgrade itself only sends what they return.
//! A browser cannot read the status of a refused upgrade, so only what no honest client
//! does is refused here. A bad token is none of it: that connection is accepted, and then
//! closed with a code that says why.

mod origin;
mod query;

use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, Response, StatusCode, Version, request::Parts};
use tungstenite::handshake::derive_accept_key;

pub use origin::{Origin, OriginError, Origins};
pub use query::{MAX_ROOMS, Query, QueryError};

/// The native protocol's name in the subprotocol list.
pub const SUBPROTOCOL: &str = "fanout.v1";

const BEARER: &[u8] = b"bearer.";

/// An upgrade that may go on.
#[derive(Clone, Debug)]
pub struct Handshake {
    accept: HeaderValue,
    native: bool,
}

/// Why an upgrade is refused. Tells nothing of what the client sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Only GET upgrades.
    #[error("a WebSocket is opened with GET")]
    Method,
    /// HTTP/1.0, or HTTP/2, which opens WebSockets in another way.
    #[error("a WebSocket is opened over HTTP/1.1")]
    HttpVersion,
    /// Not an upgrade at all, such as a browser pointed at the address.
    #[error("header `{name}` must contain `{token}`: open this address as a WebSocket")]
    NoUpgrade {
        /// Which header.
        name: HeaderName,
        /// What it must contain.
        token: &'static str,
    },
    /// Another version of the protocol, or several.
    #[error("header `Sec-WebSocket-Version` must be 13")]
    Version,
    /// No key, several, or one that is not 16 bytes.
    #[error("header `Sec-WebSocket-Key` must be 16 bytes in base64")]
    Key,
    /// A page of another site.
    #[error("header `Origin` is not one that is allowed here")]
    Origin,
    /// A parameter that is not as it should be.
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl Handshake {
    /// Checks a request's head.
    ///
    /// # Errors
    /// [`Refusal`] names the header that is wrong; [`Refusal::response`] says it to the
    /// client.
    pub fn check(request: &Parts, origins: &Origins) -> Result<Self, Refusal> {
        let headers = &request.headers;
        if request.method != Method::GET {
            return Err(Refusal::Method);
        }
        if request.version != Version::HTTP_11 {
            return Err(Refusal::HttpVersion);
        }
        for (name, token) in [(UPGRADE, "websocket"), (CONNECTION, "upgrade")] {
            if !tokens(headers, &name).any(|given| given.eq_ignore_ascii_case(token.as_bytes())) {
                return Err(Refusal::NoUpgrade { name, token });
            }
        }
        if single(headers, &SEC_WEBSOCKET_VERSION) != Some(b"13") {
            return Err(Refusal::Version);
        }
        let key = single(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
        let key = key.ok_or(Refusal::Key)?;
        if !origins.allow(headers) {
            return Err(Refusal::Origin);
        }
        let accept = HeaderValue::try_from(derive_accept_key(key)).map_err(|_| Refusal::Key)?;
        Ok(Self { accept, native: Protocols::offered(headers).native })
    }

    /// The answer, 101. The subprotocol is echoed only where the client offered it: one
    /// that offers none, or only others, gets the native protocol all the same, and
    /// browsers fail a connection only over an echo that they did not offer.
    pub fn response<B: Default>(&self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        if self.native {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        response
    }
}

impl Refusal {
    /// 400, 403 or 426.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Method
            | Self::HttpVersion
            | Self::NoUpgrade { .. }
            | Self::Key
            | Self::Query(_) => StatusCode::BAD_REQUEST,
            Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Origin => StatusCode::FORBIDDEN,
        }
    }

    /// The answer: status, and what is wrong as text.
    pub fn response<B: From<String>>(&self) -> Response<B> {
        let mut response = Response::new(B::from(format!("{self}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if *self == Self::Version {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            // RFC 9110, 15.5.22: a 426 says what to upgrade to.
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        }
        response
    }
}

/// What is in a request's subprotocol list that concerns us.
#[derive(Clone, Copy, Default)]
pub(crate) struct Protocols<'a> {
    /// Whether [`SUBPROTOCOL`] is offered.
    pub(crate) native: bool,
    /// The token beside it. Never echoed.
    pub(crate) bearer: Option<&'a str>,
}

impl<'a> Protocols<'a> {
    pub(crate) fn offered(headers: &'a HeaderMap) -> Self {
        let native = tokens(headers, &SEC_WEBSOCKET_PROTOCOL)
            .any(|protocol| protocol == SUBPROTOCOL.as_bytes());
        if !native {
            return Self::default();
        }
        let bearer = tokens(headers, &SEC_WEBSOCKET_PROTOCOL)
            .find_map(|protocol| protocol.strip_prefix(BEARER))
            // What is not text is no token; an empty one is refused where it is checked.
            .map(|token| std::str::from_utf8(token).unwrap_or_default());
        Self { native, bearer }
    }
}

/// The elements of a header that is a list, over all lines of it.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The value of a header that must be there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.as_bytes().trim_ascii();
    values.next().is_none().then_some(value)
}

/// Whether it is 16 bytes in base64. They mean nothing, so nobody decodes them.
fn is_key(key: &[u8]) -> bool {
    let alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.strip_suffix(b"==").is_some_and(|key| key.iter().all(alphabet))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// The request of RFC 6455, 1.2, with some headers set, added or (empty) removed.
    fn request(changes: &[(&'static str, &str)]) -> Parts {
        let mut request = Request::get("/ws").body(()).unwrap().into_parts().0;
        let sample = [
            ("host", "server.example.com"),
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ];
        for (name, value) in sample.iter().chain(changes) {
            request.headers.remove(*name);
            if !value.is_empty() {
                request.headers.insert(*name, value.parse().unwrap());
            }
        }
        request
    }

    fn check(changes: &[(&'static str, &str)]) -> Result<Handshake, Refusal> {
        Handshake::check(&request(changes), &Origins::default())
    }

    fn status(changes: &[(&'static str, &str)]) -> u16 {
        check(changes).unwrap_err().status().as_u16()
    }

    #[test]
    fn a_good_request_is_answered_with_its_accept_key() {
        let response: Response<String> = check(&[]).unwrap().response();
        assert_eq!(response.status(), 101);
        let headers = response.headers();
        assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(headers["upgrade"], "websocket");
        assert_eq!(headers["connection"], "Upgrade");
        assert!(!headers.contains_key("sec-websocket-protocol"));
        assert!(check(&[("upgrade", "h2c, WebSocket"), ("connection", "UPGRADE")]).is_ok());
    }

    #[test]
    fn what_is_no_upgrade_is_a_bad_request() {
        assert_eq!(status(&[("upgrade", "")]), 400);
        assert_eq!(status(&[("upgrade", "websockets")]), 400);
        assert_eq!(status(&[("connection", "keep-alive")]), 400);
        let mut post = request(&[]);
        post.method = Method::POST;
        let refusal = Handshake::check(&post, &Origins::default()).unwrap_err();
        assert_eq!((refusal.status().as_u16(), &refusal), (400, &Refusal::Method));
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let mut other = request(&[]);
            other.version = version;
            let refusal = Handshake::check(&other, &Origins::default()).unwrap_err();
            assert_eq!((refusal.status().as_u16(), &refusal), (400, &Refusal::HttpVersion));
        }
    }

    #[test]
    fn another_version_is_told_ours() {
        for version in ["", "8", "13, 8", "013"] {
            let refusal = check(&[("sec-websocket-version", version)]).unwrap_err();
            let response: Response<String> = refusal.response();
            assert_eq!(response.status(), 426);
            assert_eq!(response.headers()["sec-websocket-version"], "13");
            assert_eq!(response.headers()["upgrade"], "websocket");
            assert!(response.body().contains("Sec-WebSocket-Version"));
        }
    }

    #[test]
    fn a_key_is_sixteen_bytes_and_one() {
        let keys = [
            "",
            "x",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZWE=",
            "dGhl-HNhbXBsZSBub25jZQ==",
        ];
        for key in keys {
            assert_eq!(check(&[("sec-websocket-key", key)]).unwrap_err(), Refusal::Key, "{key}");
        }
        let mut twice = request(&[]);
        twice.headers.append(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        assert_eq!(Handshake::check(&twice, &Origins::default()).unwrap_err(), Refusal::Key);
    }

    #[test]
    fn a_page_of_another_site_is_forbidden() {
        assert!(check(&[("origin", "https://server.example.com")]).is_ok());
        assert_eq!(status(&[("origin", "https://evil.example.com")]), 403);
        assert_eq!(status(&[("origin", "null")]), 403);
        let refusal = check(&[("origin", "https://<script>")]).unwrap_err();
        assert!(!refusal.to_string().contains("script"));
    }

    #[test]
    fn only_our_protocol_is_echoed_and_only_where_offered() {
        let echo = |offered| {
            let response =
                check(&[("sec-websocket-protocol", offered)]).unwrap().response::<String>();
            let echo = response.headers().get("sec-websocket-protocol").cloned();
            echo.map(|echo| echo.to_str().unwrap().to_owned())
        };
        assert_eq!(echo("fanout.v1").as_deref(), Some("fanout.v1"));
        assert_eq!(echo("graphql-ws, fanout.v1,bearer.x").as_deref(), Some("fanout.v1"));
        assert_eq!(echo("graphql-ws"), None);
        assert_eq!(echo("bearer.x"), None);
        assert_eq!(echo("Fanout.V1"), None);
    }

    #[test]
    fn the_protocol_list_may_be_in_several_lines() {
        let mut headers = HeaderMap::new();
        headers.append(SEC_WEBSOCKET_PROTOCOL, "bearer.x".parse().unwrap());
        headers.append(SEC_WEBSOCKET_PROTOCOL, "fanout.v1".parse().unwrap());
        assert_eq!(Protocols::offered(&headers).bearer, Some("x"));
    }
}
