//! Members of a group, each with a pipeline of its own, and what they have handled.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanout::{
    Access, Emission, Event, EventBatch, Hub, JsonPayload, Lane, Pipeline, PipelineStop, Poison,
    RoleAccess, RouteError, Source as _, SourceError, SourceHealth, SourceStatus,
};
use kafka_source::rdkafka::ClientConfig;
use kafka_source::rdkafka::consumer::{BaseConsumer, Consumer as _};
use kafka_source::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka_source::rdkafka::{Offset, TopicPartitionList};
use kafka_source::{GroupConfig, KafkaConfig, KafkaGroup};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// What all members have handled, in their order: by whom, partition and offset.
#[derive(Clone, Default)]
pub(crate) struct Handled(Arc<Mutex<Vec<(usize, u32, u64)>>>);

impl Handled {
    pub(crate) fn note_place(&self, member: usize, partition: u32, offset: u64) {
        self.0.lock().unwrap().push((member, partition, offset));
    }

    /// Which partitions a member has handled something of.
    pub(crate) fn partitions_of(&self, member: usize) -> BTreeSet<u32> {
        let handled = self.0.lock().unwrap();
        handled
            .iter()
            .filter(|(by, ..)| *by == member)
            .map(|(_, partition, _)| *partition)
            .collect()
    }

    pub(crate) fn by(&self, member: usize) -> usize {
        self.0.lock().unwrap().iter().filter(|(by, ..)| *by == member).count()
    }

    /// By partition, the offsets in the order they were handled.
    pub(crate) fn offsets(&self) -> BTreeMap<u32, Vec<u64>> {
        let mut offsets: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (_, partition, offset) in self.0.lock().unwrap().iter() {
            offsets.entry(*partition).or_default().push(*offset);
        }
        offsets
    }

    pub(crate) async fn until(&self, what: &str, enough: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !enough(self) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, waiting).await.unwrap_or_else(|_| {
            let count = |(partition, offsets): (u32, Vec<u64>)| (partition, offsets.len());
            let counts: Vec<_> = self.offsets().into_iter().map(count).collect();
            panic!("not {what}: {counts:?}");
        });
    }

    /// Waits until a member has handled so many more.
    pub(crate) async fn more_by(&self, member: usize, count: usize) {
        let before = self.by(member);
        self.until(&format!("more by {member}"), |h| h.by(member) >= before + count).await;
    }

    /// Checks that each partition was handled up to these ends, each record once, in order.
    pub(crate) async fn exactly(&self, ends: &BTreeMap<u32, u64>) {
        let whole: u64 = ends.values().sum();
        self.until("handled", |h| h.0.lock().unwrap().len() as u64 >= whole).await;
        for (partition, end) in ends {
            let offsets = self.offsets().remove(partition).unwrap_or_default();
            assert!(offsets.iter().copied().eq(0..*end), "{partition}, to {end}: {offsets:?}");
        }
    }

    /// Checks that each partition was handled up to these ends, each record at least once.
    pub(crate) async fn at_least(&self, ends: &BTreeMap<u32, u64>) {
        let has = |handled: &Self| {
            let offsets = handled.offsets();
            ends.iter().all(|(partition, end)| {
                let mut offsets = offsets.get(partition).cloned().unwrap_or_default();
                offsets.sort_unstable();
                offsets.dedup();
                offsets.into_iter().eq(0..*end)
            })
        };
        self.until("all handled", has).await;
    }
}

/// A member at work.
pub(crate) struct Member {
    pub(crate) status: SourceStatus,
    stop: PipelineStop,
    running: JoinHandle<Result<(), SourceError>>,
}

impl Member {
    pub(crate) fn start(number: usize, config: GroupConfig, handled: &Handled) -> Self {
        Self::with_poison(number, config, handled, Poison::Skip)
    }

    pub(crate) fn with_poison(
        number: usize,
        config: GroupConfig,
        handled: &Handled,
        poison: Poison,
    ) -> Self {
        let access = Access::new([RoleAccess::new("member").joins("all")]).unwrap();
        let hub = Hub::builder(access).shards(1).build().unwrap();
        let handled = handled.clone();
        let route = move |event: &Event, _: &mut Vec<Emission>| -> Result<(), RouteError> {
            handled.note_place(number, event.lane.partition, event.offset);
            Ok(())
        };
        let group = KafkaGroup::start(config).expect("started");
        let pipeline = Pipeline::new(group, route, hub).decoder(JsonPayload).poison(poison);
        let (status, stop) = (pipeline.status(), pipeline.stopper());
        Self { status, stop, running: tokio::spawn(pipeline.run()) }
    }

    pub(crate) async fn until(&mut self, enough: impl FnMut(&SourceHealth) -> bool) {
        let told = timeout(DEADLINE, self.status.wait_for(enough)).await;
        assert_eq!(told, Ok(true), "{:?}", self.status.health());
    }

    pub(crate) async fn ready(mut self) -> Self {
        self.until(SourceHealth::ready).await;
        self
    }

    /// Ends it in order.
    pub(crate) async fn stop(mut self) {
        self.stop.stop();
        let ended = timeout(DEADLINE, self.running).await.expect("ends");
        ended.expect("no panic").expect("no error");
        let gone = timeout(DEADLINE, self.status.wait_for(|_| false)).await;
        assert_eq!(gone, Ok(false), "it is closed");
    }

    /// What it failed with.
    pub(crate) async fn failed(self) -> SourceError {
        let ended = timeout(DEADLINE, self.running).await.expect("ends");
        ended.expect("no panic").expect_err("an error")
    }
}

/// Writes numbers to partitions in turn, until it is stopped.
pub(crate) struct Numbers {
    stop: Arc<AtomicBool>,
    running: JoinHandle<BTreeMap<u32, u64>>,
}

impl Numbers {
    pub(crate) fn start(producer: FutureProducer, topic: &str, partitions: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic) = (stop.clone(), topic.to_owned());
        let running = tokio::spawn(async move {
            let mut ends = BTreeMap::new();
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let partition = number % partitions;
                let payload = number.to_string();
                let id = i32::try_from(partition).unwrap();
                let record = FutureRecord::to(&topic).partition(id).key("k").payload(&payload);
                let offset = producer.send(record, DEADLINE).await.expect("written").offset;
                ends.insert(partition, offset.unsigned_abs() + 1);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            ends
        });
        Self { stop, running }
    }

    /// Ends it; where each partition ends.
    pub(crate) async fn stop(self) -> BTreeMap<u32, u64> {
        self.stop.store(true, Ordering::Relaxed);
        timeout(DEADLINE, self.running).await.expect("ends").expect("written")
    }
}

/// Reads until `enough` holds of what was read; accepts nothing.
pub(crate) async fn read_until(
    group: &mut KafkaGroup,
    mut enough: impl FnMut(&[Event]) -> bool,
) -> Vec<Event> {
    let mut events = Vec::new();
    let reading = async {
        while !enough(&events) {
            let read = group.next().await.expect("works").expect("goes on");
            let EventBatch { events: read, .. } = read;
            events.extend(read);
        }
    };
    let came = timeout(DEADLINE, reading).await;
    assert!(came.is_ok(), "only {} came: {:?}", events.len(), group.status().health());
    events
}

/// Accepts all of these.
pub(crate) fn accept(group: &mut KafkaGroup, events: &[Event]) {
    let places = events.iter().map(|event| (event.lane.clone(), event.offset + 1));
    let mut last: BTreeMap<Arc<Lane>, u64> = BTreeMap::new();
    last.extend(places);
    group.accepted(&last.into_iter().collect::<Vec<_>>());
}

/// What a group has committed of a topic's partitions; `None` where nothing is.
pub(crate) fn committed(brokers: &str, group: &str, topic: &str, count: i32) -> Vec<Option<u64>> {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .create()
        .expect("client");
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, 0, count - 1);
    let told = client.committed_offsets(asked, DEADLINE).expect("committed");
    let offset = |offset| match offset {
        Offset::Offset(offset) => Some(offset.unsigned_abs()),
        _ => None,
    };
    told.elements().iter().map(|place| offset(place.offset())).collect()
}

/// A member of a group that notices soon what happens.
pub(crate) fn member(source: KafkaConfig, group: &str) -> GroupConfig {
    member_for(source, group, "6000")
}

/// The same, which the group misses after so many milliseconds without a word.
pub(crate) fn member_for(source: KafkaConfig, group: &str, session: &str) -> GroupConfig {
    let source = source
        .metadata_interval(Duration::from_millis(200))
        .property("session.timeout.ms", session)
        .property("heartbeat.interval.ms", "200")
        .property("topic.metadata.refresh.interval.ms", "500");
    GroupConfig::new(source, group).commit_interval(Duration::from_millis(100))
}
