//! What is sent: the same text from every server.
//!
//! ```text
//! {"event":"message","room":"all","data":{"seq":"00000000000000000007","sent":"...","pad":"xxx"}}
//! {"event":"message","room":"r:00000012","data":{ ... }}
//! 42["message",{ ... }]                  '-- the payload --'
//! ```
//!
//! Sequence number and time of publishing stand at fixed places with a fixed width, so
//! that a client finds both without parsing JSON. The frame around the payload is the
//! native protocol's, and the peers send it too: no server has fewer bytes to write.
//! Socket.IO has a frame of its own, which is the shorter one.
//!
//! What comes from a source that can be resumed says where it stands, before the payload:
//! `"at":"k8TnQ2w.0f3K..."`, always as long. Peers have nothing of the kind.
//!
//! Where every client has a room, each message is for a room that is drawn, and is
//! numbered within it. The draw has a fixed seed: all servers send the same.

use std::fmt::Write;

use crate::run::Rooms;

/// The room that every client is in.
pub const ROOM: &str = "all";
/// The event's name.
pub const EVENT: &str = "message";

const DIGITS: usize = 20;
const HEAD: &str = r#"{"event":"message","room":""#;
const AT: &str = r#"","at":""#;
const DATA: &str = r#"","data":"#;
const SOCKET_IO: &str = r#"42["message","#;
const SEQ: &str = r#"{"seq":""#;
const SENT: &str = r#"","sent":""#;
const PAD: &str = r#"","pad":""#;
const END: &str = r#""}"#;

const SEQ_AT: usize = SEQ.len();
const SENT_AT: usize = SEQ_AT + DIGITS + SENT.len();

const ROOM_PREFIX: &str = "r:";
const ROOM_DIGITS: usize = 8;
const ROOM_LEN: usize = ROOM_PREFIX.len() + ROOM_DIGITS;
/// Bytes of a place in a source, as the native protocol tells it.
pub const AT_LEN: usize = 30;
/// Most rooms: more have no name.
pub const MAX_ROOMS: usize = 100_000_000;

/// Fewest bytes of a payload: those of its fields.
pub const MIN_PAYLOAD: usize = SENT_AT + DIGITS + PAD.len() + END.len();
/// Most bytes of a payload.
pub const MAX_PAYLOAD: usize = 32 * 1024;

/// The first state of the draw; any but zero will do.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// A size that no payload can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a payload has {MIN_PAYLOAD} to {MAX_PAYLOAD} bytes, not {0}")]
pub struct PayloadError(pub usize);

/// Makes messages, numbered from zero in each room.
#[derive(Clone, Debug)]
pub struct Messages {
    payload: Vec<u8>,
    rooms: Rooms,
    /// The next number, a room.
    next: Vec<u64>,
    drawn: u64,
}

/// The next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // Taken apart by servers.
pub struct Drawn<'a> {
    /// Whose [`room`] it is for; `None` is the room of all.
    pub room: Option<usize>,
    /// Its payload, which is JSON.
    pub payload: &'a [u8],
}

/// What a message says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // Read and taken apart by the load.
pub struct Stamp {
    /// Whose room it is for; `None` where it is for all, or where the text does not say.
    pub room: Option<usize>,
    /// Its number.
    pub seq: u64,
    /// When it was published, by [`monotonic_ns`](crate::clock::monotonic_ns).
    pub sent: u64,
}

impl Messages {
    /// Messages for `clients` clients whose payloads have `bytes` bytes.
    ///
    /// # Errors
    /// [`PayloadError`] where none can have so many.
    pub fn new(bytes: usize, rooms: Rooms, clients: usize) -> Result<Self, PayloadError> {
        if !(MIN_PAYLOAD..=MAX_PAYLOAD).contains(&bytes) {
            return Err(PayloadError(bytes));
        }
        let zeros = "0".repeat(DIGITS);
        let pad = "x".repeat(bytes - MIN_PAYLOAD);
        let payload = [SEQ, &zeros, SENT, &zeros, PAD, &pad, END].concat();
        let numbered = match rooms {
            Rooms::One => 1,
            Rooms::Each => clients.clamp(1, MAX_ROOMS),
        };
        Ok(Self { payload: payload.into_bytes(), rooms, next: vec![0; numbered], drawn: SEED })
    }

    /// The next message, stamped with when it is sent.
    pub fn draw(&mut self, sent: u64) -> Drawn<'_> {
        let room = match self.rooms {
            Rooms::One => None,
            Rooms::Each => {
                self.drawn = xorshift(self.drawn);
                Some((self.drawn % self.next.len() as u64) as usize)
            }
        };
        let next = &mut self.next[room.unwrap_or_default()];
        put(&mut self.payload[SEQ_AT..][..DIGITS], *next);
        put(&mut self.payload[SENT_AT..][..DIGITS], sent);
        *next += 1;
        Drawn { room, payload: &self.payload }
    }

    /// The next message's room, and its whole text in the native protocol.
    ///
    /// # Panics
    /// Never: what is put together is ASCII.
    pub fn text(&mut self, sent: u64) -> (Option<usize>, String) {
        let len = text_len(self.payload.len(), self.rooms);
        let Drawn { room: number, payload } = self.draw(sent);
        let mut text = String::with_capacity(len);
        text.push_str(HEAD);
        match number {
            None => text.push_str(ROOM),
            Some(number) => name_room(&mut text, number),
        }
        text.push_str(DATA);
        text.push_str(std::str::from_utf8(payload).expect("ASCII"));
        text.push('}');
        (number, text)
    }
}

/// The name of client `n`'s room, as long as any other's.
pub fn room(n: usize) -> String {
    let mut name = String::with_capacity(ROOM_LEN);
    name_room(&mut name, n);
    name
}

fn name_room(name: &mut String, n: usize) {
    write!(name, "{ROOM_PREFIX}{n:0ROOM_DIGITS$}").expect("a string takes everything");
}

/// Bytes of a whole text in the native protocol whose payload has `payload` bytes.
pub fn text_len(payload: usize, rooms: Rooms) -> usize {
    let room = match rooms {
        Rooms::One => ROOM.len(),
        Rooms::Each => ROOM_LEN,
    };
    HEAD.len() + room + DATA.len() + payload + 1
}

/// As [`text_len`], of a text that says where it stands.
pub fn text_at_len(payload: usize, rooms: Rooms) -> usize {
    text_len(payload, rooms) + AT.len() + AT_LEN
}

/// Bytes of a whole Socket.IO packet whose payload has `payload` bytes.
pub fn socket_io_len(payload: usize) -> usize {
    SOCKET_IO.len() + payload + 1
}

/// Reads the stamp of a native text; `None` where it is no such message.
pub fn stamp(text: &[u8]) -> Option<Stamp> {
    let (room, rest) = stamp_room(text)?;
    stamp_of(room, rest.strip_prefix(DATA.as_bytes())?)
}

/// Reads the stamp of a native text that says where it stands, and that; `None` where it is
/// no such message.
pub fn stamp_at(text: &[u8]) -> Option<(Stamp, &[u8; AT_LEN])> {
    let (room, rest) = stamp_room(text)?;
    let (at, rest) = rest.strip_prefix(AT.as_bytes())?.split_first_chunk()?;
    Some((stamp_of(room, rest.strip_prefix(DATA.as_bytes())?)?, at))
}

/// Whose room a native text is for, and what follows its name.
fn stamp_room(text: &[u8]) -> Option<(Option<usize>, &[u8])> {
    let rest = text.strip_prefix(HEAD.as_bytes())?;
    Some(if let Some(rest) = rest.strip_prefix(ROOM.as_bytes()) {
        (None, rest)
    } else {
        let rest = rest.strip_prefix(ROOM_PREFIX.as_bytes())?;
        let (digits, rest) = rest.split_at_checked(ROOM_DIGITS)?;
        (Some(number(digits)? as usize), rest)
    })
}

/// Reads the stamp of a Socket.IO packet; `None` where it is no such message.
pub fn socket_io_stamp(packet: &[u8]) -> Option<Stamp> {
    stamp_of(None, packet.strip_prefix(SOCKET_IO.as_bytes())?)
}

fn stamp_of(room: Option<usize>, payload: &[u8]) -> Option<Stamp> {
    let seq = payload.strip_prefix(SEQ.as_bytes())?.get(..DIGITS)?;
    let sent = payload.get(SENT_AT..)?.get(..DIGITS)?;
    Some(Stamp { room, seq: number(seq)?, sent: number(sent)? })
}

/// Writes a number into a place of a fixed width.
pub(crate) fn put(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Reads what [`put`] has written.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The next state after one that is not zero: Marsaglia, "Xorshift RNGs", 2003.
pub(crate) fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        for bytes in [MIN_PAYLOAD, 200, MAX_PAYLOAD] {
            let mut messages = Messages::new(bytes, Rooms::One, 10).unwrap();
            let drawn = messages.draw(1);
            assert_eq!((drawn.room, drawn.payload.len()), (None, bytes));
            let (room, text) = messages.text(u64::MAX);
            assert_eq!((room, text.len()), (None, text_len(bytes, Rooms::One)));
            let expected = Stamp { room: None, seq: 1, sent: u64::MAX };
            assert_eq!(stamp(text.as_bytes()), Some(expected));
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&json["event"], &json["room"]), (&EVENT.into(), &ROOM.into()));
        }
    }

    #[test]
    fn a_message_for_one_room_is_numbered_there() {
        let mut messages = Messages::new(200, Rooms::Each, 7).unwrap();
        let mut next = [0; 7];
        for _ in 0..100 {
            let (drawn, text) = messages.text(5);
            assert_eq!(text.len(), text_len(200, Rooms::Each));
            let number = drawn.unwrap();
            let expected = Stamp { room: drawn, seq: next[number], sent: 5 };
            assert_eq!(stamp(text.as_bytes()), Some(expected));
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["room"], room(number));
            next[number] += 1;
        }
        assert!(next.iter().all(|count| *count > 3), "{next:?}");
        assert_eq!(room(12), "r:00000012");
    }

    #[test]
    fn all_servers_draw_alike() {
        let draw = || {
            let mut messages = Messages::new(200, Rooms::Each, 1000).unwrap();
            (0..50).map(|_| messages.draw(0).room.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
    }

    #[test]
    fn a_packet_is_read_too() {
        let mut messages = Messages::new(200, Rooms::Each, 7).unwrap();
        let payload = String::from_utf8(messages.draw(9).payload.to_vec()).unwrap();
        let packet = format!(r#"42["message",{payload}]"#);
        assert_eq!(packet.len(), socket_io_len(200));
        let expected = Stamp { room: None, seq: 0, sent: 9 };
        assert_eq!(socket_io_stamp(packet.as_bytes()), Some(expected));
        assert_eq!(socket_io_stamp(br#"40{"sid":"x"}"#), None);
        assert_eq!(stamp(packet.as_bytes()), None);
    }

    #[test]
    fn what_says_where_it_stands_is_read_too() {
        let (room, text) = Messages::new(200, Rooms::Each, 7).unwrap().text(9);
        let at = "k8TnQ2w.0123456789abcdefghijkl";
        let text_at = text.replace(DATA, &[AT, at, DATA].concat());
        assert_eq!(text_at.len(), text_at_len(200, Rooms::Each));
        let expected = Stamp { room, seq: 0, sent: 9 };
        assert_eq!(
            stamp_at(text_at.as_bytes()),
            Some((expected, at.as_bytes().try_into().unwrap()))
        );
        assert_eq!((stamp(text_at.as_bytes()), stamp_at(text.as_bytes())), (None, None));
    }

    #[test]
    fn what_is_no_message_has_no_stamp() {
        let (_, text) = Messages::new(200, Rooms::One, 1).unwrap().text(7);
        assert_eq!(stamp(&text.as_bytes()[..text.len() / 3]), None);
        assert_eq!(stamp(text.replace("00", "0a").as_bytes()), None);
        assert_eq!(stamp(text.replace("all", "one").as_bytes()), None);
        assert_eq!(stamp(text.replace("all", "r:0000001").as_bytes()), None);
        assert_eq!(stamp(text.replace("00000000000000000000", &"9".repeat(20)).as_bytes()), None);
        assert_eq!(stamp(br#"{"event":"welcome","data":{}}"#), None);
    }

    #[test]
    fn a_payload_has_bounds() {
        let error = Messages::new(MIN_PAYLOAD - 1, Rooms::One, 1).unwrap_err();
        assert_eq!(error.to_string(), "a payload has 69 to 32768 bytes, not 68");
        assert!(Messages::new(MAX_PAYLOAD + 1, Rooms::One, 1).is_err());
    }
}
