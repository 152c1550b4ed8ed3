//! A topic for records that cannot be used.
//!
//! What is poison is written as it was read: the same key, payload and headers, and behind
//! those what was wrong with it. It is written by a producer of its own that gets the
//! source's properties, so that certificates and passwords are given once.
//!
//! ```text
//! write --room in the queue--> librdkafka --acknowledged by all replicas--> written
//!   ^--full: again, soon--'        '--delivery_timeout, refused--> not written
//! ```
//!
//! Invariants: a letter is written or is said not to be, within about the
//! [`delivery_timeout`](DeadLetterConfig::delivery_timeout); one that was said to be written
//! is on all replicas in sync. One that was said not to be may be there nevertheless, and
//! comes again once its record is read again.

mod client;
mod config;
mod headers;

use std::sync::Arc;
use std::time::Duration;

use fanout::{DeadLetter, DeadLetterError, DeadLetters};
use futures::future::BoxFuture;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureRecord};
use tokio::time::{Instant, sleep, timeout_at};

use client::Client;
pub use config::{DeadLetterConfig, DeadLetterStartError};
pub use headers::DeadLetterHeaders;

/// How soon room in a full queue is looked for again.
const FULL: Duration = Duration::from_millis(50);
/// How often a client that delivers nothing is helped to find its brokers.
const LOOK: Duration = Duration::from_secs(1);
/// How much longer than librdkafka's own its answer is waited for.
const SLACK: Duration = Duration::from_secs(1);

/// Writes records that cannot be used to a topic of Kafka; see
/// [`Poison::DeadLetters`](fanout::Poison::DeadLetters).
///
/// Key, payload and headers are the record's, byte by byte; behind its headers come those of
/// [`DeadLetterHeaders`]. A record that had such headers before, because it was a letter
/// itself, keeps them: the last one of a name is of this letter. The letter's own time is that
/// of its writing, so that retention counts from then; the record's is in a header. Letters of
/// a key go to one partition, by librdkafka's own partitioner.
///
/// Where the record had no value ([`tombstones`](crate::KafkaConfig::tombstones)), the
/// letter's is empty.
///
/// ```no_run
/// use fanout::{Hub, JsonPayload, Pipeline, Poison, Router};
/// use kafka_source::{DeadLetterConfig, KafkaConfig, KafkaDeadLetters, KafkaSource};
///
/// # async fn run(hub: Hub, router: impl Router) -> Result<(), Box<dyn std::error::Error>> {
/// let config = KafkaConfig::new("localhost:9092").topic("orders");
/// let letters = KafkaDeadLetters::start(DeadLetterConfig::new(&config, "orders.dead"))?;
/// Pipeline::new(KafkaSource::start(config)?, router, hub)
///     .decoder(JsonPayload)
///     .poison(Poison::DeadLetters(Box::new(letters)))
///     .run()
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// The topic has to exist, or brokers to make topics by themselves. A topic that the source
/// reads is refused: each letter would be read, and be poison again.
///
/// Dropping it returns at once; what is under way goes on for as long as somebody waits for
/// it.
///
/// # Panics
/// The futures of [`write`](DeadLetters::write) do, outside of a tokio runtime whose time is
/// enabled.
#[derive(Debug)]
pub struct KafkaDeadLetters {
    config: DeadLetterConfig,
    topic: Arc<str>,
    client: Arc<Client>,
}

/// Why a letter was not written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("topic `{topic}` takes no record of {bytes} bytes: raise its `max.message.bytes`")]
    TooLarge { topic: Arc<str>, bytes: usize, source: KafkaError },
    #[error("topic `{topic}` did not take it within {timeout:?}{}", said(.last.as_deref()))]
    TooLate { topic: Arc<str>, timeout: Duration, last: Option<String> },
    #[error("topic `{topic}` refused it: {source}")]
    Refused { topic: Arc<str>, source: KafkaError },
}

fn said(last: Option<&str>) -> String {
    last.map_or_else(String::new, |last| format!("; librdkafka last said: {last}"))
}

impl KafkaDeadLetters {
    /// Starts the producer. Returns before any broker has answered.
    ///
    /// # Errors
    /// [`DeadLetterStartError`]; nothing was started.
    pub fn start(config: DeadLetterConfig) -> Result<Self, DeadLetterStartError> {
        let client = Arc::new(Client::new(&config.client()?)?);
        Ok(Self { topic: config.topic.as_str().into(), client, config })
    }

    /// The client; another where the one before has failed for good.
    fn client(&mut self) -> Arc<Client> {
        if self.client.is_fatal() {
            match self.config.client().and_then(|config| Client::new(&config)) {
                Ok(client) => self.client = Arc::new(client),
                Err(error) => tracing::error!(%error, "no new producer for dead letters"),
            }
        }
        self.client.clone()
    }
}

impl DeadLetters for KafkaDeadLetters {
    fn write(&mut self, letter: DeadLetter) -> BoxFuture<'static, Result<(), DeadLetterError>> {
        let (client, topic) = (self.client(), self.topic.clone());
        let timeout = self.config.delivery_timeout;
        Box::pin(async move {
            let written = deliver(&client, &topic, &letter, timeout).await;
            match &written {
                Ok(()) => client.worked(),
                Err(error) => {
                    let event = &letter.event;
                    tracing::warn!(lane = %event.lane, offset = event.offset, "letter: {error}");
                }
            }
            written.map_err(|error| DeadLetterError(error.into()))
        })
    }
}

async fn deliver(
    client: &Client,
    topic: &Arc<str>,
    letter: &DeadLetter,
    timeout: Duration,
) -> Result<(), WriteError> {
    let begun = Instant::now();
    // Longer than librdkafka's own, which begins a little later: its words say more.
    let end = begun.checked_add(timeout.saturating_add(SLACK)).unwrap_or(begun);
    let late = || WriteError::TooLate { topic: topic.clone(), timeout, last: client.last_error() };
    let event = &letter.event;
    let headers = headers::of(letter);
    let bytes = event.payload.len() + event.key.as_ref().map_or(0, bytes::Bytes::len);
    let failed = |source: KafkaError| match source.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
            WriteError::TooLarge { topic: topic.clone(), bytes, source }
        }
        Some(RDKafkaErrorCode::MessageTimedOut) => late(),
        _ => WriteError::Refused { topic: topic.clone(), source },
    };
    let mut record = FutureRecord::to(topic).payload(&event.payload[..]).headers(headers);
    if let Some(key) = &event.key {
        record = record.key(&key[..]);
    }
    let mut delivery: DeliveryFuture = loop {
        match client.producer().send_result(record) {
            Ok(delivery) => break delivery,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                if Instant::now() + FULL >= end {
                    return Err(late());
                }
                record = back;
            }
            Err((error, _)) => return Err(failed(error)),
        }
        client.look();
        sleep(FULL).await;
    };
    loop {
        let look = (Instant::now() + LOOK).min(end);
        match timeout_at(look, &mut delivery).await {
            Ok(Ok(Ok(_))) => return Ok(()),
            Ok(Ok(Err((error, _)))) => return Err(failed(error)),
            // The producer is held here, so nobody else has dropped it.
            Ok(Err(_)) => return Err(late()),
            Err(_) if Instant::now() >= end => return Err(late()),
            Err(_) => client.look(),
        }
    }
}

#[cfg(test)]
mod tests;
