//! What is kept of something incomplete.

use std::time::Instant;

use super::{CodecError, Limits, MAX_CONTROL_BYTES};

/// Longest header of a frame: two bytes, eight of length, four of mask.
const MAX_HEADER_BYTES: usize = 14;

/// The bytes of a header that has not arrived in full.
#[derive(Default)]
pub(super) struct Head {
    bytes: [u8; MAX_HEADER_BYTES],
    len: u8,
}

/// What a frame is, beside its bytes; `last` where its message ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text { last: bool },
    Binary { last: bool },
    Continue { last: bool },
    Ping,
    Pong,
    Close,
}

/// What a whole payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    Text,
    Binary,
    Ping,
    Pong,
    Close,
}

/// A frame whose header was read and found good.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// For the next byte of payload.
    pub(super) mask: [u8; 4],
    /// Bytes of payload that are still to come.
    pub(super) missing: usize,
}

/// A data message of which parts have arrived.
pub(super) struct Assembly {
    binary: bool,
    pub(super) fragments: u32,
    /// Unmasked, all fragments together.
    pub(super) bytes: Vec<u8>,
    /// How many of the bytes are known to be whole code points.
    checked: usize,
}

/// Everything that a connection in the middle of something needs.
#[derive(Default)]
pub(super) struct Partial {
    pub(super) head: Head,
    pub(super) frame: Option<Frame>,
    pub(super) message: Option<Assembly>,
    /// The payload of the control frame in `frame`: it may stand between two fragments
    /// of `message`.
    control: Vec<u8>,
    /// Bytes as read, which nobody has looked at from `unread_at` on. What is before it
    /// is not moved away: somebody who takes one message at a time would move the rest
    /// once for each.
    pub(super) unread: Vec<u8>,
    pub(super) unread_at: usize,
    /// Since when it is incomplete, where somebody has asked.
    pub(super) since: Option<Instant>,
}

impl Partial {
    pub(super) fn is_empty(&self) -> bool {
        !self.is_incomplete() && self.unread() == 0
    }

    /// Whether the client has begun something, and not ended it.
    pub(super) fn is_incomplete(&self) -> bool {
        self.head.len() > 0 || self.frame.is_some() || self.message.is_some()
    }

    /// A payload is whole: unless it stands within a message, what comes next is another.
    pub(super) fn rest(&mut self) {
        if self.message.is_none() {
            self.since = None;
        }
    }

    pub(super) fn unread(&self) -> usize {
        self.unread.len() - self.unread_at
    }

    /// Keeps `bytes` of the payload of `frame`; `fresh` where they are its first.
    pub(super) fn keep(
        &mut self,
        frame: &Frame,
        fresh: bool,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<(), CodecError> {
        self.frame = (frame.missing > 0).then_some(*frame);
        match frame.kind {
            Kind::Ping | Kind::Pong | Kind::Close => {
                append(&mut self.control, bytes, MAX_CONTROL_BYTES);
                Ok(())
            }
            Kind::Text { .. } | Kind::Binary { .. } | Kind::Continue { .. } => {
                let binary = matches!(frame.kind, Kind::Binary { .. });
                let message = self.message.get_or_insert_with(|| Assembly::new(binary));
                message.fragments += u32::from(fresh);
                message.keep(bytes, limits)
            }
        }
    }

    /// The payload that ends with `frame`, all of which was kept.
    pub(super) fn take_whole(&mut self, frame: &Frame) -> Option<(Payload, Vec<u8>)> {
        let control = match frame.kind {
            Kind::Text { last } | Kind::Binary { last } | Kind::Continue { last } => {
                let message = self.message.take_if(|_| last)?;
                let kind = if message.binary { Payload::Binary } else { Payload::Text };
                return Some((kind, message.bytes));
            }
            Kind::Ping => Payload::Ping,
            Kind::Pong => Payload::Pong,
            Kind::Close => Payload::Close,
        };
        Some((control, std::mem::take(&mut self.control)))
    }
}

impl Head {
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    /// Adds what fits: no header is longer.
    pub(super) fn extend(&mut self, input: &[u8]) {
        let free = &mut self.bytes[usize::from(self.len)..];
        let len = input.len().min(free.len());
        free[..len].copy_from_slice(&input[..len]);
        self.len += len as u8;
    }
}

impl Kind {
    /// What a frame of this kind is where it arrived in one piece and is a whole message.
    pub(super) fn alone(self) -> Option<Payload> {
        match self {
            Self::Text { last: true } => Some(Payload::Text),
            Self::Binary { last: true } => Some(Payload::Binary),
            Self::Text { .. } | Self::Binary { .. } | Self::Continue { .. } => None,
            Self::Ping => Some(Payload::Ping),
            Self::Pong => Some(Payload::Pong),
            Self::Close => Some(Payload::Close),
        }
    }
}

impl Assembly {
    fn new(binary: bool) -> Self {
        Self { binary, fragments: 0, bytes: Vec::new(), checked: 0 }
    }

    /// Keeps payload, and checks what can be known of it: a text that has gone wrong is
    /// refused at once and not when its last fragment comes.
    fn keep(&mut self, bytes: &[u8], limits: &Limits) -> Result<(), CodecError> {
        append(&mut self.bytes, bytes, limits.max_message_bytes);
        if self.binary {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.bytes[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            // The start of a code point whose rest may come: at most three bytes, which
            // are looked at again.
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(CodecError::NotUtf8),
        }
        Ok(())
    }
}

/// Appends, and grows by doubling like `Vec` does, but never beyond `max`: what a header
/// promises costs nothing until it comes.
fn append(to: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let needed = to.len() + bytes.len();
    if needed > to.capacity() {
        let target = to.capacity().saturating_mul(2).min(max).max(needed);
        to.reserve_exact(target - to.len());
    }
    to.extend_from_slice(bytes);
}
