//! What a message of the generator says of itself.
//!
//! ```text
//! {"id":"fb:0000012345:00003:00000012:000000000007:00000000001234567890","pad":"xxx"}
//!           run        from  room     number       when it should have been sent
//! ```
//!
//! All of it is one JSON string, so that it is found in whatever a server makes of the
//! text around it, and is not changed by one that reads JSON and writes it again, its
//! keys sorted or as they were. What is behind it tells whether the message is whole.

use crate::message::{number, put, xorshift};

const HEAD: &str = r#"{"id":"fb:"#;
const PAD: &str = r#"","pad":""#;
const END: &str = r#""}"#;
/// Digits of run, publisher, room, number and time; a colon behind each but the last.
const WIDTHS: [usize; 5] = [10, 5, 8, 12, 20];
const FIELDS: usize = 10 + 5 + 8 + 12 + 20 + WIDTHS.len() - 1;
/// Before what is read, in whatever the server has put around it: `fb:` and the run.
const MARK: usize = 3 + WIDTHS[0];

/// Fewest bytes of a payload.
pub const MIN_PAYLOAD: usize = HEAD.len() + FIELDS + PAD.len() + END.len();
/// Runs are told apart by numbers below this.
pub const RUNS: u64 = 10_000_000_000;

/// What stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // Taken apart by clients.
pub struct Stamp {
    /// Whose message it is.
    pub publisher: u32,
    /// Which room it is for.
    pub room: u32,
    /// Its number, from this publisher in this room.
    pub seq: u64,
    /// When it should have been sent, by [`monotonic_ns`](crate::clock::monotonic_ns).
    pub due: u64,
}

/// A payload that is stamped again and again.
#[derive(Clone, Debug)]
pub struct Payload(Vec<u8>);

impl Payload {
    /// With `bytes` bytes, or [`MIN_PAYLOAD`] where that is more.
    pub fn new(bytes: usize, run: u64) -> Self {
        let pad = "x".repeat(bytes.saturating_sub(MIN_PAYLOAD));
        let mut payload = [HEAD, &":".repeat(FIELDS), PAD, &pad, END].concat().into_bytes();
        put(&mut payload[HEAD.len()..][..WIDTHS[0]], run);
        Self(payload)
    }

    /// Its text, with this stamp.
    pub fn stamped(&mut self, stamp: &Stamp) -> &[u8] {
        let mut at = HEAD.len() + WIDTHS[0] + 1;
        let fields = [stamp.publisher.into(), stamp.room.into(), stamp.seq, stamp.due];
        for (field, width) in fields.into_iter().zip(&WIDTHS[1..]) {
            put(&mut self.0[at..][..*width], field);
            at += width + 1;
        }
        &self.0
    }
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // Each is counted.
pub enum Found {
    /// A message of this run.
    Message(Stamp),
    /// One that has lost its end.
    Cut,
    /// Something else.
    Other,
}

/// Finds the stamps of one run.
#[derive(Clone, Debug)]
pub struct Finder {
    mark: [u8; MARK],
    /// Bytes of a payload behind its stamp.
    tail: usize,
    /// Where the last one was: mostly the next is there too.
    last: usize,
}

impl Finder {
    /// For payloads of `bytes` bytes.
    pub fn new(bytes: usize, run: u64) -> Self {
        let mut mark = *b"fb:0000000000";
        put(&mut mark[3..], run);
        let tail = PAD.len() + bytes.saturating_sub(MIN_PAYLOAD) + END.len();
        Self { mark, tail, last: 0 }
    }

    /// Looks for a stamp in a text.
    pub fn find(&mut self, text: &[u8]) -> Found {
        let marked = |at: usize| text.get(at..at + MARK) == Some(&self.mark);
        let at = if marked(self.last) {
            self.last
        } else {
            match text.windows(MARK).position(|window| window == self.mark) {
                Some(at) => at,
                None => return Found::Other,
            }
        };
        self.last = at;
        let Some(rest) = text.get(at + MARK + 1..) else { return Found::Cut };
        match read(rest) {
            Some((stamp, rest)) if rest.len() >= self.tail => Found::Message(stamp),
            _ => Found::Cut,
        }
    }
}

fn read(mut rest: &[u8]) -> Option<(Stamp, &[u8])> {
    let mut fields = [0; 4];
    for (n, (field, width)) in fields.iter_mut().zip(&WIDTHS[1..]).enumerate() {
        if n > 0 {
            rest = rest.strip_prefix(b":")?;
        }
        let (digits, behind) = rest.split_at_checked(*width)?;
        *field = number(digits)?;
        rest = behind;
    }
    let [publisher, room, seq, due] = fields;
    let stamp = Stamp { publisher: publisher as u32, room: room as u32, seq, due };
    Some((stamp, rest))
}

/// Which room each message of a publisher is for. The same on both ends, so that a
/// client knows what it should have got.
#[derive(Clone, Debug)]
pub struct Draw {
    rooms: u32,
    drawn: u64,
}

impl Draw {
    /// For one publisher. With no rooms, all messages are for room 0, the room of all.
    pub fn new(publisher: u32, rooms: u32) -> Self {
        // An odd number times one that is not zero is not zero.
        let drawn = (u64::from(publisher) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { rooms, drawn }
    }

    /// The room of the next message.
    pub fn next_room(&mut self) -> u32 {
        if self.rooms == 0 {
            return 0;
        }
        self.drawn = xorshift(self.drawn);
        (self.drawn % u64::from(self.rooms)) as u32
    }

    /// How many of the first `messages` are for each room.
    pub fn count(mut self, messages: u64) -> Vec<u64> {
        let mut counts = vec![0; self.rooms.max(1) as usize];
        if self.rooms == 0 {
            counts[0] = messages;
        } else {
            (0..messages).for_each(|_| counts[self.next_room() as usize] += 1);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { publisher: 3, room: 12, seq: 7, due: 1_234_567_890 };

    #[test]
    fn a_stamp_is_found_in_whatever_is_around_it() {
        for bytes in [MIN_PAYLOAD, 200] {
            let mut payload = Payload::new(bytes, 12_345);
            let payload = String::from_utf8(payload.stamped(&STAMP).to_vec()).unwrap();
            assert_eq!(payload.len(), bytes);
            let value: serde_json::Value = serde_json::from_str(&payload).unwrap();
            let spaced = serde_json::to_string_pretty(&value).unwrap();
            let mut finder = Finder::new(bytes, 12_345);
            for text in [
                payload.clone(),
                format!(r#"{{"event":"message","room":"all","data":{payload}}}"#),
                format!(r#"42["message",{payload}]"#),
                serde_json::json!({"data": value}).to_string(),
                spaced,
            ] {
                for _ in 0..2 {
                    assert_eq!(finder.find(text.as_bytes()), Found::Message(STAMP), "{text}");
                }
            }
        }
    }

    #[test]
    fn what_is_cut_and_what_is_not_ours_is_told_apart() {
        let payload = Payload::new(200, 5).stamped(&STAMP).to_vec();
        let mut finder = Finder::new(200, 5);
        for end in [199, 100, 40, 21] {
            assert_eq!(finder.find(&payload[..end]), Found::Cut, "{end}");
        }
        assert_eq!(finder.find(&payload[..18]), Found::Other);
        assert_eq!(finder.find(b"{}"), Found::Other);
        assert_eq!(Finder::new(200, 6).find(&payload), Found::Other);
    }

    #[test]
    fn what_is_drawn_is_counted_alike() {
        let mut draw = Draw::new(2, 7);
        let mut counts = [0; 7];
        (0..100).for_each(|_| counts[draw.next_room() as usize] += 1);
        assert_eq!(Draw::new(2, 7).count(100), counts);
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        assert_ne!(Draw::new(3, 7).count(100), counts);
        assert_eq!(Draw::new(0, 0).count(9), [9]);
    }
}
