//! Judging how far behind a connection is, and what happens then.
//!
//! Done now and then, not with every entry: a socket that never becomes writable would
//! never notice by itself that the log has moved on.

use crate::catch_up::MAX_ENTRIES;
use crate::connection::{Flow, Phase};
use crate::frame::Stand;
use crate::log::Evicted;
use crate::members::{Memberships, claim};
use crate::overflow::{Lags, Policy, RuleId};
use crate::pending::{Met, Reading, Walked, walk};
use crate::position::Position;
use crate::room_table::RoomRef;
use crate::shard::Shard;
use crate::sink::{Close, GapReason};

impl Shard {
    /// Moves a connection that is behind past what is not for it, and judges how far
    /// behind it is. Returns how many entries were looked at.
    pub(crate) fn sweep_behind(&mut self, key: usize) -> usize {
        let Flow::Behind(behind) = &mut self.connections[key].flow else { return 0 };
        let mut looked = 0;
        if !behind.full {
            // It is not waited for.
            behind.moved = self.now;
        }
        if behind.has_all() {
            behind.move_to(self.place.clone());
        } else if behind.reads_log() {
            match self.recount(key) {
                Ok(entries) => looked += entries,
                Err(Evicted) => self.lost(key),
            }
        }
        self.sweep_resume(key);
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
        if !behind.reads_log() {
            // Nothing is counted yet.
            return Ok(0);
        }
        let inexact = behind.inexact;
        let most = if inexact { usize::MAX } else { MAX_ENTRIES };
        let (mut lags, mut first) = (Lags::default(), None);
        let shared = &self.shared;
        let reading = Reading { connection, behind, lanes: &shared.lanes, log: &shared.log };
        let walked = walk(reading, self.place.seq(), most, |met| {
            match met {
                Met::Loss { before, .. } => first = first.take().or(Some(before)),
                Met::Entry(pending) => {
                    first.get_or_insert_with(|| pending.after.back());
                    if !pending.passed_over && pending.seq >= behind.counted_from {
                        lags.add(pending.claim.rule, pending.size(connection)?);
                    }
                }
            }
            Ok(inexact)
        })?;
        if let Flow::Behind(behind) = &mut self.connections[key].flow {
            behind.move_to(first.unwrap_or(walked.place));
            if inexact {
                behind.lags.recounted(lags);
                behind.inexact = false;
            } else if let Some(resume) = &mut behind.resume {
                for (lane, next) in walked.passed {
                    resume.seen.advance(lane, Position::before(next));
                }
            }
        }
        Ok(walked.looked)
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
        let mut positions = Vec::new();
        let end = self.place.seq();
        let shared = &self.shared;
        let reading = Reading { connection, behind, lanes: &shared.lanes, log: &shared.log };
        let walked = walk(reading, end, MAX_ENTRIES, |met| {
            // Where something is lost, that is told when it is come to.
            let Met::Entry(pending) = met else { return Ok(true) };
            if pending.claim.rule != rule {
                return Ok(true);
            }
            let entry = pending.entry;
            let counted = !pending.passed_over && pending.seq >= behind.counted_from;
            let size = if counted { pending.size(connection)? } else { 0 };
            lags.subtract(rule, size);
            match claim(&others, &entry.rooms, pending.seq) {
                // It comes all the same, by a room that allows for more.
                Some(claim) => lags.add(claim.rule, size),
                None => {
                    for room in entry.rooms.iter().map(RoomRef::id) {
                        if !rooms.contains(&room) {
                            rooms.push(room);
                        }
                    }
                }
            }
            dropped_to = Some(pending.seq + 1);
            if behind.resume.is_some() {
                let Stand { log, batch, at, .. } = pending.stand;
                positions = log.positions_after(batch, at)?;
            }
            Ok(lags.bytes(rule) > max)
        });
        let Ok(Walked { looked, .. }) = walked else {
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
                if let Some(resume) = &mut behind.resume {
                    resume.begins(membership.room, positions.clone());
                }
            }
            // Only to save reading it again.
            let _ = self.recount(key);
        }
        looked
    }

    /// The log has moved on: what was pending is too far behind, all of it. To find out
    /// what of it is still there would be to read the whole log, for each that has
    /// fallen off its end.
    ///
    /// Who came back with a cursor has it still, and begins again.
    pub(crate) fn lost(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        let Flow::Behind(behind) = &mut connection.flow else { return };
        if behind.resume.is_some() {
            return self.fell(key);
        }
        let rules = self.shared.rooms.rules();
        if behind.lags.pending().any(|rule| rules.policy(rule) == Policy::Disconnect) {
            return self.too_slow(key);
        }
        for membership in &mut connection.memberships {
            membership.gap |= behind.lags.bytes(membership.rule) > 0;
        }
        self.counters.overflows += u64::from(!behind.lags.is_zero());
        behind.lags = Lags::default();
        if behind.place.seq() < behind.read_to {
            // The loss that it had yet to be told of.
            (behind.read_to, behind.gap) = (0, Some(GapReason::Expired));
        }
        behind.move_to(self.place.clone());
    }

    pub(crate) fn too_slow(&mut self, key: usize) {
        let after = self.shared.limits.retry_after;
        self.begin_close(key, &Close::Slow { after });
    }
}
