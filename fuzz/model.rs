// RFC 6455 as somebody reads it who has all bytes before him and all the time: a frame
// after the other, from the beginning.

use ws_sink::codec::{CodecError, Limits, MAX_CONTROL_BYTES};

/// A message that owns what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// The messages in `sent`, and what ended it where anything did.
pub fn decode(sent: &[u8], limits: &Limits) -> (Vec<Owned>, Option<CodecError>) {
    let mut out = Vec::new();
    let error = frames(sent, limits, &mut out).err();
    (out, error)
}

fn frames(mut rest: &[u8], limits: &Limits, out: &mut Vec<Owned>) -> Result<(), CodecError> {
    // Kind, fragments and payload of a message that goes on.
    let mut open: Option<(u8, u32, Vec<u8>)> = None;
    while let Some((first, masked, len, header)) = header(rest) {
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        if matches!(opcode, 3..=7 | 11..) {
            return Err(CodecError::ReservedOpcode(opcode));
        }
        if first & 0x70 != 0 {
            return Err(CodecError::ReservedBits);
        }
        if !masked {
            return Err(CodecError::Unmasked);
        }
        let shortest = match len {
            0..126 => 6,
            126..65_536 => 8,
            _ => 14,
        };
        if header != shortest {
            return Err(CodecError::LengthForm);
        }
        match opcode {
            8..=10 if !last => return Err(CodecError::ControlFragmented),
            8..=10 if len > MAX_CONTROL_BYTES as u64 => {
                return Err(CodecError::ControlTooLong { len });
            }
            0 if open.is_none() => return Err(CodecError::NothingToContinue),
            1 | 2 if open.is_some() => return Err(CodecError::Unfinished),
            2 if !limits.allow_binary => return Err(CodecError::Binary),
            _ => {}
        }
        let (fragments, before) = open.as_ref().map_or((0, 0), |(_, n, b)| (*n, b.len()));
        if opcode < 8 {
            let (len, max) = (len.saturating_add(before as u64), limits.max_message_bytes);
            if len > max as u64 {
                return Err(CodecError::TooLarge { len, max });
            }
            if fragments >= limits.max_fragments {
                return Err(CodecError::TooManyFragments { max: limits.max_fragments });
            }
        }
        let mask: [u8; 4] = rest[header - 4..header].try_into().expect("four");
        let there = (rest.len() - header).min(len as usize);
        let payload = rest[header..header + there].iter().enumerate();
        let payload: Vec<u8> = payload.map(|(at, byte)| byte ^ mask[at % 4]).collect();
        rest = &rest[header + there..];
        let whole = there as u64 == len;
        if opcode >= 8 {
            if !whole {
                return Ok(());
            }
            out.push(control(opcode, payload)?);
            if opcode == 8 {
                return Ok(());
            }
            continue;
        }
        let (kind, fragments, mut bytes) = open.take().unwrap_or((opcode, 0, Vec::new()));
        bytes.extend(payload);
        if last && whole {
            out.push(match kind {
                1 => Owned::Text(String::from_utf8(bytes).map_err(|_| CodecError::NotUtf8)?),
                _ => Owned::Binary(bytes),
            });
            continue;
        }
        // Wrong is wrong, whatever follows; only its end may still be to come.
        if kind == 1 && std::str::from_utf8(&bytes).is_err_and(|e| e.error_len().is_some()) {
            return Err(CodecError::NotUtf8);
        }
        open = Some((kind, fragments + 1, bytes));
    }
    Ok(())
}

/// First byte, mask bit, payload's length and header's, where all of the header is there.
fn header(bytes: &[u8]) -> Option<(u8, bool, u64, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (len, at) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
        len => (u64::from(len), 2),
    };
    let masked = second & 0x80 != 0;
    let header = if masked { at + 4 } else { at };
    bytes.get(..header)?;
    Some((first, masked, len, header))
}

fn control(opcode: u8, payload: Vec<u8>) -> Result<Owned, CodecError> {
    Ok(match (opcode, &payload[..]) {
        (9, _) => Owned::Ping(payload),
        (10, _) => Owned::Pong(payload),
        (_, []) => Owned::Close(None),
        (_, [_]) => return Err(CodecError::ClosePayload),
        (_, [high, low, reason @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            // RFC 6455, 7.4, and what IANA has added since; not 1014, which tungstenite does
            // not know.
            if !matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999) {
                return Err(CodecError::CloseCode(code));
            }
            let reason = std::str::from_utf8(reason).map_err(|_| CodecError::NotUtf8)?;
            Owned::Close(Some((code, reason.to_owned())))
        }
    })
}
