//! The usual server: a task a connection that waits for a broadcast channel and for
//! its socket, as tutorials have it.
//!
//! It is treated well: the text is made once and shared, and Nagle's algorithm is off,
//! which few tutorials think of. Buffers are axum's own, as nobody changes them.

use std::io;
use std::net::TcpListener;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::runtime::Runtime;
use tokio::sync::broadcast::{self, error::RecvError};

use super::Server;
use crate::clock;
use crate::control::MAX_BURST;
use crate::message::Messages;

struct Broadcast {
    /// Its tasks end with it.
    _runtime: Runtime,
    room: broadcast::Sender<Utf8Bytes>,
}

pub(super) fn start(listener: TcpListener) -> io::Result<impl Server> {
    let runtime = Runtime::new()?;
    // Nobody lags: the next burst is published when all have the last one.
    let (room, _) = broadcast::channel(MAX_BURST);
    let app = Router::new().route("/ws", get(upgrade)).with_state(room.clone());
    listener.set_nonblocking(true)?;
    let entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    drop(entered);
    // The peer works without it too, only slower.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    runtime.spawn(async move { axum::serve(listener, app).await });
    Ok(Broadcast { _runtime: runtime, room })
}

async fn upgrade(
    upgrade: WebSocketUpgrade,
    State(room): State<broadcast::Sender<Utf8Bytes>>,
) -> Response {
    upgrade.on_upgrade(move |socket| client(socket, room.subscribe()))
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
        self.room.receiver_count()
    }

    fn publish(&mut self, messages: &mut Messages, burst: usize) -> io::Result<()> {
        let now = clock::monotonic_ns();
        for _ in 0..burst {
            self.room.send(messages.text(now).into()).map_err(io::Error::other)?;
        }
        Ok(())
    }
}
