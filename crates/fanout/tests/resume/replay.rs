//! What the log has lost, and is read again from the source.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_the_log_has_lost_is_read_again_from_the_source() {
    let (log, node, cursor, written) = forgetful(200).await;
    let back = node.client(Some(&cursor), &[]).await;
    gets(&back, &written).await;
    assert_eq!(welcome(&back).1, "true");
    // Each once; the pass may end a little after the client has met the log.
    eventually("the pass is over", || log.read_again() == 200).await;
    assert_eq!(log.passes(), 1);
    let later = numbered(&log, 0, 200..210);
    gets(&back, &[written, later].concat()).await;
    assert!(gaps(&back).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_that_come_back_at_once_share_the_passes() {
    let (log, node, cursor, written) = forgetful(300).await;
    let mut all = Vec::new();
    for _ in 0..1000 {
        all.push(node.client(Some(&cursor), &[]).await);
    }
    for back in &all {
        gets(back, &written).await;
        assert!(gaps(back).is_empty());
    }
    assert!(log.read_again() <= 5 * 300, "{} records in {} passes", log.read_again(), log.passes());
}

#[tokio::test(start_paused = true)]
async fn what_the_source_has_deleted_is_a_gap_and_the_client_goes_on() {
    let (log, node, cursor, _) = forgetful(100).await;
    log.expire(0, 50);
    let back = node.client(Some(&cursor), &[]).await;
    a_gap(&back, "!gap expired all").await;
    say(&log, 0, &[("all", "after")]);
    gets(&back, &["after"]).await;
    assert_eq!(gaps(&back).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn more_than_may_be_read_again_is_a_gap() {
    let log = MemoryLog::new("t", 1);
    let mut limits = small(2000);
    limits.replay_records = 99;
    let node = Node::new(&log, MemoryStart::Earliest, limits).await;
    let cursor = new_cursor(&node).await;
    numbered(&log, 0, 0..1);
    node.reads_all(&log).await;
    let later = new_cursor(&node).await;
    let written = numbered(&log, 0, 1..100);
    node.reads_all(&log).await;
    let back = node.client(Some(&cursor), &[]).await;
    a_gap(&back, "!gap limit all").await;
    let back = node.client(Some(&later), &[]).await;
    gets(&back, &written).await;
    assert!(gaps(&back).is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_replay_what_the_log_has_lost_is_expired() {
    let (topic, source) = fanout::MemorySource::new("t");
    let hub = Hub::builder(access()).limits(small(2000)).keys(keys()).shards(1).build().unwrap();
    let lines = hub.protocol(Lines);
    tokio::spawn(Pipeline::new(source, route, hub.clone()).run());
    let before = hub.cursor();
    eventually("the lane is known", || hub.cursor() != before).await;
    let cursor = hub.cursor().to_string();
    for n in 0..100 {
        topic.send(&[("all", n.to_string(), None::<&str>)]).await.unwrap();
    }
    let last = |hub: &Hub| hub.stats().log.entries < 50;
    let end = fanout::testing::Tokens::new(keys(), [(**topic.lane()).clone()]).seal([(
        (**topic.lane()).clone(),
        100,
        0,
    )]);
    eventually("all is read", || hub.cursor().as_str() == end && last(&hub)).await;
    let (back, sink) = MemorySink::returning(Some(cursor), Vec::new());
    hub.connect(&lines, guest(), sink).await.unwrap();
    a_gap(&back, "!gap expired all").await;
}

#[tokio::test(start_paused = true)]
async fn while_the_source_is_away_it_waits() {
    let (log, node, cursor, written) = forgetful(100).await;
    log.set_replays(false);
    let back = node.client(Some(&cursor), &[]).await;
    welcomed(&back).await;
    // What is new does not overtake what is missing.
    let later = numbered(&log, 0, 100..105);
    node.reads_all(&log).await;
    assert_eq!((back.count(), gaps(&back).len()), (0, 0));
    log.set_replays(true);
    gets(&back, &[written, later].concat()).await;
}

#[tokio::test]
async fn where_the_source_is_away_for_too_long_is_a_gap() {
    let log = MemoryLog::new("t", 1);
    let mut limits = small(2000);
    (limits.replay_timeout, limits.heartbeat) =
        (Duration::from_millis(50), Duration::from_millis(100));
    let node = Node::new(&log, MemoryStart::Earliest, limits).await;
    let cursor = new_cursor(&node).await;
    numbered(&log, 0, 0..100);
    node.reads_all(&log).await;
    log.set_replays(false);
    let back = node.client(Some(&cursor), &[]).await;
    a_gap(&back, "!gap limit all").await;
    say(&log, 0, &[("all", "after")]);
    gets(&back, &["after"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_that_falls_off_a_replay_still_gets_everything() {
    let log = MemoryLog::new("t", 1);
    let mut limits = small(2000);
    (limits.replay_bytes, limits.replay_keep) = (40_000, Duration::ZERO);
    let node = Node::new(&log, MemoryStart::Earliest, limits).await;
    let cursor = new_cursor(&node).await;
    let written = numbered(&log, 0, 0..300);
    node.reads_all(&log).await;
    let slow = node.somebody(guest(), Some(&cursor), &[], MemoryPeer::stall).await;
    slow.allow(200);
    slow.until("it has begun", |peer| peer.count() >= 1).await;
    // Others, who need less, drive on what it reads.
    for _ in 0..3 {
        let other = node.client(Some(&cursor), &[]).await;
        gets(&other, &written).await;
        slow.allow(500);
        other.hang_up();
    }
    slow.flow();
    gets(&slow, &written).await;
    assert!(gaps(&slow).is_empty() && slow.closed().is_none());
}

/// What a pass reads used to drive itself out where one batch was more than may be kept:
/// whoever waited for it fell off, again and again, until it was closed for being slow.
#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_what_is_kept_of_replays_comes_through() {
    let log = MemoryLog::new("t", 1);
    let mut limits = small(2000);
    limits.replay_bytes = 4000;
    let node = Node::new(&log, MemoryStart::Earliest, limits).await;
    let cursor = new_cursor(&node).await;
    let written = numbered(&log, 0, 0..100);
    node.reads_all(&log).await;
    let back = node.client(Some(&cursor), &[]).await;
    gets(&back, &written).await;
    assert!(gaps(&back).is_empty() && back.closed().is_none());
}

/// A replay used to be given up after `replay_keep` though somebody was still reading it.
#[tokio::test(start_paused = true)]
async fn a_replay_is_kept_for_those_who_read_it() {
    let log = MemoryLog::new("t", 1);
    let mut limits = small(2000);
    limits.replay_keep = Duration::ZERO;
    let node = Node::new(&log, MemoryStart::Earliest, limits).await;
    let cursor = new_cursor(&node).await;
    let written = numbered(&log, 0, 0..50);
    node.reads_all(&log).await;
    let slow = node.somebody(guest(), Some(&cursor), &[], MemoryPeer::stall).await;
    slow.allow(200);
    for n in 1..8 {
        slow.until("a little comes", |peer| peer.count() >= n).await;
        // The clock is the test's: much longer than it is kept for others.
        tokio::time::sleep(Duration::from_secs(1)).await;
        slow.allow(60);
    }
    slow.flow();
    gets(&slow, &written).await;
    assert_eq!((gaps(&slow).len(), log.passes()), (0, 1));
}

/// A pass that had ended early used to be gone on with where the source had nothing any
/// more, which failed for as long as it was kept.
#[tokio::test(start_paused = true)]
async fn a_pass_that_ended_early_does_not_keep_others_from_what_there_is() {
    let (log, node, cursor, _) = forgetful(150).await;
    let later = new_cursor(&node).await;
    let written = numbered(&log, 0, 150..300);
    node.reads_all(&log).await;
    let first = node.somebody(guest(), Some(&cursor), &[], MemoryPeer::stall).await;
    while log.read_again() == 0 {
        tokio::task::yield_now().await;
    }
    log.set_replays(false);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(log.read_again() < 140, "it ended early");
    log.expire(0, 150);
    log.set_replays(true);
    let second = node.client(Some(&later), &[]).await;
    gets(&second, &written).await;
    assert!(gaps(&second).is_empty());
    first.flow();
    a_gap(&first, "!gap expired all").await;
}

#[tokio::test(start_paused = true)]
async fn live_clients_get_their_events_while_many_come_back() {
    let (log, node, cursor, written) = forgetful(300).await;
    let live = node.client(None, &[]).await;
    welcomed(&live).await;
    let mut back = Vec::new();
    let mut later = Vec::new();
    for n in 0..50 {
        back.push(node.client(Some(&cursor), &[]).await);
        later.extend(numbered(&log, 0, 300 + n..301 + n));
    }
    gets(&live, &later).await;
    for back in &back {
        gets(back, &[written.clone(), later.clone()].concat()).await;
    }
}
