//! Where something stands in a source: lanes, positions, frontiers, cursors.
//!
//! Nothing is ever compared across lanes: two nodes read the same lanes
//! interleaved differently. Within a lane a [`Position`] names the next event, and
//! the next emission of that event, because one event may become several frames for
//! one connection and a connection may be cut between them.

mod map;

use std::fmt;
use std::sync::Arc;

pub(crate) use map::LaneMap;

/// One ordered stream of a source: a partition of a topic of one log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// Which log: the cluster, and the topic's making where the source can tell.
    /// Two logs never share it, even when topics have the same name.
    pub log: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
}

impl Lane {
    /// A lane.
    pub fn new(log: impl Into<Arc<str>>, topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { log: log.into(), topic: topic.into(), partition }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A lane's number in one hub; never leaves the node, and is never given to another lane:
/// whoever still holds one of a lane that was closed cannot take another for it. There are
/// 2^32 of them, which is a lane a second for 136 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneId(pub(crate) u32);

/// A place in a lane: everything before it has been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    /// The next event's offset.
    pub(crate) offset: u64,
    /// The next emission of that event.
    pub(crate) emission: u32,
}

impl Position {
    /// Before every emission of the event at `offset`.
    pub(crate) fn before(offset: u64) -> Self {
        Self { offset, emission: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.offset, self.emission)
    }
}

/// The place after one frame: what a client sends back of a lane. Opaque.
///
/// A key's id, six characters that name the lane, a dot, and a block of 22 characters
/// that only who has the key can read. The same place is the same text on every node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct At(pub(crate) [u8; At::LEN]);

impl At {
    pub(crate) const LEN: usize = 30;

    /// The text: nothing in it has to be escaped, in JSON or in a URL.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made of ASCII")
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "At({self})")
    }
}

/// How far each lane has been read, by the hub's lane numbers.
///
/// A lane's place only grows, until the lane is closed. One that was never advanced has
/// been read up to nowhere and is in no cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frontier(LaneMap<u64>);

impl Frontier {
    /// Moves a lane on to `next`; a lower number changes nothing.
    pub(crate) fn advance(&mut self, lane: LaneId, next: u64) {
        let known = self.0.get_or_insert_with(lane, || next);
        *known = next.max(*known);
    }

    /// A lane is no more.
    pub(crate) fn close(&mut self, lane: LaneId) {
        self.0.remove(lane);
    }

    /// The next offset of a lane, `None` where nothing is known of it.
    pub(crate) fn next(&self, lane: LaneId) -> Option<u64> {
        self.0.get(lane).copied()
    }

    /// Every lane that something is known of, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LaneId, u64)> + '_ {
        self.0.iter().map(|(lane, next)| (lane, *next))
    }
}

/// One place a lane: everything before has been seen. Opaque, sealed, and the same text
/// for the same places; nothing in it has to be escaped, in JSON or in a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor(pub(crate) Arc<str>);

impl Cursor {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_order_by_offset_then_emission() {
        let between = Position { offset: 7, emission: 1 };
        assert!(Position::before(7) < between && between < Position::before(8));
    }

    #[test]
    fn a_frontier_grows_until_a_lane_is_closed() {
        let mut frontier = Frontier::default();
        frontier.advance(LaneId(2), 5);
        frontier.advance(LaneId(2), 3);
        frontier.advance(LaneId(0), 0);
        assert_eq!(frontier.next(LaneId(2)), Some(5));
        assert_eq!(frontier.next(LaneId(1)), None);
        assert_eq!(frontier.iter().collect::<Vec<_>>(), [(LaneId(0), 0), (LaneId(2), 5)]);
        frontier.close(LaneId(0));
        frontier.close(LaneId(7));
        assert_eq!(frontier.iter().collect::<Vec<_>>(), [(LaneId(2), 5)]);
    }
}
