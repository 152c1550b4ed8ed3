//! The broker away, at start and later.

mod common;

use std::time::Duration;

use common::{Reader, broker, config, producer, write_numbers};
use fanout::SourceHealth;
use kafka_source::Start;

#[tokio::test]
async fn at_start_it_is_waited_for() {
    let broker = broker(2);
    let producer = producer(&broker);
    write_numbers(&producer, 0..20).await;
    broker.go_down().expect("down");

    let config = config(&broker).start(Start::Earliest).request_timeout(Duration::from_secs(1));
    let mut reader = Reader::start(config);
    let health = reader.until(|health| health.problem.is_some()).await;
    assert!(!health.connected && !health.caught_up, "{health:?}");
    assert!(health.problem.expect("told").contains(broker.bootstrap_servers()));

    broker.come_up().expect("up");
    reader.until(|health| health.ready() && health.problem.is_none()).await;
    write_numbers(&producer, 20..40).await;
    reader.read_events(40).await;
    reader.assert_numbers(0..40);
}

#[tokio::test]
async fn at_start_what_is_written_once_ready_is_read_from_latest_too() {
    let broker = broker(1);
    let producer = producer(&broker);
    write_numbers(&producer, 0..20).await;
    broker.go_down().expect("down");
    let mut reader = Reader::start(config(&broker).request_timeout(Duration::from_secs(1)));
    reader.until(|health| health.problem.is_some()).await;
    broker.come_up().expect("up");
    reader.until(SourceHealth::ready).await;
    write_numbers(&producer, 20..40).await;
    reader.read_events(20).await;
    reader.assert_numbers(20..40);
}

#[tokio::test]
async fn later_and_again_nothing_is_lost_or_doubled() {
    let broker = broker(1);
    let producer = producer(&broker);
    let mut reader = Reader::ready(config(&broker).request_timeout(Duration::from_secs(1))).await;
    for round in 0..3_u64 {
        let first = round * 200;
        write_numbers(&producer, first..first + 100).await;
        broker.go_down().expect("down");
        let health = reader.until(|health| !health.connected).await;
        assert!(health.caught_up && health.problem.is_some(), "{health:?}");

        // Written while it is away: the producer holds it.
        let writing = tokio::spawn({
            let producer = producer.clone();
            async move { write_numbers(&producer, first + 100..first + 200).await }
        });
        broker.come_up().expect("up");
        writing.await.expect("written");
        reader.until(|health| health.ready() && health.problem.is_none()).await;
        reader.read_events(first as usize + 200).await;
    }
    reader.assert_numbers(0..600);
}

#[tokio::test]
async fn an_error_of_the_client_is_enough_to_notice() {
    let broker = broker(1);
    let producer = producer(&broker);
    // By itself it would look again long after the test has failed.
    let mut reader = Reader::ready(config(&broker).metadata_interval(Duration::MAX)).await;
    write_numbers(&producer, 0..10).await;
    reader.read_events(10).await;
    broker.go_down().expect("down");
    let problem = reader.until(|health| !health.connected).await.problem;
    assert!(problem.is_some_and(|problem| problem.contains(broker.bootstrap_servers())));
    broker.come_up().expect("up");
    reader.until(SourceHealth::ready).await;
    write_numbers(&producer, 10..20).await;
    reader.read_events(20).await;
    reader.assert_numbers(0..20);
}
