//! A connection that came back with its cursor.
//!
//! A resume is being behind: the cursor is turned into the place in the log from which the
//! connection reads on, and is kept as a filter until its shard has come as far. What the
//! log no longer has comes from a replay (`replay.rs`) first; what nobody has is a gap.
//!
//! ```text
//!            its turn            the log has all
//!  Queued ------------> find ---------------------> Reading --> live
//!    ^                   | ^                           |
//!    |     not all of it | | as far as it goes         | fell off
//!    |                   v |                           |
//!    |     Waiting --> Replaying                       |
//!    |        | never again, or too much: gap          |
//!    +--------|---------------|------------------------+
//! ```
//!
//! Why nothing is missed or doubled: it acts between two walks of its shard, which is then
//! in one place of the log. What is up to there is read, what is after it comes as the
//! shard goes on, and whatever the connection has of a lane by then, by its own cursor or
//! by reading, it does not get again. The cursor moves only as far as was written.
//!
//! Who is on the way when a lane is closed (`resume/close.rs`) and reads the log goes on to
//! its end there. For all others that is a gap: nobody has the rest any more.

mod close;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::connection::{Behind, Flow, Phase};
use crate::frame::Entry;
use crate::log::{NotHere, Seq};
use crate::members::Membership;
use crate::position::{LaneId, Position};
use crate::replay::{Replayed, Verdict, Waiter};
use crate::room_table::RoomId;
use crate::seen::Seen;
use crate::shard::Shard;
use crate::sink::{GapReason, Token};

/// How often a connection may fall off what it reads before it is too slow.
const FALLS: u8 = 16;
/// Replays that one resume may take before it is too much.
const PASSES: u8 = 32;
/// How long a cursor may be ahead of this node before the source is asked whether it goes
/// that far.
const AHEAD: Duration = Duration::from_secs(1);

/// A resume that is under way.
#[derive(Debug)]
pub(crate) struct Resume {
    /// What the connection has: its cursor.
    pub(crate) seen: Seen,
    pub(crate) stage: Stage,
    /// What has no position and was published before this is not for it.
    joined: Seq,
    /// Where rooms begin that it joined since it came back, or that dropped something: a
    /// replay has no places to tell by.
    begun: Vec<(RoomId, Vec<(LaneId, Position)>)>,
    /// Lanes that were closed up to this batch of the log are behind it.
    passed: u64,
    /// It has what is before this batch of lanes that are closed there: as long as its shard is
    /// not there, more comes of them.
    over: u64,
    /// Lanes that are closed where its shard is, and not yet where it reads; with the batch
    /// that closed them.
    closing: Vec<(u64, LaneId)>,
    began: Instant,
    asked_for_end: bool,
    /// Dropped with it: nobody else needs to be told of its end.
    alive: Arc<()>,
    falls: u8,
    passes: u8,
}

/// How far a resume is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// It waits for its turn.
    Queued,
    /// It waits for a replay, since then.
    Waiting(Instant),
    /// It reads a replay, which is kept for it as long as there is no newer one.
    Replaying(Weak<Replayed>, #[expect(dead_code, reason = "counted by the replay")] Arc<()>),
    /// It reads the log.
    Reading,
}

impl Resume {
    /// A room begins here for it.
    pub(crate) fn begins(&mut self, room: RoomId, begin: Vec<(LaneId, Position)>) {
        self.begun.retain(|(other, _)| *other != room);
        self.begun.push((room, begin));
    }

    /// Where in a lane a room began for it; before everything where it came with the cursor.
    fn begin_of(&self, membership: &Membership, lane: LaneId) -> Position {
        if membership.since == 0 {
            return Position::default();
        }
        let begun = self.begun.iter().find(|(room, _)| *room == membership.room);
        let begin = begun.and_then(|(_, begin)| begin.iter().find(|(of, _)| *of == lane));
        begin.map_or_else(Position::default, |(_, begin)| *begin)
    }

    /// Where in a lane the first of the rooms began by which an entry is for it.
    pub(crate) fn begin_for(
        &self,
        memberships: &[Membership],
        entry: &Entry,
        lane: LaneId,
    ) -> Position {
        let mine = |m: &&Membership| {
            entry.rooms.iter().any(|room| room.id() == m.room) && self.had_begun(m, entry)
        };
        let begin = |membership| self.begin_of(membership, lane);
        memberships.iter().filter(mine).map(begin).min().unwrap_or_default()
    }

    /// Whether it was in a room already when this was published.
    pub(crate) fn had_begun(&self, membership: &Membership, entry: &Entry) -> bool {
        let after_begin = |(lane, position)| self.begin_of(membership, lane) < position;
        entry.position().is_some_and(after_begin)
    }

    /// Whether an entry where it reads is not for it, whatever its rooms.
    pub(crate) fn skips(&self, entry: &Entry, seq: Seq) -> bool {
        match entry.position() {
            Some((lane, position)) => !self.seen.reads(lane) || self.seen.has(lane, position),
            None => seq < self.joined,
        }
    }
}

impl Shard {
    /// Takes a connection back that has been up to `positions` in all of its rooms. They were
    /// read from its cursor when the log had come at least to the batch `passed`.
    pub(crate) fn resume(
        &mut self,
        key: usize,
        positions: impl IntoIterator<Item = (LaneId, Position)>,
        passed: u64,
    ) {
        let now = self.now;
        let resume = Resume {
            seen: Seen::new(positions),
            stage: Stage::Queued,
            joined: self.shared.log.end(),
            begun: Vec::new(),
            passed,
            over: 0,
            closing: Vec::new(),
            began: now,
            asked_for_end: false,
            alive: Arc::default(),
            falls: 0,
            passes: 0,
        };
        for membership in &mut self.connections[key].memberships {
            // What was there while it was away is for it.
            membership.since = 0;
        }
        let behind = self.behind(key);
        behind.resume = Some(Box::new(resume));
        behind.counted_from = Seq::MAX;
        behind.lags = crate::overflow::Lags::default();
        self.resuming.push_back(key as u32);
    }

    /// Where a connection stands that is behind from now on, if it was not already.
    pub(crate) fn behind(&mut self, key: usize) -> &mut Behind {
        let connection = &mut self.connections[key];
        if connection.is_live() {
            self.counters.behind += 1;
            let behind = Behind::new(self.place.clone(), Bytes::new(), self.now);
            connection.flow = Flow::Behind(Box::new(behind));
        }
        match &mut connection.flow {
            Flow::Behind(behind) => behind,
            Flow::Live => unreachable!("it is behind now"),
        }
    }

    pub(crate) fn resume_of(&mut self, key: usize) -> Option<&mut Resume> {
        match &mut self.connections[key].flow {
            Flow::Behind(behind) => behind.resume.as_deref_mut(),
            Flow::Live => None,
        }
    }

    /// Lets those go on whose turn it is.
    pub(crate) fn admit_resumes(&mut self) {
        while self.resume_credit > 0 {
            let Some(key) = self.resuming.pop_front() else { return };
            let key = key as usize;
            if self.connections.get(key).is_some_and(|c| c.phase == Phase::Open)
                && self.resume_of(key).is_some_and(|r| matches!(r.stage, Stage::Queued))
            {
                self.resume_credit -= 1;
                self.enter(key);
            }
        }
    }

    /// From the cursor to a place in the log, or to a replay.
    fn enter(&mut self, key: usize) {
        match self.try_enter(key) {
            Ok(()) => self.queue_catch_up(key),
            Err(NotHere::Missing(missing)) => self.ask_for_replay(key, &missing),
            Err(NotHere::Closed) => self.tell_gap_of_all(key, GapReason::Reset),
        }
    }

    /// Goes on in the log, where that has everything.
    ///
    /// # Errors
    /// [`NotHere`].
    pub(crate) fn try_enter(&mut self, key: usize) -> Result<(), NotHere> {
        let (shared, here) = (self.shared.clone(), self.place.clone());
        let Flow::Behind(behind) = &mut self.connections[key].flow else { return Ok(()) };
        let Some(resume) = behind.resume.as_deref_mut() else { return Ok(()) };
        if !resume.closing.is_empty() {
            return Err(NotHere::Closed);
        }
        let place;
        (place, resume.over) = shared.log.find(&mut resume.seen, resume.passed)?;
        resume.stage = Stage::Reading;
        // It may be ahead of its shard; then it waits for it.
        behind.jump_to(if place.seq() > here.seq() { here.clone() } else { place });
        (behind.counted_from, behind.read_to) = (here.seq(), here.seq());
        behind.moved = self.now;
        Ok(())
    }

    pub(crate) fn ask_for_replay(&mut self, key: usize, missing: &[LaneId]) {
        let (now, token, shared) = (self.now, self.id(key).token(), self.shared.clone());
        let index = self.index;
        let Some(resume) = self.resume_of(key) else { return };
        let Some(service) = missing.first().and_then(|lane| shared.replays.of(*lane)) else {
            return self.tell_gap_of_all(key, GapReason::Expired);
        };
        resume.passes += 1;
        if resume.passes > PASSES {
            return self.tell_gap_of_all(key, GapReason::Limit);
        }
        resume.stage = Stage::Waiting(now);
        let missing = missing.iter().filter(|lane| shared.replays.of(**lane) == Some(service));
        let missing = missing.map(|lane| (*lane, resume.seen.position(*lane))).collect();
        let connection = Arc::downgrade(&resume.alive);
        let waiter = Waiter { shard: index, token, connection, missing, ahead: Vec::new() };
        shared.replays.ask(service, waiter);
    }

    /// What the replay says to somebody who waits for it, or who asked how far the source
    /// goes.
    pub(crate) fn judge(&mut self, token: Token, verdict: Verdict) {
        let Some(key) = self.find(token) else { return };
        if self.connections[key].phase != Phase::Open {
            return;
        }
        let Flow::Behind(behind) = &mut self.connections[key].flow else { return };
        let Some(resume) = behind.resume.as_deref_mut() else { return };
        let waits = matches!(resume.stage, Stage::Waiting(_));
        match verdict {
            Verdict::Gap(GapReason::Reset) => self.tell_gap_of_all(key, GapReason::Reset),
            _ if !waits => {}
            Verdict::Gap(reason) => self.tell_gap_of_all(key, reason),
            Verdict::Again => self.enter(key),
            Verdict::Read(replayed) => {
                let (_, open) = self.shared.log.tail();
                let place = replayed.log.find_some(&mut resume.seen, &open);
                resume.stage = Stage::Replaying(Arc::downgrade(&replayed), replayed.reader());
                behind.jump_to(place);
                behind.moved = self.now;
                self.queue_catch_up(key);
            }
        }
    }

    /// What it read has moved on without it: it begins again, from what it has.
    pub(crate) fn fell(&mut self, key: usize) {
        let Flow::Behind(behind) = &mut self.connections[key].flow else { return };
        behind.pass_closes(self.batch);
        let Some(resume) = behind.resume.as_deref_mut() else { return };
        resume.falls += 1;
        if resume.falls > FALLS {
            return self.too_slow(key);
        }
        resume.stage = Stage::Queued;
        behind.lags = crate::overflow::Lags::default();
        behind.counted_from = Seq::MAX;
        behind.inexact = false;
        self.resuming.push_back(key as u32);
    }

    /// Whether a connection that has read all there is can be live: its shard has come as
    /// far as it was itself.
    pub(crate) fn may_be_live(&mut self, key: usize) -> bool {
        let (here, shard, frontier) = (self.place.seq(), self.batch, &self.frontier);
        let Flow::Behind(behind) = &mut self.connections[key].flow else { return true };
        let covered = |r: &Resume| r.over <= shard && r.seen.covered_by(frontier);
        if behind.resume.as_deref().is_some_and(covered) {
            behind.resume = None;
            crate::metrics::resume("recovered");
        }
        behind.resume.is_none() && behind.until <= here
    }

    /// Sees to a resume that does not move by itself. Called now and then.
    pub(crate) fn sweep_resume(&mut self, key: usize) {
        let (now, token, index) = (self.now, self.id(key).token(), self.index);
        let shared = self.shared.clone();
        let Flow::Behind(behind) = &mut self.connections[key].flow else { return };
        let has_all = behind.has_all();
        let Some(resume) = behind.resume.as_deref_mut() else { return };
        match resume.stage {
            Stage::Waiting(since) if now - since >= shared.limits.replay_timeout => {
                self.tell_gap_of_all(key, GapReason::Limit);
            }
            Stage::Reading
                if has_all
                    && !resume.asked_for_end
                    && now.saturating_duration_since(resume.began) >= AHEAD =>
            {
                resume.asked_for_end = true;
                let ahead: Vec<_> = resume.seen.ahead_of(&self.frontier).collect();
                let Some(service) = ahead.first().and_then(|(lane, _)| shared.replays.of(*lane))
                else {
                    return;
                };
                let connection = Arc::downgrade(&resume.alive);
                let missing = Vec::new();
                let waiter = Waiter { shard: index, token, connection, missing, ahead };
                shared.replays.ask(service, waiter);
            }
            _ => {}
        }
    }

    /// Something is missing in all rooms of a connection: it is told, and goes on from here.
    pub(crate) fn tell_gap_of_all(&mut self, key: usize, reason: GapReason) {
        let here = self.place.clone();
        let behind = self.behind(key);
        behind.resume = None;
        behind.lags = crate::overflow::Lags::default();
        (behind.counted_from, behind.read_to) = (here.seq(), 0);
        behind.inexact = false;
        behind.jump_to(here);
        behind.gap = Some(reason);
        if !behind.full {
            self.queue_catch_up(key);
        }
    }
}

#[cfg(all(test, fanout_model))]
mod model;
