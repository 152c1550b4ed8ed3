//! How events look in `text/event-stream`.
//!
//! ```text
//! event: order:created                         not there for the names below
//! id: kBtOzFy1D6EPIQU3rodO4D0rjuGt_uYTSmea0    the whole cursor after it
//! data: {"event":"order:created","room":"user:42","at":"...","data":{}}
//! ```
//!
//! An `EventSource` gives an event to whoever asks for it by its name, and one without a
//! name to `onmessage`. It tells of its own connection by `open` and `error`, and we of its
//! end by `close`: what has one of these names comes without, as does what has none that
//! fits in a line. Its name is in the object, as everybody's.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fanout::{Close, Cursor, Delivery, Frame, Protocol};

use crate::close::{ComeBack, Row};
use crate::protocol::{self, Said};

/// When a client comes back that was told nothing else: 2 to 3 s.
const COME_BACK: Duration = Duration::from_secs(2);
const COME_BACK_WITHIN: Duration = Duration::from_secs(1);

/// When one comes back that was told not to, because it does not know our `close`.
const NOT_BACK: Duration = Duration::from_secs(60);

/// Keeps proxies from thinking that nobody is there.
pub(crate) const COMMENT: &[u8] = b":\n\n";

/// Emissions as events of a stream: `data` is the native protocol's object.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventStream;

impl Protocol for EventStream {
    fn frame(&self, delivery: &Delivery<'_>) -> Frame {
        let mut out = BytesMut::new();
        protocol::object(delivery, |object| {
            put(&mut out, name(delivery.event), delivery.cursor, object);
        });
        out.freeze().into()
    }

    fn whole_cursors(&self) -> bool {
        true
    }
}

/// What is no emission, with the cursor that the client has then.
pub(crate) fn event(said: &Said, id: Option<&Cursor>) -> Bytes {
    let mut out = BytesMut::new();
    put(&mut out, name(said.event), id, &[&said.json]);
    out.freeze()
}

/// When to come back from a connection that just ends: not all at once.
pub(crate) fn retry() -> Bytes {
    Bytes::from(retry_after(COME_BACK + random(COME_BACK_WITHIN)) + "\n")
}

/// The end, and why: `{"code":4001,"name":"slow","afterMs":2000}`.
pub(crate) fn close(close: &Close) -> Bytes {
    let row = Row::of(close);
    let mut out = BytesMut::new();
    let retry = match row.come_back {
        ComeBack::Within(time) => Some(random(time)),
        ComeBack::After(time) => Some(time),
        ComeBack::No => Some(NOT_BACK),
        ComeBack::WithBackoff | ComeBack::WithNewToken => None,
    };
    if let Some(time) = retry {
        out.extend_from_slice(retry_after(time).as_bytes());
    }
    let code = format!("{{\"code\":{},", row.code);
    put(&mut out, Some("close"), None, &[code.as_bytes(), &row.reason().as_bytes()[1..]]);
    out.freeze()
}

/// The name that an event may be asked for by.
fn name(event: &str) -> Option<&str> {
    let kept = matches!(event, "" | "close" | "error" | "message" | "open");
    (!kept && !event.contains(['\r', '\n'])).then_some(event)
}

fn put(out: &mut BytesMut, name: Option<&str>, id: Option<&Cursor>, data: &[&[u8]]) {
    let id = id.map(Cursor::as_str);
    let fields = [("event: ", name), ("id: ", id)];
    let named: usize =
        fields.iter().map(|(field, text)| text.map_or(0, |t| field.len() + t.len() + 1)).sum();
    out.reserve(named + data.iter().map(|part| part.len()).sum::<usize>() + "data: \n\n".len());
    for (field, text) in fields {
        if let Some(text) = text {
            for part in [field, text, "\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
    out.extend_from_slice(b"data: ");
    for part in data {
        put_lines(out, part);
    }
    out.extend_from_slice(b"\n\n");
}

/// The client puts the lines together again, with a line feed between. JSON has line
/// breaks between its tokens only, where it does not matter which.
fn put_lines(out: &mut BytesMut, mut text: &[u8]) {
    while let Some(at) = text.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        let (line, rest) = text.split_at(at);
        out.extend_from_slice(line);
        out.extend_from_slice(b"\ndata: ");
        text = rest.strip_prefix(b"\r\n").unwrap_or(&rest[1..]);
    }
    out.extend_from_slice(text);
}

fn retry_after(time: Duration) -> String {
    // Longer would be no number to some clients.
    format!("retry: {}\n", time.as_millis().min(1 << 31))
}

/// A random time up to `most`.
fn random(most: Duration) -> Duration {
    // Each of these has keys of its own.
    let part = RandomState::new().hash_one(()) >> 32;
    most.checked_mul(part as u32).map_or(most, |time| time / u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_end_says_why_and_when_to_come_back() {
        let after = Duration::from_secs(7);
        for (why, expected) in [
            (
                Close::Slow { after },
                "retry: 7000\nevent: close\ndata: {\"code\":4001,\"name\":\"slow\",\"afterMs\":7000}\n\n",
            ),
            (
                Close::RateLimited { after },
                "retry: 7000\nevent: close\ndata: {\"code\":4003,\"name\":\"rate_limited\",\"afterMs\":7000}\n\n",
            ),
            (
                Close::TokenExpired,
                "event: close\ndata: {\"code\":4002,\"name\":\"token_expired\"}\n\n",
            ),
            (Close::GoingAway, "event: close\ndata: {\"code\":1001,\"name\":\"going_away\"}\n\n"),
            (
                Close::Revoked,
                "retry: 60000\nevent: close\ndata: {\"code\":4503,\"name\":\"revoked\"}\n\n",
            ),
            (
                Close::Draining { within: Duration::ZERO },
                "retry: 0\nevent: close\ndata: {\"code\":4000,\"name\":\"draining\",\"withinMs\":0}\n\n",
            ),
        ] {
            assert_eq!(text(&close(&why)), expected);
        }
    }

    #[test]
    fn moments_are_within_and_not_all_the_same() {
        let most = Duration::from_secs(3);
        let mut moments: Vec<_> = (0..100).map(|_| random(most)).collect();
        assert!(moments.iter().all(|moment| *moment <= most));
        moments.sort_unstable();
        assert!(moments[10] < most / 2 && moments[90] > most / 2, "{moments:?}");
        for _ in 0..100 {
            let retry = retry();
            let ms = text(&retry).strip_prefix("retry: ").unwrap().strip_suffix("\n\n").unwrap();
            assert!((2000..=3000).contains(&ms.parse::<u64>().unwrap()), "{ms}");
        }
        // However long, it is a number that clients can read.
        let long = close(&Close::Slow { after: Duration::MAX });
        assert!(text(&long).starts_with("retry: 2147483648\n"), "{long:?}");
        assert!(random(Duration::MAX) <= Duration::MAX);
    }

    #[test]
    fn every_line_break_begins_another_line_and_none_is_left_out() {
        let lines = |parts: &[&[u8]]| {
            let mut out = BytesMut::new();
            put(&mut out, Some("x"), None, parts);
            text(&out).strip_prefix("event: x\n").unwrap().to_owned()
        };
        assert_eq!(lines(&[b"a", b"b"]), "data: ab\n\n");
        assert_eq!(lines(&[b"a\nb\rc\r\nd"]), "data: a\ndata: b\ndata: c\ndata: d\n\n");
        assert_eq!(lines(&[b"\n", b"\r", b"a\n\n"]), "data: \ndata: \ndata: a\ndata: \ndata: \n\n");
        assert_eq!(lines(&[b""]), "data: \n\n");
    }
}
