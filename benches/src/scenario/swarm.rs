//! Clients in one room, polled by one thread: some scenarios have several swarms, each
//! with a thread of its own, so that whoever is measured does not wait for the others.
//!
//! A client knows the number that comes next in its room: lost, doubled and reordered
//! are errors. What a client does not read stays in the kernel, and is read later.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::PAYLOAD;
use super::failure::SwarmError;
use super::figures::{Latency, histogram};
use super::opening::open;
use crate::clock;
use crate::load::{Frame, MAX_FRAME, Ping, answer};
use crate::message;
use crate::run::Rooms;

/// Sockets told of at once.
const EVENTS: usize = 1024;
/// Bytes read at once: several frames beside the one that is not whole.
const BUFFER: usize = 4 * MAX_FRAME;
/// Those that have more to read, between two looks at who else has something.
const AGAIN: usize = 16;

/// What was seen of the messages since the recording began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// From publishing to the client's read.
    pub(super) latency: Latency,
    /// The longest time that a client was without a message between two.
    pub(super) gap: Duration,
}

/// Clients in one room.
#[derive(Debug)]
pub(super) struct Swarm {
    poll: Poll,
    events: Events,
    pub(super) clients: Vec<Client>,
    room: usize,
    buffer: Box<[u8]>,
    again: VecDeque<usize>,
    /// A client that has so many messages has reached it.
    target: u64,
    reached: usize,
    ended: usize,
    /// Whether connections may end now.
    finishing: bool,
    latency: Option<Histogram<u64>>,
    gap: u64,
    /// Answers to what clients have sent.
    pub(super) answers: u64,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: TcpStream,
    /// The beginning of a frame that is not whole yet; keeps its memory.
    partial: Vec<u8>,
    /// The number of the message that comes next.
    next: u64,
    /// When the last one came, while that is recorded.
    last: u64,
}

impl Swarm {
    /// Opens `count` connections, one after the other, and waits until each is told that
    /// it is in the room. `receive_buffer` is what the kernel may hold for each on this
    /// side; by default it grows as it likes.
    pub(super) fn open(
        server: SocketAddr,
        room: usize,
        count: usize,
        receive_buffer: Option<usize>,
        deadline: Instant,
    ) -> Result<Self, SwarmError> {
        let poll = Poll::new()?;
        let name = message::room(room);
        let mut clients = Vec::with_capacity(count);
        for at in 0..count {
            let opened = open(server, &name, receive_buffer, deadline);
            let (stream, welcome) = opened.map_err(|error| SwarmError::Handshake(at, error))?;
            if !(welcome.starts_with(r#"{"event":"welcome""#) && welcome.contains(&name)) {
                return Err(SwarmError::Unwelcome(at, welcome));
            }
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(at), Interest::READABLE)?;
            clients.push(Client { stream, partial: Vec::new(), next: 0, last: 0 });
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            clients,
            room,
            buffer: vec![0; BUFFER].into(),
            again: VecDeque::new(),
            target: 0,
            reached: 0,
            ended: 0,
            finishing: false,
            latency: None,
            gap: 0,
            answers: 0,
        })
    }

    /// From now on, records how long each message took.
    pub(super) fn record(&mut self) {
        self.latency = Some(histogram());
        self.gap = 0;
        self.clients.iter_mut().for_each(|client| client.last = 0);
    }

    /// What was recorded; records no more.
    pub(super) fn recorded(&mut self) -> Seen {
        let latency = self.latency.take().map(|latency| Latency::of(&latency));
        Seen { latency: latency.unwrap_or_default(), gap: Duration::from_nanos(self.gap) }
    }

    /// Reads until every client has had `messages` messages since the beginning.
    pub(super) fn receive(&mut self, messages: u64, deadline: Instant) -> Result<(), SwarmError> {
        self.aim(messages);
        while !self.has_reached() {
            if !self.turn(deadline)? {
                let clients = self.clients.len();
                return Err(SwarmError::Late { reached: self.reached, clients, messages });
            }
        }
        Ok(())
    }

    /// Sets what [`has_reached`](Self::has_reached) says.
    pub(super) fn aim(&mut self, messages: u64) {
        self.target = messages;
        self.reached = self.clients.iter().filter(|client| client.next >= messages).count();
    }

    /// Whether all clients have the messages that were aimed at.
    pub(super) fn has_reached(&self) -> bool {
        self.reached == self.clients.len()
    }

    /// Reads until the server has ended every connection, when each client must have had
    /// exactly `messages` messages.
    pub(super) fn finish(mut self, messages: u64, deadline: Instant) -> Result<(), SwarmError> {
        self.finishing = true;
        // What was told of while nobody read is not told of again.
        self.again = (0..self.clients.len()).collect();
        while self.ended < self.clients.len() {
            if !self.turn(deadline)? {
                return Err(SwarmError::Open(self.clients.len() - self.ended));
            }
        }
        match self.clients.iter().position(|client| client.next != messages) {
            None => Ok(()),
            Some(client) => {
                let got = self.clients[client].next;
                Err(SwarmError::Count { client, got, expected: messages })
            }
        }
    }

    /// Waits once and reads what is ready; false where the deadline has passed.
    pub(super) fn turn(&mut self, deadline: Instant) -> Result<bool, SwarmError> {
        let mut left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        if !self.again.is_empty() {
            left = Duration::ZERO;
        }
        match self.poll.poll(&mut self.events, Some(left)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            result => result?,
        }
        for _ in 0..AGAIN.min(self.again.len()) {
            let Some(at) = self.again.pop_front() else { break };
            self.read(at, true)?;
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let read = events.iter().try_for_each(|event| {
            let ending = event.is_read_closed() || event.is_error();
            self.read(event.token().0, ending)
        });
        self.events = events;
        read.map(|()| true)
    }

    /// Reads once. A socket that may have more is read again later, so that nobody waits
    /// for one that has much.
    fn read(&mut self, at: usize, to_the_end: bool) -> Result<(), SwarmError> {
        let client = &mut self.clients[at];
        let kept = client.partial.len();
        self.buffer[..kept].copy_from_slice(&client.partial);
        let read = match client.stream.read(&mut self.buffer[kept..]) {
            Ok(0) => return self.end(at),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.again.push_back(at);
                return Ok(());
            }
            Err(_) => return self.end(at),
        };
        // Where the buffer was not filled the socket is empty, and what comes is told of:
        // one call a burst, not two. An end is not told of twice.
        let filled = kept + read;
        if to_the_end || filled == self.buffer.len() {
            self.again.push_back(at);
        }
        client.partial.clear();
        let buffer = std::mem::take(&mut self.buffer);
        let taken = self.take(at, &buffer[..filled]);
        self.buffer = buffer;
        taken
    }

    fn end(&mut self, at: usize) -> Result<(), SwarmError> {
        if !self.finishing {
            return Err(SwarmError::Lost(at));
        }
        // An error means that it is not watched any more: it has ended before.
        if self.poll.registry().deregister(&mut self.clients[at].stream).is_ok() {
            self.ended += 1;
        }
        Ok(())
    }

    /// Takes all whole frames and keeps the rest.
    fn take(&mut self, at: usize, mut bytes: &[u8]) -> Result<(), SwarmError> {
        let now = if self.latency.is_some() { clock::monotonic_ns() } else { 0 };
        let first = Frame::first(bytes);
        let mut frame = first.map_err(|error| SwarmError::Frame(at, error))?;
        while let Some((found, end)) = frame {
            match found {
                Frame::Text(text) => self.text(at, text, now)?,
                Frame::Ping(payload) => {
                    answer(&mut self.clients[at].stream, Ping::Frame(payload));
                }
                Frame::Pong => self.answers += 1,
                Frame::Close(_) if self.finishing => {}
                Frame::Close(code) => return Err(SwarmError::Closed(at, code)),
            }
            bytes = &bytes[end..];
            frame = Frame::first(bytes).map_err(|error| SwarmError::Frame(at, error))?;
        }
        self.clients[at].partial.extend_from_slice(bytes);
        Ok(())
    }

    fn text(&mut self, at: usize, text: &[u8], now: u64) -> Result<(), SwarmError> {
        let told = || SwarmError::Told(at, String::from_utf8_lossy(text).into_owned());
        let Some(stamp) = message::stamp(text) else {
            if text.starts_with(br#"{"event":"subscribed""#)
                || text.starts_with(br#"{"event":"unsubscribed""#)
            {
                self.answers += 1;
            } else if !text.starts_with(br#"{"event":"heartbeat""#) {
                return Err(told());
            }
            return Ok(());
        };
        let whole = message::text_len(PAYLOAD, Rooms::Each);
        if stamp.room != Some(self.room) || text.len() != whole {
            return Err(told());
        }
        let client = &mut self.clients[at];
        if stamp.seq != client.next {
            let (expected, got) = (client.next, stamp.seq);
            return Err(SwarmError::Order { client: at, expected, got });
        }
        client.next += 1;
        if client.next == self.target {
            self.reached += 1;
        }
        if let Some(latency) = &mut self.latency {
            latency.saturating_record(now.saturating_sub(stamp.sent));
            if client.last > 0 {
                self.gap = self.gap.max(now - client.last);
            }
            client.last = now;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
