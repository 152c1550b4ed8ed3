//! Where a request carries its credential.

use std::fmt;

use http::header::{AUTHORIZATION, COOKIE, HeaderMap};

use super::AuthError;
use crate::handshake::Protocols;

/// Most bytes of a token or ticket.
pub const MAX_CREDENTIAL_BYTES: usize = 8 * 1024;

/// The cookie that holds a token.
const COOKIE_NAME: &[u8] = b"token";

/// What a client presents to say who it is. Shows nothing of it in `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential<'a> {
    /// A signed token: from the header, the subprotocol list, the cookie, or a frame.
    Bearer(&'a str),
    /// A ticket from the query, good once.
    Ticket(&'a str),
}

impl<'a> Credential<'a> {
    /// The credential of a request, from the first of: the header `Authorization: Bearer`,
    /// `bearer.<token>` in the subprotocol list where `fanout.v1` is offered with it, the
    /// cookie `token`, and the query's `ticket`. `None` where there is none: a first frame
    /// may bring it.
    ///
    /// The first that is there is the one: a bad header is not made up for by a cookie, or
    /// somebody would be another than he says.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] where it is empty, too long, or not text.
    pub fn presented(
        headers: &'a HeaderMap,
        ticket: Option<&'a str>,
    ) -> Result<Option<Self>, AuthError> {
        if let Some(token) = from_authorization(headers)? {
            return Self::Bearer(token).checked().map(Some);
        }
        if let Some(token) = Protocols::offered(headers).bearer {
            return Self::Bearer(token).checked().map(Some);
        }
        if let Some(token) = from_cookie(headers)? {
            return Self::Bearer(token).checked().map(Some);
        }
        ticket.map(|ticket| Self::Ticket(ticket).checked()).transpose()
    }

    /// The credential, if it has a length that one can have.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] where it is empty or longer than [`MAX_CREDENTIAL_BYTES`].
    pub fn checked(self) -> Result<Self, AuthError> {
        let (Self::Bearer(text) | Self::Ticket(text)) = self;
        match text.len() {
            0 => Err(AuthError::Invalid("empty")),
            len if len > MAX_CREDENTIAL_BYTES => Err(AuthError::Invalid("longer than 8 KiB")),
            _ => Ok(self),
        }
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(..)",
            Self::Ticket(_) => "Ticket(..)",
        })
    }
}

/// The token of `Authorization: Bearer`. Another scheme is not ours: a proxy in front may
/// use it.
fn from_authorization(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    for value in headers.get_all(AUTHORIZATION) {
        let bytes = value.as_bytes();
        let (scheme, token) = match bytes.iter().position(|byte| *byte == b' ') {
            Some(at) => (&bytes[..at], &bytes[at..]),
            None => (bytes, &[][..]),
        };
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return text(token).map(Some);
        }
    }
    Ok(None)
}

/// The token of the cookie. Of two with this name the first one counts, which browsers
/// make the one with the longer path.
fn from_cookie(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| {
        // Not as text: somebody else's cookie may hold any bytes.
        value.as_bytes().split(|byte| *byte == b';')
    });
    for pair in pairs {
        let Some(at) = pair.iter().position(|byte| *byte == b'=') else { continue };
        if pair[..at].trim_ascii() == COOKIE_NAME {
            let value = pair[at + 1..].trim_ascii();
            let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
            return text(quoted.unwrap_or(value)).map(Some);
        }
    }
    Ok(None)
}

fn text(bytes: &[u8]) -> Result<&str, AuthError> {
    std::str::from_utf8(bytes.trim_ascii()).map_err(|_| AuthError::Invalid("not text"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    /// What is found; an error as `Err(())`.
    fn found(list: &[(&'static str, &str)], ticket: Option<&str>) -> Result<Option<String>, ()> {
        let headers = headers(list);
        let found = Credential::presented(&headers, ticket).map_err(|_| ())?;
        Ok(found.map(|credential| match credential {
            Credential::Bearer(token) => format!("bearer {token}"),
            Credential::Ticket(ticket) => format!("ticket {ticket}"),
        }))
    }

    fn bearer(token: &str) -> String {
        format!("bearer {token}")
    }

    #[test]
    fn the_first_source_counts() {
        let mut list = vec![
            ("authorization", "Bearer h"),
            ("sec-websocket-protocol", "fanout.v1, bearer.p"),
            ("cookie", "token=c"),
        ];
        for expected in ["h", "p", "c"] {
            assert_eq!(found(&list, Some("t")), Ok(Some(bearer(expected))));
            list.remove(0);
        }
        assert_eq!(found(&[], Some("t")), Ok(Some("ticket t".to_owned())));
        assert_eq!(found(&[], None), Ok(None));
    }

    #[test]
    fn the_header_is_read_as_rfc_9110_has_it() {
        assert_eq!(found(&[("authorization", "bearer  a.b ")], None), Ok(Some(bearer("a.b"))));
        assert_eq!(found(&[("authorization", "Basic eDp5")], None), Ok(None));
        assert_eq!(found(&[("authorization", "Bearerx a")], None), Ok(None));
        let both = [("authorization", "Basic eDp5"), ("authorization", "Bearer t")];
        assert_eq!(found(&both, None), Ok(Some(bearer("t"))));
    }

    #[test]
    fn a_bad_first_source_is_not_made_up_for_by_another() {
        let cookie = ("cookie", "token=c");
        for bad in ["Bearer", "Bearer "] {
            assert_eq!(found(&[("authorization", bad), cookie], None), Err(()), "{bad}");
        }
        let mut headers = headers(&[cookie]);
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(b"Bearer \xff").unwrap());
        assert!(Credential::presented(&headers, None).is_err());
        let empty = ("sec-websocket-protocol", "fanout.v1, bearer.");
        assert_eq!(found(&[empty, cookie], None), Err(()));
        assert_eq!(found(&[("cookie", "token=")], Some("t")), Err(()));
        assert_eq!(found(&[], Some("")), Err(()));
    }

    #[test]
    fn the_protocol_list_counts_only_with_ours_in_it() {
        let list = |value| found(&[("sec-websocket-protocol", value)], None);
        assert_eq!(list("bearer.x, fanout.v1"), Ok(Some(bearer("x"))));
        assert_eq!(list("bearer.x"), Ok(None));
        assert_eq!(list("other, bearer.x"), Ok(None));
        assert_eq!(list("fanout.v1"), Ok(None));
    }

    #[test]
    fn cookies_are_split_as_rfc_6265_has_it() {
        let cookie = |value| found(&[("cookie", value)], None);
        assert_eq!(cookie("a=b; token=x; c=d"), Ok(Some(bearer("x"))));
        assert_eq!(cookie("a=b;token = \"x\" "), Ok(Some(bearer("x"))));
        assert_eq!(cookie("token=x; token=y"), Ok(Some(bearer("x"))));
        assert_eq!(cookie("Token=x; xtoken=y; token; tokens=z"), Ok(None));
        assert_eq!(cookie("a=token=x"), Ok(None));
        assert_eq!(
            found(&[("cookie", "a=b"), ("cookie", "token=x=y")], None),
            Ok(Some(bearer("x=y")))
        );
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_bytes(b"odd=\xff; token=x").unwrap());
        assert_eq!(Credential::presented(&headers, None).unwrap(), Some(Credential::Bearer("x")));
    }

    #[test]
    fn a_huge_one_is_refused_and_none_is_shown() {
        let huge = "x".repeat(MAX_CREDENTIAL_BYTES + 1);
        assert_eq!(found(&[("authorization", &format!("Bearer {huge}"))], None), Err(()));
        assert_eq!(found(&[], Some(&huge)), Err(()));
        assert!(Credential::Bearer(&huge[1..]).checked().is_ok());
        let shown =
            format!("{:?} {:?}", Credential::Bearer("secret"), Credential::Ticket("secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
