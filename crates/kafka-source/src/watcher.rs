//! What blocks: asking the brokers for topics, partitions and their ends.
//!
//! A thread of its own, so that reading never waits for an answer. It finds what is to
//! be read and tells the [reader](crate::reader); it alone says whether the brokers can
//! be reached.
//!
//! ```text
//!          Found: open these, close those, all are open, go on from there
//! Watcher ----------------------------------------------------------------> Reader
//!         <----------------------------------------------------------------
//!          Ask: look again now, these places may be gone, this one was cut or halted
//! ```
//!
//! Ends are resolved to absolute offsets before anything is assigned: between asking
//! for "the end" and the first fetch, records would be lost.
//!
//! Invariants: a lane is opened once, and nothing is told of one that is not open; lanes of
//! a partition are closed before others of it are opened.

mod brokers;
mod doubt;
mod finding;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use fanout::{Lane, SourceReporter};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;

use crate::bootstrap::Bootstrap;
use crate::config::KafkaConfig;
use crate::context::Consumer;
use crate::ends::{Ends, MAX_TIMEOUT};
use crate::identity::Identity;
use crate::lanes::Opening;
use crate::pattern::Patterns;
use crate::report::Report;
use crate::topic::Topic;
use crate::topics::Topics;

use doubt::Doubt;

/// Between two looks while something is missing.
const RETRY: Duration = Duration::from_millis(500);
/// Least time between two looks, however often the reader asks.
const SPACING: Duration = Duration::from_millis(100);
/// How long the first look after an alarm may take: a broker that is there answers.
const ALARM_TIMEOUT: Duration = Duration::from_secs(1);
/// Problems that the status names one by one.
const MAX_TOLD: usize = 10;

/// What the reader is told.
#[derive(Debug)]
pub(crate) enum Found {
    /// Read these.
    Open(Vec<Opening>),
    /// Every partition that was there at start has been opened.
    Settled,
    /// Read this lane on from this offset: what comes before it is no more.
    Resume(Arc<Lane>, u64),
    /// These lanes are no more: they are unassigned, read no further, and named in the next
    /// batch's [`closed`](fanout::EventBatch::closed); also in
    /// [`lost`](fanout::EventBatch::lost) where what was known to be there was not read.
    /// Lanes of the same partitions, of another log, may be opened next.
    Close(Vec<Arc<Lane>>),
}

/// What the reader asks for.
#[derive(Debug)]
pub(crate) enum Ask {
    /// An error came: can anybody be reached?
    Check,
    /// The broker refused an offset: does it still have these? Asking again replaces what
    /// was asked before, so it names all places that are in doubt.
    Verify(Vec<(Arc<Lane>, u64)>),
    /// The log of this lane was cut: it was read up to the first offset, and from the second
    /// on it is no longer what was read, as far as librdkafka told. Asked until it is taken.
    Truncated(Arc<Lane>, u64, u64),
    /// This lane was halted because of a record that could not be used, and is not read any
    /// more; the status is to say why. Asked until it is taken.
    Halted(Arc<Lane>, String),
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
    ends: Ends,
    topics: Topics,
    /// Places that could not be verified yet.
    doubts: Vec<Doubt>,
    /// Lanes that are read no more because of a record that cannot be used, and which.
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
        patterns: Patterns,
        found: SyncSender<Found>,
        asked: Receiver<Ask>,
    ) -> Self {
        Self {
            consumer,
            report: Report::new(reporter, config.brokers.clone()),
            found,
            asked,
            identity: Identity::new(&config),
            ends: config.ends(),
            topics: Topics::new(&config, patterns),
            doubts: Vec::new(),
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
                    let waiting = !self.problems.is_empty() || !self.doubts.is_empty();
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
                Ok(Ask::Verify(places)) => self.doubt(places),
                Ok(Ask::Truncated(lane, next, cut)) => self.doubt_cut(lane, next, cut),
                Ok(Ask::Halted(lane, problem)) => self.halt(&lane, &problem),
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
        self.find(timeout)?;
        self.verify(timeout)
    }

    /// Tells once that all is open, and only after what was wrong until then has been
    /// taken back: a source that is ready must not tell of what is over.
    fn settle(&mut self) -> Result<(), Trouble> {
        if self.settled || !self.topics.settled() {
            return Ok(());
        }
        self.settled = true;
        self.tell(Found::Settled)
    }

    /// Notes that a lane is read no more. Its log may go on to be closed.
    fn halt(&mut self, lane: &Lane, problem: &str) {
        if self.topics.is_open(lane) {
            self.halted.insert(lane.clone(), format!("{lane} is halted: {problem}"));
        }
    }

    /// Tells that lanes are no more; nothing is told of them again.
    fn close(&mut self, lanes: Vec<Arc<Lane>>) -> Result<(), Trouble> {
        for lane in &lanes {
            self.halted.remove(lane);
        }
        self.tell(Found::Close(lanes))
    }

    fn tell(&self, found: Found) -> Result<(), Trouble> {
        self.found.send(found).map_err(|_| Trouble::Gone)
    }

    fn answered(&mut self) {
        self.bootstrap.worked();
        self.consumer.client().context().clear_error();
        let problems = self.problems.iter().chain(self.halted.values());
        let problems: Vec<&str> = problems.map(String::as_str).collect();
        self.report.answered(summary(&problems));
    }

    fn away(&mut self, error: &KafkaError) {
        self.bootstrap.failed(self.consumer.client());
        self.topics.doubted();
        // Its own words say more than the code that asking came back with.
        let said = self.consumer.client().context().last_error();
        self.report.away(&said.unwrap_or_else(|| error.to_string()));
    }
}

/// All problems as one, if there are any.
fn summary(problems: &[&str]) -> Option<String> {
    let (told, more) = problems.split_at(problems.len().min(MAX_TOLD));
    let mut told = told.join("; ");
    if !more.is_empty() {
        told = format!("{told}; and {} more problems", more.len());
    }
    (!told.is_empty()).then_some(told)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use fanout::SourceStatus;
    use rdkafka::config::FromClientConfigAndContext as _;
    use rdkafka::error::RDKafkaErrorCode;

    use super::*;
    use crate::context::Context;
    use crate::identity::Log;

    /// A watcher of a broker that is not there, which reads `t/0`, and what it tells.
    fn watcher() -> (Watcher, Arc<Lane>, Receiver<Found>, SourceStatus) {
        let config = KafkaConfig::new("127.0.0.1:1").topic("t").log_identity("log");
        let client = config.client().unwrap();
        let consumer = Consumer::from_config_and_context(&client, Context::new()).unwrap();
        let (reporter, status) = SourceStatus::new();
        let (found, finds) = sync_channel(4);
        let (_, asked) = sync_channel(1);
        let (consumer, patterns) = (Arc::new(consumer), Patterns::default());
        let reporter = Arc::new(reporter);
        let mut watcher = Watcher::new(consumer, reporter, config, patterns, found, asked);
        watcher.topics.described("t", &BTreeMap::from([(0, true)]));
        let log = Log { name: "log".into(), id: None };
        watcher.topics.get_mut("t").unwrap().identified(&log);
        let lane = watcher.topics.open("t", 0, 0).unwrap();
        (watcher, lane, finds, status)
    }

    fn doubt(lane: &Arc<Lane>, next: u64) -> Doubt {
        Doubt { lane: lane.clone(), next, cut: None }
    }

    #[test]
    fn a_place_is_read_on_or_its_lane_makes_way_for_another() {
        let (mut watcher, lane, finds, _status) = watcher();
        assert!(watcher.settle_doubt(&doubt(&lane, 2), 3, 9).is_ok());
        assert!(matches!(finds.try_recv().unwrap(), Found::Resume(read, 3) if read == lane));

        assert!(watcher.settle_doubt(&doubt(&lane, 10), 0, 9).is_ok());
        assert!(
            matches!(finds.try_recv().unwrap(), Found::Close(lanes) if lanes == [lane.clone()])
        );
        let cut = Arc::new(Lane::new("log~9", "t", 0));
        let Found::Open(openings) = finds.try_recv().unwrap() else { panic!("nothing is opened") };
        assert_eq!(openings, [Opening { lane: cut, from: 9, end: 9 }]);

        // Asked about before it was closed.
        assert!(watcher.topics.get("t").unwrap().is_led(0));
        watcher.doubt(vec![(lane, 10)]);
        assert!(watcher.verify(Duration::ZERO).is_ok() && watcher.doubts.is_empty());
        assert!(finds.try_recv().is_err());
    }

    #[test]
    fn newer_places_replace_older_ones_but_no_cut() {
        let (mut watcher, lane, ..) = watcher();
        watcher.doubt(vec![(lane.clone(), 4)]);
        watcher.doubt_cut(lane.clone(), 9, 5);
        watcher.doubt_cut(lane.clone(), 9, 3);
        watcher.doubt(vec![(lane, 6)]);
        let doubts = watcher.doubts.iter().map(|doubt| (doubt.next, doubt.cut));
        assert_eq!(doubts.collect::<Vec<_>>(), [(9, Some(3)), (6, None)]);
    }

    #[test]
    fn a_halted_lane_is_told_of_until_it_is_closed() {
        let (mut watcher, lane, finds, status) = watcher();
        watcher.halt(&Lane::new("log", "t", 7), "of no lane that is read");
        watcher.halt(&lane, "offset 4 is no JSON");
        watcher.answered();
        assert_eq!(status.health().problem.unwrap(), "t/0 is halted: offset 4 is no JSON");
        // Nobody reads it, so nobody has a place to be verified.
        watcher.doubt(vec![(lane.clone(), 10)]);
        assert!(watcher.verify(Duration::ZERO).is_ok() && watcher.doubts.is_empty());

        assert!(watcher.close(vec![lane]).is_ok());
        watcher.answered();
        assert_eq!(status.health().problem, None);
        drop(finds);
    }

    #[test]
    fn what_is_wrong_is_told_until_it_is_right() {
        let (mut watcher, _, _finds, status) = watcher();
        watcher.away(&KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure));
        let problem = status.health().problem.unwrap();
        assert!(problem.contains("127.0.0.1:1") && !status.health().connected, "{problem}");

        watcher.problems.push("topic `t` cannot be read".into());
        watcher.answered();
        assert!(status.health().connected);
        assert_eq!(status.health().problem.unwrap(), "topic `t` cannot be read");
        watcher.problems.clear();
        watcher.answered();
        assert_eq!(status.health().problem, None);
    }

    #[test]
    fn of_many_problems_some_are_named_and_all_counted() {
        assert_eq!(summary(&[]), None);
        assert_eq!(summary(&["a", "b"]).unwrap(), "a; b");
        let told = summary(&["x"; 15]).unwrap();
        assert!(told.ends_with("x; x; and 5 more problems"), "{told}");
    }
}
