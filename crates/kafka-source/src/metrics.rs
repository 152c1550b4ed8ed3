//! Names of what is counted.
//!
//! A recorder has to be installed before the source is started.

use fanout::Lane;
use metrics::{Counter, Gauge, counter, gauge};

/// Records read, by `topic`; those without a value are among them.
pub const RECORDS: &str = "fanout_source_records_total";
/// Bytes of payload read, by `topic`.
pub const BYTES: &str = "fanout_source_bytes_total";
/// Records without a value that were passed over, by `topic`; see
/// [`KafkaConfig::tombstones`](crate::KafkaConfig::tombstones).
pub const TOMBSTONES: &str = "fanout_source_tombstones_total";
/// Records that the broker had deleted before they were read, by `topic`.
pub const EXPIRED: &str = "fanout_source_expired_total";
/// Errors that librdkafka told of, such as a connection that broke.
pub const ERRORS: &str = "fanout_source_errors_total";
/// Times that the brokers answered again after none had.
pub const RECONNECTS: &str = "fanout_source_reconnects_total";
/// Records between what was read and the end, by `topic` and `partition`; looked up each
/// second. What a transaction has not committed counts, as do its marks.
pub const LAG: &str = "fanout_source_lag_records";
/// Partitions that are being read now, by `topic`.
pub const PARTITIONS: &str = "fanout_source_partitions";
/// Partitions that were halted for a record that could not be used, by `topic`.
pub const HALTED: &str = "fanout_source_halted_partitions";
/// Records read again for those who were away, by `topic`; those outside of what was asked
/// for, and those without a value that are passed over, are not among them.
pub const REPLAYED: &str = "fanout_source_replayed_records_total";
/// Passes over what was read before, by `result`: `complete`, `given_up`, `expired` or
/// `unavailable`.
pub const REPLAY_PASSES: &str = "fanout_source_replay_passes_total";

/// The handles of one lane, looked up once. While it lives, its partition counts as read.
pub(crate) struct LaneMetrics {
    records: Counted,
    bytes: Counted,
    tombstones: Counted,
    lag: Gauge,
    partitions: Gauge,
    halted_partitions: Gauge,
    halted: bool,
}

/// What was counted since it was last told: a record costs an addition.
struct Counted {
    counter: Counter,
    untold: u64,
}

impl Counted {
    fn new(counter: Counter) -> Self {
        Self { counter, untold: 0 }
    }

    fn tell(&mut self) {
        if self.untold > 0 {
            self.counter.increment(std::mem::take(&mut self.untold));
        }
    }
}

impl LaneMetrics {
    pub(crate) fn new(lane: &Lane) -> Self {
        let topic = lane.topic.to_string();
        let partitions = gauge!(PARTITIONS, "topic" => topic.clone());
        partitions.increment(1.0);
        Self {
            records: Counted::new(counter!(RECORDS, "topic" => topic.clone())),
            bytes: Counted::new(counter!(BYTES, "topic" => topic.clone())),
            tombstones: Counted::new(counter!(TOMBSTONES, "topic" => topic.clone())),
            partitions,
            halted_partitions: gauge!(HALTED, "topic" => topic.clone()),
            lag: gauge!(LAG, "topic" => topic, "partition" => lane.partition.to_string()),
            halted: false,
        }
    }

    /// A record was read.
    pub(crate) fn record(&mut self, bytes: usize) {
        self.records.untold += 1;
        self.bytes.untold += bytes as u64;
    }

    /// The record had no value, and was passed over.
    pub(crate) fn tombstone(&mut self) {
        self.tombstones.untold += 1;
    }

    /// Tells what was counted.
    pub(crate) fn tell(&mut self) {
        self.records.tell();
        self.bytes.tell();
        self.tombstones.tell();
    }

    pub(crate) fn lag(&self, records: u64) {
        self.lag.set(records as f64);
    }

    /// The lane was halted.
    pub(crate) fn halted(&mut self) {
        if !std::mem::replace(&mut self.halted, true) {
            self.partitions.decrement(1.0);
            self.halted_partitions.increment(1.0);
        }
    }
}

impl Drop for LaneMetrics {
    fn drop(&mut self) {
        self.tell();
        // Of what nobody reads nothing is behind.
        self.lag(0);
        let counted = if self.halted { &self.halted_partitions } else { &self.partitions };
        counted.decrement(1.0);
    }
}

impl std::fmt::Debug for LaneMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LaneMetrics")
    }
}
