//! What blocks: asking the brokers which topics there are. It alone says whether they can
//! be reached.
//!
//! Patterns are matched here, as for [`KafkaSource`](crate::KafkaSource), so that one
//! pattern means the same to both: the group is subscribed to names.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fanout::{Lane, SourceReporter};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;

use super::context::Consumer;
use super::places::{Place, problem, resolve};
use crate::bootstrap::Bootstrap;
use crate::config::KafkaConfig;
use crate::ends::{MAX_TIMEOUT, usable};
use crate::pattern::Patterns;
use crate::report::Report;

/// How soon it is looked again where something is wrong.
const RETRY: Duration = Duration::from_secs(1);
/// How soon at the earliest.
const SPACING: Duration = Duration::from_millis(100);

/// What both threads know.
#[derive(Debug, Default)]
pub(super) struct Common {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// How many partitions each topic had when this member started; `None` until that is
    /// known. What is not among them has appeared since.
    pub(super) at_start: Option<HashMap<String, u32>>,
    /// What is to be subscribed to, once that is known.
    pub(super) topics: Vec<String>,
    /// Why the group does not give anything.
    pub(super) group: Option<String>,
    /// Partitions that are ours, and of which it is not known where to go on.
    pub(super) late: Late,
    /// Why lanes are not read on.
    pub(super) halted: BTreeMap<Lane, String>,
    poked: bool,
    ended: bool,
}

/// Partitions that are looked up here, so that the others need not wait for them.
#[derive(Debug, Default)]
pub(super) struct Late {
    pub(super) partitions: Vec<(String, i32)>,
    /// Where they begin that were found.
    pub(super) found: Vec<Place>,
    /// How often partitions came or went: what was asked for before does not count.
    pub(super) round: u64,
}

impl Common {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in there can be left half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is to be said, or looked at.
    pub(super) fn poke(&self) {
        self.lock().poked = true;
        self.changed.notify_one();
    }

    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_one();
    }
}

/// Looks at topics until the thread that reads has ended.
pub(super) struct Watch {
    // Before the report: when that is dropped, the client is known to be closed.
    consumer: Arc<Consumer>,
    report: Report,
    config: KafkaConfig,
    patterns: Patterns,
    common: Arc<Common>,
    /// Since when every answer has been that there is no such topic.
    denied: HashMap<String, Instant>,
    /// Topics that match a pattern, and their partitions.
    matched: BTreeMap<String, u32>,
    problems: Vec<String>,
    bootstrap: Bootstrap,
    group: String,
}

impl Watch {
    pub(super) fn new(
        consumer: Arc<Consumer>,
        reporter: Arc<SourceReporter>,
        config: KafkaConfig,
        patterns: Patterns,
        common: Arc<Common>,
        group: String,
    ) -> Self {
        Self {
            group,
            consumer,
            report: Report::new(reporter, config.brokers.clone()),
            config,
            patterns,
            common,
            denied: HashMap::new(),
            matched: BTreeMap::new(),
            problems: Vec::new(),
            bootstrap: Bootstrap::default(),
        }
    }

    /// Ends when the thread that reads has.
    pub(super) fn run(mut self) {
        loop {
            self.problems.clear();
            let wait = match self.look() {
                Ok(known) => {
                    self.settle(&known);
                    self.look_up_late();
                    self.answered();
                    let waiting = !self.problems.is_empty() || !self.is_settled();
                    self.config.metadata_interval.min(if waiting { RETRY } else { Duration::MAX })
                }
                Err(error) => {
                    self.away(&error);
                    RETRY
                }
            };
            if self.rest(wait) {
                return;
            }
        }
    }

    /// Waits for the next look; true where it is over.
    fn rest(&mut self, wait: Duration) -> bool {
        let begun = Instant::now();
        let mut wait = wait;
        loop {
            let state = self.common.lock();
            let left = wait.saturating_sub(begun.elapsed());
            let idle = |state: &mut State| !state.poked && !state.ended;
            let waited = self.common.changed.wait_timeout_while(state, left, idle);
            let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.ended {
                return true;
            }
            if timeout.timed_out() || begun.elapsed() >= wait {
                return false;
            }
            state.poked = false;
            wait = wait.min(SPACING);
        }
    }

    fn is_settled(&self) -> bool {
        self.common.lock().at_start.is_some()
    }

    /// The partitions of every topic that is there.
    fn look(&mut self) -> Result<HashMap<String, u32>, KafkaError> {
        let timeout = self.config.request_timeout.min(MAX_TIMEOUT);
        let mut known = HashMap::new();
        if !self.patterns.is_empty() {
            let metadata = self.consumer.fetch_metadata(None, timeout)?;
            // A broker that knows of none, itself included, is no judge of topics.
            if metadata.brokers().is_empty() {
                self.problems.push("the broker that answers knows of no broker".into());
            } else {
                let listed = metadata.topics().iter().filter(|t| self.patterns.matches(t.name()));
                let listed: BTreeMap<_, _> = listed.map(|t| (t.name(), t)).collect();
                self.matched = self.match_topics(&listed);
            }
            known.extend(self.matched.iter().map(|(name, count)| (name.clone(), *count)));
        }
        for name in self.config.topics.clone() {
            let metadata = self.consumer.fetch_metadata(Some(&name), timeout)?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == name);
            let alone = metadata.brokers().is_empty();
            match topic.map_or(Err(RDKafkaErrorCode::UnknownTopic), usable) {
                Ok(topic) => {
                    self.denied.remove(&name);
                    known.insert(name, count(topic));
                }
                Err(code) => {
                    if let Some(count) = self.refused(name.clone(), code, alone) {
                        known.insert(name, count);
                    }
                }
            }
        }
        Ok(known)
    }

    /// Topics that match; one that is not listed any more stays for the grace time.
    fn match_topics(&mut self, listed: &BTreeMap<&str, &MetadataTopic>) -> BTreeMap<String, u32> {
        let now = Instant::now();
        let mut matched = BTreeMap::new();
        for (name, topic) in listed {
            self.denied.remove(*name);
            let known = self.matched.get(*name).copied().unwrap_or(0);
            matched.insert((*name).to_owned(), count(topic).max(known));
        }
        for (name, count) in std::mem::take(&mut self.matched) {
            if matched.contains_key(&name) {
                continue;
            }
            let since = *self.denied.entry(name.clone()).or_insert(now);
            if now.duration_since(since) < self.config.missing_grace {
                matched.insert(name, count);
            } else {
                self.denied.remove(&name);
            }
        }
        matched
    }

    /// Notes why a topic cannot be read; how many partitions it has, where that is certain:
    /// none, after all answers for a while were the same.
    fn refused(&mut self, name: String, code: RDKafkaErrorCode, alone: bool) -> Option<u32> {
        use RDKafkaErrorCode::{UnknownTopic, UnknownTopicOrPartition};
        if !matches!(code, UnknownTopic | UnknownTopicOrPartition) || alone {
            self.problems.push(format!("topic `{name}` cannot be read: {code}"));
            self.denied.remove(&name);
            return None;
        }
        self.problems.push(format!("topic `{name}` does not exist"));
        let now = Instant::now();
        let since = *self.denied.entry(name).or_insert(now);
        (now.duration_since(since) >= self.config.missing_grace).then_some(0)
    }

    /// Says what to subscribe to, once it is known what was there at start.
    fn settle(&mut self, known: &HashMap<String, u32>) {
        let named = &self.config.topics;
        let mut state = self.common.lock();
        if state.at_start.is_none() {
            if named.iter().any(|name| !known.contains_key(name)) {
                return;
            }
            state.at_start = Some(known.clone());
        }
        let topics = named.iter().chain(self.matched.keys().filter(|name| !named.contains(name)));
        state.topics = topics.cloned().collect();
    }

    /// Where partitions begin of which the thread that reads could not find out.
    fn look_up_late(&mut self) {
        let state = self.common.lock();
        let (asked, round) = (state.late.partitions.clone(), state.late.round);
        drop(state);
        let (timeout, start) = (self.config.request_timeout, &self.config.start);
        let names = asked.iter().map(|(topic, partition)| (topic.as_str(), *partition));
        let (found, unknown) = match resolve(&self.consumer, names, start, &self.common, timeout) {
            Ok(resolved) => resolved,
            Err(error) => {
                self.problems.push(format!("group `{}`: no known places: {error}", self.group));
                return;
            }
        };
        self.problems.extend(problem(&self.group, &unknown));
        let mut state = self.common.lock();
        if state.late.round == round {
            let is =
                |p: &Place, (topic, id): &(String, i32)| p.topic == *topic && p.partition == *id;
            state.late.partitions.retain(|late| !found.iter().any(|place| is(place, late)));
            state.late.found.extend(found);
        }
    }

    fn answered(&mut self) {
        self.bootstrap.worked();
        self.consumer.client().context().said().clear_error();
        let state = self.common.lock();
        let problems = self.problems.iter().chain(&state.group).chain(state.halted.values());
        let problems: Vec<&str> = problems.map(String::as_str).collect();
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        drop(state);
        self.report.answered(problem);
    }

    fn away(&mut self, error: &KafkaError) {
        self.bootstrap.failed(self.consumer.client());
        self.denied.clear();
        // Its own words say more than the code that asking came back with.
        let said = self.consumer.client().context().said().last_error();
        self.report.away(&said.unwrap_or_else(|| error.to_string()));
    }
}

fn count(topic: &MetadataTopic) -> u32 {
    topic.partitions().iter().map(|p| p.id().unsigned_abs() + 1).max().unwrap_or(0)
}
