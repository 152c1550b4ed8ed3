//! Opens a connection and waits until it is told that it is in.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::load::Frame;
use crate::load::handshake::{self, HandshakeError};

/// Last numbers of further addresses of this machine, on loopback.
const SOURCES: std::ops::RangeInclusive<u8> = 2..=5;

/// A connection that is in `room`, and what it was told first.
pub(super) fn open(
    server: SocketAddr,
    room: &str,
    receive_buffer: Option<usize>,
    deadline: Instant,
) -> Result<(TcpStream, String), HandshakeError> {
    // Zero would mean no limit, or is refused.
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let socket = connected(server, receive_buffer, left)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))?;
    let target = format!("/ws?room={room}");
    stream
        .write_all(handshake::request(&server.to_string(), &target, Some("anybody")).as_bytes())?;
    let mut bytes = Vec::new();
    let mut answered = None;
    loop {
        let mut more = [0; 1024];
        match stream.read(&mut more)? {
            0 => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            read => bytes.extend_from_slice(&more[..read]),
        }
        if answered.is_none() {
            answered = handshake::answered(&bytes)?;
        }
        let Some(end) = answered else { continue };
        // Nothing is published before all are in: the welcome is all that comes.
        match Frame::first(&bytes[end..])? {
            Some((Frame::Text(text), _)) => {
                return Ok((stream, String::from_utf8_lossy(text).into_owned()));
            }
            Some((frame, _)) => return Err(HandshakeError::Refused(format!("{frame:?}"))),
            None => {}
        }
    }
}

/// A connection from where there are ports left: the system has 28,000 for an address, of
/// which other programs may have taken some.
fn connected(
    server: SocketAddr,
    receive_buffer: Option<usize>,
    left: Duration,
) -> io::Result<Socket> {
    let mut sources = std::iter::once(None).chain(SOURCES.map(Some));
    loop {
        let source = sources.next().ok_or(ErrorKind::AddrNotAvailable)?;
        let source = source.map(|last| SocketAddr::from(([127, 0, 0, last], 0)));
        let connect = || {
            let socket = handshake::socket(server, source)?;
            if let Some(bytes) = receive_buffer {
                // Before it connects: how much the server may send is agreed on then.
                socket.set_recv_buffer_size(bytes)?;
            }
            socket.connect_timeout(&server.into(), left)?;
            Ok(socket)
        };
        match connect() {
            Err(error) if out_of_ports(&error) => {}
            result => return result,
        }
    }
}

fn out_of_ports(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse)
}
