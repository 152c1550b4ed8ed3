//! Records as a producer may have written them, and what decoders let routers see of them.
#![no_main]

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use fanout::{CloudEvents, DecodeError, Decoder, Event, JsonPayload, Lane, Raw};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

// Headers, a line each, an empty line, and the payload.
fuzz_target!(|data: &[u8]| {
    let record = record(data);
    assert!(same(&Raw.decode(&record).expect("takes everything"), &record));
    json(&record);
    cloud_event(&record);
});

fn record(data: &[u8]) -> Event {
    let mut headers = Vec::new();
    let mut rest = data;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let Some(at) = line.iter().position(|byte| *byte == b':') else { break };
        let value = line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..]);
        headers.push((
            String::from_utf8_lossy(&line[..at]).into_owned(),
            Bytes::copy_from_slice(value),
        ));
    }
    let payload = Bytes::copy_from_slice(rest);
    Event::new(Arc::new(Lane::new("log", "orders", 0)), 7, payload)
        .with_key(Some(Bytes::from_static(b"key")))
        .with_headers(headers)
}

fn json(record: &Event) {
    match JsonPayload.decode(record) {
        Ok(event) => {
            assert!(same(&event, record));
            is_json(&event);
        }
        Err(DecodeError::Empty) => assert!(record.payload.is_empty()),
        Err(DecodeError::ConfluentFraming { schema }) => {
            assert_eq!(record.payload[..5], [&[0][..], &schema.to_be_bytes()].concat());
        }
        Err(DecodeError::NotJson(_)) => {
            assert!(serde_json::from_slice::<&RawValue>(&record.payload).is_err());
        }
        Err(other) => panic!("{other}"),
    }
}

fn cloud_event(record: &Event) {
    let event = match CloudEvents.decode(record) {
        Ok(event) => event,
        Err(error) => return named(&error),
    };
    // What a router may rely on.
    let attribute = |name: &str| event.header(&format!("ce_{name}"));
    assert_eq!(attribute("specversion").expect("is there"), "1.0");
    for name in ["id", "source", "type"] {
        let value = attribute(name).expect("is there");
        assert!(!value.is_empty() && std::str::from_utf8(value).is_ok(), "{name}: {value:?}");
    }
    assert!(event.headers.iter().all(|(name, _)| !name.to_ascii_lowercase().starts_with("ce-")));
    let types = event.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("content-type"));
    let types: Vec<_> = types.map(|(_, value)| value).collect();
    let json = types.first().is_some_and(|value| *value == &b"application/json"[..]);
    if json && !event.payload.is_empty() {
        is_json(&event);
    }
    assert_eq!((event.offset, &event.key), (record.offset, &record.key));
    if let Cow::Owned(made) = &event {
        // What was made of it is in binary form: it is the same once more.
        again(made);
    }
}

fn again(made: &Event) {
    let structured = |(name, value): &(String, Bytes)| {
        name.eq_ignore_ascii_case("content-type")
            && std::str::from_utf8(value).is_ok_and(|value| {
                value.trim().to_ascii_lowercase().starts_with("application/cloudevents")
            })
    };
    // An event in an event.
    if made.headers.iter().any(structured) {
        return;
    }
    let again = CloudEvents.decode(made).expect("what was made is one");
    assert!(same(&again, made), "{made:?}");
}

/// An error that names what is wrong without all of the payload.
fn named(error: &DecodeError) {
    assert!(!error.reason().is_empty());
    assert!(error.to_string().len() < 512, "{error}");
}

fn is_json(event: &Event) {
    let json = event.json().expect("was checked");
    assert_eq!(json.as_bytes(), &event.payload);
    let value: &RawValue = serde_json::from_slice(&event.payload).expect("one value");
    assert!(!value.get().is_empty());
}

fn same(a: &Event, b: &Event) -> bool {
    a.payload == b.payload && a.headers == b.headers && a.key == b.key && a.offset == b.offset
}
