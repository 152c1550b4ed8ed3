//! What a cursor says, and what one is told whose cursor says nothing.

use std::collections::BTreeSet;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_client_cut_between_two_emissions_of_one_event_gets_the_second() {
    let log = MemoryLog::new("t", 1);
    let node = Node::new(&log, MemoryStart::Latest, Limits::default()).await;
    let first = node.client(None, &[]).await;
    let cursor = welcomed(&first).await;
    say(&log, 0, &[("all", "a"), ("all", "b"), ("all", "c")]);
    gets(&first, &["a", "b", "c"]).await;
    let back = node.client(Some(&format!("{cursor},{}", at(&first, 0))), &[]).await;
    gets(&back, &["b", "c"]).await;
    let back = node.client(Some(&format!("{cursor},{}", at(&first, 1))), &[]).await;
    gets(&back, &["c"]).await;
    say(&log, 0, &[("all", "d")]);
    let back = node.client(Some(&format!("{cursor},{}", at(&first, 2))), &[]).await;
    gets(&back, &["d"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_another_node_has_sent_is_not_sent_again_by_one_that_lags() {
    let log = MemoryLog::new("t", 2);
    let fast = Node::new(&log, MemoryStart::Earliest, Limits::default()).await;
    let slow = Node::new(&log, MemoryStart::Earliest, Limits::default()).await;
    let first = fast.client(None, &[]).await;
    let cursor = welcomed(&first).await;
    say(&log, 0, &[("all", "0a")]);
    gets(&first, &["0a"]).await;
    // It has read up to the very event that the client has a part of.
    slow.reads_all(&log).await;
    slow.pause.pause();
    say(&log, 0, &[("all", "0b"), ("all", "0c")]);
    gets(&first, &["0a", "0b", "0c"]).await;
    // It has the first emission of the second event of lane 0, and nothing of lane 1.
    let back = slow.client(Some(&format!("{cursor},{}", at(&first, 1))), &[]).await;
    welcomed(&back).await;
    say(&log, 1, &[("all", "1a")]);
    say(&log, 0, &[("all", "0d")]);
    slow.pause.resume();
    back.until("all came", |peer| peer.count() == 3).await;
    let lane = |lane| bodies(&back).into_iter().filter(|b| b.starts_with(lane)).collect::<Vec<_>>();
    assert_eq!((lane("0"), lane("1")), (vec!["0c".into(), "0d".into()], vec!["1a".into()]));
    assert!(gaps(&back).is_empty());
}

#[tokio::test]
async fn a_cursor_beyond_the_source_s_end_is_a_reset() {
    let log = MemoryLog::new("t", 1);
    let node = Node::new(&log, MemoryStart::Earliest, Limits::default()).await;
    let lane = (*log.lanes()[0]).clone();
    let cursor = fanout::testing::Tokens::new(keys(), [lane.clone()]).seal([(lane, 50, 0)]);
    let back = node.client(Some(&cursor), &[]).await;
    // The source is asked before that is said: it may only be ahead of this node.
    a_gap(&back, "!gap reset all").await;
    assert_eq!(welcome(&back).1, "true");
    say(&log, 0, &[("all", "after")]);
    gets(&back, &["after"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_the_node_does_not_know_and_a_forged_cursor_are_resets() {
    let log = MemoryLog::new("t", 1);
    let node = Node::new(&log, MemoryStart::Earliest, Limits::default()).await;
    say(&log, 0, &[("all", "before")]);
    node.reads_all(&log).await;
    let other = fanout::Lane::new("elsewhere", "t", 0);
    let unknown = fanout::testing::Tokens::new(keys(), [other.clone()]).seal([(other, 1, 0)]);
    let mut forged = new_cursor(&node).await;
    let last = if forged.ends_with('A') { "B" } else { "A" };
    forged.replace_range(forged.len() - 3..forged.len() - 2, last);
    for cursor in [unknown.as_str(), &forged, "", "nonsense"] {
        let back = node.client(Some(cursor), &[]).await;
        a_gap(&back, "!gap reset all").await;
        assert_eq!(welcome(&back).1, "false", "{cursor}");
        assert!(back.lines()[1].starts_with("!gap"), "at once: {:?}", back.lines());
        assert_eq!(back.count(), 0, "what was before it is lost");
        back.hang_up();
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_position_reaches_only_those_who_are_there() {
    let log = MemoryLog::new("t", 1);
    let node = Node::new(&log, MemoryStart::Earliest, Limits::default()).await;
    let cursor = new_cursor(&node).await;
    let here = Emission::new(room("all"), "e", Json::of("now").unwrap());
    node.hub.publish(vec![here.clone()]).await.unwrap();
    say(&log, 0, &[("all", "1")]);
    node.reads_all(&log).await;
    let back = node.client(Some(&cursor), &[]).await;
    gets(&back, &["1"]).await;
    node.hub.publish(vec![here]).await.unwrap();
    gets(&back, &["1", "now"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_new_is_read_from_its_start() {
    for evicted in [false, true] {
        let log = MemoryLog::new("t", 1);
        let limits = if evicted { small(2000) } else { Limits::default() };
        let node = Node::new(&log, MemoryStart::Earliest, limits).await;
        let cursor = new_cursor(&node).await;
        log.add_partition();
        let written = numbered(&log, 1, 0..40);
        node.reads_all(&log).await;
        let back = node.client(Some(&cursor), &[]).await;
        gets(&back, &written).await;
        assert!(gaps(&back).is_empty());
    }
}

#[tokio::test]
async fn a_live_client_s_heartbeat_moves_on_with_events_that_are_for_others() {
    let log = MemoryLog::new("t", 1);
    let mut limits = Limits::default();
    limits.heartbeat = Duration::from_millis(100);
    let node = Node::new(&log, MemoryStart::Earliest, limits).await;
    let live = node.client(None, &[]).await;
    let before = welcomed(&live).await;
    say(&log, 0, &[("desk", "for others")]);
    node.reads_all(&log).await;
    let now = format!("!heartbeat {}\n", node.hub.cursor());
    live.until("its heartbeat tells", |peer| peer.lines().contains(&now)).await;
    assert!(!now.contains(&before) && live.count() == 0);
}

/// A shard used to begin where the log was when its task had its first turn, without saying
/// that it was there: whoever had published too much by then waited for it for ever.
#[tokio::test(start_paused = true)]
async fn what_is_published_before_a_shard_s_first_turn_holds_nobody_up() {
    let mut limits = Limits::default();
    limits.lag_bytes = 1;
    let hub = Hub::builder(access()).limits(limits).shards(2).build().unwrap();
    let publishing = async {
        for n in 0..3 {
            let emission = Emission::new(room("all"), "e", Json::of(&n).unwrap());
            hub.publish(vec![emission]).await.unwrap();
        }
    };
    let published = tokio::time::timeout(Duration::from_secs(10), publishing).await;
    assert!(published.is_ok(), "{:?}", hub.stats());
}

#[tokio::test(start_paused = true)]
async fn whole_cursors_in_frames_are_where_their_connection_stands() {
    let log = MemoryLog::new("t", 3);
    let node = Node::new(&log, MemoryStart::Earliest, small(2000)).await;
    let cursor = new_cursor(&node).await;
    let mut all = BTreeSet::new();
    for lane in 0..3 {
        all.extend(numbered(&log, lane, lane * 100..lane * 100 + 30));
    }
    node.reads_all(&log).await;
    // Cut after each frame, it goes on with the next: whatever lane that is of.
    let (mut cursor, mut got) = (cursor, BTreeSet::new());
    for _ in 0..all.len() {
        let (peer, sink) = MemorySink::returning(Some(cursor), Vec::new());
        node.hub.connect(&node.whole, guest(), sink).await.unwrap();
        peer.until("one comes", |peer| peer.count() >= 1).await;
        peer.hang_up();
        cursor = at(&peer, 0);
        let body = bodies(&peer)[0].clone();
        assert!(got.insert(body.clone()), "{body} came twice");
    }
    assert_eq!(got, all);
}
