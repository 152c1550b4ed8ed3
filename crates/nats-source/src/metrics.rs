//! Names of what is counted; those that kafka-source has as well mean the same.
//!
//! A recorder has to be installed before the source is started.

use metrics::{Counter, Gauge, counter, gauge};

/// Messages read, by `topic`, which is the stream.
pub const RECORDS: &str = "fanout_source_records_total";
/// Bytes of payload read, by `topic`.
pub const BYTES: &str = "fanout_source_bytes_total";
/// Sequences that the server had deleted before they were read, by `topic`.
pub const EXPIRED: &str = "fanout_source_expired_total";
/// Errors: a connection that broke, a question that was not answered, an answer that could
/// not be used.
pub const ERRORS: &str = "fanout_source_errors_total";
/// Times that the server answered again after it had not.
pub const RECONNECTS: &str = "fanout_source_reconnects_total";
/// Messages between what was read and the end, by `topic` and `partition`, which is always 0.
pub const LAG: &str = "fanout_source_lag_records";
/// Messages read again for those who were away, by `topic`; those outside of what was asked
/// for are not among them.
pub const REPLAYED: &str = "fanout_source_replayed_records_total";
/// Passes over what was read before, by `result`: `complete`, `given_up`, `expired` or
/// `unavailable`.
pub const REPLAY_PASSES: &str = "fanout_source_replay_passes_total";
/// Consumers that were made anew to read on, since what one had sent was lost on its way or
/// the server knew it no more, by `topic`.
pub const RESTARTS: &str = "fanout_source_consumer_restarts_total";

/// The handles of one stream, looked up once.
pub(crate) struct StreamMetrics {
    pub(crate) records: Counter,
    pub(crate) bytes: Counter,
    pub(crate) lag: Gauge,
    pub(crate) expired: Counter,
    pub(crate) restarts: Counter,
}

impl StreamMetrics {
    pub(crate) fn new(stream: &str) -> Self {
        let topic = stream.to_owned();
        Self {
            records: counter!(RECORDS, "topic" => topic.clone()),
            bytes: counter!(BYTES, "topic" => topic.clone()),
            expired: counter!(EXPIRED, "topic" => topic.clone()),
            restarts: counter!(RESTARTS, "topic" => topic.clone()),
            lag: gauge!(LAG, "topic" => topic, "partition" => "0"),
        }
    }
}
