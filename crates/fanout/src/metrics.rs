//! What a hub counts, by names that stay.
//!
//! | metric | kind | what |
//! |---|---|---|
//! | `fanout_deliveries_total` | counter | frames taken by sinks |
//! | `fanout_delivered_bytes_total` | counter | bytes of them |
//! | `fanout_delivery_seconds` | histogram | from the time of the oldest record in a batch until a shard has written the batch to its sockets: a value for each batch and shard |
//! | `fanout_fell_behind_total` | counter | times a connection went from live to behind |
//! | `fanout_overflows_total` | counter | times that what a slow connection had pending was dropped |
//! | `fanout_conflated_total` | counter | emissions that a newer one of their key stood for |
//! | `fanout_closed_total{reason}` | counter | connections that were closed from here |
//! | `fanout_connections{shard}` | gauge | connections |
//! | `fanout_behind{shard}` | gauge | connections whose sockets have not taken all that they are to get |
//! | `fanout_rooms{shard}` | gauge | rooms with members |
//! | `fanout_revocations_total{kind}` | counter | what was revoked: `subject`, `role`, `connection` |
//! | `fanout_revocations` | gauge | revocations that are remembered |
//! | `fanout_revoked_connections_total` | counter | connections that were closed by one |
//! | `fanout_control_records_total{outcome}` | counter | records of control topics: `applied`, `refused` where they are none, `lost` for each lane that lost some or is no more |
//! | `fanout_control_readable` | gauge | 1 while all that is said in control topics is read, 0 while something may be missed |
//! | `fanout_requests_refused_total{reason}` | counter | what connections asked for in vain: `rate`, `forbidden`, `too_many_rooms` |
//! | `fanout_emissions_total` | counter | emissions appended to the log |
//! | `fanout_emissions_refused_total` | counter | emissions that were not |
//! | `fanout_redactions_refused_total{reason}` | counter | bodies of which views that hide or show parts get nothing, counted once somebody was to get them: `too_deep`, `no_object` |
//! | `fanout_poison_records_total{topic,reason}` | counter | records that could not be used: `empty`, `not_json`, `confluent_framing`, `not_cloud_event`, `undecodable`, `unroutable`, `panic` |
//! | `fanout_dead_letters_total{result}` | counter | letters about them: `written` or `failed` |
//! | `fanout_halted_lanes` | gauge | lanes that are read no more because of one |
//! | `fanout_log_bytes`, `fanout_log_entries` | gauge | what the log holds |
//! | `fanout_log_age_seconds` | gauge | age of the oldest that it holds |
//! | `fanout_lanes` | gauge | partitions that are read, and those that are no more while the log has something of them |
//! | `fanout_lanes_closed_total` | counter | partitions that are no more |
//! | `fanout_resumes_total{outcome}` | counter | cursors that clients came with: `begun`, `recovered` once all was sent, `reset` where it could not be read |
//! | `fanout_resumes_waiting{shard}` | gauge | clients that came back and wait for their turn to go on |
//! | `fanout_gaps_total{reason}` | counter | times that a client was told that something is missing |
//! | `fanout_replay_passes_total` | counter | passes over the source for those who were away for long |
//! | `fanout_replayed_records_total` | counter | records read in them |
//! | `fanout_replay_failures_total` | counter | passes that the source broke off |
//! | `fanout_replay_waiting` | gauge | clients that wait for a pass |
//!
//! `fanout_delivery_seconds` is of what is live. It leaves out what a shard has nobody for,
//! what is read again or caught up on, and records without a time. Batches that are written
//! together count each, once all of them are written. The clocks are the producer's and this
//! node's: where the record's time is in the future it counts as no delay at all.
//!
//! They go to whatever recorder the program has installed for the `metrics` crate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use crate::log::Batch;
use crate::sink::{Close, GapReason};

/// Those that only grow, as `Counters::growing` gives them.
const COUNTERS: [&str; 5] = [
    "fanout_deliveries_total",
    "fanout_delivered_bytes_total",
    "fanout_fell_behind_total",
    "fanout_overflows_total",
    "fanout_conflated_total",
];

/// What a shard counts, without sharing it while it works.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    deliveries: u64,
    bytes: u64,
    pub(crate) fell_behind: u64,
    pub(crate) overflows: u64,
    pub(crate) conflated: u64,
    /// Connections that are behind now.
    pub(crate) behind: u64,
    pub(crate) rooms: u64,
    /// Those that came back and wait for their turn.
    pub(crate) resuming: u64,
    pub(crate) sockets: u64,
    recorded: [u64; COUNTERS.len()],
}

/// What others may read of it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Connections that the shard has, or that are on their way to it.
    pub(crate) admitted: AtomicUsize,
    /// Connections that are in their rooms.
    pub(crate) connections: AtomicUsize,
    /// Those whose sockets the shard polls.
    pub(crate) sockets: AtomicU64,
    pub(crate) deliveries: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) fell_behind: AtomicU64,
    pub(crate) behind: AtomicU64,
    pub(crate) overflows: AtomicU64,
    pub(crate) conflated: AtomicU64,
}

/// Counts a cursor that a client came with.
pub(crate) fn resume(outcome: &'static str) {
    metrics::counter!("fanout_resumes_total", "outcome" => outcome).increment(1);
}

/// Counts a gap that is told.
pub(crate) fn gap(reason: GapReason) {
    metrics::counter!("fanout_gaps_total", "reason" => reason.name()).increment(1);
}

/// Counts what a connection has asked for in vain.
pub(crate) fn refused(reason: &'static str) {
    metrics::counter!("fanout_requests_refused_total", "reason" => reason).increment(1);
}

/// Counts a connection that is being closed from here.
pub(crate) fn closed(close: &Close) {
    metrics::counter!("fanout_closed_total", "reason" => close.name()).increment(1);
}

/// Records how old batches are that were written to sockets just now.
pub(crate) fn delivery(batches: &[Arc<Batch>]) {
    let mut written = batches.iter().filter_map(|batch| batch.oldest).peekable();
    if written.peek().is_none() {
        return;
    }
    // One look at the clock for all of them. The handle is looked up anew: the program may
    // install its recorder later.
    let (now, histogram) = (SystemTime::now(), metrics::histogram!("fanout_delivery_seconds"));
    for time in written {
        histogram.record(now.duration_since(time).unwrap_or_default());
    }
}

impl Counters {
    pub(crate) fn delivered(&mut self, frames: u32, bytes: usize) {
        self.deliveries += u64::from(frames);
        self.bytes += bytes as u64;
    }

    pub(crate) fn publish(&self, connections: usize, counts: &Counts) {
        counts.connections.store(connections, Ordering::Relaxed);
        counts.sockets.store(self.sockets, Ordering::Relaxed);
        counts.deliveries.store(self.deliveries, Ordering::Relaxed);
        counts.bytes.store(self.bytes, Ordering::Relaxed);
        counts.fell_behind.store(self.fell_behind, Ordering::Relaxed);
        counts.behind.store(self.behind, Ordering::Relaxed);
        counts.overflows.store(self.overflows, Ordering::Relaxed);
        counts.conflated.store(self.conflated, Ordering::Relaxed);
    }

    fn growing(&self) -> [u64; COUNTERS.len()] {
        [self.deliveries, self.bytes, self.fell_behind, self.overflows, self.conflated]
    }

    /// Hands what has come since the last time to the program's recorder.
    pub(crate) fn record(&mut self, shard: usize, connections: usize) {
        let growing = self.growing();
        for ((name, now), before) in COUNTERS.into_iter().zip(growing).zip(self.recorded) {
            metrics::counter!(name).increment(now - before);
        }
        self.recorded = growing;
        let shard = shard.to_string();
        metrics::gauge!("fanout_connections", "shard" => shard.clone()).set(connections as f64);
        metrics::gauge!("fanout_behind", "shard" => shard.clone()).set(self.behind as f64);
        metrics::gauge!("fanout_resumes_waiting", "shard" => shard.clone())
            .set(self.resuming as f64);
        metrics::gauge!("fanout_rooms", "shard" => shard).set(self.rooms as f64);
    }
}
