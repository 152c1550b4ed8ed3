//! From a record's bytes to what a router works on.
//!
//! A decoder says what a payload has to be, once, before any router sees it. It checks and
//! rebuilds nothing: what passes through to clients is what the producer wrote. What a
//! router needs of key and headers alone needs no decoder.

mod cloud_events;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::event::Event;
use crate::json::JsonError;

pub use cloud_events::{CloudEvents, NotCloudEvent};

/// Decodes a source's records; see [`Pipeline::decoder`](crate::Pipeline::decoder).
///
/// A pure function, as a router: what is read again is decoded again. A panic in it is
/// caught and makes the record [poison](crate::Poison).
///
/// ```
/// use std::borrow::Cow;
/// use fanout::{DecodeError, Decoder, Event, Json};
///
/// /// Lines of `name=value`, as JSON for the clients.
/// struct Pairs;
///
/// impl Decoder for Pairs {
///     fn decode<'a>(&self, record: &'a Event) -> Result<Cow<'a, Event>, DecodeError> {
///         let text = std::str::from_utf8(&record.payload).map_err(DecodeError::other)?;
///         let pairs: Option<Vec<_>> = text.lines().map(|line| line.split_once('=')).collect();
///         let pairs = pairs.ok_or_else(|| DecodeError::other("a line without `=`"))?;
///         let json = Json::of(&pairs).map_err(DecodeError::other)?;
///         Ok(Cow::Owned(record.clone().with_json(&json)))
///     }
/// }
/// ```
pub trait Decoder: Send + Sync + 'static {
    /// The record as an event: itself where nothing has to change.
    ///
    /// # Errors
    /// [`DecodeError`]: what is wrong with it. Trying again cannot help.
    fn decode<'a>(&self, record: &'a Event) -> Result<Cow<'a, Event>, DecodeError>;
}

/// Why a record could not be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There is nothing to decode.
    #[error("payload is empty")]
    Empty,
    /// It is no JSON.
    #[error("payload is not one JSON value in UTF-8")]
    NotJson(#[source] JsonError),
    /// It has the framing of Confluent's serializers: a zero, the number of a schema, and
    /// then Avro, Protobuf or JSON.
    #[error(
        "payload has Confluent's framing, of schema {schema}: give a decoder that knows the \
         schema, or let the producer write plain JSON"
    )]
    ConfluentFraming {
        /// The schema's number in the registry.
        schema: u32,
    },
    /// It is no `CloudEvent`.
    #[error("not a CloudEvent: {0}")]
    NotCloudEvent(#[from] NotCloudEvent),
    /// What a decoder of one's own says.
    #[error("payload cannot be decoded: {0}")]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl DecodeError {
    /// Says it in words or by an error of one's own.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    /// The reason's name in metrics and dead letters.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotJson(_) => "not_json",
            Self::ConfluentFraming { .. } => "confluent_framing",
            Self::NotCloudEvent(_) => "not_cloud_event",
            Self::Other(_) => "undecodable",
        }
    }
}

/// Takes every record as it is. The default.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs)] // It is its own constructor.
pub struct Raw;

impl Decoder for Raw {
    fn decode<'a>(&self, record: &'a Event) -> Result<Cow<'a, Event>, DecodeError> {
        Ok(Cow::Borrowed(record))
    }
}

/// Takes records whose payload is one JSON value, which is then free to pass on: a router
/// that calls [`Event::json`] gets what was checked here.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs)] // It is its own constructor.
pub struct JsonPayload;

impl Decoder for JsonPayload {
    fn decode<'a>(&self, record: &'a Event) -> Result<Cow<'a, Event>, DecodeError> {
        check_json(record)?;
        Ok(Cow::Borrowed(record))
    }
}

/// Checks that the payload is JSON, and says what it is where that is known.
fn check_json(record: &Event) -> Result<(), DecodeError> {
    match (record.json(), &record.payload[..]) {
        (Ok(_), _) => Ok(()),
        (Err(_), []) => Err(DecodeError::Empty),
        // No JSON begins with a zero byte.
        (Err(_), [0, a, b, c, d, _, ..]) => {
            Err(DecodeError::ConfluentFraming { schema: u32::from_be_bytes([*a, *b, *c, *d]) })
        }
        (Err(error), _) => Err(DecodeError::NotJson(error)),
    }
}
