//! A loss that the shard walks over, and those who wait for the shard to walk on.

use std::sync::Arc;

use crate::connection::Phase;
use crate::log::{Batch, Place};
use crate::shard::Shard;
use crate::sink::GapReason;

impl Shard {
    /// A connection has all up to where the shard is, and goes on with it.
    pub(crate) fn follow(&mut self, key: usize) {
        if !std::mem::replace(&mut self.behind(key).follows, true) {
            self.following.push(key as u32);
        }
    }

    /// Something is lost: everybody is told, after what stands before it.
    pub(super) fn note_loss(&mut self, batch: &Arc<Batch>) {
        for (lane, next) in &batch.frontier {
            self.frontier.advance(*lane, *next);
        }
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            if self.connections[key].phase != Phase::Open {
                continue;
            }
            let behind = self.behind(key);
            if behind.has_all() {
                behind.gap = Some(GapReason::Expired);
                // Or it would be told again when it reads on over it.
                behind.jump_to(Place::in_batch(batch, batch.end()));
                self.follow(key);
            } else if behind.reads_log() {
                behind.read_to = behind.read_to.max(batch.end());
            }
        }
    }
}
