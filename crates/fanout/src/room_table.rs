//! Rooms as small numbers.
//!
//! A room has a number while anybody is in it or anything in the log is for it. The
//! last reference gives the number back, so that a node which has seen a billion
//! rooms remembers those of now.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use dashmap::{DashMap, Entry};

use crate::overflow::{RuleId, Rules};
use crate::room::Room;
use crate::sync::{AtomicU64, Ordering};

/// A room's number in one hub. Dense: numbers of rooms that are gone come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RoomId(pub(crate) u32);

/// From names to numbers. Cloning gives the same table.
#[derive(Clone, Debug)]
pub(crate) struct RoomTable(Arc<Table>);

#[derive(Debug)]
struct Table {
    /// What happens to who is too far behind in which room.
    rules: Rules,
    rooms: DashMap<ByName, ()>,
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    free: Vec<u32>,
    next: u32,
}

#[derive(Debug)]
struct Numbered {
    id: RoomId,
    name: Room,
    rule: RuleId,
    /// References outside of the table. Not the `Arc`'s count: the last one must be
    /// told from the last but one while others come and go.
    refs: AtomicU32,
    /// The shards that have members, one bit each.
    wanted: AtomicU64,
    table: Arc<Table>,
}

/// Found by its name, which is kept once.
#[derive(Debug)]
struct ByName(Arc<Numbered>);

impl ByName {
    fn refer(&self) -> RoomRef {
        self.0.refs.fetch_add(1, Ordering::Relaxed);
        RoomRef(self.0.clone())
    }
}

impl Table {
    fn take_number(&self) -> RoomId {
        let mut numbers = self.numbers.lock().expect("no panic under this lock");
        RoomId(numbers.free.pop().unwrap_or_else(|| {
            numbers.next += 1;
            numbers.next - 1
        }))
    }

    fn give_number(&self, id: RoomId) {
        self.numbers.lock().expect("no panic under this lock").free.push(id.0);
    }
}

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        self.0.name.as_str()
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.as_str().hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

/// A room that has a number for as long as this lives.
#[derive(Debug)]
pub(crate) struct RoomRef(Arc<Numbered>);

impl RoomTable {
    pub(crate) fn new(rules: Rules) -> Self {
        let (rooms, numbers) = (DashMap::new(), Mutex::default());
        Self(Arc::new(Table { rules, rooms, numbers }))
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.0.rules
    }

    /// The room of this name; numbers it where it is new.
    pub(crate) fn intern(&self, room: &Room) -> RoomRef {
        // Every arm counts the reference under the map's lock: `Drop` removes a room
        // under the same lock only when it finds the count at zero.
        if let Some(known) = self.0.rooms.get(room.as_str()) {
            return known.key().refer();
        }
        let id = self.0.take_number();
        let rule = self.0.rules.of(room);
        let new = ByName(Arc::new(Numbered {
            id,
            name: room.clone(),
            rule,
            refs: AtomicU32::new(0),
            wanted: AtomicU64::new(0),
            table: self.0.clone(),
        }));
        let known = match self.0.rooms.entry(new) {
            Entry::Vacant(vacant) => {
                let room = vacant.key().refer();
                vacant.insert(());
                return room;
            }
            Entry::Occupied(occupied) => occupied.key().refer(),
        };
        // Somebody else was first.
        self.0.give_number(id);
        known
    }

    /// How many rooms have a number.
    pub(crate) fn len(&self) -> usize {
        self.0.rooms.len()
    }
}

impl RoomRef {
    pub(crate) fn id(&self) -> RoomId {
        self.0.id
    }

    pub(crate) fn name(&self) -> &Room {
        &self.0.name
    }

    /// What happens to who is too far behind here.
    pub(crate) fn rule(&self) -> RuleId {
        self.0.rule
    }

    /// Sets whether `shard` has members here.
    ///
    /// Who sets the bit must read the log's head afterwards; who publishes stores the
    /// head and reads the bits afterwards. Whatever the order, one of the two sees
    /// the other: no emission waits for a wake-up that nobody sends.
    pub(crate) fn want(&self, shard: usize, wanted: bool) {
        let bit = 1 << shard;
        if wanted {
            self.0.wanted.fetch_or(bit, Ordering::SeqCst);
        } else {
            self.0.wanted.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// The shards that have members, one bit each.
    pub(crate) fn wanted(&self) -> u64 {
        self.0.wanted.load(Ordering::SeqCst)
    }
}

impl Clone for RoomRef {
    fn clone(&self) -> Self {
        self.0.refs.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl Drop for RoomRef {
    fn drop(&mut self) {
        if self.0.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let table = &self.0.table;
        // Somebody may have interned the name again since, or have dropped it as well
        // and be here too: only who finds this very room with no reference removes it.
        let gone = table.rooms.remove_if(self.0.name.as_str(), |room, ()| {
            Arc::ptr_eq(&room.0, &self.0) && self.0.refs.load(Ordering::Acquire) == 0
        });
        if gone.is_some() {
            table.give_number(self.0.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overflow::Overflow;

    fn room(n: usize) -> Room {
        Room::new(format!("room:{n}")).unwrap()
    }

    #[test]
    fn numbers_come_again() {
        let table = RoomTable::new(Rules::new(Overflow::default(), &[]));
        let (a, b) = (table.intern(&room(0)), table.intern(&room(1)));
        assert_eq!((a.id(), b.id()), (RoomId(0), RoomId(1)));
        assert_eq!(table.intern(&room(0)).id(), a.id());
        let kept = a.clone();
        drop(a);
        assert_eq!(table.len(), 2);
        drop(kept);
        assert_eq!(table.len(), 1);
        assert_eq!(table.intern(&room(2)).id(), RoomId(0));
    }

    #[test]
    fn threads_that_come_and_go_leave_nothing_and_share_a_number() {
        let table = RoomTable::new(Rules::new(Overflow::default(), &[]));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..5_000 {
                        let (a, b) = (table.intern(&room(i % 3)), table.intern(&room(i % 3)));
                        assert_eq!(a.id(), b.id());
                        assert!(a.id().0 < 12, "numbers are used again");
                    }
                });
            }
        });
        assert_eq!(table.len(), 0);
        let numbers = table.0.numbers.lock().unwrap();
        assert_eq!(numbers.free.len() as u32, numbers.next);
    }
}
