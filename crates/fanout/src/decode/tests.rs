use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::position::Lane;

fn record(payload: &'static [u8], headers: &[(&str, &str)]) -> Event {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes())));
    Event::new(Arc::new(Lane::new("log", "t", 0)), 7, payload.into())
        .with_key(Some("k".into()))
        .with_headers(headers.collect())
}

fn text(event: &Event, header: &str) -> Option<String> {
    event.header(header).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn reason(decoder: &impl Decoder, record: &Event) -> (&'static str, String) {
    let error = decoder.decode(record).expect_err("must be refused");
    (error.reason(), error.to_string())
}

#[test]
fn raw_takes_everything_as_it_is() {
    for payload in [&b""[..], b"{", b"\0\0\0\0\x01x"] {
        let record = record(payload, &[]);
        assert!(matches!(Raw.decode(&record).unwrap(), Cow::Borrowed(_)));
    }
}

#[test]
fn json_is_checked_and_the_same_bytes() {
    let good = record(br#" {"a": 1} "#, &[]);
    let event = JsonPayload.decode(&good).unwrap();
    assert!(matches!(event, Cow::Borrowed(_)), "nothing is rebuilt");
    assert_eq!(event.json().unwrap().as_bytes().as_ptr(), good.payload.as_ptr());

    let refused = |payload| reason(&JsonPayload, &record(payload, &[])).0;
    assert_eq!(refused(b""), "empty");
    assert_eq!(refused(b"{"), "not_json");
    assert_eq!(refused(b"{},{}"), "not_json");
    assert_eq!(refused(b"\"\xff\""), "not_json");
    assert_eq!(refused(b"\0\0\0\0\0"), "not_json", "framing of nothing is none");
}

#[test]
fn confluents_framing_is_named() {
    let (reason, error) = reason(&JsonPayload, &record(b"\0\0\0\x01\x02\x08avro", &[]));
    assert_eq!(reason, "confluent_framing");
    assert!(error.contains("Confluent") && error.contains("schema 258"), "{error}");
}

const BINARY: [(&str, &str); 5] = [
    ("ce_specversion", "1.0"),
    ("ce_id", "7"),
    ("ce_source", "/shop"),
    ("ce_type", "order.created"),
    ("content-type", "application/json; charset=utf-8"),
];

#[test]
fn a_cloud_event_in_binary_form_is_the_record_itself() {
    let record = record(br#"{"total":9.5}"#, &BINARY);
    let event = CloudEvents.decode(&record).unwrap();
    assert!(matches!(event, Cow::Borrowed(_)));
    assert_eq!(text(&event, "ce_type").unwrap(), "order.created");
}

#[test]
fn a_cloud_event_has_one_form_for_routers() {
    let structured = record(
        br#"{"specversion":"1.0","id":"7","source":"/shop","type":"order.created",
            "subject":null,"count":3,"flag":true,"datacontenttype":"application/json",
            "data": {"total": 9.50} }"#,
        &[("Content-Type", "application/CloudEvents+json; charset=UTF-8"), ("x", "y")],
    );
    let nats = BINARY.map(|(name, value)| (name.replace("ce_", "Ce-"), value));
    let nats: Vec<_> = nats.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let nats = record(br#"{"total": 9.50}"#, &nats);
    for record in [&structured, &nats] {
        let event = CloudEvents.decode(record).unwrap();
        for (name, value) in &BINARY[..4] {
            assert_eq!(text(&event, name).as_deref(), Some(*value), "{name}");
        }
        assert!(text(&event, "content-type").unwrap().starts_with("application/json"));
        assert_eq!(event.json().unwrap().as_str(), r#"{"total": 9.50}"#);
        assert_eq!((event.offset, event.key.as_deref()), (7, Some(&b"k"[..])));
    }
    let event = CloudEvents.decode(&structured).unwrap();
    assert_eq!(text(&event, "ce_count").unwrap(), "3");
    assert_eq!(text(&event, "ce_flag").unwrap(), "true");
    assert_eq!(text(&event, "ce_subject"), None, "null is as if it were not there");
    assert_eq!(text(&event, "x").unwrap(), "y", "other headers stay");
    // The data are a part of the record, not a copy.
    let record = structured.payload.as_ptr_range();
    assert!(record.contains(&event.payload.as_ptr()));
}

/// A structured event with these members beside what each has.
fn structured(members: &str) -> Event {
    let payload = format!(
        r#"{{"specversion":"1.0","id":"7","source":"/shop","type":"order.created"{members}}}"#
    );
    let headers = vec![("content-type".to_owned(), "application/cloudevents+json".into())];
    Event::new(Arc::new(Lane::new("log", "t", 0)), 7, payload.into()).with_headers(headers)
}

#[test]
fn data_may_be_missing_text_or_bytes() {
    let payload = |members| CloudEvents.decode(&structured(members)).unwrap().payload.clone();
    assert_eq!(payload(""), "");
    assert_eq!(payload(r#","data":"text""#), "\"text\"", "JSON where nothing else is said");
    assert_eq!(payload(r#","data":null"#), "null");
    let xml = r#","datacontenttype":"text/xml","data":"<a b=\"c\"/>""#;
    assert_eq!(payload(xml), r#"<a b="c"/>"#);
    assert_eq!(payload(r#","data_base64":"AAEC","datacontenttype":"x/y""#), &[0, 1, 2][..]);
}

#[test]
fn what_is_no_cloud_event_says_why() {
    let said = |record: &Event| {
        let (reason, error) = reason(&CloudEvents, record);
        assert_eq!(reason, "not_cloud_event");
        error
    };
    let refused = |members| said(&structured(members));
    assert!(said(&record(b"{}", &[])).contains("neither a header"));
    assert!(said(&record(b"{}", &[("content-type", "application/json")])).contains("neither"));
    let batch = [("content-type", "application/cloudevents-batch+json")];
    assert!(said(&record(b"[]", &batch)).contains("batch"));
    let avro = [("content-type", "application/cloudevents+avro")];
    assert!(said(&record(b"", &avro)).contains("application/cloudevents+avro"));
    assert!(said(&record(b"{}", &BINARY[..3])).contains("`type` is missing"));
    let old = [&[("ce_specversion", "0.3")], &BINARY[1..]].concat();
    assert!(said(&record(b"{}", &old)).contains("0.3"));

    assert!(refused(r#","id":"8""#).contains("`id` comes twice"));
    assert!(refused(r#","data":1,"data_base64":"AA==""#).contains("data come twice"));
    assert!(refused(r#","data_base64":"-""#).contains("base64"));
    assert!(refused(r#","Shop":"x""#).contains("`Shop`"));
    assert!(refused(r#","shop":{}"#).contains("`shop` is no string"));
    let many: Vec<String> = (0..64).map(|n| format!(r#","a{n}":1"#)).collect();
    let many = many.concat();
    assert!(refused(&many).contains("more than 64"));
    let long = format!(r#","{}":1"#, "a".repeat(70_000));
    assert!(refused(&long).len() < 300, "it is not repeated whole");
}

#[test]
fn data_of_another_type_than_they_say_are_refused() {
    assert_eq!(reason(&CloudEvents, &record(b"{", &BINARY)).0, "not_json");
    let framed = record(b"\0\0\0\0\x09x", &BINARY);
    assert_eq!(reason(&CloudEvents, &framed).0, "confluent_framing");
    let json = structured(r#","datacontenttype":"a/b+json","data_base64":"ew==""#);
    assert_eq!(reason(&CloudEvents, &json).0, "not_json");
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            r#"\{("(specversion|id|source|type|data|data_base64)":("1.0"|"x"|1|null|\{\}),?){0,6}\}"#
                .prop_map(String::into_bytes),
        ],
        mode in 0..4,
        name in ".{0,8}",
        value in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let kind = match mode {
            0 => ("content-type", "application/cloudevents+json"),
            1 => ("ce-specversion", "1.0"),
            2 => ("ce_id", "é"),
            _ => ("content-type", "application/json"),
        };
        let headers = vec![(kind.0.to_owned(), kind.1.into()), (name, value.into())];
        let lane = Arc::new(Lane::new("log", "t", 0));
        let record = Event::new(lane, 0, payload.into()).with_headers(headers);
        let _ = JsonPayload.decode(&record);
        if let Ok(event) = CloudEvents.decode(&record) {
            prop_assert!(event.header("ce_type").is_some());
        }
    }
}

/// Found by fuzzing. A record in memory comes with its payload checked; so does one that
/// somebody has looked at before it was decoded. What was checked was the envelope, and it
/// went to clients in place of the data.
#[test]
fn what_was_checked_of_the_envelope_is_not_said_of_the_data() {
    let checked = |members: &str| {
        let record = structured(members);
        record.json().unwrap();
        record
    };
    let json = r#","datacontenttype":"application/json","data_base64":"#;
    let good = checked(&format!(r#"{json}"eyJhIjoxfQ==""#));
    let event = CloudEvents.decode(&good).unwrap();
    assert_eq!(event.json().unwrap().as_str(), r#"{"a":1}"#);
    assert_eq!(reason(&CloudEvents, &checked(&format!(r#"{json}"/w==""#))).0, "not_json");
    assert!(CloudEvents.decode(&checked("")).unwrap().json().is_err(), "there are no data");
    // The same for whoever sets another payload himself.
    let mut event = good.clone();
    event.payload = "[2]".into();
    assert_eq!(event.json().unwrap().as_str(), "[2]");
}

/// A producer that sent text in place of an envelope had all of it in the log: errors of
/// serde show what was there instead.
#[test]
fn an_error_shows_little_of_a_record() {
    let secret = "s".repeat(10_000);
    let structured = [("content-type", "application/cloudevents+json")];
    let text = record(format!("\"{secret}\"").leak().as_bytes(), &structured);
    let media_type = format!("application/cloudevents+{secret}");
    let format = record(b"", &[("content-type", &media_type)]);
    let version = record(b"", &[("ce_specversion", &secret)]);
    for record in [text, format, version] {
        let (reason, error) = reason(&CloudEvents, &record);
        assert_eq!(reason, "not_cloud_event");
        assert!(error.len() < 300, "{error}");
    }
}
