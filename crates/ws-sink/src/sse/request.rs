//! What asks for events, and what of it is refused by a status.
//!
//! An `EventSource` does not try again after an HTTP error, and cannot read it: only what
//! no honest client does, or what nobody can be let in for now, is answered so.

use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode, request::Parts};

use crate::handshake::{Origins, Query, Refusal};

/// The media type of the answer.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// The place that an `EventSource` comes back with: the last `id` that it was given.
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Why a request is refused. Tells nothing of what the client sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("events are asked for with GET")]
    Method,
    #[error("header `Accept` must allow `{EVENT_STREAM}`")]
    NotAcceptable,
    #[error(transparent)]
    Refusal(#[from] Refusal),
}

/// Checks a request's head. In what it returns, what the client has is the cursor.
pub(crate) fn check(head: &mut Parts, origins: &Origins) -> Result<Query, Refused> {
    if ![Method::GET, Method::HEAD].contains(&head.method) {
        return Err(Refused::Method);
    }
    if !accepts(&head.headers) {
        return Err(Refused::NotAcceptable);
    }
    // HTTP/2 has the host elsewhere.
    if let Some(authority) = head.uri.authority()
        && !head.headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::try_from(authority.as_str())
    {
        head.headers.insert(HOST, host);
    }
    if !origins.allow(&head.headers) {
        return Err(Refusal::Origin.into());
    }
    let mut query = Query::parse(head.uri.query()).map_err(Refusal::from)?;
    // One that cannot be read, for whatever reason, is a gap and not an error.
    let id = head.headers.get(LAST_EVENT_ID).map(|id| String::from_utf8_lossy(id.as_bytes()));
    if let Some(id) = id.filter(|id| !id.is_empty()) {
        query.cursor = Some(id.into_owned());
    }
    Ok(query)
}

impl Refused {
    /// The answer: status, and what is wrong as text.
    pub(crate) fn response<B: From<String>>(&self) -> Response<B> {
        let status = match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::Refusal(refusal) => return refusal.response(),
        };
        let mut response = Response::new(B::from(format!("{self}\n")));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if *self == Self::Method {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

/// Whether an event stream is among what the client takes; one that says nothing takes
/// anything.
fn accepts(headers: &HeaderMap) -> bool {
    if !headers.contains_key(ACCEPT) {
        return true;
    }
    let lines = headers.get_all(ACCEPT).iter();
    let ranges = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut types = ranges.map(|range| {
        let end = range.iter().position(|byte| *byte == b';').unwrap_or(range.len());
        range[..end].trim_ascii()
    });
    types.any(|range| {
        [EVENT_STREAM, "text/*", "*/*"]
            .iter()
            .any(|ours| range.eq_ignore_ascii_case(ours.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

    use super::*;

    fn checked(headers: &[(&'static str, &[u8])], uri: &str) -> Result<Query, Refused> {
        let mut head = Request::get(uri).version(Version::HTTP_2).body(()).unwrap().into_parts().0;
        for (name, value) in headers {
            head.headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        check(&mut head, &Origins::default())
    }

    #[test]
    fn over_http_2_the_own_host_is_in_the_address() {
        let uri = "https://shop.example/events?room=a";
        assert!(checked(&[("origin", b"https://shop.example")], uri).is_ok());
        let evil = checked(&[("origin", b"https://evil.example")], uri);
        assert_eq!(evil.unwrap_err(), Refusal::Origin.into());
        // A `Host` that is there is the one.
        let both = [("origin", &b"https://shop.example"[..]), ("host", b"other.example")];
        assert_eq!(checked(&both, uri).unwrap_err(), Refusal::Origin.into());
    }

    #[test]
    fn the_last_id_is_the_cursor_whatever_it_is() {
        let cursor = |id: &[u8], uri| checked(&[("last-event-id", id)], uri).unwrap().cursor;
        assert_eq!(cursor(b"later", "/events?cursor=first").as_deref(), Some("later"));
        assert_eq!(cursor(b"", "/events?cursor=first").as_deref(), Some("first"));
        assert_eq!(cursor(b"\xff", "/events").as_deref(), Some("\u{fffd}"));
        assert_eq!(checked(&[], "/events?cursor=first").unwrap().cursor.as_deref(), Some("first"));
    }

    #[test]
    fn a_stream_is_given_to_whoever_takes_one() {
        let accepts = |lines: &[&'static str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("accept", line.as_bytes())).collect();
            checked(&lines, "/events").is_ok()
        };
        for good in [
            &[][..],
            &["text/event-stream"],
            &["text/html,application/xml;q=0.9,*/*;q=0.8"],
            &["application/json", "TEXT/Event-Stream ; charset=utf-8"],
            &["text/*"],
        ] {
            assert!(accepts(good), "{good:?}");
        }
        for bad in
            [&["application/json"][..], &["text/html, image/*"], &["text/event-streams"], &[""]]
        {
            assert!(!accepts(bad), "{bad:?}");
        }
    }
}
