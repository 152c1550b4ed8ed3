//! A connection that is behind reads on from the log.
//!
//! First the rest of the frame that was begun, then what is to be written between
//! frames, then a gap where one is to be told, then entry by entry from its own place to
//! the shard's, or to a replay's end. There is no other way out of being behind, and
//! nothing is kept for the connection but its place, and its cursor while it resumes.

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use bytes::Bytes;

use crate::connection::{Connection, Control, Flow, Phase};
use crate::log::{Evicted, Log, NotHere, Place, Seq};
use crate::overflow::{Lags, Policy, RuleId};
use crate::pending::{Met, Pending, Reading, walk};
use crate::position::{Cursor, LaneId, Position};
use crate::replay::Replayed;
use crate::resume::Stage;
use crate::seen::Seen;
use crate::shard::Shard;
use crate::shared::Shared;
use crate::sink::{Gap, GapReason, Sink};

/// Frames and bytes of one write.
const MAX_FRAMES: usize = 64;
const MAX_BYTES: usize = 64 * 1024;
/// Entries looked at before others have their turn.
pub(crate) const MAX_ENTRIES: usize = 4096;
/// What looking at an entry counts for in a budget of bytes to be written.
const LOOK: usize = 16;

/// How a connection stands after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It has all.
    Live,
    /// It has all up to where its shard is, which has not come as far as it was itself.
    Ahead,
    /// It waits for its turn, or for a replay.
    Waits,
    /// The socket is full.
    Full,
    /// Its turn is over; it could take more.
    More,
    /// The log has moved on.
    Lost,
    /// The socket is broken.
    Failed,
}

/// Frames to be written, and where that leads.
struct Collected {
    frames: Vec<Out>,
    /// Right after all that was looked at.
    place: Place,
    looked: usize,
    passed: Vec<(LaneId, u64)>,
    /// That something is lost, right after the frames; and the place after that.
    loss: Option<Place>,
}

/// A frame to be written, and what its connection has pending without it.
struct Out {
    after: Place,
    frame: Bytes,
    rule: RuleId,
    /// What it counted for; nothing where it was not counted.
    size: u64,
    skipped: u64,
    position: Option<(LaneId, Position)>,
}

impl Shard {
    /// Writes what a connection has pending, as far as its socket takes it and as long as
    /// there is something left of `budget`, in bytes.
    pub(crate) fn catch_up(&mut self, key: usize, budget: &mut usize) {
        self.connections[key].catching = false;
        if let Flow::Behind(behind) = &mut self.connections[key].flow {
            behind.full = false;
        }
        match self.read_on(key, budget) {
            Progress::Live => {
                let connection = &mut self.connections[key];
                self.counters.behind -= u64::from(!connection.is_live());
                connection.flow = Flow::Live;
                match connection.phase {
                    Phase::Finishing { .. } => self.condemn(key),
                    _ => self.watch(key, false),
                }
            }
            Progress::Ahead => {
                self.follow(key);
                self.watch(key, false);
            }
            Progress::Waits => self.watch(key, false),
            Progress::Full => {
                if let Flow::Behind(behind) = &mut self.connections[key].flow {
                    behind.full = true;
                }
                self.wait_for_room(key);
            }
            Progress::More => self.queue_catch_up(key),
            Progress::Lost => {
                // Its socket has room: for the gap, or for the close.
                self.lost(key);
                self.queue_catch_up(key);
            }
            Progress::Failed => self.condemn(key),
        }
        self.read_again(key);
    }

    /// Writes what was queued for a connection between frames.
    pub(crate) fn flush(&mut self, key: usize) {
        let connection = &self.connections[key];
        if connection.control.is_none() || connection.phase == Phase::Dead {
            return;
        }
        if !self.behind(key).full {
            let mut budget = MAX_BYTES;
            self.catch_up(key, &mut budget);
        }
    }

    fn read_on(&mut self, key: usize, budget: &mut usize) -> Progress {
        loop {
            let connection = &mut self.connections[key];
            let Flow::Behind(behind) = &mut connection.flow else { return Progress::Live };
            if behind.rest.is_empty() {
                if let Some(bytes) = Control::pop(&mut connection.control) {
                    (behind.rest, behind.rest_of_emission) = (bytes, false);
                } else if behind.gap.is_some() || connection.memberships.iter().any(|m| m.gap) {
                    self.tell_gap(key);
                    if self.connections[key].phase == Phase::Dead {
                        return Progress::Full;
                    }
                } else if let Some(progress) = self.read_entries(key, budget) {
                    return progress;
                }
                continue;
            }
            let sink = connection.sink.as_mut().expect("not in a session");
            match sink.try_write(&[IoSlice::new(&behind.rest)]) {
                Ok(taken) => {
                    behind.moved = self.now;
                    let _ = behind.rest.split_to(taken.min(behind.rest.len()));
                    if !behind.rest.is_empty() {
                        return Progress::Full;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Full,
                Err(_) => return Progress::Failed,
            }
        }
    }

    /// Collects entries from a connection's place on and writes them; `None` where it
    /// can go on.
    fn read_entries(&mut self, key: usize, budget: &mut usize) -> Option<Progress> {
        let shared = self.shared.clone();
        let Flow::Behind(behind) = &mut self.connections[key].flow else {
            return Some(Progress::Live);
        };
        behind.pass_closes(self.batch);
        let replayed = match behind.resume.as_ref().map(|resume| &resume.stage) {
            None | Some(Stage::Reading) => None,
            Some(Stage::Queued | Stage::Waiting(_)) => return Some(Progress::Waits),
            Some(Stage::Replaying(replayed, _)) => match replayed.upgrade() {
                Some(replayed) => Some(replayed),
                None => return Some(Progress::Lost),
            },
        };
        let (log, end) = match &replayed {
            Some(replayed) => {
                // In this order: once it is done, nothing comes behind its end.
                let done = replayed.is_done();
                let end = replayed.log.end();
                if behind.place.seq() >= end {
                    return self.end_of_replay(key, replayed, done);
                }
                (&replayed.log, end)
            }
            None if behind.has_all() || behind.place.seq() >= self.place.seq() => {
                // Its place may have left the log; it is not needed. What is counted is of
                // rooms that it has left.
                behind.lags = Lags::default();
                behind.jump_to(self.place.clone());
                behind.pass_closes(self.batch);
                let live = self.may_be_live(key);
                return Some(if live { Progress::Live } else { Progress::Ahead });
            }
            None => (&shared.log, self.place.seq()),
        };
        if *budget == 0 {
            return Some(Progress::More);
        }
        behind.begin_round(end);
        let rules = shared.rooms.rules();
        let conflates = |rule| rules.policy(rule) == Policy::Conflate;
        if behind.round.is_gone()
            && (behind.lags.pending().any(conflates) || behind.resume.is_some())
        {
            return Some(Progress::Lost);
        }
        let most_bytes = MAX_BYTES.min(*budget);
        let Ok(collected) = collect(&self.connections[key], &shared, log, most_bytes) else {
            return Some(Progress::Lost);
        };
        *budget = budget.saturating_sub(collected.looked * LOOK);
        self.write_collected(key, collected, replayed.as_deref(), budget)
    }

    /// Has read all that a replay has.
    fn end_of_replay(
        &mut self,
        key: usize,
        replayed: &Arc<Replayed>,
        done: bool,
    ) -> Option<Progress> {
        let Flow::Behind(behind) = &mut self.connections[key].flow else { return None };
        let resume = behind.resume.as_deref_mut()?;
        let (tail, frontier) = replayed.log.tail();
        if behind.place.seq() < tail.seq() {
            // It has gone on meanwhile.
            return None;
        }
        resume.seen.advance_to(&frontier);
        match self.try_enter(key) {
            Ok(()) => None,
            Err(NotHere::Closed) => {
                self.tell_gap_of_all(key, GapReason::Reset);
                None
            }
            Err(NotHere::Missing(missing)) if done => {
                self.ask_for_replay(key, &missing);
                Some(Progress::Waits)
            }
            Err(NotHere::Missing(_)) => {
                if let Flow::Behind(behind) = &mut self.connections[key].flow {
                    if !std::mem::replace(&mut behind.awaits_replay, true) {
                        self.replaying.push(key as u32);
                    }
                }
                Some(Progress::Waits)
            }
        }
    }

    /// Writes frames in one go.
    fn write_collected(
        &mut self,
        key: usize,
        collected: Collected,
        replayed: Option<&Replayed>,
        budget: &mut usize,
    ) -> Option<Progress> {
        let connection = &mut self.connections[key];
        let Flow::Behind(behind) = &mut connection.flow else { return Some(Progress::Live) };
        let Collected { frames, place, passed, loss, .. } = collected;
        if !frames.is_empty() {
            let slices: Vec<_> = frames.iter().map(|out| IoSlice::new(&out.frame)).collect();
            let sink = connection.sink.as_mut().expect("not in a session");
            let taken = match sink.try_write(&slices) {
                Ok(taken) => taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Progress::Full),
                Err(_) => return Some(Progress::Failed),
            };
            behind.moved = self.now;
            if let Some(replayed) = replayed {
                replayed.note_moved();
            }
            *budget = budget.saturating_sub(taken);
            self.counters.delivered(0, taken);
            let mut left = taken;
            for Out { after, frame, rule, size, skipped, position } in frames {
                if left == 0 {
                    // Only as far as the write got, not as far as was collected.
                    return Some(Progress::Full);
                }
                behind.move_to(after);
                behind.lags.subtract(rule, size);
                if let (Some(resume), Some((lane, position))) = (&mut behind.resume, position) {
                    resume.seen.advance(lane, position);
                }
                self.counters.delivered(1, 0);
                self.counters.conflated += skipped;
                if left < frame.len() {
                    (behind.rest, behind.rest_of_emission) = (frame.slice(left..), true);
                    return Some(Progress::Full);
                }
                left -= frame.len();
            }
        }
        behind.move_to(place);
        if let Some(resume) = &mut behind.resume {
            for (lane, next) in passed {
                resume.seen.advance(lane, Position::before(next));
            }
        }
        if let Some(after) = loss {
            behind.move_to(after);
            behind.gap = Some(GapReason::Expired);
        }
        None
    }

    fn tell_gap(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        let Flow::Behind(behind) = &mut connection.flow else { return };
        let of_all = behind.gap.take();
        let mut rooms = Vec::new();
        for membership in &mut connection.memberships {
            if std::mem::take(&mut membership.gap) || of_all.is_some() {
                let room = self.members.room(membership.room);
                rooms.push(room.expect("a membership's room has members").name().clone());
            }
        }
        let gap = Gap::new(of_all.unwrap_or(GapReason::Overflow), rooms);
        crate::metrics::gap(gap.reason);
        self.call_sink(key, |sink: &mut dyn Sink, session| sink.gap(session, &gap));
    }
}

/// Collects what a connection gets next, for one write.
fn collect(
    connection: &Connection,
    shared: &Shared,
    log: &Log,
    most_bytes: usize,
) -> Result<Collected, Evicted> {
    let Flow::Behind(behind) = &connection.flow else { unreachable!("only those behind read on") };
    let reading = Reading { connection, behind, lanes: &shared.lanes, log };
    let (mut bytes, mut frames, mut loss) = (0, Vec::new(), None);
    // Of those who resume each has a cursor of its own until it is live.
    let whole_cursors = connection.protocol.whole_cursors;
    let mut own = behind.resume.as_ref().filter(|_| whole_cursors).map(|r| r.seen.clone());
    let walked = walk(reading, behind.horizon, MAX_ENTRIES, |met| {
        let pending = match met {
            Met::Entry(pending) => pending,
            Met::Loss { before, after } => {
                loss = Some((before, after));
                return Ok(false);
            }
        };
        if pending.passed_over {
            return Ok(true);
        }
        let counted = behind.reads_log() && pending.seq >= behind.counted_from;
        let size = if counted { pending.size(connection)? } else { 0 };
        let skipped = skipped(reading, &pending);
        let frame = frame(reading, &pending, skipped, own.as_mut())?;
        bytes += frame.len();
        frames.push(Out {
            frame,
            rule: pending.claim.rule,
            size,
            skipped,
            position: pending.entry.position(),
            after: pending.after,
        });
        Ok(frames.len() < MAX_FRAMES && bytes < most_bytes)
    })?;
    let (place, loss) = match loss {
        Some((before, after)) => (before, Some(after)),
        None => (walked.place, None),
    };
    Ok(Collected { frames, place, looked: walked.looked, passed: walked.passed, loss })
}

/// How many earlier ones an entry stands for.
fn skipped(reading: Reading<'_>, pending: &Pending<'_>) -> u64 {
    let Some(keyed) = &pending.entry.keyed else { return 0 };
    let behind = reading.behind;
    let mut from: Seq = behind.round.seq();
    if let (Some(resume), Some((lane, _))) = (&behind.resume, pending.entry.position()) {
        let mut begin = resume.seen.since(lane);
        if !behind.reads_log() {
            let memberships = &reading.connection.memberships;
            begin = begin.max(resume.begin_for(memberships, pending.entry, lane));
        }
        from = from.max(reading.log.first(lane, begin));
    }
    if behind.reads_log() {
        from = from.max(pending.claim.since);
    }
    keyed.older_from(from)
}

/// The frame for an entry: the one that is shared, or one for this connection alone.
///
/// # Errors
/// The log has moved on, also without a lane that was closed and that the connection has not
/// passed.
fn frame(
    reading: Reading<'_>,
    pending: &Pending<'_>,
    skipped: u64,
    own: Option<&mut Seen>,
) -> Result<Bytes, Evicted> {
    let Connection { protocol, view, .. } = reading.connection;
    let (entry, has_body) = (pending.entry, "the view has a body");
    let cursor: Option<Cursor> = match own {
        Some(seen) => {
            if let Some((lane, position)) = entry.position() {
                seen.advance(lane, position);
            }
            if let Some(resume) =
                reading.behind.resume.as_ref().filter(|_| reading.behind.reads_log())
            {
                resume.leave_out(seen, pending.stand.batch.number);
            }
            Some(reading.lanes.seal(seen.iter()).ok_or(Evicted)?)
        }
        None if skipped == 0 => {
            let frame = entry.frame(protocol, *view, &pending.stand)?;
            return Ok(frame.expect(has_body).as_bytes().clone());
        }
        None if protocol.whole_cursors => Some(pending.stand.cursor()?),
        None => None,
    };
    let frame = entry.frame_alone(protocol, *view, skipped, cursor.as_ref());
    Ok(frame.expect(has_body).as_bytes().clone())
}
