//! Opens a WebSocket, waiting for each step.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tungstenite::handshake::derive_accept_key;

use super::endpoint::Dialect;
use super::frame::{Frame, FrameError, MAX_FRAME};
use super::socket_io::{self, Greeting};

/// The key of RFC 6455's example: nothing here caches an answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// How the native protocol's first text begins.
const WELCOME: &[u8] = br#"{"event":"welcome""#;
/// Most bytes of an answer.
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
    /// The server's answer has no end.
    #[error("the server's answer has more than {MAX_RESPONSE} bytes")]
    TooLong,
    /// It is closed before anything else is said.
    #[error("the server closes the connection {}", with_code(*.0))]
    Closed(Option<u16>),
    /// What the server says over the WebSocket is none.
    #[error("not a frame")]
    Frame(#[from] FrameError),
}

fn with_code(code: Option<u16>) -> String {
    code.map_or("without a code".to_owned(), |code| format!("with code {code}"))
}

/// A stream past its handshake, and what came right behind it. Where it is `greeted` in
/// a dialect, the server has let it in as well.
pub(crate) fn open(
    socket: Socket,
    addr: SocketAddr,
    request: &str,
    greeted: Option<Dialect>,
    deadline: Instant,
) -> Result<(TcpStream, Vec<u8>), HandshakeError> {
    // Zero would mean no limit, or is refused.
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    socket.connect_timeout(&addr.into(), left)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))?;
    stream.write_all(request.as_bytes())?;
    let mut rest = Vec::new();
    loop {
        if let Some(end) = answered(&rest)? {
            rest.drain(..end);
            break;
        }
        read(&mut stream, &mut rest)?;
    }
    if let Some(dialect) = greeted {
        greet(&mut stream, dialect, &mut rest)?;
    }
    Ok((stream, rest))
}

/// A socket that comes from `source`, or from where the system likes.
pub(crate) fn socket(server: SocketAddr, source: Option<SocketAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&source.into())?;
    }
    Ok(socket)
}

/// The request that opens a WebSocket.
pub(crate) fn request(host: &str, target: &str, token: Option<&str>) -> String {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{}\r\n",
        authorization.unwrap_or_default()
    )
}

/// Where the answer ends that `bytes` begin with; `None` where it does not yet.
pub(crate) fn answered(bytes: &[u8]) -> Result<Option<usize>, HandshakeError> {
    match bytes.windows(4).position(|window| window == b"\r\n\r\n") {
        Some(end) => {
            check(&String::from_utf8_lossy(&bytes[..end + 4]))?;
            Ok(Some(end + 4))
        }
        None if bytes.len() >= MAX_RESPONSE => Err(HandshakeError::TooLong),
        None => Ok(None),
    }
}

/// What a text means to a client that is not in yet.
pub(crate) fn greeting(dialect: Dialect, text: &[u8]) -> Result<Greeting, HandshakeError> {
    match dialect {
        Dialect::SocketIo => socket_io::greeting(text),
        Dialect::Native if text.starts_with(WELCOME) => Ok(Greeting::Connected),
        Dialect::Native => Ok(Greeting::Other),
        Dialect::Plain => Ok(Greeting::Connected),
    }
}

fn greet(
    stream: &mut TcpStream,
    dialect: Dialect,
    rest: &mut Vec<u8>,
) -> Result<(), HandshakeError> {
    if dialect == Dialect::Plain {
        return Ok(());
    }
    loop {
        while let Some((frame, end)) = Frame::first(rest)? {
            let greeting = match frame {
                Frame::Text(text) => greeting(dialect, text)?,
                Frame::Close(code) => return Err(HandshakeError::Closed(code)),
                Frame::Ping(_) | Frame::Pong => Greeting::Other,
            };
            rest.drain(..end);
            match greeting {
                Greeting::Open => stream.write_all(&socket_io::CONNECT)?,
                Greeting::Ping => stream.write_all(&socket_io::PONG)?,
                Greeting::Connected => return Ok(()),
                Greeting::Other => {}
            }
        }
        if rest.len() >= MAX_FRAME {
            return Err(HandshakeError::TooLong);
        }
        read(stream, rest)?;
    }
}

fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut more = [0; 1024];
    match stream.read(&mut more)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            bytes.extend_from_slice(&more[..read]);
            Ok(())
        }
    }
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
        assert_eq!(answered(good.as_bytes()).unwrap(), Some(good.len()));
        assert_eq!(answered(&good.as_bytes()[..50]).unwrap(), None);
        let accept = check(&good.replace("s3p", "t3p"));
        assert!(matches!(accept, Err(HandshakeError::Accept)), "{accept:?}");
        let refused = check("HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap_err();
        assert_eq!(refused.to_string(), "the server answers `HTTP/1.1 503 Service Unavailable`");
        let endless = answered(&vec![b'x'; MAX_RESPONSE]);
        assert!(matches!(endless, Err(HandshakeError::TooLong)), "{endless:?}");
    }
}
