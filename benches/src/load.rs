//! The clients: one thread for all of them, no allocation a frame.
//!
//! Every client checks that each message comes whole, once and in order: messages are
//! numbered, and a client knows the number that comes next.

mod client;
mod endpoint;
mod frame;
mod generator;
pub(crate) mod handshake;
pub(crate) mod socket_io;

pub(crate) use client::answer;
pub use client::{Client, Expected, Ping, Problem};
pub(crate) use endpoint::source;
pub use endpoint::{Dialect, Endpoint};
pub use frame::{Frame, FrameError, MAX_FRAME};
pub(crate) use frame::{TEXT, masked};
pub use generator::{Load, LoadError};
pub use handshake::HandshakeError;
