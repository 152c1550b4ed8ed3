//! How far the partitions that a member has were read.

use std::collections::HashMap;
use std::sync::Arc;

use fanout::Lane;

use super::desk::Place;
use crate::metrics::LaneMetrics;

/// One partition.
pub(super) struct Reading {
    pub(super) lane: Arc<Lane>,
    /// The next offset to be read.
    pub(super) next: u64,
    /// What was passed without an event is to be told.
    passed: bool,
    halted: bool,
    pub(super) metrics: LaneMetrics,
}

/// All that a member has.
#[derive(Default)]
pub(super) struct Readings(HashMap<Arc<str>, HashMap<u32, Reading>>);

impl Readings {
    pub(super) fn open(&mut self, lane: Arc<Lane>, next: u64) {
        let metrics = LaneMetrics::new(&lane);
        let (topic, partition) = (lane.topic.clone(), lane.partition);
        let reading = Reading { lane, next, passed: false, halted: false, metrics };
        self.0.entry(topic).or_default().insert(partition, reading);
    }

    pub(super) fn get(&mut self, topic: &str, partition: u32) -> Option<&mut Reading> {
        self.0.get_mut(topic)?.get_mut(&partition)
    }

    pub(super) fn close(&mut self, lane: &Lane) {
        if let Some(partitions) = self.0.get_mut(&lane.topic) {
            partitions.remove(&lane.partition);
            if partitions.is_empty() {
                self.0.remove(&lane.topic);
            }
        }
    }

    pub(super) fn iter(&mut self) -> impl Iterator<Item = &mut Reading> {
        self.0.values_mut().flat_map(HashMap::values_mut)
    }

    /// Takes the record at `offset`; `None` where it was taken before, or is of a partition
    /// that is not ours.
    pub(super) fn take(
        &mut self,
        topic: &str,
        partition: u32,
        offset: u64,
    ) -> Option<&mut Reading> {
        let reading = self.get(topic, partition).filter(|reading| offset >= reading.next)?;
        reading.next = offset + 1;
        reading.passed = false;
        Some(reading)
    }

    /// Nothing before `next` comes any more.
    pub(super) fn pass(&mut self, topic: &str, partition: u32, next: u64) {
        if let Some(reading) = self.get(topic, partition).filter(|reading| next > reading.next) {
            (reading.next, reading.passed) = (next, true);
        }
    }

    /// How far was read beyond events, where that is so.
    pub(super) fn take_frontier(&mut self) -> Vec<Place> {
        let passed = self.iter().filter(|reading| reading.passed);
        let told = passed.map(|reading| {
            reading.passed = false;
            (reading.lane.clone(), reading.next)
        });
        told.collect()
    }
}

impl Reading {
    /// The record that was taken last becomes no event.
    pub(super) fn skip(&mut self) {
        self.passed = true;
    }

    /// Nothing more of it is to be fetched.
    pub(super) fn halt(&mut self) {
        self.halted = true;
        self.metrics.halted();
    }

    pub(super) fn is_halted(&self) -> bool {
        self.halted
    }
}

impl std::fmt::Debug for Readings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Readings")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_offset_is_taken_once_and_what_is_passed_is_told() {
        let mut readings = Readings::default();
        let lane = Arc::new(Lane::new("log", "t", 0));
        readings.open(lane.clone(), 5);
        let taken = [4, 5, 5, 8].map(|offset| readings.take("t", 0, offset).is_some());
        assert_eq!(taken, [false, true, false, true]);
        assert!(readings.take("t", 1, 9).is_none() && readings.take("u", 0, 9).is_none());
        assert_eq!(readings.take_frontier(), []);
        readings.take("t", 0, 9).unwrap().skip();
        assert_eq!(readings.take_frontier(), [(lane.clone(), 10)]);
        readings.pass("t", 0, 12);
        readings.pass("t", 0, 11);
        assert_eq!(readings.take_frontier(), [(lane.clone(), 12)]);
        readings.close(&lane);
        assert!(readings.take("t", 0, 12).is_none());
    }
}
