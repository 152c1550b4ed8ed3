//! Who is at the other end of a request, as far as the door and trusted proxies say.

use std::net::IpAddr;

use http::{Extensions, HeaderMap};
use ws_sink::door::{Client, TrustedProxies};

/// What a proxy adds. Where one does, and is not trusted, the request is from anywhere.
const FORWARDED: [&str; 3] = ["forwarded", "via", "x-forwarded-for"];

/// What is known of the way to here.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Peers {
    /// Whether this server itself speaks TLS.
    pub tls: bool,
    /// Who may read metrics.
    pub metrics: TrustedProxies,
}

impl Peers {
    /// Whether the client's browser sees `https`: by this server's own TLS, or as a trusted
    /// proxy says.
    pub(super) fn over_tls(&self, headers: &HeaderMap, extensions: &Extensions) -> bool {
        let proxied = extensions.get::<Client>().is_some_and(|client| client.proxied);
        let mut protos = headers.get_all("x-forwarded-proto").iter();
        let proto = protos.next().filter(|_| proxied && protos.next().is_none());
        // Several with commas between are of several proxies: the nearest stands last.
        let nearest = proto.and_then(|proto| proto.as_bytes().rsplit(|byte| *byte == b',').next());
        match nearest {
            Some(nearest) => nearest.trim_ascii().eq_ignore_ascii_case(b"https"),
            None => self.tls,
        }
    }

    /// Whether the metrics are for this client.
    pub(super) fn may_measure(&self, headers: &HeaderMap, extensions: &Extensions) -> bool {
        let Some(client) = extensions.get::<Client>() else { return false };
        // A proxy on this machine that nobody trusts would make all the world local.
        let hidden = !client.proxied && FORWARDED.iter().any(|name| headers.contains_key(*name));
        !hidden && self.metrics.contains(client.address)
    }
}

/// What an address is counted under: one of IPv4, a network of IPv6, where one customer has
/// as many as they like.
pub(super) fn bucket(extensions: &Extensions) -> String {
    match extensions.get::<Client>().map(|client| client.address) {
        Some(IpAddr::V6(v6)) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Some(v4) => v4.to_string(),
        None => "unknown".to_owned(),
    }
}
