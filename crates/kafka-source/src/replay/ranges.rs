//! How far each range of a pass has been read.
//!
//! Knows nothing of librdkafka: it is told what was read, and says what may be handed on.
//! All ranges are read side by side.
//!
//! Invariants: an offset is taken once, in order, and only within its range; the frontier
//! of a range that was read is exactly its end.

use std::collections::HashMap;
use std::sync::Arc;

use fanout::{Lane, ReplayRange};

/// One range.
#[derive(Debug)]
struct Reading {
    lane: Arc<Lane>,
    next: u64,
    to: u64,
    /// Whether it holds anything that is to be read.
    any: bool,
    /// Whether `next` has grown since it was last told.
    moved: bool,
}

impl Reading {
    fn is_done(&self) -> bool {
        self.next >= self.to
    }
}

/// What was reached since it was last asked for.
pub(crate) struct Reached {
    /// How far the lanes were read that moved.
    pub(crate) frontier: Vec<(Arc<Lane>, u64)>,
    /// Those of them of which something was to be read, and nothing is any more.
    pub(crate) finished: Vec<Arc<Lane>>,
}

/// The ranges of a pass, one a lane.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    all: Vec<Reading>,
    /// Places in `all`, by topic and partition.
    index: HashMap<Arc<str>, HashMap<u32, usize>>,
    /// The place that was last asked for: what is fetched at once is of one partition.
    last: usize,
    /// Places in `all` of those that moved.
    moved: Vec<usize>,
    /// Ranges that were not read to their ends.
    left: usize,
}

impl Ranges {
    pub(crate) fn new(ranges: Vec<ReplayRange>) -> Self {
        let mut made = Self::default();
        for (place, ReplayRange { lane, from, to }) in ranges.into_iter().enumerate() {
            let partitions = made.index.entry(lane.topic.clone()).or_default();
            partitions.insert(lane.partition, place);
            // One that holds nothing is at its end at once.
            let any = from < to;
            let reading = Reading { lane, next: from.min(to), to, any, moved: !any };
            if any {
                made.left += 1;
            } else {
                made.moved.push(place);
            }
            made.all.push(reading);
        }
        made
    }

    /// Takes the record at `offset`; `None` where it is in no range, or was taken before.
    pub(crate) fn take(&mut self, topic: &str, partition: u32, offset: u64) -> Option<Arc<Lane>> {
        let place = self.place(topic, partition)?;
        let reading = &self.all[place];
        if offset < reading.next {
            return None;
        }
        let taken = (offset < reading.to).then(|| reading.lane.clone());
        self.reach(place, offset.saturating_add(1));
        taken
    }

    /// Notes that everything before `next` has been passed.
    pub(crate) fn pass(&mut self, topic: &str, partition: u32, next: u64) {
        if let Some(place) = self.place(topic, partition) {
            self.reach(place, next);
        }
    }

    fn place(&mut self, topic: &str, partition: u32) -> Option<usize> {
        let is = |reading: &Reading| {
            reading.lane.partition == partition && *reading.lane.topic == *topic
        };
        if !self.all.get(self.last).is_some_and(is) {
            self.last = self.index.get(topic)?.get(&partition).copied()?;
        }
        Some(self.last)
    }

    fn reach(&mut self, place: usize, next: u64) {
        let reading = &mut self.all[place];
        if reading.is_done() || next <= reading.next {
            return;
        }
        reading.next = next.min(reading.to);
        self.left -= usize::from(reading.is_done());
        if !std::mem::replace(&mut reading.moved, true) {
            self.moved.push(place);
        }
    }

    /// What was reached since this was last asked.
    pub(crate) fn take_reached(&mut self) -> Reached {
        let (mut frontier, mut finished) = (Vec::with_capacity(self.moved.len()), Vec::new());
        for place in self.moved.drain(..) {
            let reading = &mut self.all[place];
            reading.moved = false;
            frontier.push((reading.lane.clone(), reading.next));
            if reading.any && reading.is_done() {
                finished.push(reading.lane.clone());
            }
        }
        Reached { frontier, finished }
    }

    /// What is not read to its end, the next offset, and the range's end.
    pub(crate) fn reading(&self) -> impl Iterator<Item = (&Arc<Lane>, u64, u64)> {
        let left = self.all.iter().filter(|reading| !reading.is_done());
        left.map(|reading| (&reading.lane, reading.next, reading.to))
    }

    /// Whether every range was read to its end.
    pub(crate) fn all_read(&self) -> bool {
        self.left == 0
    }

    /// Whether that was told as well.
    pub(crate) fn done(&self) -> bool {
        self.all_read() && self.moved.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(topic: &str, partition: u32, from: u64, to: u64) -> ReplayRange {
        ReplayRange { lane: Arc::new(Lane::new("log", topic, partition)), from, to }
    }

    fn reading(ranges: &Ranges) -> Vec<(String, u64)> {
        ranges.reading().map(|(lane, next, _)| (lane.to_string(), next)).collect()
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
        assert_eq!(reading(&ranges), [("t/0".into(), 5)]);
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
        assert!(ranges.take("t", 0, 1).is_some());
        ranges.pass("t", 1, 7);
        ranges.pass("t", 1, 9);
        assert!(ranges.all_read() && !ranges.done());
        let told = vec![("t/0".into(), 2), ("t/1".into(), 7)];
        assert_eq!(moved(&mut ranges), (told, 2));
        assert!(ranges.done());
    }

    #[test]
    fn an_end_before_the_ranges_finishes_nothing() {
        // Such as that of a leader that has not heard of the newest records yet.
        let mut ranges = Ranges::new(vec![range("t", 0, 0, 7)]);
        ranges.pass("t", 0, 5);
        ranges.pass("t", 0, 5);
        assert_eq!(moved(&mut ranges), (vec![("t/0".into(), 5)], 0));
        assert!(!ranges.all_read() && ranges.take("t", 0, 6).is_some());
        assert_eq!(moved(&mut ranges), (vec![("t/0".into(), 7)], 1));
    }

    #[test]
    fn partitions_of_one_number_are_told_apart() {
        let all = [range("t", 0, 0, 2), range("u", 0, 3, 4), range("u", 1, 0, 1)];
        let mut ranges = Ranges::new(all.to_vec());
        assert_eq!(reading(&ranges).len(), 3, "all at once");
        assert_eq!(ranges.take("u", 0, 3).expect("taken").topic, "u".into());
        ranges.pass("t", 0, 2);
        assert_eq!(reading(&ranges), [("u/1".into(), 0)]);
        assert_eq!(moved(&mut ranges), (vec![("t/0".into(), 2), ("u/0".into(), 4)], 2));
        ranges.pass("u", 1, 1);
        assert_eq!(moved(&mut ranges).1, 1);
        assert!(ranges.done());
    }

    #[test]
    fn an_empty_range_is_at_its_end_at_once() {
        let mut ranges = Ranges::new(vec![range("t", 0, 4, 4), range("u", 0, 0, 1)]);
        assert_eq!(reading(&ranges), [("u/0".into(), 0)]);
        assert_eq!(moved(&mut ranges), (vec![("t/0".into(), 4)], 0));
        assert!(Ranges::new(Vec::new()).done());
    }
}
