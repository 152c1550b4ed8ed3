//! What the reader asks of the watcher, who may be busy: nothing waits for it.
//!
//! What has to be heard is kept until it is taken. That is bounded: of each lane, one cut
//! until it is answered, and one halt.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use fanout::Lane;

use crate::lanes::Lanes;
use crate::watcher::Ask;

/// The reader's end of the channel, and what did not go through it yet.
pub(super) struct Asks {
    out: SyncSender<Ask>,
    waiting: VecDeque<Ask>,
    /// Whether the lanes whose places are in doubt are others than those last asked about.
    doubted: bool,
}

impl Asks {
    pub(super) fn new(out: SyncSender<Ask>) -> Self {
        Self { out, waiting: VecDeque::new(), doubted: false }
    }

    /// Whether anybody can be reached. Where something else waits to be read already, that
    /// adds nothing.
    pub(super) fn check(&self) {
        drop(self.out.try_send(Ask::Check));
    }

    /// What becomes of the lanes whose places are in doubt.
    pub(super) fn doubted(&mut self) {
        self.doubted = true;
    }

    pub(super) fn truncated(&mut self, lane: Arc<Lane>, next: u64, cut: u64) {
        self.waiting.push_back(Ask::Truncated(lane, next, cut));
    }

    pub(super) fn halted(&mut self, lane: Arc<Lane>, problem: String) {
        self.waiting.push_back(Ask::Halted(lane, problem));
    }

    /// Asks what there is to ask, as far as there is room.
    pub(super) fn ask(&mut self, lanes: &Lanes) {
        while let Some(ask) = self.waiting.pop_front() {
            if let Err(TrySendError::Full(ask)) = self.out.try_send(ask) {
                return self.waiting.push_front(ask);
            }
        }
        if self.doubted {
            // All of them: the watcher takes the newest for what is in doubt.
            let places = lanes.doubted().map(|(lane, next)| (lane.clone(), next)).collect();
            let asked = self.out.try_send(Ask::Verify(places));
            self.doubted = matches!(asked, Err(TrySendError::Full(_)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::lanes::Opening;

    #[test]
    fn what_has_to_be_heard_is_kept_until_it_is_taken() {
        let lane = Arc::new(Lane::new("log", "t", 0));
        let mut lanes = Lanes::default();
        lanes.open(Opening { lane: lane.clone(), from: 3, end: 3 });
        lanes.doubt("t", 0, None);
        let (out, asked) = sync_channel(1);
        let mut asks = Asks::new(out);
        asks.check();
        asks.check();
        asks.halted(lane.clone(), "poison".into());
        asks.truncated(lane, 3, 1);
        asks.doubted();
        let mut taken = Vec::new();
        for _ in 0..6 {
            asks.ask(&lanes);
            taken.extend(asked.try_recv());
        }
        assert!(
            matches!(
                &taken[..],
                [Ask::Check, Ask::Halted(..), Ask::Truncated(_, 3, 1), Ask::Verify(places)]
                    if places.len() == 1 && places[0].1 == 3
            ),
            "{taken:?}"
        );
    }
}
