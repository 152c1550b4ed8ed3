//! The clients: one thread for all of them, no allocation a frame.
//!
//! Every client checks that each message comes whole, once and in order: messages are
//! numbered, and a client knows the number that comes next.

mod client;
mod frame;
mod generator;
mod handshake;

pub use client::{Client, Problem};
pub use frame::{Frame, FrameError, MAX_FRAME};
pub use generator::{Load, LoadError};
pub use handshake::HandshakeError;
