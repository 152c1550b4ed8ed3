//! What is sent: the same text from every server.
//!
//! ```text
//! {"event":"message","room":"all","data":{"seq":"00000000000000000007","sent":"...","pad":"xxx"}}
//!                                        '------------------ the payload -------------------'
//! ```
//!
//! Sequence number and time of publishing stand at fixed places with a fixed width, so
//! that a client finds both without parsing JSON. The frame around the payload is the
//! native protocol's, and the peers send it too: no server has fewer bytes to write.

/// The room that every client is in.
pub const ROOM: &str = "all";
/// The event's name.
pub const EVENT: &str = "message";

const DIGITS: usize = 20;
const HEAD: &str = r#"{"event":"message","room":"all","data":"#;
const SEQ: &str = r#"{"seq":""#;
const SENT: &str = r#"","sent":""#;
const PAD: &str = r#"","pad":""#;
const END: &str = r#""}"#;

const SEQ_AT: usize = SEQ.len();
const SENT_AT: usize = SEQ_AT + DIGITS + SENT.len();

/// Fewest bytes of a payload: those of its fields.
pub const MIN_PAYLOAD: usize = SENT_AT + DIGITS + PAD.len() + END.len();
/// Most bytes of a payload.
pub const MAX_PAYLOAD: usize = 32 * 1024;

/// A size that no payload can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a payload has {MIN_PAYLOAD} to {MAX_PAYLOAD} bytes, not {0}")]
pub struct PayloadError(pub usize);

/// Makes messages, numbered from zero.
#[derive(Clone, Debug)]
pub struct Messages {
    payload: Vec<u8>,
    next: u64,
}

/// What a message says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // Read and taken apart by the load.
pub struct Stamp {
    /// Its number.
    pub seq: u64,
    /// When it was published, by [`monotonic_ns`](crate::clock::monotonic_ns).
    pub sent: u64,
}

impl Messages {
    /// Messages whose payloads have `bytes` bytes.
    ///
    /// # Errors
    /// [`PayloadError`] where none can have so many.
    pub fn new(bytes: usize) -> Result<Self, PayloadError> {
        if !(MIN_PAYLOAD..=MAX_PAYLOAD).contains(&bytes) {
            return Err(PayloadError(bytes));
        }
        let zeros = "0".repeat(DIGITS);
        let pad = "x".repeat(bytes - MIN_PAYLOAD);
        let payload = [SEQ, &zeros, SENT, &zeros, PAD, &pad, END].concat();
        Ok(Self { payload: payload.into_bytes(), next: 0 })
    }

    /// The next message's payload.
    pub fn payload(&mut self, sent: u64) -> &[u8] {
        put(&mut self.payload[SEQ_AT..][..DIGITS], self.next);
        put(&mut self.payload[SENT_AT..][..DIGITS], sent);
        self.next += 1;
        &self.payload
    }

    /// The next message's whole text.
    ///
    /// # Panics
    /// Never: what is put together is ASCII.
    pub fn text(&mut self, sent: u64) -> String {
        let payload = std::str::from_utf8(self.payload(sent)).expect("ASCII");
        [HEAD, payload, "}"].concat()
    }
}

/// Bytes of a whole text whose payload has `payload` bytes.
pub fn text_len(payload: usize) -> usize {
    HEAD.len() + payload + 1
}

/// Reads the stamp of a text; `None` where it is no such message.
pub fn stamp(text: &[u8]) -> Option<Stamp> {
    let payload = text.strip_prefix(HEAD.as_bytes())?;
    let seq = payload.strip_prefix(SEQ.as_bytes())?.first_chunk::<DIGITS>()?;
    let sent = payload.get(SENT_AT..)?.first_chunk::<DIGITS>()?;
    Some(Stamp { seq: number(seq)?, sent: number(sent)? })
}

fn put(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn number(digits: &[u8; DIGITS]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        for bytes in [MIN_PAYLOAD, 200, MAX_PAYLOAD] {
            let mut messages = Messages::new(bytes).unwrap();
            assert_eq!(messages.payload(1).len(), bytes);
            let text = messages.text(u64::MAX);
            assert_eq!(text.len(), text_len(bytes));
            assert_eq!(stamp(text.as_bytes()), Some(Stamp { seq: 1, sent: u64::MAX }));
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&json["event"], &json["room"]), (&EVENT.into(), &ROOM.into()));
        }
    }

    #[test]
    fn what_is_no_message_has_no_stamp() {
        let mut messages = Messages::new(200).unwrap();
        let text = messages.text(7);
        assert_eq!(stamp(&text.as_bytes()[..text.len() / 3]), None);
        assert_eq!(stamp(text.replace("00", "0a").as_bytes()), None);
        assert_eq!(stamp(text.replace("all", "one").as_bytes()), None);
        assert_eq!(stamp(text.replace("00000000000000000000", &"9".repeat(20)).as_bytes()), None);
        assert_eq!(stamp(br#"{"event":"welcome","data":{}}"#), None);
    }

    #[test]
    fn a_payload_has_bounds() {
        let error = Messages::new(MIN_PAYLOAD - 1).unwrap_err();
        assert_eq!(error.to_string(), "a payload has 69 to 32768 bytes, not 68");
        assert!(Messages::new(MAX_PAYLOAD + 1).is_err());
    }
}
