//! The broker: embedded, or one that runs elsewhere. After this module nobody can tell
//! which.

pub mod properties;
mod topics;

use std::time::Duration;

use fanout::SourceStatus;
use kafka_source::rdkafka::config::RDKafkaLogLevel;
use kafka_source::rdkafka::error::KafkaError;
use kafka_source::rdkafka::producer::FutureProducer;
use kafka_source::rdkafka::{ClientConfig, ClientContext};
use kafka_source::{ConfigError, EmbeddedBroker, EmbeddedError, KafkaConfig, Start};
use tokio_util::sync::CancellationToken;

use crate::record::topics::ALL;

use properties::Properties;
pub use topics::ControlTopic;

/// How long a record or a question may wait for an answer of the broker.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most records of a partition that are read again at a start.
const WARM_RECORDS: u64 = 10_000;

/// What the relay writes with.
pub type Producer = FutureProducer<Quiet>;

/// Keeps librdkafka's words for those who look for them: it repeats many times a second
/// that a broker is away, which relay and source say once.
#[derive(Clone, Copy, Debug)]
pub struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(facility, "librdkafka: {line}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
    }
}

/// The broker that events go through.
#[derive(Debug)]
#[non_exhaustive]
pub enum Broker {
    /// In this process, gone with it.
    Embedded(EmbeddedBroker),
    /// Elsewhere.
    Remote {
        /// `host:port`, with commas between.
        brokers: String,
        /// How it is reached, for all that is read and written.
        properties: Properties,
    },
}

/// Topics that are created where they are missing.
#[derive(Clone, Copy, Debug)]
pub struct NewTopics {
    /// Partitions of each.
    pub partitions: u16,
    /// Replicas of each partition; -1 leaves it to the broker.
    pub replication: i16,
}

impl Broker {
    /// Starts the embedded broker with every topic.
    ///
    /// # Errors
    /// [`EmbeddedError`].
    pub fn embedded(new: NewTopics) -> Result<Self, EmbeddedError> {
        let broker = EmbeddedBroker::start()?;
        for topic in ALL {
            broker.create_topic(topic, new.partitions.into())?;
        }
        Ok(Self::Embedded(broker))
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        match self {
            Self::Embedded(broker) => broker.bootstrap_servers(),
            Self::Remote { brokers, .. } => brokers,
        }
    }

    /// What the source reads: from so long before now on, where events are older than this
    /// process.
    pub fn source(&self, warm_start: Duration) -> KafkaConfig {
        self.reading(warm_start).topics(ALL)
    }

    fn reading(&self, warm_start: Duration) -> KafkaConfig {
        match self {
            // It is as new as this process: from its start on there is nothing old.
            Self::Embedded(broker) => broker.config().start(Start::Earliest),
            Self::Remote { brokers, properties } => {
                let warm = Start::Recent { age: warm_start, records: WARM_RECORDS };
                let start = if warm_start.is_zero() { Start::Latest } else { warm };
                let config = KafkaConfig::new(brokers.as_str()).start(start);
                properties.iter().fold(config, |config, (name, value)| config.property(name, value))
            }
        }
    }

    /// What is read of the control topic: all that there is, whatever a clock says. The topic
    /// keeps only what still counts.
    ///
    /// # Errors
    /// [`EmbeddedError`] where the embedded broker cannot create it.
    pub fn control(&self, control: &ControlTopic) -> Result<KafkaConfig, EmbeddedError> {
        if let Self::Embedded(broker) = self {
            broker.create_topic(&control.name, 1)?;
        }
        Ok(self.reading(Duration::ZERO).topic(&control.name).start(Start::Earliest))
    }

    /// What the relay writes with.
    ///
    /// # Errors
    /// Where librdkafka refuses, such as a property that it does not know.
    pub fn producer(&self) -> Result<Producer, ConfigError> {
        let mut config = self.client();
        let producer = config
            // Retries inside librdkafka neither double nor reorder.
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("delivery.timeout.ms", PATIENCE.as_millis().to_string())
            // An order is to be seen now; a burst is batched by what is in flight.
            .set("queue.buffering.max.ms", "0")
            .create_with_context(Quiet)?;
        Ok(producer)
    }

    /// Creates the topics that a broker elsewhere does not have, however long it takes
    /// to be reached, and says what is wrong with the control topic, each time that it can be
    /// read again: one that was made anew may have other properties. The embedded broker has
    /// them as they have to be.
    ///
    /// `said` is how the control topic is being read.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn keep_topics(
        &self,
        new: NewTopics,
        control: ControlTopic,
        said: SourceStatus,
        stop: CancellationToken,
    ) {
        if matches!(self, Self::Embedded(_)) {
            return;
        }
        let client = self.client();
        tokio::select! {
            () = stop.cancelled() => {}
            () = topics::keep(&client, new, &control, said) => {}
        }
    }

    /// What every client but the source's begins with.
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", "order-server")
            // How soon a broker that came back is noticed; the default is 10 s.
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "1000")
            .set("log.connection.close", "false")
            .set_log_level(RDKafkaLogLevel::Error);
        if let Self::Remote { properties, .. } = self {
            properties.apply(&mut config);
        }
        config.set("bootstrap.servers", self.address());
        config
    }
}
