//! Where clients go, and what is spoken there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::message::{self, Stamp};
use crate::run::Rooms;

/// Connections from one address. Linux has 28,000 ports for them, and looks for a free
/// one among half of them first: once those are taken, each search takes milliseconds.
const FROM_ONE_ADDRESS: usize = 10_000;

/// What is spoken over the WebSocket.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::exhaustive_enums)] // Every client has to know all of them.
pub enum Dialect {
    /// The protocol `fanout.v1`: a welcome comes first.
    Native,
    /// Socket.IO 5 in Engine.IO 4, over a WebSocket from the start.
    #[value(name = "socketio")]
    SocketIo,
    /// The texts of the native protocol and nothing else: who is connected is in.
    Plain,
}

/// A server, as its clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // Made by whoever has a server.
pub struct Endpoint {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The path, such as `/ws` or `/socket.io/`.
    pub path: String,
    /// What is spoken there.
    pub dialect: Dialect,
    /// Whether a client asks for a room of its own.
    pub rooms: Rooms,
}

impl Endpoint {
    /// What client `n` asks for in its first line.
    pub fn target(&self, n: usize) -> String {
        let room = self.room(n).map(message::room);
        self.dialect.target(&self.path, room.as_deref())
    }

    /// The number of client `n`'s room, where it has one of its own.
    pub fn room(&self, n: usize) -> Option<usize> {
        (self.rooms == Rooms::Each).then_some(n)
    }
}

impl Dialect {
    /// The path with what the dialect and the room add to its query. Names of rooms here
    /// need no escapes.
    pub fn target(self, path: &str, room: Option<&str>) -> String {
        let mut target = path.to_owned();
        let mut add = |pair: &[&str]| {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.extend(pair.iter().copied());
        };
        if self == Self::SocketIo {
            add(&["EIO=4&transport=websocket"]);
        }
        if let Some(room) = room {
            add(&["room=", room]);
        }
        target
    }

    /// Bytes of a whole text whose payload has `payload` bytes.
    pub fn text_len(self, payload: usize, rooms: Rooms) -> usize {
        match self {
            Self::Native | Self::Plain => message::text_len(payload, rooms),
            Self::SocketIo => message::socket_io_len(payload),
        }
    }

    /// Reads the stamp of a text; `None` is the server's own talk.
    pub fn stamp(self, text: &[u8]) -> Option<Stamp> {
        match self {
            Self::Native | Self::Plain => message::stamp(text),
            Self::SocketIo => message::socket_io_stamp(text),
        }
    }
}

/// The address that client `n` comes from, where the system should not choose: on
/// loopback every 10,000 clients have one of their own, the second from `127.run.0.2`.
/// Another `run` does not meet ports that still wait for their end.
pub(crate) fn source(n: usize, server: SocketAddr, run: u8) -> Option<SocketAddr> {
    let block = n / FROM_ONE_ADDRESS;
    if block == 0 || server.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        return None;
    }
    let host = u8::try_from(block + 1).ok()?;
    Some((Ipv4Addr::new(127, run, 0, host), 0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_asks_for_what_it_is_to_have() {
        let addr = ([127, 0, 0, 1], 80).into();
        let native =
            Endpoint { addr, path: "/ws".to_owned(), dialect: Dialect::Native, rooms: Rooms::One };
        assert_eq!(native.target(3), "/ws");
        let each = Endpoint { rooms: Rooms::Each, ..native };
        assert_eq!(each.target(3), "/ws?room=r:00000003");
        let path = "/socket.io/".to_owned();
        let socket_io = Endpoint { path, dialect: Dialect::SocketIo, ..each };
        let target = "/socket.io/?EIO=4&transport=websocket&room=r:00000003";
        assert_eq!(socket_io.target(3), target);
        assert_eq!(Dialect::Plain.target("/ws?a=b", Some("x")), "/ws?a=b&room=x");
    }

    #[test]
    fn many_clients_come_from_several_addresses() {
        let server = ([127, 0, 0, 1], 80).into();
        assert_eq!(source(9_999, server, 0), None);
        assert_eq!(source(10_000, server, 0), Some(([127, 0, 0, 2], 0).into()));
        assert_eq!(source(35_000, server, 7), Some(([127, 7, 0, 4], 0).into()));
        assert_eq!(source(65_000, ([10, 0, 0, 1], 80).into(), 0), None);
    }
}
