//! Which group is joined, and how it is left.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::config::{ConfigError, KafkaConfig};
use crate::start::Start;

/// librdkafka's own default of `max.poll.interval.ms`.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);

/// Most bytes of a group's name that brokers keep.
const MAX_GROUP_BYTES: usize = 249;

/// What a [`KafkaGroup`](super::KafkaGroup) reads, and as a member of which group.
///
/// ```
/// use std::time::Duration;
/// use kafka_source::{GroupConfig, KafkaConfig, Start};
///
/// let config = KafkaConfig::new("kafka:9092").topic("push").start(Start::Earliest);
/// let config = GroupConfig::new(config, "push-senders")
///     .rebalance_timeout(Duration::from_secs(20))
///     .commit_interval(Duration::from_secs(2));
/// ```
#[derive(Clone, Debug)]
pub struct GroupConfig {
    pub(super) source: KafkaConfig,
    pub(super) group: String,
    pub(super) rebalance_timeout: Duration,
    pub(super) commit_interval: Duration,
    pub(super) close_timeout: Duration,
}

/// Why a [`GroupConfig`] cannot be used. Retrying cannot help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupConfigError {
    /// What every source needs.
    #[error(transparent)]
    Source(#[from] ConfigError),
    /// The group has no name, or one that is too long.
    #[error("group: a name of 1 to {MAX_GROUP_BYTES} bytes is needed")]
    Name,
    /// The group's name is given twice.
    #[error("property `group.id` is `{given}`, and the group `{group}`: give the group alone")]
    NamedTwice {
        /// The group.
        group: String,
        /// What the property says.
        given: String,
    },
    /// A group begins where it has committed, else at one of the two ends.
    #[error("start: a group begins at `Latest` or `Earliest` where it has committed nothing")]
    Start,
    /// The group would throw the member out while it drains.
    #[error(
        "rebalance_timeout and request_timeout are {sum:?} together, which must be less than \
         `max.poll.interval.ms`, {limit:?}"
    )]
    RebalanceTimeout {
        /// What they are.
        sum: Duration,
        /// What they have to be below.
        limit: Duration,
    },
}

impl GroupConfig {
    /// Default of [`rebalance_timeout`](Self::rebalance_timeout).
    pub const DEFAULT_REBALANCE_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default of [`commit_interval`](Self::commit_interval).
    pub const DEFAULT_COMMIT_INTERVAL: Duration = Duration::from_secs(1);
    /// Default of [`close_timeout`](Self::close_timeout).
    pub const DEFAULT_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

    /// Reads what `source` says, as a member of `group`.
    ///
    /// Of the source's configuration, [`start`](KafkaConfig::start) is for partitions of
    /// which the group has committed nothing, [`log_identity`](KafkaConfig::log_identity)
    /// is what lanes are named by (in dead letters), and
    /// [`search_by_time`](KafkaConfig::search_by_time) and
    /// [`max_partitions`](KafkaConfig::max_partitions) have no meaning.
    pub fn new(source: KafkaConfig, group: impl Into<String>) -> Self {
        Self {
            source,
            group: group.into(),
            rebalance_timeout: Self::DEFAULT_REBALANCE_TIMEOUT,
            commit_interval: Self::DEFAULT_COMMIT_INTERVAL,
            close_timeout: Self::DEFAULT_CLOSE_TIMEOUT,
        }
    }

    /// How long partitions that are taken away are kept until all that was handed out of
    /// them is accepted. What is not by then comes again, to their next owner. Then it is
    /// committed, which takes [`request_timeout`](KafkaConfig::request_timeout) at most;
    /// both together have to stay below `max.poll.interval.ms`. Default:
    /// [`Self::DEFAULT_REBALANCE_TIMEOUT`].
    pub fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.rebalance_timeout = timeout;
        self
    }

    /// How often what was accepted is committed: what comes again after a crash is what was
    /// accepted for so long. Default: [`Self::DEFAULT_COMMIT_INTERVAL`].
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval;
        self
    }

    /// How long the last commit may take, once nobody takes batches any more. Default:
    /// [`Self::DEFAULT_CLOSE_TIMEOUT`].
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// What librdkafka is started with.
    pub(super) fn client(&self) -> Result<ClientConfig, GroupConfigError> {
        let mut client = self.source.client()?;
        if !(1..=MAX_GROUP_BYTES).contains(&self.group.len()) || self.group.contains('\0') {
            return Err(GroupConfigError::Name);
        }
        // The source's own default is no group that anybody joins.
        let given = client.get("group.id").filter(|given| *given != "fanout");
        if let Some(given) = given.filter(|given| *given != self.group) {
            let (group, given) = (self.group.clone(), given.to_owned());
            return Err(GroupConfigError::NamedTwice { group, given });
        }
        if !matches!(self.source.start, Start::Latest | Start::Earliest) {
            return Err(GroupConfigError::Start);
        }
        let given = |name| client.get(name).and_then(|millis| millis.parse().ok());
        let limit = given("max.poll.interval.ms").map_or(MAX_POLL_INTERVAL, Duration::from_millis);
        let sum = self.rebalance_timeout.saturating_add(self.source.request_timeout);
        if sum >= limit {
            return Err(GroupConfigError::RebalanceTimeout { sum, limit });
        }
        if self.commit_interval.is_zero() {
            return Err(ConfigError::Zero { name: "commit_interval" }.into());
        }
        client.set("group.id", &self.group);
        // With the newer protocol it is the broker that assigns.
        let newer =
            client.get("group.protocol").is_some_and(|p| p.eq_ignore_ascii_case("consumer"));
        if client.get("partition.assignment.strategy").is_none() && !newer {
            client.set("partition.assignment.strategy", "cooperative-sticky");
        }
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> GroupConfig {
        GroupConfig::new(KafkaConfig::new("b:1").topic("t"), "g")
    }

    fn with(change: impl FnOnce(KafkaConfig) -> KafkaConfig) -> GroupConfig {
        GroupConfig { source: change(config().source), ..config() }
    }

    #[test]
    fn what_a_group_cannot_do_is_refused_by_name() {
        let refused = |config: GroupConfig| config.client().expect_err("must be refused");
        let source = config().source;
        assert_eq!(refused(GroupConfig::new(source.clone(), "")), GroupConfigError::Name);
        assert_eq!(refused(GroupConfig::new(source, "g".repeat(250))), GroupConfigError::Name);
        let recent = Start::Recent { age: Duration::ZERO, records: 1 };
        assert_eq!(refused(with(|s| s.start(recent))), GroupConfigError::Start);
        let twice = refused(with(|s| s.property("group.id", "other")));
        assert!(twice.to_string().contains("`other`"), "{twice}");
        let slow = config().rebalance_timeout(Duration::from_secs(300));
        assert!(refused(slow).to_string().contains("max.poll.interval.ms"));
        let short = refused(with(|s| s.property("max.poll.interval.ms", "12000")));
        assert!(short.to_string().contains("12s"), "{short}");
        let never = refused(config().commit_interval(Duration::ZERO));
        assert!(never.to_string().contains("commit_interval"));
    }

    #[test]
    fn properties_choose_the_protocol() {
        let strategy = |config: GroupConfig| {
            let client = config.client().expect("usable");
            client.create_native_config().expect("librdkafka knows every property");
            client.get("partition.assignment.strategy").map(str::to_owned)
        };
        assert_eq!(strategy(config()).as_deref(), Some("cooperative-sticky"));
        let range = with(|s| s.property("partition.assignment.strategy", "range"));
        assert_eq!(strategy(range).as_deref(), Some("range"));
        assert_eq!(strategy(with(|s| s.property("group.protocol", "consumer"))), None);
        let client = with(|s| s.property("group.instance.id", "one")).client().expect("usable");
        assert_eq!(client.get("group.instance.id"), Some("one"));
        assert_eq!(client.get("group.id"), Some("g"));
    }
}
