//! What is under an upgraded connection.

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
#[cfg(feature = "tls")]
use tokio_rustls::server::TlsStream;

use crate::door::Timed;

/// A connection, with what was read beyond the request.
pub(super) enum Stream {
    /// One that a shard can poll itself.
    Tcp(TcpStream, Bytes),
    /// TLS over one.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<TcpStream>>, Bytes),
    /// Any other; what was read is in it.
    Other(TokioIo<Upgraded>),
}

/// Servers that tell HTTP/1 from HTTP/2 by looking at the first bytes, such as axum's, have
/// the socket inside of a reader of their own, and the door has one with deadlines.
pub(super) fn of(upgraded: Upgraded) -> Stream {
    let upgraded = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => return Stream::Tcp(parts.io.into_inner(), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return Stream::Tcp(parts.io.into_inner(), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    let upgraded = match upgraded.downcast::<TokioIo<Timed<TcpStream>>>() {
        Ok(parts) => return Stream::Tcp(parts.io.into_inner().into_inner(), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    #[cfg(feature = "tls")]
    let upgraded = match upgraded.downcast::<TokioIo<Timed<TlsStream<TcpStream>>>>() {
        Ok(parts) => {
            return Stream::Tls(Box::new(parts.io.into_inner().into_inner()), parts.read_buf);
        }
        Err(upgraded) => upgraded,
    };
    Stream::Other(TokioIo::new(upgraded))
}
