//! Socket.IO in Rust, behind axum, with its rooms.
//!
//! It is treated well: only WebSocket is spoken, each connection's buffer takes a whole
//! burst where by default it takes 128 messages and loses the rest, Nagle's algorithm is
//! off, and one publisher waits for each emit before the next.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Query;
use axum::serve::ListenerExt;
use serde::{Deserialize, Serialize};
use socketioxide::extract::SocketRef;
use socketioxide::{SocketIo, TransportType};
use tokio::runtime::Runtime;

use super::{Asked, Server, name};
use crate::clock;
use crate::control::MAX_BURST;
use crate::message::{EVENT, Messages};

struct Socketioxide {
    runtime: Runtime,
    io: SocketIo,
    clients: Arc<AtomicUsize>,
}

/// The payload as a value: what `emit` takes is not text.
#[derive(Deserialize, Serialize)]
struct Payload<'a> {
    seq: &'a str,
    sent: &'a str,
    pad: &'a str,
}

pub(super) fn start(listener: TcpListener) -> io::Result<impl Server> {
    let runtime = Runtime::new()?;
    let entered = runtime.enter();
    let (layer, io) = SocketIo::builder()
        .transports([TransportType::Websocket])
        .max_buffer_size(MAX_BURST)
        .build_layer();
    let clients = Arc::new(AtomicUsize::new(0));
    let inside = clients.clone();
    io.ns("/", async move |socket: SocketRef| {
        let asked = Query::<Asked>::try_from_uri(&socket.req_parts().uri);
        socket.join(
            asked.map_or_else(|_| crate::message::ROOM.to_owned(), |Query(asked)| asked.room()),
        );
        let left = inside.clone();
        socket.on_disconnect(async move || {
            left.fetch_sub(1, Ordering::Relaxed);
        });
        inside.fetch_add(1, Ordering::Relaxed);
    });
    let app = Router::new().layer(layer);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    drop(entered);
    // The peer works without it too, only slower.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    runtime.spawn(async move { axum::serve(listener, app).await });
    Ok(Socketioxide { runtime, io, clients })
}

impl Server for Socketioxide {
    fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    fn publish(&mut self, messages: &mut Messages, burst: usize) -> io::Result<()> {
        let now = clock::monotonic_ns();
        for _ in 0..burst {
            let drawn = messages.draw(now);
            let payload: Payload<'_> = serde_json::from_slice(drawn.payload)?;
            let emit = self.io.to(name(drawn.room).into_owned()).emit(EVENT, &payload);
            // Where a client's buffer is full the client finds out by the numbers.
            let _ = self.runtime.block_on(emit);
        }
        Ok(())
    }
}
