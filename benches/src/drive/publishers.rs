//! Publishes on schedule, whatever the servers do.
//!
//! All publishers share one thread, which does nothing else: what is due is sent then,
//! and not when a client has been served. A message is stamped with the time at which
//! it was due. How late it was sent is recorded: where that is much, the figures are
//! the generator's own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::lines::{Reasons, Share, histogram, nanos};
use super::stamp::{Draw, Payload, Stamp};
use super::target::Target;
use crate::clock;
use crate::load::handshake::{self, HandshakeError};
use crate::load::{Dialect, Frame, MAX_FRAME, Ping, TEXT, answer, masked, socket_io};
use crate::message;

/// The room that publishers ask for: nothing is published there.
const ROOM: &str = "publishers";
/// Most bytes that wait for a server which does not read; beyond, messages are not sent.
const MAX_PENDING: usize = 4 * 1024 * 1024;
/// From here on a message is late.
const LATE: Duration = Duration::from_millis(10);
/// The longest sleep, so that orders are heard.
const NAP: Duration = Duration::from_millis(5);
/// Between two looks at what servers say.
const LISTEN: Duration = Duration::from_millis(50);
/// How long what waits for a server may take at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// What is to be sent when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// When the first is due.
    pub(super) start: u64,
    /// Messages at each server each second.
    pub(super) rate: f64,
    /// Messages at each server in all.
    pub(super) messages: u64,
}

/// What was sent.
#[derive(Clone, Debug)]
pub(super) struct Published {
    /// Messages, by publisher.
    pub(super) messages: Vec<u64>,
    /// How long after being due each was sent, in nanoseconds.
    pub(super) lateness: Histogram<u64>,
    /// How many of them were late.
    pub(super) late: u64,
    /// Messages that could not be sent: no connection, or a server that does not read.
    pub(super) unsent: u64,
    /// How connections of publishers ended.
    pub(super) closed: Reasons,
}

/// The publishers of all servers.
#[derive(Debug)]
pub(super) struct Publishers {
    /// Those of the first server, then those of the next.
    all: Vec<Publisher>,
    each: u32,
    servers: u64,
    listened: Instant,
    buffer: Box<[u8]>,
    closed: Reasons,
}

#[derive(Debug)]
struct Publisher {
    /// `None` once it has ended.
    stream: Option<TcpStream>,
    dialect: Dialect,
    number: u32,
    rooms: bool,
    payload: Payload,
    draw: Draw,
    /// The next number, a room.
    next: Vec<u64>,
    published: u64,
    /// What the socket has not taken.
    pending: Vec<u8>,
    /// The beginning of a frame from the server.
    partial: Vec<u8>,
}

/// Opens a connection as publishers do, and waits until it is let in.
pub(super) fn connect(
    share: &Share,
    target: &Target,
    deadline: Instant,
) -> Result<TcpStream, HandshakeError> {
    let path = share.dialect.target(&target.path, Some(ROOM));
    let request = handshake::request(&target.host, &path, share.token.as_deref());
    let socket = handshake::socket(target.addr, None)?;
    let greeted = Some(share.dialect);
    let (stream, _) = handshake::open(socket, target.addr, &request, greeted, deadline)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

impl Publishers {
    /// Connects them all; an error names the server.
    pub(super) fn connect(
        share: &Share,
        deadline: Instant,
    ) -> Result<Self, (String, HandshakeError)> {
        let mut publishers = Vec::new();
        for target in &share.targets {
            for _ in 0..share.publishers {
                let number = publishers.len() as u32;
                let stream = connect(share, target, deadline);
                let stream = stream.map_err(|error| (target.url.clone(), error))?;
                publishers.push(Publisher {
                    stream: Some(stream),
                    dialect: share.dialect,
                    number,
                    rooms: share.rooms > 0,
                    payload: Payload::new(share.payload, share.run),
                    draw: Draw::new(number, share.rooms),
                    next: vec![0; share.rooms.max(1) as usize],
                    published: 0,
                    pending: Vec::new(),
                    partial: Vec::new(),
                });
            }
        }
        Ok(Self {
            all: publishers,
            each: share.publishers,
            servers: share.targets.len() as u64,
            listened: Instant::now(),
            buffer: vec![0; 2 * MAX_FRAME].into(),
            closed: Reasons::default(),
        })
    }

    /// Waits for the schedule, keeps it, says what was sent, and keeps the connections
    /// until there is nobody to order anything. `sent` counts along.
    pub(super) fn run(
        mut self,
        orders: &Receiver<Schedule>,
        sent: &Arc<AtomicU64>,
        done: &SyncSender<Published>,
    ) {
        let schedule = loop {
            match orders.try_recv() {
                Ok(schedule) => break schedule,
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => self.pause(NAP),
            }
        };
        let Some(mut published) = self.keep(schedule, orders, sent) else { return };
        let flushed = Instant::now() + FLUSH;
        while self.all.iter().any(|one| !one.pending.is_empty()) && Instant::now() < flushed {
            self.pause(NAP);
        }
        published.messages = self.all.iter().map(|one| one.published).collect();
        published.closed = self.closed.clone();
        let _ = done.send(published);
        while !is_over(orders) {
            self.pause(NAP);
        }
        for publisher in &mut self.all {
            publisher.say_goodbye();
        }
    }

    /// `None` where nobody wants to know any more.
    fn keep(
        &mut self,
        schedule: Schedule,
        orders: &Receiver<Schedule>,
        sent: &AtomicU64,
    ) -> Option<Published> {
        let mut published = Published {
            messages: Vec::new(),
            lateness: histogram(),
            late: 0,
            unsent: 0,
            closed: Reasons::default(),
        };
        // Servers take turns, and so do the publishers of each.
        let every = 1e9 / (schedule.rate * self.servers as f64);
        for n in 0..schedule.messages * self.servers {
            let due = schedule.start + nanos(n as f64 * every);
            let now = loop {
                let now = clock::monotonic_ns();
                if now >= due {
                    break now;
                }
                if is_over(orders) {
                    return None;
                }
                self.pause(NAP.min(Duration::from_nanos(due - now)));
            };
            let (server, turn) = (n % self.servers, n / self.servers);
            let each = u64::from(self.each);
            let publisher = &mut self.all[(server * each + turn % each) as usize];
            if publisher.publish(due) {
                sent.fetch_add(1, Ordering::Relaxed);
                published.lateness.saturating_record(now - due);
                published.late += u64::from(now - due > LATE.as_nanos() as u64);
            } else {
                published.unsent += 1;
            }
        }
        Some(published)
    }

    /// Sends what waits, listens now and then, and sleeps.
    fn pause(&mut self, nap: Duration) {
        for publisher in &mut self.all {
            publisher.flush();
        }
        if self.listened.elapsed() >= LISTEN {
            for publisher in &mut self.all {
                if let Err(reason) = publisher.listen(&mut self.buffer) {
                    publisher.stream = None;
                    publisher.pending = Vec::new();
                    self.closed.add(&reason, 1);
                }
            }
            self.listened = Instant::now();
        }
        // To the microsecond, which polling for an order is not.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(nap);
    }
}

impl Publisher {
    /// Sends the next message; false where that cannot be.
    fn publish(&mut self, due: u64) -> bool {
        if self.stream.is_none() || self.pending.len() > MAX_PENDING {
            return false;
        }
        let room = self.draw.next_room();
        let seq = self.next[room as usize];
        self.next[room as usize] += 1;
        self.published += 1;
        let payload = self.payload.stamped(&Stamp { publisher: self.number, room, seq, due });
        let name = if self.rooms { message::room(room as usize) } else { String::new() };
        let room = ["\"", &name, "\""].concat();
        let parts: [&[u8]; 5] = match (self.dialect, self.rooms) {
            (Dialect::SocketIo, false) => [br#"42["publish","#, payload, b"]", b"", b""],
            (Dialect::SocketIo, true) => {
                [br#"42["publish","#, payload, b",", room.as_bytes(), b"]"]
            }
            (_, false) => [br#"{"event":"publish","data":"#, payload, b"}", b"", b""],
            (_, true) => {
                [br#"{"event":"publish","data":"#, payload, br#","room":"#, room.as_bytes(), b"}"]
            }
        };
        masked(&mut self.pending, TEXT, &parts);
        self.flush();
        true
    }

    fn flush(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        while !self.pending.is_empty() {
            match stream.write(&self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Full, or ended, which listening finds out.
                Err(_) => return,
            }
        }
    }

    /// Answers pings, and drops whatever else the server says; why it has ended, if so.
    fn listen(&mut self, buffer: &mut [u8]) -> Result<(), String> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        loop {
            let kept = self.partial.len();
            buffer[..kept].copy_from_slice(&self.partial);
            let read = match stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err("no close frame".to_owned()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            };
            let mut bytes = &buffer[..kept + read];
            while let Some((frame, end)) = Frame::first(bytes).map_err(|error| error.to_string())? {
                match frame {
                    Frame::Text(text) if self.dialect == Dialect::SocketIo => {
                        if socket_io::is_ping(text) {
                            pong(stream, &mut self.pending, Ping::Packet);
                        } else if socket_io::is_goodbye(text) {
                            return Err("a close packet".to_owned());
                        }
                    }
                    Frame::Ping(payload) => {
                        pong(stream, &mut self.pending, Ping::Frame(payload));
                    }
                    Frame::Close(Some(code)) => return Err(format!("code {code}")),
                    Frame::Close(None) => return Err("a close frame without a code".to_owned()),
                    Frame::Text(_) | Frame::Pong => {}
                }
                bytes = &bytes[end..];
            }
            self.partial.clear();
            self.partial.extend_from_slice(bytes);
        }
    }

    fn say_goodbye(&mut self) {
        if let Some(stream) = &mut self.stream
            && self.pending.is_empty()
        {
            let _ = stream.write(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]);
        }
    }
}

/// Whether there is nobody to order anything.
fn is_over(orders: &Receiver<Schedule>) -> bool {
    matches!(orders.try_recv(), Err(TryRecvError::Disconnected))
}

/// Answers a ping, behind what waits.
fn pong(stream: &mut TcpStream, pending: &mut Vec<u8>, ping: Ping<'_>) {
    if pending.is_empty() {
        answer(stream, ping);
    } else if pending.len() <= MAX_PENDING {
        answer(pending, ping);
    }
}

/// Connects to each server once, and says which does not let anybody in.
pub(super) fn probe(share: &Share, deadline: Instant) -> Result<(), (String, HandshakeError)> {
    for target in &share.targets {
        let stream = connect(share, target, deadline);
        let mut stream = stream.map_err(|error| (target.url.clone(), error))?;
        let goodbye: io::Result<usize> = stream.write(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]);
        drop(goodbye);
    }
    Ok(())
}
