//! A log of several lanes in memory that many sources read.
//!
//! What Kafka is to nodes, without the broker: it outlives its readers, each of which is at
//! a place of its own, it deletes what is old, it grows new partitions and loses others, and
//! it can be read again. Nothing in it waits or is random but what a test asks for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::event::Event;
use crate::position::Lane;
use crate::source::{
    Bounds, EventBatch, Replay, ReplayError, ReplayRange, Source, SourceError, SourceReporter,
    SourceStatus,
};

/// Tells logs apart: their offsets begin anew.
static LOGS: AtomicU64 = AtomicU64::new(0);

/// A log in memory. Clones are the same log.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    state: Arc<Mutex<State>>,
    /// Counts what has changed, for those who wait.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    name: Arc<str>,
    topic: Arc<str>,
    /// Those that are and those that were; each stays where it is.
    lanes: Vec<Stored>,
    /// The lane of each partition.
    partitions: Vec<usize>,
    /// Where offsets get holes: the state of a generator.
    holes: Option<u64>,
    /// Why it cannot be read again now.
    unavailable: bool,
    passes: u64,
    read_again: u64,
}

/// One lane.
#[derive(Debug)]
struct Stored {
    lane: Arc<Lane>,
    bounds: Bounds,
    events: VecDeque<Event>,
    /// Whether it is no more; it still holds what those who read on are to get.
    closed: bool,
}

/// From where on a [`MemoryLogSource`] reads what was there before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryStart {
    /// All that is kept.
    Earliest,
    /// Nothing of it.
    Latest,
    /// In each lane as many of the newest.
    Last(usize),
}

/// A reader of a [`MemoryLog`]: one node's source.
#[derive(Debug)]
pub struct MemoryLogSource {
    log: MemoryLog,
    changed: watch::Receiver<u64>,
    paused: watch::Receiver<bool>,
    pause: Arc<watch::Sender<bool>>,
    reads: Vec<Read>,
    /// How many of them are closed.
    closed: Arc<AtomicUsize>,
    /// The lane that is read first; another each time.
    turn: usize,
    reporter: SourceReporter,
    status: SourceStatus,
}

/// How far a source is in a lane.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    /// The next offset.
    next: u64,
    /// Where the lane ended at start.
    end: u64,
    /// Whether it was told that the lane is read.
    told: bool,
    /// Whether there will be nothing more.
    closed: bool,
}

/// Holds a [`MemoryLogSource`] up, and lets it go on: a node that lags.
#[derive(Clone, Debug)]
pub struct MemoryLogPause {
    pause: Arc<watch::Sender<bool>>,
    closed: Arc<AtomicUsize>,
}

impl MemoryLog {
    /// Most events of one batch.
    pub const MAX_BATCH: usize = 32;

    /// An empty log of this many lanes.
    pub fn new(topic: &str, partitions: u32) -> Self {
        let number = LOGS.fetch_add(1, Ordering::Relaxed);
        let state = State {
            name: format!("memory-log-{number}").into(),
            topic: topic.into(),
            lanes: Vec::new(),
            partitions: Vec::new(),
            holes: None,
            unavailable: false,
            passes: 0,
            read_again: 0,
        };
        let log = Self { state: Arc::new(Mutex::new(state)), changed: watch::Sender::new(0) };
        for _ in 0..partitions {
            log.add_partition();
        }
        log
    }

    /// Leaves out an offset now and then from here on, as transactions and compaction do;
    /// the same ones for the same seed.
    #[must_use]
    pub fn with_holes(self, seed: u64) -> Self {
        self.state().holes = Some(seed | 1);
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.state());
        self.changed.send_modify(|changes| *changes += 1);
        result
    }

    /// Appends a record to a lane and returns its offset. Never waits.
    ///
    /// # Panics
    /// Where there is no such partition, or it is closed.
    pub fn write(&self, partition: u32, key: Option<Bytes>, payload: impl Into<Bytes>) -> u64 {
        self.change(|state| {
            let hole = state.hole();
            let stored = state.partition_mut(partition);
            assert!(!stored.closed, "partition {partition} is closed");
            let offset = stored.bounds.end + hole;
            let event = Event::new(stored.lane.clone(), offset, payload.into()).with_key(key);
            stored.events.push_back(event);
            stored.bounds.end = offset + 1;
            offset
        })
    }

    /// Adds an empty lane and returns its number. Sources read it from its start.
    pub fn add_partition(&self) -> u32 {
        self.change(|state| {
            let partition = state.partitions.len() as u32;
            let lane = Lane::new(state.name.clone(), state.topic.clone(), partition);
            state.partitions.push(state.lanes.len());
            state.open(lane);
            partition
        })
    }

    /// A partition is no more. Who reads on gets what it holds, and then its end; it cannot be
    /// read again.
    ///
    /// # Panics
    /// Where there is no such partition.
    pub fn close(&self, partition: u32) {
        self.change(|state| state.partition_mut(partition).closed = true);
    }

    /// A partition is no more, and neither is what nobody has read of it.
    ///
    /// # Panics
    /// Where there is no such partition.
    pub fn delete(&self, partition: u32) {
        self.change(|state| {
            let stored = state.partition_mut(partition);
            stored.closed = true;
            stored.events.clear();
            stored.bounds.first = stored.bounds.end;
        });
    }

    /// A partition that was [closed](Self::close) or [deleted](Self::delete) is there again,
    /// as an empty lane of another log.
    ///
    /// # Panics
    /// Where there is no such partition, or it is open.
    pub fn make_anew(&self, partition: u32) {
        self.change(|state| {
            assert!(state.partition_mut(partition).closed, "partition {partition} is open");
            let number = state.lanes.len();
            let log = format!("{}-{number}", state.name);
            state.partitions[partition as usize] = number;
            state.open(Lane::new(log, state.topic.clone(), partition));
        });
    }

    /// Deletes what stands before an offset of a lane.
    ///
    /// # Panics
    /// Where there is no such partition.
    pub fn expire(&self, partition: u32, before: u64) {
        self.change(|state| {
            let Stored { bounds, events, .. } = state.partition_mut(partition);
            bounds.first = before.min(bounds.end).max(bounds.first);
            while events.front().is_some_and(|event| event.offset < bounds.first) {
                events.pop_front();
            }
        });
    }

    /// Sets whether it can be read again; where not, every try fails as one that may help
    /// later. Those who read on are not touched.
    pub fn set_replays(&self, available: bool) {
        self.change(|state| state.unavailable = !available);
    }

    /// Its lanes, by partition, without those that are closed.
    pub fn lanes(&self) -> Vec<Arc<Lane>> {
        let state = self.state();
        let of = |number: &usize| &state.lanes[*number];
        let open = state.partitions.iter().map(of).filter(|stored| !stored.closed);
        open.map(|stored| stored.lane.clone()).collect()
    }

    /// What it has of a lane.
    ///
    /// # Panics
    /// Where there is no such partition.
    pub fn bounds(&self, partition: u32) -> Bounds {
        self.state().partition_mut(partition).bounds
    }

    /// How many passes were begun over past records.
    pub fn passes(&self) -> u64 {
        self.state().passes
    }

    /// How many records were read again.
    pub fn read_again(&self) -> u64 {
        self.state().read_again
    }

    /// A reader of its own.
    pub fn source(&self, start: MemoryStart) -> MemoryLogSource {
        let changed = self.changed.subscribe();
        let (pause, paused) = watch::channel(false);
        let (reporter, status) = SourceStatus::new();
        reporter.update(|health| health.connected = true);
        let place = |stored: &Stored| match start {
            MemoryStart::Earliest => stored.bounds.first,
            MemoryStart::Latest => stored.bounds.end,
            MemoryStart::Last(records) => {
                let before = stored.events.len().saturating_sub(records);
                stored.events.get(before).map_or(stored.bounds.end, |event| event.offset)
            }
        };
        let read = |stored: &Stored| {
            let (next, end) = (place(stored), stored.bounds.end);
            Read { next, end, told: false, closed: stored.closed }
        };
        let reads: Vec<Read> = self.state().lanes.iter().map(read).collect();
        let closed = reads.iter().filter(|read| read.closed).count();
        let (log, pause, closed) = (self.clone(), Arc::new(pause), Arc::new(closed.into()));
        MemoryLogSource { log, changed, paused, pause, reads, closed, turn: 0, reporter, status }
    }
}

impl State {
    fn partition_mut(&mut self, partition: u32) -> &mut Stored {
        &mut self.lanes[self.partitions[partition as usize]]
    }

    fn open(&mut self, lane: Lane) {
        let bounds = Bounds { first: 0, end: 0 };
        let events = VecDeque::new();
        self.lanes.push(Stored { lane: Arc::new(lane), bounds, events, closed: false });
    }

    /// How many offsets the next record leaves out.
    fn hole(&mut self) -> u64 {
        let Some(random) = &mut self.holes else { return 0 };
        // xorshift64 (Marsaglia 2003): the same holes every time.
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        (*random >> 32).saturating_sub(0xe000_0000) % 4
    }
}

impl Stored {
    /// Events from `from` on and before `to`, at most `most`, and how far that is.
    fn read(&self, from: u64, to: u64, most: usize) -> (Vec<Event>, u64) {
        let at = self.events.partition_point(|event| event.offset < from);
        let events = self.events.range(at..).take_while(|event| event.offset < to);
        let events: Vec<Event> = events.take(most).cloned().collect();
        let more = self.events.get(at + events.len()).is_some_and(|next| next.offset < to);
        // Without more, holes before `to` are passed as well.
        let reached = match events.last() {
            Some(last) if more => last.offset + 1,
            None if more => from,
            _ => to,
        };
        (events, reached)
    }
}

impl MemoryLogSource {
    /// What holds it up.
    pub fn pause(&self) -> MemoryLogPause {
        MemoryLogPause { pause: self.pause.clone(), closed: self.closed.clone() }
    }

    /// What there is now; `None` where that is nothing.
    fn take(&mut self) -> Option<EventBatch> {
        let state = self.log.state();
        let mut batch = EventBatch::default();
        // Of those that have come since, everything.
        self.reads.resize(state.lanes.len(), Read::default());
        for (stored, read) in state.lanes.iter().zip(&mut self.reads) {
            if !std::mem::replace(&mut read.told, true) && !read.closed {
                batch.frontier.push((stored.lane.clone(), read.next));
            }
        }
        if !batch.frontier.is_empty() {
            return Some(batch);
        }
        self.turn += 1;
        for n in 0..state.lanes.len() {
            let at = (self.turn + n) % state.lanes.len();
            let (stored, Read { next, closed, .. }) = (&state.lanes[at], &mut self.reads[at]);
            let Stored { lane, bounds, .. } = stored;
            if *closed {
                continue;
            }
            if *next < bounds.first {
                batch.lost.push(lane.clone());
                *next = bounds.first;
                if !stored.closed {
                    batch.frontier.push((lane.clone(), *next));
                }
            }
            let room = MemoryLog::MAX_BATCH - batch.events.len();
            let (events, reached) = stored.read(*next, bounds.end, room);
            batch.events.extend(events);
            if reached > *next {
                *next = reached;
                batch.frontier.push((lane.clone(), reached));
            }
            if stored.closed && *next >= bounds.end {
                *closed = true;
                self.closed.fetch_add(1, Ordering::SeqCst);
                batch.closed.push(lane.clone());
            }
        }
        (!(batch.frontier.is_empty() && batch.closed.is_empty())).then_some(batch)
    }
}

impl Source for MemoryLogSource {
    async fn next(&mut self) -> Result<Option<EventBatch>, SourceError> {
        if self.reads.iter().all(|read| read.closed || (read.told && read.next >= read.end)) {
            self.reporter.update(|health| health.caught_up = true);
        }
        loop {
            // Its other end is kept here as well.
            let _ = self.paused.wait_for(|paused| !paused).await;
            self.changed.mark_unchanged();
            if let Some(batch) = self.take() {
                return Ok(Some(batch));
            }
            tokio::select! {
                _ = self.changed.changed() => {}
                _ = self.paused.changed() => {}
            }
        }
    }

    fn status(&self) -> SourceStatus {
        self.status.clone()
    }

    fn replay(&self) -> Option<Box<dyn Replay>> {
        Some(Box::new(Pass { log: self.log.clone(), left: VecDeque::new() }))
    }
}

impl MemoryLogPause {
    /// Nothing is handed on until further notice.
    pub fn pause(&self) {
        self.pause.send_replace(true);
    }

    /// It goes on.
    pub fn resume(&self) {
        self.pause.send_replace(false);
    }

    /// How many lanes it has handed on to their end, or found closed when it began.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }
}

/// Reads past records again.
struct Pass {
    log: MemoryLog,
    left: VecDeque<ReplayRange>,
}

impl State {
    fn available(&self) -> Result<(), ReplayError> {
        let why = "replays are switched off";
        if self.unavailable { Err(ReplayError::Unavailable(why.into())) } else { Ok(()) }
    }

    fn of(&self, lane: &Arc<Lane>) -> Option<&Stored> {
        let stored = &self.lanes[*self.partitions.get(lane.partition as usize)?];
        (stored.lane == *lane && !stored.closed).then_some(stored)
    }

    /// The lane that a range is of.
    fn ranged(&self, range: &ReplayRange) -> Result<&Stored, ReplayError> {
        let stored = self.of(&range.lane).filter(|stored| stored.bounds.first <= range.from);
        stored.ok_or_else(|| ReplayError::Expired { lane: range.lane.clone() })
    }
}

impl Replay for Pass {
    fn bounds<'a>(
        &'a mut self,
        lanes: &'a [Arc<Lane>],
    ) -> BoxFuture<'a, Result<Vec<Option<Bounds>>, ReplayError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let state = self.log.state();
            state.available()?;
            Ok(lanes.iter().map(|lane| Some(state.of(lane)?.bounds)).collect())
        })
    }

    fn begin(&mut self, ranges: Vec<ReplayRange>) -> BoxFuture<'_, Result<(), ReplayError>> {
        Box::pin(async move {
            self.left.clear();
            tokio::task::yield_now().await;
            let mut state = self.log.state();
            state.available()?;
            ranges.iter().try_for_each(|range| state.ranged(range).map(drop))?;
            state.passes += 1;
            self.left = ranges.into();
            Ok(())
        })
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<EventBatch>, ReplayError>> {
        Box::pin(async move {
            // Others have their turn; nothing was taken yet.
            tokio::task::yield_now().await;
            let Some(range) = self.left.front_mut() else { return Ok(None) };
            let mut state = self.log.state();
            state.available()?;
            let (events, reached) =
                state.ranged(range)?.read(range.from, range.to, MemoryLog::MAX_BATCH);
            state.read_again += events.len() as u64;
            let frontier = vec![(range.lane.clone(), reached)];
            range.from = reached;
            if reached == range.to {
                self.left.pop_front();
            }
            Ok(Some(EventBatch { events, frontier, ..EventBatch::default() }))
        })
    }
}
