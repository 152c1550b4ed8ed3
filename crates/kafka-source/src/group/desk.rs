//! What is between the thread that reads and whoever takes batches.
//!
//! Where a partition is taken away, this decides what becomes of its records: what was
//! handed out is waited for, what was not is dropped here, under one lock with the handing
//! out. So there is no record of which nobody knows which it was.
//!
//! ```text
//! open --push--> queued --take--> handed out --accept--> to be committed
//!                  '--leave, halt: dropped
//! ```
//!
//! Invariants: a lane is accepted up to what was handed out of it since it was opened, at
//! most; nothing of a lane that is not open, leaving or halted is handed out.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fanout::{EventBatch, Lane, SourceError};
use tokio::sync::Notify;

/// A lane, and the offset up to which something holds of it.
pub(super) type Place = (Arc<Lane>, u64);

/// The state, for two threads.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    room: Condvar,
    ready: Notify,
}

/// What comes of asking for a batch.
#[derive(Debug)]
pub(super) enum Taken {
    Batch(EventBatch),
    /// Nothing follows.
    Failed(SourceError),
    Nothing,
}

impl Desk {
    pub(super) fn new(max_batches: usize) -> Self {
        let state = State { max_batches, ..State::default() };
        Self { state: Mutex::new(state), room: Condvar::new(), ready: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole before anything in it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch; its reader is woken.
    pub(super) fn push(&self, batch: EventBatch) {
        self.lock().push(batch);
        self.ready.notify_one();
    }

    /// Gives lanes back; who takes batches is told.
    pub(super) fn close(&self, lanes: &[Arc<Lane>]) {
        self.lock().close(lanes);
        self.ready.notify_one();
    }

    /// Nothing follows what is queued.
    pub(super) fn fail(&self, error: SourceError) {
        let mut state = self.lock();
        if state.failed.is_none() && !state.has_failed {
            (state.failed, state.has_failed) = (Some(error), true);
        }
        drop(state);
        self.ready.notify_one();
    }

    /// The next batch; waits for it.
    ///
    /// Cancel safe: what is taken is returned at once.
    pub(super) async fn next(&self) -> Taken {
        loop {
            // Woken or not, it is looked at again: a wake-up that came before is kept.
            match self.lock().take() {
                Taken::Nothing => {}
                taken => {
                    self.room.notify_one();
                    return taken;
                }
            }
            self.ready.notified().await;
        }
    }

    /// Nobody takes batches any more.
    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
        self.room.notify_one();
    }

    /// Waits for room, or until nobody takes batches any more.
    pub(super) fn wait_for_room(&self, wait: Duration) {
        let state = self.lock();
        let waited = self.room.wait_timeout_while(state, wait, |s| s.is_full() && !s.abandoned);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// What was handed out, and what was accepted.
#[derive(Debug, Default)]
pub(super) struct State {
    queue: VecDeque<EventBatch>,
    lanes: HashMap<Arc<Lane>, Held>,
    /// Those that the thread has not heard of.
    halts: Vec<Arc<Lane>>,
    max_batches: usize,
    abandoned: bool,
    failed: Option<SourceError>,
    has_failed: bool,
}

#[derive(Debug)]
struct Held {
    /// The offset after what was handed out.
    handed: u64,
    /// The offset after what was taken for good.
    accepted: u64,
    /// What the group knows; `None` where it knows nothing yet.
    committed: Option<u64>,
    halted: bool,
    leaving: bool,
    /// Whether anybody knows of it.
    told: bool,
}

impl Held {
    fn is_read(&self) -> bool {
        !self.halted && !self.leaving
    }
}

impl State {
    /// Begins a lane at an offset; `committed` is whether the group knows of it.
    pub(super) fn open(&mut self, lane: Arc<Lane>, from: u64, committed: bool) {
        let committed = committed.then_some(from);
        let (halted, leaving, told) = (false, false, false);
        let held = Held { handed: from, accepted: from, committed, halted, leaving, told };
        self.lanes.insert(lane, held);
    }

    fn push(&mut self, mut batch: EventBatch) {
        let lanes = &self.lanes;
        let read = |lane: &Arc<Lane>| lanes.get(lane).is_some_and(Held::is_read);
        batch.events.retain(|event| read(&event.lane));
        batch.frontier.retain(|(lane, _)| read(lane));
        if !is_empty(&batch) {
            self.queue.push_back(batch);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= self.max_batches
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    fn take(&mut self) -> Taken {
        let Some(batch) = self.queue.pop_front() else {
            return self.failed.take().map_or(Taken::Nothing, Taken::Failed);
        };
        let events = batch.events.iter().map(|event| (&event.lane, event.offset.saturating_add(1)));
        for (lane, next) in events.chain(batch.frontier.iter().map(|(lane, next)| (lane, *next))) {
            if let Some(held) = self.lanes.get_mut(lane) {
                held.handed = held.handed.max(next);
                held.told = true;
            }
        }
        Taken::Batch(batch)
    }

    /// Everything before these offsets was taken for good.
    pub(super) fn accept(&mut self, places: &[Place]) {
        for (lane, next) in places {
            if let Some(held) = self.lanes.get_mut(lane) {
                // What is said of a time before it was opened is not more than is known.
                held.accepted = held.accepted.max((*next).min(held.handed));
            }
        }
    }

    /// Hands out nothing more of a lane; false where it is not open.
    pub(super) fn halt(&mut self, lane: &Arc<Lane>) -> bool {
        let Some(held) = self.lanes.get_mut(lane) else { return false };
        if !std::mem::replace(&mut held.halted, true) {
            self.halts.push(lane.clone());
            self.purge();
        }
        true
    }

    /// Lanes that were halted since this was last asked.
    pub(super) fn take_halts(&mut self) -> Vec<Arc<Lane>> {
        std::mem::take(&mut self.halts)
    }

    /// Hands out nothing more of these, which are to be given back.
    pub(super) fn leave(&mut self, lanes: &[Arc<Lane>]) {
        for lane in lanes {
            if let Some(held) = self.lanes.get_mut(lane) {
                held.leaving = true;
            }
        }
        self.purge();
    }

    fn purge(&mut self) {
        let lanes = &self.lanes;
        let read = |lane: &Arc<Lane>| lanes.get(lane).is_some_and(Held::is_read);
        for batch in &mut self.queue {
            batch.events.retain(|event| read(&event.lane));
            batch.frontier.retain(|(lane, _)| read(lane));
        }
        self.queue.retain(|batch| !is_empty(batch));
    }

    /// Whether all that was handed out of these was accepted. One that is halted accepts
    /// nothing any more.
    pub(super) fn drained(&self, lanes: &[Arc<Lane>]) -> bool {
        let held = lanes.iter().filter_map(|lane| self.lanes.get(lane));
        held.into_iter().all(|held| held.halted || held.accepted >= held.handed)
    }

    /// Forgets lanes that were given back. Whoever was handed something of them is told.
    fn close(&mut self, lanes: &[Arc<Lane>]) {
        self.leave(lanes);
        self.halts.retain(|lane| !lanes.contains(lane));
        let gone = lanes.iter().filter_map(|lane| self.lanes.remove_entry(lane));
        let closed: Vec<_> = gone.filter(|(_, held)| held.told).map(|(lane, _)| lane).collect();
        if closed.is_empty() {
            return;
        }
        match self.queue.back_mut() {
            // One more of those that say nothing else.
            Some(last) if last.events.is_empty() && last.frontier.is_empty() => {
                last.closed.extend(closed);
            }
            _ => self.queue.push_back(EventBatch { closed, ..EventBatch::default() }),
        }
    }

    /// What was accepted and not committed.
    pub(super) fn uncommitted(&self) -> Vec<Place> {
        let pending = self.lanes.iter().filter(|(_, held)| held.committed < Some(held.accepted));
        pending.map(|(lane, held)| (lane.clone(), held.accepted)).collect()
    }

    /// Whether anything of these was accepted and not committed.
    pub(super) fn owes(&self, lanes: &[Arc<Lane>]) -> bool {
        let mut held = lanes.iter().filter_map(|lane| self.lanes.get(lane));
        held.any(|held| held.committed < Some(held.accepted))
    }

    /// The group knows of this.
    pub(super) fn committed(&mut self, places: &[Place]) {
        for (lane, next) in places {
            if let Some(held) = self.lanes.get_mut(lane) {
                held.committed = held.committed.max(Some(*next));
            }
        }
    }
}

fn is_empty(batch: &EventBatch) -> bool {
    batch.events.is_empty() && batch.frontier.is_empty() && batch.closed.is_empty()
}

#[cfg(test)]
mod tests {
    use fanout::Event;

    use super::*;

    fn lane(partition: u32) -> Arc<Lane> {
        Arc::new(Lane::new("log", "t", partition))
    }

    fn batch(events: &[(u32, u64)], frontier: &[(u32, u64)]) -> EventBatch {
        let event = |&(partition, offset)| Event::new(lane(partition), offset, "x".into());
        let frontier = frontier.iter().map(|&(partition, next)| (lane(partition), next)).collect();
        let events = events.iter().map(event).collect();
        EventBatch { events, frontier, ..EventBatch::default() }
    }

    fn state() -> State {
        let mut state = State { max_batches: 2, ..State::default() };
        state.open(lane(0), 5, true);
        state.open(lane(1), 0, false);
        state
    }

    fn taken(state: &mut State) -> (Vec<(u32, u64)>, usize) {
        match state.take() {
            Taken::Batch(batch) => {
                let events = batch.events.iter().map(|e| (e.lane.partition, e.offset)).collect();
                (events, batch.closed.len())
            }
            other => panic!("{other:?}"),
        }
    }

    fn owed(state: &State) -> Vec<(u32, u64)> {
        let mut owed: Vec<_> =
            state.uncommitted().into_iter().map(|(lane, next)| (lane.partition, next)).collect();
        owed.sort_unstable();
        owed
    }

    #[test]
    fn what_was_accepted_is_committed_and_nothing_else() {
        let mut state = state();
        // Where it begins is known to nobody: the next owner has to begin there too.
        assert_eq!(owed(&state), [(1, 0)]);
        state.push(batch(&[(0, 5), (1, 0), (0, 6)], &[(1, 4)]));
        assert_eq!(owed(&state), [(1, 0)]);
        taken(&mut state);
        assert!(!state.drained(&[lane(0)]));
        state.accept(&[(lane(0), 6)]);
        assert_eq!(owed(&state), [(0, 6), (1, 0)]);
        state.accept(&[(lane(0), 99), (lane(1), 4), (lane(2), 1)]);
        assert_eq!(owed(&state), [(0, 7), (1, 4)], "not more than was handed out");
        assert!(state.drained(&[lane(0), lane(1)]));
        state.committed(&[(lane(0), 7), (lane(1), 2)]);
        assert!(state.owes(&[lane(1)]) && !state.owes(&[lane(0)]));
    }

    #[test]
    fn a_lane_that_leaves_keeps_what_was_handed_out_and_drops_the_rest() {
        let mut state = state();
        state.push(batch(&[(0, 5), (1, 0)], &[]));
        state.push(batch(&[(0, 6), (1, 1)], &[]));
        taken(&mut state);
        state.leave(&[lane(0)]);
        state.push(batch(&[(0, 7)], &[(0, 9)]));
        assert_eq!(taken(&mut state), (vec![(1, 1)], 0));
        assert!(matches!(state.take(), Taken::Nothing));
        assert!(!state.drained(&[lane(0)]) && state.lanes[&lane(0)].handed == 6);
        state.accept(&[(lane(0), 6)]);
        assert!(state.drained(&[lane(0)]));
        state.close(&[lane(0)]);
        assert_eq!(taken(&mut state), (vec![], 1), "it is told");
        // What is said of it later is of no use to anybody.
        state.accept(&[(lane(0), 6)]);
        assert_eq!(owed(&state), [(1, 0)]);
    }

    #[test]
    fn a_lane_that_comes_again_begins_anew() {
        let mut state = state();
        state.push(batch(&[(0, 5)], &[]));
        taken(&mut state);
        state.close(&[lane(0)]);
        state.open(lane(0), 3, true);
        state.push(batch(&[(0, 3)], &[]));
        // Of the time before.
        state.accept(&[(lane(0), 6)]);
        assert_eq!(owed(&state), [(1, 0)]);
        assert_eq!(taken(&mut state), (vec![], 1));
        assert_eq!(taken(&mut state), (vec![(0, 3)], 0));
    }

    #[test]
    fn a_halted_lane_is_not_waited_for() {
        let mut state = state();
        state.push(batch(&[(0, 5)], &[]));
        state.push(batch(&[(0, 6)], &[]));
        taken(&mut state);
        assert!(state.halt(&lane(0)) && state.halt(&lane(0)) && !state.halt(&lane(7)));
        assert_eq!((state.take_halts(), state.take_halts()), (vec![lane(0)], vec![]));
        assert!(matches!(state.take(), Taken::Nothing));
        assert!(state.drained(&[lane(0)]));
        assert_eq!(owed(&state), [(1, 0)]);
    }

    #[test]
    fn nothing_piles_up_where_nobody_takes() {
        let mut state = state();
        for round in 0..100 {
            state.push(batch(&[(0, 5 + round)], &[]));
            state.close(&[lane(0)]);
            state.open(lane(0), 5, true);
        }
        assert!(state.queue.is_empty(), "nobody knows of it");
    }
}
