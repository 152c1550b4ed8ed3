//! Proxies that are believed when they say for whom they ask.
//!
//! Anybody can send `X-Forwarded-For`. What the nearest proxy adds stands last; so the list
//! is read from its end, past the proxies that are trusted, to the first address that is
//! not one: nobody whose word counts has said anything of what is before it.
//!
//! There are two headers, and a proxy that writes one passes on the other as the client
//! wrote it. So one is configured, and the other is not read.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Networks of proxies whose word counts, and the header that they write.
///
/// ```
/// use ws_sink::door::{ForwardedHeader, TrustedProxies};
///
/// let proxies = TrustedProxies::new(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])?;
/// assert!(proxies.contains("10.1.2.3".parse()?));
/// let proxies = proxies.with_header(ForwardedHeader::Forwarded);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ForwardedHeader,
}

/// What a proxy says for whom it asks in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, which nearly all write.
    #[default]
    XForwardedFor,
    /// `Forwarded`, RFC 7239.
    Forwarded,
}

/// What is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address and no network such as `10.0.0.0/8` or `2001:db8::/32`")]
pub struct ProxyError(String);

/// Why it cannot be told for whom a proxy asks. Shows nothing of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header `{0}` is malformed")]
pub(super) struct BadForwarded(&'static str);

impl TrustedProxies {
    /// These networks, each an address or in CIDR notation.
    ///
    /// # Errors
    /// [`ProxyError`] shows what is none.
    pub fn new<T: AsRef<str>>(networks: impl IntoIterator<Item = T>) -> Result<Self, ProxyError> {
        let networks: Result<_, _> =
            networks.into_iter().map(|network| parse_network(network.as_ref())).collect();
        Ok(Self { networks: networks?, header: ForwardedHeader::default() })
    }

    /// Reads this header.
    pub fn with_header(mut self, header: ForwardedHeader) -> Self {
        self.header = header;
        self
    }

    /// Whether `address` is in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// For whom a trusted proxy asks: `None` where it does not say, or where all that it
    /// names are proxies.
    pub(super) fn client(&self, headers: &HeaderMap) -> Result<Option<IpAddr>, BadForwarded> {
        let (name, bad) = match self.header {
            ForwardedHeader::XForwardedFor => (X_FORWARDED_FOR, BadForwarded("X-Forwarded-For")),
            ForwardedHeader::Forwarded => (FORWARDED, BadForwarded("Forwarded")),
        };
        let lines: Result<Vec<_>, _> =
            headers.get_all(name).iter().map(|line| line.to_str()).collect();
        for line in lines.map_err(|_| bad)?.into_iter().rev() {
            for element in elements(line, b',').ok_or(bad)?.into_iter().rev() {
                let node = match self.header {
                    ForwardedHeader::XForwardedFor => Some(element),
                    ForwardedHeader::Forwarded => node(element),
                };
                let address = node.and_then(address).ok_or(bad)?;
                if !self.contains(address) {
                    return Ok(Some(address));
                }
            }
        }
        Ok(None)
    }
}

impl FromStr for TrustedProxies {
    type Err = ProxyError;

    /// Networks with commas between.
    fn from_str(text: &str) -> Result<Self, ProxyError> {
        Self::new(text.split(',').map(str::trim).filter(|network| !network.is_empty()))
    }
}

fn parse_network(text: &str) -> Result<IpNet, ProxyError> {
    let network = text.trim().parse().or_else(|_| text.trim().parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| ProxyError(text.to_owned()))
}

/// Splits at what is not between quotes. `None` where a quote is not closed.
fn elements(line: &str, separator: u8) -> Option<Vec<&str>> {
    let (mut found, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => {
                found.push(line[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(line[start..].trim());
    (!quoted).then_some(found)
}

/// The `for` of an element of `Forwarded`, without its quotes.
fn node(element: &str) -> Option<&str> {
    let mut nodes = elements(element, b';')?.into_iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    });
    // Two of them are none.
    let node = nodes.next().filter(|_| nodes.next().is_none())?;
    // No address has anything to be escaped.
    node.strip_prefix('"').map_or(Some(node), |quoted| quoted.strip_suffix('"'))
}

/// An address, with or without a port.
fn address(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|node| node.strip_suffix(']'));
    let with_port = || node.parse::<SocketAddr>().ok().map(|address| address.ip());
    let parsed = if let Some(six) = bare {
        six.parse().ok().map(IpAddr::V6)
    } else {
        node.parse().ok().or_else(with_port)
    };
    parsed.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(header: ForwardedHeader, lines: &[&str]) -> Result<Option<String>, BadForwarded> {
        let proxies = TrustedProxies::new(["10.0.0.0/8", "::1"]).unwrap().with_header(header);
        let mut headers = HeaderMap::new();
        let name = match header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => FORWARDED,
        };
        for line in lines {
            headers.append(name.clone(), line.parse().unwrap());
        }
        proxies.client(&headers).map(|client| client.map(|address| address.to_string()))
    }

    fn x(lines: &[&str]) -> Result<Option<String>, BadForwarded> {
        asked(ForwardedHeader::XForwardedFor, lines)
    }

    fn forwarded(lines: &[&str]) -> Result<Option<String>, BadForwarded> {
        asked(ForwardedHeader::Forwarded, lines)
    }

    #[allow(clippy::unnecessary_wraps)] // As it is compared with.
    fn some(address: &str) -> Result<Option<String>, BadForwarded> {
        Ok(Some(address.to_owned()))
    }

    #[test]
    fn the_last_that_is_no_proxy_is_the_client() {
        assert_eq!(x(&["192.0.2.1"]), some("192.0.2.1"));
        assert_eq!(x(&["1.1.1.1, 192.0.2.1"]), some("192.0.2.1"), "what is before he says himself");
        assert_eq!(x(&["1.1.1.1, 192.0.2.1,10.0.0.1 , 10.0.0.2"]), some("192.0.2.1"));
        assert_eq!(x(&["1.1.1.1", "192.0.2.1", "10.0.0.1"]), some("192.0.2.1"));
        assert_eq!(x(&["nonsense, 192.0.2.1"]), some("192.0.2.1"), "not looked at");
        assert_eq!(x(&[]), Ok(None));
        assert_eq!(x(&["10.0.0.1, ::ffff:10.0.0.2, ::1"]), Ok(None));
    }

    #[test]
    fn addresses_are_written_in_many_ways() {
        for (written, read) in [
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(x(&[written]), some(read), "{written}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for line in [
            "",
            "unknown",
            "192.0.2.1,",
            "192.0.2.1, x",
            "192.0.2",
            "192.0.2.1;",
            "\"",
            "a, \"192.0.2.1",
        ] {
            assert_eq!(x(&[line]), Err(BadForwarded("X-Forwarded-For")), "{line}");
        }
        let bad = Err(BadForwarded("Forwarded"));
        for line in [
            "",
            "for",
            "for=",
            "for=unknown",
            "for=_hidden",
            "proto=https",
            "for=192.0.2.1;for=192.0.2.2",
            "for=\"192.0.2.1",
            "for=\"192.0.2.1\\\"\"",
            "192.0.2.1",
        ] {
            assert_eq!(forwarded(&[line]), bad, "{line}");
        }
    }

    #[test]
    fn rfc_7239_is_read() {
        assert_eq!(forwarded(&["for=192.0.2.60;proto=http;by=203.0.113.43"]), some("192.0.2.60"));
        assert_eq!(forwarded(&["For=\"[2001:db8:cafe::17]:4711\""]), some("2001:db8:cafe::17"),);
        assert_eq!(forwarded(&["for=192.0.2.43, for=198.51.100.17"]), some("198.51.100.17"));
        assert_eq!(
            forwarded(&["for=192.0.2.43;host=\"a, for=1.1.1.1\" , for=10.0.0.1"]),
            some("192.0.2.43"),
            "a comma between quotes separates nothing",
        );
        assert_eq!(forwarded(&["for=10.0.0.1"]), Ok(None));
    }

    #[test]
    fn networks_are_checked_at_the_start() {
        let error = TrustedProxies::new(["10.0.0.0/8", "10.0.0.0/33"]).unwrap_err();
        assert!(error.to_string().starts_with("`10.0.0.0/33` is no address and no network"));
        let proxies: TrustedProxies = "10.0.0.0/8, 192.0.2.1,".parse().unwrap();
        let contains = |address: &str| proxies.contains(address.parse().unwrap());
        assert!(contains("10.255.0.1") && contains("::ffff:192.0.2.1"));
        assert!(!contains("192.0.2.2") && !contains("::1"));
        assert!(!TrustedProxies::default().contains("127.0.0.1".parse().unwrap()));
    }
}
