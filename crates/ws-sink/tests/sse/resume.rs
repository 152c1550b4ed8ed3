//! Coming back with `Last-Event-ID`: exactly what was missed, then what is live.

use std::time::Duration;

use fanout::testing::{MemoryLog, MemoryStart};
use fanout::{Emission, Event, Hub, Limits, Pipeline, Room, RouteError};
use serde_json::json;
use ws_sink::{Sockets, Sse};

use crate::client::{Message, Response, Server, bearer, listen, tokens};
use crate::common::{access, within};

const PARTITIONS: u32 = 3;

/// Each event is two emissions for those in both rooms.
fn router(event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
    out.push(Emission::new(Room::new("user:ann")?, "one", event.json()?));
    out.push(Emission::new(Room::new("game:1")?, "two", event.json()?));
    Ok(())
}

/// A node that reads `log` from now on.
async fn node(log: &MemoryLog, limits: Limits) -> Server {
    let keys = fanout::Keyring::new('k', &[7; 32]).unwrap();
    let builder = Hub::builder(access()).limits(limits).shards(2).readiness(Sockets::new);
    let hub = builder.keys(keys).build().unwrap();
    let source = log.source(MemoryStart::Latest);
    tokio::spawn(Pipeline::new(source, router, hub.clone()).run());
    let sse = Sse::new(&hub, tokens());
    let server = listen(hub, sse).await;
    // Its cursor names all lanes once they were told.
    let mut probe = None;
    within("the source", async {
        while probe != Some(server.hub.cursor().as_str().len()) {
            probe = Some(server.hub.cursor().as_str().len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    server
}

async fn come(server: &Server, id: Option<&str>, query: &str) -> (Response, Message) {
    let path = format!("/events?room=game:1{query}");
    let bearer = bearer("ann", "user");
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(id.map(|id| ("last-event-id", id)));
    server.open(&path, &headers).await
}

/// Which event, and which of its two.
fn what(message: &Message) -> (u64, String) {
    let n = message.json()["data"].as_u64().unwrap_or_else(|| panic!("no emission: {message:?}"));
    (n, message.name.clone())
}

async fn take(stream: &mut Response) -> Message {
    loop {
        let message = stream.next().await;
        if message.name != "heartbeat" {
            return message;
        }
    }
}

/// Each emission once, those of a lane in their order.
fn check(seen: &[(u64, String)], events: u64) {
    for lane in 0..u64::from(PARTITIONS) {
        let of_lane: Vec<_> =
            seen.iter().filter(|(n, _)| n % u64::from(PARTITIONS) == lane).cloned().collect();
        let expected: Vec<_> = (0..events)
            .filter(|n| n % u64::from(PARTITIONS) == lane)
            .flat_map(|n| [(n, "one".to_owned()), (n, "two".to_owned())])
            .collect();
        assert_eq!(of_lane, expected);
    }
}

fn write(log: &MemoryLog, events: std::ops::Range<u64>) {
    for n in events {
        log.write((n % u64::from(PARTITIONS)) as u32, None, n.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_emissions_of_one_event() {
    let log = MemoryLog::new("orders", PARTITIONS);
    let server = node(&log, Limits::default()).await;
    let (mut stream, welcome) = come(&server, None, "").await;
    assert_eq!(welcome.json()["data"]["recovered"], json!(null));
    write(&log, 0..1);
    let one = take(&mut stream).await;
    assert_eq!(what(&one), (0, "one".to_owned()));
    drop(stream);
    server.connections(0).await;
    write(&log, 1..2);
    let (mut stream, welcome) = come(&server, Some(&one.id), "").await;
    assert_eq!(welcome.json()["data"]["recovered"], true);
    for expected in [(0, "two"), (1, "one"), (1, "two")] {
        let (n, name) = what(&take(&mut stream).await);
        assert_eq!((n, &*name), expected);
    }
    write(&log, 2..3);
    assert_eq!(what(&take(&mut stream).await), (2, "one".to_owned()), "and goes on live");
}

/// Comes back after each single event, in the middle of catching up, while more is
/// written, until it has all: now to one node, now to another.
async fn cut_after_each(log: &MemoryLog, id: String, nodes: [&Server; 2], events: u64) {
    let (mut id, mut seen) = (id, Vec::new());
    for (n, server) in (0..2 * events).zip(nodes.iter().cycle()) {
        let (mut stream, welcome) = come(server, Some(&id), "").await;
        assert_eq!(welcome.json()["data"]["recovered"], true);
        if n == events / 2 {
            write(log, events / 2..events);
        }
        let message = take(&mut stream).await;
        seen.push(what(&message));
        assert_ne!(message.id, id, "each has a cursor of its own");
        id = message.id;
    }
    check(&seen, events);
    // There is nothing left: the next is what is written next.
    let (mut stream, _) = come(nodes[0], Some(&id), "").await;
    write(log, events..events + 1);
    assert_eq!(what(&take(&mut stream).await), (events, "one".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_after_each_event_nothing_is_lost_and_nothing_comes_twice() {
    let log = MemoryLog::new("orders", PARTITIONS).with_holes(7);
    let (one, other) = (node(&log, Limits::default()).await, node(&log, Limits::default()).await);
    let (_, welcome) = come(&one, None, "").await;
    write(&log, 0..10);
    cut_after_each(&log, welcome.id, [&one, &other], 20).await;
    assert_eq!(log.passes(), 0);
}

/// These nodes began later: it comes from the source, read again.
#[tokio::test(flavor = "multi_thread")]
async fn cut_after_each_event_of_a_replay() {
    let log = MemoryLog::new("orders", PARTITIONS).with_holes(7);
    let before = node(&log, Limits::default()).await;
    let (_, welcome) = come(&before, None, "").await;
    write(&log, 0..10);
    let mut limits = Limits::default();
    limits.replay_keep = Duration::from_millis(1);
    let (one, other) = (node(&log, limits.clone()).await, node(&log, limits).await);
    cut_after_each(&log, welcome.id, [&one, &other], 20).await;
    assert!(log.passes() > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_in_the_middle_of_much_loses_nothing() {
    let log = MemoryLog::new("orders", PARTITIONS);
    let mut limits = Limits::default();
    limits.catch_up_bytes = 2_000;
    let server = node(&log, limits).await;
    let (stream, welcome) = come(&server, None, "").await;
    drop(stream);
    let events = 300;
    write(&log, 0..events);
    let (mut id, mut seen, mut round) = (welcome.id, Vec::new(), 0);
    while seen.len() < 2 * events as usize {
        let (mut stream, _) = come(&server, Some(&id), "").await;
        round += 1;
        // As many as were there, and what was half there is as if it had not come.
        for _ in 0..round * 7 {
            if seen.len() == 2 * events as usize {
                break;
            }
            let message = take(&mut stream).await;
            seen.push(what(&message));
            id = message.id;
        }
    }
    check(&seen, events);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_id_goes_before_the_address() {
    let log = MemoryLog::new("orders", PARTITIONS);
    let server = node(&log, Limits::default()).await;
    let (mut stream, first) = come(&server, None, "").await;
    write(&log, 0..1);
    let (_, later) = (take(&mut stream).await, take(&mut stream).await);
    write(&log, 1..2);
    take(&mut stream).await;
    let address = format!("&cursor={}", first.id);
    // An `EventSource` comes back to the address that it was made with.
    let (mut back, _) = come(&server, Some(&later.id), &address).await;
    assert_eq!(what(&take(&mut back).await), (1, "one".to_owned()));
    let (mut anew, _) = come(&server, None, &address).await;
    assert_eq!(what(&take(&mut anew).await), (0, "one".to_owned()));
    let (mut empty, welcome) = come(&server, Some(""), &address).await;
    assert_eq!(welcome.json()["data"]["recovered"], true);
    assert_eq!(what(&take(&mut empty).await), (0, "one".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_none_is_a_gap_with_a_cursor_to_go_on_from() {
    let log = MemoryLog::new("orders", PARTITIONS);
    let server = node(&log, Limits::default()).await;
    let long = "x".repeat(20_000);
    let forged = format!("{}A", server.hub.cursor());
    for id in ["7", "0abcdef.7-0", "k", "ü", &long, &forged] {
        let (mut stream, welcome) = come(&server, Some(id), "").await;
        assert_eq!(welcome.json()["data"]["recovered"], false, "{id}");
        let gap = stream.next().await;
        assert_eq!(gap.name, "gap");
        let data = json!({"reason": "reset", "rooms": ["user:ann", "game:1"]});
        assert_eq!(gap.json(), json!({"event": "gap", "data": data}));
        assert_eq!(gap.id, server.hub.cursor().as_str());
    }
    let id = server.hub.cursor().to_string();
    let headers = [("authorization", &*bearer("ann", "user")), ("last-event-id", "7")];
    let mut stream = server.get("/events", &headers).await;
    let mut text = String::new();
    while !text.contains(&format!("event: gap\nid: {id}\n")) {
        text += &stream.some_text().await;
    }
    drop(stream);
    write(&log, 0..1);
    let (mut stream, _) = come(&server, Some(&id), "").await;
    assert_eq!(what(&take(&mut stream).await), (0, "one".to_owned()));
}
