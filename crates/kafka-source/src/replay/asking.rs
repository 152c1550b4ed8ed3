//! What there is of a lane. Asking blocks, for the request timeout at most.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanout::{Bounds, Lane, ReplayError};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;

use super::unavailable;
use crate::config::KafkaConfig;
use crate::context::Consumer;
use crate::ends::{MAX_TIMEOUT, ends, usable};
use crate::identity::Identity;

/// A topic as a broker tells of it now.
struct Described {
    /// Which log it is.
    log: Arc<str>,
    /// Its partitions, and whether each has a leader.
    partitions: HashMap<i32, bool>,
}

/// Asks what there is.
pub(super) struct Asking {
    identity: Identity,
    /// What the source reads; nobody is asked of anything else.
    topics: Vec<String>,
    timeout: Duration,
}

impl Asking {
    pub(super) fn new(config: &KafkaConfig) -> Self {
        let timeout = config.request_timeout.min(MAX_TIMEOUT);
        Self { identity: Identity::new(config), topics: config.topics.clone(), timeout }
    }

    /// What there is of each lane, in their order; `None` for a lane that is no more, such
    /// as one of a topic that was made anew since, or that the source does not read.
    pub(super) fn bounds(
        &mut self,
        consumer: &Consumer,
        lanes: &[Arc<Lane>],
    ) -> Result<Vec<Option<Bounds>>, ReplayError> {
        let deadline = Instant::now() + self.timeout;
        let mut topics: HashMap<Arc<str>, Option<Described>> = HashMap::new();
        let mut bounds = Vec::with_capacity(lanes.len());
        for lane in lanes {
            if !topics.contains_key(&lane.topic) {
                let described = self.describe(consumer, &lane.topic, deadline)?;
                topics.insert(lane.topic.clone(), described);
            }
            let topic = topics[&lane.topic].as_ref().filter(|topic| topic.log == lane.log);
            let partition = topic.zip(i32::try_from(lane.partition).ok());
            let partition =
                partition.and_then(|(topic, id)| Some((id, *topic.partitions.get(&id)?)));
            bounds.push(match partition {
                None => None,
                Some((_, false)) => return Err(unavailable(format!("{lane} has no leader"))),
                Some((id, true)) => {
                    let (first, end) =
                        ends(consumer, &lane.topic, id, left(deadline)?).map_err(unavailable)?;
                    Some(Bounds { first, end })
                }
            });
        }
        Ok(bounds)
    }

    /// The topic, `None` where there is none.
    fn describe(
        &mut self,
        consumer: &Consumer,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<Described>, ReplayError> {
        use RDKafkaErrorCode::{UnknownTopic, UnknownTopicOrPartition};
        if !self.topics.iter().any(|topic| topic == name) {
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
        let log = self.identity.of(consumer.client(), name, &metadata, left(deadline)?);
        let log = log.map_err(unavailable)?.name;
        let partitions = topic.partitions().iter().map(|p| (p.id(), p.leader() >= 0)).collect();
        Ok(Some(Described { log, partitions }))
    }
}

fn left(deadline: Instant) -> Result<Duration, ReplayError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(unavailable("no broker has answered in time"));
    }
    Ok(left)
}
