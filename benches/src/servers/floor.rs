//! What the kernel alone costs: one thread that writes the finished frames, a burst
//! joined into one buffer, to each socket with one `send(2)`.
//!
//! It reads nothing, has no identities, rooms or limits, and nobody could use it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tungstenite::handshake::derive_accept_key;
use ws_sink::codec::encode;

use super::{SEND_BUFFER, Server};
use crate::clock;
use crate::message::Messages;

/// How long a client may take over its handshake, or to make room for what is sent.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_REQUEST: usize = 4096;

struct Floor {
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    frames: BytesMut,
    /// Whose socket has not taken all, and how much it has.
    unsent: Vec<(usize, usize)>,
}

pub(super) fn start(listener: TcpListener) -> io::Result<impl Server> {
    let sockets = Arc::new(Mutex::new(Vec::new()));
    let accepted = sockets.clone();
    std::thread::Builder::new().name("accept".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            // A client that was refused tells the run.
            match stream.and_then(handshake) {
                Ok(stream) => accepted.lock().expect("no panic under this lock").push(stream),
                Err(error) => eprintln!("floor: a client was not taken: {error}"),
            }
        }
    })?;
    Ok(Floor { sockets, frames: BytesMut::new(), unsent: Vec::new() })
}

/// Answers the one kind of request that the load sends.
fn handshake(mut stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut request, mut read) = ([0; MAX_REQUEST], 0);
    while !request[..read].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[read..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            more => read += more,
        }
    }
    let request = std::str::from_utf8(&request[..read]).map_err(io::Error::other)?;
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
    Ok(stream)
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
    /// Sends the rest to those whose sockets were full.
    fn send_rest(&mut self, sockets: &[TcpStream]) -> io::Result<()> {
        let patience = Timespec::try_from(PATIENCE).expect("a few seconds");
        while !self.unsent.is_empty() {
            let watch = |(at, _): &(usize, usize)| PollFd::new(&sockets[*at], PollFlags::OUT);
            let mut watched: Vec<_> = self.unsent.iter().map(watch).collect();
            if poll(&mut watched, Some(&patience))? == 0 {
                return Err(io::Error::new(ErrorKind::TimedOut, "clients do not read"));
            }
            for (at, sent) in &mut self.unsent {
                *sent += send(&sockets[*at], &self.frames[*sent..])?;
            }
            self.unsent.retain(|(_, sent)| *sent < self.frames.len());
        }
        Ok(())
    }
}

impl Server for Floor {
    fn clients(&self) -> usize {
        self.sockets.lock().expect("no panic under this lock").len()
    }

    fn publish(&mut self, messages: &mut Messages, burst: usize) -> io::Result<()> {
        let now = clock::monotonic_ns();
        self.frames.clear();
        for _ in 0..burst {
            encode::text(&mut self.frames, &[messages.text(now).as_bytes()]);
        }
        let sockets = self.sockets.clone();
        let sockets = sockets.lock().expect("no panic under this lock");
        for (at, socket) in sockets.iter().enumerate() {
            let sent = send(socket, &self.frames)?;
            if sent < self.frames.len() {
                self.unsent.push((at, sent));
            }
        }
        self.send_rest(&sockets)
    }
}
