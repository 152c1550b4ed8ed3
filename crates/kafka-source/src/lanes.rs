//! How far each partition has been read.
//!
//! Asks librdkafka nothing: it is told what was opened and read, and says what may be
//! handed on.
//!
//! Invariants: a lane's place only grows, so no offset is handed on twice, whatever
//! the client delivers again after a reconnect; nothing is told of a lane that is not
//! open, and nothing more of one that was halted; of one topic's partition, one lane is
//! open at a time.

#[cfg(test)]
mod tests;

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
    /// The highest end that was told of it.
    told_end: u64,
    /// What is known of its place.
    place: Place,
    /// Whether nothing more of it is to be handed on.
    halted: bool,
    pub(crate) metrics: LaneMetrics,
}

/// What is known of where a lane is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Known,
    /// The broker refused it, and nobody has said yet what becomes of it.
    Doubted,
    /// As above, and it is known that the log was cut before it.
    Cut,
}

/// All lanes that are being read, or were halted.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    open: Vec<Reading>,
    /// Places in `open`, by topic and partition.
    index: HashMap<Arc<str>, HashMap<u32, usize>>,
    /// The place that was last asked for: what is fetched at once is of one partition.
    last: usize,
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
        let told_end = end;
        let end = (from < end).then_some(end);
        self.behind += usize::from(end.is_some());
        // Told once though nothing was read: a cursor has to name every lane.
        self.moved.push(self.open.len());
        let metrics = LaneMetrics::new(&lane);
        self.open.push(Reading {
            lane,
            next: from,
            moved: true,
            end,
            told_end,
            place: Place::Known,
            halted: false,
            metrics,
        });
    }

    /// Ends a lane, and says how far it was read; `None` where it is not open.
    pub(crate) fn close(&mut self, lane: &Lane) -> Option<Reading> {
        let place = self.place_of(lane)?;
        let partitions = self.index.get_mut(&lane.topic)?;
        partitions.remove(&lane.partition);
        if partitions.is_empty() {
            self.index.remove(&lane.topic);
        }
        let closed = self.open.swap_remove(place);
        self.behind -= usize::from(closed.end.is_some());
        self.moved.retain(|moved| *moved != place);
        // What stood last stands in its place now.
        let moved_from = self.open.len();
        if let Some(reading) = self.open.get(place) {
            let index = self.index.get_mut(&reading.lane.topic);
            index.and_then(|index| index.insert(reading.lane.partition, place));
            self.moved.iter_mut().filter(|moved| **moved == moved_from).for_each(|m| *m = place);
        }
        Some(closed)
    }

    /// Stops a lane where it is; false where it is not being read.
    ///
    /// Its place stays, and it no longer counts as one that has to catch up.
    pub(crate) fn halt(&mut self, lane: &Lane) -> bool {
        let Some(place) = self.place_of(lane) else { return false };
        let reading = &mut self.open[place];
        if reading.halted {
            return false;
        }
        reading.halted = true;
        reading.place = Place::Known;
        reading.metrics.halted();
        self.behind -= usize::from(reading.end.take().is_some());
        true
    }

    /// Notes that a lane's place was refused, and whether its log was cut from an offset on.
    /// Says how far it was read, and the cut where that lies before; `None` where it is not
    /// being read, or that was known.
    pub(crate) fn doubt(
        &mut self,
        topic: &str,
        partition: u32,
        cut: Option<u64>,
    ) -> Option<(&Arc<Lane>, u64, Option<u64>)> {
        let place = self.place(topic, partition)?;
        let reading = &mut self.open[place];
        if reading.halted || reading.place != Place::Known {
            return None;
        }
        // A cut behind what was read takes nothing of it away.
        let cut = cut.filter(|cut| *cut < reading.next);
        reading.place = if cut.is_some() { Place::Cut } else { Place::Doubted };
        Some((&reading.lane, reading.next, cut))
    }

    /// The lanes whose places are in doubt, and how far they were read. Those that were cut
    /// are not among them.
    pub(crate) fn doubted(&self) -> impl Iterator<Item = (&Arc<Lane>, u64)> {
        let doubted = self.open.iter().filter(|reading| reading.place == Place::Doubted);
        doubted.map(|reading| (&reading.lane, reading.next))
    }

    /// Takes the record at `offset`; `None` where it was taken before, or its lane is not
    /// being read.
    pub(crate) fn take(
        &mut self,
        topic: &str,
        partition: u32,
        offset: u64,
    ) -> Option<&mut Reading> {
        let place = self.place(topic, partition)?;
        let reading = &self.open[place];
        let wanted = !reading.halted && offset >= reading.next;
        wanted.then(|| self.advance_at(place, offset + 1))
    }

    /// Notes that everything before `next` has been passed.
    pub(crate) fn advance(&mut self, topic: &str, partition: u32, next: u64) {
        if let Some(place) = self.place(topic, partition) {
            if !self.open[place].halted {
                self.advance_at(place, next);
            }
        }
    }

    /// Notes that everything before `next` is no more, and that nothing is in doubt any
    /// more. Where to read on, and how many offsets were not read; `None` where the lane is
    /// not being read.
    pub(crate) fn lose(&mut self, lane: &Lane, next: u64) -> Option<(u64, u64)> {
        let place = self.place_of(lane)?;
        let reading = &mut self.open[place];
        if reading.halted {
            return None;
        }
        reading.place = Place::Known;
        let lost = next.saturating_sub(reading.next);
        // It may have been read on since it was asked about.
        Some((self.advance_at(place, next).next, lost))
    }

    fn place(&mut self, topic: &str, partition: u32) -> Option<usize> {
        let is = |reading: &Reading| {
            reading.lane.partition == partition && *reading.lane.topic == *topic
        };
        if !self.open.get(self.last).is_some_and(is) {
            self.last = self.index.get(topic)?.get(&partition).copied()?;
        }
        Some(self.last)
    }

    /// The place of this very lane: another log's is another lane.
    fn place_of(&mut self, lane: &Lane) -> Option<usize> {
        let place = self.place(&lane.topic, lane.partition)?;
        (*self.open[place].lane == *lane).then_some(place)
    }

    fn advance_at(&mut self, place: usize, next: u64) -> &mut Reading {
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

    /// The lanes that moved since this was last asked, and their next offsets. What was read
    /// of them is counted.
    pub(crate) fn take_frontier(&mut self) -> Vec<(Arc<Lane>, u64)> {
        let open = &mut self.open;
        let told = |place: usize| {
            let reading = &mut open[place];
            reading.moved = false;
            reading.metrics.tell();
            (reading.lane.clone(), reading.next)
        };
        self.moved.drain(..).map(told).collect()
    }

    /// Whether every open lane has reached the end it had when it was opened.
    pub(crate) fn caught_up(&self) -> bool {
        self.behind == 0
    }

    /// Whether this lane is open.
    pub(crate) fn is_open(&mut self, lane: &Lane) -> bool {
        self.place_of(lane).is_some()
    }

    /// Every lane that is being read, to be told how things are with it.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Reading> {
        self.open.iter_mut().filter(|reading| !reading.halted)
    }

    /// Every lane that is being read.
    fn iter(&self) -> impl Iterator<Item = &Reading> {
        self.open.iter().filter(|reading| !reading.halted)
    }

    /// Whether none is being read.
    pub(crate) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl Reading {
    /// Notes where its log ends.
    pub(crate) fn ends(&mut self, end: u64) {
        self.told_end = self.told_end.max(end);
        self.metrics.lag(end.saturating_sub(self.next));
    }

    /// How many offsets were there, as far as was told, that it was not read up to.
    pub(crate) fn unread(&self) -> u64 {
        self.told_end.saturating_sub(self.next)
    }

    /// Whether it was halted: nothing of it is assigned any more.
    pub(crate) fn is_halted(&self) -> bool {
        self.halted
    }
}
