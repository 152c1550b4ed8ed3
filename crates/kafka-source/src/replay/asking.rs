//! What there is of a lane. Asking blocks, for the request timeout at most.
//!
//! A lane of a log that was cut ([`cut`](crate::cut)) begins at the cut: what stands before
//! is the old log's. A lane of a log that goes by another name now is no more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanout::{Bounds, Lane, ReplayError};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;

use super::unavailable;
use crate::config::KafkaConfig;
use crate::context::Consumer;
use crate::cut;
use crate::ends::{Ends, MAX_TIMEOUT, Partition, partition, usable};
use crate::identity::{Identity, answerer};
use crate::pattern::Patterns;

/// A topic as a broker tells of it now: its partitions, and whether each has a leader.
type Described = HashMap<u32, bool>;

/// Asks what there is.
pub(super) struct Asking {
    identity: Identity,
    ends: Ends,
    /// What the source reads; nobody is asked of anything else.
    topics: Vec<String>,
    patterns: Patterns,
    timeout: Duration,
}

impl Asking {
    pub(super) fn new(config: &KafkaConfig) -> Self {
        Self {
            identity: Identity::new(config),
            ends: config.ends(),
            topics: config.topics.clone(),
            // They were compiled before, when the source was started.
            patterns: config.patterns().unwrap_or_default(),
            timeout: config.request_timeout.min(MAX_TIMEOUT),
        }
    }

    /// What there is of each lane, in their order; `None` for a lane that is no more, such
    /// as one of a topic that was made anew since, or that the source does not read.
    pub(super) fn bounds(
        &mut self,
        consumer: &Consumer,
        lanes: &[Arc<Lane>],
    ) -> Result<Vec<Option<Bounds>>, ReplayError> {
        let deadline = Instant::now() + self.timeout;
        let begins = self.begins(consumer, lanes, deadline)?;
        let mut asked: Vec<Partition> = lanes
            .iter()
            .zip(&begins)
            .filter_map(|(lane, begin)| begin.map(|_| partition(lane)))
            .collect();
        asked.sort_unstable();
        asked.dedup();
        let ends = self.ends.ends(consumer, &asked, left(deadline)?).map_err(unavailable)?;
        let bounds = |(lane, begin): (&Arc<Lane>, Option<u64>)| {
            let Some(begin) = begin else { return Ok(None) };
            match ends.get(&partition(lane)) {
                // Cut again, before where it began.
                Some(Ok((_, high))) if *high < begin => Ok(None),
                Some(Ok((low, high))) => Ok(Some(Bounds { first: begin.max(*low), end: *high })),
                Some(Err(code)) => Err(unavailable(format!("{lane}: {code}"))),
                None => Ok(None),
            }
        };
        lanes.iter().zip(begins).map(bounds).collect()
    }

    /// The offset at which each lane's log begins; `None` for a lane that is no more.
    fn begins(
        &mut self,
        consumer: &Consumer,
        lanes: &[Arc<Lane>],
        deadline: Instant,
    ) -> Result<Vec<Option<u64>>, ReplayError> {
        let mut topics: BTreeMap<Arc<str>, Described> = BTreeMap::new();
        let mut broker = None;
        let names: std::collections::BTreeSet<&Arc<str>> =
            lanes.iter().map(|lane| &lane.topic).collect();
        for name in names {
            if let Some(topic) = self.describe(consumer, name, &mut broker, deadline)? {
                topics.insert(name.clone(), topic);
            }
        }
        let names: Vec<Arc<str>> = topics.keys().cloned().collect();
        let logs = self.identity.of(consumer.client(), &names, broker, left(deadline)?);
        let mut identities = logs.map_err(unavailable)?;
        let mut logs = HashMap::new();
        for name in names {
            if let Some(log) = identities.remove(&name) {
                logs.insert(name, log.map_err(unavailable)?.name);
            }
        }
        let begin = |lane: &Arc<Lane>| {
            let log = logs.get(&lane.topic);
            let Some(begin) = log.and_then(|log| cut::begin(log, &lane.log)) else {
                return Ok(None);
            };
            match topics.get(&lane.topic).and_then(|topic| topic.get(&lane.partition)) {
                None => Ok(None),
                Some(false) => Err(unavailable(format!("{lane} has no leader"))),
                Some(true) => Ok(Some(begin)),
            }
        };
        lanes.iter().map(begin).collect()
    }

    /// The topic, `None` where there is none.
    fn describe(
        &self,
        consumer: &Consumer,
        name: &str,
        broker: &mut Option<i32>,
        deadline: Instant,
    ) -> Result<Option<Described>, ReplayError> {
        use RDKafkaErrorCode::{UnknownTopic, UnknownTopicOrPartition};
        if !self.topics.iter().any(|topic| topic == name) && !self.patterns.matches(name) {
            return Ok(None);
        }
        let metadata = consumer.fetch_metadata(Some(name), left(deadline)?).map_err(unavailable)?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        let topic = match topic.map_or(Err(UnknownTopic), usable) {
            Ok(topic) => topic,
            // A broker that knows of none, itself included, is no judge of topics.
            Err(UnknownTopic | UnknownTopicOrPartition) if !metadata.brokers().is_empty() => {
                return Ok(None);
            }
            Err(code) => return Err(unavailable(format!("topic `{name}`: {code}"))),
        };
        *broker = answerer(&metadata);
        let partitions = topic.partitions().iter();
        Ok(Some(partitions.map(|p| (p.id().unsigned_abs(), p.leader() >= 0)).collect()))
    }
}

fn left(deadline: Instant) -> Result<Duration, ReplayError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(unavailable("no broker has answered in time"));
    }
    Ok(left)
}
