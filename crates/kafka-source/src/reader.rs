//! The thread that reads.
//!
//! Polls the consumer, turns what is there into one batch, and hands it on with a send
//! that waits: while nobody takes batches nothing is polled, and librdkafka stops
//! fetching at its own limit. That is the backpressure.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use fanout::{Event, EventBatch, Lane, SourceError, SourceReporter};
use metrics::counter;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset};
use tokio::sync::mpsc;

use crate::config::KafkaConfig;
use crate::context::Consumer;
use crate::lanes::{Lanes, Opening, partition_list};
use crate::metrics::{EXPIRED, SKIPPED};
use crate::record::{Unusable, to_event};
use crate::throttle::Throttle;
use crate::watcher::{Ask, Found};
use crate::watermarks::cached_end;

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
    // Before the reporter: when that is dropped, the client is known to be closed.
    consumer: Arc<Consumer>,
    _reporter: Arc<SourceReporter>,
    config: KafkaConfig,
    found: Receiver<Found>,
    ask: SyncSender<Ask>,
    out: mpsc::Sender<Handed>,
    lanes: Lanes,
    progress: Progress,
    /// Whether a partition's end was reached: its place may lie beyond its last record.
    end_reached: bool,
    /// Whether places have to be verified, and nobody could be told yet.
    refused: bool,
    looked_at_places: Instant,
    looked_at_lag: Instant,
    skip_log: Throttle,
}

impl Reader {
    pub(crate) fn new(
        consumer: Arc<Consumer>,
        reporter: Arc<SourceReporter>,
        config: KafkaConfig,
        found: Receiver<Found>,
        ask: SyncSender<Ask>,
        out: mpsc::Sender<Handed>,
    ) -> Self {
        let now = Instant::now();
        Self {
            consumer,
            _reporter: reporter,
            config,
            found,
            ask,
            out,
            lanes: Lanes::default(),
            progress: Progress::Opening,
            end_reached: false,
            refused: false,
            looked_at_places: now,
            looked_at_lag: now,
            skip_log: Throttle::new(10, Duration::from_secs(10)),
        }
    }

    /// Ends when the source is gone, or cannot go on.
    pub(crate) fn run(mut self) {
        while !self.out.is_closed() {
            let batch = match self.round() {
                Ok(batch) => batch,
                Err(error) => {
                    tracing::error!(%error, "kafka source has ended");
                    self.hand_on(Handed::Failed(SourceError(Box::new(error))));
                    return;
                }
            };
            if !batch.events.is_empty() || !batch.frontier.is_empty() {
                self.hand_on(Handed::Batch(batch));
            }
            self.tell_caught_up();
        }
    }

    /// Waits for room. Where nobody is left to take it, that is no loss, and the end.
    fn hand_on(&self, handed: Handed) {
        drop(self.out.blocking_send(handed));
    }

    /// What there is to hand on, after at most [`POLL`] where there is nothing.
    fn round(&mut self) -> Result<EventBatch, KafkaError> {
        // Before anything is read: what is lost stood before this batch's events.
        let mut lost = Vec::new();
        while let Ok(found) = self.found.try_recv() {
            lost.extend(self.apply(found)?);
        }
        if self.lanes.is_empty() {
            // Nothing is assigned: what is waited for is an assignment.
            if let Ok(found) = self.found.recv_timeout(POLL) {
                lost.extend(self.apply(found)?);
            }
        }
        let events = self.drain()?;
        let now = Instant::now();
        if self.end_reached && now.duration_since(self.looked_at_places) >= POLL {
            self.looked_at_places = now;
            self.pass_holes()?;
        }
        if now.duration_since(self.looked_at_lag) >= LAG {
            self.looked_at_lag = now;
            self.measure_lag();
        }
        if self.refused {
            let places = self.lanes.iter().map(|reading| (reading.lane.clone(), reading.next));
            let asked = self.ask.try_send(Ask::Verify(places.collect()));
            self.refused = matches!(asked, Err(TrySendError::Full(_)));
        }
        Ok(EventBatch { events, frontier: self.lanes.take_frontier(), lost })
    }

    /// The lane of which something was lost, where that is so.
    fn apply(&mut self, found: Found) -> Result<Option<Arc<Lane>>, KafkaError> {
        match found {
            Found::Open(openings) => {
                let places = openings.iter().map(|o: &Opening| (&o.lane, o.from));
                self.consumer.incremental_assign(&partition_list(places)?)?;
                for opening in openings {
                    self.lanes.open(opening);
                }
            }
            // ## Opening => CatchingUp
            Found::Settled => self.progress = Progress::CatchingUp,
            Found::Resume(lane, from) => {
                let lost = self.lanes.lose(&lane.topic, lane.partition, from);
                // It may have been read on since it was asked about.
                let next = self.lanes.next(&lane.topic, lane.partition).unwrap_or(from);
                let places = partition_list([(&lane, next)])?;
                self.consumer.incremental_unassign(&places)?;
                self.consumer.incremental_assign(&places)?;
                if lost > 0 {
                    counter!(EXPIRED, "topic" => lane.topic.to_string()).increment(lost);
                    tracing::error!(%lane, lost, next, "deleted before it was read");
                    return Ok(Some(lane));
                }
            }
            Found::Halt(lane) => {
                self.consumer.incremental_unassign(&partition_list([(&lane, 0)])?)?;
            }
        }
        Ok(None)
    }

    /// Everything that is there, up to the limits of a batch.
    fn drain(&mut self) -> Result<Vec<Event>, KafkaError> {
        let consumer = self.consumer.clone();
        let (mut events, mut records, mut bytes) = (Vec::new(), 0, 0);
        let mut wait = if self.lanes.is_empty() { Duration::ZERO } else { POLL };
        // Records are counted, not events: those skipped must not keep it here.
        while records < self.config.max_batch && bytes < self.config.max_batch_bytes {
            match consumer.poll(wait) {
                Some(Ok(message)) => {
                    records += 1;
                    bytes += message.payload_len();
                    events.extend(self.take(&message));
                }
                Some(Err(error)) => self.note(error)?,
                None => break,
            }
            wait = Duration::ZERO;
        }
        Ok(events)
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) -> Option<Event> {
        let partition = u32::try_from(message.partition()).ok()?;
        let offset = u64::try_from(message.offset()).ok()?;
        let reading = self.lanes.take(message.topic(), partition, offset)?;
        reading.metrics.records.increment(1);
        reading.metrics.bytes.increment(message.payload_len() as u64);
        match to_event(message, &reading.lane, offset, self.config.json) {
            Ok(event) => Some(event),
            Err(reason) => {
                let lane = reading.lane.clone();
                self.skip(&lane, offset, reason);
                None
            }
        }
    }

    fn skip(&mut self, lane: &Lane, offset: u64, reason: Unusable) {
        let reason = reason.name();
        counter!(SKIPPED, "topic" => lane.topic.to_string(), "reason" => reason).increment(1);
        if let Some(held_back) = self.skip_log.pass(Instant::now()) {
            let (topic, partition) = (&*lane.topic, lane.partition);
            tracing::warn!(topic, partition, offset, reason, held_back, "record skipped");
        }
    }

    /// Notes an error that the consumer tells of. Most pass by themselves.
    fn note(&mut self, error: KafkaError) -> Result<(), KafkaError> {
        use RDKafkaErrorCode::{AutoOffsetReset, LogTruncation, OffsetOutOfRange};
        match error {
            KafkaError::PartitionEOF(_) => self.end_reached = true,
            KafkaError::MessageConsumptionFatal(_) => return Err(error),
            KafkaError::MessageConsumption(AutoOffsetReset | LogTruncation | OffsetOutOfRange) => {
                self.refused = true;
            }
            // Where one waits to be read already, another adds nothing.
            _ => drop(self.ask.try_send(Ask::Check)),
        }
        Ok(())
    }

    /// Moves lanes on beyond what is no record: marks of transactions, compacted tails.
    fn pass_holes(&mut self) -> Result<(), KafkaError> {
        self.end_reached = false;
        for place in self.consumer.position()?.elements() {
            if let (Ok(partition), Offset::Offset(next)) =
                (u32::try_from(place.partition()), place.offset())
            {
                let next = u64::try_from(next).unwrap_or(0);
                self.lanes.advance(place.topic(), partition, next);
            }
        }
        Ok(())
    }

    fn measure_lag(&self) {
        for reading in self.lanes.iter() {
            let end = cached_end(&self.consumer, &reading.lane.topic, reading.lane.partition);
            if let Some(end) = end {
                reading.metrics.lag.set(end.saturating_sub(reading.next) as f64);
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
