//! What the backlog is made of: records as an order service writes them.
//!
//! ```text
//! key      order-1000000007
//! headers  event-type: order.paid   source: order-service
//! value    {"orderNumber":1000000007,"sentAt":"00000000000000000000","eventType":"order.paid",
//!           "userId":"17","note":"xxx"}
//! ```
//!
//! The order's number and the time stand at fixed places with a fixed width, so that every
//! reader checks each record for some nanoseconds. All else follows from the number, which
//! rises by one; partitions take turns. So whoever knows a record's number knows the one that
//! comes behind it in its partition.

use kafka_source::rdkafka::message::{Header, OwnedHeaders};

use crate::message::{number, put, xorshift};

/// Users that orders are for.
pub(super) const USERS: u64 = 128;
/// The types of events; the last has a room of its own.
pub(super) const TYPES: [&str; 5] =
    ["order.created", "order.paid", "order.shipped", "order.delivered", "order.cancelled"];
/// The type with a room of its own.
pub(super) const CANCELLED: &str = TYPES[4];
/// The headers' names.
pub(super) const TYPE_HEADER: &str = "event-type";
pub(super) const SOURCE_HEADER: &str = "source";
/// The value of the second one.
pub(super) const SERVICE: &str = "order-service";

/// The first number: all have as many digits.
const FIRST: u64 = 1_000_000_000;
/// Most records: the numbers have ten digits.
pub(super) const MAX_RECORDS: u64 = 8_000_000_000;
const NUMBER_DIGITS: usize = 10;
const SENT_DIGITS: usize = 20;

const NUMBER: &str = r#"{"orderNumber":"#;
const SENT: &str = r#","sentAt":""#;
const TYPE: &str = r#"","eventType":""#;
const USER: &str = r#"","userId":""#;
const NOTE: &str = r#"","note":""#;
const END: &str = r#""}"#;

const NUMBER_AT: usize = NUMBER.len();
const SENT_AT: usize = NUMBER_AT + NUMBER_DIGITS + SENT.len();
/// Fewest bytes of a value: those of the longest fields.
pub(super) const MIN_PAYLOAD: usize =
    SENT_AT + SENT_DIGITS + TYPE.len() + 15 + USER.len() + 3 + NOTE.len() + END.len();
/// Most bytes of a value: less than what a producer and a hub take by default.
pub(super) const MAX_PAYLOAD: usize = 900_000;
/// Bytes of key, headers and what a log adds, at most.
pub(super) const OVERHEAD: usize = 120;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// One record, of which everything follows from its place in the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    index: u64,
    drawn: u64,
}

impl Record {
    pub(super) fn new(index: u64) -> Self {
        // Never zero, which would stay so.
        Self { index, drawn: xorshift(xorshift(index | 1 << 63)) }
    }

    pub(super) fn event_type(self) -> &'static str {
        TYPES[(self.drawn % TYPES.len() as u64) as usize]
    }

    pub(super) fn user(self) -> u64 {
        (self.drawn >> 32) % USERS
    }

    pub(super) fn key(self) -> String {
        format!("order-{}", FIRST + self.index)
    }

    pub(super) fn headers(self) -> OwnedHeaders {
        OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: TYPE_HEADER, value: Some(self.event_type()) })
            .insert(Header { key: SOURCE_HEADER, value: Some(SERVICE) })
    }

    /// Puts its value into `out`: `bytes` in all, of which so many cannot be compressed.
    pub(super) fn payload(self, sent: u64, bytes: usize, random: usize, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(NUMBER.as_bytes());
        digits(out, NUMBER_DIGITS, FIRST + self.index);
        out.extend_from_slice(SENT.as_bytes());
        digits(out, SENT_DIGITS, sent);
        let user = self.user().to_string();
        for part in [TYPE, self.event_type(), USER, &user, NOTE] {
            out.extend_from_slice(part.as_bytes());
        }
        let mut drawn = self.drawn;
        while out.len() + END.len() < bytes && out.len() < random {
            drawn = xorshift(drawn);
            out.push(ALPHABET[(drawn >> 40) as usize % ALPHABET.len()]);
        }
        out.resize(bytes.saturating_sub(END.len()).max(out.len()), b'x');
        out.extend_from_slice(END.as_bytes());
    }
}

fn digits(out: &mut Vec<u8>, width: usize, number: u64) {
    let at = out.len();
    out.resize(at + width, b'0');
    put(&mut out[at..], number);
}

/// What a record's value says: its place in the backlog, and when it was sent.
pub(super) fn stamp(payload: &[u8]) -> Option<(u64, u64)> {
    let fixed = payload.get(..SENT_AT + SENT_DIGITS)?;
    let index = number(&fixed[NUMBER_AT..][..NUMBER_DIGITS])?.checked_sub(FIRST)?;
    Some((index, number(&fixed[SENT_AT..])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut payload = Vec::new();
        for (index, bytes, random) in
            [(0, MIN_PAYLOAD, 0), (77, 200, 0), (MAX_RECORDS - 1, 100 << 10, 5 << 10)]
        {
            let record = Record::new(index);
            record.payload(u64::MAX, bytes, random, &mut payload);
            assert_eq!(payload.len(), bytes);
            assert_eq!(stamp(&payload), Some((index, u64::MAX)));
            let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(json["orderNumber"], FIRST + index);
            assert_eq!(json["eventType"], record.event_type());
            assert_eq!(json["userId"], record.user().to_string());
        }
        assert_eq!(stamp(&payload[..SENT_AT]), None);
        assert_eq!(stamp(br#"{"orderNumber":7}"#), None);
    }

    #[test]
    fn users_and_types_are_drawn_evenly() {
        let (mut users, mut types) = ([0; USERS as usize], [0; TYPES.len()]);
        for index in 0..12_800 {
            let record = Record::new(index);
            users[record.user() as usize] += 1;
            let n = TYPES.iter().position(|known| *known == record.event_type());
            types[n.unwrap()] += 1;
        }
        assert!(users.iter().all(|n| (50..200).contains(n)), "{users:?}");
        assert!(types.iter().all(|n| (2_200..2_900).contains(n)), "{types:?}");
    }
}
