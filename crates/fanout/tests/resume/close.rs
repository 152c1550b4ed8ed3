//! A lane that is no more: who is there, who is on the way, who comes back.

use std::sync::Arc;

use bytes::Bytes;
use fanout::testing::Tokens;
use fanout::{EventBatch, Lane, Source, SourceError, SourceReporter, SourceStatus};
use tokio::sync::mpsc;

use super::*;

/// The partitions that a whole cursor names, of these lanes.
fn names(lanes: &[Arc<Lane>], cursor: &str) -> Vec<u32> {
    let tokens = Tokens::new(keys(), lanes.iter().map(|lane| (**lane).clone()));
    let places = tokens.open(cursor).expect("a cursor of these lanes");
    places.into_iter().map(|(lane, ..)| lane.partition).collect()
}

/// What comes with a body that begins so.
fn of(peer: &MemoryPeer, prefix: &str) -> Vec<String> {
    bodies(peer).into_iter().filter(|body| body.starts_with(prefix)).collect()
}

fn many(log: &MemoryLog, lane: u32, prefix: &str, count: u32) -> Vec<String> {
    let body = |n| format!("{prefix}{n}");
    let bodies: Vec<String> = (0..count).map(body).collect();
    for body in &bodies {
        say(log, lane, &[("all", body)]);
    }
    bodies
}

async fn closes(node: &Node, log: &MemoryLog) {
    let left = ends(log);
    eventually("the lane is closed", || node.hub.cursor().as_str() == left).await;
}

#[tokio::test]
async fn who_is_live_gets_the_last_of_a_lane_and_a_cursor_without_it() {
    let log = MemoryLog::new("t", 2);
    let mut limits = Limits::default();
    limits.heartbeat = Duration::from_millis(100);
    let node = Node::new(&log, MemoryStart::Earliest, limits).await;
    let (live, lanes) = (node.client(None, &[]).await, log.lanes());
    let before = welcomed(&live).await;
    assert_eq!(names(&lanes, &before), [0, 1]);
    say(&log, 0, &[("all", "0a")]);
    say(&log, 1, &[("all", "1a")]);
    live.until("both come", |peer| peer.count() == 2).await;
    // Its last event and its end are one batch.
    node.pause.pause();
    say(&log, 0, &[("all", "0b")]);
    log.close(0);
    node.pause.resume();
    live.until("the last comes", |peer| peer.count() == 3).await;
    closes(&node, &log).await;
    let now = format!("!heartbeat {}\n", node.hub.cursor());
    live.until("its heartbeat tells", |peer| peer.lines().contains(&now)).await;
    let cursor = node.hub.cursor().to_string();
    assert_eq!(names(&lanes, &cursor), [1]);
    // From there it comes back, though the log still has the lane.
    say(&log, 1, &[("all", "1b")]);
    let back = node.client(Some(&cursor), &[]).await;
    gets(&back, &["1b"]).await;
    assert_eq!((welcome(&back).1.as_str(), gaps(&back).len()), ("true", 0));
    live.until("it goes on", |peer| peer.count() == 4).await;
    assert!(gaps(&live).is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_was_away_over_a_close_is_told() {
    for evicted in [false, true] {
        let log = MemoryLog::new("t", 2);
        let limits = if evicted { small(2000) } else { Limits::default() };
        let node = Node::new(&log, MemoryStart::Earliest, limits).await;
        let live = node.client(None, &[]).await;
        welcomed(&live).await;
        say(&log, 0, &[("all", "0a")]);
        say(&log, 1, &[("all", "1a")]);
        live.until("both come", |peer| peer.count() == 2).await;
        node.reads_all(&log).await;
        let cursor = new_cursor(&node).await;
        let at_of_the_lane =
            (0..2).map(|n| at(&live, n)).zip(bodies(&live)).find(|(_, body)| body == "0a");
        log.close(0);
        closes(&node, &log).await;
        if evicted {
            many(&log, 1, "1", 50);
            node.reads_all(&log).await;
        }
        let now = new_cursor(&node).await;
        let at = at_of_the_lane.expect("it came").0;
        for cursor in [cursor, at.clone(), format!("{now},{at}")] {
            let back = node.client(Some(&cursor), &[]).await;
            a_gap(&back, "!gap reset all").await;
            assert_eq!((welcome(&back).1.as_str(), back.count()), ("false", 0));
            back.hang_up();
        }
        let back = node.client(Some(&now), &[]).await;
        say(&log, 1, &[("all", "after")]);
        gets(&back, &["after"]).await;
        assert!(gaps(&back).is_empty());
    }
}

/// Three that are behind when a lane is closed: one that was live, one that came back and
/// reads the log, and one that came back and has whole cursors.
#[tokio::test(start_paused = true)]
async fn who_is_behind_gets_all_of_a_lane_and_then_loses_it() {
    let log = MemoryLog::new("t", 2);
    let node = Node::new(&log, MemoryStart::Earliest, Limits::default()).await;
    let (lanes, live) = (log.lanes(), node.client(None, &[]).await);
    say(&log, 0, &[("all", "0-")]);
    say(&log, 1, &[("all", "1-")]);
    node.reads_all(&log).await;
    let cursor = new_cursor(&node).await;
    assert_eq!(names(&lanes, &cursor), [0, 1]);
    let slow = node.client(None, &[]).await;
    welcomed(&slow).await;
    slow.stall();
    let lane = many(&log, 0, "0", 100);
    node.reads_all(&log).await;
    let back = node.somebody(guest(), Some(&cursor), &[], MemoryPeer::stall).await;
    let (whole, sink) = MemorySink::returning(Some(cursor.clone()), Vec::new());
    whole.stall();
    node.hub.connect(&node.whole, guest(), sink).await.unwrap();
    for peer in [&back, &whole] {
        peer.allow(1000);
        peer.until("it has begun", |peer| peer.count() >= 2).await;
    }
    log.close(0);
    closes(&node, &log).await;
    let other = many(&log, 1, "1", 100);
    node.reads_all(&log).await;
    live.until("the live one has all", |peer| peer.count() == 202).await;
    assert!(slow.count() == 0 && back.count() < 100 && whole.count() < 100);
    for peer in [&slow, &back, &whole] {
        peer.flow();
        gets(peer, &[lane.clone(), other.clone()].concat()).await;
        assert!(gaps(peer).is_empty());
    }
    for (n, body) in bodies(&whole).iter().enumerate() {
        let named = names(&lanes, &at(&whole, n));
        assert_eq!(named, if body.starts_with('0') { vec![0, 1] } else { vec![1] }, "{body}");
    }
    // Each of these is where it stands: with it somebody goes on, or is told.
    let (before, after) = (at(&whole, 50), at(&whole, 150));
    let early = node.client(Some(&before), &[]).await;
    a_gap(&early, "!gap reset all").await;
    let late = node.client(Some(&after), &[]).await;
    gets(&late, &other[51..]).await;
    assert!(gaps(&late).is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_falls_off_the_log_before_it_has_a_closed_lane_is_told() {
    let log = MemoryLog::new("t", 2);
    let node = Node::new(&log, MemoryStart::Earliest, small(20_000)).await;
    let cursor = new_cursor(&node).await;
    many(&log, 0, "0", 30);
    node.reads_all(&log).await;
    let back = node.somebody(guest(), Some(&cursor), &[], MemoryPeer::stall).await;
    back.allow(300);
    back.until("it has begun", |peer| peer.count() >= 1).await;
    log.close(0);
    closes(&node, &log).await;
    many(&log, 1, "1", 300);
    node.reads_all(&log).await;
    eventually("the log has moved on", || node.hub.stats().log.entries < 200).await;
    back.flow();
    a_gap(&back, "!gap reset all").await;
    say(&log, 1, &[("all", "after")]);
    back.until("it goes on", |peer| bodies(peer).last().is_some_and(|b| b == "after")).await;
    assert_eq!(gaps(&back).len(), 1);
    assert_eq!(of(&back, "after").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_replay_of_a_lane_that_is_closed_is_told() {
    let log = MemoryLog::new("t", 2);
    let node = Node::new(&log, MemoryStart::Earliest, small(2000)).await;
    let cursor = new_cursor(&node).await;
    many(&log, 0, "0", 50);
    let other = many(&log, 1, "1", 50);
    node.reads_all(&log).await;
    log.set_replays(false);
    let waits = node.client(Some(&cursor), &[]).await;
    welcomed(&waits).await;
    assert_eq!((waits.count(), gaps(&waits).len()), (0, 0));
    log.close(0);
    a_gap(&waits, "!gap reset all").await;
    log.set_replays(true);
    say(&log, 1, &[("all", "after")]);
    gets(&waits, &["after"]).await;
    assert_eq!(gaps(&waits).len(), 1);
    // Of the lane that is left everything can be read again.
    let lane = (*log.lanes()[0]).clone();
    let begin = Tokens::new(keys(), [lane.clone()]).seal([(lane, 1, 0)]);
    let back = node.client(Some(&begin), &[]).await;
    let rest = [&other[1..], &["after".to_owned()]].concat();
    gets(&back, &rest).await;
    assert!(gaps(&back).is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_reads_a_replay_of_a_lane_that_is_closed_is_told() {
    let log = MemoryLog::new("t", 2);
    let node = Node::new(&log, MemoryStart::Earliest, small(2000)).await;
    let cursor = new_cursor(&node).await;
    let lane = many(&log, 0, "0", 100);
    node.reads_all(&log).await;
    let slow = node.somebody(guest(), Some(&cursor), &[], MemoryPeer::stall).await;
    slow.allow(300);
    slow.until("it has begun", |peer| peer.count() >= 2).await;
    let (whole, sink) = MemorySink::returning(Some(cursor.clone()), Vec::new());
    whole.stall();
    node.hub.connect(&node.whole, guest(), sink).await.unwrap();
    whole.allow(300);
    whole.until("it has begun", |peer| peer.count() >= 2).await;
    log.close(0);
    closes(&node, &log).await;
    for peer in [&slow, &whole] {
        peer.flow();
        a_gap(peer, "!gap reset all").await;
        assert!(peer.count() < 100);
    }
    say(&log, 1, &[("all", "after")]);
    for peer in [&slow, &whole] {
        peer.until("it goes on", |peer| bodies(peer).last().is_some_and(|b| b == "after")).await;
        let got = of(peer, "0");
        assert_eq!(got, lane[..got.len()], "in order, each once");
        assert_eq!(gaps(peer).len(), 1);
    }
}

/// What was read again is kept for a while, also of a lane that is closed then: whoever came
/// with a cursor of after that used to get it.
#[tokio::test(start_paused = true)]
async fn a_replay_that_is_kept_gives_nothing_of_a_lane_that_was_closed() {
    let log = MemoryLog::new("t", 2);
    let mut limits = small(2000);
    limits.replay_keep = Duration::from_secs(3600);
    let node = Node::new(&log, MemoryStart::Earliest, limits).await;
    let cursor = new_cursor(&node).await;
    let lane = many(&log, 0, "0", 50);
    let other = many(&log, 1, "1", 50);
    node.reads_all(&log).await;
    let first = node.client(Some(&cursor), &[]).await;
    first.until("all is read again", |peer| peer.count() == 100).await;
    assert_eq!((of(&first, "0"), log.passes()), (lane, 1));
    log.close(0);
    closes(&node, &log).await;
    many(&log, 1, "later ", 50);
    node.reads_all(&log).await;
    // A cursor of a node that has closed it before, and has read less of the other.
    let lane = (*log.lanes()[0]).clone();
    let without = Tokens::new(keys(), [lane.clone()]).seal([(lane, 10, 0)]);
    eventually("the log has forgotten it", || node.hub.stats().log.entries < 45).await;
    let back = node.client(Some(&without), &[]).await;
    back.until("all comes", |peer| peer.count() >= 90).await;
    assert_eq!((of(&back, "1"), of(&back, "0").len()), (other[10..].to_vec(), 0));
    assert_eq!((back.count(), gaps(&back).len()), (90, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_not_closed_yet_and_one_that_has() {
    let log = MemoryLog::new("t", 2);
    let first = Node::new(&log, MemoryStart::Earliest, Limits::default()).await;
    let late = Node::new(&log, MemoryStart::Latest, Limits::default()).await;
    let live = late.client(None, &[]).await;
    many(&log, 0, "0", 5);
    say(&log, 1, &[("all", "1a")]);
    first.reads_all(&log).await;
    late.reads_all(&log).await;
    let named = new_cursor(&late).await;
    late.pause.pause();
    log.close(0);
    closes(&first, &log).await;
    let without = new_cursor(&first).await;
    // From the one that has not to the one that has.
    let back = first.client(Some(&named), &[]).await;
    a_gap(&back, "!gap reset all").await;
    // And once both have, with what either has said since.
    late.pause.resume();
    closes(&late, &log).await;
    assert_eq!(new_cursor(&late).await, without);
    let back = late.client(Some(&without), &[]).await;
    welcomed(&back).await;
    say(&log, 1, &[("all", "after")]);
    gets(&back, &["after"]).await;
    assert_eq!((welcome(&back).1.as_str(), gaps(&back).len()), ("true", 0));
    live.until("it has all", |peer| peer.count() == 7).await;
    assert!(gaps(&live).is_empty());
}

/// A cursor that names nothing of a lane is from before its beginning, or from after its end.
/// Where it cannot be the latter, something is missing.
#[tokio::test(start_paused = true)]
async fn a_lane_that_came_and_went_meanwhile_is_a_gap() {
    let log = MemoryLog::new("t", 1);
    let node = Node::new(&log, MemoryStart::Earliest, Limits::default()).await;
    let cursor = new_cursor(&node).await;
    let new = log.add_partition();
    many(&log, 0, "0", 3);
    node.reads_all(&log).await;
    many(&log, new, "new", 3);
    node.reads_all(&log).await;
    log.close(new);
    closes(&node, &log).await;
    let back = node.client(Some(&cursor), &[]).await;
    a_gap(&back, "!gap reset all").await;
    // Where it held nothing, nothing is missing.
    let cursor = new_cursor(&node).await;
    let empty = log.add_partition();
    many(&log, 0, "0", 3);
    node.reads_all(&log).await;
    log.close(empty);
    closes(&node, &log).await;
    let back = node.client(Some(&cursor), &[]).await;
    back.until("all comes", |peer| peer.count() == 3).await;
    assert!(gaps(&back).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_of_a_lane_that_is_closed_is_told_once_and_in_its_place() {
    for events in [false, true] {
        let log = MemoryLog::new("t", 2);
        let node = Node::new(&log, MemoryStart::Earliest, Limits::default()).await;
        let cursor = new_cursor(&node).await;
        let (live, slow) = (node.client(None, &[]).await, node.client(None, &[]).await);
        welcomed(&slow).await;
        slow.stall();
        say(&log, 0, &[("all", "before")]);
        gets(&live, &["before"]).await;
        let back = node.somebody(guest(), Some(&cursor), &[], MemoryPeer::stall).await;
        node.pause.pause();
        many(&log, 0, "0", 10);
        if events {
            // What is left of it comes with its end.
            log.expire(0, log.bounds(0).end - 1);
            log.close(0);
        } else {
            log.delete(0);
        }
        node.pause.resume();
        a_gap(&live, "!gap expired all").await;
        closes(&node, &log).await;
        say(&log, 1, &[("all", "after")]);
        slow.flow();
        back.flow();
        let last = if events { vec!["before", "09", "after"] } else { vec!["before", "after"] };
        for peer in [&live, &slow, &back] {
            gets(peer, &last).await;
            let lines = peer.lines();
            let at = |what: &str| lines.iter().position(|line| line.contains(what)).unwrap();
            assert_eq!(gaps(peer), ["!gap expired all"], "{lines:?}");
            assert!(at("\"before\"") < at("!gap") && at("!gap") < at(last[1]), "{lines:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_closes_leave_a_cursor_as_it_was() {
    let log = MemoryLog::new("t", 2);
    let node = Node::new(&log, MemoryStart::Earliest, small(4000)).await;
    let live = node.client(None, &[]).await;
    // From here on its two partitions are of two logs.
    log.close(0);
    log.make_anew(0);
    say(&log, 1, &[("all", "other")]);
    node.reads_all(&log).await;
    let before = new_cursor(&node).await.len();
    let mut expected = 1;
    for n in 0..1000 {
        log.close(0);
        log.make_anew(0);
        say(&log, 0, &[("all", &n.to_string())]);
        expected += 1;
        if n % 100 == 0 {
            node.reads_all(&log).await;
        }
    }
    node.reads_all(&log).await;
    live.until("all comes", |peer| peer.count() == expected).await;
    let cursor = new_cursor(&node).await;
    assert_eq!((cursor.len(), node.hub.cursor().as_str().len()), (before, before));
    let back = node.client(Some(&cursor), &[]).await;
    say(&log, 0, &[("all", "after")]);
    gets(&back, &["after"]).await;
    assert!(gaps(&live).is_empty() && gaps(&back).is_empty());
}

/// A source that says what it is told to.
struct Told {
    batches: mpsc::Receiver<EventBatch>,
    status: SourceStatus,
    _reporter: SourceReporter,
}

impl Source for Told {
    async fn next(&mut self) -> Result<Option<EventBatch>, SourceError> {
        Ok(self.batches.recv().await)
    }

    fn status(&self) -> SourceStatus {
        self.status.clone()
    }
}

fn event(lane: &Arc<Lane>, offset: u64, body: &str) -> Event {
    let said = serde_json::to_vec(&[("all", body, None::<&str>)]).unwrap();
    Event::new(lane.clone(), offset, Bytes::from(said))
}

/// Somebody who has all that was read before a loss, and comes back when it is all that came of
/// the lane: it used to be told only where something of the lane came as well.
#[tokio::test(start_paused = true)]
async fn a_loss_with_which_nothing_comes_is_told_to_who_comes_back() {
    let (batches, told) = mpsc::channel(16);
    let (reporter, status) = SourceStatus::new();
    let source = Told { batches: told, status, _reporter: reporter };
    let hub = Hub::builder(access()).keys(keys()).shards(1).build().unwrap();
    let lines = hub.protocol(Lines);
    tokio::spawn(Pipeline::new(source, route, hub.clone()).run());
    let lanes = ["t", "u"].map(|topic| Arc::new(Lane::new("l", topic, 0)));
    let one = |lane: &Arc<Lane>, offset: u64| EventBatch {
        events: vec![event(lane, offset, "one")],
        ..EventBatch::default()
    };
    let connect = async |cursor: Option<String>| {
        let (peer, sink) = MemorySink::returning(cursor, Vec::new());
        hub.connect(&lines, guest(), sink).await.unwrap();
        peer
    };
    let live = connect(None).await;
    batches.try_send(one(&lanes[0], 0)).unwrap();
    batches.try_send(one(&lanes[1], 0)).unwrap();
    gets(&live, &["one", "one"]).await;
    let cursor = hub.cursor().to_string();
    let lost = vec![lanes[0].clone()];
    batches.try_send(EventBatch { lost, ..EventBatch::default() }).unwrap();
    a_gap(&live, "!gap expired all").await;
    batches.try_send(one(&lanes[1], 1)).unwrap();
    gets(&live, &["one", "one", "one"]).await;
    let back = connect(Some(cursor)).await;
    gets(&back, &["one"]).await;
    assert_eq!(gaps(&back), ["!gap expired all"]);
}

/// A source must not; but what it does is no harm to others.
#[tokio::test(start_paused = true)]
async fn a_lane_that_is_handed_on_again_is_another_of_the_same_name() {
    let (batches, told) = mpsc::channel(16);
    let (reporter, status) = SourceStatus::new();
    let source = Told { batches: told, status, _reporter: reporter };
    let hub = Hub::builder(access()).keys(keys()).shards(1).build().unwrap();
    let lines = hub.protocol(Lines);
    tokio::spawn(Pipeline::new(source, route, hub.clone()).run());
    let connect = async |cursor: Option<String>| {
        let (peer, sink) = MemorySink::returning(cursor, Vec::new());
        hub.connect(&lines, guest(), sink).await.unwrap();
        peer
    };
    let (lane, unknown) = (Arc::new(Lane::new("l", "t", 0)), Arc::new(Lane::new("l", "u", 0)));
    let batch = |from: u64, closed: &[&Arc<Lane>]| EventBatch {
        events: (from..from + 3).map(|n| event(&lane, n, &n.to_string())).collect(),
        closed: closed.iter().map(|lane| Arc::clone(lane)).collect(),
        ..EventBatch::default()
    };
    let live = connect(None).await;
    let begin = welcomed(&live).await;
    // A lane that is closed twice, and one that nobody knows.
    batches.try_send(batch(0, &[&lane, &lane, &unknown])).unwrap();
    gets(&live, &["0", "1", "2"]).await;
    eventually("it is closed", || hub.cursor().as_str() == begin).await;
    batches.try_send(EventBatch { closed: vec![lane.clone()], ..EventBatch::default() }).unwrap();
    batches.try_send(batch(3, &[])).unwrap();
    gets(&live, &["0", "1", "2", "3", "4", "5"]).await;
    assert_eq!(names(std::slice::from_ref(&lane), hub.cursor().as_str()), [0]);
    // What was sent of the lane as it was is a place in the lane as it is.
    let back = connect(Some(format!("{begin},{}", at(&live, 3)))).await;
    gets(&back, &["4", "5"]).await;
    batches.try_send(batch(6, &[&lane])).unwrap();
    gets(&back, &["4", "5", "6", "7", "8"]).await;
    eventually("it is closed again", || hub.cursor().as_str() == begin).await;
    assert!(gaps(&live).is_empty() && gaps(&back).is_empty());
}
