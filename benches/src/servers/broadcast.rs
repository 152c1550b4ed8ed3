//! The usual server: a task a connection that waits for its room's broadcast channel and
//! for its socket, as tutorials have it.
//!
//! It is treated well: the text is made once and shared, and Nagle's algorithm is off,
//! which few tutorials think of. Buffers are axum's own, as nobody changes them.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use tokio::runtime::Runtime;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Asked, Server, name, serve_app};
use crate::clock;
use crate::control::MAX_BURST;
use crate::message::Messages;
use crate::run;

/// Fewest messages that a room of one holds.
const FEWEST: usize = 64;

/// The rooms, each with as many places as a burst may need.
#[derive(Clone)]
struct Rooms {
    by_name: Arc<Mutex<HashMap<String, broadcast::Sender<Utf8Bytes>>>>,
    places: usize,
}

impl Rooms {
    fn join(&self, name: String) -> broadcast::Receiver<Utf8Bytes> {
        let mut rooms = self.by_name.lock().expect("no panic under this lock");
        rooms.entry(name).or_insert_with(|| broadcast::Sender::new(self.places)).subscribe()
    }
}

struct Broadcast {
    /// Its tasks end with it.
    _runtime: Runtime,
    rooms: Rooms,
}

pub(super) fn start(
    listener: TcpListener,
    rooms: run::Rooms,
    clients: usize,
) -> io::Result<impl Server> {
    // Nobody lags: the next burst is published when all have the last one. Places are
    // paid for when a room is made, and of a burst a room of one gets its share.
    let places = match rooms {
        run::Rooms::One => MAX_BURST,
        run::Rooms::Each => (4 * MAX_BURST / clients.max(1)).clamp(FEWEST, MAX_BURST),
    };
    let rooms = Rooms { by_name: Arc::default(), places };
    let app = Router::new().route("/ws", get(upgrade)).with_state(rooms.clone());
    let runtime = serve_app(listener, app)?;
    Ok(Broadcast { _runtime: runtime, rooms })
}

async fn upgrade(
    upgrade: WebSocketUpgrade,
    Query(asked): Query<Asked>,
    State(rooms): State<Rooms>,
) -> Response {
    upgrade.on_upgrade(move |socket| client(socket, rooms.join(asked.room())))
}

async fn client(mut socket: WebSocket, mut room: broadcast::Receiver<Utf8Bytes>) {
    loop {
        tokio::select! {
            message = room.recv() => match message {
                Ok(text) => {
                    if socket.send(Message::Text(text)).await.is_err() {
                        return;
                    }
                }
                // The client finds out by the numbers.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            message = socket.recv() => match message {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

impl Server for Broadcast {
    fn clients(&self) -> usize {
        let rooms = self.rooms.by_name.lock().expect("no panic under this lock");
        rooms.values().map(broadcast::Sender::receiver_count).sum()
    }

    fn publish(&mut self, messages: &mut Messages, burst: usize) -> io::Result<()> {
        let now = clock::monotonic_ns();
        let rooms = self.rooms.by_name.lock().expect("no panic under this lock");
        for _ in 0..burst {
            let (room, text) = messages.text(now);
            let room = rooms.get(&*name(room)).ok_or_else(|| io::Error::other("an empty room"))?;
            room.send(text.into()).map_err(io::Error::other)?;
        }
        Ok(())
    }
}
