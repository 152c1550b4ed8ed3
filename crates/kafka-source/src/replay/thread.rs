//! The thread that reads again.
//!
//! ```text
//!          begin, ends verified            each range at its end
//! Idle --------------------------> Pass --------------------------> Idle
//!                                   | '-- another begin: given up, the next pass
//!                                   '---- deleted, or nothing comes: an error, Idle
//! ```

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanout::{Event, EventBatch, Lane, ReplayError, ReplayRange};
use metrics::counter;
use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::asking::Asking;
use super::ranges::{Ranges, Reached};
use super::{Command, Passed, unavailable};
use crate::bootstrap::Bootstrap;
use crate::config::KafkaConfig;
use crate::context::{Consumer, Context};
use crate::lanes::partition_list;
use crate::metrics::{REPLAY_PASSES, REPLAYED};
use crate::poll::{Poll, Polled, Record};
use crate::record::to_event;

/// How long one poll waits, and so how soon a pass notices that it was given up.
const POLL: Duration = Duration::from_millis(20);
/// How often an idle client's own events are taken from it: they would pile up.
const IDLE: Duration = Duration::from_secs(1);

/// What the thread does next.
enum Turn {
    Command(Command),
    /// A pass has room for a batch.
    Read,
    /// Nobody takes the pass's batches any more.
    GivenUp,
    Idle,
    Ended,
}

/// One pass.
struct Pass {
    ranges: Ranges,
    out: mpsc::Sender<Passed>,
    /// How long polling has come to nothing.
    stalled: Duration,
}

struct Thread {
    poll: Poll<Context>,
    consumer: Arc<Consumer>,
    config: KafkaConfig,
    asking: Asking,
    bootstrap: Bootstrap,
    commands: mpsc::Receiver<Command>,
    pass: Option<Pass>,
}

/// Starts the thread; it ends when the sender is dropped.
pub(super) fn start(config: KafkaConfig) -> io::Result<mpsc::Sender<Command>> {
    let client = config.replay_client().map_err(io::Error::other)?;
    let (sender, commands) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("kafka-replay".into())
        .spawn(move || run(&client, config, commands))?;
    Ok(sender)
}

/// Everything that blocks, to drop included, is made in here.
fn run(client: &ClientConfig, config: KafkaConfig, mut commands: mpsc::Receiver<Command>) {
    let made = || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let consumer = Consumer::from_config_and_context(client, Context::new())?;
        Ok((runtime, Poll::new(Arc::new(consumer))?))
    };
    match made() {
        Ok((runtime, poll)) => {
            let (asking, bootstrap) = (Asking::new(&config), Bootstrap::default());
            let consumer = poll.consumer().clone();
            Thread { poll, consumer, config, asking, bootstrap, commands, pass: None }
                .run(&runtime);
        }
        // The next who asks starts another thread.
        Err(error) => match commands.blocking_recv() {
            Some(Command::Bounds(_, answer)) => drop(answer.send(Err(unavailable(error)))),
            Some(Command::Begin(_, _, answer)) => drop(answer.send(Err(unavailable(error)))),
            None => {}
        },
    }
}

impl Thread {
    fn run(mut self, runtime: &Runtime) {
        loop {
            match runtime.block_on(self.turn()) {
                Turn::Command(Command::Bounds(lanes, answer)) => {
                    if !answer.is_closed() {
                        let bounds = self.asking.bounds(&self.consumer, &lanes);
                        drop(answer.send(self.heard(bounds)));
                    }
                }
                Turn::Command(Command::Begin(ranges, out, answer)) => {
                    self.end("given_up");
                    if !answer.is_closed() {
                        let begun = self.begin(ranges, out);
                        drop(answer.send(self.heard(begun)));
                    }
                }
                Turn::Read => self.read(),
                Turn::GivenUp => self.end("given_up"),
                // Nothing is assigned: what comes are errors, which the context has noted.
                Turn::Idle => self.drain(),
                Turn::Ended => return self.end("given_up"),
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        let command = |command: Option<Command>| command.map_or(Turn::Ended, Turn::Command);
        let Some(pass) = &self.pass else {
            let waited = tokio::time::timeout(IDLE, self.commands.recv()).await;
            return waited.map_or(Turn::Idle, command);
        };
        tokio::select! {
            biased;
            next = self.commands.recv() => command(next),
            // Nobody else sends: what has room now has it later.
            room = pass.out.reserve() => match room {
                Ok(_) => Turn::Read,
                Err(_) => Turn::GivenUp,
            },
        }
    }

    /// Notes whether brokers answer.
    fn heard<T>(&mut self, answer: Result<T, ReplayError>) -> Result<T, ReplayError> {
        match answer {
            Err(ReplayError::Unavailable(_)) => self.bootstrap.failed(self.consumer.client()),
            _ => self.bootstrap.worked(),
        }
        answer
    }

    fn begin(
        &mut self,
        ranges: Vec<ReplayRange>,
        out: mpsc::Sender<Passed>,
    ) -> Result<(), ReplayError> {
        let wanted = ranges.iter().map(|range| (&range.lane, range.from, range.to));
        verify(&mut self.asking, &self.consumer, wanted)?;
        let pass = Pass { ranges: Ranges::new(ranges), out, stalled: Duration::ZERO };
        let places = partition_list(pass.ranges.reading().map(|(lane, next, _)| (lane, next)));
        let assigned = places.and_then(|places| self.consumer.incremental_assign(&places));
        assigned.map_err(unavailable)?;
        self.pass = Some(pass);
        Ok(())
    }

    /// Ends the pass, if there is one. What was fetched of it is dropped by librdkafka.
    fn end(&mut self, result: &'static str) {
        if self.pass.take().is_none() {
            return;
        }
        counter!(REPLAY_PASSES, "result" => result).increment(1);
        if let Err(error) = self.consumer.unassign() {
            tracing::warn!(%error, "replay: not unassigned");
        }
        self.drain();
    }

    /// Takes what there is from a client that has nothing to read.
    fn drain(&self) {
        while self.poll.next(Duration::ZERO).is_some() {}
    }

    /// One batch of the pass, or its end.
    fn read(&mut self) {
        let Some(mut pass) = self.pass.take() else { return };
        let begun = Instant::now();
        let (handed, result) = match self.round(&mut pass) {
            Ok(Some(batch)) => (Some(Ok(Some(batch))), None),
            Ok(None) if pass.ranges.done() => (Some(Ok(None)), Some("complete")),
            Ok(None) => {
                // All of the round, also asking: refusals that come at once must end too.
                pass.stalled += begun.elapsed();
                (None, None)
            }
            Err(error) => {
                tracing::warn!(%error, "replay: pass ended early");
                let expired = matches!(error, ReplayError::Expired { .. });
                let result = if expired { "expired" } else { "unavailable" };
                (Some(self.heard(Err(error))), Some(result))
            }
        };
        if let Some(handed) = handed {
            // There is room; where nobody is left to take it, that is no loss.
            drop(pass.out.try_send(handed));
        }
        self.pass = Some(pass);
        if let Some(result) = result {
            self.end(result);
        }
    }

    /// What there is to hand on, after at most [`POLL`] where there is nothing.
    fn round(&mut self, pass: &mut Pass) -> Result<Option<EventBatch>, ReplayError> {
        let (mut events, mut bytes, mut refused) = (Vec::new(), 0, false);
        let mut wait = if pass.ranges.all_read() { Duration::ZERO } else { POLL };
        // All that comes is counted, not events alone: nothing else must keep it here.
        for _ in 0..self.config.max_batch {
            match self.poll.next(wait) {
                Some(Polled::Record(record)) => {
                    bytes += record.payload().map_or(0, <[u8]>::len);
                    events.extend(self.take(&record, &mut pass.ranges));
                }
                Some(Polled::End(place)) => {
                    let (topic, partition) = (place.topic(), place.partition());
                    pass.ranges.pass(topic, partition, place.offset().unwrap_or(0));
                }
                Some(Polled::Refused(_)) => refused = true,
                Some(Polled::Error(_) | Polled::Served) => {}
                None => break,
            }
            if bytes >= self.config.max_batch_bytes {
                break;
            }
            wait = Duration::ZERO;
        }
        let Reached { frontier, finished } = pass.ranges.take_reached();
        // The last of them are unassigned with the end of the pass.
        if !finished.is_empty() && !pass.ranges.all_read() {
            let places = partition_list(finished.iter().map(|lane| (lane, 0)));
            let unassigned = places.and_then(|p| self.consumer.incremental_unassign(&p));
            unassigned.map_err(unavailable)?;
        }
        if !frontier.is_empty() {
            pass.stalled = Duration::ZERO;
        }
        self.check(pass, refused)?;
        for of_one in events.chunk_by(|a, b| Arc::ptr_eq(&a.lane, &b.lane)) {
            let topic = of_one[0].lane.topic.to_string();
            counter!(REPLAYED, "topic" => topic).increment(of_one.len() as u64);
        }
        let batch = EventBatch { events, frontier, ..EventBatch::default() };
        Ok((!batch.frontier.is_empty()).then_some(batch))
    }

    fn take(&self, record: &Record<'_>, ranges: &mut Ranges) -> Option<Event> {
        let lane = ranges.take(record.topic(), record.partition(), record.offset())?;
        let wanted = record.payload().is_some() || self.config.tombstones;
        wanted.then(|| to_event(record, &lane))
    }

    /// Finds out why nothing comes, where that is so.
    fn check(&mut self, pass: &mut Pass, refused: bool) -> Result<(), ReplayError> {
        let stalled = pass.stalled >= self.config.request_timeout && !pass.ranges.done();
        if !refused && !stalled {
            return Ok(());
        }
        verify(&mut self.asking, &self.consumer, pass.ranges.reading())?;
        if stalled {
            return Err(unavailable("nothing came of what is there"));
        }
        // It is all there: read on, as often as it does not stall.
        let places = partition_list(pass.ranges.reading().map(|(lane, next, _)| (lane, next)));
        let again = places.and_then(|places| {
            self.consumer.incremental_unassign(&places)?;
            self.consumer.incremental_assign(&places)
        });
        again.map_err(unavailable)
    }
}

/// Checks that all of these offsets are there.
fn verify<'a>(
    asking: &mut Asking,
    consumer: &Consumer,
    ranges: impl Iterator<Item = (&'a Arc<Lane>, u64, u64)>,
) -> Result<(), ReplayError> {
    let ranges: Vec<_> = ranges.collect();
    let lanes: Vec<_> = ranges.iter().map(|(lane, ..)| (*lane).clone()).collect();
    for ((lane, from, to), bounds) in ranges.into_iter().zip(asking.bounds(consumer, &lanes)?) {
        match bounds {
            Some(bounds) if bounds.end < to => {
                // Another leader may not have heard of the newest records yet.
                let end = bounds.end;
                return Err(unavailable(format!("{lane} ends at {end}, before {to}")));
            }
            Some(bounds) if bounds.first <= from => {}
            _ => return Err(ReplayError::Expired { lane: lane.clone() }),
        }
    }
    Ok(())
}
