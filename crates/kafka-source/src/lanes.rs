//! How far each partition has been read.
//!
//! Asks librdkafka nothing: it is told what was opened and read, and says what may be
//! handed on.
//!
//! Invariants: a lane's place only grows, so no offset is handed on twice, whatever
//! the client delivers again after a reconnect; nothing is told of a lane that is not
//! open.

use std::collections::HashMap;
use std::sync::Arc;

use fanout::Lane;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::metrics::LaneMetrics;

/// A lane's partition as librdkafka has it.
pub(crate) fn partition_id(lane: &Lane) -> i32 {
    i32::try_from(lane.partition).expect("a lane is made from librdkafka's own number")
}

/// Places as librdkafka takes them.
pub(crate) fn partition_list<'a>(
    places: impl IntoIterator<Item = (&'a Arc<Lane>, u64)>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (lane, next) in places {
        let next = Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX));
        list.add_partition_offset(&lane.topic, partition_id(lane), next)?;
    }
    Ok(list)
}

/// A lane to be read, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) lane: Arc<Lane>,
    /// The first offset to read.
    pub(crate) from: u64,
    /// The offset that has to be reached before the source has caught up.
    pub(crate) end: u64,
}

/// One lane that is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) lane: Arc<Lane>,
    /// The next offset.
    pub(crate) next: u64,
    /// Whether `next` has grown since it was last handed on.
    moved: bool,
    /// What is left to be reached before the lane has caught up.
    end: Option<u64>,
    pub(crate) metrics: LaneMetrics,
}

/// All lanes that are being read.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    open: Vec<Reading>,
    /// Places in `open`, by topic and partition.
    index: HashMap<Arc<str>, HashMap<u32, usize>>,
    /// Places in `open` of those that moved.
    moved: Vec<usize>,
    /// Lanes that have not caught up.
    behind: usize,
}

impl Lanes {
    /// Begins a lane. One that is open already stays as it is.
    pub(crate) fn open(&mut self, opening: Opening) {
        let Opening { lane, from, end } = opening;
        let partitions = self.index.entry(lane.topic.clone()).or_default();
        if partitions.contains_key(&lane.partition) {
            return;
        }
        partitions.insert(lane.partition, self.open.len());
        let end = (from < end).then_some(end);
        self.behind += usize::from(end.is_some());
        // Told once though nothing was read: a cursor has to name every lane.
        self.moved.push(self.open.len());
        let metrics = LaneMetrics::new(&lane);
        self.open.push(Reading { lane, next: from, moved: true, end, metrics });
    }

    /// Takes the record at `offset`; `None` where it was taken before, or its lane is
    /// not open.
    pub(crate) fn take(&mut self, topic: &str, partition: u32, offset: u64) -> Option<&Reading> {
        let place = self.place(topic, partition)?;
        (offset >= self.open[place].next).then(|| self.advance_at(place, offset + 1))
    }

    /// The next offset of an open lane.
    pub(crate) fn next(&self, topic: &str, partition: u32) -> Option<u64> {
        self.place(topic, partition).map(|place| self.open[place].next)
    }

    /// Notes that everything before `next` has been passed.
    pub(crate) fn advance(&mut self, topic: &str, partition: u32, next: u64) {
        if let Some(place) = self.place(topic, partition) {
            self.advance_at(place, next);
        }
    }

    /// Notes that everything before `next` is no more; how many offsets of it were not
    /// read.
    pub(crate) fn lose(&mut self, topic: &str, partition: u32, next: u64) -> u64 {
        let Some(place) = self.place(topic, partition) else { return 0 };
        let lost = next.saturating_sub(self.open[place].next);
        self.advance_at(place, next);
        lost
    }

    fn place(&self, topic: &str, partition: u32) -> Option<usize> {
        self.index.get(topic)?.get(&partition).copied()
    }

    fn advance_at(&mut self, place: usize, next: u64) -> &Reading {
        let reading = &mut self.open[place];
        if next > reading.next {
            reading.next = next;
            if !std::mem::replace(&mut reading.moved, true) {
                self.moved.push(place);
            }
            if reading.end.is_some_and(|end| next >= end) {
                reading.end = None;
                self.behind -= 1;
            }
        }
        reading
    }

    /// The lanes that moved since this was last asked, and their next offsets.
    pub(crate) fn take_frontier(&mut self) -> Vec<(Arc<Lane>, u64)> {
        let open = &mut self.open;
        let told = |place: usize| {
            let reading = &mut open[place];
            reading.moved = false;
            (reading.lane.clone(), reading.next)
        };
        self.moved.drain(..).map(told).collect()
    }

    /// Whether every open lane has reached the end it had when it was opened.
    pub(crate) fn caught_up(&self) -> bool {
        self.behind == 0
    }

    /// Every open lane.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Reading> {
        self.open.iter()
    }

    /// Whether none is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(partition: u32, from: u64, end: u64) -> Opening {
        Opening { lane: Arc::new(Lane::new("log", "t", partition)), from, end }
    }

    fn lanes(openings: impl IntoIterator<Item = Opening>) -> Lanes {
        let mut lanes = Lanes::default();
        openings.into_iter().for_each(|opening| lanes.open(opening));
        lanes
    }

    fn frontier(lanes: &mut Lanes) -> Vec<(u32, u64)> {
        lanes.take_frontier().into_iter().map(|(lane, next)| (lane.partition, next)).collect()
    }

    #[test]
    fn every_lane_is_told_once_when_it_opens() {
        let mut lanes = lanes([opening(0, 5, 5), opening(1, 0, 0)]);
        assert_eq!(frontier(&mut lanes), [(0, 5), (1, 0)]);
        assert_eq!(frontier(&mut lanes), []);
    }

    #[test]
    fn an_offset_is_taken_once_and_in_order() {
        let mut lanes = lanes([opening(0, 5, 5)]);
        let taken = [4, 5, 6, 6, 5, 9].map(|offset| lanes.take("t", 0, offset).is_some());
        assert_eq!(taken, [false, true, true, false, false, true]);
        assert!(lanes.take("t", 1, 0).is_none(), "not open");
        assert!(lanes.take("u", 0, 0).is_none(), "not open");
        assert_eq!(frontier(&mut lanes), [(0, 10)]);
    }

    #[test]
    fn holes_are_passed_and_nothing_moves_back() {
        let mut lanes = lanes([opening(0, 0, 3)]);
        lanes.take("t", 0, 0);
        lanes.advance("t", 0, 3);
        lanes.advance("t", 0, 2);
        assert_eq!(frontier(&mut lanes), [(0, 3)]);
        assert!(lanes.take("t", 0, 2).is_none());
    }

    #[test]
    fn lost_is_only_what_was_not_read() {
        let mut lanes = lanes([opening(0, 0, 0)]);
        lanes.take("t", 0, 4);
        assert_eq!(lanes.lose("t", 0, 3), 0, "it was read on since it was asked about");
        assert_eq!(lanes.lose("t", 0, 5), 0);
        assert_eq!(lanes.lose("t", 0, 9), 4);
        assert_eq!(lanes.lose("u", 0, 9), 0, "not open");
        assert_eq!(frontier(&mut lanes), [(0, 9)]);
        assert!(lanes.take("t", 0, 8).is_none());
    }

    #[test]
    fn caught_up_once_all_ends_are_reached() {
        let mut lanes = lanes([opening(0, 0, 2), opening(1, 7, 7), opening(2, 0, 5)]);
        lanes.take("t", 0, 1);
        assert!(!lanes.caught_up());
        lanes.advance("t", 2, 5);
        assert!(lanes.caught_up());
    }

    #[test]
    fn opening_again_changes_nothing() {
        let mut lanes = lanes([opening(0, 0, 2)]);
        lanes.take("t", 0, 1);
        lanes.open(opening(0, 0, 9));
        assert!(lanes.caught_up());
        assert!(lanes.take("t", 0, 1).is_none());
    }
}
