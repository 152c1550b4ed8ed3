//! One client of a crowd: from its first packet until its connection ends.
//!
//! ```text
//! Connecting --writable--> Upgrading --101--> Greeting --welcome--> In
//!                                    '--------- plain ------------^
//! ```

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;

use super::ledger::{Ledger, Place, Streams};
use crate::load::handshake::{self, HandshakeError};
use crate::load::socket_io::{self, Greeting};
use crate::load::{Dialect, Frame, FrameError, Ping, answer};

/// A client's connection and its account.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) phase: Phase,
    pub(super) place: Place,
    pub(super) streams: Streams,
    /// When it began to connect.
    pub(super) began: u64,
    /// The beginning of what is not whole yet.
    partial: Vec<u8>,
}

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Upgrading,
    Greeting,
    In,
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("no answer in time")]
    Late,
    #[error("code {0}")]
    Code(u16),
    #[error("a close frame without a code")]
    NoCode,
    #[error("no close frame")]
    Lost,
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Ended {
    /// In words, with their cause.
    pub(super) fn reason(&self) -> String {
        let mut reason = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            reason = format!("{reason}: {error}");
            cause = error.source();
        }
        reason
    }
}

impl Client {
    pub(super) fn new(stream: TcpStream, place: Place, began: u64) -> Self {
        let (phase, streams, partial) = (Phase::Connecting, Streams::default(), Vec::new());
        Self { stream, phase, place, streams, began, partial }
    }

    /// Goes on once the socket is connected.
    pub(super) fn connected(&mut self, request: impl FnOnce() -> String) -> Result<(), Ended> {
        let io = |error| Ended::Handshake(HandshakeError::Io(error));
        if let Some(error) = self.stream.take_error().map_err(io)? {
            return Err(io(error));
        }
        match self.stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
            Err(error) => return Err(io(error)),
        }
        // The socket's buffer is empty and larger than any request.
        self.stream.write_all(request().as_bytes()).map_err(io)?;
        self.phase = Phase::Upgrading;
        Ok(())
    }

    /// Reads all that the socket has. `ending`: its end was told of, and is not again.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        ending: bool,
        ledger: &mut Ledger,
    ) -> Result<(), Ended> {
        loop {
            let kept = self.partial.len();
            buffer[..kept].copy_from_slice(&self.partial);
            let read = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err(self.lost(ErrorKind::UnexpectedEof.into())),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.lost(error)),
            };
            self.partial.clear();
            let filled = kept + read;
            self.take(&buffer[..filled], ledger)?;
            if filled < buffer.len() && !ending {
                return Ok(());
            }
        }
    }

    fn lost(&self, error: io::Error) -> Ended {
        if self.phase == Phase::In { Ended::Lost } else { HandshakeError::Io(error).into() }
    }

    fn take(&mut self, mut bytes: &[u8], ledger: &mut Ledger) -> Result<(), Ended> {
        if self.phase == Phase::Upgrading
            && let Some(end) = handshake::answered(bytes)?
        {
            bytes = &bytes[end..];
            self.phase = match ledger.dialect {
                Dialect::Plain => Phase::In,
                Dialect::Native | Dialect::SocketIo => Phase::Greeting,
            };
        }
        if self.phase != Phase::Upgrading {
            let now = ledger.now();
            while let Some((frame, end)) = Frame::first(bytes)? {
                match frame {
                    Frame::Text(text) => self.text(text, now, ledger)?,
                    Frame::Ping(payload) => answer(&mut self.stream, Ping::Frame(payload)),
                    Frame::Pong => {}
                    Frame::Close(code) => return Err(self.closed(code)),
                }
                bytes = &bytes[end..];
            }
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn text(&mut self, text: &[u8], now: u64, ledger: &mut Ledger) -> Result<(), Ended> {
        if self.phase == Phase::Greeting {
            match handshake::greeting(ledger.dialect, text)? {
                // As for the request: there is room.
                Greeting::Open => drop(self.stream.write(&socket_io::CONNECT)),
                Greeting::Ping => answer(&mut self.stream, Ping::Packet),
                Greeting::Connected => self.phase = Phase::In,
                Greeting::Other => {}
            }
            return Ok(());
        }
        if ledger.dialect == Dialect::SocketIo {
            if socket_io::is_ping(text) {
                answer(&mut self.stream, Ping::Packet);
                return Ok(());
            }
            if socket_io::is_goodbye(text) {
                return Err(Ended::NoCode);
            }
        }
        ledger.text(text, self.place, &mut self.streams, now);
        Ok(())
    }

    fn closed(&mut self, code: Option<u16>) -> Ended {
        if self.phase != Phase::In {
            return HandshakeError::Closed(code).into();
        }
        self.say_goodbye(code.unwrap_or(NORMAL));
        code.map_or(Ended::NoCode, Ended::Code)
    }

    /// Sends a close frame, or the answer to one.
    pub(super) fn say_goodbye(&mut self, code: u16) {
        let [high, low] = code.to_be_bytes();
        // Whoever does not hear it hears the end of the connection.
        let _ = self.stream.write(&[0x88, 0x82, 0, 0, 0, 0, high, low]);
    }
}

/// The close code of an end that is meant: RFC 6455, 7.4.1.
pub(super) const NORMAL: u16 = 1000;
