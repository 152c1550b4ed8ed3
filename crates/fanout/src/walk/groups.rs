//! Which connections get the same entries.
//!
//! Entries for the same rooms form an audience; each audience splits the groups met so far
//! into who is in it and who is not. See the picture in `walk.rs`.

use smallvec::SmallVec;

use super::{Audience, Group, Item, NONE, Walk};
use crate::connection::Connection;
use crate::log::Batch;
use crate::members::Members;

impl Walk {
    /// Adds an entry to the audience of its rooms; false where they have no members.
    pub(super) fn add(&mut self, members: &mut Members, batch: &Batch, entry: usize) -> bool {
        let rooms = &batch.entries[entry].rooms;
        let audience = if let [room] = &rooms[..] {
            let Some(room) = members.find(room.id()) else { return false };
            // What a room remembers of a walk before is some other's audience, or none.
            let known = &mut members.room_mut(room).audience;
            if self.audiences.get(*known as usize).is_none_or(|a| a.rooms[..] != [room]) {
                *known = self.audiences.len() as u32;
                self.audience(SmallVec::from_elem(room, 1))
            } else {
                *known
            }
        } else {
            let here: SmallVec<[u32; 1]> =
                rooms.iter().filter_map(|room| members.find(room.id())).collect();
            match self.audiences.last() {
                _ if here.is_empty() => return false,
                Some(last) if last.rooms == here => self.audiences.len() as u32 - 1,
                _ => self.audience(here),
            }
        };
        let item = self.items.len() as u32;
        self.items.push(Item { batch: self.batches.len() as u32, entry: entry as u32, next: NONE });
        let audience = &mut self.audiences[audience as usize];
        if audience.first == NONE {
            audience.first = item;
        } else {
            self.items[audience.last as usize].next = item;
        }
        audience.last = item;
        true
    }

    pub(super) fn audience(&mut self, rooms: SmallVec<[u32; 1]>) -> u32 {
        self.audiences.push(Audience { rooms, first: NONE, last: NONE });
        self.audiences.len() as u32 - 1
    }

    pub(super) fn group(&mut self, parent: u32, audience: u32) -> u32 {
        let payloads = SmallVec::new();
        self.groups.push(Group { parent, audience, members: 0, child: (NONE, NONE), payloads });
        self.groups.len() as u32 - 1
    }

    /// The room whose members all get the same, where there is one.
    pub(super) fn single_room(&self) -> Option<u32> {
        match &self.audiences[..] {
            [only] if only.rooms.len() == 1 => Some(only.rooms[0]),
            _ => None,
        }
    }

    /// Splits the connections into groups, audience by audience.
    pub(super) fn refine(&mut self, members: &Members, connections: &mut slab::Slab<Connection>) {
        let nobody = self.group(NONE, NONE);
        for audience in 0..self.audiences.len() as u32 {
            for at in 0..self.audiences[audience as usize].rooms.len() {
                for member in members.of(self.audiences[audience as usize].rooms[at]) {
                    let connection = &mut connections[member.connection as usize];
                    if connection.walk_epoch != self.epoch {
                        connection.walk_epoch = self.epoch;
                        connection.walk_group = nobody;
                        self.touched.push(member.connection);
                    }
                    let from = connection.walk_group;
                    if self.groups[from as usize].audience == audience {
                        // In two rooms of one emission: it gets it once.
                        continue;
                    }
                    let (by, mut to) = self.groups[from as usize].child;
                    if by != audience {
                        to = self.group(from, audience);
                        self.groups[from as usize].child = (audience, to);
                    }
                    self.groups[from as usize].members =
                        self.groups[from as usize].members.saturating_sub(1);
                    self.groups[to as usize].members += 1;
                    connection.walk_group = to;
                }
            }
        }
    }

    /// The items of a group, in the log's order.
    pub(super) fn items_of(&self, group: u32) -> SmallVec<[u32; 16]> {
        let mut items = SmallVec::new();
        let (mut at, mut audiences) = (group, 0);
        while at != NONE && self.groups[at as usize].audience != NONE {
            let group = &self.groups[at as usize];
            let mut item = self.audiences[group.audience as usize].first;
            while item != NONE {
                items.push(item);
                item = self.items[item as usize].next;
            }
            (at, audiences) = (group.parent, audiences + 1);
        }
        if audiences > 1 {
            items.sort_unstable();
        }
        items
    }
}
