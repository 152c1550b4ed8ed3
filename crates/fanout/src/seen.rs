//! What somebody has of each lane: a cursor that is opened, and moves with what is read.

use crate::position::{Frontier, LaneId, LaneMap, Position};

/// What somebody has of each lane, by the lanes' numbers. Of a lane that is not named,
/// nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    lanes: LaneMap<SeenLane>,
    /// Whether lanes that are not named can be read where it reads.
    others: bool,
}

#[derive(Clone, Copy, Debug)]
struct SeenLane {
    position: Position,
    /// Whether it is known that nothing before `position` is missing: also where that is
    /// where the lane begins.
    named: bool,
    /// What it was when it began to read where it reads.
    since: Position,
    /// Whether the lane is read where it reads: a replay may begin too late for it.
    read: bool,
}

impl Seen {
    pub(crate) fn new(positions: impl IntoIterator<Item = (LaneId, Position)>) -> Self {
        let mut seen = Self { lanes: LaneMap::default(), others: true };
        for (lane, position) in positions {
            let seen = seen.lane(lane);
            (seen.position, seen.named) = (position, true);
        }
        seen
    }

    fn lane(&mut self, lane: LaneId) -> &mut SeenLane {
        let (nothing, read) = (Position::default(), self.others);
        self.lanes.get_or_insert_with(lane, || SeenLane {
            position: nothing,
            named: false,
            since: nothing,
            read,
        })
    }

    fn known(&self, lane: LaneId) -> Option<&SeenLane> {
        self.lanes.get(lane)
    }

    /// The next position of a lane.
    pub(crate) fn position(&self, lane: LaneId) -> Position {
        self.known(lane).map_or_else(Position::default, |known| known.position)
    }

    /// Whether what leads to `position` was seen.
    pub(crate) fn has(&self, lane: LaneId, position: Position) -> bool {
        position <= self.position(lane)
    }

    /// The next position of a lane when it began to be read where it is read now.
    pub(crate) fn since(&self, lane: LaneId) -> Position {
        self.known(lane).map_or_else(Position::default, |known| known.since)
    }

    pub(crate) fn reads(&self, lane: LaneId) -> bool {
        self.known(lane).map_or(self.others, |known| known.read)
    }

    /// Of a lane that is read here, more was seen.
    pub(crate) fn advance(&mut self, lane: LaneId, position: Position) {
        if self.reads(lane) {
            let known = self.lane(lane);
            (known.position, known.named) = (known.position.max(position), true);
        }
    }

    /// Everything up to `frontier` was seen, as far as it is read here.
    pub(crate) fn advance_to(&mut self, frontier: &Frontier) {
        for (lane, next) in frontier.iter() {
            self.advance(lane, Position::before(next));
        }
    }

    /// A lane is read from its position on.
    pub(crate) fn read(&mut self, lane: LaneId) {
        self.lane(lane).read = true;
    }

    /// A lane is not read here, although others that are not named are.
    pub(crate) fn pass_over(&mut self, lane: LaneId) {
        self.lane(lane).read = false;
    }

    /// A lane is no more, and all of it is behind.
    pub(crate) fn close(&mut self, lane: LaneId) {
        self.lanes.remove(lane);
    }

    /// Sets whether lanes are read, before each is told.
    pub(crate) fn read_all(&mut self, read: bool) {
        self.others = read;
        self.lanes.values_mut().for_each(|lane| (lane.read, lane.since) = (read, lane.position));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LaneId, Position)> {
        let named = self.lanes.iter().filter(|(_, lane)| lane.named);
        named.map(|(lane, seen)| (lane, seen.position))
    }

    /// Whether somebody who has read up to `frontier` has all of this.
    pub(crate) fn covered_by(&self, frontier: &Frontier) -> bool {
        self.ahead_of(frontier).next().is_none()
    }

    pub(crate) fn ahead_of(&self, frontier: &Frontier) -> impl Iterator<Item = (LaneId, Position)> {
        let read = |lane| Position::before(frontier.next(lane).unwrap_or(0));
        self.iter().filter(move |(lane, position)| read(*lane) < *position)
    }
}

#[cfg(all(test, not(fanout_model)))]
mod tests {
    use super::*;

    fn at(offset: u64, emission: u32) -> Position {
        Position { offset, emission }
    }

    #[test]
    fn a_frontier_covers_an_event_only_once_it_has_passed_it() {
        let seen = Seen::new([(LaneId(1), at(7, 1))]);
        let mut frontier = Frontier::default();
        frontier.advance(LaneId(0), 100);
        assert!(!seen.covered_by(&frontier));
        frontier.advance(LaneId(1), 7);
        assert!(!seen.covered_by(&frontier), "the event's first emission may come yet");
        frontier.advance(LaneId(1), 8);
        assert!(seen.covered_by(&frontier));
        assert!(Seen::default().covered_by(&Frontier::default()));
    }

    #[test]
    fn what_is_not_read_does_not_advance() {
        let mut seen = Seen::new([(LaneId(0), at(5, 0)), (LaneId(1), at(5, 0))]);
        seen.read_all(false);
        seen.read(LaneId(1));
        for lane in 0..3 {
            seen.advance(LaneId(lane), at(9, 0));
        }
        let positions: Vec<_> = seen.iter().map(|(lane, position)| (lane.0, position)).collect();
        assert_eq!(positions, [(0, at(5, 0)), (1, at(9, 0))]);
        assert!(seen.has(LaneId(1), at(9, 0)) && !seen.has(LaneId(1), at(9, 1)));
    }
}
