//! Where letters go, and how long that may take.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;

use crate::config::{ConfigError, KafkaConfig, is_topic};

/// Properties that the promises of a letter rest on, or that have a setting of their own.
const RESERVED: [&str; 8] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "transactional.id",
];

/// Defaults that a property may replace.
const DEFAULTS: [(&str, &str); 4] = [
    // What is under way is bounded by the pipeline; this is for those who share it.
    ("queue.buffering.max.messages", "10000"),
    ("queue.buffering.max.kbytes", "65536"),
    // The broker decides what is too large, and says so.
    ("message.max.bytes", "1000000000"),
    // A batch is refused as a whole: one that is too large must not take others with it.
    ("batch.num.messages", "1"),
];

/// Properties of the source's consumer, which a producer does not have; from librdkafka's
/// `CONFIGURATION.md`, those of `C`.
const OF_CONSUMERS: [&str; 37] = [
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "check.crcs",
    "consume.callback.max.messages",
    "coordinator.query.interval.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.copy.max.bytes",
    "offset.store.method",
    "offset.store.path",
    "offset.store.sync.interval.ms",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "session.timeout.ms",
    "socket.blocking.max.ms",
    "consume_cb",
    "rebalance_cb",
    "offset_commit_cb",
];

/// To which topic dead letters are written.
///
/// ```
/// use std::time::Duration;
/// use kafka_source::{DeadLetterConfig, KafkaConfig};
///
/// let config = KafkaConfig::new("kafka:9093")
///     .topic("orders")
///     .property("security.protocol", "plaintext");
/// let letters = DeadLetterConfig::new(&config, "orders.dead")
///     .delivery_timeout(Duration::from_secs(10))
///     .property("compression.type", "zstd");
/// ```
#[derive(Clone)]
pub struct DeadLetterConfig {
    source: KafkaConfig,
    pub(super) topic: String,
    brokers: Option<String>,
    pub(super) delivery_timeout: Duration,
    properties: BTreeMap<String, String>,
}

/// Why [`KafkaDeadLetters`](super::KafkaDeadLetters) were not started. A broker that is away
/// is no reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterStartError {
    /// The configuration, of the source or of the letters, cannot be used.
    #[error("configuration of dead letters refused: {0}")]
    Config(#[from] ConfigError),
    /// Each letter would be read as a record, and be poison again.
    #[error("dead letters: topic `{topic}` is one that the source reads; name another")]
    ReadBySource {
        /// The topic.
        topic: String,
    },
    /// The time is more than librdkafka can count.
    #[error("dead letters: delivery_timeout of {timeout:?} is over {max:?}")]
    Timeout {
        /// What was asked for.
        timeout: Duration,
        /// The most that can be.
        max: Duration,
    },
}

impl DeadLetterConfig {
    /// Default of [`delivery_timeout`](Self::delivery_timeout).
    pub const DEFAULT_DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
    /// Most of it.
    pub const MAX_DELIVERY_TIMEOUT: Duration = Duration::from_secs(3600);

    /// Letters of what this configuration reads go to `topic`, by the same brokers, with the
    /// same properties: what a producer has no use for is left out.
    pub fn new(source: &KafkaConfig, topic: impl Into<String>) -> Self {
        Self {
            source: source.clone(),
            topic: topic.into(),
            brokers: None,
            delivery_timeout: Self::DEFAULT_DELIVERY_TIMEOUT,
            properties: BTreeMap::new(),
        }
    }

    /// Writes to another cluster, `host:port` with commas between. Default: the source's.
    pub fn brokers(mut self, brokers: impl Into<String>) -> Self {
        self.brokers = Some(brokers.into());
        self
    }

    /// How long a letter may take, with all that is tried again, an hour at most. One that
    /// takes longer is not written, and halts its record's partition. Default:
    /// [`Self::DEFAULT_DELIVERY_TIMEOUT`].
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// Sets a property of librdkafka for the producer, in place of the source's.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// What librdkafka is started with.
    pub(super) fn client(&self) -> Result<ClientConfig, DeadLetterStartError> {
        let source = self.source.client()?;
        self.check()?;
        let mut client = ClientConfig::new();
        client.log_level = source.log_level;
        for (name, value) in DEFAULTS {
            client.set(name, value);
        }
        for (name, value) in source.config_map() {
            if !OF_CONSUMERS.contains(&name) {
                client.set(name, value);
            }
        }
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        if let Some(brokers) = &self.brokers {
            client.set("bootstrap.servers", brokers);
        }
        // All replicas in sync have it, once, and in order.
        client.set("enable.idempotence", "true").set("acks", "all");
        client.set("message.timeout.ms", self.delivery_timeout.as_millis().to_string());
        Ok(client)
    }

    fn check(&self) -> Result<(), DeadLetterStartError> {
        let Self { topic, delivery_timeout: timeout, .. } = self;
        if !is_topic(topic) {
            return Err(ConfigError::BadTopic { topic: topic.clone() }.into());
        }
        if self.brokers.as_ref().is_some_and(|b| b.split(',').all(|b| b.trim().is_empty())) {
            return Err(ConfigError::NoBrokers.into());
        }
        // Of another cluster it is another topic.
        let read = self.source.names(topic) || self.source.patterns()?.matches(topic);
        if self.brokers.is_none() && read {
            return Err(DeadLetterStartError::ReadBySource { topic: topic.clone() });
        }
        if timeout.as_millis() == 0 {
            return Err(ConfigError::Zero { name: "delivery_timeout" }.into());
        }
        let max = Self::MAX_DELIVERY_TIMEOUT;
        if *timeout > max {
            return Err(DeadLetterStartError::Timeout { timeout: *timeout, max });
        }
        match self.properties.keys().find(|name| RESERVED.contains(&name.as_str())) {
            Some(name) => Err(ConfigError::Reserved { name: name.clone() }.into()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for DeadLetterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: values of properties may be passwords.
        f.debug_struct("DeadLetterConfig")
            .field("topic", &self.topic)
            .field("brokers", &self.brokers)
            .field("delivery_timeout", &self.delivery_timeout)
            .field("properties", &self.properties.keys())
            .finish_non_exhaustive()
    }
}
