//! Which emissions stand for which.
//!
//! Emissions of one key, lane, event name and set of rooms make a **line**. A
//! connection that is behind passes over those of a line for which a newer one is
//! pending too, and the newest tells for how many it stands. The log keeps one line for
//! each key it has an emission of, which is a list of their places; an emission knows its
//! line and its number in it. So nothing is kept for a connection, however many keys it
//! is behind by.
//!
//! What is passed over is decided in **rounds**: from where a connection stands up to
//! its shard's place, which is the round's horizon. Within a round each key comes once.
//! Were the horizon to move while a round is under way, how many were passed over would
//! have to be remembered for each key.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::frame::Entry;
use crate::log::Seq;
use crate::position::LaneId;
use crate::room_table::RoomId;
use crate::sync::Mutex;

/// What emissions of one line have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LineKey {
    lane: Option<LaneId>,
    rooms: SmallVec<[RoomId; 1]>,
    event: Cow<'static, str>,
    key: Bytes,
    /// Which views get it: a newer one that a view does not get stands for none of those
    /// that it gets.
    views: SmallVec<[u64; 1]>,
}

/// The lines of what is in the log.
#[derive(Debug, Default)]
pub(crate) struct Lines(FxHashMap<LineKey, Arc<Line>>);

/// The places of one line that are in the log.
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    /// The number in the line of the first of `places`.
    first: u64,
    places: VecDeque<(Seq, u32)>,
}

/// An entry's key, and once it is in the log its place in its line.
#[derive(Debug)]
pub(crate) struct Keyed {
    key: Bytes,
    line: Arc<Line>,
    number: u64,
}

impl Keyed {
    pub(crate) fn new(key: Bytes) -> Self {
        Self { key, line: Arc::default(), number: 0 }
    }

    /// What it counts for in the log's limit.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.key.len() + 2 * size_of::<(Seq, u32)>()
    }

    /// The place of the next one of the line, where it has one.
    pub(crate) fn newer(&self) -> Option<Seq> {
        self.line.at(self.number + 1).map(|(seq, _)| seq)
    }

    /// The place and the size of the one before, where the log still has it.
    pub(crate) fn older(&self) -> Option<(Seq, u64)> {
        let (seq, size) = self.line.at(self.number.checked_sub(1)?)?;
        Some((seq, u64::from(size)))
    }

    /// How many of the line stand before this one, from place `from` on.
    pub(crate) fn older_from(&self, from: Seq) -> u64 {
        let line = self.line.0.lock().expect("no panic under this lock");
        let before = line.places.partition_point(|(seq, _)| *seq < from) as u64;
        self.number.saturating_sub(line.first + before)
    }
}

impl Line {
    fn at(&self, number: u64) -> Option<(Seq, u32)> {
        let line = self.0.lock().expect("no panic under this lock");
        let at = usize::try_from(number.checked_sub(line.first)?).ok()?;
        line.places.get(at).copied()
    }
}

impl Lines {
    fn key(entry: &Entry, key: Bytes) -> LineKey {
        LineKey {
            lane: entry.position().map(|(lane, _)| lane),
            rooms: entry.rooms.iter().map(crate::room_table::RoomRef::id).collect(),
            event: entry.event().clone(),
            key,
            views: entry.views(),
        }
    }

    /// An entry comes into the log; before any reader sees it.
    pub(crate) fn enter(&mut self, entry: &mut Entry, seq: Seq) {
        let Some(keyed) = &entry.keyed else { return };
        let line = self.0.entry(Self::key(entry, keyed.key.clone())).or_default().clone();
        let size = entry.size() as u32;
        let number = {
            let mut places = line.0.lock().expect("no panic under this lock");
            places.places.push_back((seq, size));
            places.first + places.places.len() as u64 - 1
        };
        let keyed = entry.keyed.as_mut().expect("looked at above");
        (keyed.line, keyed.number) = (line, number);
    }

    /// The log's oldest entry leaves.
    pub(crate) fn leave(&mut self, entry: &Entry) {
        let Some(keyed) = &entry.keyed else { return };
        let empty = {
            let mut line = keyed.line.0.lock().expect("no panic under this lock");
            line.places.pop_front();
            line.first += 1;
            line.places.is_empty()
        };
        if empty {
            self.0.remove(&Self::key(entry, keyed.key.clone()));
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
