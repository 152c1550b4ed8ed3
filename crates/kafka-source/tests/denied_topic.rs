//! A topic that exists, and that its broker denies for a while.

mod common;

use std::time::Duration;

use common::{DEADLINE, Reader, again, producer_at, range, texts, write};
use fanout::{Source as _, SourceHealth};
use kafka_source::KafkaConfig;
use kafka_source::rdkafka::mocking::MockCluster;
use kafka_source::rdkafka::producer::DefaultProducerContext;
use kafka_source::rdkafka::types::RDKafkaRespErr;

/// A broker that can be made to deny its topic `t`.
struct Broker(MockCluster<'static, DefaultProducerContext>);

impl Broker {
    fn start() -> Self {
        let cluster = MockCluster::new(1).expect("broker");
        cluster.create_topic("t", 1, 1).expect("topic");
        Self(cluster)
    }

    fn address(&self) -> String {
        self.0.bootstrap_servers()
    }

    fn deny(&self) {
        let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        self.0.topic_error("t", unknown).expect("denied");
    }

    fn admit(&self) {
        let none = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
        self.0.topic_error("t", none).expect("admitted");
    }

    fn config(&self) -> KafkaConfig {
        KafkaConfig::new(self.address())
            .topic("t")
            .metadata_interval(Duration::from_millis(200))
            .property("fetch.wait.max.ms", "2")
            .missing_grace(DEADLINE)
    }
}

fn denied(health: &SourceHealth) -> bool {
    health.problem.as_deref() == Some("topic `t` does not exist")
}

#[tokio::test]
async fn at_start_it_keeps_the_source_from_being_ready_and_its_old_events_from_being_live() {
    let broker = Broker::start();
    let producer = producer_at(&broker.address());
    for _ in 0..3 {
        write(&producer, "t", 0, "old").await;
    }
    broker.deny();
    let mut reader = Reader::start(broker.config());
    let health = reader.until(denied).await;
    assert!(health.connected && !health.caught_up, "{health:?}");

    broker.admit();
    let health = reader.until(SourceHealth::ready).await;
    assert_eq!(health.problem, None, "ready, and tells of what is over");
    write(&producer_at(&broker.address()), "t", 0, "live").await;
    reader.read_events(1).await;
    assert_eq!(reader.payloads(), ["live"]);
}

#[tokio::test]
async fn later_it_is_told_and_nothing_comes_again() {
    let broker = Broker::start();
    let producer = producer_at(&broker.address());
    write(&producer, "t", 0, "old").await;
    let mut reader = Reader::ready(broker.config()).await;
    write(&producer, "t", 0, "1").await;
    reader.read_events(1).await;
    for round in ["2", "3"] {
        broker.deny();
        let health = reader.until(denied).await;
        assert!(health.connected && health.caught_up, "{health:?}");
        broker.admit();
        reader.until(|health| health.problem.is_none()).await;
        write(&producer_at(&broker.address()), "t", 0, round).await;
    }
    reader.read_events(3).await;
    assert_eq!(reader.payloads(), ["1", "2", "3"]);
    assert_eq!(reader.closed, [], "it was denied for a moment");
}

#[tokio::test]
async fn later_and_for_as_long_as_is_waited_for_its_lanes_are_closed() {
    let broker = Broker::start();
    let producer = producer_at(&broker.address());
    write(&producer, "t", 0, "old").await;
    let config = broker.config().missing_grace(Duration::from_millis(300));
    let mut reader = Reader::ready(config).await;
    let mut lanes = vec![reader.lane("t", 0)];
    for (round, word) in ["1", "2"].into_iter().enumerate() {
        broker.deny();
        while reader.closed.len() == round {
            reader.read().await;
        }
        assert_eq!(reader.closed, lanes);
        let health = reader.until(denied).await;
        assert!(health.connected && health.caught_up, "{health:?}");

        // By its id it was never deleted: it goes on, as another lane, and nothing of it
        // comes again.
        broker.admit();
        reader.until(|health| health.problem.is_none()).await;
        write(&producer_at(&broker.address()), "t", 0, word).await;
        reader.read_events(round + 1).await;
        let lane = reader.events[round].lane.clone();
        assert!(!lanes.contains(&lane), "{lane:?} of {lanes:?}");
        lanes.push(lane);
    }
    assert_eq!(reader.payloads(), ["1", "2"]);
}

#[tokio::test]
async fn where_nobody_can_tell_it_is_another_one_that_is_read_whole() {
    let broker = Broker::start();
    let producer = producer_at(&broker.address());
    write(&producer, "t", 0, "old").await;
    let config = broker.config().missing_grace(Duration::from_millis(300)).log_identity("mine");
    let mut reader = Reader::ready(config).await;
    broker.deny();
    while reader.closed.is_empty() {
        reader.read().await;
    }
    broker.admit();
    reader.read_events(1).await;
    assert_eq!(reader.payloads(), ["old"]);
    assert_eq!((&*reader.closed[0].log, &*reader.events[0].lane.log), ("mine", "mine~0"));
    // The one that reads again knows it, too.
    let mut replay = reader.source.replay().expect("replay");
    let lane = reader.events[0].lane.clone();
    let read = again(&mut replay, &[range(&lane, 0, 1)]).await.expect("read again");
    assert_eq!(texts(&read.0), ["old"]);
}

#[tokio::test]
async fn denied_for_as_long_as_is_waited_for_it_is_new_when_it_comes() {
    let broker = Broker::start();
    broker.deny();
    let mut reader = Reader::start(broker.config().missing_grace(Duration::from_millis(700)));
    // Ready without it, which it goes on to tell.
    let health = reader.until(SourceHealth::ready).await;
    assert!(denied(&health), "{health:?}");
    broker.admit();
    write(&producer_at(&broker.address()), "t", 0, "first").await;
    reader.read_events(1).await;
    assert_eq!((reader.payloads(), reader.passed("t", 0)), (vec!["first"], Some(1)));
    reader.until(|health| health.problem.is_none()).await;
}
