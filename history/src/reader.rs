//! What is in Kafka, read by a consumer of the checker's own: from the start, all of it,
//! all the time. A record that is deleted later was there all the same.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_source::rdkafka::config::RDKafkaLogLevel;
use kafka_source::rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use kafka_source::rdkafka::error::KafkaError;
use kafka_source::rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
};
use order_server::record::topics;

use crate::error::Error;

const POLL: Duration = Duration::from_millis(50);
const METADATA: Duration = Duration::from_secs(1);
/// How long the broker may take to answer a question.
const ANSWER: Duration = Duration::from_secs(10);

/// What revocations are written to.
pub(crate) const CONTROL: &str = "fanout.control";

/// Topic and partition.
pub(crate) type LaneName = (String, i32);

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// In milliseconds, as it was written.
    pub(crate) time: Option<i64>,
    pub(crate) key: Option<Bytes>,
    pub(crate) payload: Option<Bytes>,
}

/// Every record that was read, by lane and offset.
pub(crate) type Records = BTreeMap<LaneName, BTreeMap<i64, Record>>;

/// What was read so far.
pub(crate) type Shared = Arc<Mutex<Records>>;

/// Says nothing: that a broker is away is no news here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}

/// A client of the broker.
pub(crate) fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        .set("log.connection.close", "false")
        .set("topic.metadata.refresh.interval.ms", "2000")
        .set_log_level(RDKafkaLogLevel::Critical);
    config
}

/// How long nobody may be reached before a new client is made: one that asked a broker
/// which was just starting may know none any more (confluentinc/librdkafka#5301).
const LOST: Duration = Duration::from_secs(5);

fn consumer(brokers: &str) -> Result<BaseConsumer<Quiet>, Error> {
    client(brokers)
        .set("group.id", "fanout-history")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50")
        .create_with_context(Quiet)
        .map_err(Error::kafka)
}

struct Reader {
    brokers: String,
    consumer: BaseConsumer<Quiet>,
    /// Since when nobody has been reached.
    unreached: Option<Instant>,
    records: Shared,
    known: HashSet<LaneName>,
    asked: Option<Instant>,
}

impl Reader {
    fn new(brokers: &str, records: Shared) -> Result<Self, Error> {
        let (brokers, consumer) = (brokers.to_owned(), consumer(brokers)?);
        Ok(Self { brokers, consumer, unreached: None, records, known: HashSet::new(), asked: None })
    }

    /// Nobody was reached: begins anew where that has lasted. What is read twice is the same.
    fn unreached(&mut self) {
        let since = *self.unreached.get_or_insert_with(Instant::now);
        if since.elapsed() < LOST {
            return;
        }
        if let Ok(new) = consumer(&self.brokers) {
            (self.consumer, self.unreached) = (new, None);
            self.known.clear();
        }
    }

    /// Finds partitions that are new.
    fn look(&mut self) {
        if self.asked.is_some_and(|asked| asked.elapsed() < METADATA) {
            return;
        }
        self.asked = Some(Instant::now());
        let Ok(metadata) = self.consumer.fetch_metadata(None, Duration::from_secs(2)) else {
            return self.unreached();
        };
        self.unreached = None;
        let mut lanes = Vec::new();
        let read = |name: &str| topics::ALL.contains(&name) || name == CONTROL;
        for topic in metadata.topics().iter().filter(|topic| read(topic.name())) {
            let partitions = topic.partitions().iter();
            let all = partitions.map(|partition| (topic.name().to_owned(), partition.id()));
            lanes.extend(all.filter(|lane| !self.known.contains(lane)));
        }
        let mut new = TopicPartitionList::new();
        for (topic, partition) in &lanes {
            if new.add_partition_offset(topic, *partition, Offset::Beginning).is_err() {
                return;
            }
        }
        if !lanes.is_empty() && self.consumer.incremental_assign(&new).is_ok() {
            let mut records = self.records.lock().expect("nobody panics with it");
            for lane in lanes {
                records.entry(lane.clone()).or_default();
                self.known.insert(lane);
            }
        }
    }

    fn turn(&mut self) {
        self.look();
        // Transport errors pass by themselves.
        if let Some(Ok(message)) = self.consumer.poll(POLL) {
            let lane = (message.topic().to_owned(), message.partition());
            let record = Record {
                time: message.timestamp().to_millis(),
                key: message.key().map(Bytes::copy_from_slice),
                payload: message.payload().map(Bytes::copy_from_slice),
            };
            let mut records = self.records.lock().expect("nobody panics with it");
            records.entry(lane).or_default().insert(message.offset(), record);
        }
    }
}

/// Reads until it is dropped.
pub(crate) struct Reading {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there is told by what is missing.
            let _ = thread.join();
        }
    }
}

impl Reading {
    pub(crate) fn start(brokers: &str, records: Shared) -> Result<Self, Error> {
        let mut reader = Reader::new(brokers, records)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let read = move || {
            while !stopped.load(Ordering::Relaxed) {
                reader.turn();
            }
        };
        let thread = std::thread::Builder::new().name("reader".to_owned()).spawn(read)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// The first offset and the end of each lane.
pub(crate) fn ends(brokers: &str, lanes: &[LaneName]) -> Result<Vec<(i64, i64)>, Error> {
    let consumer: BaseConsumer<Quiet> =
        client(brokers).create_with_context(Quiet).map_err(Error::kafka)?;
    let ends = lanes.iter().map(|(topic, partition)| {
        consumer.fetch_watermarks(topic, *partition, ANSWER).map_err(Error::kafka)
    });
    ends.collect()
}

/// All lanes of the shop that the broker has.
pub(crate) fn lanes(brokers: &str) -> Result<Vec<LaneName>, Error> {
    let consumer: BaseConsumer<Quiet> =
        client(brokers).create_with_context(Quiet).map_err(Error::kafka)?;
    let metadata = consumer.fetch_metadata(None, ANSWER).map_err(Error::kafka)?;
    let topics = metadata.topics().iter().filter(|topic| topics::ALL.contains(&topic.name()));
    let lanes = topics.flat_map(|topic| {
        topic.partitions().iter().map(|partition| (topic.name().to_owned(), partition.id()))
    });
    Ok(lanes.collect())
}

/// The next offset of a lane: what was read is before it.
pub(crate) fn next(records: &Records, lane: &LaneName) -> i64 {
    records.get(lane).and_then(|lane| lane.last_key_value()).map_or(0, |(last, _)| last + 1)
}

/// Reads everything once, and says where it differs from what was read before.
pub(crate) fn differences(brokers: &str, before: &Shared) -> Result<Vec<String>, Error> {
    let lanes = lanes(brokers)?;
    let ends = ends(brokers, &lanes)?;
    let again = Shared::default();
    let mut reader = Reader::new(brokers, again.clone())?;
    let deadline = Instant::now() + 6 * ANSWER;
    let read = |records: &Records| {
        let mut all = lanes.iter().zip(&ends);
        // A lane whose records were all deleted has nothing to be read.
        all.all(|(lane, (first, end))| first == end || next(records, lane) >= *end)
    };
    while !read(&again.lock().expect("nobody panics with it")) {
        if Instant::now() > deadline {
            return Err(Error::kafka("what is there could not be read again"));
        }
        reader.turn();
    }
    let (before, again) = (
        before.lock().expect("nobody panics with it"),
        again.lock().expect("nobody panics with it"),
    );
    let mut differ = Vec::new();
    for (lane, (first, end)) in lanes.iter().zip(&ends) {
        let none = BTreeMap::new();
        let (before, again) = (before.get(lane).unwrap_or(&none), again.get(lane).unwrap_or(&none));
        for offset in *first..*end {
            let (was, is) = (before.get(&offset), again.get(&offset));
            if was != is {
                differ.push(format!("{}/{} {offset}: {was:?} is now {is:?}", lane.0, lane.1));
            }
        }
        if let Some((last, _)) = before.last_key_value().filter(|(last, _)| *last >= end) {
            differ.push(format!("{}/{}: {last} was read, now it ends at {end}", lane.0, lane.1));
        }
    }
    Ok(differ)
}
