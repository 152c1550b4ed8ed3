//! What a letter says of its record.

use std::time::SystemTime;

use fanout::DeadLetter;
use rdkafka::message::{Header, OwnedHeaders};

/// Names of the headers of a dead letter. All values are text in UTF-8, numbers in decimal.
///
/// Where Kafka Connect has a header for it, its name is taken: what reads the letters of
/// Connect finds the same here.
///
/// | header | value |
/// |---|---|
/// | `__connect.errors.topic` | the record's topic |
/// | `__connect.errors.partition` | its partition |
/// | `__connect.errors.offset` | its offset |
/// | `__connect.errors.exception.class.name` | the kind of trouble, as in metrics: `not_json`, `unroutable`, `panic`, ... |
/// | `__connect.errors.exception.message` | what was wrong, for people; cut after [`MAX_MESSAGE_BYTES`](Self::MAX_MESSAGE_BYTES) |
/// | `fanout.errors.log` | which log the topic was: the cluster's id, and the topic's |
/// | `fanout.errors.record.time` | when the record was written, in milliseconds since 1970 |
/// | `fanout.errors.time` | when it was found to be useless, in milliseconds since 1970 |
#[derive(Debug)]
#[allow(clippy::exhaustive_structs)] // Nobody makes one.
pub struct DeadLetterHeaders;

impl DeadLetterHeaders {
    /// The record's topic.
    pub const TOPIC: &'static str = "__connect.errors.topic";
    /// Its partition.
    pub const PARTITION: &'static str = "__connect.errors.partition";
    /// Its offset.
    pub const OFFSET: &'static str = "__connect.errors.offset";
    /// The kind of trouble.
    pub const REASON: &'static str = "__connect.errors.exception.class.name";
    /// What was wrong, for people.
    pub const MESSAGE: &'static str = "__connect.errors.exception.message";
    /// Which log the topic was.
    pub const LOG: &'static str = "fanout.errors.log";
    /// When the record was written.
    pub const RECORD_TIME: &'static str = "fanout.errors.record.time";
    /// When it was found to be useless.
    pub const TIME: &'static str = "fanout.errors.time";
    /// Most bytes of what was wrong.
    pub const MAX_MESSAGE_BYTES: usize = 4096;
}

/// The record's own headers, then those of the letter.
pub(super) fn of(letter: &DeadLetter) -> OwnedHeaders {
    use DeadLetterHeaders as H;
    let event = &letter.event;
    let lane = &event.lane;
    let headers = OwnedHeaders::new_with_capacity(event.headers.len() + 8);
    let headers = event.headers.iter().fold(headers, |headers, (name, value)| {
        headers.insert(Header { key: name, value: Some(&value[..]) })
    });
    [
        (H::TOPIC, lane.topic.to_string()),
        (H::PARTITION, lane.partition.to_string()),
        (H::OFFSET, event.offset.to_string()),
        (H::REASON, letter.reason.to_owned()),
        (H::MESSAGE, cut(&letter.error, H::MAX_MESSAGE_BYTES).to_owned()),
        (H::LOG, lane.log.to_string()),
        (H::RECORD_TIME, millis(event.time)),
        (H::TIME, millis(letter.time)),
    ]
    .iter()
    .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// As much of a text as fits, in whole characters.
pub(super) fn cut(text: &str, max: usize) -> &str {
    let fits = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..fits.unwrap_or(0)]
}

fn millis(time: SystemTime) -> String {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis().to_string()
}
