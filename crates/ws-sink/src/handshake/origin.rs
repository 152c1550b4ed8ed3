//! Which pages may open a connection.
//!
//! A browser sends its cookies along with an upgrade from any page, and no CORS check
//! stands in front of it: the `Origin` header is all that tells a page of ours from
//! another's. What is no browser sends none, or whatever it likes, and is known by its
//! token.

use std::fmt;
use std::str::FromStr;

use http::header::{HOST, HeaderMap, ORIGIN};

use super::single;

/// Scheme, host and port of a page: `https://shop.example`, `http://localhost:3000`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: String,
    /// The scheme's own where none is named; none where the scheme has none.
    port: Option<u16>,
}

/// Why a text is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no origin: `scheme://host` or `scheme://host:port`, with nothing after it")]
pub struct OriginError(String);

/// The origins that are allowed. By default the server's own host, by the request's
/// `Host`, and requests without an origin.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    any: bool,
    listed: Vec<Origin>,
}

impl Origins {
    /// Every page on the internet. Only where cookies mean nothing.
    pub fn any() -> Self {
        Self { any: true, listed: Vec::new() }
    }

    /// This one as well.
    pub fn and(mut self, origin: Origin) -> Self {
        self.listed.push(origin);
        self
    }

    /// Whether a request with these headers may go on.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        if self.any || !headers.contains_key(ORIGIN) {
            return true;
        }
        // `null`, of sandboxed frames and files, is no origin either: anybody can be it.
        let origin = single(headers, &ORIGIN).and_then(|value| std::str::from_utf8(value).ok());
        let Some(origin) = origin.and_then(|text| Origin::from_str(text).ok()) else {
            return false;
        };
        self.listed.contains(&origin)
            || single(headers, &HOST).is_some_and(|host| origin.is_host(host))
    }
}

impl Origin {
    /// Whether it is a page of the server that is called `host` in the request. The scheme
    /// is not compared: behind a proxy that ends TLS this server does not know its own.
    fn is_host(&self, host: &[u8]) -> bool {
        let Some(default) = default_port(&self.scheme) else { return false };
        let host = std::str::from_utf8(host).ok().and_then(split);
        host.is_some_and(|(host, port)| {
            host.eq_ignore_ascii_case(&self.host) && Some(port.unwrap_or(default)) == self.port
        })
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let error = || OriginError(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(error)?;
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.bytes().all(good) {
            return Err(error());
        }
        let (host, port) = split(rest).ok_or_else(error)?;
        let scheme = scheme.to_ascii_lowercase();
        let port = port.or_else(|| default_port(&scheme));
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port.filter(|_| self.port != default_port(&self.scheme)) {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// `host` or `host:port`, and nothing else: no user, no path, no port that is not one.
fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let good = match host.strip_prefix('[') {
        Some(v6) => v6.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b']')),
        None => host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')),
    };
    if host.is_empty() || !good {
        return None;
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        None => None,
        // `parse` alone would take a sign.
        Some(digits) if !digits.bytes().all(|byte| byte.is_ascii_digit()) => None,
        Some(digits) => Some((host, Some(digits.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(origins: &Origins, origin: &str, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        if !host.is_empty() {
            headers.insert(HOST, host.parse().unwrap());
        }
        headers.insert(ORIGIN, origin.parse().unwrap());
        origins.allow(&headers)
    }

    #[test]
    fn the_own_host_is_host_and_port() {
        let own = Origins::default();
        for (origin, host) in [
            ("http://shop.example", "shop.example"),
            ("https://shop.example", "shop.example"),
            ("https://SHOP.example", "Shop.Example"),
            ("https://shop.example", "shop.example:443"),
            ("http://shop.example:80", "shop.example"),
            ("http://localhost:3009", "localhost:3009"),
            ("http://[::1]:3009", "[::1]:3009"),
        ] {
            assert!(allows(&own, origin, host), "{origin} at {host}");
        }
        for (origin, host) in [
            ("http://shop.example:81", "shop.example"),
            ("https://shop.example", "shop.example:80"),
            ("http://localhost:3000", "localhost:3009"),
            ("http://shop.example.evil.example", "shop.example"),
            ("http://evil.example", "shop.example"),
            ("http://shop.example@evil.example", "shop.example"),
            ("http://shop.example/", "shop.example"),
            ("http://shop.example:99999", "shop.example"),
            ("http://shop.example:+80", "shop.example"),
            ("http://shop.example:", "shop.example"),
            ("http://", ""),
            ("capacitor://shop.example", "shop.example"),
            ("null", "null"),
            ("shop.example", "shop.example"),
            ("http://shop.example", ""),
        ] {
            assert!(!allows(&own, origin, host), "{origin} at {host}");
        }
    }

    #[test]
    fn a_list_is_scheme_host_and_port() {
        let listed = Origins::default()
            .and("https://admin.example".parse().unwrap())
            .and("capacitor://localhost".parse().unwrap());
        assert!(allows(&listed, "https://admin.example", "shop.example"));
        assert!(allows(&listed, "https://ADMIN.example:443", "shop.example"));
        assert!(allows(&listed, "capacitor://localhost", "shop.example"));
        assert!(allows(&listed, "https://shop.example", "shop.example"), "the own host stays");
        assert!(!allows(&listed, "http://admin.example", "shop.example"));
        assert!(!allows(&listed, "https://admin.example:8443", "shop.example"));
        assert!(!allows(&listed, "https://x.admin.example", "shop.example"));
    }

    #[test]
    fn no_origin_and_any_origin() {
        assert!(Origins::default().allow(&HeaderMap::new()));
        assert!(allows(&Origins::any(), "https://evil.example", "shop.example"));
        assert!(allows(&Origins::any(), "null", "shop.example"));
    }

    #[test]
    fn two_origins_or_two_hosts_are_none() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "shop.example".parse().unwrap());
        headers.insert(ORIGIN, "http://shop.example".parse().unwrap());
        assert!(Origins::default().allow(&headers));
        headers.append(HOST, "evil.example".parse().unwrap());
        assert!(!Origins::default().allow(&headers));
        headers.insert(HOST, "shop.example".parse().unwrap());
        headers.append(ORIGIN, "http://shop.example".parse().unwrap());
        assert!(!Origins::default().allow(&headers));
    }

    #[test]
    fn what_is_no_origin_says_so() {
        for bad in [
            "",
            "shop.example",
            "https://",
            "https://a/b",
            "https://a:b",
            "https://ü.example",
            "://a",
            "https://[::1",
            "https://a b",
        ] {
            let error = Origin::from_str(bad).unwrap_err();
            assert!(error.to_string().contains("scheme://host"), "{bad}");
        }
        for good in ["https://a", "http://a:8080", "https://[::1]:1"] {
            assert_eq!(Origin::from_str(good).unwrap().to_string(), good);
        }
        assert_eq!(Origin::from_str("HTTPS://A:443").unwrap().to_string(), "https://a");
    }
}
