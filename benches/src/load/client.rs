//! What one client has received so far.

use std::io::Write;

use super::endpoint::Dialect;
use super::frame::{Frame, FrameError};
use super::socket_io;
use crate::message::Stamp;

/// Most bytes of a ping: RFC 6455, 5.5.
const MAX_PING: usize = 125;

/// Why a client's account is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Lost, doubled or out of order.
    #[error("message {got} came where {expected} was next")]
    Order {
        /// The number that was next.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// For somebody else.
    #[error("message {seq} is for room {room}")]
    Room {
        /// Its number.
        seq: u64,
        /// Whose room.
        room: usize,
    },
    /// Cut or grown.
    #[error("message {seq} has {len} bytes, not {expected}")]
    Length {
        /// Its number.
        seq: u64,
        /// How long it is.
        len: usize,
        /// How long it should be.
        expected: usize,
    },
    /// No frame.
    #[error("not a frame")]
    Frame(#[from] FrameError),
    /// The server does not want it any more.
    #[error("the server has closed the connection with code {0:?}")]
    Closed(Option<u16>),
}

/// What a client has to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // Made by the load.
pub struct Expected {
    /// What is spoken.
    pub dialect: Dialect,
    /// Its own room, where it has one.
    pub room: Option<usize>,
    /// Bytes of a message's text.
    pub text_len: usize,
}

/// What a server wants to have answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // Each has its answer.
pub enum Ping<'a> {
    /// A WebSocket's, to be answered with the same bytes.
    Frame(&'a [u8]),
    /// Engine.IO's.
    Packet,
}

/// A client's account of what it has received.
#[derive(Debug)]
pub struct Client {
    expected: Expected,
    /// The number of the message that comes next.
    next: u64,
    /// The beginning of a frame that is not whole yet; keeps its memory.
    partial: Vec<u8>,
}

impl Client {
    /// Has received nothing.
    pub fn new(expected: Expected) -> Self {
        Self { expected, next: 0, partial: Vec::new() }
    }

    /// Puts what is left of a frame at the start of `buffer`, where reading goes on;
    /// says how much it is.
    pub fn restore(&mut self, buffer: &mut [u8]) -> usize {
        let kept = self.partial.len();
        buffer[..kept].copy_from_slice(&self.partial);
        self.partial.clear();
        kept
    }

    /// Takes all whole frames of `bytes` and keeps the rest. `on_message` is told when
    /// each was sent, `on_ping` what to answer.
    ///
    /// # Errors
    /// [`Problem`] with the first message that is not the next one.
    pub fn take(
        &mut self,
        mut bytes: &[u8],
        mut on_message: impl FnMut(u64),
        mut on_ping: impl FnMut(Ping<'_>),
    ) -> Result<(), Problem> {
        let dialect = self.expected.dialect;
        while let Some((frame, end)) = Frame::first(bytes)? {
            match frame {
                Frame::Text(text) => {
                    if let Some(stamp) = dialect.stamp(text) {
                        self.message(stamp, text.len())?;
                        on_message(stamp.sent);
                    } else if dialect == Dialect::SocketIo && socket_io::is_ping(text) {
                        on_ping(Ping::Packet);
                    } else if dialect == Dialect::SocketIo && socket_io::is_goodbye(text) {
                        return Err(Problem::Closed(None));
                    }
                    // Else the server's own talk: welcome, heartbeat.
                }
                Frame::Ping(payload) => on_ping(Ping::Frame(payload)),
                Frame::Pong => {}
                Frame::Close(code) => return Err(Problem::Closed(code)),
            }
            bytes = &bytes[end..];
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn message(&mut self, Stamp { room, seq, .. }: Stamp, len: usize) -> Result<(), Problem> {
        let expected = self.expected;
        if let Some(room) = room.filter(|room| expected.room != Some(*room)) {
            return Err(Problem::Room { seq, room });
        }
        if seq != self.next {
            return Err(Problem::Order { expected: self.next, got: seq });
        }
        if len != expected.text_len {
            return Err(Problem::Length { seq, len, expected: expected.text_len });
        }
        self.next += 1;
        Ok(())
    }
}

/// Answers a ping, so that the server does not take the client for gone. Where the
/// socket is full the server hears of it by the next one.
pub(crate) fn answer(stream: &mut impl Write, ping: Ping<'_>) {
    let payload = match ping {
        Ping::Frame(payload) => payload,
        Ping::Packet => {
            let _ = stream.write(&socket_io::PONG);
            return;
        }
    };
    let mut frame = [0; 6 + MAX_PING];
    let Some(body) = frame[6..].get_mut(..payload.len()) else { return };
    // Masked with zeros, which leave it as it is.
    body.copy_from_slice(payload);
    (frame[0], frame[1]) = (0x8a, 0x80 | payload.len() as u8);
    let _ = stream.write(&frame[..6 + payload.len()]);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use ws_sink::codec::encode;

    use super::*;
    use crate::message::{Messages, socket_io_len, text_len};
    use crate::run::Rooms;

    fn messages(bytes: usize) -> Messages {
        Messages::new(bytes, Rooms::One, 1).unwrap()
    }

    fn client() -> Client {
        let text_len = text_len(200, Rooms::One);
        Client::new(Expected { dialect: Dialect::Native, room: None, text_len })
    }

    /// The frames of the first messages, with a welcome before and a ping between.
    fn frames(count: usize) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (BytesMut::new(), Vec::new());
        let mut messages = messages(200);
        encode::text(&mut bytes, &[br#"{"event":"welcome","data":{}}"#]);
        for n in 0..count {
            encode::text(&mut bytes, &[messages.text(n as u64).1.as_bytes()]);
            ends.push(bytes.len());
            encode::ping(&mut bytes, b"still there?").unwrap();
        }
        (bytes.to_vec(), ends)
    }

    fn take(client: &mut Client, bytes: &[u8]) -> Result<Vec<u64>, Problem> {
        let mut buffer = vec![0; 4096];
        let kept = client.restore(&mut buffer);
        buffer[kept..][..bytes.len()].copy_from_slice(bytes);
        let mut sent = Vec::new();
        client.take(&buffer[..kept + bytes.len()], |at| sent.push(at), |_| {})?;
        Ok(sent)
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let (bytes, _) = frames(5);
        for size in [1, 7, 100, 300, 2000] {
            let mut client = client();
            let sent: Vec<u64> =
                bytes.chunks(size).flat_map(|cut| take(&mut client, cut).unwrap()).collect();
            assert_eq!(sent, [0, 1, 2, 3, 4], "cut at {size}");
            assert!(client.partial.is_empty());
        }
    }

    #[test]
    fn what_is_lost_or_doubled_is_found() {
        let (bytes, ends) = frames(3);
        let mut client = client();
        take(&mut client, &bytes[..ends[0]]).unwrap();
        let again = take(&mut client, &bytes[..ends[0]]);
        assert_eq!(again, Err(Problem::Order { expected: 1, got: 0 }));
        let lost = take(&mut client, &bytes[ends[1]..]);
        assert_eq!(lost, Err(Problem::Order { expected: 1, got: 2 }));
    }

    #[test]
    fn a_message_of_another_length_and_a_close_are_problems() {
        let mut bytes = BytesMut::new();
        encode::text(&mut bytes, &[messages(201).text(0).1.as_bytes()]);
        let expected = text_len(200, Rooms::One);
        let got = take(&mut client(), &bytes);
        assert_eq!(got, Err(Problem::Length { seq: 0, len: expected + 1, expected }));
        bytes.clear();
        encode::close(&mut bytes, Some((4001, ""))).unwrap();
        assert_eq!(take(&mut client(), &bytes), Err(Problem::Closed(Some(4001))));
    }

    #[test]
    fn a_message_for_somebody_else_is_a_problem() {
        let (_, text) = Messages::new(200, Rooms::Each, 1).unwrap().text(0);
        let mut bytes = BytesMut::new();
        encode::text(&mut bytes, &[text.as_bytes()]);
        let text_len = text_len(200, Rooms::Each);
        let in_room = |room| Client::new(Expected { dialect: Dialect::Plain, room, text_len });
        assert_eq!(take(&mut in_room(Some(0)), &bytes), Ok(vec![0]));
        for room in [None, Some(1)] {
            let wrong = take(&mut in_room(room), &bytes);
            assert_eq!(wrong, Err(Problem::Room { seq: 0, room: 0 }));
        }
    }

    #[test]
    fn packets_are_events_pings_and_goodbyes() {
        let payload = messages(200).draw(7).payload.to_vec();
        let mut bytes = BytesMut::new();
        encode::text(&mut bytes, &[b"2"]);
        encode::text(&mut bytes, &[br#"42["message","#, &payload, b"]"]);
        let text_len = socket_io_len(200);
        let expected = Expected { dialect: Dialect::SocketIo, room: None, text_len };
        let (mut client, mut sent, mut pings) = (Client::new(expected), vec![], 0);
        let on_ping = |ping: Ping<'_>| pings += usize::from(ping == Ping::Packet);
        client.take(&bytes, |at| sent.push(at), on_ping).unwrap();
        assert_eq!((sent, pings), (vec![7], 1));
        bytes.clear();
        encode::text(&mut bytes, &[b"41"]);
        assert_eq!(client.take(&bytes, |_| {}, |_| {}), Err(Problem::Closed(None)));
    }
}
