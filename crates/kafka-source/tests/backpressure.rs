//! A source that nobody reads: exact counts.
//!
//! A binary of its own, because it counts with a recorder for the whole process.

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use common::{DEADLINE, Reader, again, broker, config, producer, range, write_numbers};
use fanout::Source as _;
use kafka_source::metrics::{
    BYTES, HALTED, LAG, PARTITIONS, RECORDS, REPLAY_PASSES, REPLAYED, TOMBSTONES,
};
use kafka_source::rdkafka::producer::FutureRecord;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Every number, by name and labels.
type Numbers = Mutex<HashMap<String, Arc<AtomicU64>>>;

static NUMBERS: LazyLock<Numbers> = LazyLock::new(Numbers::default);

struct Counts;

fn number(key: &Key) -> Arc<AtomicU64> {
    let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
    let name = labels.fold(key.name().to_owned(), |name, label| name + &label);
    NUMBERS.lock().expect("numbers").entry(name).or_default().clone()
}

fn count(name: &str) -> u64 {
    let numbers = NUMBERS.lock().expect("numbers");
    numbers.get(name).map_or(0, |number| number.load(Ordering::SeqCst))
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(number(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(number(key))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

async fn until(mut holds: impl FnMut() -> bool) -> bool {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.is_ok()
}

#[tokio::test]
async fn what_nobody_takes_is_not_read() {
    metrics::set_global_recorder(Counts).expect("the only recorder");
    let broker = broker(1);
    let producer = producer(&broker);
    let records = || count(&format!("{RECORDS} topic=t"));

    // One record a batch, so that every batch is full: three in the queue, and one that
    // the reader holds while it waits for room.
    let config = config(&broker).max_batch(1).max_queued_batches(3);
    let mut reader = Reader::ready(config).await;
    assert_eq!((reader.events.len(), reader.passed("t", 0)), (0, Some(0)), "the opening");
    write_numbers(&producer, 0..2000).await;
    assert!(until(|| records() == 4).await, "{} were read", records());

    // Every batch that is taken makes room for one more, and no more than one.
    for taken in 1..=50 {
        reader.read().await;
        assert_eq!(reader.events.len() as u64, taken);
        assert!(until(|| records() == taken + 4).await, "{} were read", records());
    }
    reader.read_events(2000).await;
    reader.assert_numbers(0..2000);

    // What has no value is counted as read, and by itself.
    for _ in 0..3 {
        let tombstone = FutureRecord::<str, str>::to("t").partition(0).key("k");
        producer.send(tombstone, DEADLINE).await.expect("written");
    }
    reader.read_up_to("t", 0, 2003).await;
    assert_eq!(records(), 2003);
    assert_eq!(count(&format!("{TOMBSTONES} topic=t")), 3);
    let digits: u64 = (0..2000_u64).map(|n| n.to_string().len() as u64).sum();
    assert_eq!(count(&format!("{BYTES} topic=t")), digits);
    let gauge = |name| f64::from_bits(count(&format!("{name} topic=t")));
    assert_eq!((gauge(PARTITIONS), gauge(HALTED)), (1.0, 0.0));

    // The lag was looked up, and is none in the end.
    let lag = format!("{LAG} topic=t partition=0");
    let known = || NUMBERS.lock().expect("numbers").contains_key(&lag);
    assert!(until(|| known() && f64::from_bits(count(&lag)) == 0.0).await);

    // What nobody takes of a pass is not read either: three, and none in hand, since it
    // reads only where there is room.
    let again_records = || count(&format!("{REPLAYED} topic=t"));
    let mut replay = reader.source.replay().expect("replay");
    let all = [range(&reader.lane("t", 0), 0, 2003)];
    replay.begin(all.to_vec()).await.expect("begun");
    for taken in 0..50 {
        assert!(until(|| again_records() == taken + 3).await, "{} were read", again_records());
        let batch = replay.next().await.expect("works").expect("goes on");
        assert_eq!(batch.events[0].offset, taken);
    }
    assert!(until(|| again_records() == 53).await, "{} were read", again_records());
    let (events, _) = again(&mut replay, &all).await.expect("read again");
    assert_eq!((events.len(), again_records()), (2000, 2053));
    let passes = |result| count(&format!("{REPLAY_PASSES} result={result}"));
    assert!(until(|| passes("complete") == 1).await);
    assert_eq!((passes("given_up"), passes("expired"), passes("unavailable")), (1, 0, 0));
    assert_eq!((records(), count(&format!("{TOMBSTONES} topic=t"))), (2003, 3));

    // A lane that is halted is counted as such, and none is once the source has ended.
    reader.source.halt(&reader.lane("t", 0), "poison");
    assert!(until(|| (gauge(PARTITIONS), gauge(HALTED)) == (0.0, 1.0)).await);
    assert!(reader.source.close(DEADLINE).await);
    assert_eq!((gauge(PARTITIONS), gauge(HALTED)), (0.0, 0.0));
}
