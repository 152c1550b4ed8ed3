//! `ws://host:port/path`: where a server is.

use std::net::{SocketAddr, ToSocketAddrs};

use serde::{Deserialize, Serialize};

use crate::load::Dialect;

/// Most bytes of a URL.
const MAX_URL: usize = 2048;

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    /// As it was given.
    pub(super) url: String,
    pub(super) addr: SocketAddr,
    /// For the header `Host`.
    pub(super) host: String,
    /// The path, with the query where there is one.
    pub(super) path: String,
}

impl Target {
    /// Reads a URL and looks its host up; says what is wrong with it.
    pub(super) fn new(url: &str, dialect: Dialect) -> Result<Self, String> {
        let Some(rest) = url.strip_prefix("ws://") else {
            return Err("it has to begin with ws:// (there is no TLS here)".to_owned());
        };
        if url.len() > MAX_URL || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("it has to be at most {MAX_URL} printable ASCII characters"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        let path = match (path, dialect) {
            ("" | "/", Dialect::SocketIo) => "/socket.io/".to_owned(),
            (path, _) if path.starts_with('/') => path.to_owned(),
            (path, _) => format!("/{path}"),
        };
        if host.contains('@') {
            return Err("user and password are not supported: use --token".to_owned());
        }
        // What follows the bracket of an IPv6 address, or the only colon.
        let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
        let addr = with_port.to_socket_addrs().map_err(|error| error.to_string())?.next();
        let addr = addr.ok_or("its host has no address")?;
        Ok(Self { url: url.to_owned(), addr, host: host.to_owned(), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let native = |url| Target::new(url, Dialect::Native).unwrap();
        let target = native("ws://127.0.0.1:3000/ws?a=b#c");
        assert_eq!((target.host.as_str(), target.path.as_str()), ("127.0.0.1:3000", "/ws?a=b"));
        assert_eq!(target.addr, ([127, 0, 0, 1], 3000).into());
        let target = native("ws://127.0.0.1");
        assert_eq!((target.addr.port(), target.path.as_str()), (80, "/"));
        assert_eq!(native("ws://[::1]:81?x").addr, "[::1]:81".parse().unwrap());
        assert_eq!(native("ws://[::1]/").addr.port(), 80);
        let target = Target::new("ws://127.0.0.1:1", Dialect::SocketIo).unwrap();
        assert_eq!(target.path, "/socket.io/");
    }

    #[test]
    fn what_is_no_url_is_told() {
        for (url, wrong) in [
            ("http://127.0.0.1", "ws://"),
            ("wss://127.0.0.1", "TLS"),
            ("ws://127.0.0.1:99999/", "port"),
            ("ws://127.0.0.1/\r\nX: y", "printable"),
            ("ws://me:secret@127.0.0.1/", "--token"),
            ("ws://:80/", ""),
        ] {
            let told = Target::new(url, Dialect::Native).unwrap_err();
            assert!(told.contains(wrong), "{url}: {told}");
        }
    }
}
