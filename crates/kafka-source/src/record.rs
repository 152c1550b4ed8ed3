//! From a record to an event, or the reason why it becomes none.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fanout::{Event, Json, Lane};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers as _};

/// Why a record cannot be used. Reading it again cannot help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It has no payload.
    Empty,
    /// JSON was asked for, and it is not one JSON value.
    NotJson,
}

impl Unusable {
    /// The reason's name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotJson => "not_json",
        }
    }
}

/// The record as an event that owns its bytes.
///
/// Copied, because a borrowed message pins the whole fetch response it came in and
/// keeps the consumer from being dropped.
pub(crate) fn to_event(
    message: &BorrowedMessage<'_>,
    lane: &Arc<Lane>,
    offset: u64,
    json: bool,
) -> Result<Event, Unusable> {
    let payload = usable(message.payload(), json)?;
    let event = match payload {
        Payload::Json(json) => Event::from_json(lane.clone(), offset, &json),
        Payload::Raw(bytes) => Event::new(lane.clone(), offset, bytes),
    };
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let copied = |value: Option<&[u8]>| value.map_or_else(Bytes::new, Bytes::copy_from_slice);
        headers.iter().map(|header| (header.key.to_owned(), copied(header.value))).collect()
    });
    let time = message.timestamp().to_millis().map_or(SystemTime::UNIX_EPOCH, time_of);
    Ok(event
        .with_key(message.key().map(Bytes::copy_from_slice))
        .with_time(time)
        .with_headers(headers))
}

#[derive(Debug)]
enum Payload {
    Json(Json),
    Raw(Bytes),
}

fn usable(payload: Option<&[u8]>, json: bool) -> Result<Payload, Unusable> {
    let bytes = payload.filter(|bytes| !bytes.is_empty()).ok_or(Unusable::Empty)?;
    let bytes = Bytes::copy_from_slice(bytes);
    if json {
        Json::parse(bytes).map(Payload::Json).map_err(|_| Unusable::NotJson)
    } else {
        Ok(Payload::Raw(bytes))
    }
}

/// Milliseconds since the epoch, as the producer wrote them: any number.
fn time_of(millis: i64) -> SystemTime {
    let since = Duration::from_millis(millis.try_into().unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_payloads_are_told_apart() {
        for json in [false, true] {
            assert_eq!(usable(None, json).unwrap_err(), Unusable::Empty);
            assert_eq!(usable(Some(b""), json).unwrap_err(), Unusable::Empty);
        }
        assert_eq!(usable(Some(b"{"), true).unwrap_err(), Unusable::NotJson);
        assert_eq!(usable(Some(b"{},{}"), true).unwrap_err(), Unusable::NotJson);
        assert!(matches!(usable(Some(b"{"), false), Ok(Payload::Raw(_))));
        assert!(matches!(usable(Some(b"{}"), true), Ok(Payload::Json(_))));
    }

    #[test]
    fn any_time_a_producer_may_write_is_taken() {
        assert_eq!(time_of(-1), SystemTime::UNIX_EPOCH);
        assert_eq!(time_of(1500), SystemTime::UNIX_EPOCH + Duration::from_millis(1500));
        assert!(time_of(i64::MAX) >= SystemTime::UNIX_EPOCH);
    }
}
