//! The servers that are compared. Each runs alone in a process of its own.

mod broadcast;
mod fanout;
mod floor;

use std::io;
use std::net::TcpListener;

use crate::control;
use crate::message::Messages;

/// Bytes that the kernel may hold for a client: what `ws-sink` sets by default, and
/// the floor as well.
const SEND_BUFFER: usize = 64 * 1024;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// This library: a hub, `ws-sink` behind axum.
    Fanout,
    /// axum's WebSocket, a task and a bounded channel a connection.
    Channel,
    /// axum's WebSocket and `tokio::sync::broadcast`, a task a connection.
    Broadcast,
    /// Socket.IO in Rust.
    Socketioxide,
    /// uWebSockets through Bun's `publish`.
    Bun,
    /// `ws` on Node.
    Ws,
    /// Socket.IO on Node.
    #[serde(rename = "socket.io")]
    #[value(name = "socket.io")]
    SocketIo,
    /// A bare loop that sends the finished frames: what the kernel alone costs.
    Floor,
}

impl Kind {
    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fanout",
            Self::Channel => "channel",
            Self::Broadcast => "broadcast",
            Self::Socketioxide => "socketioxide",
            Self::Bun => "bun",
            Self::Ws => "ws",
            Self::SocketIo => "socket.io",
            Self::Floor => "floor",
        }
    }
}

/// A server under load. Everything else it does on threads of its own.
pub trait Server {
    /// How many clients are in the room.
    fn clients(&self) -> usize;

    /// Publishes the next messages as one burst.
    ///
    /// # Errors
    /// Where that cannot be done: the run is worth nothing then.
    fn publish(&mut self, messages: &mut Messages, burst: usize) -> io::Result<()>;
}

/// Serves on loopback until stdin closes.
///
/// # Errors
/// Where it cannot listen, or is told what it cannot do.
pub fn serve(kind: Kind, port: u16, payload: usize) -> io::Result<()> {
    let mut messages = Messages::new(payload).map_err(io::Error::other)?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let addr = listener.local_addr()?;
    let mut server: Box<dyn Server> = match kind {
        Kind::Fanout => Box::new(fanout::start(listener)?),
        Kind::Broadcast => Box::new(broadcast::start(listener)?),
        Kind::Floor => Box::new(floor::start(listener)?),
        kind => return Err(io::Error::other(format!("{} is not there yet", kind.name()))),
    };
    control::obey(&mut *server, addr, &mut messages, io::stdin().lock(), io::stdout().lock())
}
