//! Which rooms a connection is in, and how that changes while it lives.

use std::sync::Arc;

use crate::connection::{Flow, Phase};
use crate::members::Membership;
use crate::position::Position;
use crate::role::{AccessError, Identity};
use crate::room::Room;
use crate::room_table::RoomRef;
use crate::session::{RenewError, Renewed};
use crate::shard::Shard;

impl Shard {
    /// Puts a connection into a room, from the log's end on: what its shard has not walked
    /// yet was published before.
    pub(crate) fn join(&mut self, key: usize, room: RoomRef, own: bool) {
        let id = room.id();
        let since = if self.resume_of(key).is_some() {
            let (tail, frontier) = self.shared.log.tail();
            let begin = frontier.iter().map(|(lane, next)| (lane, Position::before(next)));
            let begin = begin.collect();
            self.resume_of(key).expect("looked at above").begins(id, begin);
            tail.seq()
        } else {
            self.shared.log.end()
        };
        self.members.join(&mut self.connections, key, room, since, own);
        if since > self.place.seq() {
            // Until the shard is there it reads on by itself, by the memberships' places.
            let behind = self.behind(key);
            behind.until = behind.until.max(since);
            self.follow(key);
        }
    }

    /// Which of a connection's memberships is in this room.
    pub(crate) fn membership(&self, key: usize, room: &Room) -> Option<usize> {
        let name = |membership: &Membership| self.members.room(membership.room).map(RoomRef::name);
        self.connections[key].memberships.iter().position(|m| name(m) == Some(room))
    }

    pub(crate) fn leave(&mut self, key: usize, at: usize) {
        self.members.leave(&mut self.connections, key, at);
        if let Flow::Behind(behind) = &mut self.connections[key].flow {
            behind.inexact = true;
        }
    }

    fn pretend_pending(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        let strictest = connection.memberships.iter().map(|m| m.rule).min();
        if let (Flow::Behind(behind), Some(rule)) = (&mut connection.flow, strictest) {
            behind.lags.add(rule, 1);
        }
    }

    pub(crate) fn renew(&mut self, key: usize, identity: Identity) -> Result<Renewed, RenewError> {
        let connection = &self.connections[key];
        if connection.identity.subject != identity.subject {
            return Err(RenewError::OtherSubject);
        }
        let identity = self.shared.unrevoked(identity, self.wall)?;
        if connection.phase != Phase::Open {
            return Ok(Renewed::default());
        }
        Ok(self.take_over(key, identity)?)
    }

    /// Gives a connection another identity of its subject: its rooms, its view.
    ///
    /// # Errors
    /// Where it may not connect; nothing has changed.
    pub(crate) fn take_over(
        &mut self,
        key: usize,
        identity: Identity,
    ) -> Result<Renewed, AccessError> {
        let rights = self.shared.access.rights(&identity)?;
        let mut renewed = Renewed::default();
        let mut at = 0;
        while let Some(membership) = self.connections[key].memberships.get(at).copied() {
            let room = self.members.room(membership.room).map(|room| room.name().clone());
            let room = room.expect("a membership's room has members");
            let own = rights.rooms.contains(&room);
            if own || self.shared.access.may_join(&identity, &room) {
                self.connections[key].memberships[at].own = own;
                at += 1;
            } else {
                self.leave(key, at);
                renewed.left.push(room);
            }
        }
        for room in rights.rooms {
            let known = self.shared.rooms.intern(&room);
            if !self.connections[key].memberships.iter().any(|m| m.room == known.id()) {
                self.join(key, known, true);
                renewed.joined.push(room);
            }
        }
        let connection = &mut self.connections[key];
        connection.identity = Arc::new(identity);
        if connection.view != rights.view_id {
            connection.view = rights.view_id;
            if let Flow::Behind(behind) = &mut connection.flow {
                // What is pending has other sizes now, and may be nothing no more.
                behind.inexact = true;
            }
            if self.recount(key).is_err() {
                // The log has moved on. Something must be pending, so that the next sweep
                // sees to it.
                self.pretend_pending(key);
            }
        }
        Ok(renewed)
    }
}
