//! From the outbox to Kafka, in the order of writing.
//!
//! ```text
//! outbox -> a wave: the oldest records, up to the second one of any order
//!        -> all of it to Kafka -> what Kafka has is removed -> the next wave
//! ```
//!
//! A record is removed only once Kafka has it: after a crash in between it is
//! published twice, never not at all. A wave has at most one record of an order, so
//! that one which fails is not overtaken by the next of its order; records that cannot
//! be published now stay, and are the first of the next try.

use std::collections::HashSet;
use std::time::Duration;

use kafka_source::Bootstrap;
use kafka_source::rdkafka::error::KafkaError;
use kafka_source::rdkafka::producer::{DeliveryFuture, FutureRecord, Producer as _};
use tokio_util::sync::CancellationToken;

use crate::http::chain;
use crate::kafka::Producer;
use crate::record::Record;
use crate::store::{Store, StoreError, Waiting};

/// Most records of a wave.
const WAVE: u32 = 100;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Short, since each try lasts for as long as the producer waits for a broker.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// After which a record takes so long that Kafka may be away.
const SLOW: Duration = Duration::from_secs(1);

/// Publishes what the outbox holds.
pub struct Relay {
    store: Store,
    producer: Producer,
    bootstrap: Bootstrap,
}

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("the outbox cannot be read or cleared")]
    Store(#[from] StoreError),
    #[error("Kafka did not take {0} of the records that wait")]
    Kafka(usize, #[source] KafkaError),
}

impl Relay {
    /// From this store, with this producer.
    pub fn new(store: Store, producer: Producer) -> Self {
        Self { store, producer, bootstrap: Bootstrap::default() }
    }

    /// Publishes until it is stopped; then finishes its wave.
    ///
    /// # Cancel safety
    /// What has been published and not yet removed is published again by the next
    /// relay.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut backoff = FIRST_BACKOFF;
        let mut failing = false;
        while !stop.is_cancelled() {
            let wait = match self.wave().await {
                Ok(more) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("orders are published again");
                    }
                    backoff = FIRST_BACKOFF;
                    if more {
                        continue;
                    }
                    None
                }
                Err(error) => {
                    // Once a trouble, not once a try.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(error = %chain(&error), "orders wait to be published");
                    }
                    metrics::counter!("order_server_relay_failures_total").increment(1);
                    let wait = backoff;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                    Some(wait)
                }
            };
            let woken = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => self.store.outbox_changed().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = woken => {}
            }
        }
        // Closing the client can block.
        let producer = self.producer;
        let _ = tokio::task::spawn_blocking(move || drop(producer)).await;
    }

    /// Publishes one wave; false where nothing waited.
    async fn wave(&mut self) -> Result<bool, RelayError> {
        let mut waiting = self.store.waiting(WAVE).await?;
        waiting.truncate(wave_len(&waiting));
        if waiting.is_empty() {
            return Ok(false);
        }
        let sent: Vec<_> = waiting.iter().map(|row| (row.id, self.send(&row.record))).collect();
        let (mut published, mut failed) = (Vec::new(), None);
        for (id, sent) in sent {
            match self.delivered(sent).await {
                Ok(()) => published.push(id),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        metrics::counter!("order_server_records_published_total").increment(published.len() as u64);
        let left = waiting.len() - published.len();
        if !published.is_empty() {
            self.store.published(published).await?;
        }
        failed.map_or(Ok(true), |error| Err(RelayError::Kafka(left, error)))
    }

    fn send(&self, record: &Record) -> Result<DeliveryFuture, KafkaError> {
        let message = FutureRecord::to(&record.topic).key(&record.key).payload(&record.payload);
        self.producer.send_result(message).map_err(|(error, _)| error)
    }

    async fn delivered(
        &mut self,
        sent: Result<DeliveryFuture, KafkaError>,
    ) -> Result<(), KafkaError> {
        let mut delivery = sent?;
        loop {
            match tokio::time::timeout(SLOW, &mut delivery).await {
                Ok(Ok(Ok(_))) => {
                    self.bootstrap.worked();
                    return Ok(());
                }
                Ok(Ok(Err((error, _)))) => return Err(error),
                // The producer is gone, and the record was not acknowledged.
                Ok(Err(_)) => return Err(KafkaError::Canceled),
                Err(_) => self.bootstrap.failed(self.producer.client()),
            }
        }
    }
}

/// How many of these are of different orders, from the first on.
fn wave_len(waiting: &[Waiting]) -> usize {
    let mut keys = HashSet::new();
    waiting.iter().take_while(|row| keys.insert(row.record.key.as_str())).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_ends_before_the_second_record_of_an_order() {
        let row = |(id, key): (i64, &str)| {
            let record = Record { topic: "t".into(), key: key.into(), payload: vec![] };
            Waiting { id, record }
        };
        for (keys, len) in [("", 0), ("a", 1), ("abc", 3), ("aab", 1), ("abcbd", 3)] {
            let keys: Vec<_> = keys.split("").filter(|key| !key.is_empty()).collect();
            let waiting: Vec<_> = (0..).zip(keys).map(row).collect();
            assert_eq!(wave_len(&waiting), len, "{waiting:?}");
        }
    }
}
