//! From positions to places, and back.

use super::{Batch, Evicted, Log, Place, Seq, lanes};
use crate::frame::Entry;
use crate::position::{Frontier, LaneId, Position};
use crate::seen::Seen;

/// Why somebody cannot go on in the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotHere {
    /// The log has lost something of these lanes since.
    Missing(Vec<LaneId>),
    /// A lane was closed since, or may have been: nobody has what is missing of it.
    Closed,
}

/// Where somebody goes on.
struct Found {
    place: Place,
    /// Lanes of which the log has lost something.
    missing: Vec<LaneId>,
    /// Whether something may be missing of a lane that was closed.
    closed: bool,
    /// The number of the last batch that closed a lane.
    over: u64,
}

impl Log {
    /// From where on whoever has `seen` this much reads on: the place before the first
    /// batch that has anything else. Lanes that were closed up to the batch `passed` are
    /// behind him.
    ///
    /// Of such a lane a cursor says nothing. It is from behind the lane's end where there is
    /// nothing else for it in the log before the last of the lane; where there is, it may
    /// also be from before the lane's beginning, and something is missing.
    ///
    /// With the place comes the number of the last batch that closed a lane which is so behind
    /// him: a shard that is not there yet has still to pass what he has.
    ///
    /// # Errors
    /// [`NotHere`].
    pub(crate) fn find(&self, seen: &mut Seen, passed: u64) -> Result<(Place, u64), NotHere> {
        let Found { place, missing, closed, over } = self.find_lanes(seen, Some(passed), |_| true);
        if closed {
            Err(NotHere::Closed)
        } else if !missing.is_empty() {
            Err(NotHere::Missing(missing))
        } else {
            Ok((place, over))
        }
    }

    /// As [`find`](Self::find), but lanes of which it does not have everything, or which it
    /// does not know, are not read here, nor those that are not in `open`: what was read again
    /// is kept for a while, also of a lane that is closed then.
    pub(crate) fn find_some(&self, seen: &mut Seen, open: &Frontier) -> Place {
        self.find_lanes(seen, None, |lane| open.next(lane).is_some()).place
    }

    /// `passed` is given where all lanes are to be here.
    fn find_lanes(
        &self,
        seen: &mut Seen,
        passed: Option<u64>,
        open: impl Fn(LaneId) -> bool,
    ) -> Found {
        let chain = self.chain.lock().expect("no panic under this lock");
        let mut place = Place::in_batch(&chain.newest, chain.newest.end());
        let mut oldest = chain.newest.number + 1;
        let (mut missing, mut here, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let (mut over, mut last_news) = (0, 0);
        for (lane, places) in chain.lanes.iter() {
            if let Some(number) = places.closed() {
                gone.push(lane);
                over = number.max(over);
                last_news = places.last_news().max(last_news);
                continue;
            }
            if !open(lane) {
                continue;
            }
            match places.find(seen.position(lane)) {
                Err(Evicted) => missing.push(lane),
                Ok(batch) => {
                    here.push(lane);
                    if let Some(batch) = batch.filter(|batch| batch.number < oldest) {
                        (oldest, place) = (batch.number, Place::in_batch(&batch, batch.first));
                    }
                }
            }
        }
        drop(chain);
        if !missing.is_empty() {
            oldest = 0;
        }
        let closed = over > passed.unwrap_or(u64::MAX) || (last_news > 0 && last_news >= oldest);
        if passed.is_some() && (closed || !missing.is_empty()) {
            return Found { place, missing, closed, over };
        }
        seen.read_all(passed.is_some());
        for lane in here {
            seen.read(lane);
        }
        for lane in gone {
            seen.pass_over(lane);
        }
        Found { place, missing, closed, over }
    }

    /// The place of a lane's first entry that is not before `position`. Where the log has
    /// none yet, or no more, that is where it ends or begins.
    pub(crate) fn first(&self, lane: LaneId, position: Position) -> Seq {
        let chain = self.chain.lock().expect("no panic under this lock");
        let found = chain.lanes.get(lane).map(|places| places.find(position));
        let batch = match found {
            Some(Ok(Some(batch))) => batch,
            None | Some(Ok(None)) => return chain.newest.end(),
            Some(Err(Evicted)) => return chain.oldest.first,
        };
        drop(chain);
        let new = |entry: &Entry| {
            entry.position().is_some_and(|(of, after)| of == lane && after > position)
        };
        let at = batch.entries.iter().position(new).unwrap_or(batch.entries.len());
        batch.first + at as Seq
    }

    /// The oldest offset of a lane that the log has, with all that came after it; `None`
    /// where it has none of the lane.
    pub(crate) fn oldest(&self, lane: LaneId) -> Option<u64> {
        let chain = self.chain.lock().expect("no panic under this lock");
        chain.lanes.get(lane).map(lanes::Places::floor)
    }

    /// How far a lane was read.
    pub(crate) fn newest(&self, lane: LaneId) -> Option<u64> {
        self.chain.lock().expect("no panic under this lock").frontier.next(lane)
    }

    /// How far each lane was read before the entry `at` of `batch`, and with it.
    pub(crate) fn positions_after(
        &self,
        batch: &Batch,
        at: usize,
    ) -> Result<Vec<(LaneId, Position)>, Evicted> {
        let chain = self.chain.lock().expect("no panic under this lock");
        if batch.number < chain.oldest.number {
            return Err(Evicted);
        }
        // Of one that this batch brings nothing was read before.
        let there = chain.lanes.iter().filter(|(_, places)| places.is_there(batch.number));
        let before = there
            .map(|(lane, places)| (lane, places.next_before(batch.number).map(Position::before)));
        let mut positions: Vec<(LaneId, Option<Position>)> = before.collect();
        drop(chain);
        for entry in &batch.entries[..=at] {
            let Some((lane, position)) = entry.position() else { continue };
            if let Some((_, known)) = positions.iter_mut().find(|(known, _)| *known == lane) {
                *known = Some(position).max(*known);
            }
        }
        Ok(positions.into_iter().filter_map(|(lane, position)| Some((lane, position?))).collect())
    }
}
