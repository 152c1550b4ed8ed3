//! Records that cannot be used are written to a topic, as they were read.

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::{DEADLINE, broker, config, producer, write};
use fanout::testing::{CursorLines, MemoryPeer, MemorySink};
use fanout::{
    Access, Emission, Event, Hub, Identity, JsonPayload, Keyring, Limits, Pipeline, PipelineStop,
    Poison, RoleAccess, Room, RouteError, SourceError, SourceHealth, SourceStatus,
};
use kafka_source::rdkafka::message::{Header, OwnedHeaders};
use kafka_source::rdkafka::mocking::MockCluster;
use kafka_source::rdkafka::producer::FutureRecord;
use kafka_source::rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use kafka_source::{
    DeadLetterConfig, DeadLetterHeaders, EmbeddedBroker, KafkaConfig, KafkaDeadLetters,
    KafkaSource, Start,
};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A node: what came through it, by partition.
struct Node {
    hub: Hub,
    status: SourceStatus,
    seen: Arc<Mutex<HashMap<u32, Vec<u64>>>>,
    stop: PipelineStop,
    running: JoinHandle<Result<(), SourceError>>,
}

impl Node {
    async fn start(source: KafkaConfig, letters: DeadLetterConfig, limits: Limits) -> Self {
        let access = Access::new([RoleAccess::new("member").joins("all")]).unwrap();
        let keys = Keyring::new('k', &[7; 32]).unwrap();
        let hub = Hub::builder(access).shards(1).keys(keys).limits(limits).build().unwrap();
        let seen = Arc::<Mutex<HashMap<u32, Vec<u64>>>>::default();
        let noted = seen.clone();
        let route = move |event: &Event, out: &mut Vec<Emission>| -> Result<(), RouteError> {
            let mut seen = noted.lock().unwrap();
            seen.entry(event.lane.partition).or_default().push(event.offset);
            out.push(Emission::new(Room::new("all")?, "n", event.json()?));
            Ok(())
        };
        let letters = KafkaDeadLetters::start(letters).expect("letters");
        let source = KafkaSource::start(source).expect("source");
        let pipeline = Pipeline::new(source, route, hub.clone())
            .decoder(JsonPayload)
            .poison(Poison::DeadLetters(Box::new(letters)));
        let (mut status, stop) = (pipeline.status(), pipeline.stopper());
        let running = tokio::spawn(pipeline.run());
        let told = timeout(DEADLINE, status.wait_for(SourceHealth::ready)).await;
        assert_eq!(told, Ok(true), "{:?}", status.health());
        Self { hub, status, seen, stop, running }
    }

    async fn sees(&self, partition: u32, offsets: &[u64]) {
        let seen = || self.seen.lock().unwrap().get(&partition).cloned().unwrap_or_default();
        eventually(&format!("{offsets:?} of {partition}"), || seen() == offsets).await;
    }

    async fn stop(self) {
        self.stop.stop();
        timeout(DEADLINE, self.running).await.expect("ends").unwrap().unwrap();
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("not {what}"));
}

/// What stands in the topic `dead`.
async fn letters(broker: &EmbeddedBroker) -> Vec<Event> {
    let config = broker.config().topic("dead").start(Start::Earliest);
    common::Reader::ready(config).await.events
}

fn header<'a>(letter: &'a Event, name: &str) -> Option<&'a str> {
    // The last one of a name is the letter's.
    let named = letter.headers.iter().rev().find(|(header, _)| header == name);
    named.map(|(_, value)| std::str::from_utf8(value).expect("text"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_the_record_byte_by_byte_with_what_was_wrong() {
    let broker = broker(1);
    broker.create_topic("dead", 1).expect("topic");
    let source = config(&broker);
    let node =
        Node::start(source.clone(), DeadLetterConfig::new(&source, "dead"), Limits::default())
            .await;
    let producer = producer(&broker);
    let (key, payload) = (&[0_u8, 0xff, b'k'][..], &[0xc3_u8, 0x28, 0, b'{'][..]);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "h", value: Some(&[1_u8, 0xfe][..]) })
        .insert(Header { key: DeadLetterHeaders::TOPIC, value: Some(&b"before"[..]) })
        .insert(Header { key: "h", value: Some(&b"again"[..]) });
    write(&producer, "t", 0, "1").await;
    let record = FutureRecord::to("t").partition(0).key(key).payload(payload).headers(headers);
    producer.send(record.timestamp(1_500), DEADLINE).await.expect("written");
    write(&producer, "t", 0, "2").await;
    node.sees(0, &[0, 2]).await;
    node.stop().await;

    let letters = letters(&broker).await;
    let [letter] = &letters[..] else { panic!("one letter: {letters:?}") };
    assert_eq!((letter.key.as_deref(), &letter.payload[..]), (Some(key), payload));
    assert_eq!((&*letter.headers[0].0, &letter.headers[0].1[..]), ("h", &[1_u8, 0xfe][..]));
    assert_eq!(letter.header(DeadLetterHeaders::TOPIC).unwrap(), "before");
    assert_eq!((&*letter.headers[2].0, &letter.headers[2].1[..]), ("h", &b"again"[..]));
    assert_eq!(letter.headers.len(), 3 + 8);
    let told = |name| header(letter, name).unwrap_or_else(|| panic!("{name} is missing"));
    assert_eq!(told(DeadLetterHeaders::TOPIC), "t");
    assert_eq!(told(DeadLetterHeaders::PARTITION), "0");
    assert_eq!(told(DeadLetterHeaders::OFFSET), "1");
    assert_eq!(told(DeadLetterHeaders::REASON), "not_json");
    assert!(told(DeadLetterHeaders::MESSAGE).contains("not one JSON value"));
    assert_eq!(told(DeadLetterHeaders::LOG), broker.log_identity());
    assert_eq!(told(DeadLetterHeaders::RECORD_TIME), "1500");
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let time: u128 = told(DeadLetterHeaders::TIME).parse().expect("milliseconds");
    assert!((now - 3_600_000..=now).contains(&time), "{time}");
    // Of its own time: retention counts from then.
    assert!(letter.time.elapsed().unwrap() < Duration::from_secs(3600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_read_again_has_its_letter_already() {
    let broker = broker(1);
    broker.create_topic("dead", 1).expect("topic");
    let source = config(&broker);
    let dead = || DeadLetterConfig::new(&source, "dead");
    let first = Node::start(source.clone(), dead(), Limits::default()).await;
    let cursor = first.hub.cursor();
    let producer = producer(&broker);
    for payload in ["1", "{", "2", "}", "3"] {
        write(&producer, "t", 0, payload).await;
    }
    first.sees(0, &[0, 2, 4]).await;
    first.stop().await;
    // Another node begins at the end: who was away is read to from the source.
    let second = Node::start(source.clone(), dead(), Limits::default()).await;
    let lines = second.hub.protocol(CursorLines);
    let (peer, sink): (MemoryPeer, _) =
        MemorySink::returning(Some(cursor.as_str().to_owned()), Vec::new());
    second.hub.connect(&lines, Identity::new("ann", ["member"]), sink).await.unwrap();
    second.sees(0, &[0, 2, 4]).await;
    drop(peer);
    second.stop().await;
    let letters = letters(&broker).await;
    let offsets: Vec<_> = letters.iter().map(|l| header(l, DeadLetterHeaders::OFFSET)).collect();
    assert_eq!(offsets, [Some("1"), Some("3")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_letters_cannot_be_written_their_partition_alone_is_halted() {
    let broker = broker(2);
    let elsewhere = EmbeddedBroker::start().expect("broker");
    elsewhere.create_topic("dead", 1).expect("topic");
    let source = config(&broker);
    let dead = DeadLetterConfig::new(&source, "dead")
        .brokers(elsewhere.bootstrap_servers())
        .delivery_timeout(Duration::from_secs(1));
    let mut node = Node::start(source, dead, Limits::default()).await;
    elsewhere.go_down().expect("down");
    let producer = producer(&broker);
    write(&producer, "t", 0, "1").await;
    write(&producer, "t", 0, "{").await;
    write(&producer, "t", 1, "1").await;
    let halted = |health: &SourceHealth| {
        let problem = health.problem.as_deref().unwrap_or_default();
        problem.contains("t/0 is halted at 1") && problem.contains("`dead` did not take it")
    };
    let told = timeout(DEADLINE, node.status.wait_for(halted)).await;
    assert_eq!(told, Ok(true), "{:?}", node.status.health());
    write(&producer, "t", 0, "2").await;
    write(&producer, "t", 1, "2").await;
    node.sees(1, &[0, 1]).await;
    node.sees(0, &[0]).await;
    node.stop().await;
}

/// One that numbers what it writes, and is told once that a number is missing, writes nothing
/// any more, whatever comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_has_failed_for_good_is_replaced() {
    let broker = broker(2);
    let elsewhere = MockCluster::new(1).expect("broker");
    elsewhere.create_topic("dead", 1, 1).expect("topic");
    let missing = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    elsewhere.request_errors(RDKafkaApiKey::Produce, &[missing]);
    let source = config(&broker);
    let dead = DeadLetterConfig::new(&source, "dead")
        .brokers(elsewhere.bootstrap_servers())
        .property("enable.gapless.guarantee", "true");
    let mut node = Node::start(source, dead, Limits::default()).await;
    let producer = producer(&broker);
    write(&producer, "t", 0, "{").await;
    let halted = |health: &SourceHealth| {
        let problem = health.problem.as_deref().unwrap_or_default();
        problem.contains("t/0 is halted at 0") && problem.contains("`dead` refused it")
    };
    let told = timeout(DEADLINE, node.status.wait_for(halted)).await;
    assert_eq!(told, Ok(true), "{:?}", node.status.health());
    for payload in ["{", "1", "}", "2"] {
        write(&producer, "t", 1, payload).await;
    }
    node.sees(1, &[1, 3]).await;
    // Waits for its letters.
    node.stop().await;
    let config = KafkaConfig::new(elsewhere.bootstrap_servers()).topic("dead");
    let config = config.start(Start::Earliest).log_identity("mock");
    let letters = common::Reader::ready(config).await.events;
    let places = letters.iter().map(|letter| {
        (header(letter, DeadLetterHeaders::PARTITION), header(letter, DeadLetterHeaders::OFFSET))
    });
    assert_eq!(places.collect::<Vec<_>>(), [(Some("1"), Some("0")), (Some("1"), Some("2"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_waited_for() {
    let broker = broker(1);
    broker.create_topic("dead", 1).expect("topic");
    let source = config(&broker);
    let dead = DeadLetterConfig::new(&source, "dead").property("queue.buffering.max.messages", "1");
    let node = Node::start(source, dead, Limits::default()).await;
    let producer = producer(&broker);
    for _ in 0..20 {
        write(&producer, "t", 0, "{").await;
    }
    write(&producer, "t", 0, "1").await;
    node.sees(0, &[20]).await;
    // Waits for its letters.
    node.stop().await;
    let offsets: std::collections::BTreeSet<u32> = letters(&broker)
        .await
        .iter()
        .map(|letter| header(letter, DeadLetterHeaders::OFFSET).unwrap().parse().unwrap())
        .collect();
    assert!(offsets.into_iter().eq(0..20));
}
