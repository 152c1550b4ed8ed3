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
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::bootstrap::Bootstrap;
use crate::config::KafkaConfig;
use crate::context::Consumer;
use crate::ends::{MAX_TIMEOUT, ends, not_older, usable};
use crate::identity::Identity;
use crate::lanes::{Opening, partition_id};
use crate::report::Report;
use crate::topic::Topic;

/// Between two looks while something is missing.
const RETRY: Duration = Duration::from_millis(500);
/// Least time between two looks, however often the reader asks.
const SPACING: Duration = Duration::from_millis(100);
/// How long the first look after an alarm may take: a broker that is there answers.
const ALARM_TIMEOUT: Duration = Duration::from_secs(1);

/// What the reader is told.
#[derive(Debug)]
pub(crate) enum Found {
    /// Read these.
    Open(Vec<Opening>),
    /// Every partition that was there at start has been opened.
    Settled,
    /// Read this lane on from this offset: what comes before it is no more.
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
    identity: Identity,
    topics: Vec<Topic>,
    /// Places that could not be verified yet.
    unverified: Vec<(Arc<Lane>, u64)>,
    /// Lanes that cannot be read on, and why.
    halted: BTreeMap<Lane, String>,
    /// What keeps something from being read, in the order it was found, by the last look.
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
            identity: Identity::new(&config),
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
        let mut ids: Vec<(i32, i32)> =
            described.partitions().iter().map(|p| (p.id(), p.leader())).collect();
        ids.sort_unstable();
        let count = ids.last().map_or(0, |(id, _)| id.unsigned_abs() + 1);
        if self.topics[topic].described(count) {
            tracing::info!(topic = &*name, "topic exists now");
        }
        ids.retain(|(id, _)| !self.topics[topic].is_open(id.unsigned_abs()));
        // Asked also where nothing is to be opened: it may have been made anew.
        let log = match self.identity.of(self.consumer.client(), &name, &metadata, timeout) {
            Ok(log) => log,
            Err(error) if ids.is_empty() => {
                tracing::debug!(topic = &*name, %error, "not identified");
                return Ok(());
            }
            Err(error) => {
                self.problems.push(error.to_string());
                return Ok(());
            }
        };
        let Some(log) = self.topics[topic].identified(&log) else {
            return self.halt_all(topic);
        };
        for (id, leader) in ids {
            if leader < 0 {
                self.problems.push(format!("{name}/{id} has no leader"));
                continue;
            }
            match self.opening(topic, &log, id, timeout) {
                Ok(opening) => openings.push(opening),
                Err(error) => {
                    // Its neighbours would time out one after the other.
                    self.problems.push(format!("{name}/{id} has no known place: {error}"));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Where reading one partition begins, and what has to be reached.
    fn opening(
        &mut self,
        topic: usize,
        log: &Arc<str>,
        id: i32,
        timeout: Duration,
    ) -> Result<Opening, KafkaError> {
        let topic = &mut self.topics[topic];
        let (name, partition) = (&topic.name, id.unsigned_abs());
        let (low, high) = ends(&self.consumer, name, id, timeout)?;
        let new = topic.is_new(partition);
        // What appeared since is read whole: nobody has seen any of it.
        let from = if new {
            low
        } else {
            self.config.start.resolve(low, high, |age| {
                if self.config.search_by_time {
                    not_older(&self.consumer, name, id, age, timeout)
                } else {
                    Ok(Some(low))
                }
            })?
        };
        let end = if new { from } else { high };
        tracing::debug!(topic = &**name, partition, from, end, new, "partition opened");
        let lane = Arc::new(Lane::new(log.clone(), name.clone(), partition));
        topic.open(partition);
        Ok(Opening { lane, from, end })
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

    /// Finds out which places the broker no longer has.
    fn verify(&mut self, timeout: Duration) -> Result<(), Trouble> {
        while let Some((lane, next)) = self.unverified.last().cloned() {
            if !self.halted.contains_key(&*lane) {
                let partition = partition_id(&lane);
                let (low, high) = match ends(&self.consumer, &lane.topic, partition, timeout) {
                    Ok(ends) => ends,
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
            return self.halt(lane.clone(), problem);
        }
        self.tell(Found::Resume(lane.clone(), next.max(low)))
    }

    /// Reads no more of a topic that was made anew under its name.
    fn halt_all(&mut self, topic: usize) -> Result<(), Trouble> {
        let topic = &self.topics[topic];
        let problem = format!("topic `{}` was made anew", topic.name);
        let lanes: Vec<Lane> = topic.lanes().collect();
        lanes.into_iter().try_for_each(|lane| self.halt(Arc::new(lane), problem.clone()))
    }

    fn halt(&mut self, lane: Arc<Lane>, problem: String) -> Result<(), Trouble> {
        if self.halted.contains_key(&*lane) {
            return Ok(());
        }
        tracing::error!(%lane, problem, "it is read no more; restart to read it");
        self.halted.insert((*lane).clone(), problem);
        self.tell(Found::Halt(lane))
    }

    fn tell(&self, found: Found) -> Result<(), Trouble> {
        self.found.send(found).map_err(|_| Trouble::Gone)
    }

    fn answered(&mut self) {
        self.bootstrap.worked();
        self.consumer.client().context().clear_error();
        let problems = self.problems.iter().chain(self.halted.values());
        let mut problems: Vec<&str> = problems.map(String::as_str).collect();
        // What is wrong with a whole topic is told of each of its lanes.
        problems.dedup();
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
