//! What the kernel alone costs: one thread that writes the finished frames, what a burst
//! has for a room joined into one buffer, to each socket with one `send(2)`.
//!
//! It reads nothing, has no identities or limits, and nobody could use it. That somebody
//! has stopped reading it knows because the loop is closed: the next line on stdin comes
//! when all who read have everything. Whose socket has not taken all by then is sent
//! nothing any more.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tungstenite::handshake::derive_accept_key;
use ws_sink::codec::encode;
use ws_sink::handshake::Query;

use super::{SEND_BUFFER, Server};
use crate::clock;
use crate::message::{self, Messages};

/// How long a client may take over its handshake, or to make room for what is sent.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_REQUEST: usize = 4096;

/// By what is drawn: `None` is the room of all.
type Room = Option<usize>;

#[derive(Default)]
struct Clients {
    sockets: Vec<TcpStream>,
    /// Who is in them and reads, as places among the sockets.
    rooms: HashMap<Room, Vec<usize>>,
}

#[derive(Default)]
struct Floor {
    clients: Arc<Mutex<Clients>>,
    /// Of this burst.
    frames: HashMap<Room, BytesMut>,
    unsent: Vec<Unsent>,
}

/// Whose socket has not taken all.
struct Unsent {
    client: usize,
    room: Room,
    sent: usize,
}

pub(super) fn start(listener: TcpListener) -> io::Result<impl Server> {
    let floor = Floor::default();
    let clients = floor.clients.clone();
    std::thread::Builder::new().name("accept".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            match stream.and_then(handshake) {
                Ok((socket, room)) => {
                    let mut clients = clients.lock().expect("no panic under this lock");
                    let place = clients.sockets.len();
                    clients.sockets.push(socket);
                    clients.rooms.entry(room).or_default().push(place);
                }
                // A client that was refused tells the run.
                Err(error) => eprintln!("floor: a client was not taken: {error}"),
            }
        }
    })?;
    Ok(floor)
}

/// Answers the one kind of request that the load sends; says which room it is for.
fn handshake(mut stream: TcpStream) -> io::Result<(TcpStream, Room)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut request, mut read) = ([0; MAX_REQUEST], 0);
    while !request[..read].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[read..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            more => read += more,
        }
    }
    let request = std::str::from_utf8(&request[..read]).map_err(io::Error::other)?;
    let room = room(request)?;
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    let key = key.ok_or_else(|| io::Error::other("no Sec-WebSocket-Key"))?;
    let accept = derive_accept_key(key.as_bytes());
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER)?;
    Ok((stream, room))
}

/// The room that the first line asks for.
fn room(request: &str) -> io::Result<Room> {
    let target = request.split(' ').nth(1).unwrap_or_default();
    let query = target.split_once('?').map(|(_, query)| query);
    let query = Query::parse(query).map_err(io::Error::other)?;
    let Some(room) = query.rooms.first() else { return Ok(None) };
    let name = room.as_str();
    let number = name.rsplit(':').next().and_then(|digits| digits.parse().ok());
    let number = number.filter(|number| message::room(*number) == name);
    let unknown = || io::Error::other(format!("room `{name}` is not there"));
    number.ok_or_else(unknown).map(Some)
}

/// What the socket takes now.
fn send(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            result => return result,
        }
    }
}

impl Floor {
    /// Sends the rest to those whose sockets were full, until they have it or have
    /// stopped reading.
    fn send_rest(&mut self, clients: &mut Clients) -> io::Result<()> {
        let patience = Timespec::try_from(PATIENCE).expect("a few seconds");
        let stdin = io::stdin();
        while !self.unsent.is_empty() {
            let socket = |unsent: &Unsent| &clients.sockets[unsent.client];
            let mut watched = vec![PollFd::new(&stdin, PollFlags::IN)];
            let sockets = self.unsent.iter().map(socket);
            watched.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::OUT)));
            if poll(&mut watched, Some(&patience))? == 0 {
                return Err(io::Error::new(ErrorKind::TimedOut, "clients do not read"));
            }
            let next_line = !watched[0].revents().is_empty();
            for unsent in &mut self.unsent {
                let rest = &self.frames[&unsent.room][unsent.sent..];
                unsent.sent += send(&clients.sockets[unsent.client], rest)?;
            }
            self.unsent.retain(|unsent| unsent.sent < self.frames[&unsent.room].len());
            if next_line {
                for stalled in self.unsent.drain(..) {
                    let members = clients.rooms.entry(stalled.room).or_default();
                    members.retain(|member| *member != stalled.client);
                }
            }
        }
        Ok(())
    }
}

impl Server for Floor {
    fn clients(&self) -> usize {
        self.clients.lock().expect("no panic under this lock").sockets.len()
    }

    fn publish(&mut self, messages: &mut Messages, burst: usize) -> io::Result<()> {
        let now = clock::monotonic_ns();
        self.frames.clear();
        for _ in 0..burst {
            let (room, text) = messages.text(now);
            encode::text(self.frames.entry(room).or_default(), &[text.as_bytes()]);
        }
        let clients = self.clients.clone();
        let mut clients = clients.lock().expect("no panic under this lock");
        for (&room, frames) in &self.frames {
            for &client in clients.rooms.get(&room).into_iter().flatten() {
                let sent = send(&clients.sockets[client], frames)?;
                if sent < frames.len() {
                    self.unsent.push(Unsent { client, room, sent });
                }
            }
        }
        self.send_rest(&mut clients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_which_room_it_is_for() {
        let of = |target: &str| room(&format!("GET {target} HTTP/1.1\r\n\r\n"));
        assert_eq!(of("/ws").unwrap(), None);
        assert_eq!(of("/ws?room=r:00000012").unwrap(), Some(12));
        assert_eq!(of("/ws?room=r%3A00000012").unwrap(), Some(12));
        let unknown = of("/ws?room=match:7").unwrap_err().to_string();
        assert_eq!(unknown, "room `match:7` is not there");
    }
}
