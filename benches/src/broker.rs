//! A topic of its own for each run, and somebody who writes to it: in the embedded broker, or
//! in a real one.
//!
//! The embedded broker lives in this process and outlives the servers that read it.

use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kafka_source::rdkafka::ClientConfig;
use kafka_source::rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use kafka_source::rdkafka::client::{ClientContext, DefaultClientContext};
use kafka_source::rdkafka::config::RDKafkaLogLevel;
use kafka_source::rdkafka::error::KafkaError;
use kafka_source::rdkafka::message::{DeliveryResult, OwnedHeaders};
use kafka_source::rdkafka::producer::{
    BaseRecord, Producer as _, ProducerContext, ThreadedProducer,
};
use kafka_source::rdkafka::types::RDKafkaErrorCode;
use kafka_source::{EmbeddedBroker, EmbeddedError, KafkaConfig};

use crate::clock;

/// How long the broker may take for one thing.
const PATIENCE: Duration = Duration::from_mins(1);

/// A topic, gone with its handle.
#[derive(Debug)]
pub struct Topic {
    /// What it lives in; a real broker has others beside it.
    embedded: Option<EmbeddedBroker>,
    brokers: String,
    name: String,
}

/// Writes to a [`Topic`], each partition in order and nothing twice.
pub struct Writer {
    producer: ThreadedProducer<Deliveries>,
    topic: String,
}

/// What a broker could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The one in this process.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// A real one, or the way there.
    #[error("Kafka")]
    Kafka(#[from] KafkaError),
    /// The topic was not made.
    #[error("the topic was not made: {0}")]
    Topic(RDKafkaErrorCode),
    /// A record was not written.
    #[error("a record was not written: {0}")]
    Lost(String),
    /// The system.
    #[error("the system")]
    Io(#[from] io::Error),
}

impl Topic {
    /// A new topic in the broker at this address, or in one of its own.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub fn new(kafka: Option<&str>, partitions: u32) -> Result<Self, BrokerError> {
        let name = format!("fanout-bench-{}-{}", std::process::id(), clock::monotonic_ns());
        let Some(brokers) = kafka else {
            let embedded = EmbeddedBroker::start()?;
            embedded.create_topic(&name, partitions)?;
            let brokers = embedded.bootstrap_servers().to_owned();
            return Ok(Self { embedded: Some(embedded), brokers, name });
        };
        let topic = Self { embedded: None, brokers: brokers.to_owned(), name };
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        let new = [NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(1))];
        let (admin, options) = topic.admin()?;
        let made = wait_for(admin.create_topics(&new, &options))??;
        match made.into_iter().next() {
            Some(Err((_, error))) => Err(BrokerError::Topic(error)),
            _ => Ok(topic),
        }
    }

    fn admin(&self) -> Result<(AdminClient<DefaultClientContext>, AdminOptions), KafkaError> {
        let admin = ClientConfig::new().set("bootstrap.servers", &self.brokers).create()?;
        Ok((admin, AdminOptions::new().operation_timeout(Some(PATIENCE))))
    }

    /// Where its broker listens.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its lanes' log is called, where the broker cannot say.
    pub fn log_identity(&self) -> Option<&str> {
        self.embedded.as_ref().map(EmbeddedBroker::log_identity)
    }

    /// A configuration that reads it.
    pub fn config(&self) -> KafkaConfig {
        config(&self.brokers, &self.name, self.log_identity())
    }

    /// Somebody who writes to it.
    ///
    /// # Errors
    /// [`BrokerError::Kafka`].
    pub fn writer(&self) -> Result<Writer, BrokerError> {
        // What is written is read at once.
        self.writer_with(&[("linger.ms", "0")])
    }

    /// The same, with properties of librdkafka.
    ///
    /// # Errors
    /// [`BrokerError::Kafka`].
    pub fn writer_with(&self, properties: &[(&str, &str)]) -> Result<Writer, BrokerError> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.brokers).set("enable.idempotence", "true");
        for (name, value) in properties {
            client.set(*name, *value);
        }
        client.set_log_level(RDKafkaLogLevel::Critical);
        let producer = client.create_with_context(Deliveries::default())?;
        Ok(Writer { producer, topic: self.name.clone() })
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // What is left in a real broker is for whoever runs it to see.
        if let (None, Ok((admin, options))) = (&self.embedded, self.admin()) {
            let _ = wait_for(admin.delete_topics(&[&self.name], &options));
        }
    }
}

/// Reads JSON from a topic; `log_identity` says that it is in an embedded broker.
pub(crate) fn config(brokers: &str, topic: &str, log_identity: Option<&str>) -> KafkaConfig {
    let config = KafkaConfig::new(brokers).topic(topic);
    let Some(identity) = log_identity else { return config };
    let config = config.log_identity(identity).search_by_time(false);
    let properties = EmbeddedBroker::consumer_properties().iter();
    properties.fold(config, |config, (name, value)| config.property(*name, *value))
}

fn wait_for<T>(work: impl Future<Output = T>) -> io::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(work))
}

impl Writer {
    /// Hands a record over to be written; waits while too many are on their way.
    ///
    /// # Errors
    /// [`BrokerError::Kafka`].
    pub fn write(&self, partition: u32, key: &str, payload: &[u8]) -> Result<(), BrokerError> {
        self.write_with(partition, key, payload, None)
    }

    /// The same, with headers.
    ///
    /// # Errors
    /// [`BrokerError::Kafka`].
    pub fn write_with(
        &self,
        partition: u32,
        key: &str,
        payload: &[u8],
        headers: Option<OwnedHeaders>,
    ) -> Result<(), BrokerError> {
        let deadline = Instant::now() + PATIENCE;
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        let mut record = BaseRecord::to(&self.topic).partition(partition).key(key).payload(payload);
        record.headers = headers;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    record = back;
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Waits until everything handed over is written.
    ///
    /// # Errors
    /// [`BrokerError::Lost`] where anything was not, [`BrokerError::Kafka`] where that takes
    /// too long.
    pub fn flush(&self) -> Result<(), BrokerError> {
        self.producer.flush(PATIENCE)?;
        let lost = self.producer.context().lost.lock().expect("no panic under this lock");
        lost.clone().map_or(Ok(()), |why| Err(BrokerError::Lost(why)))
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// What became of what was handed over.
#[derive(Debug, Default)]
struct Deliveries {
    /// Why the first record was not written that was not.
    lost: Mutex<Option<String>>,
}

impl ClientContext for Deliveries {
    // What matters is whether records are written.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = delivered {
            let mut lost = self.lost.lock().expect("no panic under this lock");
            lost.get_or_insert_with(|| error.to_string());
        }
    }
}
