//! How much memory is asked for, for each record: the hot path, counted and not timed.
//!
//! A binary of its own, because it counts for the whole process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{DEADLINE, Reader, broker, config, producer};
use kafka_source::Start;
use kafka_source::rdkafka::message::{Header, OwnedHeaders};
use kafka_source::rdkafka::producer::FutureRecord;

/// Counts what Rust asks for; librdkafka asks by itself.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: the system's allocator does all of it.
#[expect(unsafe_code, reason = "an allocator has no safe form")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised to this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as promised to this function.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised to this function.
        unsafe { System.realloc(memory, layout, size) }
    }
}

const RECORDS: usize = 20_000;

/// How often memory is asked for a record, in hundredths.
async fn asked(key: Option<&str>, headers: Option<OwnedHeaders>) -> usize {
    let broker = broker(1);
    let producer = producer(&broker);
    let mut written = Vec::new();
    for _ in 0..RECORDS {
        let mut record = FutureRecord::to("t").partition(0).payload("0123456789");
        record.key = key;
        record.headers.clone_from(&headers);
        loop {
            match producer.send_result(record) {
                Ok(delivery) => break written.push(delivery),
                Err((_, back)) => record = back,
            }
            tokio::task::yield_now().await;
        }
    }
    for delivery in written {
        tokio::time::timeout(DEADLINE, delivery).await.expect("in time").unwrap().unwrap();
    }
    drop(producer);
    let before = ASKED.load(Ordering::Relaxed);
    let mut reader = Reader::start(config(&broker).start(Start::Earliest));
    reader.events.reserve(RECORDS);
    reader.read_events(RECORDS).await;
    (ASKED.load(Ordering::Relaxed) - before) * 100 / RECORDS
}

#[tokio::test]
async fn for_a_record_memory_is_asked_for_once_or_twice() {
    // What goes with the start, each batch and each wait is within the tenth.
    let payload_only = asked(None, None).await;
    assert!((100..=110).contains(&payload_only), "{payload_only}: one, for the payload");
    let with_key = asked(Some("key"), None).await;
    assert!((200..=210).contains(&with_key), "{with_key}: one for both, and to count who has them");
    let header = |key| Header { key, value: Some("value") };
    let headers = OwnedHeaders::new().insert(header("a")).insert(header("b"));
    let with_headers = asked(Some("key"), Some(headers)).await;
    assert!(
        (500..=510).contains(&with_headers),
        "{with_headers}: also their list, and their names"
    );
}
