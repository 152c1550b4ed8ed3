//! What clients send as text messages of the native protocol, what is answered, and what
//! becomes of events that are passed on to others.
#![no_main]

use fanout::testing::delivery;
use fanout::{Json, Protocol, Room};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::value::RawValue;
use ws_sink::testing::{Heard, hear};
use ws_sink::{EventStream, MAX_ID_BYTES, Native};

/// Any message of the server: these members and no others, each once.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said<'a> {
    event: String,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    room: Option<String>,
    skipped: Option<u64>,
    #[serde(borrow)]
    data: &'a RawValue,
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Heard { id, good, answers, event } = hear(text);
    if let Some(id) = &id {
        assert!(id.len() <= MAX_ID_BYTES, "an id beyond the limit comes back");
        assert!(text.contains(id.as_str()), "the id is not as it was written");
    }
    for answer in &answers {
        let said: Said<'_> = serde_json::from_str(answer).expect("an answer is one object");
        assert_eq!(said.id.map(RawValue::get), id.as_deref(), "{answer}");
        assert_eq!(said.event == "error" && !good, !good, "{answer}");
        assert!(said.data.get().starts_with('{'), "{answer}");
        assert!(!answer.contains(['\r', '\n']) || id.is_some(), "{answer}");
    }
    if let Some((event, room, data)) = event {
        assert!(!["subscribe", "unsubscribe", "auth"].contains(&event.as_str()));
        emit(&event, room.as_ref(), &data);
    }
});

/// What one client says and another hears is one object in one frame, however it is put.
fn emit(event: &str, room: Option<&Room>, body: &Json) {
    for skipped in [0, 7] {
        let delivery = delivery(event, room, body, skipped);
        let frame = Native.frame(&delivery);
        check(payload(frame.as_bytes()), &delivery);

        let stream = EventStream.frame(&delivery);
        let stream = std::str::from_utf8(stream.as_bytes()).expect("a stream is text");
        let (name, data) = event_of(stream);
        assert!(name.is_none_or(|name| name == event), "{stream:?}");
        check(&data, &delivery);
    }
}

fn check(object: &str, delivery: &fanout::Delivery<'_>) {
    let said: Said<'_> = serde_json::from_str(object).expect("an emission is one object");
    assert_eq!(said.event, delivery.event);
    assert_eq!(said.room.as_deref(), delivery.room.map(Room::as_str));
    assert_eq!(said.skipped.unwrap_or_default(), delivery.skipped);
    assert!(said.id.is_none(), "an emission with an id: {object}");
    // Line breaks between tokens may be others.
    let bare = |text: &str| text.replace(['\r', '\n'], "").trim().to_owned();
    assert_eq!(bare(said.data.get()), bare(delivery.body.as_str()));
}

/// The payload of the one text frame that these bytes are.
fn payload(frame: &[u8]) -> &str {
    let at = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    assert_eq!(frame[0], 0x81, "a whole text frame");
    std::str::from_utf8(&frame[at..]).expect("text")
}

/// Name and data of the one event in a stream, as the standard reads it: HTML, 9.2.6.
fn event_of(stream: &str) -> (Option<&str>, String) {
    let (mut name, mut data, mut ended) = (None, Vec::new(), false);
    let stream = stream.strip_suffix('\n').expect("ends with an empty line");
    for line in stream.split(['\r', '\n']) {
        assert!(!ended, "more than one event: {stream:?}");
        match line.split_once(':').map(|(f, value)| (f, value.strip_prefix(' ').unwrap_or(value))) {
            Some(("event", value)) => assert!(name.replace(value).is_none(), "{stream:?}"),
            Some(("data", value)) => data.push(value),
            _ if line.is_empty() => ended = true,
            _ => panic!("a line that is neither: {line:?}"),
        }
    }
    assert!(ended, "no end: {stream:?}");
    (name, data.join("\n"))
}
