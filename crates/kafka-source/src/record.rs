//! From a record to an event.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fanout::{Event, Lane};

use crate::poll::Record;

/// The record as an event that owns its bytes, raw; a record without a value has an empty
/// payload.
///
/// Copied, because a borrowed record pins the whole fetch response it came in and keeps the
/// consumer from being dropped. Key, values of headers and payload are one piece of memory:
/// they come and go together.
pub(crate) fn to_event(record: &Record<'_>, lane: &Arc<Lane>) -> Event {
    let (key, payload) = (record.key(), record.payload().unwrap_or_default());
    let headers = record.headers();
    let values = || headers.iter().map(|(_, value)| value.unwrap_or_default());
    let len = key.map_or(0, <[u8]>::len) + values().map(<[u8]>::len).sum::<usize>();
    let mut all = Vec::with_capacity(len + payload.len());
    all.extend_from_slice(key.unwrap_or_default());
    values().for_each(|value| all.extend_from_slice(value));
    all.extend_from_slice(payload);
    let mut pieces = Pieces(all.into());
    let key = key.map(|key| pieces.next(key.len()));
    let headers = headers
        .iter()
        .map(|(name, value)| (name.into_owned(), pieces.next(value.map_or(0, <[u8]>::len))));
    let headers = headers.collect();
    let event = Event::new(lane.clone(), record.offset(), pieces.rest());
    event.with_key(key).with_time(time_of(record.millis())).with_headers(headers)
}

/// Bytes that are shared in pieces, in their order.
struct Pieces(Bytes);

impl Pieces {
    fn next(&mut self, len: usize) -> Bytes {
        // Nothing to share, and no counter to make for it.
        if len == 0 { Bytes::new() } else { self.0.split_to(len) }
    }

    fn rest(self) -> Bytes {
        // An empty one would hold on to all of it.
        if self.0.is_empty() { Bytes::new() } else { self.0 }
    }
}

/// Milliseconds since the epoch, as the producer wrote them: any number, or none.
fn time_of(millis: Option<i64>) -> SystemTime {
    let since = Duration::from_millis(millis.unwrap_or(0).try_into().unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_what_they_were_made_of() {
        let mut pieces = Pieces(Bytes::from("keyvaluepayload"));
        let taken = [0, 3, 0, 5].map(|len| pieces.next(len));
        assert_eq!(taken, ["", "key", "", "value"]);
        assert_eq!(pieces.rest(), "payload");
        assert_eq!(Pieces(Bytes::new()).rest(), "");
    }

    #[test]
    fn any_time_a_producer_may_write_is_taken() {
        assert_eq!(time_of(None), SystemTime::UNIX_EPOCH);
        assert_eq!(time_of(Some(-1)), SystemTime::UNIX_EPOCH);
        assert_eq!(time_of(Some(i64::MIN)), SystemTime::UNIX_EPOCH);
        let later = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        assert_eq!(time_of(Some(1500)), later);
        assert!(time_of(Some(i64::MAX)) >= SystemTime::UNIX_EPOCH);
    }
}
