//! Topics that are named by a pattern, and how many partitions are read.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{DEADLINE, Reader, producer, write};
use fanout::{Source as _, SourceHealth};
use kafka_source::rdkafka::mocking::MockCluster;
use kafka_source::rdkafka::types::RDKafkaRespErr;
use kafka_source::{EmbeddedBroker, KafkaConfig, Offsets, Start};

/// A broker with these topics of one partition each.
fn broker(topics: &[&str]) -> EmbeddedBroker {
    let broker = EmbeddedBroker::start().expect("broker");
    for topic in topics {
        broker.create_topic(topic, 1).expect("topic");
    }
    broker
}

fn config(broker: &EmbeddedBroker) -> KafkaConfig {
    // Longer than any test: what is ready before did not wait for it to be over.
    broker.config().metadata_interval(Duration::from_millis(200)).missing_grace(2 * DEADLINE)
}

/// What was read, by topic.
fn read(reader: &Reader) -> BTreeMap<&str, Vec<&str>> {
    let mut read = BTreeMap::<_, Vec<_>>::new();
    for (event, payload) in reader.events.iter().zip(reader.payloads()) {
        read.entry(&*event.lane.topic).or_default().push(payload);
    }
    read
}

#[tokio::test]
async fn what_matches_is_read_as_configured_and_what_appears_later_whole() {
    let broker = broker(&["named", "orders.a", "orders.b", "other", "old.orders.c", "__orders"]);
    let producer = producer(&broker);
    for topic in ["named", "orders.a", "other", "__orders"] {
        write(&producer, topic, 0, "old").await;
    }
    let config = config(&broker).topic("named").topic_pattern("^orders\\..*");
    let mut reader = Reader::ready(config.topic_pattern(".*orders")).await;
    for topic in ["named", "orders.a", "orders.b", "other", "old.orders.c", "__orders"] {
        write(&producer, topic, 0, "live").await;
    }
    broker.create_topic("orders.new", 1).expect("topic");
    for word in ["first", "second"] {
        write(&producer, "orders.new", 0, word).await;
    }
    reader.read_events(5).await;
    let live = |topic| (topic, vec!["live"]);
    let expected = [live("named"), live("orders.a"), live("orders.b")];
    let expected = expected.into_iter().chain([("orders.new", vec!["first", "second"])]);
    assert_eq!(read(&reader), expected.collect());
}

#[tokio::test]
async fn a_pattern_that_matches_nothing_is_no_obstacle_once_that_is_sure() {
    let broker = broker(&["other"]);
    let config = config(&broker).topic_pattern("orders.*");
    let config = config.missing_grace(Duration::from_millis(500));
    let mut reader = Reader::ready(config).await;
    assert_eq!(reader.source.status().health().problem, None);
    broker.create_topic("orders", 1).expect("topic");
    write(&producer(&broker), "orders", 0, "first").await;
    reader.read_events(1).await;
    assert_eq!(reader.payloads(), ["first"]);
}

#[tokio::test]
async fn more_partitions_than_may_be_read_are_told_and_hold_nobody_up() {
    let broker = broker(&["a", "b", "c"]);
    broker.create_topic("z", 3).expect("topic");
    let config = config(&broker).topic("z").topic_pattern("[a-c]").max_partitions(4);
    let mut reader = Reader::start(config);
    let health = reader.until(|health| health.ready() && health.problem.is_some()).await;
    let problem = health.problem.expect("told");
    for word in ["`max_partitions` (4)", "2 partitions", "b/0"] {
        assert!(problem.contains(word), "{problem}");
    }
    let producer = producer(&broker);
    for (topic, partition) in [("b", 0), ("c", 0), ("z", 0), ("z", 2), ("a", 0)] {
        write(&producer, topic, partition, "live").await;
    }
    reader.read_events(3).await;
    let (a, z) = (("a", vec!["live"]), ("z", vec!["live", "live"]));
    assert_eq!(read(&reader), BTreeMap::from([a, z]));
}

#[tokio::test]
async fn a_named_topic_too_has_to_stay_within_the_limit() {
    let broker = broker(&[]);
    broker.create_topic("t", 3).expect("topic");
    let mut reader = Reader::start(config(&broker).topic("t").max_partitions(2));
    let health = reader.until(|health| health.ready() && health.problem.is_some()).await;
    assert!(health.problem.expect("told").contains("such as t/2"));
    assert_eq!(reader.passed("t", 2), None);
}

#[tokio::test]
async fn reading_begins_at_given_offsets() {
    let broker = broker(&["u"]);
    broker.create_topic("t", 2).expect("topic");
    let producer = producer(&broker);
    for word in ["0", "1", "2", "3"] {
        write(&producer, "t", 0, word).await;
        write(&producer, "t", 1, word).await;
        write(&producer, "u", 0, word).await;
    }
    let offsets = Offsets::otherwise(Start::Earliest).at("t", 0, 3).at("t", 1, 4);
    let config = config(&broker).topics(["t", "u"]).start(Start::Offsets(offsets));
    let mut reader = Reader::ready(config).await;
    reader.read_events(5).await;
    let expected = [("t", vec!["3"]), ("u", vec!["0", "1", "2", "3"])];
    assert_eq!(read(&reader), expected.into());
    assert_eq!((reader.passed("t", 0), reader.passed("t", 1)), (Some(4), Some(4)));
    assert!(reader.lost.is_empty());
}

#[tokio::test]
async fn an_offset_beyond_the_end_is_told_until_it_is_there() {
    let broker = broker(&["t"]);
    let producer = producer(&broker);
    write(&producer, "t", 0, "0").await;
    let offsets = Offsets::otherwise(Start::Latest).at("t", 0, 3);
    let config = config(&broker).topic("t").start(Start::Offsets(offsets));
    let mut reader = Reader::start(config);
    let health = reader.until(|health| health.problem.is_some()).await;
    assert_eq!(health.problem.as_deref(), Some("t/0 is to be read from 3, and ends at 1"));
    assert!(health.connected && !health.caught_up, "{health:?}");
    for word in ["1", "2", "3", "4"] {
        write(&producer, "t", 0, word).await;
    }
    reader.until(|health| health.ready() && health.problem.is_none()).await;
    reader.read_events(2).await;
    assert_eq!(reader.payloads(), ["3", "4"]);
}

/// The broker keeps 5 MiB: of what is larger, the oldest is deleted.
#[tokio::test]
async fn an_offset_that_was_deleted_is_told_as_lost() {
    let broker = broker(&["t"]);
    let producer = producer(&broker);
    let large = "x".repeat(900_000);
    for _ in 0..10 {
        write(&producer, "t", 0, &large).await;
    }
    let offsets = Offsets::otherwise(Start::Latest).at("t", 0, 1);
    let mut reader = Reader::start(config(&broker).topic("t").start(Start::Offsets(offsets)));
    reader.until(SourceHealth::ready).await;
    reader.read_up_to("t", 0, 10).await;
    assert_eq!(reader.lost, [0], "before its first event");
    let offsets: Vec<u64> = reader.events.iter().map(|event| event.offset).collect();
    assert!(offsets[0] > 1 && offsets.iter().copied().eq(offsets[0]..10), "{offsets:?}");
}

/// One topic that one may not read, among others, named and matched.
#[tokio::test]
async fn a_topic_that_is_refused_is_told_and_the_others_go_on() {
    let cluster = MockCluster::new(1).expect("broker");
    for topic in ["a", "b", "c"] {
        cluster.create_topic(topic, 1, 1).expect("topic");
    }
    let brokers = cluster.bootstrap_servers();
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    let config = KafkaConfig::new(&brokers)
        .topic("a")
        .topic_pattern("[bc]")
        .metadata_interval(Duration::from_millis(200))
        .property("fetch.wait.max.ms", "2");
    let mut reader = Reader::ready(config).await;
    let producer = common::producer_at(&brokers);
    for (nth, topic) in ["a", "b"].into_iter().enumerate() {
        cluster.topic_error(topic, refused).expect("refused");
        let problem = reader.until(|health| health.problem.is_some()).await.problem;
        let problem = problem.expect("told");
        assert!(problem.contains(&format!("topic `{topic}` cannot be read")), "{problem}");
        write(&producer, "c", 0, topic).await;
        reader.read_events(nth + 1).await;
        cluster.topic_error(topic, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).expect("allowed");
        reader.until(|health| health.problem.is_none()).await;
    }
    assert_eq!((reader.payloads(), reader.closed.len()), (vec!["a", "b"], 0));
}
