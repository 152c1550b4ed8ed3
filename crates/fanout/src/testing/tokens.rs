//! A node's tokens without the node.

use std::sync::Arc;

use crate::keys::Keyring;
use crate::lanes::Lanes;
use crate::position::{Lane, LaneId, Position};

/// Seals and opens tokens as a hub with these keys and lanes does. For fuzzing: the places
/// inside of a token are nobody's business else.
#[doc(hidden)]
#[derive(Debug)]
pub struct Tokens(Lanes);

/// A lane, an offset, an emission.
#[doc(hidden)]
pub type TokenPlace = (Lane, u64, u32);

impl Tokens {
    /// Knows these lanes.
    pub fn new(keys: Keyring, lanes: impl IntoIterator<Item = Lane>) -> Self {
        let known = Lanes::new(keys);
        for lane in lanes {
            known.intern(&Arc::new(lane));
        }
        Self(known)
    }

    /// What is in a text that a client came back with, where it can be read.
    pub fn open(&self, text: &str) -> Option<Vec<TokenPlace>> {
        let place = |(id, position): (_, Position)| {
            let known = self.0.get(id).expect("what opens is of a lane that is known");
            (Lane::clone(&known.lane), position.offset, position.emission)
        };
        Some(self.0.open(text).ok()?.into_iter().map(place).collect())
    }

    /// The `at` of a place.
    pub fn at(&self, (lane, offset, emission): TokenPlace) -> String {
        self.0.intern(&Arc::new(lane)).at(Position { offset, emission }).to_string()
    }

    /// A whole cursor.
    pub fn seal(&self, places: impl IntoIterator<Item = TokenPlace>) -> String {
        self.0.seal(self.numbered(places)).expect("just made known").to_string()
    }

    /// What stands behind the seal of a whole cursor.
    pub fn unsealed(&self, places: impl IntoIterator<Item = TokenPlace>) -> Vec<u8> {
        self.0.unsealed(self.numbered(places)).expect("just made known")
    }

    /// Any bytes, sealed as if they were a whole cursor: what a node of another version
    /// might say.
    pub fn seal_bytes(&self, bytes: &[u8]) -> String {
        self.0.seal_bytes(bytes.to_vec())
    }

    fn numbered(&self, places: impl IntoIterator<Item = TokenPlace>) -> Vec<(LaneId, Position)> {
        let place = |(lane, offset, emission)| {
            (self.0.intern(&Arc::new(lane)).id, Position { offset, emission })
        };
        places.into_iter().map(place).collect()
    }
}
