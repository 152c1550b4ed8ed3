//! Names of what is counted.
//!
//! A recorder has to be installed before the source is started.

use fanout::Lane;
use metrics::{Counter, Gauge, counter, gauge};

/// Records read, by `topic`; those skipped are among them.
pub const RECORDS: &str = "fanout_source_records_total";
/// Bytes of payload read, by `topic`.
pub const BYTES: &str = "fanout_source_bytes_total";
/// Records that could not be used, by `topic` and `reason`.
pub const SKIPPED: &str = "fanout_source_skipped_total";
/// Records that the broker had deleted before they were read, by `topic`.
pub const EXPIRED: &str = "fanout_source_expired_total";
/// Errors that librdkafka told of, such as a connection that broke.
pub const ERRORS: &str = "fanout_source_errors_total";
/// Times that the brokers answered again after none had.
pub const RECONNECTS: &str = "fanout_source_reconnects_total";
/// Records between what was read and the end, by `topic` and `partition`.
pub const LAG: &str = "fanout_source_lag_records";
/// Records read again for those who were away, by `topic`; those outside of what was asked
/// for, and those that cannot be used, are not among them.
pub const REPLAYED: &str = "fanout_source_replayed_records_total";
/// Passes over what was read before, by `result`: `complete`, `given_up`, `expired` or
/// `unavailable`.
pub const REPLAY_PASSES: &str = "fanout_source_replay_passes_total";

/// The handles of one lane, looked up once.
pub(crate) struct LaneMetrics {
    pub(crate) records: Counter,
    pub(crate) bytes: Counter,
    pub(crate) lag: Gauge,
}

impl LaneMetrics {
    pub(crate) fn new(lane: &Lane) -> Self {
        let topic = lane.topic.to_string();
        Self {
            records: counter!(RECORDS, "topic" => topic.clone()),
            bytes: counter!(BYTES, "topic" => topic.clone()),
            lag: gauge!(LAG, "topic" => topic, "partition" => lane.partition.to_string()),
        }
    }
}

impl std::fmt::Debug for LaneMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LaneMetrics")
    }
}
