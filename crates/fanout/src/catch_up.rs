//! A connection that is behind reads on from the log.
//!
//! First the rest of the frame that was begun, then what is to be written between
//! frames, then a gap where one is to be told, then entry by entry from its own place to
//! the shard's. Batches whose bloom has none of its rooms are passed over, and so is what
//! another stands for. There is no other way out of being behind, and nothing is kept for
//! the connection but its place.

use std::borrow::Cow;
use std::io::{ErrorKind, IoSlice};

use bytes::Bytes;

use crate::connection::{Behind, Connection, Control, Flow, Phase};
use crate::frame::{Entry, Frame};
use crate::log::{Evicted, Place, Seq};
use crate::members::{Claim, Memberships, claim};
use crate::overflow::{Lags, Policy, RuleId};
use crate::room_table::RoomRef;
use crate::shard::Shard;
use crate::sink::{Close, Gap, GapReason, Sink};

/// Frames and bytes of one write.
const MAX_FRAMES: usize = 64;
const MAX_BYTES: usize = 64 * 1024;
/// Entries looked at before others have their turn.
const MAX_ENTRIES: usize = 4096;
/// What looking at an entry counts for in a budget of bytes to be written.
const LOOK: usize = 16;

/// How a connection stands after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It has all.
    Live,
    /// The socket is full.
    Full,
    /// Its turn is over; it could take more.
    More,
    /// The log has moved on.
    Lost,
    /// The socket is broken.
    Failed,
}

impl Shard {
    /// Writes what a connection has pending, as far as its socket takes it and as long as
    /// there is something left of `budget`, in bytes.
    pub(crate) fn catch_up(&mut self, key: usize, budget: &mut usize) {
        self.connections[key].catching = false;
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
            Progress::Full => self.wait_for_room(key),
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
        let connection = &mut self.connections[key];
        if connection.control.is_none() || connection.phase == Phase::Dead {
            return;
        }
        if connection.is_live() {
            let behind = Behind::new(self.place.clone(), Bytes::new(), self.now);
            connection.flow = Flow::Behind(Box::new(behind));
            self.counters.behind += 1;
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
                    behind.rest = bytes;
                } else if connection.memberships.iter().any(|m| m.gap) {
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
        let end = self.place.seq();
        let connection = &mut self.connections[key];
        let Flow::Behind(behind) = &mut connection.flow else { return Some(Progress::Live) };
        if behind.lags.is_zero() || behind.place.seq() >= end {
            // Nothing is pending: the place may have left the log, it is not needed.
            return Some(Progress::Live);
        }
        if *budget == 0 {
            return Some(Progress::More);
        }
        behind.begin_round(end);
        let rules = self.shared.rooms.rules();
        let conflates = |rule| rules.policy(rule) == Policy::Conflate;
        if behind.round.is_gone() && behind.lags.pending().any(conflates) {
            return Some(Progress::Lost);
        }
        let most_bytes = MAX_BYTES.min(*budget);
        let (mut bytes, mut frames) = (0, Vec::new());
        let connection = &self.connections[key];
        let Flow::Behind(behind) = &connection.flow else { return Some(Progress::Live) };
        let walked = walk(connection, behind, behind.horizon, MAX_ENTRIES, |pending| {
            if pending.passed_over {
                return true;
            }
            let from = behind.round.seq().max(pending.claim.since);
            let skipped = pending.entry.keyed.as_ref().map_or(0, |keyed| keyed.older_from(from));
            let size = pending.size();
            let frame = if skipped == 0 {
                pending.frame.as_bytes().clone()
            } else {
                let entry = pending.entry;
                let frame = entry.frame_for(&connection.protocol, connection.view, skipped);
                frame.expect("the view has a body").as_bytes().clone()
            };
            bytes += frame.len();
            frames.push(Collected {
                after: pending.after,
                frame,
                rule: pending.claim.rule,
                size,
                skipped,
            });
            frames.len() < MAX_FRAMES && bytes < most_bytes
        });
        let Ok((place, looked)) = walked else { return Some(Progress::Lost) };
        *budget = budget.saturating_sub(looked * LOOK);
        self.write_collected(key, frames, place, budget)
    }

    /// Writes frames in one go; `place` is right after all that was looked at.
    fn write_collected(
        &mut self,
        key: usize,
        frames: Vec<Collected>,
        place: Place,
        budget: &mut usize,
    ) -> Option<Progress> {
        let connection = &mut self.connections[key];
        let Flow::Behind(behind) = &mut connection.flow else { return Some(Progress::Live) };
        if frames.is_empty() {
            // Nothing in there was for it.
            behind.move_to(place);
            return None;
        }
        let slices: Vec<IoSlice<'_>> = frames.iter().map(|f| IoSlice::new(&f.frame)).collect();
        let sink = connection.sink.as_mut().expect("not in a session");
        let taken = match sink.try_write(&slices) {
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Progress::Full),
            Err(_) => return Some(Progress::Failed),
        };
        behind.moved = self.now;
        *budget = budget.saturating_sub(taken);
        self.counters.delivered(0, taken);
        let mut left = taken;
        for Collected { after, frame, rule, size, skipped } in frames {
            if left == 0 {
                // Only as far as the write got, not as far as was collected.
                return Some(Progress::Full);
            }
            behind.move_to(after);
            behind.lags.subtract(rule, size);
            self.counters.delivered(1, 0);
            self.counters.conflated += skipped;
            if left < frame.len() {
                behind.rest = frame.slice(left..);
                return Some(Progress::Full);
            }
            left -= frame.len();
        }
        behind.move_to(place);
        None
    }

    /// Moves a connection that is behind past what is not for it, and judges how far
    /// behind it is. Called now and then: a socket that never becomes writable would
    /// never notice by itself that the log has moved on. Returns how many entries were
    /// looked at.
    pub(crate) fn sweep_behind(&mut self, key: usize) -> usize {
        let Flow::Behind(behind) = &mut self.connections[key].flow else { return 0 };
        let mut looked = 0;
        if behind.lags.is_zero() {
            behind.move_to(self.place.clone());
        } else {
            match self.recount(key) {
                Ok(entries) => looked += entries,
                Err(Evicted) => self.lost(key),
            }
        }
        let connection = &mut self.connections[key];
        let Flow::Behind(behind) = &mut connection.flow else { return looked };
        if connection.phase != Phase::Open {
            return looked;
        }
        let silent = self.now.saturating_duration_since(behind.moved);
        if silent >= self.shared.limits.write_timeout {
            self.too_slow(key);
            return looked;
        }
        let rules = self.shared.rooms.rules();
        let Some(rule) = behind.lags.exceeded(rules, self.now) else { return looked };
        match rules.policy(rule) {
            Policy::Disconnect => self.too_slow(key),
            Policy::DropOldest | Policy::Conflate => looked += self.drop_oldest(key, rule),
        }
        looked
    }

    /// Moves a place on to the first entry that its connection gets; where the bytes
    /// it is behind by may be wrong, adds them up again. Returns how many entries were
    /// looked at.
    pub(crate) fn recount(&mut self, key: usize) -> Result<usize, Evicted> {
        let connection = &self.connections[key];
        let Flow::Behind(behind) = &connection.flow else { return Ok(0) };
        let inexact = behind.inexact;
        let most = if inexact { usize::MAX } else { MAX_ENTRIES };
        let (mut lags, mut first) = (Lags::default(), None);
        let (reached, looked) = walk(connection, behind, self.place.seq(), most, |pending| {
            first.get_or_insert_with(|| pending.after.back());
            if !pending.passed_over {
                lags.add(pending.claim.rule, pending.size());
            }
            inexact
        })?;
        if let Flow::Behind(behind) = &mut self.connections[key].flow {
            behind.move_to(first.unwrap_or(reached));
            if inexact {
                behind.lags.recounted(lags);
                behind.inexact = false;
            }
        }
        Ok(looked)
    }

    /// Drops the oldest of what is pending under `rule`, until the rest is within its
    /// limit. What is pending under other rules stays.
    fn drop_oldest(&mut self, key: usize, rule: RuleId) -> usize {
        let max = self.shared.rooms.rules().rule(rule).max_bytes;
        let connection = &self.connections[key];
        let Flow::Behind(behind) = &connection.flow else { return 0 };
        let mut lags = behind.lags.clone();
        let others = connection.memberships.iter().filter(|m| m.rule != rule);
        let others: Memberships = others.copied().collect();
        let mut rooms = Vec::new();
        let mut dropped_to = None;
        let end = self.place.seq();
        let walked = walk(connection, behind, end, MAX_ENTRIES, |pending| {
            if pending.claim.rule != rule {
                return true;
            }
            let entry = pending.entry;
            if !pending.passed_over {
                lags.subtract(rule, pending.size());
            }
            match claim(&others, &entry.rooms, pending.seq) {
                // It comes all the same, by a room that allows for more.
                Some(claim) if !pending.passed_over => lags.add(claim.rule, pending.size()),
                Some(_) => {}
                None => {
                    for room in entry.rooms.iter().map(RoomRef::id) {
                        if !rooms.contains(&room) {
                            rooms.push(room);
                        }
                    }
                }
            }
            dropped_to = Some(pending.seq + 1);
            lags.bytes(rule) > max
        });
        let Ok((_, looked)) = walked else {
            self.lost(key);
            return 0;
        };
        let connection = &mut self.connections[key];
        let Flow::Behind(behind) = &mut connection.flow else { return looked };
        behind.lags = lags;
        if let Some(to) = dropped_to {
            self.counters.overflows += 1;
            for membership in connection.memberships.iter_mut().filter(|m| m.rule == rule) {
                membership.gap |= rooms.contains(&membership.room);
                membership.since = membership.since.max(to);
            }
            // Only to save reading it again.
            let _ = self.recount(key);
        }
        looked
    }

    /// The log has moved on: what was pending is too far behind, all of it. To find out
    /// what of it is still there would be to read the whole log, for each that has
    /// fallen off its end.
    fn lost(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        let Flow::Behind(behind) = &mut connection.flow else { return };
        let rules = self.shared.rooms.rules();
        if behind.lags.pending().any(|rule| rules.policy(rule) == Policy::Disconnect) {
            return self.too_slow(key);
        }
        for membership in &mut connection.memberships {
            membership.gap |= behind.lags.bytes(membership.rule) > 0;
        }
        self.counters.overflows += 1;
        behind.lags = Lags::default();
        behind.move_to(self.place.clone());
    }

    fn tell_gap(&mut self, key: usize) {
        let mut rooms = Vec::new();
        for membership in &mut self.connections[key].memberships {
            if std::mem::take(&mut membership.gap) {
                let room = self.members.room(membership.room);
                rooms.push(room.expect("a membership's room has members").name().clone());
            }
        }
        let gap = Gap::new(GapReason::Overflow, rooms);
        self.with_sink(key, |sink: &mut dyn Sink, session| sink.gap(session, &gap));
    }

    fn too_slow(&mut self, key: usize) {
        let after = self.shared.limits.retry_after;
        self.begin_close(key, &Close::Slow { after });
    }
}

/// A frame to be written, and what its connection has pending without it.
struct Collected {
    after: Place,
    frame: Bytes,
    rule: RuleId,
    size: u64,
    skipped: u64,
}

/// An entry that a connection gets.
struct Pending<'a> {
    entry: &'a Entry,
    seq: Seq,
    /// The place after it.
    after: Place,
    claim: Claim,
    frame: Cow<'a, Frame>,
    /// Another stands for it.
    passed_over: bool,
}

impl Pending<'_> {
    /// What it counts for in what is pending.
    fn size(&self) -> u64 {
        match self.entry.keyed {
            Some(_) => self.entry.size() as u64,
            None => self.frame.as_bytes().len() as u64,
        }
    }
}

/// Calls `each` with every entry that `connection` gets from its place up to `end`, until
/// it says stop or enough was looked at. Returns the place from which to go on, and how
/// many entries were looked at.
fn walk(
    connection: &Connection,
    behind: &Behind,
    end: Seq,
    most: usize,
    mut each: impl FnMut(Pending<'_>) -> bool,
) -> Result<(Place, usize), Evicted> {
    let mut place = behind.place.clone();
    let mut looked = 0;
    while place.seq() < end && looked < most {
        let Some((batch, at)) = place.read()? else { break };
        if !connection.memberships.iter().any(|m| batch.bloom.may_contain(m.room)) {
            place = Place::in_batch(&batch, batch.end());
            looked += 1;
            continue;
        }
        let to = (end.min(batch.end()) - batch.first) as usize;
        for (entry, seq) in batch.entries[at..to].iter().zip(batch.first + at as u64..) {
            looked += 1;
            let Some(claim) = claim(&connection.memberships, &entry.rooms, seq) else { continue };
            let frame = entry.frame(&connection.protocol, connection.view);
            let Some(frame) = frame else { continue };
            let after = Place::in_batch(&batch, seq + 1);
            let passed_over = behind.passes_over(entry, seq, end);
            if !each(Pending { entry, seq, after: after.clone(), claim, frame, passed_over }) {
                return Ok((after, looked));
            }
        }
        looked += 1;
        place = Place::in_batch(&batch, batch.first + to as u64);
    }
    Ok((place, looked))
}
