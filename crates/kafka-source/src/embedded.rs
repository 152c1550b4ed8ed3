//! A broker inside this process, for development and tests.

use std::fmt;
use std::io;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, Producer as _};
use rdkafka::{ClientConfig, ClientContext};

use crate::config::{KafkaConfig, is_topic};

/// Every broker of the cluster.
const ALL: i32 = -1;

/// Most partitions of a topic: the broker makes them all at once, in memory.
const MAX_PARTITIONS: i32 = 1000;

/// What a consumer of this broker needs. It does not wake a fetch that waits when
/// something is written: a short wait is what makes it quick.
const CONSUMER: [(&str, &str); 1] = [("fetch.wait.max.ms", "2")];

/// A broker on a loopback port that lives as long as this is held.
///
/// It is the one that librdkafka is tested with: any Kafka client on this machine can
/// use it. It keeps everything in memory, at most 5 MiB or 100,000 batches a partition,
/// and forgets it all at the end: each start has a log identity of its own. There is
/// no search by time, no growth of a topic, no TLS and no administration but what is
/// here.
///
/// ```no_run
/// use kafka_source::{EmbeddedBroker, KafkaSource};
///
/// let broker = EmbeddedBroker::start()?;
/// broker.create_topic("order.created", 3)?;
/// let source = KafkaSource::start(broker.config().topic("order.created"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EmbeddedBroker {
    // The mock cluster is neither Send nor Sync, but lives inside a client that is both.
    host: FutureProducer<Host>,
    bootstrap_servers: String,
    identity: String,
}

/// What an [`EmbeddedBroker`] could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// It could not be started, such as where no port is left.
    #[error("embedded broker did not start")]
    Start(#[source] KafkaError),
    /// The system has no random numbers to name the log with.
    #[error("no random identity")]
    Random(#[source] io::Error),
    /// Kafka has no topic of such a name.
    #[error("`{topic}` is no name of a topic: 1 to 249 of A-Z a-z 0-9 . _ -")]
    TopicName {
        /// The name.
        topic: String,
    },
    /// So many partitions cannot be made.
    #[error("{partitions} partitions: give 1 to {MAX_PARTITIONS}")]
    Partitions {
        /// How many were asked for.
        partitions: u32,
    },
    /// The broker refused the topic, such as one that exists already.
    #[error("topic `{topic}` was not created")]
    Topic {
        /// The topic.
        topic: String,
        /// What the broker said.
        source: KafkaError,
    },
    /// It could not be taken down or up.
    #[error("embedded broker did not change")]
    Change(#[source] KafkaError),
}

impl EmbeddedBroker {
    /// Starts a broker on a free loopback port.
    ///
    /// # Errors
    /// [`EmbeddedError::Start`], [`EmbeddedError::Random`].
    pub fn start() -> Result<Self, EmbeddedError> {
        let identity =
            getrandom::u64().map_err(|e| EmbeddedError::Random(io::Error::other(e.to_string())))?;
        let host: FutureProducer<Host> = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .set("client.id", "embedded-broker")
            .set_log_level(RDKafkaLogLevel::Critical)
            .create_with_context(Host)
            .map_err(EmbeddedError::Start)?;
        let bootstrap_servers = cluster(&host).bootstrap_servers();
        Ok(Self { host, bootstrap_servers, identity: format!("embedded-{identity:016x}") })
    }

    /// Creates a topic of 1 to 1,000 partitions.
    ///
    /// # Errors
    /// [`EmbeddedError::TopicName`], [`EmbeddedError::Partitions`],
    /// [`EmbeddedError::Topic`].
    pub fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), EmbeddedError> {
        let named = || topic.to_owned();
        if !is_topic(topic) {
            return Err(EmbeddedError::TopicName { topic: named() });
        }
        let count =
            i32::try_from(partitions).ok().filter(|count| (1..=MAX_PARTITIONS).contains(count));
        let count = count.ok_or(EmbeddedError::Partitions { partitions })?;
        cluster(&self.host)
            .create_topic(topic, count, 1)
            .map_err(|source| EmbeddedError::Topic { topic: named(), source })
    }

    /// Its address, as `host:port`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// The identity of its log; another at every start.
    pub fn log_identity(&self) -> &str {
        &self.identity
    }

    /// A configuration that reads from it: address, log identity, no search by time, and
    /// [consumer properties](Self::consumer_properties).
    pub fn config(&self) -> KafkaConfig {
        let config = KafkaConfig::new(self.bootstrap_servers())
            .log_identity(&*self.identity)
            .search_by_time(false);
        CONSUMER.iter().fold(config, |config, (name, value)| config.property(*name, *value))
    }

    /// Properties of librdkafka that make a consumer of this broker quick.
    pub fn consumer_properties() -> &'static [(&'static str, &'static str)] {
        &CONSUMER
    }

    /// Closes every connection and refuses new ones. What was written stays.
    ///
    /// # Errors
    /// [`EmbeddedError::Change`].
    pub fn go_down(&self) -> Result<(), EmbeddedError> {
        cluster(&self.host).broker_down(ALL).map_err(EmbeddedError::Change)
    }

    /// Accepts connections again.
    ///
    /// # Errors
    /// [`EmbeddedError::Change`].
    pub fn come_up(&self) -> Result<(), EmbeddedError> {
        cluster(&self.host).broker_up(ALL).map_err(EmbeddedError::Change)
    }
}

fn cluster(host: &FutureProducer<Host>) -> MockCluster<'_, impl ClientContext + use<>> {
    host.client().mock_cluster().expect("the client was started with a cluster")
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("log_identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// The client that hosts the cluster. It writes nothing; that its own connection breaks
/// when the broker is taken down is nobody's trouble.
#[derive(Clone, Debug)]
struct Host;

impl ClientContext for Host {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(facility, "embedded broker: {line}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "embedded broker: {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_held_anywhere_and_every_start_is_another_log() {
        fn is_shared<T: Send + Sync + 'static>(_: &T) {}
        let (a, b) = (EmbeddedBroker::start().unwrap(), EmbeddedBroker::start().unwrap());
        is_shared(&a);
        assert_ne!(a.log_identity(), b.log_identity());
        assert_ne!(a.bootstrap_servers(), b.bootstrap_servers());
    }

    #[test]
    fn a_topic_is_created_once() {
        let broker = EmbeddedBroker::start().unwrap();
        broker.create_topic("t", 2).unwrap();
        let refused = |topic, partitions| broker.create_topic(topic, partitions).unwrap_err();
        assert!(matches!(refused("t", 2), EmbeddedError::Topic { .. }));
        assert!(matches!(refused("a b", 1), EmbeddedError::TopicName { .. }));
        assert!(matches!(refused("none", 0), EmbeddedError::Partitions { partitions: 0 }));
        assert!(matches!(refused("many", 1001), EmbeddedError::Partitions { .. }));
    }
}
