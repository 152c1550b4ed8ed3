//! Lanes as small numbers, for one hub.

use std::sync::{Arc, RwLock};

use rustc_hash::FxHashMap;

use crate::position::{At, Cursor, Frontier, Lane, LaneId, LaneToken, Position};

/// From lanes to numbers, and to what names them on the wire. Grows by the
/// partitions that a source has, and by nothing that a client says.
#[derive(Debug, Default)]
pub(crate) struct Lanes(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    numbers: FxHashMap<Arc<Lane>, LaneId>,
    tokens: Vec<LaneToken>,
}

impl Lanes {
    /// The number of a lane, and its token.
    pub(crate) fn intern(&self, lane: &Arc<Lane>) -> (LaneId, LaneToken) {
        let known = self.0.read().expect("no panic under this lock");
        if let Some(id) = known.numbers.get(lane) {
            return (*id, known.tokens[id.0 as usize]);
        }
        drop(known);
        let mut known = self.0.write().expect("no panic under this lock");
        let next = LaneId(known.tokens.len() as u32);
        let id = *known.numbers.entry(lane.clone()).or_insert(next);
        if id == next {
            known.tokens.push(lane.token());
        }
        (id, known.tokens[id.0 as usize])
    }

    /// A frontier as clients get it.
    pub(crate) fn cursor(&self, frontier: &Frontier) -> Cursor {
        let known = self.0.read().expect("no panic under this lock");
        let place = |(lane, next): (LaneId, u64)| At {
            lane: known.tokens[lane.0 as usize],
            position: Position::before(next),
        };
        frontier.iter().map(place).collect()
    }
}
