//! A source that nobody reads: exact counts.
//!
//! A binary of its own, because it counts with a recorder for the whole process.
//!
//! ```text
//! FANOUT_TEST_NATS_SERVER=$(.ci/nats-server) cargo test -p nats-source -- --include-ignored
//! ```

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use common::{Admin, Reader, Server, again, range, until};
use fanout::Source as _;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use nats_source::metrics::{BYTES, LAG, RECORDS, REPLAY_PASSES, REPLAYED};
use serde_json::json;

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

/// How many messages the server has not sent to the only consumer there is.
async fn kept(admin: &Admin) -> u64 {
    let consumers = admin.consumers("S").await;
    assert_eq!(consumers.len(), 1, "{consumers:?}");
    let told = admin.ask(&format!("CONSUMER.INFO.S.{}", consumers[0]), json!({})).await;
    told["num_pending"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a nats-server"]
async fn what_nobody_takes_is_not_read() {
    metrics::set_global_recorder(Counts).expect("the only recorder");
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    let records = || count(&format!("{RECORDS} topic=S"));

    // One message a batch, and so one a pull: three in the queue, and one that the reader
    // holds while it waits for room. It asks for the next one once that has room.
    let config = server.config().stream("S").max_batch(1).max_queued_batches(3);
    let mut reader = Reader::ready(config).await;
    assert_eq!((reader.events.len(), reader.passed("S")), (0, Some(1)), "the opening");
    admin.write_numbers("S", 0..1000).await;
    assert!(until(async || records() == 4).await, "{} were read", records());
    assert_eq!(kept(&admin).await, 996, "the server has the rest");

    // Every batch that is taken makes room for one more, and no more than one.
    for taken in 1..=50 {
        reader.read().await;
        assert_eq!(reader.events.len() as u64, taken);
        assert!(until(async || records() == taken + 4).await, "{} were read", records());
        assert_eq!(kept(&admin).await, 996 - taken);
    }
    reader.read_events(1000).await;
    reader.assert_numbers(0..1000);
    let digits: u64 = (0..1000_u64).map(|n| n.to_string().len() as u64).sum();
    assert_eq!((records(), count(&format!("{BYTES} topic=S"))), (1000, digits));

    // The lag was looked up, and is none in the end.
    let lag = format!("{LAG} topic=S partition=0");
    let none = async || f64::from_bits(count(&lag)) == 0.0;
    assert!(NUMBERS.lock().expect("numbers").contains_key(&lag) && until(none).await);

    // What nobody takes of a pass is not read either: three, and one in hand.
    let again_records = || count(&format!("{REPLAYED} topic=S"));
    let mut replay = reader.source.replay().expect("replay");
    let all = [range(&reader.lane("S"), 1, 1001)];
    replay.begin(all.to_vec()).await.expect("begun");
    for taken in 0..50 {
        assert!(until(async || again_records() == taken + 3).await, "{}", again_records());
        let batch = replay.next().await.expect("works").expect("goes on");
        assert_eq!(batch.events[0].offset, taken + 1);
    }
    assert!(until(async || again_records() == 53).await, "{} were read", again_records());
    let (events, _) = again(&mut replay, &all).await.expect("read again");
    assert_eq!((events.len(), again_records()), (1000, 1053));
    let passes = |result| count(&format!("{REPLAY_PASSES} result={result}"));
    assert!(until(async || passes("complete") == 1 && passes("given_up") == 1).await);
    assert_eq!((passes("expired"), passes("unavailable"), records()), (0, 0, 1000));
}
