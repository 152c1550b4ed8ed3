//! The contract of sinks.

use std::time::Duration;

use crate::hub::Hub;
use crate::json::Json;
use crate::limits::Limits;
use crate::overflow::Overflow;
use crate::role::{Access, Identity, RoleAccess};
use crate::room::Room;
use crate::router::Emission;

/// Connects clients to a hub through the sink under test.
pub trait SinkHarness {
    /// A client at the other end.
    type Client: SinkClient;

    /// A hub that can drive the sink.
    fn hub(&mut self, access: Access, limits: Limits) -> Hub;

    /// Connects a client to the last hub made.
    fn connect(&mut self, identity: Identity) -> impl Future<Output = Self::Client>;
}

/// The far end of a connection.
pub trait SinkClient {
    /// The data of the next emission; `None` once the connection has ended. What is
    /// not read stays where it is: the sink has to cope with it.
    fn next(&mut self) -> impl Future<Output = Option<String>>;

    /// Goes away.
    fn hang_up(self) -> impl Future<Output = ()>;
}

const DEADLINE: Duration = Duration::from_secs(20);

/// Checks what [`Sink`](crate::Sink) promises: everything in order, each emission whole and
/// once, to readers that read and to readers that stall for a while; views kept
/// apart; those that go noticed; those that stall for good closed without harm to
/// others.
///
/// # Panics
/// Where the sink does not keep the contract.
///
/// # Cancel safety
/// A test: not meant to be dropped half way.
pub async fn sink_contract(mut harness: impl SinkHarness) {
    in_order_to_all(&mut harness).await;
    stalled_reader_gets_all(&mut harness).await;
    views_are_kept_apart(&mut harness).await;
    too_slow_is_closed(&mut harness).await;
}

fn access() -> Access {
    let roles = [
        RoleAccess::new("clerk").joins("all").sees("clerk"),
        RoleAccess::new("guest").joins("all").sees("guest"),
    ];
    Access::new(roles).expect("a policy")
}

fn guest(name: &str) -> Identity {
    Identity::new(name, ["guest"])
}

fn numbered(n: usize, padding: usize) -> Emission {
    let body = Json::of(&(n, "x".repeat(padding))).expect("a value");
    Emission::new(Room::new("all").expect("a name"), "numbered", body)
}

fn number(data: &str) -> usize {
    let (n, _): (usize, String) = serde_json::from_str(data).expect("as it was sent");
    n
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(DEADLINE, future).await;
    result.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

async fn connections(hub: &Hub, n: usize) {
    within(&format!("{n} connections"), async {
        while hub.stats().connections != n {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn in_order_to_all(harness: &mut impl SinkHarness) {
    let hub = harness.hub(access(), Limits::default());
    let mut clients = Vec::new();
    for n in 0..5 {
        clients.push(harness.connect(guest(&n.to_string())).await);
    }
    connections(&hub, 5).await;
    for n in 0..50 {
        // One by one and in bursts: joined writes must not change what arrives.
        let burst = (0..=n % 7).map(|i| numbered(n * 10 + i, i * 100)).collect();
        hub.publish(burst).await.expect("published");
    }
    for client in &mut clients {
        for n in 0..50 {
            for i in 0..=n % 7 {
                let data = within("an emission", client.next()).await.expect("connected");
                assert_eq!(number(&data), n * 10 + i);
            }
        }
    }
    for client in clients {
        client.hang_up().await;
    }
    connections(&hub, 0).await;
}

async fn stalled_reader_gets_all(harness: &mut impl SinkHarness) {
    let mut limits = Limits::default();
    limits.overflow = Overflow::default().with_max_bytes(1 << 30);
    let hub = harness.hub(access(), limits);
    let (mut healthy, mut stalled) =
        (harness.connect(guest("a")).await, harness.connect(guest("b")).await);
    connections(&hub, 2).await;
    // More than any socket buffers, so that the second has to fall behind.
    let (count, padding) = (400, 40_000);
    for n in 0..count {
        hub.publish(vec![numbered(n, padding)]).await.expect("published");
        let data = within("the healthy reader", healthy.next()).await.expect("connected");
        assert_eq!(number(&data), n);
    }
    assert!(hub.stats().fell_behind > 0, "a reader that stalls falls behind");
    for n in 0..count {
        let data = within("the stalled reader", stalled.next()).await.expect("connected");
        assert_eq!(number(&data), n);
    }
    healthy.hang_up().await;
    stalled.hang_up().await;
}

async fn views_are_kept_apart(harness: &mut impl SinkHarness) {
    let hub = harness.hub(access(), Limits::default());
    let mut clerk = harness.connect(Identity::new("c", ["clerk"])).await;
    let mut visitor = harness.connect(guest("g")).await;
    connections(&hub, 2).await;
    let json = |text: &'static str| Json::parse(text.into()).expect("json");
    let room = || Room::new("all").expect("a name");
    let both = [("clerk", json("[1,\"secret\"]")), ("guest", json("[1,\"open\"]"))];
    let emissions = vec![
        Emission::new(room(), "a", both),
        Emission::new(room(), "b", [("clerk", json("[2,\"secret\"]"))]),
        Emission::new(room(), "c", json("[3,\"all\"]")),
    ];
    hub.publish(emissions).await.expect("published");
    for expected in ["[1,\"secret\"]", "[2,\"secret\"]", "[3,\"all\"]"] {
        assert_eq!(within("the clerk", clerk.next()).await.as_deref(), Some(expected));
    }
    for expected in ["[1,\"open\"]", "[3,\"all\"]"] {
        assert_eq!(within("the guest", visitor.next()).await.as_deref(), Some(expected));
    }
    clerk.hang_up().await;
    visitor.hang_up().await;
}

async fn too_slow_is_closed(harness: &mut impl SinkHarness) {
    let mut limits = Limits::default();
    limits.overflow =
        Overflow::default().with_max_bytes(100_000).with_grace(Duration::from_millis(1));
    limits.close_timeout = Duration::from_millis(200);
    let hub = harness.hub(access(), limits);
    let mut healthy = harness.connect(guest("a")).await;
    let mut stalled = harness.connect(guest("b")).await;
    connections(&hub, 2).await;
    let mut n = 0;
    // Until the sockets are full and the limit is passed, however much they buffer.
    within("the stalled one is closed", async {
        while hub.stats().connections == 2 {
            hub.publish(vec![numbered(n, 40_000)]).await.expect("published");
            let data = healthy.next().await.expect("connected");
            assert_eq!(number(&data), n);
            n += 1;
        }
    })
    .await;
    // What it had been sent before is whole and in order, then comes the end.
    let mut expected = 0;
    while let Some(data) = within("the stalled reader", stalled.next()).await {
        assert_eq!(number(&data), expected);
        expected += 1;
    }
    assert!(expected < n, "it was closed before it had everything");
    healthy.hang_up().await;
}
