//! Bytes of a socket to messages.

use std::fmt;
use std::io::Cursor;
use std::ops::Range;
use std::time::Instant;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::mask;
use super::partial::{Assembly, Frame, Head, Kind, Partial, Payload};
use super::{CodecError, Limits, MAX_CONTROL_BYTES, Message};

/// One connection's place in what its client sends.
///
/// Holds no heap memory between messages, and is small enough to stand in the slot of
/// its connection.
#[derive(Default)]
pub struct Decoder(State);

#[derive(Default)]
enum State {
    /// ## Idle => Busy
    /// When a feed ends inside a frame or a message, or before the last message was taken.
    #[default]
    Idle,
    /// ## Busy => Idle
    /// When nothing is left of that.
    Busy(Box<Partial>),
    /// ## any => Closed
    /// After a close frame or an error; for good.
    Closed,
}

impl Decoder {
    /// Takes the bytes just read. They are unmasked in place, and the messages in them
    /// come from [`Messages::next_message`].
    ///
    /// Whoever drops the [`Messages`] early keeps their rest here, as it was read, and
    /// gets it before the next input: `feed(&mut [], ..)` goes on. That rest is never more
    /// than was fed, so it is bounded as long as the socket is not read while
    /// [`unread`](Self::unread) is not zero.
    pub fn feed<'a>(&'a mut self, input: &'a mut [u8], limits: &'a Limits) -> Messages<'a> {
        let mut at = 0;
        let buffer = match &mut self.0 {
            State::Busy(partial) if partial.unread() > 0 => {
                let mut unread = std::mem::take(&mut partial.unread);
                at = std::mem::take(&mut partial.unread_at);
                if !input.is_empty() {
                    unread.drain(..std::mem::take(&mut at));
                    unread.extend_from_slice(input);
                }
                Buffer::Kept(unread)
            }
            _ => Buffer::Fed(input),
        };
        Messages { decoder: self, buffer, at, done: Vec::new(), frames: 0, limits }
    }

    /// Bytes that were fed and not looked at, because the messages were not taken.
    pub fn unread(&self) -> usize {
        match &self.0 {
            State::Busy(partial) => partial.unread(),
            State::Idle | State::Closed => 0,
        }
    }

    /// Whether part of a frame or message is kept: a client that leaves it so has to be
    /// given a deadline.
    pub fn is_incomplete(&self) -> bool {
        matches!(self.0, State::Busy(_))
    }

    /// Since when part of a frame or message is kept: since the first call of this that found
    /// it so, which is to come when all was read that had arrived.
    pub fn incomplete_since(&mut self, now: Instant) -> Option<Instant> {
        let partial = self.partial().filter(|partial| partial.is_incomplete())?;
        Some(*partial.since.get_or_insert(now))
    }

    /// Whether a close frame or an error has ended the input.
    pub fn is_closed(&self) -> bool {
        matches!(self.0, State::Closed)
    }

    fn partial(&mut self) -> Option<&mut Partial> {
        match &mut self.0 {
            State::Busy(partial) => Some(partial),
            State::Idle | State::Closed => None,
        }
    }

    fn busy(&mut self) -> &mut Partial {
        if !matches!(self.0, State::Busy(_)) {
            self.0 = State::Busy(Box::default());
        }
        self.partial().expect("made busy above")
    }

    fn close(&mut self) {
        self.0 = State::Closed;
    }

    /// Frees the box where nothing is left in it.
    fn settle(&mut self) {
        if self.partial().is_some_and(|partial| partial.is_empty()) {
            self.0 = State::Idle;
        }
    }

    /// The frame that `input` begins with or goes on with, and how many of its bytes were
    /// the header. `None` where the header is incomplete: all of `input` was kept then.
    fn frame(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<(Frame, usize)>, CodecError> {
        let Some(partial) = self.partial() else {
            let read = header(input, None, limits)?;
            if read.is_none() && !input.is_empty() {
                self.busy().head.extend(input);
            }
            return Ok(read);
        };
        if let Some(frame) = partial.frame {
            return Ok(Some((frame, 0)));
        }
        let before = partial.head.len();
        // Usually empty: then the header is read where it is.
        let head = if before > 0 {
            partial.head.extend(input);
            partial.head.bytes()
        } else {
            input
        };
        let read = header(head, partial.message.as_ref(), limits)?;
        if let Some((frame, used)) = read {
            // What was kept was too little, so the header ends in the input.
            partial.head = Head::default();
            return Ok(Some((frame, used - before)));
        }
        if before == 0 {
            partial.head.extend(input);
        }
        Ok(None)
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a client sends may be a token: no byte of it is shown.
        let state = match &self.0 {
            State::Idle => "idle",
            State::Busy(_) => "busy",
            State::Closed => "closed",
        };
        f.debug_struct("Decoder").field("state", &state).field("unread", &self.unread()).finish()
    }
}

/// The messages in what was fed, one after the other.
///
/// Dropping it keeps what was not taken; see [`Decoder::feed`].
pub struct Messages<'a> {
    decoder: &'a mut Decoder,
    buffer: Buffer<'a>,
    /// Where in the buffer the next frame, or the rest of one, begins.
    at: usize,
    /// The payload that the message given out last was put together in.
    done: Vec<u8>,
    frames: u32,
    limits: &'a Limits,
}

enum Buffer<'a> {
    Fed(&'a mut [u8]),
    Kept(Vec<u8>),
}

/// A whole payload, unmasked.
struct Found {
    kind: Payload,
    /// Where in the buffer, or `None` for [`Messages::done`].
    place: Option<Range<usize>>,
}

impl Messages<'_> {
    /// The next message, or `None` where the rest is not yet a whole one.
    ///
    /// A text or control frame that was read at once borrows from the buffer: nothing is
    /// copied or allocated.
    ///
    /// # Errors
    /// [`CodecError`] where the client broke a rule or a limit. The decoder is closed then,
    /// and drops all input.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, CodecError> {
        let found = match self.advance() {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.decoder.close();
                return Err(error);
            }
        };
        let payload = match found.place {
            Some(range) => &self.buffer.bytes()[range],
            None => &self.done[..],
        };
        let message = view(found.kind, payload);
        if matches!(message, Err(_) | Ok(Message::Close(_))) {
            self.decoder.close();
        }
        message.map(Some)
    }

    /// Frames that have begun since this was asked last: whole messages, fragments, pings,
    /// whether they have anything in them or not.
    pub fn take_frames(&mut self) -> u32 {
        std::mem::take(&mut self.frames)
    }

    /// Reads on until a payload is whole.
    fn advance(&mut self) -> Result<Option<Found>, CodecError> {
        while !self.decoder.is_closed() {
            let buffer = self.buffer.bytes_mut();
            let Some((mut frame, header_len)) =
                self.decoder.frame(&buffer[self.at..], self.limits)?
            else {
                self.at = buffer.len();
                break;
            };
            self.frames += u32::from(header_len > 0);
            let start = self.at + header_len;
            let end = start + frame.missing.min(buffer.len() - start);
            self.at = end;
            frame.mask = mask::apply(&mut buffer[start..end], frame.mask);
            frame.missing -= end - start;

            let fresh = self.decoder.partial().is_none_or(|partial| partial.frame.is_none());
            let alone = frame.kind.alone().filter(|_| fresh && frame.missing == 0);
            if let Some(kind) = alone {
                self.decoder.partial().map(Partial::rest);
                return Ok(Some(Found { kind, place: Some(start..end) }));
            }
            let partial = self.decoder.busy();
            partial.keep(&frame, fresh, &buffer[start..end], self.limits)?;
            if frame.missing > 0 {
                break;
            }
            if let Some((kind, payload)) = partial.take_whole(&frame) {
                partial.rest();
                self.done = payload;
                return Ok(Some(Found { kind, place: None }));
            }
        }
        Ok(None)
    }
}

impl Drop for Messages<'_> {
    fn drop(&mut self) {
        if self.decoder.is_closed() {
            return;
        }
        if self.at < self.buffer.bytes().len() {
            let partial = self.decoder.busy();
            (partial.unread, partial.unread_at) = match &mut self.buffer {
                Buffer::Fed(bytes) => (bytes[self.at..].to_vec(), 0),
                Buffer::Kept(bytes) => (std::mem::take(bytes), self.at),
            };
        } else {
            self.decoder.settle();
        }
    }
}

impl fmt::Debug for Messages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}

impl Buffer<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Fed(bytes) => bytes,
            Self::Kept(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Fed(bytes) => bytes,
            Self::Kept(bytes) => bytes,
        }
    }
}

/// Reads a frame's header and checks it against everything that is known before its
/// payload comes, so that nothing is kept of a frame that will be refused.
fn header(
    input: &[u8],
    message: Option<&Assembly>,
    limits: &Limits,
) -> Result<Option<(Frame, usize)>, CodecError> {
    let mut cursor = Cursor::new(input);
    let (header, len) = match FrameHeader::parse(&mut cursor) {
        Ok(Some(read)) => read,
        Ok(None) => return Ok(None),
        // Reading from memory has no other way to fail.
        Err(_) => return Err(CodecError::ReservedOpcode(input[0] & 0x0f)),
    };
    let used = cursor.position() as usize;
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(CodecError::ReservedBits);
    }
    let mask = header.mask.ok_or(CodecError::Unmasked)?;
    if header.len(len) != used {
        return Err(CodecError::LengthForm);
    }
    let last = header.is_final;
    let kind = match header.opcode {
        OpCode::Data(Data::Continue) => Kind::Continue { last },
        OpCode::Data(Data::Text) => Kind::Text { last },
        OpCode::Data(Data::Binary) => Kind::Binary { last },
        OpCode::Control(Control::Ping) => Kind::Ping,
        OpCode::Control(Control::Pong) => Kind::Pong,
        OpCode::Control(Control::Close) => Kind::Close,
        OpCode::Data(Data::Reserved(code)) | OpCode::Control(Control::Reserved(code)) => {
            return Err(CodecError::ReservedOpcode(code));
        }
    };
    match (kind, message) {
        (Kind::Ping | Kind::Pong | Kind::Close, _) => {
            if !last {
                return Err(CodecError::ControlFragmented);
            }
            if len > MAX_CONTROL_BYTES as u64 {
                return Err(CodecError::ControlTooLong { len });
            }
        }
        (Kind::Continue { .. }, None) => return Err(CodecError::NothingToContinue),
        (Kind::Text { .. } | Kind::Binary { .. }, Some(_)) => return Err(CodecError::Unfinished),
        (Kind::Binary { .. }, None) if !limits.allow_binary => return Err(CodecError::Binary),
        (Kind::Text { .. } | Kind::Binary { .. } | Kind::Continue { .. }, _) => {
            let before = message.map_or(0, |message| message.bytes.len() as u64);
            let (len, max) = (len.saturating_add(before), limits.max_message_bytes);
            if len > max as u64 {
                return Err(CodecError::TooLarge { len, max });
            }
            let max = limits.max_fragments;
            if message.is_some_and(|message| message.fragments >= max) {
                return Err(CodecError::TooManyFragments { max });
            }
        }
    }
    // At most the limit, which is a usize.
    Ok(Some((Frame { kind, mask, missing: len as usize }, used)))
}

/// A whole payload as the message that it is.
fn view(kind: Payload, bytes: &[u8]) -> Result<Message<'_>, CodecError> {
    let text = |bytes| simdutf8::basic::from_utf8(bytes).map_err(|_| CodecError::NotUtf8);
    Ok(match kind {
        // What was put together was checked piece by piece, all but its end; looking at it
        // once more costs less than trusting it would.
        Payload::Text => Message::Text(text(bytes)?),
        Payload::Binary => Message::Binary(bytes),
        Payload::Ping => Message::Ping(bytes),
        Payload::Pong => Message::Pong(bytes),
        Payload::Close => match bytes {
            [] => Message::Close(None),
            [_] => return Err(CodecError::ClosePayload),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !CloseCode::from(code).is_allowed() {
                    return Err(CodecError::CloseCode(code));
                }
                Message::Close(Some((code, text(reason)?)))
            }
        },
    })
}

#[cfg(test)]
mod tests;
