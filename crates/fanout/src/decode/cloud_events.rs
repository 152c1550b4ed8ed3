//! `CloudEvents` 1.0, as its bindings for Kafka and NATS write them.
//!
//! | form | told by | attributes | data |
//! |---|---|---|---|
//! | binary | a header `ce_specversion` | headers `ce_*` (`ce-*` in NATS), `content-type` | the payload |
//! | structured | `content-type: application/cloudevents+json` | members of one JSON object | its `data` or `data_base64` |
//!
//! A router sees the same of both: attributes as headers `ce_type`, `ce_source` and so on,
//! the data's media type as header `content-type`, and the data as the payload. JSON data
//! are the bytes that the producer wrote.
//!
//! <https://github.com/cloudevents/spec>: spec.md, json-format.md, kafka-protocol-binding.md.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{DecodeError, Decoder, check_json};
use crate::event::Event;
use crate::json::Json;

const CONTENT_TYPE: &str = "content-type";
const PREFIX: &str = "ce_";
/// The prefix in the bindings for HTTP and NATS.
const OTHER_PREFIX: &str = "ce-";
/// What every `CloudEvent` has.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
/// Most attributes, and the longest name of one: the specification asks for 20.
const MAX_ATTRIBUTES: usize = 64;
const MAX_NAME: usize = 64;
/// Most characters of what was there instead, in an error.
const MAX_SHOWN: usize = 100;

/// Takes `CloudEvents` 1.0 in binary and in structured form.
///
/// A router reads their attributes from headers, `ce_type` for one; the event's payload is
/// the data. Data that are JSON by their media type were checked to be.
///
/// ```
/// # use std::sync::Arc;
/// use fanout::{CloudEvents, Decoder, Event, Lane};
///
/// let record = r#"{"specversion":"1.0","id":"7","source":"/shop","type":"order.created","data":{"total":9.5}}"#;
/// let record = Event::new(Arc::new(Lane::new("log", "orders", 0)), 0, record.into())
///     .with_headers(vec![("content-type".into(), "application/cloudevents+json".into())]);
/// let event = CloudEvents.decode(&record)?;
/// assert_eq!(event.header("ce_type").unwrap(), "order.created");
/// assert_eq!(event.json()?.as_str(), r#"{"total":9.5}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs)] // It is its own constructor.
pub struct CloudEvents;

/// Why a record is no `CloudEvent`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotCloudEvent {
    /// Nothing says that it is one.
    #[error("neither a header `ce_specversion` nor `content-type: application/cloudevents+json`")]
    Unmarked,
    /// Several in one record, which no binding for a log has.
    #[error("a batch of several; write a record for each")]
    Batch,
    /// In structured form, but not in JSON.
    #[error("format `{0}` is not known; the JSON format is")]
    Format(String),
    /// In structured form, and no JSON object of the right shape.
    #[error("the envelope is not right: {0}")]
    Envelope(String),
    /// An attribute that each has is not there, or empty.
    #[error("attribute `{0}` is missing")]
    Missing(&'static str),
    /// Of another version.
    #[error("specversion `{0}`; only 1.0 is known")]
    Version(String),
    /// `data_base64` is none.
    #[error("`data_base64` is not base64")]
    Base64,
}

impl Decoder for CloudEvents {
    fn decode<'a>(&self, record: &'a Event) -> Result<Cow<'a, Event>, DecodeError> {
        let media_type = header(record, CONTENT_TYPE).map(media_type).unwrap_or_default();
        if let Some(format) = media_type.strip_prefix("application/cloudevents") {
            return match format {
                "+json" => structured(record).map(Cow::Owned),
                _ if format.starts_with("-batch") => Err(NotCloudEvent::Batch.into()),
                _ => Err(NotCloudEvent::Format(short(&media_type)).into()),
            };
        }
        let event = binary(record)?;
        // Without data there is no data of the wrong type.
        if is_json(&media_type) && !event.payload.is_empty() {
            check_json(&event)?;
        }
        Ok(event)
    }
}

fn binary(record: &Event) -> Result<Cow<'_, Event>, NotCloudEvent> {
    let foreign = |(name, _): &(String, Bytes)| starts_with(name, OTHER_PREFIX);
    let event = if record.headers.iter().any(foreign) {
        let mut event = record.clone();
        for (name, _) in event.headers.iter_mut().filter(|header| foreign(header)) {
            *name = format!("{PREFIX}{}", name[PREFIX.len()..].to_ascii_lowercase());
        }
        Cow::Owned(event)
    } else {
        Cow::Borrowed(record)
    };
    if event.header("ce_specversion").is_none() {
        return Err(NotCloudEvent::Unmarked);
    }
    required(|name| {
        let named = |(header, _): &&(String, Bytes)| header.strip_prefix(PREFIX) == Some(name);
        let value = event.headers.iter().find(named)?.1.as_ref();
        std::str::from_utf8(value).ok().map(str::to_owned)
    })?;
    Ok(event)
}

fn structured(record: &Event) -> Result<Event, DecodeError> {
    let envelope: Envelope<'_> = serde_json::from_slice(&record.payload)
        .map_err(|error| NotCloudEvent::Envelope(short(&error.to_string())))?;
    let attribute = |name: &str| envelope.attributes.iter().find(|(n, _)| n == name);
    required(|name| attribute(name).map(|(_, value)| value.clone()))?;
    // What the transport said of the envelope is not what the envelope says of the data.
    let mut headers: Vec<(String, Bytes)> = record
        .headers
        .iter()
        .filter(|(name, _)| {
            !name.eq_ignore_ascii_case(CONTENT_TYPE)
                && !starts_with(name, PREFIX)
                && !starts_with(name, OTHER_PREFIX)
        })
        .cloned()
        .collect();
    let data_type = attribute("datacontenttype").map(|(_, value)| value.clone());
    for (name, value) in &envelope.attributes {
        match name.as_str() {
            "datacontenttype" => headers.push((CONTENT_TYPE.into(), value.clone().into())),
            _ => headers.push((format!("{PREFIX}{name}"), value.clone().into())),
        }
    }
    let mut event = record.clone().with_headers(headers);
    let json = data_type.as_deref().is_none_or(|text| is_json(&media_type(text)));
    match envelope.data {
        Data::None => event.payload = Bytes::new(),
        // Text in another format is written as a string of JSON.
        Data::Json(raw) if !json && raw.get().starts_with('"') => {
            let text: String = serde_json::from_str(raw.get()).map_err(DecodeError::other)?;
            event.payload = text.into();
        }
        Data::Json(raw) => event = event.with_json(&Json::within(&record.payload, raw)),
        Data::Bytes(bytes) => {
            event.payload = bytes.into();
            if json && data_type.is_some() {
                check_json(&event)?;
            }
        }
    }
    Ok(event)
}

/// Checks what every `CloudEvent` has.
fn required(attribute: impl Fn(&str) -> Option<String>) -> Result<(), NotCloudEvent> {
    for name in REQUIRED {
        let value = attribute(name).filter(|value| !value.is_empty());
        let value = value.ok_or(NotCloudEvent::Missing(name))?;
        if name == "specversion" && value != "1.0" {
            return Err(NotCloudEvent::Version(short(&value)));
        }
    }
    Ok(())
}

fn starts_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The first header of this name, whatever its case, where it is text.
fn header<'a>(record: &'a Event, name: &str) -> Option<&'a str> {
    let (_, value) = record.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}

/// A media type without its parameters.
fn media_type(text: &str) -> String {
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(media_type: &str) -> bool {
    let subtype = media_type.split_once('/').map(|(_, subtype)| subtype);
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

/// As much of a text as an error shows: a payload is no line of a log.
fn short(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

/// An event in JSON.
struct Envelope<'a> {
    /// In their canonical text.
    attributes: Vec<(String, String)>,
    data: Data<'a>,
}

enum Data<'a> {
    None,
    Json(&'a RawValue),
    Bytes(Vec<u8>),
}

impl<'de> serde::Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvent as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
        let wrong = |what: String| serde::de::Error::custom(what);
        let mut envelope = Envelope { attributes: Vec::new(), data: Data::None };
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let raw: &'de RawValue = map.next_value()?;
            let first = matches!(envelope.data, Data::None);
            match &*name {
                "data" | "data_base64" if !first => return Err(wrong("data come twice".into())),
                // Null is as if it were not there, but for data, whose value it is.
                "data" => envelope.data = Data::Json(raw),
                _ if raw.get() == "null" => {}
                "data_base64" => {
                    let text: String = serde_json::from_str(raw.get())
                        .map_err(|error| wrong(format!("`data_base64`: {error}")))?;
                    let bytes = STANDARD
                        .decode(text)
                        .map_err(|_| wrong(NotCloudEvent::Base64.to_string()))?;
                    envelope.data = Data::Bytes(bytes);
                }
                _ => {
                    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
                    if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(legal) {
                        return Err(wrong(format!(
                            "attribute `{name:.MAX_NAME$}`: 1 to {MAX_NAME} of a-z 0-9"
                        )));
                    }
                    if envelope.attributes.len() == MAX_ATTRIBUTES {
                        return Err(wrong(format!("more than {MAX_ATTRIBUTES} attributes")));
                    }
                    if envelope.attributes.iter().any(|(other, _)| *other == *name) {
                        return Err(wrong(format!("attribute `{name}` comes twice")));
                    }
                    let value = canonical(raw).ok_or_else(|| {
                        wrong(format!("attribute `{name}` is no string, number or boolean"))
                    })?;
                    envelope.attributes.push((name.into_owned(), value));
                }
            }
        }
        Ok(envelope)
    }
}

/// An attribute's value as the bindings write it in a header.
fn canonical(raw: &RawValue) -> Option<String> {
    match raw.get().as_bytes().first()? {
        b'"' => serde_json::from_str(raw.get()).ok(),
        b'{' | b'[' => None,
        _ => Some(raw.get().to_owned()),
    }
}
