//! Several brokers: leaders that change, that are missing, and questions that fail.

mod common;

use std::time::Duration;

use common::{Reader, producer_at, write};
use fanout::{Bounds, Source as _, SourceHealth};
use kafka_source::rdkafka::mocking::MockCluster;
use kafka_source::rdkafka::producer::DefaultProducerContext;
use kafka_source::rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use kafka_source::{KafkaConfig, Start};

/// Three brokers with the topic `t`, whose partitions 0 to 2 are led by 1 to 3.
struct Brokers(MockCluster<'static, DefaultProducerContext>);

impl Brokers {
    fn start() -> Self {
        let cluster = MockCluster::new(3).expect("brokers");
        cluster.create_topic("t", 3, 3).expect("topic");
        // From 12 on it names the leader in its refusal, and crashes where there is none.
        cluster.apiversion(RDKafkaApiKey::Fetch, Some(0), Some(11)).expect("version");
        let brokers = Self(cluster);
        for partition in 0..3 {
            brokers.lead(partition, Some(partition + 1));
        }
        brokers
    }

    fn lead(&self, partition: i32, broker: Option<i32>) {
        self.0.partition_leader("t", partition, broker).expect("leader");
    }

    fn config(&self) -> KafkaConfig {
        KafkaConfig::new(self.0.bootstrap_servers())
            .topic("t")
            .metadata_interval(Duration::from_millis(200))
            .request_timeout(Duration::from_secs(2))
            .property("fetch.wait.max.ms", "2")
            .property("topic.metadata.refresh.interval.ms", "200")
    }

    async fn write_to_each(&self, word: &str) {
        let producer = producer_at(&self.0.bootstrap_servers());
        for partition in 0..3 {
            write(&producer, "t", partition, word).await;
        }
    }
}

fn told(word: &str) -> impl FnMut(&SourceHealth) -> bool {
    move |health| health.problem.as_deref().is_some_and(|problem| problem.contains(word))
}

#[tokio::test]
async fn another_leader_takes_over_and_nothing_is_lost_or_doubled() {
    let brokers = Brokers::start();
    let mut reader = Reader::ready(brokers.config()).await;
    for round in 0..3 {
        brokers.write_to_each(&round.to_string()).await;
        for partition in 0..3 {
            brokers.lead(partition, Some((partition + round) % 3 + 1));
        }
    }
    brokers.write_to_each("3").await;
    reader.read_events(12).await;
    for partition in 0..3 {
        let events = reader.events.iter().filter(|event| event.lane.partition == partition);
        let offsets: Vec<u64> = events.map(|event| event.offset).collect();
        assert_eq!(offsets, [0, 1, 2, 3], "partition {partition}");
    }
    assert!(reader.closed.is_empty() && reader.lost.is_empty());
}

#[tokio::test]
async fn a_partition_without_a_leader_is_told_and_the_others_are_read() {
    let brokers = Brokers::start();
    brokers.write_to_each("old").await;
    brokers.lead(1, None);
    let mut reader = Reader::start(brokers.config().start(Start::Earliest));
    let health = reader.until(told("t/1 has no leader")).await;
    assert!(health.connected && !health.caught_up, "{health:?}");
    reader.read_events(2).await;
    let mut replay = reader.source.replay().expect("replay");
    let led = reader.lane("t", 0);
    let bounds = replay.bounds(std::slice::from_ref(&led)).await.expect("known");
    assert_eq!(bounds, [Some(Bounds { first: 0, end: 1 })]);

    brokers.lead(1, Some(2));
    reader.until(|health| health.ready() && health.problem.is_none()).await;
    reader.read_events(3).await;

    // Later, too, and it is told of what is read already.
    let lane = reader.lane("t", 1);
    brokers.lead(1, None);
    assert!(reader.until(told("t/1 has no leader")).await.caught_up);
    replay.bounds(std::slice::from_ref(&lane)).await.expect_err("nobody can tell");
    brokers.lead(1, Some(3));
    reader.until(|health| health.problem.is_none()).await;
    brokers.write_to_each("new").await;
    reader.read_events(6).await;
    assert!(reader.closed.is_empty() && reader.lost.is_empty());
}

#[tokio::test]
async fn a_broker_that_is_away_keeps_only_its_own_partitions_from_being_opened() {
    let brokers = Brokers::start();
    brokers.write_to_each("old").await;
    brokers.0.broker_down(2).expect("down");
    let mut reader = Reader::start(brokers.config().start(Start::Earliest));
    reader.until(|health| health.problem.is_some()).await;
    reader.read_events(2).await;
    assert_eq!(reader.passed("t", 1), None);
    brokers.0.broker_up(2).expect("up");
    reader.until(|health| health.ready() && health.problem.is_none()).await;
    reader.read_events(3).await;
}

/// It neither answers nor hangs up.
#[tokio::test]
async fn a_broker_that_is_silent_keeps_only_its_own_partitions_from_being_opened() {
    let brokers = Brokers::start();
    brokers.write_to_each("old").await;
    brokers.0.broker_round_trip_time(2, Duration::from_secs(3600)).expect("slow");
    let mut reader = Reader::start(brokers.config().start(Start::Earliest));
    reader.read_events(2).await;
    let health = reader.until(told("t/1: no known place")).await;
    assert!(health.connected && !health.caught_up, "{health:?}");
    assert_eq!((reader.passed("t", 0), reader.passed("t", 2)), (Some(1), Some(1)));
    brokers.0.broker_round_trip_time(2, Duration::ZERO).expect("quick");
    reader.until(|health| health.ready() && health.problem.is_none()).await;
    reader.read_events(3).await;
}

#[tokio::test]
async fn ends_that_are_refused_are_asked_for_again() {
    let brokers = Brokers::start();
    brokers.write_to_each("old").await;
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    brokers.0.request_errors(RDKafkaApiKey::ListOffsets, &[refused; 30]);
    let mut reader = Reader::start(brokers.config().start(Start::Earliest));
    let health = reader.until(told("no known place")).await;
    assert!(health.connected && !health.caught_up, "{health:?}");
    brokers.0.clear_request_errors(RDKafkaApiKey::ListOffsets);
    reader.until(|health| health.ready() && health.problem.is_none()).await;
    reader.read_events(3).await;
}

#[tokio::test]
async fn hundreds_of_partitions_are_opened_and_bounded() {
    let brokers = Brokers::start();
    brokers.0.create_topic("many", 600, 1).expect("topic");
    let mut reader = Reader::ready(brokers.config().topic("many")).await;
    assert_eq!(reader.frontier.len(), 603, "each lane's place is told");
    let mut replay = reader.source.replay().expect("replay");
    let lanes: Vec<_> = reader.frontier.keys().cloned().collect();
    let bounds = replay.bounds(&lanes).await.expect("known");
    assert_eq!(bounds, [Some(Bounds { first: 0, end: 0 }); 603]);
    write(&producer_at(&brokers.0.bootstrap_servers()), "many", 599, "x").await;
    reader.read_events(1).await;
}

#[tokio::test]
async fn errors_that_pass_lose_and_double_nothing() {
    use RDKafkaRespErr as Error;
    let errors = [
        Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Error::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Error::RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE,
        Error::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
        Error::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Error::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
        Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        Error::RD_KAFKA_RESP_ERR_UNKNOWN,
    ];
    let brokers = Brokers::start();
    let mut reader = Reader::ready(brokers.config()).await;
    let mut written = 0;
    for error in errors {
        for request in [RDKafkaApiKey::Fetch, RDKafkaApiKey::Metadata] {
            brokers.0.request_errors(request, &[error; 3]);
            brokers.write_to_each(&written.to_string()).await;
            written += 3;
            reader.read_events(written).await;
            brokers.0.clear_request_errors(request);
        }
    }
    reader.until(|health| health.ready() && health.problem.is_none()).await;
    for partition in 0..3 {
        let of = reader.events.iter().filter(|event| event.lane.partition == partition);
        let offsets: Vec<u64> = of.map(|event| event.offset).collect();
        assert_eq!(offsets, (0..written as u64 / 3).collect::<Vec<_>>(), "partition {partition}");
    }
}
