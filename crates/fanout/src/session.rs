//! What a sink may do with its connection while its shard calls it.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::connection::{ConnectionId, Phase};
use crate::frame::Frame;
use crate::position::Cursor;
use crate::revoked::Void;
use crate::role::{AccessError, Identity};
use crate::room::Room;
use crate::shard::Shard;
use crate::sink::{Close, GapReason};

/// A connection, to its [`Sink`](crate::Sink), during a call.
///
/// Nothing in here waits: what is sent is written when the call has returned.
pub struct Session<'a> {
    pub(crate) shard: &'a mut Shard,
    pub(crate) key: usize,
    pub(crate) ending: Option<Ending>,
    /// Whether the connection has only just come.
    pub(crate) opening: bool,
}

/// What a sink has asked for during a call.
#[derive(Debug)]
pub(crate) enum Ending {
    Close(Close),
    Finish,
}

/// Why a room was not joined. The connection lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The identity may not.
    #[error("not allowed to join this room")]
    Forbidden,
    /// The connection is in as many as it may be.
    #[error("already in {max} rooms; leave one first")]
    TooMany {
        /// How many that is.
        max: usize,
    },
}

/// Why a room was not left: the identity is in it by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this room comes with the identity and cannot be left")]
pub struct OwnRoom;

/// Why an identity was not taken over. The connection lives on with the one it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// Of somebody else.
    #[error("the token is of another subject")]
    OtherSubject,
    /// It may not connect.
    #[error("the identity may not connect")]
    Access(#[from] AccessError),
    /// It was revoked.
    #[error("the identity was revoked")]
    Revoked,
    /// It is from before a time up to which more was revoked than is remembered.
    #[error("the identity is too old: a new token is needed")]
    Outdated,
}

impl From<Void> for RenewError {
    fn from(void: Void) -> Self {
        match void {
            Void::Revoked => Self::Revoked,
            Void::Outdated => Self::Outdated,
        }
    }
}

/// What a renewed identity has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renewed {
    /// Rooms that came with it.
    pub joined: Vec<Room>,
    /// Rooms that it may not be in any more.
    pub left: Vec<Room>,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("connection", &self.connection()).finish_non_exhaustive()
    }
}

impl Session<'_> {
    /// Names the connection.
    pub fn connection(&self) -> ConnectionId {
        self.shard.id(self.key)
    }

    /// Whom it belongs to.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.shard.connections[self.key].identity
    }

    /// The rooms it is in, those of its identity first.
    pub fn rooms(&self) -> Vec<Room> {
        let memberships = &self.shard.connections[self.key].memberships;
        let (own, asked): (Vec<_>, Vec<_>) = memberships.iter().partition(|m| m.own);
        let name =
            |m: &&crate::members::Membership| Some(self.shard.members.room(m.room)?.name().clone());
        own.iter().chain(&asked).filter_map(name).collect()
    }

    /// What this connection has: what it came back with, or else how far each lane had been
    /// read where it stands. `None` where that is not known, which is only while it is not
    /// [live](Self::is_live).
    pub fn cursor(&mut self) -> Option<Cursor> {
        self.shard.cursor_of(self.key)
    }

    /// Goes on from a cursor, in all rooms that the connection is in by now: what it missed
    /// there comes first. To be called in [`Sink::opened`](crate::Sink::opened), once its
    /// rooms were joined.
    ///
    /// False where that cannot be, because the cursor is none of this log's, or because it is
    /// too late for it; [`Sink::gap`](crate::Sink::gap) is called then. It may be called later
    /// as well, where it turns out that something is missing all the same.
    pub fn resume(&mut self, cursor: &str) -> bool {
        crate::metrics::resume("begun");
        // Before it is opened: what is closed from here on may be named by it.
        let passed = self.shard.shared.log.head();
        let opened = if self.opening { self.shard.shared.lanes.open(cursor).ok() } else { None };
        if let Some(positions) = opened {
            self.shard.resume(self.key, positions, passed);
            return true;
        }
        crate::metrics::resume("reset");
        self.shard.tell_gap_of_all(self.key, GapReason::Reset);
        false
    }

    /// Whether the socket has taken all that the rooms had.
    pub fn is_live(&self) -> bool {
        self.shard.connections[self.key].has_all()
    }

    /// How long nothing was read of the peer.
    pub fn silent_for(&self) -> Duration {
        self.shard.since(self.shard.connections[self.key].heard_at)
    }

    /// The heartbeat interval.
    pub fn heartbeat_interval(&self) -> Duration {
        self.shard.shared.limits.heartbeat
    }

    /// The shard's clock.
    pub fn now(&self) -> Instant {
        self.shard.now
    }

    /// Joins a room: what is published from now on comes. False where the connection is in
    /// it already.
    ///
    /// # Errors
    /// [`JoinError`]; whether the room exists cannot be told from it.
    pub fn join(&mut self, room: &Room) -> Result<bool, JoinError> {
        let connection = &self.shard.connections[self.key];
        if !self.shard.shared.access.may_join(&connection.identity, room) {
            crate::metrics::refused("forbidden");
            return Err(JoinError::Forbidden);
        }
        if connection.phase != Phase::Open || self.shard.membership(self.key, room).is_some() {
            return Ok(false);
        }
        let shared = &self.shard.shared;
        let max = shared.access.max_rooms(&connection.identity, shared.limits.rooms_per_connection);
        if connection.memberships.len() >= max {
            crate::metrics::refused("too_many_rooms");
            return Err(JoinError::TooMany { max });
        }
        // Only now: what is refused leaves no trace.
        let room = shared.rooms.intern(room);
        self.shard.join(self.key, room, false);
        Ok(true)
    }

    /// Leaves a room, with what was pending in it. False where the connection was not
    /// in it.
    ///
    /// # Errors
    /// [`OwnRoom`] where it comes with the identity.
    pub fn leave(&mut self, room: &Room) -> Result<bool, OwnRoom> {
        let Some(at) = self.shard.membership(self.key, room) else { return Ok(false) };
        if self.shard.connections[self.key].memberships[at].own {
            return Err(OwnRoom);
        }
        self.shard.leave(self.key, at);
        Ok(true)
    }

    /// Takes a request from what the connection may ask for
    /// ([`RoleAccess::requests`](crate::RoleAccess::requests)); to be called before one is
    /// acted on.
    ///
    /// # Errors
    /// How long to wait where it has asked too often: the request is to be refused. Asking in
    /// vain costs nothing.
    pub fn take_request(&mut self) -> Result<(), Duration> {
        let now = self.shard.nanos();
        let (shared, connection) = (&self.shard.shared, &mut self.shard.connections[self.key]);
        let rate = shared.access.requests(&connection.identity, shared.limits.requests);
        let taken = rate.take(&mut connection.requests_at, now);
        if taken.is_err() {
            crate::metrics::refused("rate");
        }
        taken
    }

    /// Takes over a new identity of the same subject, without roles that were taken away:
    /// joins the rooms newly due, leaves those no longer allowed.
    ///
    /// # Errors
    /// [`RenewError`]; nothing has changed.
    pub fn renew(&mut self, identity: Identity) -> Result<Renewed, RenewError> {
        self.shard.renew(self.key, identity)
    }

    /// Sends a frame that is no emission: it is written between frames and may
    /// overtake events. The sink stops reading while [`congested`](Self::congested),
    /// or the connection is closed for what it makes the server queue.
    pub fn send(&mut self, frame: impl Into<Frame>) {
        let frame: Frame = frame.into();
        self.shard.connections[self.key].push_control(frame.as_bytes().clone());
    }

    /// Whether so much waits to be written that nothing more should be read.
    pub fn congested(&self) -> bool {
        let limits = &self.shard.shared.limits;
        self.shard.connections[self.key].control_bytes() > limits.control_bytes / 4
    }

    /// Whether it is being closed: what the peer asks for is of no consequence now.
    pub fn is_closing(&self) -> bool {
        self.ending.is_some() || self.shard.connections[self.key].phase != Phase::Open
    }

    /// Closes the connection once the call has returned. The first reason counts.
    pub fn close(&mut self, close: Close) {
        self.ending.get_or_insert(Ending::Close(close));
    }

    /// Drops the connection once all that was sent is written: the peer has said
    /// goodbye and was answered.
    pub fn finish(&mut self) {
        self.ending.get_or_insert(Ending::Finish);
    }

    /// Wakes this connection: [`Sink::try_read`](crate::Sink::try_read) is called, and what is pending
    /// is written.
    pub fn waker(&mut self) -> Waker {
        self.shard.waker(self.key)
    }
}
