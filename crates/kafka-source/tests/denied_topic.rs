//! A topic that exists, and that its broker denies for a while.

mod common;

use std::time::Duration;

use common::{DEADLINE, Reader, producer_at, write};
use fanout::SourceHealth;
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
    // Every denial is believed: it is known since the start nonetheless.
    let mut reader = Reader::ready(broker.config().missing_grace(Duration::ZERO)).await;
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
