//! What the library is measured against: the loop that everybody writes first.
//!
//! All partitions assigned from their beginning, one thread, `poll`, and nothing made of a
//! record: it is looked at where librdkafka has it.

use std::io;
use std::time::Duration;

use kafka_source::EmbeddedBroker;
use kafka_source::rdkafka::config::RDKafkaLogLevel;
use kafka_source::rdkafka::consumer::{BaseConsumer, Consumer as _};
use kafka_source::rdkafka::error::KafkaError;
use kafka_source::rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use super::account::Account;
use super::job::Job;

const POLL: Duration = Duration::from_millis(100);

/// What a consumer needs that is assigned its partitions.
const NEEDED: [(&str, &str); 2] = [("group.id", "fanout-bench"), ("enable.auto.commit", "false")];

/// What `kafka-source` sets beside that: the loop is compared with it, not with another
/// configuration of librdkafka.
const ITS_OWN: [(&str, &str); 11] = [
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("auto.offset.reset", "error"),
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "20000"),
    ("fetch.error.backoff.ms", "50"),
    ("fetch.queue.backoff.ms", "50"),
    ("fetch.wait.max.ms", "100"),
    ("reconnect.backoff.ms", "100"),
    ("reconnect.backoff.max.ms", "1000"),
    ("log.connection.close", "false"),
];

/// Reads until the account is full or wrong.
pub(super) fn read(job: &Job, defaults: bool, account: &mut Account) -> io::Result<()> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &job.brokers).set_log_level(RDKafkaLogLevel::Critical);
    let own = if defaults { &[][..] } else { &ITS_OWN };
    let embedded = job.log_identity.as_ref().map(|_| EmbeddedBroker::consumer_properties());
    for (name, value) in NEEDED.iter().chain(own).chain(embedded.unwrap_or_default()) {
        client.set(*name, *value);
    }
    for (name, value) in &job.properties {
        client.set(name, value);
    }
    let consumer: BaseConsumer = client.create().map_err(io::Error::other)?;
    let mut places = TopicPartitionList::new();
    for partition in 0..i32::try_from(job.partitions).unwrap_or(i32::MAX) {
        let place = places.add_partition_offset(&job.topic, partition, Offset::Beginning);
        place.map_err(io::Error::other)?;
    }
    consumer.assign(&places).map_err(io::Error::other)?;
    while !account.is_over() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let partition = usize::try_from(message.partition()).unwrap_or(usize::MAX);
                account.take(partition, message.payload().unwrap_or_default());
            }
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                return Err(io::Error::other(error));
            }
            // An end, or what passes by itself.
            Some(Err(_)) | None => {}
        }
    }
    Ok(())
}
