//! Against a server that says what it is told to, good or bad.

use std::net::TcpListener;
use std::thread::JoinHandle;

use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use super::*;
use crate::message::Messages;

const ROOM: usize = 3;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Messages of a room, in order.
fn texts(room: usize, count: usize) -> Vec<String> {
    let mut messages = Messages::new(PAYLOAD, Rooms::One, 1).unwrap();
    let text = |_| messages.text(1).1.replace(message::ROOM, &message::room(room));
    (0..count).map(text).collect()
}

/// A swarm of one client, and a server that says `texts` to it and ends.
fn told(texts: Vec<String>, close: Option<u16>) -> (Swarm, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, all_in) = std::sync::mpsc::sync_channel(1);
    let server = std::thread::spawn(move || {
        let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
        let welcome =
            format!(r#"{{"event":"welcome","data":{{"rooms":["{}"]}}}}"#, message::room(ROOM));
        socket.send(Message::text(welcome)).unwrap();
        all_in.recv().unwrap();
        for text in texts {
            socket.send(Message::text(text)).unwrap();
        }
        if let Some(code) = close {
            let frame = CloseFrame { code: code.into(), reason: "".into() };
            socket.close(Some(frame)).unwrap();
        }
    });
    let swarm = Swarm::open(addr, ROOM, 1, None, soon()).unwrap();
    sender.send(()).unwrap();
    (swarm, server)
}

/// What comes of receiving `messages` of those texts.
fn received(texts: Vec<String>, close: Option<u16>, messages: u64) -> Result<(), SwarmError> {
    let (mut swarm, server) = told(texts, close);
    let received = swarm.receive(messages, soon());
    server.join().unwrap();
    received
}

#[test]
fn what_comes_once_and_in_order_is_good_and_is_measured() {
    let (mut swarm, server) = told(texts(ROOM, 5), None);
    swarm.record();
    swarm.receive(5, soon()).unwrap();
    let seen = swarm.recorded();
    assert_eq!(seen.latency.count, 5);
    assert!(seen.latency.max_ms > 0.0);
    swarm.finish(5, soon()).unwrap();
    server.join().unwrap();
}

#[test]
fn what_is_lost_or_doubled_is_found() {
    let all = texts(ROOM, 3);
    let lost = received([&all[..1], &all[2..]].concat(), None, 3);
    assert!(matches!(lost, Err(SwarmError::Order { expected: 1, got: 2, .. })), "{lost:?}");
    let twice = received([&all[..2], &all[1..]].concat(), None, 3);
    assert!(matches!(twice, Err(SwarmError::Order { expected: 2, got: 1, .. })), "{twice:?}");
    let less = received(all, None, 4);
    assert!(matches!(less, Err(SwarmError::Lost(0))), "{less:?}");
}

#[test]
fn what_is_for_others_or_was_cut_or_is_a_gap_is_found() {
    let gap = r#"{"event":"gap","data":{"reason":"overflow","rooms":[]}}"#.to_owned();
    let cut = texts(ROOM, 1)[0].replace("xx", "x");
    for text in [texts(ROOM + 1, 1).remove(0), cut, gap] {
        let wrong = received(vec![text.clone()], None, 1);
        assert!(matches!(wrong, Err(SwarmError::Told(0, _))), "{text}: {wrong:?}");
    }
}

#[test]
fn whoever_is_closed_says_so() {
    let closed = received(texts(ROOM, 1), Some(4001), 2);
    assert!(matches!(closed, Err(SwarmError::Closed(0, Some(4001)))), "{closed:?}");
}

#[test]
fn more_than_was_published_is_found_at_the_end() {
    let (mut swarm, server) = told(texts(ROOM, 2), None);
    swarm.receive(1, soon()).unwrap();
    let more = swarm.finish(1, soon());
    assert!(matches!(more, Err(SwarmError::Count { got: 2, expected: 1, .. })), "{more:?}");
    server.join().unwrap();
}
