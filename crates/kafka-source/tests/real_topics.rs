//! What becomes of topics, and where reading begins, as only a real broker can show it.
//!
//! Run as `real_kafka` is, with the same variables.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use common::{DEADLINE, Reader, again, producer_at, range, texts, write};
use fanout::{Bounds, Source as _, SourceHealth};
use kafka_source::rdkafka::ClientConfig;
use kafka_source::rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use kafka_source::rdkafka::client::DefaultClientContext;
use kafka_source::rdkafka::producer::{
    BaseRecord, DefaultProducerContext, FutureRecord, Producer as _, ThreadedProducer,
};
use kafka_source::{KafkaConfig, Offsets, Start};
use tokio::sync::RwLock;

/// Who restarts the broker waits for those who use it, and they for its return.
static BROKER: RwLock<()> = RwLock::const_new(());

/// How long a deletion has to be told by every answer.
const GRACE: Duration = Duration::from_secs(2);

/// A broker, and the beginning of names that no other test uses.
struct Kafka {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    prefix: String,
}

impl Kafka {
    fn new() -> Self {
        let brokers = std::env::var("FANOUT_TEST_KAFKA").expect("FANOUT_TEST_KAFKA names a broker");
        let admin = ClientConfig::new().set("bootstrap.servers", &brokers).create();
        let prefix = format!("topics-{:016x}", getrandom::u64().expect("random"));
        Self { brokers, admin: admin.expect("client"), prefix }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    async fn create(&self, topic: &str) {
        let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
        let made = self.admin.create_topics(&[new], &AdminOptions::new()).await;
        made.expect("asked").remove(0).expect("created");
    }

    async fn delete(&self, topic: &str) {
        let gone = self.admin.delete_topics(&[topic], &AdminOptions::new()).await;
        gone.expect("asked").remove(0).expect("deleted");
    }

    /// Writes with a producer of its own: another may remember a topic that was deleted.
    async fn write(&self, topic: &str, words: &[&str]) {
        let producer = producer_at(&self.brokers);
        for word in words {
            write(&producer, topic, 0, word).await;
        }
    }

    fn config(&self) -> KafkaConfig {
        let config = KafkaConfig::new(&self.brokers).missing_grace(GRACE);
        config.metadata_interval(Duration::from_millis(200))
    }
}

/// Reads until so many lanes are closed.
async fn until_closed(reader: &mut Reader, count: usize) {
    while reader.closed.len() < count {
        reader.read().await;
    }
}

fn says(word: &str) -> impl FnMut(&SourceHealth) -> bool {
    move |health| health.problem.as_deref().is_some_and(|problem| problem.contains(word))
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_topic_that_is_deleted_is_closed_and_read_whole_when_it_comes_again() {
    let _stays = BROKER.read().await;
    let kafka = Kafka::new();
    let (gone, stays) = (kafka.topic("gone"), kafka.topic("stays"));
    kafka.create(&gone).await;
    kafka.create(&stays).await;
    let mut reader = Reader::ready(kafka.config().topics([&gone, &stays])).await;
    kafka.write(&gone, &["1", "2"]).await;
    reader.read_events(2).await;
    let old = reader.lane(&gone, 0);

    kafka.delete(&gone).await;
    until_closed(&mut reader, 1).await;
    assert_eq!(reader.closed, std::slice::from_ref(&old));
    let health = reader.until(says("does not exist")).await;
    assert!(health.connected && health.caught_up, "{health:?}");
    kafka.write(&stays, &["3"]).await;
    reader.read_events(3).await;

    kafka.create(&gone).await;
    kafka.write(&gone, &["4", "5", "6"]).await;
    reader.read_events(6).await;
    assert_eq!(reader.payloads(), ["1", "2", "3", "4", "5", "6"]);
    let new = reader.events[3].lane.clone();
    assert!(new.log != old.log && reader.lost.is_empty(), "{new:?}");
    reader.until(|health| health.problem.is_none()).await;

    let mut replay = reader.source.replay().expect("replay");
    let bounds = replay.bounds(&[old, new.clone()]).await.expect("known");
    assert_eq!(bounds, [None, Some(Bounds { first: 0, end: 3 })]);
    let (events, _) = again(&mut replay, &[range(&new, 0, 3)]).await.expect("read again");
    assert_eq!(texts(&events), ["4", "5", "6"]);
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_topic_that_is_made_anew_at_once_is_another_one() {
    let _stays = BROKER.read().await;
    let kafka = Kafka::new();
    let topic = kafka.topic("anew");
    kafka.create(&topic).await;
    // A deletion is never believed: it is the id that tells.
    let config = kafka.config().topic(&topic).missing_grace(DEADLINE);
    let mut reader = Reader::ready(config).await;
    let mut expected: Vec<String> = Vec::new();
    for round in 0..3 {
        // More than before each time: by its offsets alone it could be the same.
        let words: Vec<String> = (0..=round + 1).map(|n| format!("{round}.{n}")).collect();
        kafka.write(&topic, &words.iter().map(String::as_str).collect::<Vec<_>>()).await;
        expected.extend(words);
        reader.read_events(expected.len()).await;
        assert_eq!(reader.payloads(), expected);
        kafka.delete(&topic).await;
        // Until it may be made again.
        reader.until(says("does not exist")).await;
        kafka.create(&topic).await;
        until_closed(&mut reader, round + 1).await;
    }
    let lanes: std::collections::HashSet<_> = reader.events.iter().map(|e| &e.lane).collect();
    assert_eq!(lanes.len(), 3, "{lanes:?}");
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_pattern_takes_what_comes_and_forgets_what_goes() {
    let _stays = BROKER.read().await;
    let kafka = Kafka::new();
    let [a, b, other] = ["in.a", "in.b", "out.c"].map(|name| kafka.topic(name));
    kafka.create(&a).await;
    kafka.create(&other).await;
    kafka.write(&a, &["old"]).await;
    let pattern = format!("^{}\\.in\\..*", kafka.prefix);
    let mut reader = Reader::ready(kafka.config().topic_pattern(pattern)).await;
    kafka.write(&a, &["1"]).await;
    kafka.write(&other, &["other"]).await;
    reader.read_events(1).await;
    kafka.create(&b).await;
    kafka.write(&b, &["2", "3"]).await;
    reader.read_events(3).await;
    assert_eq!(reader.payloads(), ["1", "2", "3"]);

    kafka.delete(&b).await;
    until_closed(&mut reader, 1).await;
    assert_eq!(reader.closed, [reader.events[2].lane.clone()]);
    reader.until(|health| health.problem.is_none()).await;
    kafka.create(&b).await;
    kafka.write(&b, &["4"]).await;
    reader.read_events(4).await;
    assert_eq!(reader.payloads()[3], "4");
    assert_ne!(reader.events[3].lane, reader.closed[0]);
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn reading_begins_at_a_time() {
    const MINUTE: Duration = Duration::from_secs(60);
    let _stays = BROKER.read().await;
    let kafka = Kafka::new();
    let (topic, empty) = (kafka.topic("times"), kafka.topic("empty"));
    kafka.create(&topic).await;
    kafka.create(&empty).await;
    let producer = producer_at(&kafka.brokers);
    let now = SystemTime::now();
    for ago in [60, 30, 5, 4] {
        let time = (now - ago * MINUTE).duration_since(SystemTime::UNIX_EPOCH).expect("a time");
        let (time, word) = (i64::try_from(time.as_millis()).expect("a time"), ago.to_string());
        let record = FutureRecord::to(&topic).partition(0).key("k").payload(&word);
        producer.send(record.timestamp(time), DEADLINE).await.expect("written");
    }
    for (time, expected) in [
        (now - 10 * MINUTE, vec!["5", "4"]),
        (now - 45 * MINUTE, vec!["30", "5", "4"]),
        (SystemTime::UNIX_EPOCH, vec!["60", "30", "5", "4"]),
        (now + 10 * MINUTE, vec![]),
    ] {
        let offsets = Offsets::otherwise(Start::At(time)).at(&empty, 0, 0);
        let config = kafka.config().topics([&topic, &empty]).start(Start::Offsets(offsets));
        let mut reader = Reader::ready(config).await;
        reader.read_up_to(&topic, 0, 4).await;
        assert_eq!(reader.payloads(), expected);
        assert_eq!(reader.passed(&empty, 0), Some(0));
    }
}

/// What is not committed is no end to be reached.
#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn an_open_transaction_keeps_nobody_from_being_ready() {
    let _stays = BROKER.read().await;
    let kafka = Kafka::new();
    let topic = kafka.topic("open");
    kafka.create(&topic).await;
    kafka.write(&topic, &["0"]).await;
    let writer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &kafka.brokers)
        .set("transactional.id", &topic)
        .create()
        .expect("producer");
    let name = topic.clone();
    // Blocks, as all of a transaction does.
    let open = tokio::task::spawn_blocking(move || {
        writer.init_transactions(DEADLINE).expect("ready");
        writer.begin_transaction().expect("begun");
        let record = BaseRecord::to(&name).partition(0).key("k").payload("1");
        assert!(writer.send(record).is_ok());
        writer.flush(DEADLINE).expect("written");
        writer
    });
    let writer = open.await.expect("written");
    let config = kafka.config().topic(&topic).start(Start::Earliest);
    let mut reader = Reader::ready(config).await;
    assert_eq!(reader.payloads(), ["0"]);
    let mut replay = reader.source.replay().expect("replay");
    let bounds = replay.bounds(&[reader.lane(&topic, 0)]).await.expect("known");
    assert_eq!(bounds, [Some(Bounds { first: 0, end: 1 })]);
    let commit = move || writer.commit_transaction(DEADLINE).expect("committed");
    tokio::task::spawn_blocking(commit).await.expect("committed");
    reader.read_events(2).await;
    assert_eq!(reader.payloads(), ["0", "1"]);
}

/// The program that controls the broker, and the folder that it is in.
fn control() -> (String, String) {
    let control = std::env::var("FANOUT_TEST_KAFKA_CONTROL")
        .expect("FANOUT_TEST_KAFKA_CONTROL says how to restart the broker");
    let (program, folder) = control.rsplit_once(' ').expect("a program and a folder");
    (program.to_owned(), folder.to_owned())
}

async fn tell(what: &'static str) {
    let run = move || {
        let (program, folder) = control();
        // The broker must not hold a pipe of the test's.
        Command::new(program).args([what, &folder]).output().expect("it runs")
    };
    let done = tokio::task::spawn_blocking(run).await.expect("ended");
    assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The files of a topic's only partition.
fn log_of(topic: &str) -> PathBuf {
    PathBuf::from(control().1).join("data").join(format!("{topic}-0"))
}

/// The log of one partition is lost; the topic, its id and the others stay.
#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_log_that_was_cut_is_another_lane_and_the_others_go_on() {
    let _alone = BROKER.write().await;
    let kafka = Kafka::new();
    let (cut, whole) = (kafka.topic("cut"), kafka.topic("whole"));
    kafka.create(&cut).await;
    kafka.create(&whole).await;
    let config = kafka.config().topics([&cut, &whole]).missing_grace(DEADLINE);
    let mut reader = Reader::ready(config.request_timeout(Duration::from_secs(2))).await;
    kafka.write(&cut, &["1", "2", "3"]).await;
    kafka.write(&whole, &["4"]).await;
    reader.read_events(4).await;
    let mut closed = Vec::new();
    let mut replay = reader.source.replay().expect("replay");
    for round in 0..2 {
        let old = reader.events.iter().rev().find(|event| *event.lane.topic == *cut);
        closed.push(old.expect("one was read").lane.clone());
        tell("stop").await;
        std::fs::remove_dir_all(log_of(&cut)).expect("removed");
        tell("start").await;
        until_closed(&mut reader, round + 1).await;
        assert_eq!(reader.closed, closed);
        reader.until(|health| health.connected && health.problem.is_none()).await;

        let before = reader.events.len();
        kafka.write(&cut, &["new"]).await;
        kafka.write(&whole, &["more"]).await;
        reader.read_events(before + 2).await;
        let lane = reader.events.iter().rev().find(|event| *event.lane.topic == *cut);
        let lane = lane.expect("one was read").lane.clone();
        assert!(lane.log.starts_with(&*closed[0].log) && !closed.contains(&lane), "{lane:?}");
        let bounds = loop {
            // It may not have found the broker again yet.
            if let Ok(bounds) = replay.bounds(std::slice::from_ref(&lane)).await {
                break bounds;
            }
        };
        assert_eq!(bounds, [Some(Bounds { first: 0, end: 1 })]);
        let (events, _) = again(&mut replay, &[range(&lane, 0, 1)]).await.expect("read again");
        assert_eq!(texts(&events), ["new"]);
    }
    let whole: Vec<u64> = reader
        .events
        .iter()
        .filter(|event| *event.lane.topic == *whole)
        .map(|event| event.offset)
        .collect();
    assert_eq!(whole, [0, 1, 2]);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("made");
    for file in std::fs::read_dir(from).expect("a folder") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
}

/// The last records are lost, as where a leader takes over that did not have them yet. What
/// is written in their place comes before the source is back, if it is slow.
async fn lose_the_end(slow: bool) {
    let _alone = BROKER.write().await;
    let kafka = Kafka::new();
    let topic = kafka.topic("end");
    kafka.create(&topic).await;
    let mut config = kafka.config().topic(&topic).missing_grace(DEADLINE);
    if slow {
        let wait = "20000";
        config = config.property("reconnect.backoff.ms", wait);
        config = config.property("reconnect.backoff.max.ms", wait);
    }
    let mut reader = Reader::ready(config.request_timeout(Duration::from_secs(2))).await;
    kafka.write(&topic, &["0", "1", "2"]).await;
    reader.read_events(3).await;
    let old = reader.lane(&topic, 0);
    tell("stop").await;
    let kept = std::env::temp_dir().join(&topic);
    copy(&log_of(&topic), &kept);
    tell("start").await;
    kafka.write(&topic, &["3", "4"]).await;
    reader.read_events(5).await;
    tell("stop").await;
    std::fs::remove_dir_all(log_of(&topic)).expect("removed");
    copy(&kept, &log_of(&topic));
    std::fs::remove_dir_all(&kept).expect("removed");
    tell("start").await;
    let words = ["another 3", "another 4", "another 5", "another 6"];
    if slow {
        kafka.write(&topic, &words).await;
    }
    until_closed(&mut reader, 1).await;
    assert_eq!(reader.closed, std::slice::from_ref(&old));
    if !slow {
        kafka.write(&topic, &words).await;
    }
    reader.read_events(9).await;
    assert_eq!(reader.payloads()[..5], ["0", "1", "2", "3", "4"]);
    assert_eq!(reader.payloads()[5..], words);
    let places = reader.events.iter().map(|event| (&*event.lane.log, event.offset));
    let cut = format!("{}~3", old.log);
    assert!(places.skip(5).eq((3..7).map(|offset| (&*cut, offset))));
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_log_that_lost_its_end_goes_on_from_there_as_another() {
    lose_the_end(false).await;
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_log_that_lost_its_end_and_has_grown_beyond_it_is_noticed() {
    lose_the_end(true).await;
}
