//! What only a real broker can show of reading: compacted logs, and transactions.
//!
//! ```text
//! FANOUT_TEST_KAFKA=host:port cargo test -p kafka-source --test real_reading -- --ignored
//! ```

mod common;

use std::time::{Duration, Instant};

use common::{DEADLINE, Reader, again, producer_at, range};
use fanout::{Source as _, SourceHealth};
use kafka_source::rdkafka::ClientConfig;
use kafka_source::rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use kafka_source::rdkafka::client::DefaultClientContext;
use kafka_source::rdkafka::consumer::{BaseConsumer, Consumer as _};
use kafka_source::rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use kafka_source::{KafkaConfig, Start};

/// How long the broker may take to compact: it looks every 15 s.
const COMPACTED: Duration = Duration::from_secs(120);

/// From before anything here was written.
const RECENT: Start = Start::Recent { age: Duration::from_secs(3600), records: 1_000_000 };

/// A broker, and a topic of one partition that no other test uses.
struct Kafka {
    brokers: String,
    topic: String,
}

impl Kafka {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let brokers = std::env::var("FANOUT_TEST_KAFKA").expect("FANOUT_TEST_KAFKA names a broker");
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("client");
        let topic = format!("kafka-source-{:016x}", getrandom::u64().expect("random"));
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
        let made = admin.create_topics(&[new], &AdminOptions::new()).await;
        made.expect("asked").remove(0).expect("created");
        Self { brokers, topic }
    }

    fn config(&self) -> KafkaConfig {
        let config = KafkaConfig::new(&self.brokers).topic(&self.topic);
        config.metadata_interval(Duration::from_millis(200))
    }

    /// The end that the broker tells, holes included.
    fn end(&self) -> u64 {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).create().expect("client");
        let ends = consumer.fetch_watermarks(&self.topic, 0, DEADLINE).expect("ends");
        ends.1.try_into().expect("an offset")
    }

    async fn write(&self, producer: &FutureProducer, key: &str, payload: Option<&str>) {
        let mut record = FutureRecord::to(&self.topic).partition(0).key(key);
        record.payload = payload;
        producer.send(record, DEADLINE).await.expect("written");
    }

    /// A producer in a transaction.
    fn transaction(&self) -> FutureProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("transactional.id", &self.topic);
        let producer: FutureProducer = config.create().expect("producer");
        producer.init_transactions(DEADLINE).expect("a producer of transactions");
        producer.begin_transaction().expect("begun");
        producer
    }

    /// Reads it all until it has caught up.
    async fn read(&self, start: Start) -> Reader {
        let mut reader = Reader::start(self.config().start(start));
        reader.until(SourceHealth::ready).await;
        let passed = reader.passed(&self.topic, 0);
        assert_eq!(passed, Some(self.end()), "it has caught up, and has not passed its end");
        reader
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA, and waits until it has compacted"]
async fn a_compacted_log_is_read_to_its_end() {
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "50"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("delete.retention.ms", "0"),
    ];
    let kafka = Kafka::new(&settings).await;
    let producer = producer_at(&kafka.brokers);
    // Values, and then none: all of it vanishes.
    for round in 0..4 {
        for key in 0..10 {
            let payload = (round < 3).then_some("value");
            kafka.write(&producer, &key.to_string(), payload).await;
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    // The newest segment is not compacted: it holds a record without a value.
    kafka.write(&producer, "end", None).await;

    let end = kafka.end();
    assert_eq!(end, 41);
    let begun = Instant::now();
    let offsets = loop {
        let reader = kafka.read(Start::Earliest).await;
        let offsets: Vec<u64> = reader.events.iter().map(|event| event.offset).collect();
        if offsets.is_empty() {
            break offsets;
        }
        assert!(begun.elapsed() < COMPACTED, "not compacted: {offsets:?} are left");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    assert!(offsets.is_empty());
    let mut reader = kafka.read(RECENT).await;
    assert!(reader.events.is_empty());

    // What is read again of it holds nothing, and is passed.
    let mut replay = reader.source.replay().expect("replay");
    let lane = reader.lane(&kafka.topic, 0);
    for (from, to) in [(0, end), (3, 17), (end - 1, end)] {
        let (events, reached) =
            again(&mut replay, &[range(&lane, from, to)]).await.expect("read again");
        assert_eq!((events.len(), reached[&lane]), (0, to));
    }
    // It goes on, and nothing is said to be lost.
    kafka.write(&producer, "next", Some("value")).await;
    reader.read_up_to(&kafka.topic, 0, end + 1).await;
    assert_eq!((reader.events.len(), reader.lost.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_log_of_nothing_but_an_aborted_transaction_is_read_to_its_end() {
    let kafka = Kafka::new(&[]).await;
    let producer = kafka.transaction();
    for number in 0..300 {
        kafka.write(&producer, "k", Some(&number.to_string())).await;
    }
    producer.abort_transaction(DEADLINE).expect("aborted");
    for start in [Start::Earliest, RECENT, Start::Latest] {
        let reader = kafka.read(start).await;
        assert!(reader.events.is_empty());
        assert_eq!(reader.passed(&kafka.topic, 0), Some(301), "its mark as well");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_transaction_that_is_open_is_neither_read_nor_waited_for_nor_passed() {
    let kafka = Kafka::new(&[]).await;
    let plain = producer_at(&kafka.brokers);
    kafka.write(&plain, "k", Some("before")).await;
    let producer = kafka.transaction();
    kafka.write(&producer, "k", Some("in it")).await;
    kafka.write(&plain, "k", Some("beside it")).await;

    let mut reader = Reader::start(kafka.config().start(Start::Earliest));
    reader.until(SourceHealth::ready).await;
    assert_eq!((reader.payloads(), reader.passed(&kafka.topic, 0)), (vec!["before"], Some(1)));
    producer.commit_transaction(DEADLINE).expect("committed");
    reader.read_up_to(&kafka.topic, 0, 4).await;
    assert_eq!(reader.payloads(), ["before", "in it", "beside it"]);
    assert_eq!(reader.events.iter().map(|e| e.offset).collect::<Vec<_>>(), [0, 1, 2]);
}
