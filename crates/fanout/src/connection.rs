//! A connection is live or behind, and that is all there is.
//!
//! ```text
//!            the sink did not take all
//!       +-------------------------------+
//!       |                               v
//!     Live                            Behind
//!       ^                               |
//!       +-------------------------------+
//!        everything up to the shard's place was taken
//! ```
//!
//! Invariant: a live connection has nothing left to be written, neither of a frame
//! nor in its control queue. Its place is its shard's.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;

use crate::frame::{Entry, ProtocolRef};
use crate::log::{Place, Seq};
use crate::members::{Claim, Membership, Memberships, claim};
use crate::overflow::Lags;
use crate::resume::{Resume, Stage};
use crate::role::{Identity, ViewId};
use crate::sink::{GapReason, Sink, Token};

/// Names one connection, among those of all hubs of all nodes.
///
/// ```
/// # use fanout::ConnectionId;
/// let id: ConnectionId = "00c0ffee00c0ffee-1-2a-7".parse()?;
/// assert_eq!(id.to_string(), "00c0ffee00c0ffee-1-2a-7");
/// # Ok::<(), fanout::NotConnectionId>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The hub's own random number.
    pub(crate) hub: u64,
    pub(crate) shard: u8,
    pub(crate) key: u32,
    /// Slots are used again; this tells their tenants apart.
    pub(crate) generation: u32,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hub, shard, key, generation } = self;
        write!(f, "{hub:016x}-{shard:x}-{key:x}-{generation:x}")
    }
}

/// That a text is not the name of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a connection")]
pub struct NotConnectionId;

impl FromStr for ConnectionId {
    type Err = NotConnectionId;

    /// Takes what `Display` gives, and nothing else.
    fn from_str(text: &str) -> Result<Self, NotConnectionId> {
        let mut parts = text.split('-').map(|part| u64::from_str_radix(part, 16).ok());
        let mut next = || parts.next().flatten().ok_or(NotConnectionId);
        let (hub, shard, key, generation) = (next()?, next()?, next()?, next()?);
        let id = Self {
            hub,
            shard: u8::try_from(shard).map_err(|_| NotConnectionId)?,
            key: u32::try_from(key).map_err(|_| NotConnectionId)?,
            generation: u32::try_from(generation).map_err(|_| NotConnectionId)?,
        };
        // A name is one text: no `+`, no capitals, no zeros before, nothing behind.
        if id.to_string() == text { Ok(id) } else { Err(NotConnectionId) }
    }
}

impl ConnectionId {
    pub(crate) fn token(self) -> Token {
        Token(u64::from(self.generation) << 32 | u64::from(self.key))
    }
}

/// One slot of a shard.
#[expect(clippy::struct_excessive_bools, reason = "each is about another queue or watcher")]
pub(crate) struct Connection {
    /// Out of its slot only while it is being called with a session.
    pub(crate) sink: Option<Box<dyn Sink>>,
    pub(crate) protocol: ProtocolRef,
    pub(crate) identity: Arc<Identity>,
    pub(crate) view: ViewId,
    pub(crate) flow: Flow,
    /// What is to be written between frames; `None` while there is nothing.
    pub(crate) control: Option<Box<Control>>,
    pub(crate) memberships: Memberships,
    pub(crate) phase: Phase,
    pub(crate) generation: u32,
    pub(crate) wake: Option<Waker>,
    /// When its allowance of requests is whole again, in nanoseconds since the shard began.
    pub(crate) requests_at: u64,
    /// Of its subject; see `revoking.rs`.
    pub(crate) subject_tag: u32,
    /// In tenths of a second since the shard began.
    pub(crate) heartbeat_at: u32,
    pub(crate) heard_at: u32,
    /// Where the walk that is under way has put it; see `walk.rs`.
    pub(crate) walk_epoch: u64,
    pub(crate) walk_group: u32,
    /// Whether it stands in the shard's queue of those with something to read.
    pub(crate) unread: bool,
    /// Whether it stands in the shard's queue of those that can catch up.
    pub(crate) catching: bool,
    /// Whether its socket may have something that was not read.
    pub(crate) readable: bool,
    /// Whether its socket is watched for room to write.
    pub(crate) write_watched: bool,
}

/// Whether the socket has taken all that its rooms had.
pub(crate) enum Flow {
    Live,
    Behind(Box<Behind>),
}

/// Where a connection that is behind stands.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is about another queue or wait")]
pub(crate) struct Behind {
    /// The next entry to look at: in the log, or in a replay while it reads one.
    pub(crate) place: Place,
    /// What the socket did not take of the frame before.
    pub(crate) rest: Bytes,
    /// Whether that is an emission's, of which a part was taken.
    pub(crate) rest_of_emission: bool,
    /// Whether the socket is full. Otherwise it waits for its shard, or for a replay.
    pub(crate) full: bool,
    /// How much is pending, by the rules of its rooms: what its socket has not begun to
    /// take, without what another stands for.
    pub(crate) lags: Lags,
    /// What stands before this is not counted in `lags`: it was away when it came.
    pub(crate) counted_from: Seq,
    /// It has to read up to here, though nothing may be counted in `lags`.
    pub(crate) read_to: Seq,
    /// When its socket last took something.
    pub(crate) moved: Instant,
    /// Whether `lags` may be wrong, because a room was left or the view is another.
    pub(crate) inexact: bool,
    /// Where the round that is under way began, and its horizon; see `conflate.rs`.
    pub(crate) round: Place,
    pub(crate) horizon: Seq,
    /// Whether it stands in the shard's list of those that wait for it to go on.
    pub(crate) follows: bool,
    /// Whether it stands in the shard's list of those that wait for more of a replay.
    pub(crate) awaits_replay: bool,
    /// It is not live before its shard is here: a room begins there.
    pub(crate) until: Seq,
    /// Where it came back with a cursor, until it is live.
    pub(crate) resume: Option<Box<Resume>>,
    /// That all of its rooms miss something, before what comes next.
    pub(crate) gap: Option<GapReason>,
}

impl Behind {
    /// Nothing is pending yet from `place` on, but maybe the rest of a frame before.
    pub(crate) fn new(place: Place, rest: Bytes, now: Instant) -> Self {
        let (round, horizon) = (place.clone(), place.seq());
        Self {
            place,
            rest,
            rest_of_emission: false,
            full: false,
            lags: Lags::default(),
            counted_from: 0,
            read_to: 0,
            moved: now,
            inexact: false,
            round,
            horizon,
            follows: false,
            awaits_replay: false,
            until: 0,
            resume: None,
            gap: None,
        }
    }

    /// Counts an entry that has come, behind all that was counted; `size` is what it counts
    /// for.
    pub(crate) fn count(&mut self, memberships: &[Membership], entry: &Entry, seq: Seq, size: u64) {
        if seq < self.counted_from || self.resume.as_ref().is_some_and(|r| r.skips(entry, seq)) {
            return;
        }
        let Some(Claim { rule, .. }) = claim(memberships, &entry.rooms, seq) else { return };
        self.lags.add(rule, size);
        let Some(keyed) = &entry.keyed else { return };
        // What it will stand for once the round that is under way is over.
        let from = self.horizon.max(self.place.seq()).max(self.counted_from);
        let Some((older, size)) = keyed.older().filter(|(older, _)| *older >= from) else { return };
        if self.resume.is_some() {
            // It may have had that one before it came, which was not counted then: too much is
            // harmless until the next sweep, too little would be a loss.
            self.inexact = true;
            return;
        }
        if let Some(Claim { rule, .. }) = claim(memberships, &entry.rooms, older) {
            self.lags.subtract(rule, size);
        }
    }

    /// Whether another stands for an entry, in this round or, beyond its horizon, in the
    /// next, which goes up to `end`.
    pub(crate) fn passes_over(&self, entry: &Entry, seq: Seq, end: Seq) -> bool {
        let horizon = if seq < self.horizon { self.horizon } else { end };
        let newer = entry.keyed.as_ref().and_then(|keyed| keyed.newer());
        newer.is_some_and(|newer| newer < horizon)
    }

    /// Begins a round up to `end`, where none is under way.
    pub(crate) fn begin_round(&mut self, end: Seq) {
        if self.place.seq() >= self.horizon {
            (self.round, self.horizon) = (self.place.clone(), end);
        }
    }

    /// Moves on.
    pub(crate) fn move_to(&mut self, place: Place) {
        self.place = place;
        // Where it has reached the horizon there is no round under way.
        self.begin_round(self.place.seq());
    }

    /// Goes on from somewhere else, maybe in another log.
    pub(crate) fn jump_to(&mut self, place: Place) {
        (self.round, self.horizon) = (place.clone(), place.seq());
        self.place = place;
    }

    /// Nothing of what is pending is to be written any more.
    pub(crate) fn forget(&mut self, now: Instant) {
        (self.lags, self.moved, self.inexact) = (Lags::default(), now, false);
        (self.resume, self.gap) = (None, None);
        (self.until, self.counted_from, self.read_to) = (0, 0, 0);
    }

    /// Whether it reads from the log, not from a replay, nor waits for one.
    pub(crate) fn reads_log(&self) -> bool {
        self.resume.as_ref().is_none_or(|resume| matches!(resume.stage, Stage::Reading))
    }

    /// Whether nothing is left in the log for it, up to where its shard is.
    pub(crate) fn has_all(&self) -> bool {
        self.reads_log() && self.lags.is_zero() && self.place.seq() >= self.read_to
    }
}

/// Whether it is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// What is left is written, then the peer is waited for until the deadline.
    Closing {
        deadline: Instant,
    },
    /// What is left is written, until the deadline, then it is dropped.
    Finishing {
        deadline: Instant,
    },
    /// It is dropped as soon as nobody walks over it.
    Dead,
}

/// Frames that are no emissions: answers, heartbeats, pongs, closes.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) frames: VecDeque<Bytes>,
    pub(crate) bytes: usize,
}

impl Connection {
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.flow, Flow::Live)
    }

    pub(crate) fn control_bytes(&self) -> usize {
        self.control.as_ref().map_or(0, |control| control.bytes)
    }

    /// Whether its socket has taken all that there is for it up to where its shard is.
    pub(crate) fn has_all(&self) -> bool {
        match &self.flow {
            Flow::Live => true,
            Flow::Behind(behind) => {
                !behind.full && behind.rest.is_empty() && behind.gap.is_none() && behind.has_all()
            }
        }
    }

    /// Queues bytes to be written between frames.
    pub(crate) fn push_control(&mut self, bytes: Bytes) {
        let control = self.control.get_or_insert_default();
        control.bytes += bytes.len();
        control.frames.push_back(bytes);
    }
}

impl Control {
    /// Takes the oldest of what is to be written between frames.
    pub(crate) fn pop(control: &mut Option<Box<Self>>) -> Option<Bytes> {
        let queue = control.as_mut()?;
        let bytes = queue.frames.pop_front()?;
        queue.bytes -= bytes.len();
        if queue.frames.is_empty() {
            *control = None;
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_one_name() {
        let id = ConnectionId { hub: 0x00c0_ffee, shard: 63, key: u32::MAX, generation: 0 };
        assert_eq!(id.to_string(), "0000000000c0ffee-3f-ffffffff-0");
        assert_eq!(id.to_string().parse(), Ok(id));
        for none in [
            "",
            "-",
            "0000000000c0ffee-3f-ffffffff",
            "0000000000c0ffee-3f-ffffffff-0-0",
            "0000000000c0ffee-3f-ffffffff-0 ",
            "0000000000C0FFEE-3f-ffffffff-0",
            "c0ffee-3f-ffffffff-0",
            "0000000000c0ffee-03f-ffffffff-0",
            "0000000000c0ffee-+3f-ffffffff-0",
            "0000000000c0ffee-100-0-0",
            "0000000000c0ffee-0-100000000-0",
            "10000000000c0ffee-0-0-0",
        ] {
            assert_eq!(none.parse::<ConnectionId>(), Err(NotConnectionId), "{none}");
        }
    }
}
