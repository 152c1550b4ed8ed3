//! A small server for tests: a thread a connection, and faults where they are asked for.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use tungstenite::handshake::server::{Request, Response};
use ws_sink::codec::encode;

/// What it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Plain,
    /// Says welcome to whoever shows the token `secret`.
    Native,
    /// Pings before it lets anybody in.
    SocketIo,
}

/// What it does to the messages of a room, which it counts from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Every so many are not sent.
    Drops(u64),
    /// Every so many are sent twice.
    Doubles(u64),
    /// Every so many are sent after the next one.
    Delays(u64),
    /// With this one everybody is sent away, with a code.
    Closes(u64, u16),
    /// All but the first half is left out.
    Cuts,
}

/// The server. Its threads end with their connections, or with the test.
pub(crate) struct Hub {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    speaks: Speaks,
    fault: Fault,
    rooms: Mutex<BTreeMap<String, Room>>,
    connections: AtomicUsize,
    delivered: AtomicU64,
}

#[derive(Default)]
struct Room {
    members: Vec<TcpStream>,
    messages: u64,
    delayed: Option<Vec<u8>>,
}

impl Hub {
    pub(crate) fn start(speaks: Speaks, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            speaks,
            fault,
            rooms: Mutex::default(),
            connections: AtomicUsize::new(0),
            delivered: AtomicU64::new(0),
        });
        let hub = Self { addr, shared: shared.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        hub
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections that are in a room.
    pub(crate) fn members(&self) -> usize {
        self.shared.rooms.lock().unwrap().values().map(|room| room.members.len()).sum()
    }

    /// Ends all connections.
    pub(crate) fn close_all(&self) {
        let rooms = self.shared.rooms.lock().unwrap();
        for member in rooms.values().flat_map(|room| &room.members) {
            // Who has gone need not be told.
            let _ = member.shutdown(Shutdown::Both);
        }
    }

    /// Messages that were written to somebody.
    pub(crate) fn delivered(&self) -> u64 {
        self.shared.delivered.load(Ordering::SeqCst)
    }

    /// Says something to all in a room.
    pub(crate) fn say(&self, room: &str, text: &str) {
        self.shared.publish(room, text);
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let (mut room, mut token, writer) = (None, None, stream.try_clone().unwrap());
        #[allow(clippy::result_large_err)] // The callback's type is tungstenite's.
        let accepted = tungstenite::accept_hdr(stream, |request: &Request, response: Response| {
            let query = request.uri().query().unwrap_or_default();
            room = query.split('&').find_map(|pair| pair.strip_prefix("room=")).map(str::to_owned);
            token = request.headers().get("authorization").cloned();
            Ok(response)
        });
        let Ok(mut socket) = accepted else { return };
        let room = room.unwrap_or_else(|| "all".to_owned());
        let send = |text: &str| drop((&writer).write_all(&frame(text)));
        match self.speaks {
            Speaks::Plain => {}
            Speaks::Native if token.is_some_and(|token| token == "Bearer secret") => {
                send(r#"{"event":"welcome","data":{}}"#);
            }
            Speaks::Native => {
                let _ = (&writer).write_all(&close(4500));
                return;
            }
            Speaks::SocketIo => {
                send(r#"0{"sid":"x","pingInterval":25000}"#);
                send("2");
            }
        }
        self.connections.fetch_add(1, Ordering::SeqCst);
        if self.speaks != Speaks::SocketIo {
            self.join(&room, &writer);
        }
        let mut ponged = false;
        while let Ok(message) = socket.read() {
            let Ok(text) = message.to_text() else { continue };
            match text {
                "3" => ponged = true,
                // Whoever does not answer the ping is not let in.
                "40" => {
                    self.join(&room, &writer);
                    send(r#"40{"sid":"y"}"#);
                }
                text => self.heard(text, ponged),
            }
        }
        self.connections.fetch_sub(1, Ordering::SeqCst);
    }

    fn join(&self, room: &str, writer: &TcpStream) {
        let mut rooms = self.rooms.lock().unwrap();
        let room = rooms.entry(room.to_owned()).or_default();
        room.members.push(writer.try_clone().unwrap());
    }

    fn heard(&self, text: &str, ponged: bool) {
        if let Some(event) = text.strip_prefix("42") {
            assert!(ponged, "an event before the ping was answered");
            let event: Vec<serde_json::Value> = serde_json::from_str(event).unwrap();
            assert_eq!(event[0], "publish");
            let room = event.get(2).map_or("all", |room| room.as_str().unwrap());
            self.publish(room, &format!(r#"42["message",{}]"#, event[1]));
            return;
        }
        let Ok(event) = serde_json::from_str::<serde_json::Value>(text) else { return };
        assert_eq!(event["event"], "publish");
        let room = event["room"].as_str().unwrap_or("all");
        let message = serde_json::json!({"event": "message", "room": room, "data": event["data"]});
        self.publish(room, &message.to_string());
    }

    fn publish(&self, room: &str, text: &str) {
        let mut rooms = self.rooms.lock().unwrap();
        let Some(room) = rooms.get_mut(room) else { return };
        room.messages += 1;
        let (n, message) = (room.messages, frame(text));
        let frames = match self.fault {
            Fault::Drops(every) if n.is_multiple_of(every) => vec![],
            Fault::Doubles(every) if n.is_multiple_of(every) => vec![message.clone(), message],
            Fault::Delays(every) if n.is_multiple_of(every) => {
                room.delayed = Some(message);
                vec![]
            }
            Fault::Closes(at, code) if n == at => vec![close(code)],
            Fault::Closes(at, _) if n > at => vec![],
            Fault::Cuts => vec![frame(&text[..text.len() / 2])],
            _ => [Some(message), room.delayed.take()].into_iter().flatten().collect(),
        };
        for mut member in &room.members {
            for frame in &frames {
                // Who has gone is told by its own thread.
                let _ = member.write_all(frame);
                self.delivered.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

fn frame(text: &str) -> Vec<u8> {
    let mut frame = BytesMut::new();
    encode::text(&mut frame, &[text.as_bytes()]);
    frame.to_vec()
}

fn close(code: u16) -> Vec<u8> {
    let mut frame = BytesMut::new();
    encode::close(&mut frame, Some((code, ""))).unwrap();
    frame.to_vec()
}
