//! How far each range of a pass has been read.
//!
//! Knows nothing of librdkafka: it is told what was read, and says what may be handed on.
//!
//! The end of a partition is told by its number alone, without its topic, and is the only
//! word there is where a range ends with what is no record (marks of transactions, a
//! compacted tail). So of all partitions of one number, at most one is read at a time:
//! several topics are read one after the other, their partitions side by side.
//!
//! Invariants: an offset is taken once, in order, and only within its range; the frontier
//! of a range that was read is exactly its end.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fanout::{Lane, ReplayRange};

/// One range that is not read to its end.
#[derive(Debug)]
struct Reading {
    lane: Arc<Lane>,
    next: u64,
    to: u64,
    /// Whether anything of it was to be read at all.
    started: bool,
    /// Whether `next` has grown since it was last told.
    moved: bool,
}

/// What was reached since it was last asked for.
pub(crate) struct Reached {
    /// How far the lanes were read that moved.
    pub(crate) frontier: Vec<(Arc<Lane>, u64)>,
    /// Those that [`Ranges::start`] told of and that are to be read no more.
    pub(crate) finished: Vec<Arc<Lane>>,
}

/// The ranges of a pass.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    waiting: VecDeque<ReplayRange>,
    /// Those that are read, by the numbers of their partitions.
    reading: HashMap<u32, Reading>,
    /// Those read to their ends that nobody was told of yet.
    finished: Vec<Reading>,
}

impl Ranges {
    pub(crate) fn new(ranges: Vec<ReplayRange>) -> Self {
        Self { waiting: ranges.into(), ..Self::default() }
    }

    /// What is to be read from now on, and from where.
    pub(crate) fn start(&mut self) -> Vec<(Arc<Lane>, u64)> {
        let mut started = Vec::new();
        for _ in 0..self.waiting.len() {
            let Some(range) = self.waiting.pop_front() else { break };
            if self.reading.contains_key(&range.lane.partition) {
                self.waiting.push_back(range);
                continue;
            }
            let ReplayRange { lane, from, to } = range;
            let (partition, next) = (lane.partition, from.min(to));
            let reading =
                Reading { lane: lane.clone(), next, to, started: next < to, moved: false };
            self.reading.insert(partition, reading);
            if next < to {
                started.push((lane, next));
            } else {
                self.reach(partition, to);
            }
        }
        started
    }

    /// Takes the record at `offset`; `None` where it is in no range, or was taken before.
    pub(crate) fn take(&mut self, topic: &str, partition: u32, offset: u64) -> Option<Arc<Lane>> {
        let reading = self.reading.get_mut(&partition)?;
        if *reading.lane.topic != *topic || offset < reading.next {
            return None;
        }
        let taken = (offset < reading.to).then(|| reading.lane.clone());
        self.reach(partition, offset.saturating_add(1));
        taken
    }

    /// The partition of this number was read to its end, and so beyond its range's.
    pub(crate) fn end(&mut self, partition: u32) {
        self.reach(partition, u64::MAX);
    }

    fn reach(&mut self, partition: u32, next: u64) {
        let Some(reading) = self.reading.get_mut(&partition) else { return };
        reading.next = next.min(reading.to);
        reading.moved = true;
        if reading.next >= reading.to {
            self.finished.extend(self.reading.remove(&partition));
        }
    }

    /// What was reached since this was last asked.
    pub(crate) fn take_reached(&mut self) -> Reached {
        let moved = |reading: &mut Reading| {
            std::mem::take(&mut reading.moved).then(|| (reading.lane.clone(), reading.next))
        };
        let mut frontier: Vec<_> = self.reading.values_mut().filter_map(moved).collect();
        let finished = std::mem::take(&mut self.finished);
        frontier.extend(finished.iter().map(|reading| (reading.lane.clone(), reading.to)));
        let stopped = finished.into_iter().filter(|reading| reading.started);
        Reached { frontier, finished: stopped.map(|reading| reading.lane).collect() }
    }

    /// What is being read, the next offset, and the range's end.
    pub(crate) fn reading(&self) -> impl Iterator<Item = (&Arc<Lane>, u64, u64)> {
        self.reading.values().map(|reading| (&reading.lane, reading.next, reading.to))
    }

    /// Whether every range was read to its end, and that was told.
    pub(crate) fn done(&self) -> bool {
        self.waiting.is_empty() && self.reading.is_empty() && self.finished.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(topic: &str, partition: u32, from: u64, to: u64) -> ReplayRange {
        ReplayRange { lane: Arc::new(Lane::new("log", topic, partition)), from, to }
    }

    fn started(ranges: &mut Ranges) -> Vec<(String, u64)> {
        ranges.start().into_iter().map(|(lane, next)| (lane.to_string(), next)).collect()
    }

    fn moved(ranges: &mut Ranges) -> (Vec<(String, u64)>, usize) {
        let Reached { frontier, finished } = ranges.take_reached();
        let mut frontier: Vec<_> =
            frontier.into_iter().map(|(lane, next)| (lane.to_string(), next)).collect();
        frontier.sort();
        (frontier, finished.len())
    }

    #[test]
    fn only_what_is_in_its_range_is_taken_once_and_in_order() {
        let mut ranges = Ranges::new(vec![range("t", 0, 5, 9)]);
        assert_eq!(started(&mut ranges), [("t/0".into(), 5)]);
        let taken = [4, 5, 5, 7, 6].map(|offset| ranges.take("t", 0, offset).is_some());
        assert_eq!(taken, [false, true, false, true, false]);
        assert!(ranges.take("u", 0, 8).is_none() && ranges.take("t", 1, 8).is_none());
        assert_eq!(moved(&mut ranges), (vec![("t/0".into(), 8)], 0));
        assert!(!ranges.done());
        // A hole at the end, and what comes behind it.
        assert!(ranges.take("t", 0, 11).is_none());
        assert!(!ranges.done(), "nobody was told");
        assert_eq!(moved(&mut ranges), (vec![("t/0".into(), 9)], 1));
        assert!(ranges.done() && ranges.take("t", 0, 12).is_none());
    }

    #[test]
    fn the_last_record_and_the_end_of_a_partition_finish_their_ranges() {
        let mut ranges = Ranges::new(vec![range("t", 0, 0, 2), range("t", 1, 0, 7)]);
        ranges.start();
        assert!(ranges.take("t", 0, 1).is_some());
        ranges.end(1);
        ranges.end(1);
        let told = vec![("t/0".into(), 2), ("t/1".into(), 7)];
        assert_eq!(moved(&mut ranges), (told, 2));
        assert!(ranges.done());
    }

    #[test]
    fn two_partitions_of_one_number_are_read_one_after_the_other() {
        let all = [range("t", 0, 0, 2), range("u", 0, 3, 4), range("u", 1, 0, 1)];
        let mut ranges = Ranges::new(all.to_vec());
        assert_eq!(started(&mut ranges), [("t/0".into(), 0), ("u/1".into(), 0)]);
        assert!(ranges.take("u", 0, 3).is_none(), "not yet");
        ranges.end(0);
        assert_eq!(moved(&mut ranges), (vec![("t/0".into(), 2)], 1));
        assert!(!ranges.done());
        assert_eq!(started(&mut ranges), [("u/0".into(), 3)]);
        assert!(ranges.take("u", 0, 3).is_some());
        ranges.end(1);
        assert_eq!(moved(&mut ranges).1, 2);
        assert!(ranges.done());
    }

    #[test]
    fn an_empty_range_is_at_its_end_at_once() {
        let mut ranges = Ranges::new(vec![range("t", 0, 4, 4), range("u", 0, 0, 1)]);
        assert_eq!(started(&mut ranges), [("u/0".into(), 0)]);
        assert_eq!(moved(&mut ranges), (vec![("t/0".into(), 4)], 0));
        assert!(Ranges::new(Vec::new()).done());
    }
}
