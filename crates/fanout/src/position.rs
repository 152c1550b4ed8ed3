//! Where something stands in a source: lanes, positions, frontiers, cursors.
//!
//! Nothing is ever compared across lanes: two nodes read the same lanes
//! interleaved differently. Within a lane a [`Position`] names the next event, and
//! the next emission of that event, because one event may become several frames for
//! one connection and a connection may be cut between them.

use std::fmt::{self, Write as _};
use std::sync::Arc;

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

    /// The seven characters that name this lane in `at`, the same on every node.
    ///
    /// A hash, so that names of topics and clusters stay inside: `0` for the clear
    /// form, then 36 bits of FNV-1a in URL-safe base 64.
    pub fn token(&self) -> LaneToken {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let parts = [self.log.as_bytes(), &[0], self.topic.as_bytes(), &[0]];
        let bytes = parts.into_iter().flatten().copied().chain(self.partition.to_be_bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // FNV's low bits mix best; fold the high ones in.
        let hash = hash ^ (hash >> 36);
        let mut token = [b'0'; 7];
        for (i, byte) in token[1..].iter_mut().enumerate() {
            *byte = ALPHABET[(hash >> (6 * i)) as usize & 63];
        }
        LaneToken(token)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A lane's name on the wire: the part of `at` before the dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaneToken([u8; 7]);

impl fmt::Display for LaneToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).expect("made from ASCII"))
    }
}

/// A lane's number in one hub; dense, never leaves the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneId(pub(crate) u32);

/// A place in a lane: everything before it has been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The next event's offset.
    pub offset: u64,
    /// The next emission of that event.
    pub emission: u32,
}

impl Position {
    /// Before every emission of the event at `offset`.
    pub fn before(offset: u64) -> Self {
        Self { offset, emission: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.offset, self.emission)
    }
}

/// The position after one frame: what a client sends back of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Which lane.
    pub lane: LaneToken,
    /// The place after the frame.
    pub position: Position,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.lane, self.position)
    }
}

/// How far each lane has been read, by the hub's lane numbers.
///
/// Only grows. A lane that was never advanced has been read up to nowhere and is in
/// no cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frontier(Vec<Option<u64>>);

impl Frontier {
    /// Moves a lane on to `next`; a lower number changes nothing.
    pub(crate) fn advance(&mut self, lane: LaneId, next: u64) {
        let at = lane.0 as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, None);
        }
        self.0[at] = self.0[at].max(Some(next));
    }

    /// The next offset of a lane, `None` where nothing is known of it.
    #[cfg(test)]
    pub(crate) fn next(&self, lane: LaneId) -> Option<u64> {
        self.0.get(lane.0 as usize).copied().flatten()
    }

    /// Every lane that something is known of, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LaneId, u64)> + '_ {
        self.0.iter().enumerate().filter_map(|(i, next)| Some((LaneId(i as u32), (*next)?)))
    }
}

/// One position a lane: everything before has been seen. Opaque to clients.
///
/// Written as its lanes' positions with commas between, in the order of the lanes'
/// tokens, so that the same cursor is the same text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(Vec<At>);

impl FromIterator<At> for Cursor {
    fn from_iter<I: IntoIterator<Item = At>>(places: I) -> Self {
        let mut places: Vec<At> = places.into_iter().collect();
        places.sort_unstable_by_key(|at| at.lane.0);
        Self(places)
    }
}

impl Cursor {
    /// The positions, by the lanes' tokens.
    pub fn places(&self) -> &[At] {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, at) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_char(',')?;
            }
            at.fmt(f)?;
        }
        Ok(())
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
    fn frontier_only_grows() {
        let mut frontier = Frontier::default();
        frontier.advance(LaneId(2), 5);
        frontier.advance(LaneId(2), 3);
        frontier.advance(LaneId(0), 0);
        assert_eq!(frontier.next(LaneId(2)), Some(5));
        assert_eq!(frontier.next(LaneId(1)), None);
        assert_eq!(frontier.iter().collect::<Vec<_>>(), [(LaneId(0), 0), (LaneId(2), 5)]);
    }

    #[test]
    fn tokens_tell_lanes_apart() {
        let lanes = [("c", "t", 0), ("c", "t", 1), ("c", "u", 0), ("d", "t", 0), ("ct", "", 0)];
        let tokens: std::collections::HashSet<_> =
            lanes.iter().map(|(log, topic, p)| Lane::new(*log, *topic, *p).token()).collect();
        assert_eq!(tokens.len(), lanes.len());
        for token in tokens {
            let text = token.to_string();
            assert!(text.len() == 7 && !text.contains(['.', ',']), "{text}");
        }
    }

    #[test]
    fn a_cursor_is_the_same_text_whatever_the_order() {
        let at = |p| At { lane: Lane::new("c", "t", p).token(), position: Position::before(9) };
        let (a, b) = ([at(0), at(1), at(2)], [at(2), at(0), at(1)]);
        assert_eq!(Cursor::from_iter(a).to_string(), Cursor::from_iter(b).to_string());
        assert_eq!(Cursor::from_iter(a).to_string().matches(',').count(), 2);
    }
}
