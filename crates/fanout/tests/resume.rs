//! What a client that comes back is promised, one by one.

#[path = "resume/close.rs"]
mod close;

use std::collections::BTreeSet;
use std::time::Duration;

use fanout::testing::{
    Ask, CursorLines, Lines, MemoryLog, MemoryLogPause, MemoryPeer, MemorySink, MemoryStart,
};
use fanout::{
    Access, Emission, Event, Hub, HubBuilder, Identity, Json, Keyring, Limits, Overflow, Pipeline,
    Policy, ProtocolRef, RoleAccess, Room, RoomPattern, RouteError, SourceHealth,
};

fn keys() -> Keyring {
    Keyring::new('r', &[3; 32]).unwrap()
}

fn access() -> Access {
    let roles = [
        RoleAccess::new("clerk").joins("all").joins("desk").may_join("game:*").sees("clerk"),
        RoleAccess::new("guest").joins("all").may_join("game:*").sees("guest"),
    ];
    Access::new(roles).unwrap()
}

fn guest() -> Identity {
    Identity::new("gina", ["guest"])
}

fn clerk() -> Identity {
    Identity::new("gina", ["clerk"])
}

fn room(name: &str) -> Room {
    Room::new(name).unwrap()
}

/// The payload is the emissions: room, then body, then a key.
fn route(event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
    let said: Vec<(String, String, Option<String>)> = event.parse()?;
    for (to, body, key) in said {
        let (to, body) = (Room::new(&to)?, Json::of(&body)?);
        let mut emission = if &*event.lane.topic == "views" {
            let hidden = Json::of("hidden")?;
            Emission::new(to, "e", [("clerk", body), ("guest", hidden)])
        } else {
            Emission::new(to, "e", body)
        };
        if let Some(key) = key {
            emission = emission.with_key(key);
        }
        out.push(emission);
    }
    Ok(())
}

/// One node.
struct Node {
    hub: Hub,
    lines: ProtocolRef,
    whole: ProtocolRef,
    pause: MemoryLogPause,
}

impl Node {
    /// One that has read all there is.
    async fn new(log: &MemoryLog, start: MemoryStart, limits: Limits) -> Self {
        Self::of(log, start, Hub::builder(access()).limits(limits).shards(1)).await
    }

    async fn of(log: &MemoryLog, start: MemoryStart, builder: HubBuilder) -> Self {
        let hub = builder.keys(keys()).build().unwrap();
        let (lines, whole) = (hub.protocol(Lines), hub.protocol(CursorLines));
        let source = log.source(start);
        let pause = source.pause();
        let pipeline = Pipeline::new(source, route, hub.clone());
        let mut status = pipeline.status();
        tokio::spawn(pipeline.run());
        assert!(status.wait_for(SourceHealth::ready).await);
        Self { hub, lines, whole, pause }
    }

    async fn client(&self, cursor: Option<&str>, rooms: &[&str]) -> MemoryPeer {
        self.somebody(guest(), cursor, rooms, |_| {}).await
    }

    async fn somebody(
        &self,
        who: Identity,
        cursor: Option<&str>,
        rooms: &[&str],
        first: impl FnOnce(&MemoryPeer),
    ) -> MemoryPeer {
        let rooms = rooms.iter().map(|name| room(name)).collect();
        let (peer, sink) = MemorySink::returning(cursor.map(str::to_owned), rooms);
        first(&peer);
        self.hub.connect(&self.lines, who, sink).await.unwrap();
        peer
    }

    /// Waits until it has read all there is of a log.
    async fn reads_all(&self, log: &MemoryLog) {
        let all = ends(log);
        eventually("all is read", || self.hub.cursor().as_str() == all).await;
    }
}

/// The cursor of who has all there is of a log.
fn ends(log: &MemoryLog) -> String {
    let lanes: Vec<_> = log.lanes().iter().map(|lane| (**lane).clone()).collect();
    let tokens = fanout::testing::Tokens::new(keys(), lanes.clone());
    let end = |lane: fanout::Lane| (lane.clone(), log.bounds(lane.partition).end, 0);
    tokens.seal(lanes.into_iter().map(end).collect::<Vec<_>>())
}

/// A log's records are lists of emissions.
fn say(log: &MemoryLog, lane: u32, emissions: &[(&str, &str)]) -> u64 {
    let said: Vec<_> = emissions.iter().map(|(room, body)| (room, body, None::<&str>)).collect();
    log.write(lane, None, serde_json::to_vec(&said).unwrap())
}

fn numbered(log: &MemoryLog, lane: u32, numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|n| (n, say(log, lane, &[("all", &n.to_string())])).0.to_string()).collect()
}

fn small(bytes: u64) -> Limits {
    let mut limits = Limits::default();
    // A shard that has nobody for what is new follows only now and then, and what it has not
    // read is kept.
    (limits.log_bytes, limits.lag_bytes) = (bytes, bytes);
    limits
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), wait).await;
    assert!(in_time.is_ok(), "waited in vain until {what}");
}

fn bodies(peer: &MemoryPeer) -> Vec<String> {
    peer.bodies().iter().map(|body| body.trim_matches('"').to_owned()).collect()
}

fn gaps(peer: &MemoryPeer) -> Vec<String> {
    let lines = peer.lines().into_iter();
    lines.filter(|line| line.starts_with("!gap")).map(|line| line.trim_end().to_owned()).collect()
}

/// What a client was welcomed with: its cursor, and whether it goes on from what it had.
fn welcome(peer: &MemoryPeer) -> (String, String) {
    let lines = peer.lines();
    let welcome = lines.iter().find(|line| line.starts_with("!welcome")).expect("a welcome");
    let words: Vec<&str> = welcome.split_whitespace().collect();
    (words[1].to_owned(), words[2].to_owned())
}

/// The `at` of the `n`th emission.
fn at(peer: &MemoryPeer, n: usize) -> String {
    let lines = peer.lines();
    let line = lines.iter().filter(|line| !line.starts_with('!')).nth(n).expect("it came");
    line.trim_end().split('|').nth(3).expect("it has one").to_owned()
}

async fn gets(peer: &MemoryPeer, expected: &[impl AsRef<str>]) {
    let expected: Vec<String> = expected.iter().map(|body| body.as_ref().to_owned()).collect();
    peer.until(&format!("it has {expected:?}"), |peer| peer.count() >= expected.len()).await;
    assert_eq!(bodies(peer), expected);
}

async fn welcomed(peer: &MemoryPeer) -> String {
    peer.until("it is welcomed", |peer| peer.lines().iter().any(|line| line.ends_with('\n'))).await;
    welcome(peer).0
}

async fn new_cursor(node: &Node) -> String {
    let peer = node.client(None, &[]).await;
    let cursor = welcomed(&peer).await;
    peer.hang_up();
    cursor
}

async fn a_gap(peer: &MemoryPeer, expected: &str) {
    peer.until("a gap comes", |peer| !gaps(peer).is_empty()).await;
    assert_eq!(gaps(peer), [expected]);
}

/// A node whose log holds next to nothing, and which has read `numbers` since `cursor`.
async fn forgetful(numbers: u32) -> (MemoryLog, Node, String, Vec<String>) {
    let log = MemoryLog::new("t", 1);
    let node = Node::new(&log, MemoryStart::Earliest, small(2000)).await;
    let cursor = new_cursor(&node).await;
    let written = numbered(&log, 0, 0..numbers);
    node.reads_all(&log).await;
    (log, node, cursor, written)
}

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

#[tokio::test(start_paused = true)]
async fn rights_are_those_of_the_moment_it_comes_back() {
    for evicted in [false, true] {
        let log = MemoryLog::new("views", 1);
        let limits = if evicted { small(2000) } else { Limits::default() };
        let node = Node::new(&log, MemoryStart::Earliest, limits).await;
        let cursor = new_cursor(&node).await;
        for n in 0..50 {
            say(&log, 0, &[("all", &n.to_string()), ("desk", "for the desk")]);
        }
        node.reads_all(&log).await;
        let back = node.somebody(clerk(), Some(&cursor), &[], |_| {}).await;
        back.until("a clerk gets both", |peer| peer.count() == 100).await;
        assert_eq!(bodies(&back)[98..], ["49", "for the desk"]);
        // The same person, no longer a clerk.
        let back = node.client(Some(&cursor), &[]).await;
        gets(&back, &vec!["hidden"; 50]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_joined_while_waiting_for_a_replay_begins_at_that_moment() {
    let (log, node, cursor, written) = forgetful(100).await;
    log.set_replays(false);
    say(&log, 0, &[("game:1", "too old")]);
    node.reads_all(&log).await;
    let back = node.client(Some(&cursor), &[]).await;
    back.ask(Ask::Join(room("game:1")));
    back.until("it has joined", |p| p.lines().contains(&"!joined game:1\n".to_owned())).await;
    say(&log, 0, &[("game:1", "move")]);
    // So much that the log has lost the move as well.
    let later = numbered(&log, 0, 100..200);
    node.reads_all(&log).await;
    log.set_replays(true);
    gets(&back, &[written, vec!["move".into()], later].concat()).await;
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

#[tokio::test(start_paused = true)]
async fn a_room_begins_when_it_is_joined() {
    let log = MemoryLog::new("t", 1);
    let node = Node::new(&log, MemoryStart::Earliest, Limits::default()).await;
    let idle = node.client(None, &[]).await;
    let cursor = welcomed(&idle).await;
    // Nobody is there for it, so its shard need not have followed.
    say(&log, 0, &[("game:1", "old")]);
    node.reads_all(&log).await;
    idle.ask(Ask::Join(room("game:1")));
    idle.until("it has joined", |p| p.lines().contains(&"!joined game:1\n".to_owned())).await;
    let new = node.client(None, &["game:1"]).await;
    welcomed(&new).await;
    say(&log, 0, &[("game:1", "new")]);
    gets(&idle, &["new"]).await;
    gets(&new, &["new"]).await;
    // A room that comes with a cursor begins there.
    let back = node.client(Some(&cursor), &["game:1"]).await;
    gets(&back, &["old", "new"]).await;
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
