//! Where in the log the offsets of each lane are.
//!
//! A batch that moves a lane on is entered with the lane's next offset after it, so that
//! a position is found by bisection, and is taken out again when the log evicts it. The
//! lane's floor is the oldest offset from which on the log has everything.
//!
//! A lane that is closed stays until the batch that closed it is evicted: who stands before
//! that batch still has a place in the lane, who stands behind it has none.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::{Batch, Evicted, Moved};
use crate::position::{LaneId, LaneMap, Position};
use crate::sync::upgrade;

/// What one entry of the index counts for in the log's limit.
pub(super) const BYTES_PER_MOVE: usize = size_of::<Move>() + size_of::<(LaneId, u64)>();

/// The lanes of a log, by number.
#[derive(Debug, Default)]
pub(super) struct LanePlaces(LaneMap<Places>);

/// Where the offsets of one lane are.
#[derive(Debug)]
pub(super) struct Places {
    floor: u64,
    /// The number of the batch that brought the lane.
    opened: u64,
    /// The number of the batch behind which it is no more.
    closed: Option<u64>,
    moves: VecDeque<Move>,
}

#[derive(Debug)]
struct Move {
    /// The next offset once the batch was read.
    next: u64,
    number: u64,
    batch: Weak<Batch>,
}

impl LanePlaces {
    /// A batch comes into the log.
    pub(super) fn enter(&mut self, moved: &Moved, batch: &Arc<Batch>) {
        let opened = batch.number;
        let new = || Places { floor: moved.from, opened, closed: None, moves: VecDeque::new() };
        let places = self.0.get_or_insert_with(moved.lane, new);
        let before = places.moves.back().map_or(places.floor, |last| last.next);
        if moved.next > before || places.opened == opened {
            let (next, number) = (moved.next.max(before), batch.number);
            places.moves.push_back(Move { next, number, batch: Arc::downgrade(batch) });
        }
    }

    /// The log's oldest batch leaves.
    pub(super) fn leave(&mut self, batch: &Batch) {
        for (lane, _) in &batch.frontier {
            let Some(places) = self.0.get_mut(*lane) else { continue };
            while places.moves.front().is_some_and(|first| first.number <= batch.number) {
                let gone = places.moves.pop_front();
                places.floor = gone.map_or(places.floor, |gone| gone.next.max(places.floor));
            }
        }
        for lane in &batch.closed {
            self.0.remove(*lane);
        }
    }

    /// A lane is no more behind the batch of this number.
    pub(super) fn close(&mut self, lane: LaneId, number: u64) {
        if let Some(places) = self.0.get_mut(lane) {
            places.closed = Some(number);
        }
    }

    pub(super) fn is_closed(&self, lane: LaneId) -> bool {
        self.get(lane).is_some_and(|places| places.closed.is_some())
    }

    pub(super) fn get(&self, lane: LaneId) -> Option<&Places> {
        self.0.get(lane)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (LaneId, &Places)> {
        self.0.iter()
    }
}

impl Places {
    /// The oldest offset from which on everything is there.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// The number of the batch behind which it is no more.
    pub(super) fn closed(&self) -> Option<u64> {
        self.closed
    }

    /// The number of the last batch that the log has which brought anything of it; zero
    /// where there is none.
    pub(super) fn last_news(&self) -> u64 {
        let Some(last) = self.moves.back() else { return 0 };
        let before = self.moves.len().checked_sub(2).map_or(self.floor, |at| self.moves[at].next);
        // What only told where it begins brought nothing.
        if last.next > before { last.number } else { 0 }
    }

    /// The first batch that passes `position`; `None` where nothing has come from there on.
    pub(super) fn find(&self, position: Position) -> Result<Option<Arc<Batch>>, Evicted> {
        if position.offset < self.floor {
            return Err(Evicted);
        }
        let at = self.moves.partition_point(|passed| passed.next <= position.offset);
        let Some(found) = self.moves.get(at) else { return Ok(None) };
        // Taken out under the same lock under which its batch was dropped.
        Ok(Some(upgrade(&found.batch).expect("the log has what its index has")))
    }

    /// Whether the batch of this number has a place in it: begun, and not closed before.
    pub(super) fn is_there(&self, number: u64) -> bool {
        self.opened <= number && self.closed.is_none_or(|closed| closed > number)
    }

    /// How far the lane was read before the batch of this number; `None` where it was not
    /// known yet.
    pub(super) fn next_before(&self, number: u64) -> Option<u64> {
        let at = self.moves.partition_point(|passed| passed.number < number);
        match at.checked_sub(1) {
            Some(before) => Some(self.moves[before].next),
            None => (self.opened < number).then_some(self.floor),
        }
    }
}
