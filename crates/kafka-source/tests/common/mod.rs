//! A producer, and a reader that notes what it was handed.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fanout::testing::{Record, SourceWriter};
use fanout::{
    Event, EventBatch, Lane, Replay, ReplayError, ReplayRange, Source as _, SourceHealth,
};
use kafka_source::rdkafka::ClientConfig;
use kafka_source::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka_source::{EmbeddedBroker, KafkaConfig, KafkaSource};
use tokio::time::timeout;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A broker with one topic, `t`.
pub(crate) fn broker(partitions: u32) -> EmbeddedBroker {
    let broker = EmbeddedBroker::start().expect("embedded broker");
    broker.create_topic("t", partitions).expect("topic");
    broker
}

/// Reads `t`, and notices soon what is new.
pub(crate) fn config(broker: &EmbeddedBroker) -> KafkaConfig {
    broker.config().topic("t").metadata_interval(Duration::from_millis(200))
}

pub(crate) fn producer(broker: &EmbeddedBroker) -> FutureProducer {
    producer_at(broker.bootstrap_servers())
}

pub(crate) fn producer_at(brokers: &str) -> FutureProducer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "0")
        .set("enable.idempotence", "true")
        .set("reconnect.backoff.max.ms", "200")
        .create()
        .expect("producer")
}

/// Writes to a partition of `topic` and returns the offset.
pub(crate) async fn write(
    producer: &FutureProducer,
    topic: &str,
    partition: i32,
    payload: &str,
) -> i64 {
    let record = FutureRecord::to(topic).partition(partition).key("k").payload(payload);
    producer.send(record, DEADLINE).await.expect("written").offset
}

/// Writes numbers, all in flight at once, in their order.
pub(crate) async fn write_numbers(producer: &FutureProducer, numbers: std::ops::Range<u64>) {
    let mut written = Vec::new();
    for number in numbers {
        let payload = number.to_string();
        let mut record = FutureRecord::to("t").partition(0).key("k").payload(&payload);
        let delivery = loop {
            match producer.send_result(record) {
                Ok(delivery) => break delivery,
                // Its queue is full.
                Err((_, back)) => record = back,
            }
            tokio::task::yield_now().await;
        };
        written.push(delivery);
    }
    for delivery in written {
        timeout(DEADLINE, delivery).await.expect("in time").expect("producer").expect("written");
    }
}

/// A source, and what it has handed on.
pub(crate) struct Reader {
    pub(crate) source: KafkaSource,
    pub(crate) events: Vec<Event>,
    pub(crate) frontier: HashMap<Arc<Lane>, u64>,
    /// After how many events something was lost.
    pub(crate) lost: Vec<usize>,
    /// Lanes that are no more.
    pub(crate) closed: Vec<Arc<Lane>>,
}

impl Reader {
    pub(crate) fn start(config: KafkaConfig) -> Self {
        let source = KafkaSource::start(config).expect("source");
        let (events, lost, closed) = (Vec::new(), Vec::new(), Vec::new());
        Self { source, events, frontier: HashMap::new(), lost, closed }
    }

    pub(crate) async fn ready(config: KafkaConfig) -> Self {
        let mut reader = Self::start(config);
        reader.until(SourceHealth::ready).await;
        reader
    }

    /// Reads until `enough` holds of the source's health.
    pub(crate) async fn until(
        &mut self,
        mut enough: impl FnMut(&SourceHealth) -> bool,
    ) -> SourceHealth {
        let mut status = self.source.status();
        let waiting = async {
            loop {
                let read = tokio::select! {
                    biased;
                    told = status.wait_for(&mut enough) => break told,
                    read = self.source.next() => read,
                };
                self.take(read.expect("works").expect("goes on"));
            }
        };
        let told = timeout(DEADLINE, waiting).await;
        assert_eq!(told, Ok(true), "{:?}", self.source.status().health());
        self.source.status().health()
    }

    /// Reads one batch.
    pub(crate) async fn read(&mut self) {
        let read = timeout(DEADLINE, self.source.next()).await.expect("nothing more came");
        self.take(read.expect("works").expect("goes on"));
    }

    fn take(&mut self, EventBatch { events, frontier, lost, closed }: EventBatch) {
        if !lost.is_empty() {
            self.lost.push(self.events.len());
        }
        for (lane, next) in frontier {
            let before = self.frontier.insert(lane, next);
            assert!(before.is_none_or(|before| before <= next), "a frontier fell");
        }
        self.events.extend(events);
        self.closed.extend(closed);
    }

    /// Reads until so many events have come.
    pub(crate) async fn read_events(&mut self, count: usize) {
        while self.events.len() < count {
            self.read().await;
        }
    }

    /// Reads until a partition of `topic` has been passed up to `next`.
    pub(crate) async fn read_up_to(&mut self, topic: &str, partition: u32, next: u64) {
        while self.passed(topic, partition) != Some(next) {
            self.read().await;
        }
    }

    /// How far a partition has been read.
    pub(crate) fn passed(&self, topic: &str, partition: u32) -> Option<u64> {
        let mut lanes = self.frontier.iter();
        let is = |lane: &Lane| &*lane.topic == topic && lane.partition == partition;
        lanes.find(|(lane, _)| is(lane)).map(|(_, next)| *next)
    }

    /// The lane of a partition.
    pub(crate) fn lane(&self, topic: &str, partition: u32) -> Arc<Lane> {
        let mut lanes = self.frontier.keys();
        let is = |lane: &&Arc<Lane>| &*lane.topic == topic && lane.partition == partition;
        lanes.find(is).expect("a lane whose place was told").clone()
    }

    /// Checks that each hole in the offsets of the only lane, which was read from its start,
    /// was told of where it is.
    pub(crate) fn assert_lost_where_missing(&self) {
        let offsets: Vec<u64> = self.events.iter().map(|event| event.offset).collect();
        let follows = |i: usize| i.checked_sub(1).map_or(0, |before| offsets[before] + 1);
        let holes = (0..offsets.len()).filter(|i| offsets[*i] != follows(*i));
        assert_eq!(self.lost, holes.collect::<Vec<_>>(), "{offsets:?}");
    }

    pub(crate) fn payloads(&self) -> Vec<&str> {
        texts(&self.events)
    }

    /// Checks that exactly the numbers came, in their order.
    pub(crate) fn assert_numbers(&self, numbers: std::ops::Range<u64>) {
        let read: Vec<u64> = self.payloads().iter().map(|n| n.parse().expect("number")).collect();
        assert!(read.iter().copied().eq(numbers.clone()), "not {numbers:?}: {read:?}");
    }
}

/// A range of a lane.
pub(crate) fn range(lane: &Arc<Lane>, from: u64, to: u64) -> ReplayRange {
    ReplayRange { lane: lane.clone(), from, to }
}

/// Reads ranges again: the events, and how far each lane was read.
pub(crate) async fn again(
    replay: &mut Box<dyn Replay>,
    ranges: &[ReplayRange],
) -> Result<(Vec<Event>, HashMap<Arc<Lane>, u64>), ReplayError> {
    timeout(DEADLINE, replay.begin(ranges.to_vec())).await.expect("begins in time")?;
    let (mut events, mut reached) = (Vec::new(), HashMap::new());
    while let Some(batch) = timeout(DEADLINE, replay.next()).await.expect("goes on")? {
        events.extend(batch.events);
        reached.extend(batch.frontier);
    }
    Ok((events, reached))
}

/// The payloads as text.
pub(crate) fn texts(events: &[Event]) -> Vec<&str> {
    events.iter().map(|e| std::str::from_utf8(&e.payload).expect("text")).collect()
}

/// What the contract suite writes with.
pub(crate) struct Writer {
    pub(crate) producer: FutureProducer,
    pub(crate) topic: String,
    /// An embedded log lives as long as whoever writes to it.
    pub(crate) broker: Option<EmbeddedBroker>,
}

impl SourceWriter for Writer {
    async fn write(&mut self, records: Vec<Record>) {
        let mut deliveries = Vec::new();
        for Record { key, payload } in &records {
            let record = FutureRecord::to(&self.topic).key(&key[..]).payload(&payload[..]);
            deliveries.push(self.producer.send_result(record).expect("room in its queue"));
        }
        for delivery in deliveries {
            let delivered = timeout(DEADLINE, delivery).await;
            delivered.expect("in time").expect("producer").expect("written");
        }
    }
}
