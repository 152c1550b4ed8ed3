//! Lanes that are closed while somebody is on the way.
//!
//! ```text
//!   log  ..... a batch ..... the lane's last ..... closed ..... a batch
//!                 ^ who reads here goes on             ^ the shard
//! ```
//!
//! The shard comes to the close first. Who reads the log and has not come so far keeps the
//! lane in its cursor until it has: if it falls off the log before, something is missing.
//! Who waits for its turn or for a replay, or reads one, will not find the lane any more.

use std::sync::Arc;

use super::{Resume, Stage};
use crate::connection::{Behind, Flow, Phase};
use crate::log::Batch;
use crate::seen::Seen;
use crate::shard::Shard;
use crate::sink::GapReason;

impl Behind {
    /// Forgets lanes that were closed before the place where it is now; its shard is after
    /// the batch `shard`.
    pub(crate) fn pass_closes(&mut self, shard: u64) {
        if self.resume.as_ref().is_none_or(|resume| resume.closing.is_empty()) {
            return;
        }
        let here = if self.has_all() { Some(shard) } else { self.place.batch() };
        let Some(resume) = self.resume.as_deref_mut() else { return };
        if let (Stage::Reading, Some(here)) = (&resume.stage, here) {
            resume.pass_closes(here);
        }
    }
}

impl Resume {
    /// Forgets lanes that were closed up to a batch.
    fn pass_closes(&mut self, here: u64) {
        let Self { seen, closing, passed, .. } = self;
        closing.retain(|(number, lane)| {
            if *number <= here {
                seen.close(*lane);
                *passed = (*number).max(*passed);
            }
            *number > here
        });
    }

    /// Leaves out of a cursor what is closed before a batch.
    pub(crate) fn leave_out(&self, cursor: &mut Seen, batch: u64) {
        for (_, lane) in self.closing.iter().filter(|(number, _)| *number < batch) {
            cursor.close(*lane);
        }
    }
}

impl Shard {
    /// Lanes are no more: whoever is here or comes here has no place in them.
    pub(crate) fn note_close(&mut self, batch: &Arc<Batch>) {
        for lane in &batch.closed {
            self.frontier.close(*lane);
        }
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            let connection = &mut self.connections[key];
            let (Flow::Behind(behind), Phase::Open) = (&mut connection.flow, connection.phase)
            else {
                continue;
            };
            let (reads_log, has_all) = (behind.reads_log(), behind.has_all());
            let Some(resume) = behind.resume.as_deref_mut() else { continue };
            if batch.number <= resume.passed {
                // Its cursor was read after that.
                continue;
            }
            if !reads_log {
                self.tell_gap_of_all(key, GapReason::Reset);
                continue;
            }
            resume.closing.extend(batch.closed.iter().map(|lane| (batch.number, *lane)));
            if has_all {
                resume.pass_closes(batch.number);
            }
        }
    }
}

#[cfg(all(test, not(fanout_model)))]
mod tests;
