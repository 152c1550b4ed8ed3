//! From a message to an event.
//!
//! A message that a consumer sends comes under its own subject; where it stands in its
//! stream is in the subject that it would be acknowledged to (ADR-15):
//!
//! ```text
//! $JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.NUMBER.NANOSECONDS.PENDING
//! $JS.ACK.DOMAIN.ACCOUNT.STREAM.CONSUMER.DELIVERED.SEQUENCE.NUMBER.NANOSECONDS.PENDING...
//! ```

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::Message;
use bytes::Bytes;
use fanout::{Event, Lane};

/// The header that holds a message's subject; the first one of this name.
pub const SUBJECT: &str = "Nats-Subject";

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its sequence in the stream.
    pub(crate) sequence: u64,
    /// Its number among what the consumer has sent, from 1.
    pub(crate) number: u64,
    /// When the server took it.
    pub(crate) time: SystemTime,
}

impl Place {
    /// Where a message stands by its reply subject; `None` where it is none of a stream.
    pub(crate) fn parse(reply: &str) -> Option<Self> {
        let words: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let last = match words.len() {
            7 => &words[3..],
            9.. => &words[5..],
            _ => return None,
        };
        let sequence = last[0].parse().ok().filter(|sequence| *sequence > 0)?;
        let nanos: u64 = last[2].parse().ok()?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
        Some(Self { sequence, number: last[1].parse().ok()?, time })
    }
}

/// The message as an event.
///
/// Its bytes are copied: those of a message are part of what was read from the socket at
/// once, and would pin all of it. Headers come sorted by name, since the client forgets in
/// which order they stood.
pub(crate) fn to_event(message: &Message, lane: &Arc<Lane>, place: Place) -> Event {
    let subject = Bytes::copy_from_slice(message.subject.as_bytes());
    let mut headers = Vec::new();
    for (name, values) in message.headers.iter().flat_map(|headers| headers.iter()) {
        let value = |value: &async_nats::HeaderValue| Bytes::copy_from_slice(value.as_ref());
        headers.extend(values.iter().map(|v| (name.to_string(), value(v))));
    }
    headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    // Before one that came along, as in a message that was published again.
    headers.insert(0, (SUBJECT.to_owned(), subject.clone()));
    Event::new(lane.clone(), place.sequence, Bytes::copy_from_slice(&message.payload))
        .with_key(Some(subject))
        .with_time(place.time)
        .with_headers(headers)
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;

    #[test]
    fn a_place_is_read_in_both_forms() {
        let place = Place::parse("$JS.ACK.S.c1.1.9.6.1795392029960777670.0").expect("a place");
        assert_eq!((place.sequence, place.number), (9, 6));
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_795_392_029_960_777_670);
        assert_eq!(place.time, time);
        for form in [
            "_.hash.S.c1.1.9.6.1795392029960777670.0",
            "hub.hash.S.c.1.9.6.1795392029960777670.0.x",
        ] {
            assert_eq!(Place::parse(&format!("$JS.ACK.{form}")), Some(place), "{form}");
        }
        for none in [
            "",
            "_INBOX.x.1",
            "$JS.ACK.S.c1.1.9.6.7",
            "$JS.ACK.S.c.1.0.1.7.0",
            "$JS.ACK.S.c.1.x.1.7.0",
        ] {
            assert_eq!(Place::parse(none), None, "{none}");
        }
    }

    #[test]
    fn subject_headers_and_time_are_passed_on() {
        let mut headers = HeaderMap::new();
        headers.append("b", "2");
        headers.append("a", "1");
        headers.append("b", "3");
        headers.insert(SUBJECT, "where.it.was.first");
        let message = Message {
            subject: "order.created".into(),
            reply: None,
            payload: "{}".into(),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        };
        let lane = Arc::new(Lane::new("log", "S", 0));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        let event = to_event(&message, &lane, Place { sequence: 4, number: 1, time });
        assert_eq!((event.offset, event.time), (4, time));
        assert_eq!(event.key.as_deref(), Some(&b"order.created"[..]));
        assert_eq!(event.header(SUBJECT).map(|v| &v[..]), Some(&b"order.created"[..]));
        let told: Vec<_> = event.headers.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
        let expected = [
            r#"Nats-Subject=b"order.created""#,
            r#"Nats-Subject=b"where.it.was.first""#,
            r#"a=b"1""#,
            r#"b=b"2""#,
            r#"b=b"3""#,
        ];
        assert_eq!(told, expected);
    }
}
