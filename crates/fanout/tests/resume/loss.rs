//! What is lost is told once, in its place; what is conflated is counted.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_loss_is_told_exactly_once_and_in_its_place() {
    let log = MemoryLog::new("t", 2);
    let node = Node::new(&log, MemoryStart::Earliest, Limits::default()).await;
    let cursor = new_cursor(&node).await;
    let live = node.client(None, &[]).await;
    let slow = node.client(None, &[]).await;
    let full = node.client(None, &[]).await;
    welcomed(&slow).await;
    welcomed(&full).await;
    // One has something pending when it comes to the loss, the other only half a frame.
    slow.stall();
    full.stall();
    full.allow(5);
    say(&log, 0, &[("all", "before")]);
    gets(&live, &["before"]).await;
    node.pause.pause();
    numbered(&log, 0, 0..10);
    log.expire(0, log.bounds(0).end);
    say(&log, 0, &[("all", "after")]);
    node.pause.resume();
    gets(&live, &["before", "after"]).await;
    for n in 0..3 {
        let body = format!("later {n}");
        say(&log, 1, &[("all", &body)]);
        live.until("it is there", |peer| peer.count() == 3 + n).await;
    }
    slow.flow();
    full.flow();
    let back = node.client(Some(&cursor), &[]).await;
    for peer in [&live, &slow, &full, &back] {
        gets(peer, &["before", "after", "later 0", "later 1", "later 2"]).await;
        let lines = peer.lines();
        let at = |what: &str| lines.iter().position(|line| line.contains(what)).unwrap();
        assert_eq!(gaps(peer), ["!gap expired all"], "{lines:?}");
        assert!(at("\"before\"") < at("!gap") && at("!gap") < at("\"after\""), "{lines:?}");
    }
}

/// A connection that had everything, and a full socket, used to be told twice: when its
/// shard came to the loss, and when it read on over it.
#[tokio::test(start_paused = true)]
async fn a_loss_is_told_once_where_the_gap_itself_does_not_fit() {
    let log = MemoryLog::new("t", 1);
    let node = Node::new(&log, MemoryStart::Earliest, Limits::default()).await;
    let live = node.client(None, &[]).await;
    let full = node.client(None, &[]).await;
    welcomed(&full).await;
    full.stall();
    full.allow(3);
    node.pause.pause();
    numbered(&log, 0, 0..10);
    log.expire(0, log.bounds(0).end);
    node.pause.resume();
    a_gap(&live, "!gap expired all").await;
    full.until("a part of the gap", |peer| peer.bytes().ends_with(b"\n!ga")).await;
    say(&log, 0, &[("all", "after")]);
    gets(&live, &["after"]).await;
    full.flow();
    gets(&full, &["after"]).await;
    assert_eq!(gaps(&full), ["!gap expired all"]);
}

#[tokio::test(start_paused = true)]
async fn skipped_counts_exactly_also_right_after_a_resume() {
    for evicted in [false, true] {
        let log = MemoryLog::new("t", 1);
        let limits = if evicted { small(2000) } else { Limits::default() };
        let conflate = Overflow::new(Policy::Conflate);
        let builder = Hub::builder(access())
            .limits(limits)
            .shards(1)
            .overflow(RoomPattern::new("game:*").unwrap(), conflate);
        let node = Node::of(&log, MemoryStart::Earliest, builder).await;
        let price = |key: &str, body: &str| {
            let said = [("game:1", body, Some(key))];
            log.write(0, None, serde_json::to_vec(&said).unwrap());
        };
        let first = node.client(None, &["game:1"]).await;
        let cursor = welcomed(&first).await;
        price("a", "a0");
        price("a", "a1");
        price("b", "b0");
        first.until("it has them", |peer| peer.count() == 3).await;
        let cursor = format!("{cursor},{}", at(&first, 2));
        for n in 0..4 {
            price("a", &format!("a{}", n + 2));
        }
        price("b", "b1");
        numbered(&log, 0, 0..if evicted { 50 } else { 1 });
        node.reads_all(&log).await;
        let back = node.client(Some(&cursor), &["game:1"]).await;
        back.until("it has the newest", |peer| peer.count() >= 3).await;
        let lines = back.lines();
        let skipped = |body: &str| {
            let line = lines.iter().find(|line| line.contains(body)).expect("it came");
            line.trim_end().split('|').nth(4).map(str::to_owned)
        };
        // What it had before is not among what this one stands for.
        assert_eq!(skipped("\"a5\"").as_deref(), Some("3"), "{lines:?}");
        assert_eq!(skipped("\"b1\""), None, "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("\"a4\"")), "{lines:?}");
    }
}

/// What a client had before it came to a node that lags was taken off its account when the next
/// of its key came, though it had never been put there: the account was zero, and what was next
/// of the key was passed over in silence.
#[tokio::test(start_paused = true)]
async fn what_stands_for_something_from_before_the_cursor_comes_on_a_node_that_lags() {
    let log = MemoryLog::new("t", 1);
    let builder = || {
        let conflate = Overflow::new(Policy::Conflate);
        Hub::builder(access()).shards(1).overflow(RoomPattern::new("game:*").unwrap(), conflate)
    };
    let fast = Node::of(&log, MemoryStart::Earliest, builder()).await;
    let slow = Node::of(&log, MemoryStart::Earliest, builder()).await;
    slow.pause.pause();
    let price = |body: &str| {
        log.write(0, None, serde_json::to_vec(&[("game:1", body, Some("key"))]).unwrap());
    };
    let first = fast.client(None, &["game:1"]).await;
    let cursor = welcomed(&first).await;
    price(&"large".repeat(20));
    first.until("it has it", |peer| peer.count() == 1).await;
    let cursor = format!("{cursor},{}", at(&first, 0));
    price("new");
    let back = slow.client(Some(&cursor), &["game:1"]).await;
    welcomed(&back).await;
    slow.pause.resume();
    gets(&back, &["new"]).await;
}
