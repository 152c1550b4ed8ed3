//! The thread that reads.
//!
//! Polls the consumer, turns what is there into one batch, and hands it on with a send
//! that waits: while nobody takes batches nothing is polled, and librdkafka stops
//! fetching at its own limit. That is the backpressure.

mod asks;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use fanout::{Event, EventBatch, Lane, SourceError, SourceReporter};
use metrics::counter;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use tokio::sync::mpsc;

use crate::config::KafkaConfig;
use crate::context::{Consumer, Context};
use crate::lanes::{Lanes, Opening, partition_list};
use crate::metrics::EXPIRED;
use crate::poll::{Poll, Polled, Record, Refused};
use crate::record::to_event;
use crate::watcher::{Ask, Found};
use crate::watermarks::cached_end;

use asks::Asks;

/// How long one poll waits, and so how soon the thread notices that it is to end.
const POLL: Duration = Duration::from_millis(100);
/// How often the lag is looked up.
const LAG: Duration = Duration::from_secs(1);

/// What the source is handed, in this order.
#[derive(Debug)]
pub(crate) enum Handed {
    Batch(EventBatch),
    /// The ends at start lie in the batches before.
    CaughtUp,
    /// Nothing follows.
    Failed(SourceError),
}

/// How far the source is on its way to its ends at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Not every partition is known.
    Opening,
    /// Every partition is being read.
    CatchingUp,
    /// Their ends at start were reached once.
    CaughtUp,
}

/// Reads until the source is gone.
pub(crate) struct Reader {
    // Before the reporter: when that is dropped, nothing is counted any more and the client is
    // known to be closed.
    lanes: Lanes,
    consumer: Arc<Consumer>,
    _reporter: Arc<SourceReporter>,
    config: KafkaConfig,
    found: Receiver<Found>,
    asks: Asks,
    /// Lanes to be read no more, and why.
    halts: Receiver<(Arc<Lane>, String)>,
    out: mpsc::Sender<Handed>,
    progress: Progress,
    /// How many events the last batch had.
    last_events: usize,
    looked_at_lag: Instant,
}

impl Reader {
    pub(crate) fn new(
        consumer: Arc<Consumer>,
        reporter: Arc<SourceReporter>,
        config: KafkaConfig,
        found: Receiver<Found>,
        ask: SyncSender<Ask>,
        halts: Receiver<(Arc<Lane>, String)>,
        out: mpsc::Sender<Handed>,
    ) -> Self {
        Self {
            lanes: Lanes::default(),
            consumer,
            _reporter: reporter,
            config,
            found,
            asks: Asks::new(ask),
            halts,
            out,
            progress: Progress::Opening,
            last_events: 0,
            looked_at_lag: Instant::now(),
        }
    }

    /// Ends when the source is gone, or cannot go on.
    pub(crate) fn run(mut self) {
        let ended = Poll::new(self.consumer.clone()).and_then(|poll| self.read(&poll));
        if let Err(error) = ended {
            tracing::error!(%error, "kafka source has ended");
            self.hand_on(Handed::Failed(SourceError(Box::new(error))));
        }
    }

    fn read(&mut self, poll: &Poll<Context>) -> Result<(), KafkaError> {
        while !self.out.is_closed() {
            let batch = self.round(poll)?;
            let EventBatch { events, frontier, lost, closed } = &batch;
            // What was lost has moved its lane on, unless that was closed as well.
            debug_assert!(lost.is_empty() || !frontier.is_empty() || !closed.is_empty());
            if !events.is_empty() || !frontier.is_empty() || !closed.is_empty() {
                self.hand_on(Handed::Batch(batch));
            }
            self.tell_caught_up();
        }
        Ok(())
    }

    /// Waits for room. Where nobody is left to take it, that is no loss, and the end.
    fn hand_on(&self, handed: Handed) {
        drop(self.out.blocking_send(handed));
    }

    /// What there is to hand on, after at most [`POLL`] where there is nothing.
    fn round(&mut self, poll: &Poll<Context>) -> Result<EventBatch, KafkaError> {
        let mut batch = EventBatch::default();
        // Before anything is read: what is lost stood before this batch's events.
        while let Ok(found) = self.found.try_recv() {
            self.apply(found, &mut batch)?;
        }
        if self.lanes.is_empty() {
            // Nothing is assigned: what is waited for is an assignment.
            if let Ok(found) = self.found.recv_timeout(POLL) {
                self.apply(found, &mut batch)?;
            }
        }
        while let Ok((lane, problem)) = self.halts.try_recv() {
            self.halt(lane, problem)?;
        }
        batch.events = self.drain(poll)?;
        batch.frontier = self.lanes.take_frontier();
        let now = Instant::now();
        if now.duration_since(self.looked_at_lag) >= LAG {
            self.looked_at_lag = now;
            self.measure_lag();
        }
        self.asks.ask(&self.lanes);
        Ok(batch)
    }

    /// Does what the watcher says; what is lost and closed is noted in the batch.
    fn apply(&mut self, found: Found, batch: &mut EventBatch) -> Result<(), KafkaError> {
        match found {
            Found::Open(mut openings) => {
                openings.retain(|opening| !self.lanes.is_open(&opening.lane));
                let places = openings.iter().map(|o: &Opening| (&o.lane, o.from));
                self.consumer.incremental_assign(&partition_list(places)?)?;
                for opening in openings {
                    self.lanes.open(opening);
                }
            }
            // ## Opening => CatchingUp
            Found::Settled => self.progress = Progress::CatchingUp,
            Found::Resume(lane, from) => {
                let Some((next, lost)) = self.lanes.lose(&lane, from) else { return Ok(()) };
                let places = partition_list([(&lane, next)])?;
                self.consumer.incremental_unassign(&places)?;
                self.consumer.incremental_assign(&places)?;
                if lost > 0 {
                    counter!(EXPIRED, "topic" => lane.topic.to_string()).increment(lost);
                    tracing::error!(%lane, lost, next, "deleted before it was read");
                    batch.lost.push(lane);
                }
            }
            Found::Close(lanes) => {
                // What was there is known while it is still assigned.
                self.measure_lag();
                for lane in lanes {
                    self.close(lane, batch)?;
                }
            }
        }
        Ok(())
    }

    /// Reads no more of a lane, which is no more. Nothing of it comes once it is unassigned,
    /// as [`poll`](crate::poll) says: what is opened in its place is not mistaken for it.
    fn close(&mut self, lane: Arc<Lane>, batch: &mut EventBatch) -> Result<(), KafkaError> {
        let Some(closed) = self.lanes.close(&lane) else { return Ok(()) };
        let (next, lost) = (closed.next, closed.unread());
        if !closed.is_halted() {
            self.consumer.incremental_unassign(&partition_list([(&lane, next)])?)?;
        }
        tracing::info!(%lane, next, "its log is no more");
        if lost > 0 {
            counter!(EXPIRED, "topic" => lane.topic.to_string()).increment(lost);
            tracing::error!(%lane, lost, next, "gone with its log before it was read");
            batch.lost.push(lane.clone());
        }
        batch.closed.push(lane);
        Ok(())
    }

    /// Reads no more of a lane, which stays where it is.
    fn halt(&mut self, lane: Arc<Lane>, problem: String) -> Result<(), KafkaError> {
        if self.lanes.halt(&lane) {
            self.consumer.incremental_unassign(&partition_list([(&lane, 0)])?)?;
            self.asks.halted(lane, problem);
        }
        Ok(())
    }

    /// Everything that is there, up to the limits of a batch.
    fn drain(&mut self, poll: &Poll<Context>) -> Result<Vec<Event>, KafkaError> {
        // As many as the last time: a batch is not moved while it grows.
        let (mut events, mut bytes) = (Vec::with_capacity(self.last_events), 0);
        let mut wait = if self.lanes.is_empty() { Duration::ZERO } else { POLL };
        // All that comes is counted, not events alone: nothing else must keep it here.
        for _ in 0..self.config.max_batch {
            match poll.next(wait) {
                Some(Polled::Record(record)) => {
                    bytes += record.payload().map_or(0, <[u8]>::len);
                    events.extend(self.take(&record));
                }
                Some(Polled::End(place)) => {
                    if let Some(next) = place.offset() {
                        self.lanes.advance(place.topic(), place.partition(), next);
                    }
                }
                Some(Polled::Refused(refused)) => self.refused(&refused),
                Some(Polled::Error(error)) => self.note(error)?,
                Some(Polled::Served) => {}
                None => break,
            }
            if bytes >= self.config.max_batch_bytes {
                break;
            }
            wait = Duration::ZERO;
        }
        self.last_events = events.len();
        Ok(events)
    }

    fn take(&mut self, record: &Record<'_>) -> Option<Event> {
        let reading = self.lanes.take(record.topic(), record.partition(), record.offset())?;
        let payload = record.payload();
        reading.metrics.record(payload.map_or(0, <[u8]>::len));
        if payload.is_none() && !self.config.tombstones {
            reading.metrics.tombstone();
            return None;
        }
        Some(to_event(record, &reading.lane))
    }

    /// Notes that the broker does not have what was to be read next.
    fn refused(&mut self, Refused { place, cut }: &Refused) {
        let doubt = self.lanes.doubt(place.topic(), place.partition(), *cut);
        let Some((lane, next, cut)) = doubt else { return };
        tracing::warn!(%lane, next, asked = place.offset(), cut, "refused by its broker");
        match cut {
            Some(cut) => self.asks.truncated(lane.clone(), next, cut),
            None => self.asks.doubted(),
        }
    }

    /// Notes an error that the consumer tells of. Most pass by themselves.
    fn note(&mut self, error: KafkaError) -> Result<(), KafkaError> {
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Err(error);
        }
        self.asks.check();
        Ok(())
    }

    fn measure_lag(&mut self) {
        for reading in self.lanes.iter_mut() {
            let (topic, partition) = (&reading.lane.topic, reading.lane.partition);
            if let Some(end) = cached_end(&self.consumer, topic, partition) {
                reading.ends(end);
            }
        }
    }

    fn tell_caught_up(&mut self) {
        // ## CatchingUp => CaughtUp
        // For good: falling behind later is told by the lag.
        if self.progress == Progress::CatchingUp && self.lanes.caught_up() {
            self.progress = Progress::CaughtUp;
            // Behind the batches: it is true once they were taken.
            self.hand_on(Handed::CaughtUp);
        }
    }
}
