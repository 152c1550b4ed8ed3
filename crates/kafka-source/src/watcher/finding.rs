//! Finds what is to be read and is not, and what is read and is no more.
//!
//! ```text
//! describe the topics -> which logs are they? -> ends of what is new -> where to begin
//!    '- denied: close        '- another: close
//! ```
//!
//! Each step is one question for all topics; only topics without patterns are described one
//! by one. What is wrong with one topic or partition is told, and holds no other up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fanout::Lane;
use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;

use super::brokers::{Said, describe};
use super::{Found, Trouble, Watcher};
use crate::ends::{Answers, Partition};
use crate::lanes::Opening;
use crate::start::{Beyond, Rule};
use crate::topic::Begin;

impl Watcher {
    /// Looks at all topics once. What was found before somebody stopped answering is told
    /// nonetheless.
    pub(super) fn find(&mut self, timeout: Duration) -> Result<(), Trouble> {
        let now = Instant::now();
        let answer = describe(&self.consumer, &mut self.topics, timeout, now);
        let mut closed = Vec::new();
        let mut described = Vec::new();
        for (name, said) in answer.topics {
            match said {
                Said::Partitions(partitions) => {
                    if self.topics.described(&name, &partitions) {
                        tracing::info!(topic = &*name, "topic exists now");
                    }
                    described.push((name, partitions));
                }
                Said::Denied => closed.extend(self.denied(&name, now)),
                Said::Unusable(code) => {
                    if let Some(topic) = self.topics.get_mut(&name) {
                        topic.doubted();
                    }
                    self.problems.push(format!("topic `{name}` cannot be read: {code}"));
                }
            }
        }
        closed.extend(self.identify(&mut described, answer.broker, timeout));
        if !closed.is_empty() {
            self.close(closed)?;
        }
        let wanted = self.wanted(&described, answer.passed_over);
        self.open(&wanted, timeout)?;
        answer.away.map_or(Ok(()), |error| Err(Trouble::Away(error)))
    }

    /// The lanes of a topic of which every answer says that it is no more.
    fn denied(&mut self, name: &str, now: Instant) -> Vec<Arc<Lane>> {
        let read = self.topics.get(name).is_some_and(|topic| topic.lanes().len() > 0);
        let named = self.config.topics.iter().any(|topic| topic == name);
        if read || named {
            self.problems.push(format!("topic `{name}` does not exist"));
        }
        // Asked only where it matters: it takes the client's lock.
        let places = if read { self.places() } else { HashMap::new() };
        let next = |lane: &Lane| places.get(&(lane.topic.to_string(), lane.partition)).copied();
        let closed = self.topics.denied(name, now, next);
        if !closed.is_empty() {
            tracing::warn!(topic = name, "topic was deleted; it is read whole if it comes again");
        }
        closed
    }

    /// How far each partition was read, as the client knows it.
    fn places(&self) -> HashMap<(String, u32), u64> {
        let Ok(places) = self.consumer.position() else { return HashMap::new() };
        let place = |topic: &str, partition: i32, next: Offset| {
            let Offset::Offset(next) = next else { return None };
            let place = (topic.to_owned(), partition.unsigned_abs());
            Some((place, u64::try_from(next).ok()?))
        };
        let places = places.elements();
        let places = places.iter().map(|p| place(p.topic(), p.partition(), p.offset()));
        places.flatten().collect()
    }

    /// Keeps those whose log is known. The lanes that are no more because another log has
    /// taken the place of theirs.
    fn identify(
        &mut self,
        described: &mut Vec<(Arc<str>, BTreeMap<u32, bool>)>,
        broker: Option<i32>,
        timeout: Duration,
    ) -> Vec<Arc<Lane>> {
        let names: Vec<Arc<str>> = described.iter().map(|(name, _)| name.clone()).collect();
        let mut logs = match self.identity.of(self.consumer.client(), &names, broker, timeout) {
            Ok(logs) => logs,
            Err(error) => {
                self.problems.push(error.to_string());
                for name in &names {
                    self.topics.get_mut(name).into_iter().for_each(super::Topic::unidentified);
                }
                described.clear();
                return Vec::new();
            }
        };
        for name in self.identity.unreadable() {
            let problem = "may be described and not be read: it takes the right to Read it";
            self.problems.push(format!("topic `{name}` {problem}"));
        }
        let mut closed = Vec::new();
        described.retain(|(name, partitions)| {
            let Some(topic) = self.topics.get_mut(name) else { return false };
            match logs.remove(name) {
                Some(Ok(log)) => {
                    let gone = topic.identified(&log);
                    if !gone.is_empty() {
                        tracing::warn!(topic = &**name, "topic was made anew: it is read whole");
                    }
                    closed.extend(gone);
                    return true;
                }
                Some(Err(error)) if partitions.keys().any(|id| !topic.is_open(*id)) => {
                    self.problems.push(error.to_string());
                }
                // Asked only because it may have been made anew.
                Some(Err(error)) => tracing::debug!(topic = &**name, %error, "not identified"),
                None => {}
            }
            topic.unidentified();
            false
        });
        closed
    }

    /// The partitions that are not read and can be.
    fn wanted(
        &mut self,
        described: &[(Arc<str>, BTreeMap<u32, bool>)],
        passed_over: usize,
    ) -> Vec<Partition> {
        let mut room = self.topics.room();
        let (mut wanted, mut over) = (Vec::new(), Vec::new());
        for (name, partitions) in described {
            let Some(topic) = self.topics.get_mut(name) else { continue };
            for (id, led) in partitions {
                if !led {
                    self.problems.push(format!("{name}/{id} has no leader"));
                } else if topic.is_open(*id) {
                } else if room == 0 {
                    topic.over.insert(*id);
                    over.push(format!("{name}/{id}"));
                } else {
                    room -= 1;
                    wanted.push((name.clone(), *id));
                }
            }
        }
        self.tell_limit(&over, passed_over);
        wanted
    }

    fn tell_limit(&mut self, over: &[String], passed_over: usize) {
        if over.is_empty() && passed_over == 0 {
            return;
        }
        let first = over.first().map_or_else(String::new, |first| format!(", such as {first}"));
        self.problems.push(format!(
            "`max_partitions` ({}) is reached: {} partitions{first} and {passed_over} more topics \
             are not read; raise it, or read fewer topics",
            self.config.max_partitions,
            over.len(),
        ));
    }

    /// Opens partitions, each where it is to begin.
    fn open(&mut self, wanted: &[Partition], timeout: Duration) -> Result<(), Trouble> {
        if wanted.is_empty() {
            return Ok(());
        }
        let ends = match self.ends.ends(&self.consumer, wanted, timeout) {
            Ok(ends) => ends,
            Err(error) => {
                self.tell_unknown(wanted, &error.to_string());
                return Ok(());
            }
        };
        let found = self.search(wanted, &ends, timeout);
        let (mut openings, mut lost) = (Vec::new(), Vec::new());
        for partition in wanted {
            let (name, id) = partition;
            let (low, high) = match ends.get(partition) {
                Some(Ok(ends)) => *ends,
                Some(Err(code)) => {
                    self.tell_unknown(std::slice::from_ref(partition), &code.to_string());
                    continue;
                }
                None => continue,
            };
            let begin = self.topics.get(name).map_or(Begin::Whole, |topic| topic.begin(*id));
            let (from, end) = match begin {
                Begin::Whole => (low, low),
                Begin::At(next) => (next.clamp(low, high), low),
                Begin::AsConfigured => {
                    let found = match found.get(partition) {
                        Some(Ok(found)) => *found,
                        Some(Err(problem)) => {
                            self.tell_unknown(std::slice::from_ref(partition), problem);
                            continue;
                        }
                        None => None,
                    };
                    match self.config.start.rule(name, *id).resolve(low, high, found) {
                        Ok(from) => (from, high),
                        Err(Beyond(offset)) => {
                            self.problems.push(format!(
                                "{name}/{id} is to be read from {offset}, and ends at {high}"
                            ));
                            continue;
                        }
                    }
                }
            };
            let Some(lane) = self.topics.open(name, *id, from) else { continue };
            tracing::debug!(%lane, log = &*lane.log, from, end, ?begin, "partition opened");
            if from < low {
                lost.push((lane.clone(), low));
            }
            openings.push(Opening { lane, from, end });
        }
        if !openings.is_empty() {
            self.tell(Found::Open(openings))?;
        }
        // Asked for, and deleted before: the reader tells of it as of all that is lost.
        lost.into_iter().try_for_each(|(lane, low)| self.tell(Found::Resume(lane, low)))
    }

    /// What is found by time of those partitions whose beginning rests on it.
    fn search(
        &self,
        wanted: &[Partition],
        ends: &Answers<(u64, u64)>,
        timeout: Duration,
    ) -> HashMap<Partition, Result<Option<u64>, String>> {
        let now = SystemTime::now();
        let mut found = HashMap::new();
        let mut asked: BTreeMap<u64, Vec<Partition>> = BTreeMap::new();
        for partition in wanted {
            let Some(Ok((low, high))) = ends.get(partition) else { continue };
            let topic = self.topics.get(&partition.0);
            let configured = topic.is_some_and(|t| t.begin(partition.1) == Begin::AsConfigured);
            let rule = self.config.start.rule(&partition.0, partition.1);
            let Some(millis) = rule.since(now).filter(|_| configured && low < high) else {
                continue;
            };
            if self.config.search_by_time {
                asked.entry(millis).or_default().push(partition.clone());
            } else if matches!(rule, Rule::Recent { .. }) {
                // It is bounded by its records alone.
                found.insert(partition.clone(), Ok(Some(*low)));
            }
        }
        for (millis, partitions) in asked {
            match self.ends.since(&self.consumer, &partitions, millis, timeout) {
                Ok(answers) => {
                    let told = |code: rdkafka::error::RDKafkaErrorCode| code.to_string();
                    found.extend(answers.into_iter().map(|(p, place)| (p, place.map_err(told))));
                }
                Err(error) => {
                    let failed = |p| (p, Err(error.to_string()));
                    found.extend(partitions.into_iter().map(failed));
                }
            }
        }
        found
    }

    fn tell_unknown(&mut self, partitions: &[Partition], why: &str) {
        let Some((topic, id)) = partitions.first() else { return };
        let more = match partitions.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more partitions"),
        };
        self.problems.push(format!("{topic}/{id}{more}: no known place: {why}"));
    }
}
