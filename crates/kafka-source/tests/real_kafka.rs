//! What only a real broker can show: holes, growth, deletion, a crash.
//!
//! ```text
//! FANOUT_TEST_KAFKA=host:port cargo test -p kafka-source --test real_kafka -- --ignored
//! ```
//!
//! The tests that restart it need `FANOUT_TEST_KAFKA_CONTROL` too: a program and a folder,
//! with a space between, for `PROGRAM kill FOLDER` and the like.

mod common;

use std::process::Command;
use std::time::Duration;

use common::{DEADLINE, Reader, Writer, producer_at, write};
use fanout::testing::{SourceHarness, source_contract};
use fanout::{Source as _, SourceHealth};
use kafka_source::rdkafka::admin::TopicReplication;
use kafka_source::rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic};
use kafka_source::rdkafka::client::DefaultClientContext;
use kafka_source::rdkafka::consumer::{BaseConsumer, Consumer as _};
use kafka_source::rdkafka::producer::DefaultProducerContext;
use kafka_source::rdkafka::producer::{
    BaseRecord, FutureProducer, Producer as _, ThreadedProducer,
};
use kafka_source::rdkafka::{ClientConfig, Offset, TopicPartitionList};
use kafka_source::{KafkaConfig, KafkaSource, Start};
use tokio::sync::{RwLock, RwLockReadGuard};

/// Who restarts the broker waits for those who use it, and they for its return.
static BROKER: RwLock<()> = RwLock::const_new(());

/// A broker, and a topic that no other test uses.
struct Kafka {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    topic: String,
    _stays: Option<RwLockReadGuard<'static, ()>>,
}

async fn kafka(partitions: i32) -> Kafka {
    let stays = BROKER.read().await;
    Kafka { _stays: Some(stays), ..kafka_that_may_restart(partitions).await }
}

async fn kafka_that_may_restart(partitions: i32) -> Kafka {
    let brokers = std::env::var("FANOUT_TEST_KAFKA").expect("FANOUT_TEST_KAFKA names a broker");
    let admin = ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("client");
    let topic = format!("kafka-source-{:016x}", getrandom::u64().expect("random"));
    let kafka = Kafka { brokers, admin, topic, _stays: None };
    kafka.create(&kafka.topic, partitions).await;
    kafka
}

impl Kafka {
    async fn create(&self, topic: &str, partitions: i32) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let made = self.admin.create_topics(&[new], &AdminOptions::new()).await;
        made.expect("asked").remove(0).expect("created");
    }

    async fn delete(&self) {
        let gone = self.admin.delete_topics(&[&self.topic], &AdminOptions::new()).await;
        gone.expect("asked").remove(0).expect("deleted");
    }

    fn config(&self) -> KafkaConfig {
        let config = KafkaConfig::new(&self.brokers).topic(&self.topic);
        config.metadata_interval(Duration::from_millis(200))
    }

    /// The end that the broker tells of a partition, holes included.
    fn end(&self, partition: i32) -> u64 {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).create().expect("client");
        let ends = consumer.fetch_watermarks(&self.topic, partition, DEADLINE).expect("ends");
        ends.1.try_into().expect("an offset")
    }
}

impl SourceHarness for Kafka {
    type Source = KafkaSource;
    type Writer = Writer;

    async fn open(&mut self) -> (KafkaSource, Writer) {
        self.topic = format!("kafka-source-{:016x}", getrandom::u64().expect("random"));
        self.create(&self.topic, 3).await;
        let source = KafkaSource::start(self.config().json(true)).expect("source");
        let producer = producer_at(&self.brokers);
        (source, Writer { producer, topic: self.topic.clone(), broker: None })
    }

    fn max_batch(&self) -> usize {
        KafkaConfig::DEFAULT_MAX_BATCH
    }
}

/// Runs `PROGRAM what FOLDER`, which returns once it is true.
async fn control(what: &'static str) {
    let control = std::env::var("FANOUT_TEST_KAFKA_CONTROL")
        .expect("FANOUT_TEST_KAFKA_CONTROL says how to restart the broker");
    let run = move || {
        let (program, folder) = control.rsplit_once(' ').expect("a program and a folder");
        // The broker must not hold a pipe of the test's.
        Command::new(program).args([what, folder]).output().expect("it runs")
    };
    let done = tokio::task::spawn_blocking(run).await.expect("ended");
    assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn it_keeps_the_contract() {
    let mut kafka = kafka(1).await;
    source_contract(&mut kafka).await;
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn marks_and_aborted_transactions_are_passed() {
    let kafka = kafka(1).await;
    let writer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &kafka.brokers)
        .set("transactional.id", &kafka.topic)
        .create()
        .expect("producer");
    let topic = kafka.topic.clone();
    // Blocks, as all of a transaction does.
    let transactions = tokio::task::spawn_blocking(move || {
        writer.init_transactions(DEADLINE).expect("ready");
        for (payload, commit) in [("kept", true), ("aborted", false), ("kept", true)] {
            writer.begin_transaction().expect("begun");
            let record = BaseRecord::to(&topic).partition(0).key("k").payload(payload);
            assert!(writer.send(record).is_ok());
            writer.flush(DEADLINE).expect("written");
            let ended = if commit {
                writer.commit_transaction(DEADLINE)
            } else {
                writer.abort_transaction(DEADLINE)
            };
            ended.expect("ended");
        }
    });
    transactions.await.expect("written");

    // Three records and three marks; the last offset is a mark.
    let mut reader = Reader::start(kafka.config().start(Start::Earliest));
    reader.read_up_to(&kafka.topic, 0, kafka.end(0)).await;
    assert_eq!(reader.payloads(), ["kept", "kept"]);
    assert_eq!(reader.passed(&kafka.topic, 0), Some(6));
    reader.until(SourceHealth::ready).await;
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn new_partitions_are_read_from_their_beginning() {
    let kafka = kafka(1).await;
    let producer = producer_at(&kafka.brokers);
    let mut reader = Reader::ready(kafka.config()).await;
    let grown = NewPartitions::new(&kafka.topic, 3);
    let grown = kafka.admin.create_partitions(&[grown], &AdminOptions::new()).await;
    grown.expect("asked").remove(0).expect("grown");
    // A producer of its own: the first may not know the partition yet.
    drop(producer);
    let producer = producer_at(&kafka.brokers);
    write(&producer, &kafka.topic, 2, "new").await;
    reader.read_events(1).await;
    assert_eq!(reader.passed(&kafka.topic, 2), Some(1));
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn records_that_were_deleted_are_passed() {
    let kafka = kafka(1).await;
    let producer = producer_at(&kafka.brokers);
    let config = kafka.config().max_batch(1).max_queued_batches(1);
    // Nothing is fetched ahead while nobody takes the first.
    let config = config
        .property("queued.min.messages", "1")
        .property("fetch.message.max.bytes", "1000")
        .property("queued.max.messages.kbytes", "100");
    let mut reader = Reader::ready(config).await;
    let large = "x".repeat(100_000);
    for _ in 0..30 {
        write(&producer, &kafka.topic, 0, &large).await;
    }
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&kafka.topic, 0, Offset::Offset(25)).expect("place");
    kafka.admin.delete_records(&before, &AdminOptions::new()).await.expect("deleted");
    reader.read_up_to(&kafka.topic, 0, 30).await;
    let offsets: Vec<u64> = reader.events.iter().map(|event| event.offset).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b) && offsets.ends_with(&[25, 26, 27, 28, 29]));
    assert!(offsets.len() < 30, "nothing was deleted in time");
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_topic_made_anew_is_told_and_not_read_as_if_it_were_the_old_one() {
    let kafka = kafka(1).await;
    let mut reader = Reader::ready(kafka.config()).await;
    let producer = producer_at(&kafka.brokers);
    for _ in 0..5 {
        write(&producer, &kafka.topic, 0, "old").await;
    }
    reader.read_up_to(&kafka.topic, 0, 5).await;
    kafka.delete().await;
    let gone = |health: &SourceHealth| health.problem.is_some();
    let problem = reader.until(gone).await.problem.expect("told");
    assert!(problem.contains(&kafka.topic), "{problem}");

    kafka.create(&kafka.topic, 1).await;
    write(&producer_at(&kafka.brokers), &kafka.topic, 0, "new").await;
    let health = reader
        .until(|health| health.problem.as_deref().is_some_and(|p| p.contains("was read up to 5")))
        .await;
    assert!(health.connected);
    assert!(reader.source.status().health().caught_up);
}

/// Writes to each of three partitions, and notes what.
async fn write_to_each(
    kafka: &Kafka,
    producer: &FutureProducer,
    word: &str,
    written: &mut Vec<String>,
) {
    for partition in 0..3 {
        let payload = format!("{word} {partition}");
        write(producer, &kafka.topic, partition, &payload).await;
        written.push(payload);
    }
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_crash_and_a_restart_lose_and_repeat_nothing() {
    let _alone = BROKER.write().await;
    let kafka = kafka_that_may_restart(3).await;
    let producer = producer_at(&kafka.brokers);
    for partition in 0..3 {
        write(&producer, &kafka.topic, partition, "old").await;
    }
    let config = kafka.config().request_timeout(Duration::from_secs(1));
    // Every denial of a topic is believed at once: those that are known stay known.
    let mut reader = Reader::ready(config.missing_grace(Duration::ZERO)).await;
    let mut expected = Vec::new();
    for (away, back) in [("kill", "start"), ("stop", "start")] {
        write_to_each(&kafka, &producer, &format!("before {away}"), &mut expected).await;
        control(away).await;
        let health = reader.until(|health| !health.connected).await;
        assert!(health.caught_up && health.problem.is_some(), "{health:?}");
        control(back).await;
        reader.until(|health| health.ready() && health.problem.is_none()).await;
        write_to_each(&kafka, &producer, &format!("after {away}"), &mut expected).await;
        reader.read_events(expected.len()).await;
    }
    let mut read = reader.payloads();
    read.sort_unstable();
    expected.sort_unstable();
    assert_eq!(read, expected);
}
