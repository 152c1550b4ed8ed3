//! Reading again: what is gone, what is no record, trouble, and its end.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::write_numbers;
use common::{DEADLINE, Reader, again, broker, config, producer, range, texts, write};
use fanout::{Bounds, Lane, Replay, ReplayError, Source as _};
use kafka_source::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka_source::{EmbeddedBroker, KafkaConfig, KafkaSource, Start};
use tokio::time::timeout;

/// Small enough that what is fetched ahead is little.
fn frugal(config: KafkaConfig) -> KafkaConfig {
    config
        .max_batch(1)
        .max_queued_batches(1)
        .property("queued.max.messages.kbytes", "100")
        .property("queued.min.messages", "1")
        .property("fetch.message.max.bytes", "1000")
}

/// A source of a broker with this topic `t`, and what reads it again.
async fn replay(broker: &EmbeddedBroker) -> (Reader, Box<dyn Replay>) {
    let reader = Reader::ready(config(broker).request_timeout(Duration::from_secs(1))).await;
    let replay = reader.source.replay().expect("replay");
    (reader, replay)
}

/// More than the broker keeps of a partition.
async fn overrun(producer: &FutureProducer) {
    let large = "x".repeat(100_000);
    for _ in 0..80 {
        write(producer, "t", 0, &large).await;
    }
}

async fn bounds(replay: &mut Box<dyn Replay>, lane: &Arc<Lane>) -> Option<Bounds> {
    let lanes = std::slice::from_ref(lane);
    let told = timeout(DEADLINE, replay.bounds(lanes)).await.expect("in time");
    told.expect("known").remove(0)
}

#[tokio::test]
async fn a_lane_that_is_no_more_has_no_bounds() {
    let broker = broker(2);
    let producer = producer(&broker);
    let (reader, mut replay) = replay(&broker).await;
    write(&producer, "t", 1, "1").await;
    let log = broker.log_identity();
    assert_eq!(bounds(&mut replay, &reader.lane("t", 1)).await, Some(Bounds { first: 0, end: 1 }));
    assert_eq!(bounds(&mut replay, &reader.lane("t", 0)).await, Some(Bounds { first: 0, end: 0 }));
    broker.create_topic("unread", 1).expect("topic");
    let names = [("t", 2), ("t", u32::MAX), ("none", 0), ("no topic", 0), ("unread", 0)];
    let gone = names.map(|(topic, partition)| Lane::new(log, topic, partition));
    for gone in gone.into_iter().chain([Lane::new("older", "t", 0)]) {
        let gone = Arc::new(gone);
        assert_eq!(bounds(&mut replay, &gone).await, None, "{gone:?}");
        let refused = again(&mut replay, &[range(&gone, 0, 1)]).await.unwrap_err();
        assert!(matches!(refused, ReplayError::Expired { lane } if lane == gone));
    }
}

#[tokio::test]
async fn what_was_deleted_has_expired_and_the_rest_can_be_read() {
    let broker = broker(1);
    let producer = producer(&broker);
    let (reader, mut replay) = replay(&broker).await;
    let lane = reader.lane("t", 0);
    overrun(&producer).await;
    let Bounds { first, end } = bounds(&mut replay, &lane).await.expect("there");
    assert!(first > 0 && end == 80, "the broker kept everything: nothing was tested");
    let refused = again(&mut replay, &[range(&lane, first - 1, end)]).await.unwrap_err();
    assert!(matches!(refused, ReplayError::Expired { lane: gone } if gone == lane));
    let (events, reached) = again(&mut replay, &[range(&lane, first, end)]).await.expect("read");
    assert!(events.iter().map(|event| event.offset).eq(first..end));
    assert_eq!(reached[&lane], end);
}

#[tokio::test]
async fn what_is_deleted_during_a_pass_ends_it_with_a_word() {
    let broker = broker(1);
    let producer = producer(&broker);
    // Nobody reads the source: only its places are told.
    let reader = Reader::ready(frugal(config(&broker))).await;
    let lane = reader.lane("t", 0);
    let mut replay = reader.source.replay().expect("replay");
    let large = "x".repeat(100_000);
    for _ in 0..30 {
        write(&producer, "t", 0, &large).await;
    }
    replay.begin(vec![range(&lane, 0, 30)]).await.expect("begun");
    overrun(&producer).await;
    let mut read = Vec::new();
    let ended = loop {
        match timeout(DEADLINE, replay.next()).await.expect("goes on") {
            Ok(Some(batch)) => read.extend(batch.events.iter().map(|event| event.offset)),
            ended => break ended,
        }
    };
    let expired = matches!(&ended, Err(ReplayError::Expired { lane: gone }) if *gone == lane);
    assert!(expired, "{ended:?} after {read:?}");
    assert!(read.iter().copied().eq(0..read.len() as u64), "a hole before it: {read:?}");
    assert!(matches!(replay.next().await, Ok(None)), "the pass is over");
}

#[tokio::test]
async fn what_has_no_value_is_passed() {
    let broker = broker(1);
    let producer = producer(&broker);
    for payload in [None, Some("1"), None, Some(""), None] {
        let mut record = FutureRecord::to("t").partition(0).key("k");
        record.payload = payload;
        producer.send(record, DEADLINE).await.expect("written");
    }
    let reader = Reader::ready(config(&broker)).await;
    let mut replay = reader.source.replay().expect("replay");
    let lane = reader.lane("t", 0);
    let (events, reached) = again(&mut replay, &[range(&lane, 0, 5)]).await.expect("read");
    assert_eq!((texts(&events), reached[&lane]), (vec!["1", ""], 5));
    let (events, reached) = again(&mut replay, &[range(&lane, 2, 3)]).await.expect("read");
    assert_eq!((events.len(), reached[&lane]), (0, 3), "nothing but what is passed");
}

#[tokio::test]
async fn partitions_of_one_number_are_told_apart() {
    let broker = broker(2);
    let producer = producer(&broker);
    for topic in ["u", "v"] {
        broker.create_topic(topic, 2).expect("topic");
    }
    let reader = Reader::ready(config(&broker).topics(["u", "v"])).await;
    for number in 0..300 {
        for topic in ["t", "u", "v"] {
            write(&producer, topic, number % 2, &format!("{topic} {number}")).await;
        }
    }
    let mut replay = reader.source.replay().expect("replay");
    let lanes = [("t", 0), ("u", 0), ("v", 0), ("u", 1), ("t", 1)];
    let lanes = lanes.map(|(topic, partition)| reader.lane(topic, partition));
    let mut ranges = lanes.each_ref().map(|lane| range(lane, 10, 150));
    // One of them holds nothing.
    ranges[1].to = 10;
    for _ in 0..20 {
        let (events, reached) = again(&mut replay, &ranges).await.expect("read");
        assert_eq!(events.len(), 4 * 140);
        for wanted in &ranges {
            let of_lane = events.iter().filter(|event| event.lane == wanted.lane);
            let of_lane: Vec<_> = of_lane.collect();
            assert!(of_lane.iter().map(|event| event.offset).eq(wanted.from..wanted.to));
            let topic = &*wanted.lane.topic;
            assert!(of_lane.iter().all(|event| event.payload.starts_with(topic.as_bytes())));
            assert_eq!(reached[&wanted.lane], wanted.to);
        }
    }
    assert!(again(&mut replay, &[]).await.expect("read").0.is_empty());
}

#[tokio::test]
async fn a_broker_that_is_away_is_said_to_be_and_asked_again() {
    let broker = broker(1);
    let producer = producer(&broker);
    let (reader, mut replay) = replay(&broker).await;
    let lane = reader.lane("t", 0);
    write_numbers(&producer, 0..100).await;
    let ranges = [range(&lane, 0, 100)];
    for _ in 0..2 {
        broker.go_down().expect("down");
        let told =
            timeout(DEADLINE, replay.bounds(std::slice::from_ref(&lane))).await.expect("in time");
        assert!(matches!(told, Err(ReplayError::Unavailable(_))), "{told:?}");
        let told = again(&mut replay, &ranges).await;
        assert!(matches!(told, Err(ReplayError::Unavailable(_))), "{told:?}");
        broker.come_up().expect("up");
        let (events, _) = loop {
            match again(&mut replay, &ranges).await {
                Ok(read) => break read,
                Err(error) => assert!(matches!(error, ReplayError::Unavailable(_)), "{error}"),
            }
        };
        assert!(events.iter().map(|event| event.offset).eq(0..100));
    }
}

#[tokio::test]
async fn a_broker_that_goes_during_a_pass_ends_it_with_a_word() {
    let broker = broker(1);
    let producer = producer(&broker);
    let config = frugal(config(&broker)).request_timeout(Duration::from_secs(1));
    let reader = Reader::ready(config).await;
    let lane = reader.lane("t", 0);
    let large = "x".repeat(100_000);
    for _ in 0..30 {
        write(&producer, "t", 0, &large).await;
    }
    let mut replay = reader.source.replay().expect("replay");
    replay.begin(vec![range(&lane, 0, 30)]).await.expect("begun");
    broker.go_down().expect("down");
    let mut read = 0;
    let ended = loop {
        match timeout(DEADLINE, replay.next()).await.expect("goes on") {
            Ok(Some(batch)) => read += batch.events.len(),
            ended => break ended,
        }
    };
    assert!(matches!(ended, Err(ReplayError::Unavailable(_))), "{ended:?} after {read}");
}

#[tokio::test]
async fn bounds_are_told_during_a_pass_which_goes_on() {
    let broker = broker(1);
    let producer = producer(&broker);
    write_numbers(&producer, 0..500).await;
    let config = config(&broker).max_batch(1).max_queued_batches(2);
    let reader = Reader::ready(config).await;
    let lane = reader.lane("t", 0);
    let mut replay = reader.source.replay().expect("replay");
    replay.begin(vec![range(&lane, 0, 500)]).await.expect("begun");
    for offset in 0..500 {
        // Nobody takes the batches meanwhile.
        if offset % 100 == 0 {
            assert_eq!(bounds(&mut replay, &lane).await, Some(Bounds { first: 0, end: 500 }));
        }
        let batch = replay.next().await.expect("works").expect("goes on");
        assert_eq!(batch.events[0].offset, offset);
    }
    assert!(matches!(replay.next().await, Ok(None)));
}

#[tokio::test]
async fn it_outlives_its_source() {
    let broker = broker(1);
    let producer = producer(&broker);
    let (reader, mut replay) = replay(&broker).await;
    let lane = reader.lane("t", 0);
    write_numbers(&producer, 0..10).await;
    assert!(reader.source.close(DEADLINE).await);
    let (events, _) = again(&mut replay, &[range(&lane, 0, 10)]).await.expect("read");
    assert_eq!(events.len(), 10);
}

#[tokio::test]
async fn one_that_is_never_used_asks_nobody() {
    let config = KafkaConfig::new("127.0.0.1:1").topic("t").start(Start::Earliest);
    let source = KafkaSource::start(config).expect("source");
    let mut replay = source.replay().expect("replay");
    assert!(matches!(replay.next().await, Ok(None)), "no pass was begun");
    drop(replay);
    assert!(source.close(DEADLINE).await);
}
