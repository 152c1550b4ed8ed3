//! Request heads: who asks for a WebSocket, from which page, as whom, and what for.
//!
//! The input is a head as it stands on the wire, without what hyper refuses before.
#![no_main]

use std::str::FromStr;

use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HOST, ORIGIN, UPGRADE};
use http::header::{HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, Version};
use libfuzzer_sys::fuzz_target;
use tungstenite::handshake::derive_accept_key;
use ws_sink::auth::{Credential, MAX_CREDENTIAL_BYTES};
use ws_sink::handshake::{Handshake, MAX_ROOMS, Origin, Origins, Query, SUBPROTOCOL};

fuzz_target!(|data: &[u8]| {
    let Some(head) = head(data) else { return };
    let listed = Origins::default().and("https://admin.example".parse().expect("an origin"));
    for origins in [Origins::default(), listed, Origins::any()] {
        match Handshake::check(&head, &origins) {
            Ok(handshake) => accepted(&head, &handshake.response()),
            Err(refusal) => refused(&refusal.response()),
        }
    }
    if Origins::default().allow(&head.headers) {
        own_page(&head.headers);
    }
    for value in head.headers.get_all(ORIGIN).iter().filter_map(|value| value.to_str().ok()) {
        if let Ok(origin) = Origin::from_str(value) {
            assert_eq!(Origin::from_str(&origin.to_string()), Ok(origin), "{value:?}");
        }
    }
    let query = query(head.uri.query());
    credential(&head.headers, query.as_ref().and_then(|query| query.ticket.as_deref()));
});

/// `METHOD TARGET VERSION`, then a header in each line.
fn head(data: &[u8]) -> Option<Parts> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut first = lines.next()?.split(|byte| *byte == b' ');
    let mut request = Request::new(()).into_parts().0;
    request.method = Method::from_bytes(first.next()?).ok()?;
    request.uri = http::Uri::try_from(first.next()?).ok()?;
    request.version = match first.next()? {
        b"HTTP/1.0" => Version::HTTP_10,
        b"HTTP/1.1" => Version::HTTP_11,
        _ => Version::HTTP_2,
    };
    for line in lines.take(100) {
        let at = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..at]).ok()?;
        let value = HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?;
        request.headers.append(name, value);
    }
    Some(request)
}

/// What RFC 6455, 4.2.1 asks of a request, and 4.2.2 of its answer.
fn accepted(head: &Parts, response: &Response<()>) {
    assert_eq!((&head.method, head.version), (&Method::GET, Version::HTTP_11));
    let has = |name: &HeaderName, token: &str| {
        let lines = head.headers.get_all(name).iter();
        let text = lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned());
        let text = text.collect::<Vec<_>>().join(",");
        text.split(',').any(|given| given.trim().eq_ignore_ascii_case(token))
    };
    assert!(has(&UPGRADE, "websocket") && has(&CONNECTION, "upgrade"), "{head:?}");
    let keys: Vec<_> = head.headers.get_all(SEC_WEBSOCKET_KEY).iter().collect();
    let [key] = keys[..] else { panic!("{} keys", keys.len()) };
    assert_eq!(key.as_bytes().trim_ascii().len(), 24);

    assert_eq!(response.status(), 101);
    let accept = derive_accept_key(key.as_bytes().trim_ascii());
    assert_eq!(response.headers()["sec-websocket-accept"], accept);
    let echo = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
    if let Some(echo) = echo {
        assert_eq!(echo, SUBPROTOCOL);
        let offered = String::from_utf8_lossy(echo.as_bytes()).into_owned();
        assert!(has(&SEC_WEBSOCKET_PROTOCOL, &offered), "echoed and not offered");
    }
    // No extension, and nothing else that the client could have brought in.
    assert_eq!(response.headers().len(), 3 + usize::from(echo.is_some()));
}

/// Nothing of what the client sent comes back.
fn refused(response: &Response<String>) {
    assert!([400, 403, 426].contains(&response.status().as_u16()));
    let body = response.body();
    assert!(body.len() < 200 && body.is_ascii() && body.ends_with('\n'), "{body:?}");
}

/// Without an origin, or with the host's own, compared in another way: as text.
fn own_page(headers: &HeaderMap) {
    let Some(origin) = headers.get(ORIGIN) else { return };
    assert_eq!(headers.get_all(ORIGIN).iter().count(), 1);
    assert_eq!(headers.get_all(HOST).iter().count(), 1, "a page of which host?");
    let text = |value: &HeaderValue| {
        std::str::from_utf8(value.as_bytes()).expect("text").trim().to_ascii_lowercase()
    };
    let (origin, host) = (text(origin), text(&headers[HOST]));
    let (scheme, page) = origin.split_once("://").expect("a scheme");
    let port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => panic!("a page by {scheme}"),
    };
    let full = |name: &str| match name.rsplit_once(':') {
        Some((host, given)) if !given.ends_with(']') => {
            (host.to_owned(), given.parse::<u16>().expect("a port"))
        }
        _ => (name.to_owned(), port),
    };
    assert_eq!(full(page), full(&host));
}

fn query(text: Option<&str>) -> Option<Query> {
    let query = Query::parse(text).ok()?;
    assert!(query.rooms.len() <= MAX_ROOMS);
    for (at, room) in query.rooms.iter().enumerate() {
        assert!(!query.rooms[..at].contains(room), "{room} twice");
    }
    if let Some(ticket) = &query.ticket {
        assert!((1..=MAX_CREDENTIAL_BYTES).contains(&ticket.len()));
    }
    // What it says in other words is the same.
    let mut pairs: Vec<String> =
        query.rooms.iter().map(|room| format!("room={}", escape(room.as_str()))).collect();
    pairs.extend(query.cursor.iter().map(|cursor| format!("cursor={}", escape(cursor))));
    pairs.extend(query.ticket.iter().map(|ticket| format!("ticket={}", escape(ticket))));
    assert_eq!(Query::parse(Some(&pairs.join("&"))).as_ref(), Ok(&query));
    Some(query)
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn credential(headers: &HeaderMap, ticket: Option<&str>) {
    let Ok(found) = Credential::presented(headers, ticket) else { return };
    let bytes = |name: &HeaderName| -> Vec<&[u8]> {
        headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
    };
    let bearer = |value: &&[u8]| value.get(..7).is_some_and(|v| v.eq_ignore_ascii_case(b"bearer "));
    let header = bytes(&AUTHORIZATION).into_iter().find(bearer);
    match found {
        None => assert!(header.is_none() && ticket.is_none(), "left out"),
        Some(Credential::Ticket(found)) => {
            assert_eq!(Some(found), ticket);
            assert!(header.is_none(), "a ticket before the header");
        }
        Some(Credential::Bearer(token)) => {
            assert!((1..=MAX_CREDENTIAL_BYTES).contains(&token.len()));
            let within = |line: &&[u8]| line.windows(token.len()).any(|w| w == token.as_bytes());
            match header {
                Some(header) => assert_eq!(token.as_bytes(), header[7..].trim_ascii()),
                None => {
                    let others = [bytes(&SEC_WEBSOCKET_PROTOCOL), bytes(&COOKIE)].concat();
                    assert!(others.iter().any(within), "out of nothing");
                }
            }
        }
        Some(_) => unreachable!("there are two kinds"),
    }
    assert!(format!("{found:?}").len() < 20, "shows what it is");
}
