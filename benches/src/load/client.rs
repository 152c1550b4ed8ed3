//! What one client has received so far.

use super::frame::{Frame, FrameError};
use crate::message;

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

/// A client's account of what it has received.
#[derive(Debug, Default)]
pub struct Client {
    /// The number of the message that comes next.
    next: u64,
    /// The beginning of a frame that is not whole yet; keeps its memory.
    partial: Vec<u8>,
}

impl Client {
    /// Puts what is left of a frame at the start of `buffer`, where reading goes on;
    /// says how much it is.
    pub fn restore(&mut self, buffer: &mut [u8]) -> usize {
        let kept = self.partial.len();
        buffer[..kept].copy_from_slice(&self.partial);
        self.partial.clear();
        kept
    }

    /// Takes all whole frames of `bytes` and keeps the rest. Messages have `text_len`
    /// bytes; `on_message` is told when each was sent, `on_ping` what to answer with.
    ///
    /// # Errors
    /// [`Problem`] with the first message that is not the next one.
    pub fn take(
        &mut self,
        mut bytes: &[u8],
        text_len: usize,
        mut on_message: impl FnMut(u64),
        mut on_ping: impl FnMut(&[u8]),
    ) -> Result<(), Problem> {
        while let Some((frame, end)) = Frame::first(bytes)? {
            match frame {
                // A text that has no stamp is the server's own talk: welcome, heartbeat.
                Frame::Text(text) => {
                    if let Some(stamp) = message::stamp(text) {
                        self.message(stamp.seq, text.len(), text_len)?;
                        on_message(stamp.sent);
                    }
                }
                Frame::Ping(payload) => on_ping(payload),
                Frame::Pong => {}
                Frame::Close(code) => return Err(Problem::Closed(code)),
            }
            bytes = &bytes[end..];
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn message(&mut self, seq: u64, len: usize, expected: usize) -> Result<(), Problem> {
        if seq != self.next {
            return Err(Problem::Order { expected: self.next, got: seq });
        }
        if len != expected {
            return Err(Problem::Length { seq, len, expected });
        }
        self.next += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use ws_sink::codec::encode;

    use super::*;
    use crate::message::{Messages, text_len};

    /// The frames of the first messages, with a welcome before and a ping between.
    fn frames(count: usize) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (BytesMut::new(), Vec::new());
        let mut messages = Messages::new(200).unwrap();
        encode::text(&mut bytes, &[br#"{"event":"welcome","data":{}}"#]);
        for n in 0..count {
            encode::text(&mut bytes, &[messages.text(n as u64).as_bytes()]);
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
        client.take(&buffer[..kept + bytes.len()], text_len(200), |at| sent.push(at), |_| {})?;
        Ok(sent)
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let (bytes, _) = frames(5);
        for size in [1, 7, 100, 300, 2000] {
            let mut client = Client::default();
            let sent: Vec<u64> =
                bytes.chunks(size).flat_map(|cut| take(&mut client, cut).unwrap()).collect();
            assert_eq!(sent, [0, 1, 2, 3, 4], "cut at {size}");
            assert!(client.partial.is_empty());
        }
    }

    #[test]
    fn what_is_lost_or_doubled_is_found() {
        let (bytes, ends) = frames(3);
        let mut client = Client::default();
        take(&mut client, &bytes[..ends[0]]).unwrap();
        let again = take(&mut client, &bytes[..ends[0]]);
        assert_eq!(again, Err(Problem::Order { expected: 1, got: 0 }));
        let lost = take(&mut client, &bytes[ends[1]..]);
        assert_eq!(lost, Err(Problem::Order { expected: 1, got: 2 }));
    }

    #[test]
    fn a_message_of_another_length_and_a_close_are_problems() {
        let mut bytes = BytesMut::new();
        encode::text(&mut bytes, &[Messages::new(201).unwrap().text(0).as_bytes()]);
        let expected = text_len(200);
        let got = take(&mut Client::default(), &bytes);
        assert_eq!(got, Err(Problem::Length { seq: 0, len: expected + 1, expected }));
        bytes.clear();
        encode::close(&mut bytes, Some((4001, ""))).unwrap();
        assert_eq!(take(&mut Client::default(), &bytes), Err(Problem::Closed(Some(4001))));
    }
}
