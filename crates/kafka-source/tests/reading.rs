//! What is read, from where, and what is passed.

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{
    DEADLINE, Reader, again, broker, config, producer, range, texts, write, write_numbers,
};
use fanout::{Lane, Source as _, SourceHealth};
use kafka_source::rdkafka::message::{Header, OwnedHeaders};
use kafka_source::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka_source::{KafkaSource, Start};

#[tokio::test]
async fn latest_reads_all_that_is_written_once_ready_and_nothing_from_before() {
    let broker = broker(1);
    let producer = producer(&broker);
    write_numbers(&producer, 0..50).await;
    let mut reader = Reader::ready(config(&broker)).await;
    write_numbers(&producer, 50..250).await;
    reader.read_events(200).await;
    reader.assert_numbers(50..250);
}

#[tokio::test]
async fn earliest_reads_all_and_is_caught_up_only_then() {
    let broker = broker(1);
    let producer = producer(&broker);
    write_numbers(&producer, 0..3000).await;
    let config = config(&broker).start(Start::Earliest).max_batch(100).max_queued_batches(1);
    let mut reader = Reader::start(config);
    // The queue holds too little: it cannot have caught up before it is read.
    reader.read_events(500).await;
    assert!(!reader.source.status().health().caught_up);
    reader.read_events(3000).await;
    reader.assert_numbers(0..3000);
    reader.until(SourceHealth::ready).await;
}

#[tokio::test]
async fn the_first_batches_name_every_lane() {
    let broker = broker(3);
    let producer = producer(&broker);
    for _ in 0..4 {
        write(&producer, "t", 1, "{}").await;
    }
    let mut reader = Reader::start(config(&broker));
    while reader.frontier.len() < 3 {
        reader.read().await;
    }
    assert!(reader.events.is_empty());
    let passed = [0, 1, 2].map(|partition| reader.passed("t", partition));
    assert_eq!(passed, [Some(0), Some(4), Some(0)]);
    let lane = Arc::new(Lane::new(broker.log_identity(), "t", 1));
    assert!(reader.frontier.contains_key(&lane), "{:?}", reader.frontier);
}

#[tokio::test]
async fn an_event_is_the_whole_record() {
    let broker = broker(1);
    let mut reader = Reader::ready(config(&broker)).await;
    let header = |key, value| Header { key, value };
    let headers = OwnedHeaders::new()
        .insert(header("trace", Some("a")))
        .insert(header("trace", Some("b")))
        .insert(header("none", None));
    let record = FutureRecord::to("t").key("order-7").payload("{\"a\":1}");
    let record = record.timestamp(1_700_000_000_123).headers(headers);
    producer(&broker).send(record, DEADLINE).await.expect("written");

    reader.read_events(1).await;
    let event = &reader.events[0];
    assert_eq!((event.topic(), event.offset), ("t", 0));
    assert_eq!(event.key.as_deref(), Some(&b"order-7"[..]));
    assert_eq!(&event.payload[..], b"{\"a\":1}");
    let headers = event.headers.iter().map(|(name, value)| (name.as_str(), &value[..]));
    let expected = [("trace", &b"a"[..]), ("trace", b"b"), ("none", b"")];
    assert_eq!(headers.collect::<Vec<_>>(), expected);
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    assert_eq!(event.time, time);
}

/// Writes a record without a value.
async fn write_tombstone(producer: &FutureProducer, partition: i32) {
    let tombstone = FutureRecord::<str, str>::to("t").partition(partition).key("k");
    producer.send(tombstone, DEADLINE).await.expect("written");
}

#[tokio::test]
async fn the_frontier_passes_what_has_no_value_and_all_else_comes_as_it_is() {
    let broker = broker(1);
    let producer = producer(&broker);
    let mut reader = Reader::ready(config(&broker)).await;
    let payloads = ["{\"n\":1}", "", "{} {}", "not JSON"];
    for payload in payloads {
        write_tombstone(&producer, 0).await;
        write(&producer, "t", 0, payload).await;
    }
    write_tombstone(&producer, 0).await;

    reader.read_up_to("t", 0, 9).await;
    assert_eq!(reader.payloads(), payloads);
    assert_eq!(reader.events.iter().map(|e| e.offset).collect::<Vec<_>>(), [1, 3, 5, 7]);
}

#[tokio::test]
async fn what_has_no_value_comes_where_it_is_asked_for() {
    let broker = broker(1);
    let producer = producer(&broker);
    let mut reader = Reader::ready(config(&broker).tombstones(true)).await;
    write(&producer, "t", 0, "there").await;
    write_tombstone(&producer, 0).await;
    reader.read_events(2).await;
    assert_eq!(reader.payloads(), ["there", ""]);
    assert_eq!(reader.events[1].key.as_deref(), Some(&b"k"[..]));
    // It is read again like that, too.
    let mut replay = reader.source.replay().expect("replay");
    let all = [range(&reader.lane("t", 0), 0, 2)];
    let (events, _) = again(&mut replay, &all).await.expect("read again");
    assert_eq!(texts(&events), ["there", ""]);
}

#[tokio::test]
async fn nothing_but_tombstones_does_not_hold_the_source() {
    let broker = broker(1);
    let mut reader = Reader::ready(config(&broker).max_batch(16)).await;
    let producer = producer(&broker);
    let mut deliveries = Vec::new();
    for _ in 0..1000 {
        let record = FutureRecord::<str, str>::to("t").partition(0).key("k");
        deliveries.push(producer.send_result(record).map_err(|(e, _)| e).expect("room"));
    }
    for delivery in deliveries {
        delivery.await.expect("producer").expect("written");
    }
    reader.read_up_to("t", 0, 1000).await;
    assert!(reader.events.is_empty());
}

#[tokio::test]
async fn a_halted_lane_stays_where_it_is_and_the_others_go_on() {
    let broker = broker(2);
    let producer = producer(&broker);
    let mut reader = Reader::ready(config(&broker).max_batch(1).max_queued_batches(1)).await;
    write_numbers(&producer, 0..100).await;
    reader.read_events(5).await;
    let lane = reader.lane("t", 0);
    for _ in 0..2 {
        reader.source.halt(&lane, "the record at 4 cannot be used");
    }
    let health = reader.until(|health| health.problem.is_some()).await;
    assert!(health.ready(), "it does not keep the source from being ready");
    assert!(health.problem.expect("told").contains("the record at 4"));
    // What was read already may still have come.
    let halted_at = reader.passed("t", 0).expect("known");
    assert!(halted_at <= 5 + 3, "{halted_at}: it was not halted");
    for number in 0..50 {
        write(&producer, "t", 1, &number.to_string()).await;
    }
    reader.read_up_to("t", 1, 50).await;
    assert_eq!(reader.passed("t", 0), Some(halted_at), "nothing more of it");
    assert!(reader.closed.is_empty() && reader.lost.is_empty());
}

#[tokio::test]
async fn one_that_is_halted_before_it_has_caught_up_holds_nobody_up() {
    let broker = broker(2);
    let producer = producer(&broker);
    write_numbers(&producer, 0..500).await;
    let config = config(&broker).start(Start::Earliest).max_batch(1).max_queued_batches(1);
    let mut reader = Reader::start(config);
    reader.read_events(1).await;
    assert!(!reader.source.status().health().ready());
    let lane = reader.lane("t", 0);
    reader.source.halt(&lane, "the first cannot be used");
    reader.until(|health| health.ready() && health.problem.is_some()).await;
    assert!(reader.events.len() < 100, "it was read on: {}", reader.events.len());
}

#[tokio::test]
async fn partitions_keep_their_own_order() {
    let broker = broker(4);
    let producer = producer(&broker);
    let mut reader = Reader::ready(config(&broker)).await;
    for number in 0..200 {
        write(&producer, "t", number % 4, &number.to_string()).await;
    }
    reader.read_events(200).await;
    for partition in 0..4 {
        let of_lane = reader.events.iter().filter(|event| event.lane.partition == partition);
        let numbers: Vec<u32> = of_lane
            .map(|e| std::str::from_utf8(&e.payload).expect("text").parse().expect("number"))
            .collect();
        assert!(numbers.iter().copied().eq((0..50).map(|n| n * 4 + partition)), "{numbers:?}");
    }
}

#[tokio::test]
async fn a_topic_that_does_not_exist_yet_is_waited_for_and_read_whole() {
    let broker = broker(1);
    let producer = producer(&broker);
    let config = config(&broker).topic("later").missing_grace(Duration::from_millis(500));
    let mut reader = Reader::start(config);
    let health = reader.until(|health| health.ready() && health.problem.is_some()).await;
    assert!(health.problem.expect("told").contains("topic `later` does not exist"));

    // The others are read meanwhile.
    write(&producer, "t", 0, "1").await;
    reader.read_events(1).await;

    broker.create_topic("later", 2).expect("topic");
    for partition in [0, 1, 0] {
        write(&producer, "later", partition, "2").await;
    }
    reader.read_events(4).await;
    assert_eq!((reader.passed("later", 0), reader.passed("later", 1)), (Some(2), Some(1)));
    reader.until(|health| health.problem.is_none()).await;
}

#[tokio::test]
async fn records_deleted_before_they_were_read_are_passed() {
    let broker = broker(1);
    let producer = producer(&broker);
    let config = config(&broker)
        .start(Start::Earliest)
        .max_batch(1)
        .max_queued_batches(1)
        // Nearly nothing is fetched ahead: the broker's 5 MiB run over.
        .property("queued.max.messages.kbytes", "100")
        .property("queued.min.messages", "1")
        .property("fetch.message.max.bytes", "1000");
    let mut reader = Reader::ready(config).await;
    let large = "x".repeat(100_000);
    for _ in 0..200 {
        write(&producer, "t", 0, &large).await;
    }
    reader.read_up_to("t", 0, 200).await;
    let offsets: Vec<u64> = reader.events.iter().map(|event| event.offset).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
    assert!(offsets.len() < 200, "the broker kept everything: nothing was tested");
    assert_eq!(offsets.last(), Some(&199));
    reader.assert_lost_where_missing();
    // It goes on as if nothing had been.
    write(&producer, "t", 0, "next").await;
    reader.read_up_to("t", 0, 201).await;
    assert_eq!(reader.payloads().last(), Some(&"next"));
}

#[tokio::test]
async fn without_an_identity_given_it_is_the_clusters() {
    let broker = broker(1);
    let nodes = [(); 2].map(|()| {
        let config = kafka_source::KafkaConfig::new(broker.bootstrap_servers()).topic("t");
        Reader::start(config)
    });
    let mut logs = Vec::new();
    for mut node in nodes {
        node.read().await;
        logs.extend(node.frontier.keys().map(|lane| lane.log.clone()));
    }
    assert!(logs.len() == 2 && logs[0] == logs[1] && !logs[0].is_empty(), "{logs:?}");
}

#[tokio::test]
async fn dropping_it_ends_its_threads() {
    let broker = broker(1);
    let producer = producer(&broker);
    let config = config(&broker).start(Start::Earliest).max_batch(1).max_queued_batches(1);
    let reader = Reader::ready(config).await;
    // Its reader is stuck with a batch that nobody takes.
    write_numbers(&producer, 0..100).await;
    assert!(reader.source.close(DEADLINE).await);
}

#[tokio::test]
async fn a_source_whose_broker_never_was_ends_as_well() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    let config = kafka_source::KafkaConfig::new(address.expect("port").to_string()).topic("t");
    let source = KafkaSource::start(config).expect("no broker is no error");
    let mut status = source.status();
    assert!(status.wait_for(|health| health.problem.is_some()).await);
    assert!(!status.health().connected);
    assert!(source.close(DEADLINE).await);
}
