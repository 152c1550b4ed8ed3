//! What a client that comes back is promised, one by one.

#[path = "resume/close.rs"]
mod close;
#[path = "resume/cursor.rs"]
mod cursor;
#[path = "resume/loss.rs"]
mod loss;
#[path = "resume/replay.rs"]
mod replay;
#[path = "resume/rooms.rs"]
mod rooms;

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
