//! Lanes as small numbers, and what stands for their places on the wire.
//!
//! Tokens come back from clients, who may send anything. So a text is read in time and
//! memory that its length bounds, what does not open is refused whole, and what opens is
//! of a lane known here. A text that opens was made by a node that has the key, which is
//! all that a token vouches for: what its holder may see is asked elsewhere.
//!
//! A lane that is closed loses its name at once, so that a token of it is one of a lane that
//! is not known. Its number and its keys stay until nobody has a place in it any more
//! (`log/lanes.rs`), then nothing of it is left. Should a source hand it on again, it is
//! another lane, of the same name.

mod whole;

#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::sync::{Arc, RwLock};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::keys::{self, Key, Keyring, LaneKey, LaneName, TopicTag};
use crate::position::{At, Cursor, Lane, LaneId, LaneMap, Position};
use whole::Place;

/// Most bytes of what a client may send as its cursor.
///
/// A whole cursor of 1,019 lanes of one topic is as long, at offsets below 2^35; each
/// further topic costs as much as one or two lanes. As `at`s, 264 lanes fit, and no whole
/// cursor beside them.
pub(crate) const MAX_CURSOR_BYTES: usize = 8192;

/// From lanes to numbers, and to what names them on the wire. As large as what the source
/// has and what the log has of lanes that are closed; by nothing that a client says.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// The first seals.
    keys: Box<[Key]>,
    known: RwLock<Known>,
}

#[derive(Debug)]
struct Known {
    lanes: LaneMap<Arc<KnownLane>>,
    /// The number of the next one.
    next: u32,
    /// Without those that are closed.
    numbers: FxHashMap<Arc<Lane>, LaneId>,
    /// By key.
    named: Box<[Named]>,
}

/// The lanes by what one key calls them.
#[derive(Clone, Debug, Default)]
struct Named {
    /// Two lanes may have one name. The block tells them apart: each has a key of its own.
    by_name: FxHashMap<LaneName, SmallVec<[LaneId; 1]>>,
    by_topic: FxHashMap<(TopicTag, u32), LaneId>,
}

/// A lane with its number, and what makes and reads its tokens.
#[derive(Debug)]
pub(crate) struct KnownLane {
    pub(crate) id: LaneId,
    pub(crate) lane: Arc<Lane>,
    /// By key.
    keyed: Box<[KeyedLane]>,
}

#[derive(Clone, Debug)]
struct KeyedLane {
    topic: TopicTag,
    key: LaneKey,
}

/// Why a cursor was not read. Another try with the same text cannot help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CursorError {
    /// Nothing of it was looked at.
    #[error("cursor has more than {MAX_CURSOR_BYTES} bytes")]
    TooLong,
    /// Cut, changed, made up, or of a key that is not accepted here.
    #[error("cursor cannot be read")]
    Unreadable,
    /// Of a lane that this node does not read. A whole cursor is then genuine; an `at` may
    /// be, since what it could be checked with is the lane's.
    #[error("cursor names a lane that is not known here")]
    UnknownLane,
}

impl KnownLane {
    /// The text of a place in it. One AES block, no lock, no allocation.
    pub(crate) fn at(&self, position: Position) -> At {
        self.keyed[0].key.seal(position)
    }
}

impl Lanes {
    pub(crate) fn new(keys: Keyring) -> Self {
        let keys = keys.into_keys();
        let named = vec![Named::default(); keys.len()].into();
        let (lanes, numbers) = (LaneMap::default(), FxHashMap::default());
        let known = Known { lanes, next: 0, numbers, named };
        Self { keys, known: RwLock::new(known) }
    }

    /// A lane with its number; the same number for the same lane, until it is closed.
    ///
    /// # Panics
    /// At the 2^32nd.
    pub(crate) fn intern(&self, lane: &Arc<Lane>) -> Arc<KnownLane> {
        if let Some(known) = self.find(lane) {
            return known;
        }
        // Keys take their time: derived before anybody is kept waiting.
        let keyed = |key: &Key| KeyedLane { topic: key.topic(lane), key: key.lane(lane) };
        let keyed: Box<[KeyedLane]> = self.keys.iter().map(keyed).collect();
        self.known.write().expect("no panic under this lock").insert(lane, keyed)
    }

    /// A lane with its number, where it has one.
    pub(crate) fn find(&self, lane: &Lane) -> Option<Arc<KnownLane>> {
        let known = self.known.read().expect("no panic under this lock");
        known.get(*known.numbers.get(lane)?).cloned()
    }

    /// The lane of a number; `None` where it was closed and is forgotten.
    pub(crate) fn get(&self, id: LaneId) -> Option<Arc<KnownLane>> {
        self.known.read().expect("no panic under this lock").get(id).cloned()
    }

    /// A lane has no name any more: no token of it can be opened. Its number, where it had
    /// one; what has that still knows the lane, until it is [forgotten](Self::forget).
    pub(crate) fn close(&self, lane: &Lane) -> Option<LaneId> {
        self.known.write().expect("no panic under this lock").close(lane)
    }

    /// Nobody has a place in a closed lane any more.
    pub(crate) fn forget(&self, id: LaneId) {
        self.known.write().expect("no panic under this lock").lanes.remove(id);
    }

    /// How many are known: open, or closed and not forgotten.
    pub(crate) fn len(&self) -> usize {
        self.known.read().expect("no panic under this lock").lanes.len()
    }

    /// A whole cursor: the same places, in any order, are the same text on every node
    /// that seals with the same key. Of a lane that comes twice the later place counts.
    /// `None` where a lane was closed and is forgotten.
    ///
    /// Three lanes of one topic, with offsets below 2^35, are 60 characters:
    ///
    /// ```text
    /// kBtOzFy1D6EPIQU3rodO4D0rjuGt_uYTSmea0BRbG-yLrUETmQcGnilkE-Y0
    /// ```
    pub(crate) fn seal(
        &self,
        places: impl IntoIterator<Item = (LaneId, Position)>,
    ) -> Option<Cursor> {
        Some(Cursor(self.keys[0].seal(self.whole(places)?).into()))
    }

    /// What a whole cursor says.
    fn whole(&self, places: impl IntoIterator<Item = (LaneId, Position)>) -> Option<Vec<u8>> {
        let mut whole: Vec<Place> = {
            let known = self.known.read().expect("no panic under this lock");
            let place = |(id, position): (LaneId, Position)| {
                let lane = known.get(id)?;
                let (topic, partition) = (lane.keyed[0].topic, lane.lane.partition);
                Some(Place { topic, partition, position })
            };
            places.into_iter().map(place).collect::<Option<_>>()?
        };
        whole.sort_unstable();
        whole.dedup_by(|later, kept| {
            let same = (later.topic, later.partition) == (kept.topic, kept.partition);
            if same {
                kept.position = later.position;
            }
            same
        });
        Some(whole::encode(&whole))
    }

    /// What stands behind the seal of a whole cursor.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn unsealed(&self, places: Vec<(LaneId, Position)>) -> Option<Vec<u8>> {
        self.whole(places)
    }

    /// Any bytes as if they were a whole cursor.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn seal_bytes(&self, whole: Vec<u8>) -> String {
        self.keys[0].seal(whole)
    }

    /// Reads what a client came back with: whole cursors and `at`s in any order, with
    /// commas between. The latest place of each lane, by number, each once.
    pub(crate) fn open(&self, text: &str) -> Result<Vec<(LaneId, Position)>, CursorError> {
        if text.len() > MAX_CURSOR_BYTES {
            return Err(CursorError::TooLong);
        }
        let mut places = Vec::new();
        let known = self.known.read().expect("no panic under this lock");
        for token in text.split(',') {
            let (n, key) = self.key_of(token).ok_or(CursorError::Unreadable)?;
            if token.as_bytes().get(7) == Some(&b'.') {
                places.push(known.at(n, token)?);
            } else {
                let whole = key.open(&token[1..]).as_deref().and_then(whole::decode);
                for place in whole.ok_or(CursorError::Unreadable)? {
                    places.push((known.find(n, &place)?, place.position));
                }
            }
        }
        drop(known);
        // The latest of each lane first, and kept.
        places.sort_unstable_by(|(a, at), (b, other)| a.cmp(b).then(other.cmp(at)));
        places.dedup_by_key(|(lane, _)| *lane);
        Ok(places)
    }

    /// The key that a token says to be of, and which that is.
    fn key_of(&self, token: &str) -> Option<(usize, &Key)> {
        let id = token.as_bytes().first()?;
        self.keys.iter().enumerate().find(|(_, key)| key.id == *id)
    }
}

impl Known {
    fn insert(&mut self, lane: &Arc<Lane>, keyed: Box<[KeyedLane]>) -> Arc<KnownLane> {
        if let Some(known) = self.numbers.get(lane).and_then(|id| self.get(*id)) {
            return known.clone();
        }
        let id = LaneId(self.next);
        self.next = self.next.checked_add(1).expect("a lane a second lasts for 136 years");
        for (named, keyed) in self.named.iter_mut().zip(&keyed) {
            named.by_name.entry(keyed.key.name()).or_default().push(id);
            // Two topics with one tag are not to be expected before there are 2^32 of them.
            named.by_topic.entry((keyed.topic, lane.partition)).or_insert(id);
        }
        let known = Arc::new(KnownLane { id, lane: lane.clone(), keyed });
        self.lanes.get_or_insert_with(id, || known.clone());
        self.numbers.insert(lane.clone(), id);
        known
    }

    fn get(&self, id: LaneId) -> Option<&Arc<KnownLane>> {
        self.lanes.get(id)
    }

    fn close(&mut self, lane: &Lane) -> Option<LaneId> {
        let id = self.numbers.remove(lane)?;
        let keyed = &self.lanes.get(id).expect("forgotten only once it is closed").keyed;
        for (named, keyed) in self.named.iter_mut().zip(keyed) {
            if let Entry::Occupied(mut ids) = named.by_name.entry(keyed.key.name()) {
                ids.get_mut().retain(|other| *other != id);
                if ids.get().is_empty() {
                    ids.remove();
                }
            }
            let topic = (keyed.topic, lane.partition);
            if named.by_topic.get(&topic) == Some(&id) {
                named.by_topic.remove(&topic);
            }
        }
        Some(id)
    }

    /// The place that an `at` of the key numbered `n` is of.
    fn at(&self, n: usize, token: &str) -> Result<(LaneId, Position), CursorError> {
        let unreadable = CursorError::Unreadable;
        let name: LaneName = token.as_bytes()[1..7].try_into().expect("there is a dot behind it");
        let block = token.get(8..).and_then(keys::block).ok_or(unreadable)?;
        let lanes = self.named[n].by_name.get(&name).ok_or(CursorError::UnknownLane)?;
        let open = |id: &LaneId| {
            let position = self.get(*id)?.keyed[n].key.open(block)?;
            Some((*id, position))
        };
        lanes.iter().find_map(open).ok_or(unreadable)
    }

    /// The lane of a place in a whole cursor of the key numbered `n`.
    fn find(&self, n: usize, place: &Place) -> Result<LaneId, CursorError> {
        let lane = self.named[n].by_topic.get(&(place.topic, place.partition));
        lane.copied().ok_or(CursorError::UnknownLane)
    }
}
