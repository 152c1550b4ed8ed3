//! A source in memory that keeps everything, with faults: that the suite notices them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use tokio::sync::watch;

use super::{Record, SourceHarness, SourceWriter, source_contract};
use crate::event::Event;
use crate::position::Lane;
use crate::source::{
    Bounds, EventBatch, Replay, ReplayError, ReplayRange, Source, SourceError, SourceReporter,
    SourceStatus,
};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// No lane's place is told before its events.
    NoPlace,
    /// It has caught up as soon as the last batch is handed on.
    CaughtUpEarly,
    /// It reads again one record more than its ranges hold.
    Outside,
    /// It reads again one record less.
    Short,
    /// It never says how far a range was read.
    NoFrontier,
    /// What is left of a pass comes with the next one.
    Leftovers,
    /// A future that is dropped takes its batch with it.
    LosesWhenCancelled,
    /// It has bounds for lanes of other logs.
    AnyLog,
    /// A pass waits for the source to be read.
    WaitsForLive,
}

const LANES: u32 = 2;
const MAX_BATCH: usize = 50;

/// The log: each lane's events, and how many there are of all.
#[derive(Clone)]
struct Log {
    lanes: Arc<Mutex<Vec<Vec<Event>>>>,
    written: watch::Sender<usize>,
}

impl Log {
    fn append(&self, records: Vec<Record>) {
        let mut lanes = self.lanes.lock().unwrap();
        for Record { key, payload } in records {
            let number = u32::from(key[key.len() - 1]) % LANES;
            let lane = &mut lanes[number as usize];
            // Every other offset is a hole.
            let offset = lane.len() as u64 * 2;
            lane.push(Event::new(name(number), offset, payload).with_key(Some(key)));
        }
        self.written.send_replace(lanes.iter().map(Vec::len).sum());
    }
}

fn name(partition: u32) -> Arc<Lane> {
    Arc::new(Lane::new("fake", "t", partition))
}

struct FakeSource {
    fault: Fault,
    log: Log,
    written: watch::Receiver<usize>,
    read: [usize; LANES as usize],
    total: watch::Sender<usize>,
    begun: bool,
    at_start: usize,
    reporter: SourceReporter,
    status: SourceStatus,
}

impl FakeSource {
    fn new(fault: Fault, log: &Log) -> Self {
        let (reporter, status) = SourceStatus::new();
        let written = log.written.subscribe();
        let at_start = *written.borrow();
        let (log, total) = (log.clone(), watch::Sender::new(0));
        reporter.update(|health| health.connected = true);
        let begun = fault == Fault::NoPlace;
        Self { fault, log, written, read: [0, 0], total, begun, at_start, reporter, status }
    }

    fn tell_caught_up(&self) {
        if self.read.iter().sum::<usize>() >= self.at_start {
            self.reporter.update(|health| health.caught_up = true);
        }
    }
}

impl Source for FakeSource {
    async fn next(&mut self) -> Result<Option<EventBatch>, SourceError> {
        if !std::mem::replace(&mut self.begun, true) {
            let frontier = (0..LANES).map(|number| (name(number), 0)).collect();
            return Ok(Some(EventBatch { frontier, ..EventBatch::default() }));
        }
        self.tell_caught_up();
        let read: usize = self.read.iter().sum();
        if self.written.wait_for(|written| *written > read).await.is_err() {
            return Ok(None);
        }
        let mut events = Vec::new();
        for (lane, read) in self.log.lanes.lock().unwrap().iter().zip(&mut self.read) {
            let room = MAX_BATCH - events.len();
            let fresh = lane[*read..].iter().take(room);
            *read += fresh.len();
            events.extend(fresh.cloned());
        }
        self.total.send_replace(self.read.iter().sum());
        if self.fault == Fault::CaughtUpEarly {
            self.tell_caught_up();
        }
        Ok(Some(EventBatch { events, ..EventBatch::default() }))
    }

    fn status(&self) -> SourceStatus {
        self.status.clone()
    }

    fn replay(&self) -> Option<Box<dyn Replay>> {
        let (fault, log) = (self.fault, self.log.clone());
        let live = self.total.subscribe();
        Some(Box::new(FakeReplay { fault, log, live, pass: VecDeque::new() }))
    }
}

struct FakeReplay {
    fault: Fault,
    log: Log,
    live: watch::Receiver<usize>,
    pass: VecDeque<EventBatch>,
}

impl FakeReplay {
    fn batches(&self, ReplayRange { lane, from, to }: &ReplayRange) -> Vec<EventBatch> {
        let all = self.log.lanes.lock().unwrap()[lane.partition as usize].clone();
        let to_read = match self.fault {
            Fault::Outside => from.saturating_sub(2)..*to,
            Fault::Short => *from..to - 1,
            _ => *from..*to,
        };
        let events: Vec<Event> =
            all.into_iter().filter(|event| to_read.contains(&event.offset)).collect();
        let pieces = events
            .chunks(MAX_BATCH)
            .map(|piece| EventBatch { events: piece.to_vec(), ..EventBatch::default() });
        let frontier = vec![(lane.clone(), *to)];
        let end = EventBatch { frontier, ..EventBatch::default() };
        let end = (self.fault != Fault::NoFrontier).then_some(end);
        pieces.chain(end).collect()
    }
}

impl Replay for FakeReplay {
    fn bounds<'a>(
        &'a mut self,
        lanes: &'a [Arc<Lane>],
    ) -> BoxFuture<'a, Result<Vec<Option<Bounds>>, ReplayError>> {
        let log = self.log.lanes.lock().unwrap();
        let bounds = |lane: &Arc<Lane>| {
            let end = log[lane.partition as usize].len() as u64 * 2;
            let here = *lane.log == *"fake" || self.fault == Fault::AnyLog;
            here.then_some(Bounds { first: 0, end })
        };
        let bounds = lanes.iter().map(bounds).collect();
        Box::pin(async move { Ok(bounds) })
    }

    fn begin(&mut self, ranges: Vec<ReplayRange>) -> BoxFuture<'_, Result<(), ReplayError>> {
        Box::pin(async move {
            if self.fault != Fault::Leftovers {
                self.pass.clear();
            }
            let batches: Vec<_> = ranges.iter().flat_map(|range| self.batches(range)).collect();
            self.pass.extend(batches);
            Ok(())
        })
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<EventBatch>, ReplayError>> {
        Box::pin(async move {
            if self.fault == Fault::WaitsForLive {
                let written = *self.log.written.borrow();
                let _ = self.live.wait_for(|read| *read >= written).await;
            }
            if self.fault != Fault::LosesWhenCancelled {
                tokio::task::yield_now().await;
            }
            let batch = self.pass.pop_front();
            if self.fault == Fault::LosesWhenCancelled {
                tokio::task::yield_now().await;
            }
            Ok(batch)
        })
    }
}

impl SourceHarness for Fault {
    type Source = FakeSource;
    type Writer = Log;

    async fn open(&mut self) -> (FakeSource, Log) {
        self.open_holding(Vec::new()).await.unwrap()
    }

    async fn open_holding(&mut self, records: Vec<Record>) -> Option<(FakeSource, Log)> {
        let lanes = Arc::new(Mutex::new(vec![Vec::new(); LANES as usize]));
        let log = Log { lanes, written: watch::Sender::new(0) };
        log.append(records);
        Some((FakeSource::new(*self, &log), log))
    }

    fn max_batch(&self) -> usize {
        MAX_BATCH
    }
}

impl SourceWriter for Log {
    async fn write(&mut self, records: Vec<Record>) {
        self.append(records);
    }
}

/// What the suite says of it; time passes at once.
async fn said(mut fault: Fault) -> String {
    let checked = tokio::spawn(async move { source_contract(&mut fault).await }).await;
    let Err(error) = checked else { return "passed".into() };
    let panic = error.into_panic();
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_source_without_faults_passes() {
    assert_eq!(said(Fault::None).await, "passed");
}

#[tokio::test(start_paused = true)]
async fn every_fault_is_noticed() {
    let faults = [
        (Fault::NoPlace, "its place was never told"),
        (Fault::CaughtUpEarly, "nobody has asked for more"),
        (Fault::Outside, " to "),
        (Fault::Short, " to "),
        (Fault::NoFrontier, "the frontier of a pass ends with its range"),
        (Fault::Leftovers, "came after"),
        (Fault::LosesWhenCancelled, " to "),
        (Fault::AnyLog, "a lane of another log"),
        (Fault::WaitsForLive, "a pass does not go on"),
    ];
    for (fault, expected) in faults {
        let said = said(fault).await;
        assert!(said.contains(expected), "{fault:?}: {said}");
    }
}
