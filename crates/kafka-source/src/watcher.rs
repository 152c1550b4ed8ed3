//! What blocks: asking the brokers for topics, partitions and their ends.
//!
//! A thread of its own, so that reading never waits for an answer. It finds what is to
//! be read and tells the [reader](crate::reader); it alone says whether the brokers can
//! be reached.
//!
//! ```text
//!          Found: open these, all are open, go on from there
//! Watcher ----------------------------------------------------> Reader
//!         <----------------------------------------------------
//!          Ask: look again now, these places may be gone
//! ```
//!
//! Ends are resolved to absolute offsets before anything is assigned: between asking
//! for "the end" and the first fetch, records would be lost.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use fanout::{Lane, SourceReporter};
use metrics::counter;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;

use crate::bootstrap::Bootstrap;
use crate::config::{KafkaConfig, Start};
use crate::context::Consumer;
use crate::lanes::{Opening, partition_id};
use crate::metrics::EXPIRED;
use crate::report::Report;
use crate::topic::Topic;

/// Between two looks while something is missing.
const RETRY: Duration = Duration::from_millis(500);
/// Least time between two looks, however often the reader asks.
const SPACING: Duration = Duration::from_millis(100);
/// How long the first look after an alarm may take: a broker that is there answers.
const ALARM_TIMEOUT: Duration = Duration::from_secs(1);
/// librdkafka counts milliseconds in 32 bits, and takes what overflows for for ever.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// What the reader is told.
#[derive(Debug)]
pub(crate) enum Found {
    /// Read these.
    Open(Vec<Opening>),
    /// Every partition that was there at start has been opened.
    Settled,
    /// Read this lane on from this offset.
    Resume(Arc<Lane>, u64),
    /// Read no more of this lane.
    Halt(Arc<Lane>),
}

/// What the reader asks for.
#[derive(Debug)]
pub(crate) enum Ask {
    /// An error came: can anybody be reached?
    Check,
    /// The broker refused an offset: does it still have these?
    Verify(Vec<(Arc<Lane>, u64)>),
}

/// Why a look has ended early.
enum Trouble {
    Away(KafkaError),
    /// The reader is gone.
    Gone,
}

/// Looks for what is to be read, until the reader is gone.
pub(crate) struct Watcher {
    // Before the report: when that is dropped, the client is known to be closed.
    consumer: Arc<Consumer>,
    report: Report,
    config: KafkaConfig,
    found: SyncSender<Found>,
    asked: Receiver<Ask>,
    log: Option<Arc<str>>,
    topics: Vec<Topic>,
    /// Places that could not be verified yet.
    unverified: Vec<(Arc<Lane>, u64)>,
    /// Lanes that cannot be read on, and why.
    halted: BTreeMap<Lane, String>,
    /// What keeps something from being read, in the order it was found.
    problems: Vec<String>,
    settled: bool,
    alarmed: bool,
    bootstrap: Bootstrap,
}

impl Watcher {
    pub(crate) fn new(
        consumer: Arc<Consumer>,
        reporter: Arc<SourceReporter>,
        config: KafkaConfig,
        found: SyncSender<Found>,
        asked: Receiver<Ask>,
    ) -> Self {
        Self {
            consumer,
            report: Report::new(reporter, config.brokers.clone()),
            found,
            asked,
            log: config.log_identity.as_deref().map(Into::into),
            topics: config.topics.iter().map(|name| Topic::new(name)).collect(),
            unverified: Vec::new(),
            halted: BTreeMap::new(),
            problems: Vec::new(),
            settled: false,
            alarmed: false,
            bootstrap: Bootstrap::default(),
            config,
        }
    }

    /// Ends when the reader is gone.
    pub(crate) fn run(mut self) {
        loop {
            let wait = match self.look() {
                Ok(()) => {
                    self.answered();
                    if self.settle().is_err() {
                        return;
                    }
                    let waiting = !self.problems.is_empty() || !self.unverified.is_empty();
                    self.config.metadata_interval.min(if waiting { RETRY } else { Duration::MAX })
                }
                Err(Trouble::Away(error)) => {
                    self.away(&error);
                    RETRY
                }
                Err(Trouble::Gone) => return,
            };
            if self.rest(wait).is_break() {
                return;
            }
        }
    }

    /// Waits for the next look, which the reader may ask for earlier.
    fn rest(&mut self, wait: Duration) -> ControlFlow<()> {
        let rested = Instant::now();
        let mut wait = wait;
        self.alarmed = false;
        loop {
            match self.asked.recv_timeout(wait.saturating_sub(rested.elapsed())) {
                Ok(Ask::Check) => self.alarmed = true,
                // The newest places stand for all that were not verified before.
                Ok(Ask::Verify(places)) => self.unverified = places,
                Err(RecvTimeoutError::Timeout) => return ControlFlow::Continue(()),
                Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
            }
            wait = wait.min(SPACING);
        }
    }

    fn look(&mut self) -> Result<(), Trouble> {
        self.problems.clear();
        let limit = if self.alarmed { ALARM_TIMEOUT } else { MAX_TIMEOUT };
        let timeout = self.config.request_timeout.min(limit);
        let mut openings = Vec::new();
        // What was found before somebody stopped answering is opened nonetheless.
        let looked = (0..self.topics.len())
            .try_for_each(|topic| self.look_at(topic, timeout, &mut openings));
        if !openings.is_empty() {
            self.tell(Found::Open(openings))?;
        }
        looked?;
        self.verify(timeout)
    }

    /// Tells once that all is open, and only after what was wrong until then has been
    /// taken back: a source that is ready must not tell of what is over.
    fn settle(&mut self) -> Result<(), Trouble> {
        if self.settled || !self.topics.iter().all(Topic::settled) {
            return Ok(());
        }
        self.settled = true;
        self.tell(Found::Settled)
    }

    /// Finds the partitions of one topic that are not being read yet.
    fn look_at(
        &mut self,
        topic: usize,
        timeout: Duration,
        openings: &mut Vec<Opening>,
    ) -> Result<(), Trouble> {
        let name = self.topics[topic].name.clone();
        let metadata = self.consumer.fetch_metadata(Some(&name), timeout).map_err(Trouble::Away)?;
        let described = metadata.topics().iter().find(|described| described.name() == &*name);
        let described = match described.map_or(Err(RDKafkaErrorCode::UnknownTopic), usable) {
            Ok(described) => described,
            Err(code) => {
                // A broker that knows of none, itself included, is no judge of topics.
                let alone = metadata.brokers().is_empty();
                self.unusable(topic, code, alone);
                return Ok(());
            }
        };
        let Some(log) = self.log(timeout) else { return Ok(()) };
        let topic = &mut self.topics[topic];
        let ids = described.partitions().iter().map(|p| (p.id(), p.leader()));
        let mut ids: Vec<(i32, i32)> = ids.collect();
        ids.sort_unstable();
        let count = ids.last().map_or(0, |(id, _)| id.unsigned_abs() + 1);
        if topic.described(count) {
            tracing::info!(topic = &*name, "topic exists now");
        }
        for (id, leader) in ids {
            let partition = id.unsigned_abs();
            if topic.is_open(partition) {
                continue;
            }
            if leader < 0 {
                self.problems.push(format!("{name}/{partition} has no leader"));
                continue;
            }
            let (low, high) = match self.consumer.fetch_watermarks(&name, id, timeout) {
                Ok(ends) => (offset(ends.0), offset(ends.1)),
                Err(error) => {
                    // Its neighbours would time out one after the other.
                    self.problems.push(format!("{name}/{partition} has no known end: {error}"));
                    return Ok(());
                }
            };
            topic.open(partition);
            let new = topic.is_new(partition);
            // What appeared since is read whole: nobody has seen any of it.
            let from = if !new && self.config.start == Start::Latest { high } else { low };
            let end = if new { from } else { high };
            tracing::debug!(topic = &*name, partition, from, end, new, "partition opened");
            let lane = Arc::new(Lane::new(log.clone(), topic.name.clone(), partition));
            openings.push(Opening { lane, from, end });
        }
        Ok(())
    }

    /// Notes why a topic has nothing to read.
    fn unusable(&mut self, topic: usize, code: RDKafkaErrorCode, alone: bool) {
        use RDKafkaErrorCode::{UnknownTopic, UnknownTopicOrPartition};
        let topic = &mut self.topics[topic];
        let problem = if matches!(code, UnknownTopic | UnknownTopicOrPartition) && !alone {
            topic.denied(Instant::now(), self.config.missing_grace);
            format!("topic `{}` does not exist", topic.name)
        } else {
            topic.doubted();
            format!("topic `{}` cannot be read: {code}", topic.name)
        };
        self.problems.push(problem);
    }

    /// The identity of the log.
    fn log(&mut self, timeout: Duration) -> Option<Arc<str>> {
        if self.log.is_none() {
            // It came with the metadata: this does not wait.
            self.log = self.consumer.client().fetch_cluster_id(timeout).map(Into::into);
        }
        if self.log.is_none() {
            self.problems.push("the broker tells no cluster id; set `log_identity`".into());
        }
        self.log.clone()
    }

    /// Finds out which places the broker no longer has.
    fn verify(&mut self, timeout: Duration) -> Result<(), Trouble> {
        while let Some((lane, next)) = self.unverified.last().cloned() {
            if !self.halted.contains_key(&*lane) {
                let partition = partition_id(&lane);
                let ends = self.consumer.fetch_watermarks(&lane.topic, partition, timeout);
                let (low, high) = match ends {
                    Ok(ends) => (offset(ends.0), offset(ends.1)),
                    Err(error) => {
                        self.problems.push(format!("{lane} has no known end: {error}"));
                        return Ok(());
                    }
                };
                self.settle_place(&lane, next, low, high)?;
            }
            self.unverified.pop();
        }
        Ok(())
    }

    fn settle_place(
        &mut self,
        lane: &Arc<Lane>,
        next: u64,
        low: u64,
        high: u64,
    ) -> Result<(), Trouble> {
        if next > high {
            // Offsets would come twice with other records behind them.
            let problem = format!("{lane} ends at {high} but was read up to {next}");
            tracing::error!(%lane, next, high, "log was cut or made anew; restart to read it");
            self.halted.insert((**lane).clone(), problem);
            return self.tell(Found::Halt(lane.clone()));
        }
        if next < low {
            counter!(EXPIRED, "topic" => lane.topic.to_string()).increment(low - next);
            tracing::error!(%lane, next, low, "records were deleted before they were read");
        }
        self.tell(Found::Resume(lane.clone(), next.max(low)))
    }

    fn tell(&self, found: Found) -> Result<(), Trouble> {
        self.found.send(found).map_err(|_| Trouble::Gone)
    }

    fn answered(&mut self) {
        self.bootstrap.worked();
        self.consumer.client().context().clear_error();
        let problems = self.problems.iter().chain(self.halted.values());
        let problems: Vec<&str> = problems.map(String::as_str).collect();
        self.report.answered((!problems.is_empty()).then(|| problems.join("; ")));
    }

    fn away(&mut self, error: &KafkaError) {
        self.bootstrap.failed(self.consumer.client());
        self.topics.iter_mut().for_each(Topic::doubted);
        // Its own words say more than the code that asking came back with.
        let said = self.consumer.client().context().last_error();
        self.report.away(&said.unwrap_or_else(|| error.to_string()));
    }
}

/// The topic, where it can be read.
fn usable(topic: &MetadataTopic) -> Result<&MetadataTopic, RDKafkaErrorCode> {
    match topic.error() {
        Some(code) => Err(code.into()),
        None if topic.partitions().is_empty() => Err(RDKafkaErrorCode::LeaderNotAvailable),
        None => Ok(topic),
    }
}

/// An offset of the broker's; it has none below zero.
fn offset(raw: i64) -> u64 {
    raw.try_into().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use fanout::SourceStatus;
    use rdkafka::config::FromClientConfigAndContext as _;

    use super::*;
    use crate::context::Context;

    /// A watcher of a broker that is not there, and what it tells.
    fn watcher() -> (Watcher, Receiver<Found>, SourceStatus) {
        let config = KafkaConfig::new("127.0.0.1:1").topic("t").log_identity("log");
        let client = config.client().unwrap();
        let consumer = Consumer::from_config_and_context(&client, Context::new()).unwrap();
        let (reporter, status) = SourceStatus::new();
        let (found, finds) = sync_channel(4);
        let (_, asked) = sync_channel(1);
        let watcher = Watcher::new(Arc::new(consumer), Arc::new(reporter), config, found, asked);
        (watcher, finds, status)
    }

    #[test]
    fn a_place_is_read_on_passed_or_halted() {
        let (mut watcher, finds, status) = watcher();
        let lane = Arc::new(Lane::new("log", "t", 0));
        let mut settle = |next, low, high| {
            assert!(watcher.settle_place(&lane, next, low, high).is_ok());
            finds.try_recv().unwrap()
        };
        assert!(matches!(settle(7, 3, 9), Found::Resume(_, 7)), "still there");
        assert!(matches!(settle(9, 3, 9), Found::Resume(_, 9)), "at its end");
        assert!(matches!(settle(2, 3, 9), Found::Resume(_, 3)), "expired");
        assert!(matches!(settle(10, 0, 9), Found::Halt(_)), "beyond its end");

        watcher.answered();
        let health = status.health();
        assert!(health.connected);
        assert_eq!(health.problem.as_deref(), Some("t/0 ends at 9 but was read up to 10"));
    }

    #[test]
    fn what_is_wrong_is_told_until_it_is_right() {
        let (mut watcher, _finds, status) = watcher();
        watcher.away(&KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure));
        let problem = status.health().problem.unwrap();
        assert!(problem.contains("127.0.0.1:1") && !status.health().connected, "{problem}");

        watcher.unusable(0, RDKafkaErrorCode::TopicAuthorizationFailed, false);
        watcher.answered();
        assert!(status.health().connected);
        assert!(status.health().problem.unwrap().contains("topic `t` cannot be read"));
        assert!(!watcher.topics[0].settled(), "its partitions at start are not known");

        // Denied for as long as is waited for, but by a broker that was alone.
        watcher.config.missing_grace = Duration::ZERO;
        watcher.unusable(0, RDKafkaErrorCode::UnknownTopicOrPartition, true);
        assert!(!watcher.topics[0].settled());
        watcher.problems.clear();
        watcher.unusable(0, RDKafkaErrorCode::UnknownTopicOrPartition, false);
        assert!(watcher.topics[0].settled(), "it held nothing at start");
        watcher.problems.clear();
        watcher.answered();
        assert_eq!(status.health().problem, None);
    }
}
