//! As much of RFC 6455 as a client needs that a server of this package talks to.

/// Most bytes of a frame, its header included.
pub const MAX_FRAME: usize = 64 * 1024;

/// A frame from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame<'a> {
    /// A text message.
    Text(&'a [u8]),
    /// To be answered with the same bytes.
    Ping(&'a [u8]),
    /// The answer to a ping; nobody asked.
    Pong,
    /// The server says goodbye, with this code.
    Close(Option<u16>),
}

/// Bytes that no server of this package should send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Extensions and fragments were not agreed on or are not used.
    #[error("first byte {0:#04x}: not a whole text, ping, pong or close frame")]
    Kind(u8),
    /// A server's frames are not masked.
    #[error("a masked frame")]
    Masked,
    /// Longer than anything that is sent here.
    #[error("a frame of {0} bytes; at most {MAX_FRAME} are sent here")]
    TooLong(u64),
}

impl<'a> Frame<'a> {
    /// The first frame of `bytes`, and how long it is; `None` where it is not whole.
    ///
    /// # Errors
    /// [`FrameError`]: the connection is of no use any more.
    pub fn first(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let &[kind, short, ref rest @ ..] = bytes else { return Ok(None) };
        if short & 0x80 != 0 {
            return Err(FrameError::Masked);
        }
        let (header, len) = match short {
            126 => match rest.first_chunk() {
                Some(len) => (4, u64::from(u16::from_be_bytes(*len))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(len) => (10, u64::from_be_bytes(*len)),
                None => return Ok(None),
            },
            len => (2, u64::from(len)),
        };
        if len > (MAX_FRAME - header) as u64 {
            return Err(FrameError::TooLong(len));
        }
        let end = header + len as usize;
        let Some(payload) = bytes.get(header..end) else { return Ok(None) };
        let frame = match kind {
            0x81 => Self::Text(payload),
            0x88 => Self::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            0x89 => Self::Ping(payload),
            0x8a => Self::Pong,
            _ => return Err(FrameError::Kind(kind)),
        };
        Ok(Some((frame, end)))
    }
}

/// A whole text frame's first byte.
pub(crate) const TEXT: u8 = 0x81;

/// Appends a client's whole frame with this first byte, masked with zeros, which leave it as
/// it is.
pub(crate) fn masked(frames: &mut Vec<u8>, first: u8, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    frames.push(first);
    match u16::try_from(len) {
        Ok(short @ ..126) => frames.push(0x80 | short as u8),
        Ok(len) => {
            frames.push(0x80 | 0x7e);
            frames.extend_from_slice(&len.to_be_bytes());
        }
        Err(_) => {
            frames.push(0x80 | 0x7f);
            frames.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frames.extend_from_slice(&[0; 4]);
    for part in parts {
        frames.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use ws_sink::codec::encode;

    use super::*;

    #[test]
    fn a_frame_is_read_once_it_is_whole() {
        for len in [0, 125, 126, 65_000] {
            let (mut bytes, text) = (BytesMut::new(), vec![b'x'; len]);
            encode::text(&mut bytes, &[&text]);
            let whole = bytes.len();
            for cut in [0, 1, 3.min(whole - 1), whole - 1] {
                assert_eq!(Frame::first(&bytes[..cut]), Ok(None), "{cut} of {whole}");
            }
            encode::ping(&mut bytes, b"p").unwrap();
            assert_eq!(Frame::first(&bytes), Ok(Some((Frame::Text(&text), whole))));
            assert_eq!(Frame::first(&bytes[whole..]), Ok(Some((Frame::Ping(b"p"), 3))));
        }
    }

    #[test]
    fn control_frames_are_told_apart() {
        let mut bytes = BytesMut::new();
        encode::close(&mut bytes, Some((4001, ""))).unwrap();
        assert_eq!(Frame::first(&bytes), Ok(Some((Frame::Close(Some(4001)), 4))));
        assert_eq!(Frame::first(&[0x88, 0]), Ok(Some((Frame::Close(None), 2))));
        assert_eq!(Frame::first(&[0x8a, 0]), Ok(Some((Frame::Pong, 2))));
    }

    #[test]
    fn what_no_server_sends_here_is_an_error() {
        assert_eq!(Frame::first(&[0x01, 0]), Err(FrameError::Kind(0x01)));
        assert_eq!(Frame::first(&[0xc1, 0]), Err(FrameError::Kind(0xc1)));
        assert_eq!(Frame::first(&[0x81, 0x80]), Err(FrameError::Masked));
        let long = [0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Frame::first(&long), Err(FrameError::TooLong(u64::MAX)));
    }
}
