//! One slow partition does not stop the rest.

mod common;

use std::time::Duration;

use common::{Reader, producer_at, write};
use fanout::SourceHealth;
use kafka_source::rdkafka::mocking::MockCluster;
use kafka_source::rdkafka::producer::{DefaultProducerContext, FutureProducer};
use kafka_source::rdkafka::types::RDKafkaApiKey;
use kafka_source::{KafkaConfig, Start};

/// The broker that leads partition 1; the other leads partition 0.
const SLOW: i32 = 2;

/// Two brokers, and who writes to both.
fn cluster() -> (MockCluster<'static, DefaultProducerContext>, FutureProducer) {
    let cluster = MockCluster::new(2).expect("brokers");
    cluster.create_topic("t", 2, 1).expect("topic");
    cluster.partition_leader("t", 0, Some(1)).expect("leader");
    cluster.partition_leader("t", 1, Some(SLOW)).expect("leader");
    // From 12 on it names the leader in its refusal, and crashes where there is none.
    cluster.apiversion(RDKafkaApiKey::Fetch, Some(0), Some(11)).expect("version");
    let producer = producer_at(&cluster.bootstrap_servers());
    (cluster, producer)
}

fn config(cluster: &MockCluster<'static, DefaultProducerContext>) -> KafkaConfig {
    KafkaConfig::new(cluster.bootstrap_servers())
        .topic("t")
        .start(Start::Earliest)
        .search_by_time(false)
        .log_identity("log")
        .property("fetch.wait.max.ms", "2")
}

fn of(reader: &Reader, partition: u32) -> usize {
    reader.events.iter().filter(|event| event.lane.partition == partition).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_away_holds_up_its_own_partitions_only() {
    let (cluster, producer) = cluster();
    for partition in [0, 1] {
        write(&producer, "t", partition, "before").await;
    }
    let mut reader = Reader::ready(config(&cluster)).await;
    assert_eq!((of(&reader, 0), of(&reader, 1)), (1, 1));

    cluster.broker_down(SLOW).expect("down");
    for _ in 0..300 {
        write(&producer, "t", 0, "meanwhile").await;
    }
    reader.read_up_to("t", 0, 301).await;
    assert_eq!((of(&reader, 0), reader.passed("t", 1)), (301, Some(1)));

    cluster.broker_up(SLOW).expect("up");
    write(&producer, "t", 1, "after").await;
    reader.read_up_to("t", 1, 2).await;
    assert_eq!((of(&reader, 0), of(&reader, 1)), (301, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_slow_holds_up_its_own_partitions_only() {
    let (cluster, producer) = cluster();
    let mut reader = Reader::start(config(&cluster));
    reader.until(SourceHealth::ready).await;
    // It has written down what it was given, and takes its time to hand it on.
    cluster.broker_round_trip_time(SLOW, Duration::from_secs(8)).expect("slow");
    let (slow, payload) = (producer.clone(), "slow");
    let written = tokio::spawn(async move { write(&slow, "t", 1, payload).await });
    for number in 0..300 {
        write(&producer, "t", 0, &number.to_string()).await;
    }
    reader.read_up_to("t", 0, 300).await;
    // Else it was as quick as the other, and nothing was tested.
    assert_eq!((of(&reader, 0), of(&reader, 1)), (300, 0));
    cluster.broker_round_trip_time(SLOW, Duration::ZERO).expect("quick");
    reader.read_up_to("t", 1, 1).await;
    assert_eq!(written.await.expect("ended"), 0);
}
