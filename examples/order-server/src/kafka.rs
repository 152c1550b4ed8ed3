//! The broker: embedded, or one that runs elsewhere. After this module nobody can tell
//! which.

pub mod properties;

use std::time::Duration;

use kafka_source::rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use kafka_source::rdkafka::config::RDKafkaLogLevel;
use kafka_source::rdkafka::error::{KafkaError, RDKafkaErrorCode};
use kafka_source::rdkafka::producer::FutureProducer;
use kafka_source::rdkafka::{ClientConfig, ClientContext};
use kafka_source::{ConfigError, EmbeddedBroker, EmbeddedError, KafkaConfig, Start};
use tokio_util::sync::CancellationToken;

use crate::record::topics;

use properties::Properties;

/// How long a record or a question may wait for an answer of the broker.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most records of a partition that are read again at a start.
const WARM_RECORDS: u64 = 10_000;

/// The control topic's records are kept for so long beyond what is remembered of them.
const SPARE: Duration = Duration::from_secs(24 * 3600);

/// Between two tries to create the topics.
const TRY_AGAIN: Duration = Duration::from_secs(2);

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

/// The topic that all servers are told something by.
#[derive(Clone, Debug)]
pub struct ControlTopic {
    /// Its name.
    pub name: String,
    /// How long what it says counts: where it is created, it keeps its records for a day
    /// longer.
    pub life: Duration,
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
        for topic in topics::ALL {
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
        self.reading(warm_start).topics(topics::ALL)
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
    /// to be reached. The embedded one has them.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn create_topics(
        &self,
        new: NewTopics,
        control: ControlTopic,
        stop: CancellationToken,
    ) {
        if matches!(self, Self::Embedded(_)) {
            return;
        }
        let mut told = false;
        loop {
            let created = tokio::select! {
                () = stop.cancelled() => return,
                created = create(self.client(), new, &control) => created,
            };
            let Err(problem) = created else { return };
            if !told {
                tracing::warn!(%problem, "topics not created yet; trying on");
                told = true;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TRY_AGAIN) => {}
            }
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

/// Tries once. What the broker does not allow is not tried again: it may have the
/// topics, or somebody else creates them.
async fn create(
    client: ClientConfig,
    new: NewTopics,
    control: &ControlTopic,
) -> Result<(), KafkaError> {
    let admin: AdminClient<Quiet> = client.create_with_context(Quiet)?;
    let replication = || TopicReplication::Fixed(new.replication.into());
    let kept = (control.life + SPARE).as_millis().to_string();
    // A compacted topic would forget one revocation for the next.
    let control = NewTopic::new(&control.name, 1, replication())
        .set("cleanup.policy", "delete")
        .set("retention.ms", &kept)
        .set("retention.bytes", "-1");
    let events = topics::ALL.map(|name| NewTopic::new(name, new.partitions.into(), replication()));
    let wanted: Vec<_> = events.into_iter().chain([control]).collect();
    let options =
        AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    let created = admin.create_topics(&wanted, &options).await;
    // Closing the client can block.
    tokio::task::spawn_blocking(move || drop(admin));
    for result in created? {
        match result {
            Ok(topic) => tracing::info!(topic, "topic created"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) if code == RDKafkaErrorCode::RequestTimedOut => {
                tracing::debug!(topic, "the broker is still creating it");
                return Err(KafkaError::AdminOp(code));
            }
            Err((topic, code)) => tracing::warn!(topic, %code, "topic not created"),
        }
    }
    Ok(())
}
