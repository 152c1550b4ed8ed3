//! What it costs to come back: from connecting with a cursor until everything missed has been
//! taken, and the connection is live.
//!
//! `from memory`: the log holds 100,000 events, of which the client missed 100 or 1,000. In one
//! room it missed the last of them; among 10,000 rooms it missed all that were for its own, and
//! has to pass over the others.
//!
//! `from Kafka`: the log holds next to nothing, so that each time a pass reads the topic again,
//! in which there are 10,000 events, and 1,024 for others behind them. `kept`: the same, where a pass before has left it in
//! memory. With `FANOUT_TEST_KAFKA=HOST:PORT` also from that broker; else only from the
//! embedded one.
//!
//! `tokens`: sealing and opening what clients keep. Looking up the lanes by name is in it,
//! which a hub does for new ones only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use benches::broker::Topic;
use benches::in_memory::InMemory;
use benches::message::{EVENT, Messages};
use benches::run::Rooms;
use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group,
    criterion_main,
};
use fanout::testing::{MemoryLog, MemoryStart, Tokens};
use fanout::{Cursor, Emission, Event, Keyring, Lane, Limits, Pipeline, Room, RouteError, Source};
use kafka_source::{KafkaSource, Start};

const PAYLOAD: usize = 200;
const MISSED: [u64; 2] = [100, 1_000];
/// Events in the log.
const IN_MEMORY: u64 = 100_000;
const OTHER_ROOMS: u64 = 10_000;
/// Events in the topic.
const IN_KAFKA: u64 = 10_000;
/// Bytes of a log that has nothing of what was missed, nor anything else.
const NOTHING: u64 = 1;
/// Events for others behind what was missed: the newest batch always stays in the log.
const BEHIND: u64 = 1_024;
/// After what time it is forgotten what was read again, where it is not to be kept.
const FORGOTTEN: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_hours(1);

/// A hub that reads a source, whenever anything is waited for.
struct Reading {
    memory: InMemory,
    /// Events that were routed; those read again among them.
    routed: Arc<AtomicU64>,
}

impl Reading {
    fn new(source: impl Source, change: impl FnOnce(&mut Limits)) -> Self {
        let memory = InMemory::with(|limits| {
            limits.log_age = LONG;
            limits.replay_timeout = LONG;
            limits.resumes_per_second = 1_000_000;
            change(limits);
        });
        let routed = Arc::<AtomicU64>::default();
        let counted = routed.clone();
        // An event is for the room that its key names.
        let router = move |event: &Event, out: &mut Vec<Emission>| -> Result<(), RouteError> {
            let key = event.key.as_deref().unwrap_or_default();
            let room = Room::new(&*String::from_utf8_lossy(key))?;
            out.push(Emission::new(room, EVENT, event.json()?));
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let pipeline = Pipeline::new(source, router, memory.hub().clone());
        memory.spawn(async move { pipeline.run().await.expect("the source does not fail") });
        Self { memory, routed }
    }

    /// Where the hub is once it has read so many events.
    fn read(&self, events: u64) -> Cursor {
        self.memory.until("events", || self.routed.load(Ordering::SeqCst) >= events);
        self.memory.settle();
        self.memory.hub().cursor()
    }

    /// Measures how long a client takes that comes back with this cursor, and for which the
    /// source is read again each time, or not at all; others are not counted.
    fn measure(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        id: BenchmarkId,
        missed: u64,
        cursor: &Cursor,
        reads: bool,
    ) {
        let own = own();
        group.throughput(Throughput::Elements(missed));
        group.bench_function(id, |b| {
            b.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                let (mut done, mut tries) = (0, 0);
                while done < iterations {
                    let before = self.routed.load(Ordering::SeqCst);
                    let began = Instant::now();
                    let client = self.memory.resume(&own, cursor, missed);
                    let time = began.elapsed();
                    // Off the clock: it goes, and then what was read for it alone.
                    self.memory.disconnect(client);
                    if reads {
                        self.memory.run(async { tokio::time::sleep(FORGOTTEN).await });
                    }
                    if reads == (self.routed.load(Ordering::SeqCst) >= before + missed) {
                        (took, done) = (took + time, done + 1);
                    }
                    tries += 1;
                    assert!(tries <= 10 * (iterations + 1), "most do not read what they should");
                }
                took
            });
        });
    }
}

/// The room of the client that comes back.
fn own() -> Room {
    Room::new("room:own").expect("a good name")
}

fn payloads() -> impl FnMut() -> Bytes {
    let mut messages = Messages::new(PAYLOAD, Rooms::One, 1).expect("a size within bounds");
    move || Bytes::copy_from_slice(messages.draw(0).payload)
}

fn from_memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("resume");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for missed in MISSED {
        for others in [0, OTHER_ROOMS] {
            let log = MemoryLog::new("t", 1);
            let source = log.source(MemoryStart::Earliest);
            let reading = Reading::new(source, |limits| limits.log_bytes = 1 << 30);
            let mut payload = payloads();
            let mut write = |room: String| {
                log.write(0, Some(room.into()), payload());
            };
            let cursor = if others == 0 {
                (missed..IN_MEMORY).for_each(|_| write(own().to_string()));
                let cursor = reading.read(IN_MEMORY - missed);
                (0..missed).for_each(|_| write(own().to_string()));
                cursor
            } else {
                let cursor = reading.read(0);
                for n in 0..IN_MEMORY {
                    let is_own = n % (IN_MEMORY / missed) == 0;
                    let other = || format!("room:other-{}", n % others);
                    write(if is_own { own().to_string() } else { other() });
                }
                cursor
            };
            reading.read(IN_MEMORY);
            let rooms = if others == 0 { "one room" } else { "among 10,000 rooms" };
            let id = BenchmarkId::new(format!("from memory, {rooms}"), missed);
            reading.measure(&mut group, id, missed, &cursor, false);
        }
    }
    group.finish();
}

/// A topic, and a hub that has read it without keeping any of it.
fn from_kafka(
    group: &mut BenchmarkGroup<'_, WallTime>,
    kafka: Option<&str>,
    name: &str,
    keep: Duration,
) {
    for missed in MISSED {
        let topic = Topic::new(kafka, 1).expect("a broker");
        let source = KafkaSource::start(topic.config().start(Start::Earliest)).expect("a source");
        let reading = Reading::new(source, |limits| {
            limits.log_bytes = NOTHING;
            limits.replay_keep = keep;
        });
        let (writer, mut payload) = (topic.writer().expect("a producer"), payloads());
        let mut write = |events, room: &str| {
            for _ in 0..events {
                writer.write(0, room, &payload()).expect("handed over");
            }
            writer.flush().expect("written");
        };
        write(IN_KAFKA - missed, own().as_str());
        let cursor = reading.read(IN_KAFKA - missed);
        write(missed, own().as_str());
        write(BEHIND, "room:other");
        reading.read(IN_KAFKA + BEHIND);
        let log = || reading.memory.hub().stats().log;
        reading.memory.until("what was missed to leave the log", || log().entries <= BEHIND);
        let reads = keep.is_zero();
        reading.measure(group, BenchmarkId::new(name, missed), missed, &cursor, reads);
    }
}

fn by_replay(c: &mut Criterion) {
    let mut group = c.benchmark_group("resume");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    // The pauses are not counted, and are much longer.
    group.warm_up_time(Duration::from_millis(50)).measurement_time(Duration::from_millis(500));
    from_kafka(&mut group, None, "from Kafka, embedded", Duration::ZERO);
    from_kafka(&mut group, None, "from Kafka, embedded, kept", LONG);
    if let Ok(kafka) = std::env::var("FANOUT_TEST_KAFKA") {
        from_kafka(&mut group, Some(&kafka), "from Kafka, real", Duration::ZERO);
    }
    group.finish();
}

fn tokens(c: &mut Criterion) {
    let mut group = c.benchmark_group("tokens");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let keys = || Keyring::new('b', b"no secret: it guards nothing but a benchmark");
    let lane = |partition| Lane::new("a cluster and a topic's id", "order.created", partition);
    for lanes in [3, 12, 100] {
        let tokens = Tokens::new(keys().expect("a good key"), (0..lanes).map(lane));
        let places: Vec<_> = (0..lanes).map(|n| (lane(n), 1_000_000 + u64::from(n), 0)).collect();
        let sealed = tokens.seal(places.clone());
        assert_eq!(tokens.open(&sealed).expect("it is its own"), places);
        group.bench_function(BenchmarkId::new("seal a cursor, lanes", lanes), |b| {
            b.iter_batched(|| places.clone(), |places| tokens.seal(places), BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("open a cursor, lanes", lanes), |b| {
            b.iter(|| tokens.open(std::hint::black_box(&sealed)));
        });
        println!("{:24}{} bytes", "", sealed.len());
    }
    let tokens = Tokens::new(keys().expect("a good key"), [lane(0)]);
    group.bench_function("the `at` of an emission", |b| {
        let place = || (lane(0), 1_000_000, 0);
        b.iter_batched(place, |place| tokens.at(place), BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, from_memory, by_replay, tokens);
criterion_main!(benches);
