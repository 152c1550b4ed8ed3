//! What is done for every connection now and then.

use super::Shard;
use crate::connection::Phase;
use crate::sink::{Close, Sink};

/// Connections looked at in one step of a sweep, and entries for their sake.
const SWEEP: usize = 1024;
const SWEEP_ENTRIES: usize = 16 * 1024;

impl Shard {
    /// Heartbeats, ends of identities, limits of those behind: a part of all
    /// connections each turn.
    pub(super) fn sweep_some(&mut self) {
        let Some(from) = self.sweep else { return };
        let slots = self.connections.capacity();
        let mut to = (from + SWEEP).min(slots);
        let mut looked = 0;
        for key in from..to {
            if self.connections.contains(key) {
                looked += self.sweep_one(key);
            }
            if looked > SWEEP_ENTRIES {
                to = key + 1;
                break;
            }
        }
        self.sweep = (to < slots).then_some(to);
        if self.sweep.is_none() {
            self.counters.rooms = self.members.len() as u64;
            if self.index == 0 {
                self.shared.housekeeping(self.now);
            }
            self.counters.resuming = self.resuming.len() as u64;
            self.counters.record(self.index, self.connections.len());
        }
    }

    /// Returns how many entries were looked at.
    fn sweep_one(&mut self, key: usize) -> usize {
        let (now, heartbeat) = (self.tenths(), self.heartbeat_tenths());
        let connection = &mut self.connections[key];
        match connection.phase {
            Phase::Open => {}
            Phase::Closing { deadline } | Phase::Finishing { deadline } => {
                if deadline <= self.now {
                    self.condemn(key);
                }
                return 0;
            }
            Phase::Dead => return 0,
        }
        let grace = self.shared.limits.expiry_grace;
        if self.wall.checked_sub(grace).is_some_and(|then| connection.identity.expired(then)) {
            self.begin_close(key, &Close::TokenExpired);
            return 0;
        }
        let looked = self.sweep_behind(key);
        let connection = &mut self.connections[key];
        if connection.phase == Phase::Open && connection.heartbeat_at <= now {
            connection.heartbeat_at = now + heartbeat;
            self.with_sink(key, Sink::heartbeat);
        }
        looked
    }

    pub(super) fn heartbeat_tenths(&self) -> u32 {
        (self.shared.limits.heartbeat.as_millis() / 100).max(1) as u32
    }
}
