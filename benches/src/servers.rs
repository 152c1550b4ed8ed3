//! The servers that are compared. Each runs alone in a process of its own.
//!
//! Those in Rust are here, and are this package's own program, started as a server; the
//! others are scripts in `peers/`, which [`Programs`] finds. To a client they differ in
//! where they listen and what they speak ([`Kind::path`], [`Kind::dialect`]), nothing else.

mod broadcast;
mod channel;
mod counters;
mod fanout;
mod floor;
mod programs;
pub(crate) mod reconnect;
pub(crate) mod scenario;
mod socketioxide;

use std::borrow::Cow;
use std::io;
use std::net::TcpListener;

use axum::serve::ListenerExt;
use tokio::runtime::Runtime;

pub use programs::{Missing, Programs};

use crate::control;
use crate::load::Dialect;
use crate::message::{self, Messages, ROOM};
use crate::run::Rooms;

/// What the floor asks the kernel for as a send buffer: as `ws-sink` does by default,
/// which is half of what Linux then takes.
const SEND_BUFFER: usize = 32 * 1024;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// This library: a hub, `ws-sink` behind axum.
    Fanout,
    /// axum's WebSocket, a task and a bounded channel a connection, one send a message.
    Channel,
    /// The same, with all that waits for a connection in one write.
    Batched,
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
    /// All of them, in the order in which they are shown where nobody asks for another.
    pub const ALL: [Self; 9] = [
        Self::Floor,
        Self::Fanout,
        Self::Channel,
        Self::Batched,
        Self::Broadcast,
        Self::Socketioxide,
        Self::Bun,
        Self::Ws,
        Self::SocketIo,
    ];

    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fanout",
            Self::Channel => "channel",
            Self::Batched => "batched",
            Self::Broadcast => "broadcast",
            Self::Socketioxide => "socketioxide",
            Self::Bun => "bun",
            Self::Ws => "ws",
            Self::SocketIo => "socket.io",
            Self::Floor => "floor",
        }
    }

    /// What its clients speak.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Fanout => Dialect::Native,
            Self::Socketioxide | Self::SocketIo => Dialect::SocketIo,
            _ => Dialect::Plain,
        }
    }

    /// Where its clients go.
    pub fn path(self) -> &'static str {
        match self.dialect() {
            Dialect::SocketIo => "/socket.io/",
            Dialect::Native | Dialect::Plain => "/ws",
        }
    }

    /// Whether it is somebody else's. What fails on its own account ends the comparison;
    /// a peer that fails is left out and named.
    pub fn is_peer(self) -> bool {
        !matches!(self, Self::Fanout | Self::Floor)
    }
}

/// What a server's process is told on its command line; the scripts in `peers/` are told
/// the same.
#[derive(clap::Args, Clone, Debug)]
#[allow(clippy::exhaustive_structs)] // Made by whoever starts one.
pub struct Serve {
    /// Which.
    pub server: Kind,
    /// Where; 0 is any that is free.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 200)]
    pub payload: usize,
    /// Which rooms messages are for.
    #[arg(long, value_enum, default_value = "one")]
    pub rooms: Rooms,
    /// How many clients will come, and with them their rooms.
    #[arg(long, default_value_t = 1)]
    pub clients: usize,
    /// How many shards this library has.
    #[arg(long)]
    pub shards: Option<usize>,
}

/// Serves a peer on a runtime of its own, upon whose end everything ends.
fn serve_app(listener: TcpListener, app: axum::Router) -> io::Result<Runtime> {
    let runtime = Runtime::new()?;
    listener.set_nonblocking(true)?;
    let entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    drop(entered);
    // The peer works without it too, only slower.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    runtime.spawn(async move { axum::serve(listener, app).await });
    Ok(runtime)
}

/// A server under load. Everything else it does on threads of its own.
pub trait Server {
    /// How many clients are in their rooms.
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
/// Where it cannot listen, is no server in Rust, or is told what it cannot do.
pub fn serve(serve: &Serve) -> io::Result<()> {
    let Serve { server, port, payload, rooms, clients, shards } = *serve;
    let mut messages = Messages::new(payload, rooms, clients).map_err(io::Error::other)?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let addr = listener.local_addr()?;
    let mut server: Box<dyn Server> = match server {
        Kind::Fanout => Box::new(fanout::start(listener, rooms, clients, shards)?),
        Kind::Channel => Box::new(channel::start(listener, false)?),
        Kind::Batched => Box::new(channel::start(listener, true)?),
        Kind::Broadcast => Box::new(broadcast::start(listener, rooms, clients)?),
        Kind::Socketioxide => Box::new(socketioxide::start(listener)?),
        Kind::Floor => Box::new(floor::start(listener)?),
        Kind::Bun | Kind::Ws | Kind::SocketIo => {
            let told = format!("{} is no server of this program: see peers/", server.name());
            return Err(io::Error::other(told));
        }
    };
    control::obey(&mut *server, addr, &mut messages, io::stdin().lock(), io::stdout().lock())
}

/// The room that a client of a peer asks for in its query; without one it is in that of
/// all.
#[derive(serde::Deserialize)]
struct Asked {
    room: Option<String>,
}

impl Asked {
    fn room(self) -> String {
        self.room.unwrap_or_else(|| ROOM.to_owned())
    }
}

/// The name of a room that was drawn.
fn name(room: Option<usize>) -> Cow<'static, str> {
    room.map_or(Cow::Borrowed(ROOM), |room| message::room(room).into())
}
