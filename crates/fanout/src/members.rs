//! Who is in which room, in one shard.
//!
//! A room's members are a dense vector and a connection's memberships are one too,
//! each with the other's index: delivering walks memory in order, and joining,
//! leaving and disconnecting cost the same however large the room is.

use slab::Slab;
use smallvec::SmallVec;

use crate::connection::Connection;
use crate::log::Seq;
use crate::overflow::RuleId;
use crate::room_table::{RoomId, RoomRef};

/// The rooms that a shard has members of.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// From a room's number to its index in `rooms`; [`NOBODY`] where it has none.
    index: Vec<u32>,
    rooms: Slab<LocalRoom>,
    shard: usize,
}

const NOBODY: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct LocalRoom {
    room: RoomRef,
    /// One or two lie in here: most rooms have no more.
    members: SmallVec<[Member; 2]>,
    /// Which audience it was in the last walk that met it; see `walk.rs`.
    pub(crate) audience: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) connection: u32,
    /// Its index in the connection's memberships.
    membership: u32,
}

/// A connection's place in a room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membership {
    pub(crate) room: RoomId,
    /// Whether it comes with the identity and cannot be left.
    pub(crate) own: bool,
    /// Whether something of it was dropped and that was not told yet.
    pub(crate) gap: bool,
    /// What happens to who is too far behind in it.
    pub(crate) rule: RuleId,
    /// Its index in the room's members.
    member: u32,
    /// From which entry on.
    pub(crate) since: Seq,
}

pub(crate) type Memberships = SmallVec<[Membership; 2]>;

/// That a connection gets an entry, by at least one of its memberships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The strictest rule among them.
    pub(crate) rule: RuleId,
    /// Since when the oldest of them holds.
    pub(crate) since: Seq,
}

/// Whether who has these memberships gets what stands at `seq` for `rooms`.
pub(crate) fn claim(memberships: &[Membership], rooms: &[RoomRef], seq: Seq) -> Option<Claim> {
    claim_where(memberships, rooms, |membership| membership.since <= seq)
}

/// Whether who has these memberships gets something for `rooms`, by those that `counts`
/// says had begun.
pub(crate) fn claim_where(
    memberships: &[Membership],
    rooms: &[RoomRef],
    counts: impl Fn(&Membership) -> bool,
) -> Option<Claim> {
    let mut claim: Option<Claim> = None;
    for room in rooms {
        for membership in memberships {
            if membership.room == room.id() && counts(membership) {
                let Membership { rule, since, .. } = *membership;
                claim = Some(claim.map_or(Claim { rule, since }, |other| Claim {
                    rule: other.rule.min(rule),
                    since: other.since.min(since),
                }));
            }
        }
    }
    claim
}

impl Members {
    pub(crate) fn new(shard: usize) -> Self {
        Self { index: Vec::new(), rooms: Slab::new(), shard }
    }

    /// The index of a room that has members here.
    #[inline]
    pub(crate) fn find(&self, room: RoomId) -> Option<u32> {
        self.index.get(room.0 as usize).copied().filter(|index| *index != NOBODY)
    }

    #[inline]
    pub(crate) fn room_mut(&mut self, index: u32) -> &mut LocalRoom {
        &mut self.rooms[index as usize]
    }

    #[inline]
    pub(crate) fn of(&self, index: u32) -> &[Member] {
        &self.rooms[index as usize].members
    }

    /// The name of a room that has members here.
    pub(crate) fn room(&self, room: RoomId) -> Option<&RoomRef> {
        Some(&self.rooms[self.find(room)? as usize].room)
    }

    /// How many rooms have members here.
    pub(crate) fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Puts a connection that is not in `room` into it.
    pub(crate) fn join(
        &mut self,
        connections: &mut Slab<Connection>,
        key: usize,
        room: RoomRef,
        since: Seq,
        own: bool,
    ) {
        let (id, rule) = (room.id(), room.rule());
        let index = self.find(id).unwrap_or_else(|| {
            room.want(self.shard, true);
            let index =
                self.rooms.insert(LocalRoom { room, members: SmallVec::new(), audience: 0 });
            if self.index.len() <= id.0 as usize {
                self.index.resize(id.0 as usize + 1, NOBODY);
            }
            self.index[id.0 as usize] = index as u32;
            index as u32
        });
        let members = &mut self.rooms[index as usize].members;
        let memberships = &mut connections[key].memberships;
        let member = members.len() as u32;
        members.push(Member { connection: key as u32, membership: memberships.len() as u32 });
        memberships.push(Membership { room: id, own, gap: false, rule, member, since });
    }

    /// Takes a connection out of the room of its `at`th membership.
    pub(crate) fn leave(&mut self, connections: &mut Slab<Connection>, key: usize, at: usize) {
        let memberships = &mut connections[key].memberships;
        let left = memberships.swap_remove(at);
        if let Some(moved) = memberships.get(at) {
            let index = self.find(moved.room).expect("a membership's room has members");
            self.rooms[index as usize].members[moved.member as usize].membership = at as u32;
        }
        let index = self.find(left.room).expect("a membership's room has members");
        let members = &mut self.rooms[index as usize].members;
        members.swap_remove(left.member as usize);
        if let Some(moved) = members.get(left.member as usize) {
            let back = &mut connections[moved.connection as usize].memberships;
            back[moved.membership as usize].member = left.member;
        }
        if members.is_empty() {
            let gone = self.rooms.remove(index as usize);
            gone.room.want(self.shard, false);
            self.index[left.room.0 as usize] = NOBODY;
        } else if members.capacity() > 64 && members.len() < members.capacity() / 4 {
            // What a crowd has taken is given back when it has gone.
            members.shrink_to_fit();
        }
    }

    /// Takes a connection out of all its rooms.
    pub(crate) fn leave_all(&mut self, connections: &mut Slab<Connection>, key: usize) {
        while let Some(last) = connections[key].memberships.len().checked_sub(1) {
            self.leave(connections, key, last);
        }
    }
}
