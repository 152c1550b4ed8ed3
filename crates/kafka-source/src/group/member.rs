//! The thread that is a member of the group.
//!
//! It polls, hands on, commits, and answers rebalances. It never stops polling for long:
//! where nobody takes what was read it pauses all partitions and goes on, so that the group
//! does not take it for dead, and a rebalance of the others does not wait for it.

mod commits;
mod turns;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanout::{EventBatch, Lane, SourceError, SourceReporter};
use metrics::counter;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::config::GroupConfig;
use super::context::{GroupContext, is_cooperative};
use super::desk::{Desk, Place};
use super::metrics::PAUSES;
use super::places::list;
use super::reading::Readings;
use super::watch::Common;
use crate::metrics::EXPIRED;
use crate::poll::{Poll, Polled, Record, Refused};
use crate::record::to_event;
use crate::watermarks::cached_end;
use turns::Turn;

/// How long one poll waits, and so how soon the thread notices that it is to end.
const POLL: Duration = Duration::from_millis(100);
/// How long while something is waited for.
const SOON: Duration = Duration::from_millis(10);
/// How long there may be no room before partitions are paused: what librdkafka has fetched
/// ahead is fetched again then.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the lag is looked up.
const LAG: Duration = Duration::from_secs(1);

/// A member of the group.
pub(super) struct Member {
    // Before the reporter: when that is dropped, nothing is counted any more and the client is
    // known to be closed.
    readings: Readings,
    poll: Poll<GroupContext>,
    reporter: Arc<SourceReporter>,
    config: GroupConfig,
    desk: Arc<Desk>,
    common: Arc<Common>,
    turn: Option<Turn>,
    subscribed: Option<Vec<String>>,
    /// What is being committed, and since when.
    committing: Option<(Vec<Place>, Instant)>,
    /// When the rebalance that is under way was begun, or the way out.
    turn_at: Instant,
    /// Whether that one takes partitions away.
    leaving: bool,
    /// The group has refused a commit for good that was begun after that: the partitions are
    /// not ours any more.
    refused: bool,
    committed_at: Instant,
    /// When the last commit failed, if it did.
    failed_at: Option<Instant>,
    full_since: Option<Instant>,
    paused: bool,
    lag_at: Instant,
}

impl Member {
    pub(super) fn new(
        poll: Poll<GroupContext>,
        reporter: Arc<SourceReporter>,
        config: GroupConfig,
        desk: Arc<Desk>,
        common: Arc<Common>,
    ) -> Self {
        let now = Instant::now();
        Self {
            poll,
            reporter,
            config,
            desk,
            common,
            readings: Readings::default(),
            turn: None,
            subscribed: None,
            committing: None,
            turn_at: now,
            leaving: false,
            refused: false,
            committed_at: now,
            failed_at: None,
            full_since: None,
            paused: false,
            lag_at: now,
        }
    }

    /// Ends when nobody takes batches any more, or it cannot go on.
    pub(super) fn run(mut self) {
        // Also where this panics.
        let _ended = Ended(self.desk.clone(), self.common.clone());
        let ended = self.read();
        if let Err(error) = ended {
            tracing::error!(group = self.config.group, %error, "kafka group has ended");
            self.reporter.update(|health| health.problem = Some(error.to_string()));
            self.desk.fail(SourceError(Box::new(error)));
        } else {
            self.commit_the_rest();
        }
        self.leave();
    }

    fn read(&mut self) -> Result<(), KafkaError> {
        while !self.desk.lock().is_abandoned() {
            self.subscribe()?;
            self.take_turn()?;
            self.open_late()?;
            self.halt()?;
            self.hear_commit();
            let due = self.committed_at.elapsed() >= self.config.commit_interval;
            if due && self.committing.is_none() {
                self.commit();
            }
            if self.desk.lock().is_full() {
                self.wait_for_room()?;
            } else {
                self.go_on()?;
                let wait = if self.turn.is_some() { SOON } else { POLL };
                self.fetch(wait)?;
            }
            self.measure_lag();
        }
        Ok(())
    }

    fn context(&self) -> &Arc<GroupContext> {
        self.poll.consumer().context()
    }

    fn subscribe(&mut self) -> Result<(), KafkaError> {
        let state = self.common.lock();
        if state.at_start.is_none() || self.subscribed.as_ref() == Some(&state.topics) {
            return Ok(());
        }
        let topics = state.topics.clone();
        drop(state);
        if topics.is_empty() {
            // Nothing matches its patterns so far: nobody will tell it what is its share.
            self.poll.consumer().unsubscribe();
            self.reporter.update(|health| health.caught_up = true);
        } else {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            self.poll.consumer().subscribe(&names)?;
        }
        tracing::info!(group = self.config.group, ?topics, "subscribed");
        self.subscribed = Some(topics);
        Ok(())
    }

    /// Hands on what is there, up to the limits of a batch.
    fn fetch(&mut self, mut wait: Duration) -> Result<(), KafkaError> {
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut refusals = Vec::new();
        let (max_batch, max_bytes) =
            (self.config.source.max_batch, self.config.source.max_batch_bytes);
        // All that comes is counted, not events alone: nothing else must keep it here.
        for _ in 0..max_batch {
            match self.poll.next(wait) {
                Some(Polled::Record(record)) => {
                    bytes += record.payload().map_or(0, <[u8]>::len);
                    let kept = self.config.source.tombstones;
                    events.extend(take(&mut self.readings, &record, kept));
                }
                Some(Polled::End(place)) => {
                    if let Some(next) = place.offset() {
                        self.readings.pass(place.topic(), place.partition(), next);
                    }
                }
                Some(Polled::Refused(refused)) => refusals.push(refused),
                Some(Polled::Error(error)) => self.note(error)?,
                Some(Polled::Served) => {}
                None => break,
            }
            if bytes >= max_bytes {
                break;
            }
            wait = Duration::ZERO;
        }
        let frontier = self.readings.take_frontier();
        if !events.is_empty() || !frontier.is_empty() {
            self.desk.push(EventBatch { events, frontier, ..EventBatch::default() });
        }
        for Refused { place, cut } in refusals {
            self.refused(place.topic(), place.partition(), cut)?;
        }
        Ok(())
    }

    fn note(&mut self, error: KafkaError) -> Result<(), KafkaError> {
        if let KafkaError::MessageConsumptionFatal(_) = error {
            return Err(error);
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
            let group = &self.config.group;
            let problem =
                format!("group `{group}` may not be joined: it takes the right to Read it");
            self.common.lock().group = Some(problem);
        }
        self.common.poke();
        Ok(())
    }

    /// The broker does not have what was to be read next: deleted, or another log.
    fn refused(&mut self, topic: &str, partition: u32, cut: Option<u64>) -> Result<(), KafkaError> {
        let Some(reading) = self.readings.get(topic, partition) else { return Ok(()) };
        let (lane, next) = (reading.lane.clone(), reading.next);
        let consumer = self.poll.consumer();
        let id = i32::try_from(partition).unwrap_or(i32::MAX);
        let timeout = self.config.source.request_timeout;
        let from = if let Some(cut) = cut {
            cut.min(next)
        } else if let Ok((low, high)) = consumer.fetch_watermarks(topic, id, timeout) {
            let (low, high) = (low.unsigned_abs(), high.unsigned_abs());
            // What ends before is another log: nobody has read anything of it.
            if next > high { low } else { next.max(low) }
        } else {
            // It is refused again.
            next
        };
        if from > next {
            let lost = from - next;
            counter!(EXPIRED, "topic" => topic.to_owned()).increment(lost);
            tracing::error!(%lane, lost, next, "deleted before it was read");
        } else if from < next {
            tracing::warn!(%lane, next, from, "its log was cut or made anew: read on from there");
            self.desk.close(std::slice::from_ref(&lane));
            self.desk.lock().open(lane.clone(), from, false);
        }
        if let Some(reading) = self.readings.get(topic, partition) {
            reading.next = from;
        }
        self.begin_again(&lane, from)
    }

    /// Reads a partition from an offset on.
    fn begin_again(&mut self, lane: &Arc<Lane>, from: u64) -> Result<(), KafkaError> {
        let consumer = self.poll.consumer().clone();
        let one = list([(&**lane, from)])?;
        if is_cooperative(&consumer) {
            consumer.incremental_unassign(&one)?;
            consumer.incremental_assign(&one)?;
        } else {
            let all = self.readings.iter().map(|reading| (reading.lane.clone(), reading.next));
            let all: Vec<Place> = all.collect();
            consumer.assign(&list(all.iter().map(|(lane, next)| (&**lane, *next)))?)?;
        }
        if self.paused {
            consumer.pause(&one)?;
        }
        Ok(())
    }

    /// Fetches nothing more of lanes that are halted.
    fn halt(&mut self) -> Result<(), KafkaError> {
        let halted = self.desk.lock().take_halts();
        for lane in &halted {
            if let Some(reading) = self.readings.get(&lane.topic, lane.partition) {
                reading.halt();
            }
        }
        if halted.is_empty() {
            return Ok(());
        }
        self.poll.consumer().pause(&list(halted.iter().map(|lane| (&**lane, 0)))?)
    }

    // ## Backpressure

    fn wait_for_room(&mut self) -> Result<(), KafkaError> {
        let since = *self.full_since.get_or_insert_with(Instant::now);
        if !self.paused && (since.elapsed() >= PATIENCE || self.turn.is_some()) {
            self.poll.consumer().pause(&self.poll.consumer().assignment()?)?;
            self.paused = true;
            counter!(PAUSES).increment(1);
        }
        if self.paused {
            // What comes nevertheless is kept: a record is never skipped.
            self.fetch(SOON)
        } else {
            self.desk.wait_for_room(POLL);
            Ok(())
        }
    }

    fn go_on(&mut self) -> Result<(), KafkaError> {
        self.full_since = None;
        if std::mem::take(&mut self.paused) {
            let read = self.readings.iter().filter(|reading| !reading.is_halted());
            let read: Vec<Place> = read.map(|reading| (reading.lane.clone(), 0)).collect();
            self.poll.consumer().resume(&list(read.iter().map(|(lane, _)| (&**lane, 0)))?)?;
        }
        Ok(())
    }

    fn measure_lag(&mut self) {
        if self.lag_at.elapsed() < LAG {
            return;
        }
        self.lag_at = Instant::now();
        for reading in self.readings.iter() {
            let (topic, partition) = (&reading.lane.topic, reading.lane.partition);
            if let Some(end) = cached_end(self.poll.consumer(), topic, partition) {
                reading.metrics.lag(end.saturating_sub(reading.next));
            }
            reading.metrics.tell();
        }
    }
}

fn take(readings: &mut Readings, record: &Record<'_>, tombstones: bool) -> Option<fanout::Event> {
    let reading = readings.take(record.topic(), record.partition(), record.offset())?;
    let payload = record.payload();
    reading.metrics.record(payload.map_or(0, <[u8]>::len));
    if payload.is_none() && !tombstones {
        reading.metrics.tombstone();
        reading.skip();
        return None;
    }
    Some(to_event(record, &reading.lane))
}

/// Tells everybody that the thread has ended.
struct Ended(Arc<Desk>, Arc<Common>);

#[derive(Debug, thiserror::Error)]
#[error("the group's thread has ended")]
struct Gone;

impl Drop for Ended {
    fn drop(&mut self) {
        self.1.end();
        self.0.fail(SourceError(Gone.into()));
    }
}
