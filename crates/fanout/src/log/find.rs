//! From positions to places, and back.

use super::{Batch, Evicted, Log, Place, Seq, lanes};
use crate::frame::Entry;
use crate::position::{LaneId, Position};
use crate::seen::Seen;

impl Log {
    /// From where on whoever has `seen` this much reads on: the place before the first
    /// batch that has anything else.
    ///
    /// # Errors
    /// The lanes of which the log has lost something since.
    pub(crate) fn find(&self, seen: &mut Seen) -> Result<Place, Vec<LaneId>> {
        let (place, missing) = self.find_lanes(seen, true);
        if missing.is_empty() { Ok(place) } else { Err(missing) }
    }

    /// As [`find`](Self::find), but lanes of which it does not have everything, or which it
    /// does not know, are not read here.
    pub(crate) fn find_some(&self, seen: &mut Seen) -> Place {
        self.find_lanes(seen, false).0
    }

    fn find_lanes(&self, seen: &mut Seen, all: bool) -> (Place, Vec<LaneId>) {
        let chain = self.chain.lock().expect("no panic under this lock");
        let mut found = Place::in_batch(&chain.newest, chain.newest.end());
        let mut oldest = chain.newest.number + 1;
        let (mut missing, mut here) = (Vec::new(), Vec::new());
        for (lane, places) in chain.lanes.iter() {
            match places.find(seen.position(lane)) {
                Err(Evicted) => missing.push(lane),
                Ok(batch) => {
                    here.push(lane);
                    if let Some(batch) = batch.filter(|batch| batch.number < oldest) {
                        (oldest, found) = (batch.number, Place::in_batch(&batch, batch.first));
                    }
                }
            }
        }
        drop(chain);
        if all && !missing.is_empty() {
            return (found, missing);
        }
        seen.read_all(all);
        for lane in here {
            seen.read(lane);
        }
        (found, missing)
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
        let before = chain.lanes.iter().filter_map(|(lane, places)| {
            Some((lane, Position::before(places.next_before(batch.number)?)))
        });
        let mut positions: Vec<(LaneId, Position)> = before.collect();
        drop(chain);
        for entry in &batch.entries[..=at] {
            let Some((lane, position)) = entry.position() else { continue };
            match positions.iter_mut().find(|(known, _)| *known == lane) {
                Some((_, known)) => *known = position.max(*known),
                None => positions.push((lane, position)),
            }
        }
        Ok(positions)
    }
}
