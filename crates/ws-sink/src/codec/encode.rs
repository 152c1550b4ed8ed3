//! Frames as a server sends them: whole and unmasked.
//!
//! Without a mask the bytes of a message are the same for every client: it is encoded
//! once, and shared.

use bytes::{BufMut, BytesMut};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::MAX_CONTROL_BYTES;

/// Why a control frame cannot be sent. Nothing was written; retrying cannot help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// More payload than a control frame holds, a close frame's code included.
    #[error("control frame of {len} bytes exceeds {MAX_CONTROL_BYTES}")]
    ControlTooLong {
        /// How much it was.
        len: usize,
    },
    /// A code that RFC 6455 keeps off the wire.
    #[error("close code {0} must not be sent")]
    CloseCode(u16),
}

/// A close frame without code and reason.
pub const EMPTY_CLOSE: [u8; 2] = [0x88, 0];

/// Writes a text frame whose payload is `parts` one after the other. Together they
/// must be UTF-8, or clients will end their connection.
///
/// The room for all of it is made at once: into an empty buffer this allocates once.
pub fn text(out: &mut BytesMut, parts: &[&[u8]]) {
    frame(out, OpCode::Data(Data::Text), parts);
}

/// Writes a binary frame.
pub fn binary(out: &mut BytesMut, parts: &[&[u8]]) {
    frame(out, OpCode::Data(Data::Binary), parts);
}

/// Writes a ping.
///
/// # Errors
/// [`EncodeError::ControlTooLong`] above 125 bytes.
pub fn ping(out: &mut BytesMut, payload: &[u8]) -> Result<(), EncodeError> {
    control(out, Control::Ping, &[payload])
}

/// Writes a pong; a ping's payload always fits.
///
/// # Errors
/// [`EncodeError::ControlTooLong`] above 125 bytes.
pub fn pong(out: &mut BytesMut, payload: &[u8]) -> Result<(), EncodeError> {
    control(out, Control::Pong, &[payload])
}

/// Writes a close frame with code and reason, or with neither.
///
/// # Errors
/// [`EncodeError`] where the reason has more than 123 bytes, or the code must not be
/// sent (1005, 1006, 1015, and all outside of 1000 to 4999).
pub fn close(out: &mut BytesMut, why: Option<(u16, &str)>) -> Result<(), EncodeError> {
    match why {
        None => control(out, Control::Close, &[]),
        Some((code, _)) if !CloseCode::from(code).is_allowed() => Err(EncodeError::CloseCode(code)),
        Some((code, reason)) => {
            control(out, Control::Close, &[&code.to_be_bytes(), reason.as_bytes()])
        }
    }
}

fn control(out: &mut BytesMut, kind: Control, parts: &[&[u8]]) -> Result<(), EncodeError> {
    let len = parts.iter().map(|part| part.len()).sum();
    if len > MAX_CONTROL_BYTES {
        return Err(EncodeError::ControlTooLong { len });
    }
    frame(out, OpCode::Control(kind), parts);
    Ok(())
}

fn frame(out: &mut BytesMut, opcode: OpCode, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    out.reserve(header.len(len as u64) + len);
    let written = header.format(len as u64, &mut out.writer());
    debug_assert!(written.is_ok(), "a BytesMut takes every write");
    for part in parts {
        out.put_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::frame::{CloseFrame, Frame};

    use super::*;

    fn theirs(frame: Frame) -> Vec<u8> {
        let mut out = Vec::new();
        frame.format(&mut out).unwrap();
        out
    }

    #[test]
    fn frames_are_those_of_tungstenite() {
        for len in [0, 1, 125, 126, 65_535, 65_536, 70_000] {
            let payload = "x".repeat(len);
            let mut out = BytesMut::new();
            text(&mut out, &[&payload.as_bytes()[..len / 3], &payload.as_bytes()[len / 3..]]);
            let frame = Frame::message(payload.clone(), OpCode::Data(Data::Text), true);
            assert!(out == theirs(frame), "text of {len}");
            out.clear();
            binary(&mut out, &[payload.as_bytes()]);
            let frame = Frame::message(payload, OpCode::Data(Data::Binary), true);
            assert!(out == theirs(frame), "binary of {len}");
        }
        let mut out = BytesMut::new();
        close(&mut out, None).unwrap();
        assert_eq!(out, EMPTY_CLOSE[..]);
        out.clear();
        ping(&mut out, b"a").unwrap();
        pong(&mut out, &[7; 125]).unwrap();
        close(&mut out, None).unwrap();
        close(&mut out, Some((4001, "slow"))).unwrap();
        let frames = [
            Frame::ping(&b"a"[..]),
            Frame::pong(vec![7; 125]),
            Frame::close(None),
            Frame::close(Some(CloseFrame { code: 4001.into(), reason: "slow".into() })),
        ];
        assert_eq!(out, frames.into_iter().flat_map(theirs).collect::<Vec<_>>());
    }

    #[test]
    fn what_no_control_frame_holds_is_refused_and_not_written() {
        let mut out = BytesMut::new();
        let long = "x".repeat(124);
        let too_long = |len| Err(EncodeError::ControlTooLong { len });
        assert_eq!(ping(&mut out, &[0; 126]), too_long(126));
        assert_eq!(pong(&mut out, &[0; 126]), too_long(126));
        assert_eq!(close(&mut out, Some((1000, &long))), too_long(126));
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert_eq!(close(&mut out, Some((code, ""))), Err(EncodeError::CloseCode(code)));
        }
        assert!(out.is_empty());
        close(&mut out, Some((1000, &long[..123]))).unwrap();
        assert_eq!(out.len(), 127);
    }

    #[test]
    fn a_frame_is_one_allocation_of_its_size() {
        let mut out = BytesMut::new();
        text(&mut out, &[b"{\"event\":\"x\",\"data\":", b"[1,2,3]", b"}"]);
        assert_eq!(out.capacity(), out.len());
    }
}
