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

use common::{DEADLINE, Reader, Writer, again, producer_at, range, write};
use fanout::testing::{Record, SourceHarness, SourceWriter as _, source_contract};
use fanout::{Bounds, ReplayError, Source as _, SourceHealth};
use kafka_source::rdkafka::admin::TopicReplication;
use kafka_source::rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic};
use kafka_source::rdkafka::client::DefaultClientContext;
use kafka_source::rdkafka::consumer::{BaseConsumer, Consumer as _};
use kafka_source::rdkafka::producer::DefaultProducerContext;
use kafka_source::rdkafka::producer::{
    BaseRecord, FutureProducer, FutureRecord, Producer as _, ThreadedProducer,
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

    /// Deletes what stands before this offset of the only partition.
    async fn delete_before(&self, offset: i64) {
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(&self.topic, 0, Offset::Offset(offset)).expect("place");
        self.admin.delete_records(&before, &AdminOptions::new()).await.expect("deleted");
    }

    fn config(&self) -> KafkaConfig {
        let config = KafkaConfig::new(&self.brokers).topic(&self.topic);
        config.metadata_interval(Duration::from_millis(200))
    }

    /// Goes on with a topic of three partitions that nobody has written to.
    async fn another_topic(&mut self) -> Writer {
        self.topic = format!("kafka-source-{:016x}", getrandom::u64().expect("random"));
        self.create(&self.topic, 3).await;
        let producer = producer_at(&self.brokers);
        Writer { producer, topic: self.topic.clone(), broker: None }
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
        let writer = self.another_topic().await;
        let source = KafkaSource::start(self.config()).expect("source");
        (source, writer)
    }

    async fn open_holding(&mut self, records: Vec<Record>) -> Option<(KafkaSource, Writer)> {
        let mut writer = self.another_topic().await;
        writer.write(records).await;
        let config = self.config().start(Start::Earliest);
        Some((KafkaSource::start(config).expect("source"), writer))
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

/// Writes three records to the first partition, each in a transaction; the second one is
/// aborted.
async fn write_transactions(kafka: &Kafka) {
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
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn marks_and_aborted_transactions_are_passed() {
    let kafka = kafka(1).await;
    write_transactions(&kafka).await;

    // Three records and three marks; the last offset is a mark.
    let mut reader = Reader::start(kafka.config().start(Start::Earliest));
    reader.read_up_to(&kafka.topic, 0, kafka.end(0)).await;
    assert_eq!(reader.payloads(), ["kept", "kept"]);
    assert_eq!(reader.passed(&kafka.topic, 0), Some(6));
    reader.until(SourceHealth::ready).await;

    // Also by a pass, whatever its ends are: records, marks, what was aborted.
    let mut replay = reader.source.replay().expect("replay");
    let lane = reader.lane(&kafka.topic, 0);
    for from in 0..6 {
        for to in from + 1..=6 {
            let (events, reached) =
                again(&mut replay, &[range(&lane, from, to)]).await.expect("read again");
            let kept: Vec<u64> = [0, 4].into_iter().filter(|n| (from..to).contains(n)).collect();
            let offsets: Vec<u64> = events.iter().map(|event| event.offset).collect();
            assert_eq!((offsets, reached[&lane]), (kept, to), "{from} to {to}");
        }
    }
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn the_end_of_one_topic_ends_no_other_of_a_pass() {
    let kafka = kafka(1).await;
    write_transactions(&kafka).await;
    let other = format!("{}-other", kafka.topic);
    kafka.create(&other, 1).await;
    let producer = producer_at(&kafka.brokers);
    for _ in 0..50 {
        write(&producer, &other, 0, "other").await;
    }
    let reader = Reader::ready(kafka.config().topic(&other)).await;
    let mut replay = reader.source.replay().expect("replay");
    let (marks, records) = (reader.lane(&kafka.topic, 0), reader.lane(&other, 0));
    for from in 0..30 {
        // The first is at its end by a mark, which only the partition's end tells of.
        let ranges = [range(&marks, from % 6, 6), range(&records, from, 50)];
        let (events, reached) = again(&mut replay, &ranges).await.expect("read again");
        let offsets = events.iter().filter(|event| event.lane == records).map(|e| e.offset);
        assert!(offsets.eq(from..50), "from {from}");
        assert_eq!((reached[&marks], reached[&records]), (6, 50));
    }
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
    let mut reader = Reader::ready(frugal(kafka.config())).await;
    let large = "x".repeat(100_000);
    for _ in 0..30 {
        write(&producer, &kafka.topic, 0, &large).await;
    }
    kafka.delete_before(25).await;
    reader.read_up_to(&kafka.topic, 0, 30).await;
    let offsets: Vec<u64> = reader.events.iter().map(|event| event.offset).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b) && offsets.ends_with(&[25, 26, 27, 28, 29]));
    assert!(offsets.len() < 30, "nothing was deleted in time");
    assert_eq!(reader.lost.len(), 1);
    reader.assert_lost_where_missing();
}

/// Nothing much is fetched ahead while nobody takes the first.
fn frugal(config: KafkaConfig) -> KafkaConfig {
    config
        .max_batch(1)
        .max_queued_batches(1)
        .property("queued.min.messages", "1")
        .property("fetch.message.max.bytes", "1000")
        .property("queued.max.messages.kbytes", "100")
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn what_was_deleted_is_not_read_again_in_silence() {
    let kafka = kafka(1).await;
    let producer = producer_at(&kafka.brokers);
    let reader = Reader::ready(frugal(kafka.config())).await;
    let lane = reader.lane(&kafka.topic, 0);
    let mut replay = reader.source.replay().expect("replay");
    let large = "x".repeat(100_000);
    for _ in 0..30 {
        write(&producer, &kafka.topic, 0, &large).await;
    }
    // During a pass that waits to be taken.
    replay.begin(vec![range(&lane, 0, 30)]).await.expect("begun");
    kafka.delete_before(25).await;
    let mut read = 0;
    let ended = loop {
        match tokio::time::timeout(DEADLINE, replay.next()).await.expect("goes on") {
            Ok(Some(batch)) => read += batch.events.len(),
            ended => break ended,
        }
    };
    let expired = matches!(&ended, Err(ReplayError::Expired { lane: gone }) if *gone == lane);
    assert!(expired && read < 25, "{ended:?} after {read}");

    // Before it.
    let refused = again(&mut replay, &[range(&lane, 24, 30)]).await.unwrap_err();
    assert!(matches!(refused, ReplayError::Expired { lane: gone } if gone == lane));
    let told = replay.bounds(std::slice::from_ref(&lane)).await.expect("bounds");
    assert_eq!(told, [Some(Bounds { first: 25, end: 30 })]);
    let (events, _) = again(&mut replay, &[range(&lane, 25, 30)]).await.expect("read again");
    assert!(events.iter().map(|event| event.offset).eq(25..30));
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_warm_start_begins_by_time_and_within_its_bound() {
    const MINUTE: Duration = Duration::from_secs(60);
    let kafka = kafka(2).await;
    let producer = producer_at(&kafka.brokers);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    for (ago, word) in [(60, "old"), (30, "old"), (5, "young 1"), (4, "young 2"), (0, "new")] {
        let time = now.saturating_sub(ago * MINUTE);
        let time = i64::try_from(time.as_millis()).expect("a time");
        let record = FutureRecord::to(&kafka.topic).partition(0).key("k").payload(word);
        producer.send(record.timestamp(time), DEADLINE).await.expect("written");
    }
    let start = async |age: Duration, records: u64| {
        let config = kafka.config().start(Start::Recent { age, records });
        let mut reader = Reader::ready(config).await;
        // The empty one has its place as well.
        assert_eq!(reader.passed(&kafka.topic, 1), Some(0));
        reader.read_up_to(&kafka.topic, 0, 5).await;
        reader.payloads().join(", ")
    };
    assert_eq!(start(10 * MINUTE, 1000).await, "young 1, young 2, new");
    assert_eq!(start(10 * MINUTE, 2).await, "young 2, new");
    assert_eq!(start(240 * MINUTE, 1000).await, "old, old, young 1, young 2, new");
    assert_eq!(start(Duration::MAX, u64::MAX).await, "old, old, young 1, young 2, new");
    // Nothing is younger: from the end.
    kafka.delete_before(5).await;
    assert_eq!(start(10 * MINUTE, 1000).await, "");
    write(&producer, &kafka.topic, 0, "newer").await;
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
    let mut reader = Reader::ready(config).await;
    let mut replay = reader.source.replay().expect("replay");
    let lane = reader.lane(&kafka.topic, 0);
    let mut expected = Vec::new();
    for (away, back) in [("kill", "start"), ("stop", "start"), ("pause", "resume")] {
        write_to_each(&kafka, &producer, &format!("before {away}"), &mut expected).await;
        control(away).await;
        let health = reader.until(|health| !health.connected).await;
        assert!(health.caught_up && health.problem.is_some(), "{health:?}");
        control(back).await;
        reader.until(|health| health.ready() && health.problem.is_none()).await;
        write_to_each(&kafka, &producer, &format!("after {away}"), &mut expected).await;
        reader.read_events(expected.len()).await;
        // The one who reads again finds the broker too, though it asked nobody meanwhile.
        let end = reader.passed(&kafka.topic, 0).expect("a place");
        let (events, _) = loop {
            match again(&mut replay, &[range(&lane, 0, end)]).await {
                Ok(read) => break read,
                Err(error) => assert!(matches!(error, ReplayError::Unavailable(_)), "{error}"),
            }
        };
        assert_eq!(events.len() as u64, end);
    }
    let mut read = reader.payloads();
    read.sort_unstable();
    expected.sort_unstable();
    assert_eq!(read, expected);
}
