//! A task a connection with a bounded channel of its own: `channel`, as one usually
//! writes it, with a send a message, and `batched`, as one writes it who knows what that
//! costs, with all messages that wait fed into one flush.
//!
//! Both are treated well. The text is made once and shared; Nagle's algorithm is off; and
//! the read buffer is 4 KiB, not the 128 KiB that tungstenite fills with zeros each time
//! it looks for a message. Without that last line they would need many times the memory
//! and the time, and would be no fair peers.
//!
//! A client whose channel is full is out of its room.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use futures::SinkExt;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{Asked, Server, name, serve_app};
use crate::clock;
use crate::control::MAX_BURST;
use crate::message::Messages;

/// Messages that may wait for one client: a whole burst.
const QUEUE: usize = MAX_BURST;
const READ_BUFFER: usize = 4 * 1024;

type Rooms = Arc<Mutex<HashMap<String, Vec<Sender<Utf8Bytes>>>>>;

struct Channels {
    /// Its tasks end with it.
    _runtime: Runtime,
    rooms: Rooms,
}

pub(super) fn start(listener: TcpListener, batched: bool) -> io::Result<impl Server> {
    let rooms = Rooms::default();
    let app = Router::new().route("/ws", get(upgrade)).with_state((rooms.clone(), batched));
    let runtime = serve_app(listener, app)?;
    Ok(Channels { _runtime: runtime, rooms })
}

async fn upgrade(
    upgrade: WebSocketUpgrade,
    Query(asked): Query<Asked>,
    State((rooms, batched)): State<(Rooms, bool)>,
) -> Response {
    upgrade.read_buffer_size(READ_BUFFER).on_upgrade(move |socket| {
        let (sender, queue) = mpsc::channel(QUEUE);
        let mut rooms = rooms.lock().expect("no panic under this lock");
        rooms.entry(asked.room()).or_default().push(sender);
        client(socket, queue, batched)
    })
}

/// Until the client has gone or is out of its room.
async fn client(mut socket: WebSocket, mut queue: Receiver<Utf8Bytes>, batched: bool) {
    loop {
        tokio::select! {
            first = queue.recv() => {
                let Some(first) = first else { return };
                let written = if batched {
                    write_all(&mut socket, first, &mut queue).await
                } else {
                    socket.send(Message::Text(first)).await
                };
                if written.is_err() {
                    return;
                }
            }
            message = socket.recv() => match message {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

/// All that waits, and then one flush.
async fn write_all(
    socket: &mut WebSocket,
    first: Utf8Bytes,
    queue: &mut Receiver<Utf8Bytes>,
) -> Result<(), axum::Error> {
    socket.feed(Message::Text(first)).await?;
    while let Ok(next) = queue.try_recv() {
        socket.feed(Message::Text(next)).await?;
    }
    socket.flush().await
}

impl Server for Channels {
    fn clients(&self) -> usize {
        let rooms = self.rooms.lock().expect("no panic under this lock");
        rooms.values().flatten().filter(|member| !member.is_closed()).count()
    }

    fn publish(&mut self, messages: &mut Messages, burst: usize) -> io::Result<()> {
        let now = clock::monotonic_ns();
        let mut rooms = self.rooms.lock().expect("no panic under this lock");
        for _ in 0..burst {
            let (room, text) = messages.text(now);
            let text = Utf8Bytes::from(text);
            if let Some(members) = rooms.get_mut(&*name(room)) {
                members.retain(|member| member.try_send(text.clone()).is_ok());
            }
        }
        Ok(())
    }
}
