//! The hub with its tasks, on a real runtime.

use std::time::Duration;

use fanout::testing::{
    Ask, Lines, MemoryPeer, MemorySink, SinkClient, SinkHarness, Tokens, sink_contract,
};
use fanout::{
    Access, Body, Close, ConnectError, Emission, Event, Hub, Identity, Json, Keyring, Lane, Limits,
    MemorySource, Pipeline, ProtocolRef, PublishError, RoleAccess, Room, RouteError,
};

fn access() -> Access {
    Access::new([RoleAccess::new("user").joins("user:{subject}").joins("all").may_join("game:*")])
        .unwrap()
}

fn hub(limits: Limits, shards: usize) -> (Hub, ProtocolRef) {
    let hub = Hub::builder(access()).limits(limits).shards(shards).keys(keys()).build().unwrap();
    let lines = hub.protocol(Lines);
    (hub, lines)
}

fn keys() -> Keyring {
    Keyring::new('k', &[7; 32]).unwrap()
}

async fn connect(hub: &Hub, lines: &ProtocolRef, subject: &str) -> MemoryPeer {
    let (peer, sink) = MemorySink::new();
    hub.connect(lines, Identity::new(subject, ["user"]), sink).await.unwrap();
    peer
}

fn to(room: &str, body: impl serde::Serialize) -> Emission {
    Emission::new(Room::new(room).unwrap(), "e", Json::of(&body).unwrap())
}

/// Takes a window of bytes beyond what was read, as a socket does.
struct Windowed {
    peer: MemoryPeer,
    read: usize,
}

const WINDOW: usize = 64 * 1024;

impl SinkClient for Windowed {
    async fn next(&mut self) -> Option<String> {
        let at = self.read;
        self.peer.until("an emission or the end", |p| p.count() > at || p.dropped()).await;
        let body = self.peer.body(at)?;
        self.read += 1;
        self.peer.allow(body.len() + 100);
        Some(body)
    }

    async fn hang_up(self) {
        self.peer.hang_up();
    }
}

#[derive(Default)]
struct InMemory(Option<(Hub, ProtocolRef)>);

impl SinkHarness for InMemory {
    type Client = Windowed;

    fn hub(&mut self, access: Access, limits: Limits) -> Hub {
        let hub = Hub::builder(access).limits(limits).shards(2).build().unwrap();
        self.0 = Some((hub.clone(), hub.protocol(Lines)));
        hub
    }

    async fn connect(&mut self, identity: Identity) -> Windowed {
        let (hub, lines) = self.0.as_ref().expect("a hub was made");
        let (peer, sink) = MemorySink::new();
        peer.stall();
        peer.allow(WINDOW);
        hub.connect(lines, identity, sink).await.unwrap();
        Windowed { peer, read: 0 }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_in_memory_keeps_the_contract() {
    sink_contract(InMemory::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_those_it_is_for_with_its_position() {
    let (hub, lines) = hub(Limits::default(), 2);
    let (ann, bob) = (connect(&hub, &lines, "ann").await, connect(&hub, &lines, "bob").await);
    let (topic, source) = MemorySource::new("orders");
    let router = |event: &Event, out: &mut Vec<Emission>| -> Result<(), RouteError> {
        let buyer: String = event.parse()?;
        out.push(Emission::new(Room::of("user", &buyer)?, "first", event.json()?));
        out.push(Emission::new(Room::of("user", &buyer)?, "second", event.json()?));
        Ok(())
    };
    let pipeline = Pipeline::new(source, router, hub.clone());
    let stop = pipeline.stopper();
    let running = tokio::spawn(pipeline.run());
    topic.send("ann").await.unwrap();
    topic.send(&42).await.unwrap(); // The router refuses it.
    topic.send("bob").await.unwrap();

    ann.until("both emissions came", |p| p.count() == 2).await;
    bob.until("both emissions came", |p| p.count() == 2).await;
    let lines = bob.lines();
    assert!(lines[0].starts_with("first|user:bob|\"bob\"|"), "{lines:?}");
    let tokens = Tokens::new(keys(), [Lane::clone(topic.lane())]);
    let position = |text: &str| {
        let places = tokens.open(text.trim_end().rsplit('|').next().unwrap()).unwrap();
        (places[0].1, places[0].2)
    };
    assert_eq!((position(&lines[0]), position(&lines[1])), ((2, 1), (3, 0)), "{lines:?}");
    // The record that was passed over is behind the cursor too.
    assert_eq!(position(hub.cursor().as_str()), (3, 0));
    stop.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_waits_for_a_shard_that_cannot_follow_and_loses_nothing() {
    let mut limits = Limits::default();
    (limits.lag_bytes, limits.log_bytes) = (10_000, 20_000);
    let (hub, lines) = hub(limits, 2);
    let peer = connect(&hub, &lines, "ann").await;
    for n in 0..2_000 {
        hub.publish(vec![to("all", n), to("game:7", n)]).await.unwrap();
        let stats = hub.stats();
        assert!(stats.lag_bytes <= 11_000 && stats.log.bytes <= 40_000, "{stats:?}");
    }
    peer.until("all came", |p| p.count() == 2_000).await;
    let expected: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    assert_eq!(peer.bodies(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_asked_for_is_there_from_then_on() {
    let (hub, lines) = hub(Limits::default(), 2);
    let peer = connect(&hub, &lines, "ann").await;
    // Her shard is past what came before once she has what came with it.
    hub.publish(vec![to("game:7", "before"), to("all", "with it")]).await.unwrap();
    peer.until("the shard is past it", |p| p.count() == 1).await;
    for room in ["game:7", "user:bob"] {
        peer.ask(Ask::Join(Room::new(room).unwrap()));
    }
    peer.until("both were answered", |p| p.lines().len() == 3).await;
    assert_eq!(peer.lines()[1..], ["!joined game:7\n", "!refused user:bob\n"]);
    hub.publish(vec![to("game:7", "after"), to("user:bob", "not mine")]).await.unwrap();
    peer.until("what came after", |p| p.count() == 2).await;
    assert_eq!(peer.bodies(), ["\"with it\"", "\"after\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_tells_everybody_and_lets_nobody_in() {
    let (hub, lines) = hub(Limits::default(), 2);
    let peers = [connect(&hub, &lines, "ann").await, connect(&hub, &lines, "bob").await];
    let within = Duration::from_secs(7);
    hub.publish(vec![to("all", "last")]).await.unwrap();
    hub.drain(within, Duration::from_secs(10)).await;
    for peer in &peers {
        assert_eq!(peer.closed(), Some(Close::Draining { within }));
        assert_eq!(peer.bodies(), ["\"last\""], "what was published before came before");
        assert!(peer.dropped());
    }
    let (_, sink) = MemorySink::new();
    let refused = hub.connect(&lines, Identity::new("c", ["user"]), sink).await;
    assert!(matches!(refused, Err(ConnectError::Draining)), "{refused:?}");
    let refused = hub.publish(vec![to("all", 1)]).await;
    assert!(matches!(refused, Err(PublishError::Closed)), "{refused:?}");
    assert_eq!(hub.stats().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_last_handle_is_dropped_connections_are_told() {
    let (hub, lines) = hub(Limits::default(), 2);
    let peer = connect(&hub, &lines, "ann").await;
    drop(hub);
    peer.until("it was let go", MemoryPeer::dropped).await;
    assert_eq!(peer.closed(), Some(Close::GoingAway));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_told() {
    let mut limits = Limits::default();
    (limits.connections, limits.emission_bytes, limits.rooms_per_connection) = (1, 100, 3);
    let (hub, lines) = hub(limits, 2);
    let peer = connect(&hub, &lines, "ann").await;
    let (_, sink) = MemorySink::new();
    let full = hub.connect(&lines, Identity::new("b", ["user"]), sink).await;
    assert!(matches!(full, Err(ConnectError::Full { max: 1 })), "{full:?}");
    let (_, sink) = MemorySink::new();
    let nobody = hub.connect(&lines, Identity::new("b", ["stranger"]), sink).await;
    assert!(matches!(nobody, Err(ConnectError::Access(_))), "{nobody:?}");

    for n in 0..2 {
        peer.ask(Ask::Join(Room::new(format!("game:{n}")).unwrap()));
    }
    peer.until("both were answered", |p| p.lines().len() == 2).await;
    assert_eq!(peer.lines(), ["!joined game:0\n", "!refused game:1\n"]);

    let large = hub.publish(vec![to("all", 1), to("all", "x".repeat(100))]).await.unwrap_err();
    assert_eq!(large.to_string(), "event `e`: a body of 102 bytes exceeds 100");
    let body = Body::PerView(vec![("nobody".into(), Json::of(&1).unwrap())]);
    let unseen = Emission::new(Room::new("all").unwrap(), "e", body);
    let unseen = hub.publish(vec![unseen]).await.unwrap_err();
    assert_eq!(unseen.to_string(), "event `e`: no role sees the view `nobody`");
    assert!(peer.bodies().is_empty(), "none of a refused batch is published");

    peer.hang_up();
    peer.until("it was let go", MemoryPeer::dropped).await;
    let again = async {
        loop {
            let (_, sink) = MemorySink::new();
            if hub.connect(&lines, Identity::new("b", ["user"]), sink).await.is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("its place is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_come_by_themselves() {
    let mut limits = Limits::default();
    limits.heartbeat = Duration::from_millis(100);
    let (hub, lines) = hub(limits, 1);
    let peer = connect(&hub, &lines, "ann").await;
    peer.until("two heartbeats", |p| p.lines().len() >= 2).await;
    assert!(peer.lines()[0].starts_with("!heartbeat "), "it carries the cursor");
}
