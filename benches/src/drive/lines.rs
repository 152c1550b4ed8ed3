//! What the parent and its workers say to each other: one JSON value a line.
//!
//! The first line to a worker is its share; when its stdin closes it ends.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::target::Target;
use crate::load::Dialect;

/// The longest time that is told apart, ten minutes, to three digits.
const MAX_NS: u64 = 600_000_000_000;
/// Different reasons that are told; what comes after them is counted under one name.
const REASONS: usize = 16;

/// What a worker is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Share {
    /// Which run; tells its messages from another's.
    pub(super) run: u64,
    pub(super) dialect: Dialect,
    pub(super) targets: Vec<Target>,
    pub(super) token: Option<String>,
    /// Its clients: from this one of all, so many.
    pub(super) first: usize,
    pub(super) clients: usize,
    /// How many to begin connecting each second.
    pub(super) connect_rate: f64,
    /// Zero: all are in the room of all.
    pub(super) rooms: u32,
    /// Publishers at each server.
    pub(super) publishers: u32,
    /// Bytes of a payload.
    pub(super) payload: usize,
}

/// A line to a worker, after its share.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Told {
    /// Count from now on.
    Go,
    /// How many messages each publisher has published.
    Published(Vec<u64>),
    /// Say what came, and end.
    Finish,
}

/// A line from a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said {
    Progress(Progress),
    Done(Box<Account>),
}

/// How far a worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Clients that have been let in, ever.
    pub(super) connected: usize,
    /// Clients that have not.
    pub(super) failed: usize,
    /// Clients that are in no more.
    pub(super) gone: usize,
    pub(super) received: u64,
    /// Deliveries that are still to come; known once all is published.
    pub(super) outstanding: Option<u64>,
}

/// What came of a worker's clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) connected: usize,
    /// Why the others are not.
    pub(super) failed: Reasons,
    /// How connections ended that should not have.
    pub(super) closed: Reasons,
    /// From beginning to connect until being let in, in nanoseconds.
    pub(super) connect: Times,
    /// When the first began, and when the last was in.
    pub(super) connecting: Option<(u64, u64)>,
    /// Since the start of publishing.
    pub(super) tally: Tally,
    /// From when a message should have been sent until it was read, in nanoseconds.
    pub(super) latency: Times,
    /// When the last message came.
    pub(super) last: Option<u64>,
    /// What of one core the worker has used since the start of publishing.
    pub(super) cpu_share: f64,
}

/// Messages, by how they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Messages of this run.
    pub(super) received: u64,
    /// Texts that are none: the server's own talk, and what others publish.
    pub(super) other: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) reordered: u64,
    /// Messages without their end.
    pub(super) cut: u64,
    /// Messages for a room that the client is not in.
    pub(super) misrouted: u64,
}

impl Tally {
    pub(super) fn add(&mut self, more: &Self) {
        self.received += more.received;
        self.other += more.other;
        self.lost += more.lost;
        self.doubled += more.doubled;
        self.reordered += more.reordered;
        self.cut += more.cut;
        self.misrouted += more.misrouted;
    }
}

/// How often something happened, by its reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Reasons(pub(super) BTreeMap<String, u64>);

impl Reasons {
    pub(super) fn add(&mut self, reason: &str, times: u64) {
        let known = self.0.len() < REASONS || self.0.contains_key(reason);
        let reason = if known { reason } else { "other reasons" };
        *self.0.entry(reason.to_owned()).or_default() += times;
    }

    pub(super) fn add_all(&mut self, more: &Self) {
        for (reason, times) in &more.0 {
            self.add(reason, *times);
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl fmt::Display for Reasons {
    /// `12 x code 4001, 1 x no close frame`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (reason, times)) in self.0.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(f, "{comma}{times} x {reason}")?;
        }
        Ok(())
    }
}

/// A histogram as a list of values and how often each came.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Times(Vec<(u64, u64)>);

impl Times {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let recorded = histogram.iter_recorded();
        Self(recorded.map(|value| (value.value_iterated_to(), value.count_at_value())).collect())
    }

    pub(super) fn add_to(&self, histogram: &mut Histogram<u64>) {
        for (value, count) in &self.0 {
            histogram.saturating_record_n(*value, *count);
        }
    }
}

/// Whole nanoseconds, or whatever else is counted; never below zero.
#[allow(clippy::cast_sign_loss)] // Which is what is wanted: below zero is zero.
pub(super) fn nanos(value: f64) -> u64 {
    value as u64
}

/// An empty histogram of nanoseconds.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_NS, 3).expect("good bounds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_its_way() {
        let (mut there, mut here) = (histogram(), histogram());
        (1..50_000).for_each(|n| there.saturating_record(n * 1_237));
        let line = serde_json::to_string(&Times::of(&there)).unwrap();
        let times: Times = serde_json::from_str(&line).unwrap();
        times.add_to(&mut here);
        assert_eq!(here, there);
    }

    #[test]
    fn reasons_are_bounded() {
        let mut reasons = Reasons::default();
        (0..100).for_each(|n| reasons.add(&n.to_string(), 2));
        assert_eq!((reasons.0.len(), reasons.total()), (REASONS + 1, 200));
    }
}
