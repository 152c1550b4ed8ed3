//! Opens a WebSocket, waiting for each step.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tungstenite::handshake::derive_accept_key;

/// The key of RFC 6455's example: nothing here caches an answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MAX_RESPONSE: usize = 8 * 1024;

/// Why a WebSocket was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// No connection, or one that was lost or took too long.
    #[error("no connection")]
    Io(#[from] io::Error),
    /// The server does not want to.
    #[error("the server answers `{0}`")]
    Refused(String),
    /// The server has computed something else.
    #[error("the server's `Sec-WebSocket-Accept` is wrong")]
    Accept,
}

/// A stream past its handshake, and what came right behind it.
pub(super) fn open(
    addr: SocketAddr,
    deadline: Instant,
) -> Result<(TcpStream, Vec<u8>), HandshakeError> {
    // Zero would mean no limit, or is refused.
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&addr, left)?;
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))?;
    stream.set_nodelay(true)?;
    // What the credential is nobody checks, that there is one saves a frame.
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\
         Authorization: Bearer anybody\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let (mut response, mut read) = (vec![0; MAX_RESPONSE], 0);
    let end = loop {
        match stream.read(&mut response[read..])? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            more => read += more,
        }
        let end = response[..read].windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4;
        }
    };
    check(&String::from_utf8_lossy(&response[..end]))?;
    Ok((stream, response[end..read].to_vec()))
}

fn check(head: &str) -> Result<(), HandshakeError> {
    let status = head.lines().next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 101 ") {
        return Err(HandshakeError::Refused(status.to_owned()));
    }
    let accept = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("sec-websocket-accept").then_some(value.trim())
    });
    if accept == Some(&derive_accept_key(KEY.as_bytes())) {
        Ok(())
    } else {
        Err(HandshakeError::Accept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_answer_opens() {
        // The answer of RFC 6455, 1.3.
        let good = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
                    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert!(check(good).is_ok());
        let accept = check(&good.replace("s3p", "t3p"));
        assert!(matches!(accept, Err(HandshakeError::Accept)), "{accept:?}");
        let refused = check("HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap_err();
        assert_eq!(refused.to_string(), "the server answers `HTTP/1.1 503 Service Unavailable`");
    }
}
