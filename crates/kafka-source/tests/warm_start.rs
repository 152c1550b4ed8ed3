//! Beginning a while before now, where the broker cannot search by time.

mod common;

use std::time::Duration;

use common::{Reader, broker, config, producer, write_numbers};
use fanout::{Source as _, SourceHealth};
use kafka_source::Start;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn so_many_records_before_the_end_are_read_and_then_it_has_caught_up() {
    let broker = broker(2);
    let producer = producer(&broker);
    write_numbers(&producer, 0..50).await;
    let start = Start::Recent { age: HOUR, records: 20 };
    let mut reader = Reader::start(config(&broker).start(start).max_batch(3));
    while reader.events.len() < 20 {
        assert!(!reader.source.status().health().caught_up);
        reader.read().await;
    }
    assert!(!reader.source.status().health().caught_up, "nobody has asked for more");
    reader.until(SourceHealth::ready).await;
    reader.assert_numbers(30..50);
    // Its places were told from the start, also where there was nothing.
    assert_eq!((reader.passed("t", 0), reader.passed("t", 1)), (Some(50), Some(0)));
    write_numbers(&producer, 50..60).await;
    reader.read_events(30).await;
    reader.assert_numbers(30..60);
}

#[tokio::test]
async fn where_there_are_fewer_all_are_read() {
    let broker = broker(1);
    let producer = producer(&broker);
    write_numbers(&producer, 0..50).await;
    let start = Start::Recent { age: HOUR, records: u64::MAX };
    let mut reader = Reader::ready(config(&broker).start(start)).await;
    reader.read_events(50).await;
    reader.assert_numbers(0..50);
}
