//! A client that does not read for a while, in rooms that drop and that conflate.

mod common;

use common::{SECRET, access, listen, within};
use fanout::{Emission, Hub, Json, Overflow, Policy, Room, RoomPattern};
use serde_json::{Value, json};
use std::time::Duration;
use ws_sink::auth::Hs256;
use ws_sink::{Sockets, Ws, WsConfig};

const KEYS: usize = 10;
const MESSAGES: usize = 4_000;
const MAX_BYTES: u64 = 100_000;

fn hub() -> Hub {
    let rule = |policy| Overflow::new(policy).with_max_bytes(MAX_BYTES);
    Hub::builder(access())
        .shards(2)
        .readiness(Sockets::new)
        .overflow(RoomPattern::new("game:drop").unwrap(), rule(Policy::DropOldest))
        .overflow(RoomPattern::new("game:state").unwrap(), rule(Policy::Conflate))
        .build()
        .unwrap()
}

fn to(room: &str, n: usize) -> Emission {
    let body = Json::of(&json!({"n": n, "pad": "x".repeat(1_000)})).unwrap();
    let emission = Emission::new(Room::new(room).unwrap(), "e", body);
    if room == "game:state" { emission.with_key(vec![(n % KEYS) as u8]) } else { emission }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_missed_is_told_exactly() {
    let hub = hub();
    let mut config = WsConfig::default();
    config.send_buffer = Some(4096);
    let ws = Ws::with_config(&hub, Hs256::new(SECRET).unwrap(), config);
    let server = listen(hub, ws).await;
    let (mut client, _) = server.connect("ann", "user").await;
    for room in ["game:drop", "game:state"] {
        client
            .send(json!({"event": "subscribe", "id": 1, "data": {"room": room}}).to_string())
            .await;
        assert_eq!(client.next().await["event"], "subscribed");
    }
    for n in 0..MESSAGES {
        server.hub.publish(vec![to("game:drop", n), to("game:state", n)]).await.unwrap();
    }
    within("the overflow", async {
        while server.hub.stats().overflows == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    server.hub.publish(vec![to("user:ann", 0)]).await.unwrap();

    let mut frames = Vec::new();
    loop {
        let frame = client.next().await;
        if frame["room"] == "user:ann" {
            break;
        }
        frames.push(frame);
    }
    let of = |room: &str| -> Vec<&Value> {
        frames.iter().filter(|frame| frame["room"] == room || frame["event"] == "gap").collect()
    };

    // Dropped: from the first without a hole to the gap, and from there to the last.
    let dropped = of("game:drop");
    let gap = dropped.iter().position(|frame| frame["event"] == "gap").expect("a gap");
    let expected = json!({"event": "gap", "data": {"reason": "overflow", "rooms": ["game:drop"]}});
    assert_eq!(*dropped[gap], expected);
    let number = |frame: &Value| frame["data"]["n"].as_u64().expect("a number") as usize;
    let before: Vec<usize> = dropped[..gap].iter().map(|frame| number(frame)).collect();
    let after: Vec<usize> = dropped[gap + 1..].iter().map(|frame| number(frame)).collect();
    assert_eq!(before, (0..before.len()).collect::<Vec<_>>());
    assert_eq!(after, (MESSAGES - after.len()..MESSAGES).collect::<Vec<_>>());
    // A sweep may have come before the last was published: more than the limit is left.
    let bytes = serde_json::to_string(dropped[0]).unwrap().len() + 4;
    assert!(after.len() as u64 >= MAX_BYTES / bytes as u64, "{} within the limit", after.len());
    assert!(before.len() + after.len() < MESSAGES);

    // Conflated: every one has come, or another stands for it.
    let state: Vec<&Value> =
        of("game:state").into_iter().filter(|frame| frame["event"] == "e").collect();
    for key in 0..KEYS {
        let mine = state.iter().filter(|frame| number(frame) % KEYS == key);
        let mut next = key;
        for frame in mine {
            next += KEYS * frame["skipped"].as_u64().unwrap_or(0) as usize;
            assert_eq!(number(frame), next, "stands for those before");
            next += KEYS;
        }
        assert_eq!(next, MESSAGES + key, "the newest has come");
    }
    assert!(state.iter().any(|frame| frame["skipped"].as_u64() > Some(100)));
    assert_eq!(server.hub.stats().conflated as usize, MESSAGES - state.len());
}
