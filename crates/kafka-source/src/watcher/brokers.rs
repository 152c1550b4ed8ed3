//! What the brokers say of topics. Asking blocks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};

use crate::context::Consumer;
use crate::ends::usable;
use crate::identity::answerer;
use crate::topics::Topics;

/// What was said of one topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Its partitions, and whether each has a leader.
    Partitions(BTreeMap<u32, bool>),
    /// There is none.
    Denied,
    Unusable(RDKafkaErrorCode),
}

/// What was said of all topics.
pub(super) struct Answer {
    pub(super) topics: Vec<(Arc<str>, Said)>,
    /// Who said it.
    pub(super) broker: Option<i32>,
    /// Topics that match and are not among them because of the limit.
    pub(super) passed_over: usize,
    /// Why not all were answered.
    pub(super) away: Option<KafkaError>,
}

/// Asks for all topics: once where there are patterns, else one by one, as for those that
/// are read and not listed.
pub(super) fn describe(
    consumer: &Consumer,
    topics: &mut Topics,
    timeout: Duration,
    now: Instant,
) -> Answer {
    let mut answer = Answer { topics: Vec::new(), broker: None, passed_over: 0, away: None };
    let mut by_name = topics.named();
    if topics.has_patterns() {
        match consumer.fetch_metadata(None, timeout) {
            Ok(metadata) => by_name = answer.hear(&metadata, topics, now),
            Err(error) => {
                answer.away = Some(error);
                return answer;
            }
        }
    }
    for name in by_name {
        match consumer.fetch_metadata(Some(&name), timeout) {
            Ok(metadata) => {
                let topic = metadata.topics().iter().find(|topic| topic.name() == &*name);
                answer.broker = answerer(&metadata);
                answer.topics.push((name, said(topic, is_alone(&metadata))));
            }
            Err(error) => {
                answer.away = Some(error);
                break;
            }
        }
    }
    answer
}

impl Answer {
    /// Takes what was said of all topics. Those to be asked about by name: what one may not
    /// see is not listed, as if it did not exist, but spoken of when asked about.
    fn hear(&mut self, metadata: &Metadata, topics: &mut Topics, now: Instant) -> Vec<Arc<str>> {
        self.broker = answerer(metadata);
        let alone = is_alone(metadata);
        let listed: HashMap<&str, &MetadataTopic> =
            metadata.topics().iter().map(|topic| (topic.name(), topic)).collect();
        if alone {
            topics.doubted();
        } else {
            self.passed_over = topics.list(listed.keys().copied(), now);
        }
        let mut by_name = Vec::new();
        for name in topics.named() {
            match listed.get(&*name) {
                Some(topic) => self.topics.push((name, said(Some(topic), alone))),
                None => by_name.push(name),
            }
        }
        for name in topics.matched() {
            let read = topics.get(&name).is_some_and(|topic| topic.lanes().len() > 0);
            match listed.get(&*name) {
                None if read => by_name.push(name),
                topic => self.topics.push((name, said(topic.copied(), alone))),
            }
        }
        by_name
    }
}

/// Whether the broker knows of none, itself included: it is no judge of topics.
fn is_alone(metadata: &Metadata) -> bool {
    metadata.brokers().is_empty()
}

fn said(topic: Option<&MetadataTopic>, alone: bool) -> Said {
    use RDKafkaErrorCode::{UnknownTopic, UnknownTopicOrPartition};
    match topic.map_or(Err(UnknownTopic), usable) {
        Ok(topic) => {
            let partitions = topic.partitions().iter();
            Said::Partitions(partitions.map(|p| (p.id().unsigned_abs(), p.leader() >= 0)).collect())
        }
        Err(UnknownTopic | UnknownTopicOrPartition) if !alone => Said::Denied,
        Err(code) => Said::Unusable(code),
    }
}
