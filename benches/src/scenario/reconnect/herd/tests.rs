//! Against a server that says what it is told to, good or bad.

use std::net::TcpListener;
use std::thread::JoinHandle;

use tungstenite::Message;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::CloseFrame;

use super::*;
use crate::message::{AT_LEN, Messages};

const ROOM: usize = 3;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn at(n: usize) -> String {
    let at = format!("blaneee.{n:0>22}");
    assert_eq!(at.len(), AT_LEN);
    at
}

/// Messages of a room, in order.
fn texts(room: usize, count: usize) -> Vec<String> {
    let mut messages = Messages::new(PAYLOAD, Rooms::One, 1).unwrap();
    let text = |n| {
        let text = messages.text(1).1.replace(message::ROOM, &message::room(room));
        text.replace(r#","data""#, &format!(r#","at":"{}","data""#, at(n)))
    };
    (0..count).map(text).collect()
}

fn welcome(cursor: &str, recovered: &str) -> String {
    let room = message::room(ROOM);
    format!(
        r#"{{"event":"welcome","data":{{"rooms":["{room}"],"cursor":"{cursor}","recovered":{recovered}}}}}"#
    )
}

/// A server that says these to one connection after the other, each of which the client ends
/// but the last; hands back what was asked for, and the last connection where that `stays`.
fn server(
    visits: Vec<Vec<String>>,
    stays: bool,
) -> (SocketAddr, JoinHandle<(Vec<String>, impl Send)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let last = visits.len() - 1;
    let server = std::thread::spawn(move || {
        let (mut asked, mut open) = (Vec::new(), None);
        for (n, texts) in visits.into_iter().enumerate() {
            let stream = listener.accept().unwrap().0;
            #[allow(clippy::result_large_err)] // As tungstenite wants it.
            let request = |request: &Request, response: Response| {
                asked.push(request.uri().to_string());
                Ok(response)
            };
            let mut socket = tungstenite::accept_hdr(stream, request).unwrap();
            for text in texts {
                socket.send(Message::text(text)).unwrap();
            }
            if n < last {
                assert!(socket.read().is_err(), "the client goes without a word");
            }
            open = stays.then_some(socket);
        }
        (asked, open)
    });
    (addr, server)
}

/// What comes of coming back after two messages and being told this, up to `messages`.
fn told(texts: Vec<String>, messages: u64) -> Result<(), SwarmError> {
    let first = [vec![welcome("whole", "null")], self::texts(ROOM, 2)].concat();
    let (addr, server) = server(vec![first, texts], false);
    let mut herd = Herd::new([ROOM]).unwrap();
    herd.come(addr, Duration::ZERO);
    herd.receive(2, soon()).unwrap();
    herd.leave();
    herd.come(addr, Duration::ZERO);
    let received = herd.receive(messages, soon());
    drop(server.join().unwrap());
    received
}

fn back() -> String {
    welcome("whole", "true")
}

#[test]
fn whoever_comes_back_says_what_it_has_and_gets_the_rest() {
    let all = texts(ROOM, 6);
    let heartbeat = r#"{"event":"heartbeat","data":{"cursor":"newer"}}"#.to_owned();
    let visits = vec![
        [vec![welcome("whole", "null")], all[..2].to_vec()].concat(),
        [vec![back(), all[2].clone(), heartbeat], all[3..5].to_vec()].concat(),
        vec![back(), all[5].clone()],
    ];
    let (addr, server) = server(visits, true);
    let mut herd = Herd::new([ROOM]).unwrap();
    for messages in [2, 5, 6] {
        herd.leave();
        herd.record();
        herd.come(addr, Duration::ZERO);
        herd.receive(messages, soon()).unwrap();
        assert!(herd.recorded().count > 0);
        assert_eq!(herd.times().count, 1);
    }
    let (asked, open) = server.join().unwrap();
    drop(open);
    herd.finish(6, soon()).unwrap();
    let room = message::room(ROOM);
    let expected = [
        format!("/ws?room={room}"),
        format!("/ws?room={room}&cursor=whole,{}", at(1)),
        format!("/ws?room={room}&cursor=newer,{}", at(4)),
    ];
    assert_eq!(asked, expected);
}

#[test]
fn what_is_lost_or_doubled_while_it_was_away_is_found() {
    let all = texts(ROOM, 4);
    let lost = told(vec![back(), all[3].clone()], 4);
    assert!(matches!(lost, Err(SwarmError::Order { expected: 2, got: 3, .. })), "{lost:?}");
    let twice = told(vec![back(), all[1].clone()], 4);
    assert!(matches!(twice, Err(SwarmError::Order { expected: 2, got: 1, .. })), "{twice:?}");
    let less = told(vec![back(), all[2].clone()], 4);
    assert!(matches!(less, Err(SwarmError::Lost(0))), "{less:?}");
}

#[test]
fn a_gap_or_a_cursor_that_is_not_taken_is_found() {
    let gap = r#"{"event":"gap","data":{"reason":"limit","rooms":[]}}"#.to_owned();
    let gap = told(vec![back(), gap], 4);
    assert!(matches!(gap, Err(SwarmError::Told(0, _))), "{gap:?}");
    for recovered in ["false", "null"] {
        let refused = told(vec![welcome("other", recovered)], 4);
        assert!(matches!(refused, Err(SwarmError::Unwelcome(0, _))), "{refused:?}");
    }
    let others = told(vec![back(), texts(ROOM + 1, 3).remove(2)], 4);
    assert!(matches!(others, Err(SwarmError::Told(0, _))), "{others:?}");
}

#[test]
fn more_than_was_written_is_found_at_the_end() {
    let texts = [vec![welcome("whole", "null")], texts(ROOM, 2)].concat();
    let (addr, server) = server(vec![texts], true);
    let mut herd = Herd::new([ROOM]).unwrap();
    herd.come(addr, Duration::ZERO);
    herd.receive(1, soon()).unwrap();
    drop(server.join().unwrap());
    let more = herd.finish(1, soon());
    assert!(matches!(more, Err(SwarmError::Count { got: 2, expected: 1, .. })), "{more:?}");
}

#[test]
fn a_server_that_is_overloaded_is_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut busy, _) = listener.accept().unwrap();
        let mut asked = [0; 4096];
        assert!(busy.read(&mut asked).unwrap() > 0);
        busy.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap();
        let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
        socket.send(Message::text(welcome("whole", "null"))).unwrap();
        socket
    });
    let mut herd = Herd::new([ROOM]).unwrap();
    herd.come(addr, Duration::ZERO);
    herd.receive(0, soon()).unwrap();
    assert_eq!(herd.refused, 1);
    drop(server.join().unwrap());
}

#[test]
fn whoever_is_too_slow_comes_back_with_what_it_has() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
        socket.send(Message::text(welcome("whole", "null"))).unwrap();
        socket.send(Message::text(&*texts(ROOM, 2)[0])).unwrap();
        socket.close(Some(CloseFrame { code: SLOW.into(), reason: "".into() })).unwrap();
        let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
        socket.send(Message::text(back())).unwrap();
        socket.send(Message::text(&*texts(ROOM, 2)[1])).unwrap();
        socket
    });
    let mut herd = Herd::new([ROOM]).unwrap();
    herd.come(addr, Duration::ZERO);
    herd.receive(2, soon()).unwrap();
    assert_eq!(herd.slow, 1);
    drop(server.join().unwrap());
}
