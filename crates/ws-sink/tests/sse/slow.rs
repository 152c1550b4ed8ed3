//! A client that does not read for a while.

use std::time::Duration;

use fanout::{Emission, Hub, Json, Limits, Overflow, Policy, Room, RoomPattern};
use serde_json::{Value, json};
use ws_sink::{Sockets, Sse, SseConfig};

use crate::client::{Message, listen, serve, tokens};
use crate::common::{access, within};

const KEYS: usize = 10;
const MAX_BYTES: u64 = 100_000;

/// More than the kernel takes, less than the log keeps.
const MESSAGES: usize = 1_500;
const PAD: usize = 10_000;

fn to(room: &str, n: usize) -> Emission {
    let body = Json::of(&json!({"n": n, "pad": "x".repeat(PAD)})).unwrap();
    let emission = Emission::new(Room::new(room).unwrap(), "e", body);
    if room == "game:state" { emission.with_key(vec![(n % KEYS) as u8]) } else { emission }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_read_delays_nobody_and_is_told() {
    let mut limits = Limits::default();
    limits.overflow = Overflow::default().with_max_bytes(MAX_BYTES).with_grace(Duration::ZERO);
    // It begins to read again within it.
    limits.close_timeout = Duration::from_secs(60);
    let server = serve(access(), limits, SseConfig::default()).await;
    let (mut reads, _) = server.open("/events", &[auth()]).await;
    let (mut stalls, _) = server.open("/events?room=game:alone", &[auth()]).await;
    let mut n = 0;
    // Until it was put out of its rooms, the one that only it is in among them.
    within("the overflow", async {
        while server.hub.stats().rooms == 2 {
            server.hub.publish(vec![to("user:ann", n)]).await.unwrap();
            assert_eq!(number(&reads.next().await), n, "one that reads gets all at once");
            n += 1;
        }
    })
    .await;
    let mut expected = 0;
    let close = loop {
        let message = stalls.next().await;
        if message.name == "close" {
            break message;
        }
        assert_eq!(number(&message), expected);
        expected += 1;
    };
    assert!(expected < n, "it was closed before it had all");
    assert_eq!(close.json(), json!({"code": 4001, "name": "slow", "afterMs": 2000}));
    assert_eq!(stalls.retry, Some(2000));
    assert_eq!(stalls.try_next().await, None);
    server.connections(1).await;
}

fn auth() -> (&'static str, &'static str) {
    static BEARER: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| crate::client::bearer("ann", "user"));
    ("authorization", &BEARER)
}

fn number(message: &Message) -> usize {
    message.json()["data"]["n"].as_u64().unwrap_or_else(|| panic!("{message:?}")) as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_missed_is_told_exactly() {
    let rule = |policy| Overflow::new(policy).with_max_bytes(MAX_BYTES);
    let hub = Hub::builder(access())
        .shards(2)
        .readiness(Sockets::new)
        .overflow(RoomPattern::new("game:drop").unwrap(), rule(Policy::DropOldest))
        .overflow(RoomPattern::new("game:state").unwrap(), rule(Policy::Conflate))
        .build()
        .unwrap();
    let sse = Sse::new(&hub, tokens());
    let server = listen(hub, sse).await;
    let (mut stream, _) = server.open("/events?room=game:drop&room=game:state", &[auth()]).await;
    for n in 0..MESSAGES {
        server.hub.publish(vec![to("game:drop", n), to("game:state", n)]).await.unwrap();
    }
    within("the overflow", async {
        while server.hub.stats().overflows == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let last = Emission::new(Room::new("user:ann").unwrap(), "last", Json::of(&0).unwrap());
    server.hub.publish(vec![last]).await.unwrap();
    let mut messages = Vec::new();
    loop {
        let message = stream.next().await;
        match &*message.name {
            "last" => break,
            "heartbeat" => {}
            _ => messages.push(message),
        }
    }
    let of = |room: &str| -> Vec<(Value, usize)> {
        let all = messages.iter().map(Message::json).filter(|object| object["room"] == room);
        all.map(|object| {
            let n = object["data"]["n"].as_u64().unwrap() as usize;
            (object, n)
        })
        .collect()
    };
    let gaps: Vec<Value> =
        messages.iter().filter(|m| m.name == "gap").map(|m| m.json()["data"].clone()).collect();
    assert!(!gaps.is_empty());
    for gap in &gaps {
        assert_eq!(*gap, json!({"reason": "overflow", "rooms": ["game:drop"]}));
    }
    let dropped: Vec<usize> = of("game:drop").into_iter().map(|(_, n)| n).collect();
    let holes = dropped.windows(2).filter(|two| two[0] + 1 != two[1]).count();
    assert!((1..=gaps.len()).contains(&holes), "a gap stands for each hole: {holes} {gaps:?}");
    assert_eq!((dropped[0], dropped.last()), (0, Some(&(MESSAGES - 1))));
    // Every one has come, or another stands for it.
    for key in 0..KEYS {
        let mut next = key;
        for (object, n) in of("game:state").into_iter().filter(|(_, n)| n % KEYS == key) {
            next += KEYS * object["skipped"].as_u64().unwrap_or(0) as usize;
            assert_eq!(n, next, "stands for those before");
            next += KEYS;
        }
        assert_eq!(next, MESSAGES + key, "the newest has come");
    }
}

/// Its connection was kept, with what it did not take, for as long as it liked.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_reads_again_is_cut_off() {
    let mut limits = Limits::default();
    limits.overflow = Overflow::default().with_max_bytes(MAX_BYTES).with_grace(Duration::ZERO);
    limits.close_timeout = Duration::from_millis(100);
    let server = serve(access(), limits, SseConfig::default()).await;
    let (mut stalls, _) = server.open("/events", &[auth(), ("connection", "close")]).await;
    let mut n = 0;
    within("the overflow", async {
        while server.hub.stats().connections > 0 {
            server.hub.publish(vec![to("user:ann", n)]).await.unwrap();
            n += 1;
        }
    })
    .await;
    // The server has closed it, though nothing was read.
    within("the end", stalls.cut_off()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_behind_a_comment_stands_for_the_heartbeat() {
    let mut limits = Limits::default();
    limits.overflow = Overflow::default().with_max_bytes(1 << 30);
    limits.heartbeat = Duration::from_millis(50);
    let server = serve(access(), limits, SseConfig::default()).await;
    let (mut stream, _) = server.open("/events", &[auth()]).await;
    let (mut sent, mut seen) = (0, 0);
    within("a comment", async {
        while stream.comments == 0 {
            server.hub.publish(vec![to("user:ann", sent)]).await.unwrap();
            sent += 1;
            // What the kernel has of it is never all that there is.
            if server.hub.stats().behind == 0 {
                continue;
            }
            let message = stream.next().await;
            if message.name == "e" {
                assert_eq!(number(&message), seen);
                seen += 1;
            }
        }
    })
    .await;
    while seen < sent {
        let message = stream.next().await;
        if message.name == "e" {
            assert_eq!(number(&message), seen);
            seen += 1;
        }
    }
    // Live again, it is told the cursor.
    while stream.next().await.name != "heartbeat" {}
}
