//! Clients that come, go and come back with their cursors, polled by one thread.
//!
//! They come within a time, evenly, and nobody waits for another: what there is to read is
//! read while others connect. A server that is overloaded says so, and is asked again; so is
//! one that has closed a client for being slow, as the protocol has it.
//!
//! A client knows the number that comes next in its room, over all its connections: lost,
//! doubled and reordered are errors, and so is a gap, or a cursor that is not taken.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::member::{Kept, Member, Phase, Said};
use crate::clock;
use crate::load::handshake::{self, HandshakeError};
use crate::load::{Frame, MAX_FRAME, Ping, answer, source};
use crate::message;
use crate::run::Rooms;
use crate::scenario::PAYLOAD;
use crate::scenario::failure::SwarmError;
use crate::scenario::figures::{Latency, histogram};

/// Sockets told of at once.
const EVENTS: usize = 1024;
/// Bytes read at once: several frames beside the one that is not whole.
const BUFFER: usize = 4 * MAX_FRAME;
/// Connections begun in one turn: what there is to read is not kept waiting.
const AT_ONCE: usize = 64;
/// When a client tries again that the server could not take.
const AGAIN_NS: u64 = 250_000_000;
/// The close code of a server for whom a client is too slow: it is to come back, with what it
/// has, after a while.
const SLOW: u16 = 4001;
/// That while, as a server has it by default.
const SLOW_NS: u64 = 2_000_000_000;
/// How the answer of a server begins that could not take a client now.
const OVERLOADED: &str = "HTTP/1.1 503 ";

/// The clients.
#[derive(Debug)]
pub(super) struct Herd {
    poll: Poll,
    events: Events,
    buffer: Box<[u8]>,
    members: Vec<Member>,
    server: SocketAddr,
    /// Those that are to come, by when.
    coming: BTreeSet<(u64, usize)>,
    inside: usize,
    /// A client that has so many messages has reached it.
    target: u64,
    reached: usize,
    /// Whether connections may end now.
    finishing: bool,
    ended: usize,
    latency: Option<Histogram<u64>>,
    /// From when a client was due until it had reached the target.
    times: Histogram<u64>,
    /// How often the server could not take a client.
    pub(super) refused: u64,
    /// How often a client was closed for being slow.
    pub(super) slow: u64,
}

impl Herd {
    /// A client for each of these rooms; nobody is connected.
    pub(super) fn new(rooms: impl IntoIterator<Item = usize>) -> io::Result<Self> {
        let member = |room| Member { room, ..Member::default() };
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; BUFFER].into(),
            members: rooms.into_iter().map(member).collect(),
            server: ([127, 0, 0, 1], 0).into(),
            coming: BTreeSet::new(),
            inside: 0,
            target: 0,
            reached: 0,
            finishing: false,
            ended: 0,
            latency: None,
            times: histogram(),
            refused: 0,
            slow: 0,
        })
    }

    /// All come, spread evenly over a time, and go on from what they have.
    pub(super) fn come(&mut self, server: SocketAddr, within: Duration) {
        let (now, within) = (clock::monotonic_ns(), within.as_nanos() as f64);
        let (count, mut due) = (self.members.len() as f64, 0_u64..);
        let when = |member: &mut Member| {
            let n = due.next().unwrap_or_default();
            #[allow(clippy::cast_sign_loss)] // None of them is below zero.
            let wait = (within * n as f64 / count) as u64;
            member.due = now + wait;
            (member.due, n as usize)
        };
        self.coming = self.members.iter_mut().map(when).collect();
        self.server = server;
        self.times.reset();
    }

    /// All are away, and keep what they have.
    pub(super) fn leave(&mut self) {
        self.coming.clear();
        self.inside = 0;
        self.members.iter_mut().for_each(Member::leave);
    }

    /// All are as if they had never been there, in rooms that have had `messages` messages.
    pub(super) fn begin_anew(&mut self, messages: u64) {
        for member in &mut self.members {
            (member.kept, member.next) = (None, messages);
        }
    }

    /// From now on, records how long each message took.
    pub(super) fn record(&mut self) {
        self.latency = Some(histogram());
    }

    /// What was recorded; records no more.
    pub(super) fn recorded(&mut self) -> Latency {
        self.latency.take().map(|latency| Latency::of(&latency)).unwrap_or_default()
    }

    /// How long each took, from when it was due to come until it had reached the target.
    pub(super) fn times(&self) -> Latency {
        Latency::of(&self.times)
    }

    /// Sets what [`has_reached`](Self::has_reached) says.
    pub(super) fn aim(&mut self, messages: u64) {
        self.target = messages;
        self.reached = self.members.iter().filter(|member| member.next >= messages).count();
    }

    /// Whether all are in, and have the messages that were aimed at.
    pub(super) fn has_reached(&self) -> bool {
        self.inside == self.members.len() && self.reached == self.members.len()
    }

    /// Reads until all are in and have had `messages` messages since the beginning.
    pub(super) fn receive(&mut self, messages: u64, deadline: Instant) -> Result<(), SwarmError> {
        self.aim(messages);
        while !self.has_reached() {
            self.turn(deadline.saturating_duration_since(Instant::now()))?;
            if Instant::now() >= deadline {
                let (reached, clients) = (self.reached, self.members.len());
                return Err(SwarmError::Late { reached, clients, messages });
            }
        }
        Ok(())
    }

    /// Reads until the server has ended every connection, when each client must have had
    /// exactly `messages` messages.
    pub(super) fn finish(mut self, messages: u64, deadline: Instant) -> Result<(), SwarmError> {
        self.finishing = true;
        // What was told of while nobody read is not told of again.
        (0..self.members.len()).try_for_each(|at| self.read(at, true))?;
        while self.ended < self.members.len() {
            if Instant::now() >= deadline {
                return Err(SwarmError::Open(self.members.len() - self.ended));
            }
            self.turn(deadline.saturating_duration_since(Instant::now()))?;
        }
        match self.members.iter().position(|member| member.next != messages) {
            None => Ok(()),
            Some(client) => {
                let got = self.members[client].next;
                Err(SwarmError::Count { client, got, expected: messages })
            }
        }
    }

    /// Begins the connections that are due, waits once for no longer than `patience`, and
    /// reads what is ready.
    pub(super) fn turn(&mut self, patience: Duration) -> Result<(), SwarmError> {
        let due = self.begin_due()?;
        match self.poll.poll(&mut self.events, Some(due.map_or(patience, |due| due.min(patience))))
        {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let read = events.iter().try_for_each(|event| self.ready(event));
        self.events = events;
        read
    }

    /// Begins what is due; says how long until more is.
    fn begin_due(&mut self) -> Result<Option<Duration>, SwarmError> {
        for _ in 0..AT_ONCE {
            let Some(&(due, at)) = self.coming.first() else { return Ok(None) };
            let now = clock::monotonic_ns();
            if due > now {
                return Ok(Some(Duration::from_nanos(due - now)));
            }
            self.coming.pop_first();
            let failed = |error: io::Error| SwarmError::Handshake(at, error.into());
            self.begin(at).map_err(failed)?;
        }
        Ok(Some(Duration::ZERO))
    }

    fn begin(&mut self, at: usize) -> io::Result<()> {
        let socket = handshake::socket(self.server, source(at, self.server, 0))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&self.server.into()) {
            // On its way: EINPROGRESS has no kind of its own.
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
            result => result?,
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(at), interest)?;
        let member = &mut self.members[at];
        (member.stream, member.phase) = (Some(stream), Phase::Connecting);
        Ok(())
    }

    fn ready(&mut self, event: &Event) -> Result<(), SwarmError> {
        let at = event.token().0;
        if self.members[at].phase == Phase::Connecting {
            let failed = |error: io::Error| SwarmError::Handshake(at, error.into());
            if !self.connected(at).map_err(failed)? {
                return Ok(());
            }
        }
        self.read(at, event.is_read_closed() || event.is_error())
    }

    /// Asks to be let in, once the socket is connected.
    fn connected(&mut self, at: usize) -> io::Result<bool> {
        let member = &mut self.members[at];
        let Some(stream) = &mut member.stream else { return Ok(false) };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
            Err(error) => return Err(error),
        }
        let mut target = format!("/ws?room={}", message::room(member.room));
        if let Some(kept) = &member.kept {
            // Nothing in it has to be escaped.
            target.push_str("&cursor=");
            target.push_str(&kept.cursor());
        }
        let request = handshake::request(&self.server.to_string(), &target, Some("anybody"));
        // The socket's buffer is empty and larger than any request.
        stream.write_all(request.as_bytes())?;
        member.phase = Phase::Upgrading;
        Ok(true)
    }

    /// Reads all that a socket has. `ending`: its end was told of, and is not again.
    fn read(&mut self, at: usize, ending: bool) -> Result<(), SwarmError> {
        loop {
            let member = &mut self.members[at];
            let Some(stream) = &mut member.stream else { return Ok(()) };
            let kept = member.partial.len();
            self.buffer[..kept].copy_from_slice(&member.partial);
            let read = match stream.read(&mut self.buffer[kept..]) {
                Ok(0) => return self.end(at),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return self.end(at),
            };
            member.partial.clear();
            let filled = kept + read;
            let buffer = std::mem::take(&mut self.buffer);
            let taken = self.take(at, &buffer[..filled]);
            self.buffer = buffer;
            taken?;
            if filled < self.buffer.len() && !ending {
                return Ok(());
            }
        }
    }

    /// It goes, and comes again after a while.
    fn again(&mut self, at: usize, after: u64) {
        self.members[at].leave();
        self.coming.insert((clock::monotonic_ns() + after, at));
    }

    fn end(&mut self, at: usize) -> Result<(), SwarmError> {
        if !self.finishing {
            return Err(SwarmError::Lost(at));
        }
        self.members[at].leave();
        self.ended += 1;
        Ok(())
    }

    /// Takes all that is whole and keeps the rest.
    fn take(&mut self, at: usize, mut bytes: &[u8]) -> Result<(), SwarmError> {
        if self.members[at].phase == Phase::Upgrading {
            match handshake::answered(bytes) {
                Ok(None) => {}
                Ok(Some(end)) => {
                    bytes = &bytes[end..];
                    self.members[at].phase = Phase::Greeting;
                }
                Err(HandshakeError::Refused(status)) if status.starts_with(OVERLOADED) => {
                    self.refused += 1;
                    self.again(at, AGAIN_NS);
                    return Ok(());
                }
                Err(error) => return Err(SwarmError::Handshake(at, error)),
            }
        }
        if self.members[at].phase != Phase::Upgrading {
            let now = clock::monotonic_ns();
            let frame = |bytes| Frame::first(bytes).map_err(|error| SwarmError::Frame(at, error));
            while let Some((found, end)) = frame(bytes)? {
                match found {
                    Frame::Text(text) => self.text(at, text, now)?,
                    Frame::Ping(payload) => {
                        if let Some(stream) = &mut self.members[at].stream {
                            answer(stream, Ping::Frame(payload));
                        }
                    }
                    Frame::Pong => {}
                    Frame::Close(_) if self.finishing => {}
                    Frame::Close(Some(SLOW)) if self.members[at].phase == Phase::In => {
                        self.slow += 1;
                        self.inside -= 1;
                        self.again(at, SLOW_NS);
                        return Ok(());
                    }
                    Frame::Close(code) => return Err(SwarmError::Closed(at, code)),
                }
                bytes = &bytes[end..];
            }
        }
        self.members[at].partial.extend_from_slice(bytes);
        Ok(())
    }

    fn text(&mut self, at: usize, text: &[u8], now: u64) -> Result<(), SwarmError> {
        let member = &mut self.members[at];
        let told = || SwarmError::Told(at, String::from_utf8_lossy(text).into_owned());
        let Some((stamp, place)) = message::stamp_at(text) else {
            return self.said(at, serde_json::from_slice(text).map_err(|_| told())?);
        };
        let whole = message::text_at_len(PAYLOAD, Rooms::Each);
        let (Phase::In, Some(kept)) = (member.phase, &mut member.kept) else {
            return Err(told());
        };
        if stamp.room != Some(member.room) || text.len() != whole {
            return Err(told());
        }
        if stamp.seq != member.next {
            let (expected, got) = (member.next, stamp.seq);
            return Err(SwarmError::Order { client: at, expected, got });
        }
        kept.at(place);
        member.next += 1;
        if member.next == self.target {
            self.reached += 1;
            self.times.saturating_record(now.saturating_sub(member.due));
        }
        if let Some(latency) = &mut self.latency {
            latency.saturating_record(now.saturating_sub(stamp.sent));
        }
        Ok(())
    }

    fn said(&mut self, at: usize, said: Said) -> Result<(), SwarmError> {
        let member = &mut self.members[at];
        match said {
            Said::Welcome { cursor, recovered, rooms } if member.phase == Phase::Greeting => {
                let expected = member.kept.as_ref().map(|_| true);
                if recovered != expected || !rooms.contains(&message::room(member.room)) {
                    let told = format!("recovered: {recovered:?}, not {expected:?}; {rooms:?}");
                    return Err(SwarmError::Unwelcome(at, told));
                }
                (member.kept, member.phase) = (Some(Kept::new(cursor)), Phase::In);
                self.inside += 1;
            }
            Said::Heartbeat { cursor } if member.phase == Phase::In => {
                member.kept = Some(Kept::new(cursor));
            }
            said => return Err(SwarmError::Told(at, format!("{said:?} out of turn"))),
        }
        Ok(())
    }
}

const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

#[cfg(test)]
mod tests;
