//! RFC 6455 as a server speaks it, with nothing held for a connection that is idle.
//!
//! A shard owns many connections and one read buffer. It hands what it has just read
//! to the connection's [`Decoder`], which unmasks in place and yields messages that
//! borrow from that buffer. Only the bytes of a frame or message that is still
//! incomplete, and messages that the shard did not take yet, are kept, in a box that
//! exists no longer than they do.
//!
//! ```text
//!              whole messages, nothing left over
//!             .--------------------------------.
//!             v                                |
//!   Idle (no heap) --part of something--> Busy (one box)
//!     |                                        |
//!     '------- close frame, or an error -------'--> Closed: input is dropped
//! ```
//!
//! Headers, opcodes and close codes are tungstenite's; reassembly, limits and UTF-8
//! are here, because tungstenite keeps buffers per connection.
//!
//! ```
//! use ws_sink::codec::{Decoder, Limits, Message};
//!
//! // "hi" from a client, masked with zeros.
//! let mut read = *b"\x81\x82\0\0\0\0hi";
//! let mut decoder = Decoder::default();
//! let limits = Limits::default();
//! let mut messages = decoder.feed(&mut read, &limits);
//! assert_eq!(messages.next_message()?, Some(Message::Text("hi")));
//! assert_eq!(messages.next_message()?, None);
//! # Ok::<(), ws_sink::codec::CodecError>(())
//! ```

mod decode;
pub mod encode;
mod mask;
mod partial;

pub use decode::{Decoder, Messages};

/// Most bytes of a control frame's payload, by RFC 6455, 5.5.
pub const MAX_CONTROL_BYTES: usize = 125;

/// Most bytes of a close frame's reason: the code takes two.
pub const MAX_REASON_BYTES: usize = MAX_CONTROL_BYTES - 2;

/// One message of a client, borrowed from where it was read or put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message; only where [`Limits::allow_binary`] is set.
    Binary(&'a [u8]),
    /// A ping, to be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// A pong, asked for or not.
    Pong(&'a [u8]),
    /// The last message: code and reason, or neither. What comes after it is dropped.
    Close(Option<(u16, &'a str)>),
}

/// What a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most bytes of one message, all its fragments together. By default 64 KiB.
    pub max_message_bytes: usize,
    /// Most fragments of one message. By default 64: without it a client could hold a
    /// message open for ever by fragments that are empty, which cost the server time
    /// and never reach the limit in bytes.
    pub max_fragments: u32,
    /// Whether binary messages are taken. By default they are an error: the native
    /// protocol has none.
    pub allow_binary: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message_bytes: 64 * 1024, max_fragments: 64, allow_binary: false }
    }
}

impl Limits {
    /// Sets the most bytes of a message.
    pub fn with_max_message_bytes(mut self, max: usize) -> Self {
        self.max_message_bytes = max;
        self
    }

    /// Sets the most fragments of a message.
    pub fn with_max_fragments(mut self, max: u32) -> Self {
        self.max_fragments = max;
        self
    }

    /// Takes binary messages as well.
    pub fn with_binary(mut self) -> Self {
        self.allow_binary = true;
        self
    }
}

/// What a client did that ends its connection. Nothing can be read after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Clients must mask every frame.
    #[error("frame is not masked")]
    Unmasked,
    /// No extension was agreed on that would give these bits a meaning.
    #[error("reserved bits are set")]
    ReservedBits,
    /// RFC 6455 gives this opcode no meaning.
    #[error("opcode {0} is reserved")]
    ReservedOpcode(u8),
    /// A length in more bytes than it needs.
    #[error("frame length is not in its shortest form")]
    LengthForm,
    /// Ping, pong and close are one frame.
    #[error("control frame is fragmented")]
    ControlFragmented,
    /// Ping, pong and close are small.
    #[error("control frame of {len} bytes exceeds {MAX_CONTROL_BYTES}")]
    ControlTooLong {
        /// What its header says.
        len: u64,
    },
    /// A continuation of nothing.
    #[error("continuation frame without a message to continue")]
    NothingToContinue,
    /// A new message before the end of the one before.
    #[error("new message before the last fragment of the one before")]
    Unfinished,
    /// A close frame with one byte of payload.
    #[error("close frame with half a code")]
    ClosePayload,
    /// A close code that must not be sent.
    #[error("close code {0} must not be sent")]
    CloseCode(u16),
    /// A binary message where only text is taken.
    #[error("binary message; only text is taken")]
    Binary,
    /// Text, or the reason of a close frame, that is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A message that is, or would become, larger than the limit.
    #[error("message of {len} bytes or more exceeds {max}")]
    TooLarge {
        /// The least it would have.
        len: u64,
        /// [`Limits::max_message_bytes`].
        max: usize,
    },
    /// A message in too many pieces.
    #[error("message of more than {max} fragments")]
    TooManyFragments {
        /// [`Limits::max_fragments`].
        max: u32,
    },
}

impl CodecError {
    /// The close code to answer with: 1002, 1003, 1007 or 1009.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::Unmasked
            | Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::LengthForm
            | Self::ControlFragmented
            | Self::ControlTooLong { .. }
            | Self::NothingToContinue
            | Self::Unfinished
            | Self::ClosePayload
            | Self::CloseCode(_) => 1002,
            Self::Binary => 1003,
            Self::NotUtf8 => 1007,
            // RFC 6455 has no code for too many pieces; "too big to process" is nearest.
            Self::TooLarge { .. } | Self::TooManyFragments { .. } => 1009,
        }
    }
}
