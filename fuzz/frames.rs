// What the target `codec` is given: how it is read, and what was sent. Most bytes are no
// frames, so frames can be made of them.
//
// ```text
// flags | number of reads | for each: bytes - 1, messages - 1 | sent
// sent:   bytes as they are, or frames where flag FRAMES is set
// frame:  first byte | how | length of the payload | payload, before it is masked
// ```

pub const SMALL: u8 = 1;
pub const BINARY: u8 = 2;
pub const FRAMES: u8 = 4;

pub const MASKED: u8 = 1;
/// The length in two bytes, or in eight, whether it needs them or not.
pub const TWO: u8 = 2;
pub const EIGHT: u8 = 4;
/// A length that the payload has not.
pub const WRONG: u8 = 8;
/// Sixteen times the payload.
pub const LONG: u8 = 16;

pub struct Input {
    /// Limits that are soon reached.
    pub small: bool,
    pub binary: bool,
    /// How many bytes each read has, and how many messages are taken of it, less one.
    pub reads: Vec<(u8, u8)>,
    pub sent: Vec<u8>,
}

pub fn input(data: &[u8]) -> Option<Input> {
    let (&[flags, reads], rest) = data.split_first_chunk()?;
    let (reads, sent) = rest.split_at_checked(2 * usize::from(reads))?;
    Some(Input {
        small: flags & SMALL != 0,
        binary: flags & BINARY != 0,
        reads: reads.chunks(2).map(|read| (read[0], read[1])).collect(),
        sent: if flags & FRAMES == 0 { sent.to_vec() } else { frames(sent) },
    })
}

fn frames(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((&[first, how, len], after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(after.len().min(len.into()));
        let payload = payload.repeat(if how & LONG == 0 { 1 } else { 16 });
        frame(&mut out, first, how, &payload);
        rest = after;
    }
    out
}

/// A frame as it stands on the wire, with a mask that the payload's length gives.
pub fn frame(out: &mut Vec<u8>, first: u8, how: u8, payload: &[u8]) {
    let len = payload.len() as u64 + if how & WRONG == 0 { 0 } else { u64::MAX / 3 };
    let masked = how & MASKED != 0;
    out.push(first);
    let byte = |len: u8| if masked { 0x80 | len } else { len };
    match len {
        _ if how & EIGHT != 0 || len > 0xffff => {
            out.push(byte(127));
            out.extend(len.to_be_bytes());
        }
        _ if how & TWO != 0 || len > 125 => {
            out.push(byte(126));
            out.extend((len as u16).to_be_bytes());
        }
        _ => out.push(byte(len as u8)),
    }
    let mask = if masked { [0x37, 0xfa, 0x21, len as u8] } else { [0; 4] };
    out.extend(mask.iter().filter(|_| masked));
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
}
