//! The thread that reads again ends when nobody can ask it any more.
//!
//! A binary of its own, because it counts the threads of the whole process.
#![cfg(target_os = "linux")]

mod common;

use std::fs;

use common::{DEADLINE, Reader, broker, config, producer, range, write_numbers};
use fanout::Source as _;

/// How many threads of this name there are.
fn threads(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("threads").filter_map(Result::ok);
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|comm| comm.trim() == name).count()
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
async fn it_is_there_from_the_first_use_to_the_last() {
    let broker = broker(1);
    let producer = producer(&broker);
    let reader = Reader::ready(config(&broker).max_batch(1).max_queued_batches(1)).await;
    write_numbers(&producer, 0..100).await;
    let mut replay = reader.source.replay().expect("replay");
    assert_eq!((threads("kafka-reader"), threads("kafka-replay")), (1, 0), "nobody has asked");
    let lane = reader.lane("t", 0);
    for _ in 0..3 {
        replay.begin(vec![range(&lane, 0, 100)]).await.expect("begun");
        assert!(matches!(replay.next().await, Ok(Some(_))));
    }
    assert_eq!(threads("kafka-replay"), 1, "one for all passes");

    // Stuck with batches that nobody takes.
    drop(replay);
    assert!(until(|| threads("kafka-replay") == 0).await, "{}", threads("kafka-replay"));
    assert_eq!(threads("kafka-reader"), 1);

    // Idle.
    let mut replay = reader.source.replay().expect("replay");
    assert!(replay.bounds(&[lane]).await.is_ok());
    drop(reader);
    drop(replay);
    let left = || threads("kafka-replay") + threads("kafka-reader");
    assert!(until(|| left() == 0).await, "{} threads are left", left());
}
