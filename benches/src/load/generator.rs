//! All clients of one run, polled by one thread.

use std::io::{self, ErrorKind, Read};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::client::{Client, Expected, Problem, answer};
use super::endpoint::{Dialect, Endpoint, source};
use super::frame::MAX_FRAME;
use super::handshake::{self, HandshakeError};
use crate::clock;

/// Sockets told of at once.
const EVENTS: usize = 1024;
/// Bytes read at once: several frames beside the one that is not whole.
const BUFFER: usize = 4 * MAX_FRAME;
/// The longest latency that is told apart, one minute, to three digits.
const MAX_LATENCY_NS: u64 = 60_000_000_000;
/// Connections after which those that are there are looked after: a server may ask
/// whether they are.
const LOOK_AFTER: usize = 64;

/// Why clients did not get what they should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A client was not let in.
    #[error("client {client} did not connect")]
    Handshake {
        /// Which.
        client: usize,
        /// Why.
        #[source]
        source: HandshakeError,
    },
    /// A client's account is wrong.
    #[error("client {client}")]
    Wrong {
        /// Which.
        client: usize,
        /// What is wrong.
        #[source]
        source: Problem,
    },
    /// A client's connection is gone before its time.
    #[error("client {client} has lost its connection")]
    Lost {
        /// Which.
        client: usize,
    },
    /// Not everything came in time.
    #[error("{received} of {expected} messages came in time")]
    Late {
        /// How many came, to all clients.
        received: u64,
        /// How many should have.
        expected: u64,
    },
    /// More came than was published.
    #[error("{extra} messages came that nobody has published")]
    Extra {
        /// How many.
        extra: u64,
    },
    /// The server has ended, its connections have not.
    #[error("{left} connections were left open")]
    Open {
        /// How many.
        left: usize,
    },
    /// Nothing can be waited for.
    #[error("sockets cannot be polled")]
    Poll(#[from] io::Error),
}

/// The clients of one run.
#[derive(Debug)]
pub struct Load {
    poll: Poll,
    events: Events,
    clients: Vec<(TcpStream, Client)>,
    buffer: Box<[u8]>,
    payload: usize,
    received: u64,
    ended: usize,
    /// How many, from the first, are not read any more.
    stalled: usize,
    /// Whether connections may end now.
    finishing: bool,
    latency: Option<Histogram<u64>>,
}

impl Load {
    /// Nobody yet. Payloads of messages have `payload` bytes.
    ///
    /// # Errors
    /// Where the system has nothing to poll with.
    pub fn new(payload: usize) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            clients: Vec::new(),
            buffer: vec![0; BUFFER].into(),
            payload,
            received: 0,
            ended: 0,
            stalled: 0,
            finishing: false,
            latency: None,
        })
    }

    /// Opens `count` connections more, one after the other. Client `n` of all asks for
    /// room `n` where each has one.
    ///
    /// # Errors
    /// [`LoadError::Handshake`] with the first that was not let in.
    pub fn connect(
        &mut self,
        endpoint: &Endpoint,
        count: usize,
        deadline: Instant,
    ) -> Result<(), LoadError> {
        self.clients.reserve(count);
        for _ in 0..count {
            let at = self.clients.len();
            let opened = open(endpoint, at, deadline);
            let opened = opened.map_err(|source| LoadError::Handshake { client: at, source })?;
            let (stream, first) = opened;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            self.poll.registry().register(&mut stream, Token(at), Interest::READABLE)?;
            let client = Client::new(Expected {
                dialect: endpoint.dialect,
                room: endpoint.room(at),
                text_len: endpoint.dialect.text_len(self.payload, endpoint.rooms),
            });
            self.clients.push((stream, client));
            self.take(at, first.len(), &first)?;
            if at.is_multiple_of(LOOK_AFTER) {
                self.idle(Duration::ZERO)?;
            }
        }
        Ok(())
    }

    /// The first `count` clients are not read from now on, nor is their account judged.
    /// Their connections stay open.
    pub fn stall(&mut self, count: usize) {
        let count = count.min(self.clients.len());
        for at in self.stalled..count {
            self.unwatch(at);
        }
        self.stalled = self.stalled.max(count);
    }

    /// Messages received so far, by all clients.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// From now on, records for each message how long it took from being published to
    /// being read by its client. Allocates what it needs for that.
    ///
    /// # Panics
    /// Never: the bounds are fit for a histogram.
    pub fn record(&mut self) {
        let histogram = Histogram::new_with_bounds(1, MAX_LATENCY_NS, 3);
        self.latency = Some(histogram.expect("good bounds"));
    }

    /// What was recorded, in nanoseconds; records no more.
    pub fn recorded(&mut self) -> Option<Histogram<u64>> {
        self.latency.take()
    }

    /// Reads until `total` messages have come since the beginning, to all clients
    /// together.
    ///
    /// # Errors
    /// [`LoadError`]: the run is worth nothing.
    pub fn receive(&mut self, total: u64, deadline: Instant) -> Result<(), LoadError> {
        while self.received < total {
            if !self.turn(deadline)? {
                return Err(LoadError::Late { received: self.received, expected: total });
            }
        }
        match self.received - total {
            0 => Ok(()),
            extra => Err(LoadError::Extra { extra }),
        }
    }

    /// Reads what there is, for at most `patience`.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn idle(&mut self, patience: Duration) -> Result<(), LoadError> {
        self.turn(Instant::now() + patience).map(drop)
    }

    /// Reads until the server has ended every connection: nothing may come any more.
    ///
    /// # Errors
    /// [`LoadError::Extra`] where something did, [`LoadError::Open`] where the server
    /// leaves connections open.
    pub fn finish(mut self, deadline: Instant) -> Result<(), LoadError> {
        let total = self.received;
        self.finishing = true;
        while self.ended < self.clients.len() {
            if !self.turn(deadline)? {
                return Err(LoadError::Open { left: self.clients.len() - self.ended });
            }
        }
        match self.received - total {
            0 => Ok(()),
            extra => Err(LoadError::Extra { extra }),
        }
    }

    /// Waits once and reads what is ready; false where the deadline has passed.
    fn turn(&mut self, deadline: Instant) -> Result<bool, LoadError> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.poll.poll(&mut self.events, Some(left)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            result => result?,
        }
        if self.events.is_empty() {
            return Ok(Instant::now() < deadline);
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let read = events.iter().try_for_each(|event| {
            let ending = event.is_read_closed() || event.is_error();
            self.read(event.token().0, ending)
        });
        self.events = events;
        read.map(|()| true)
    }

    /// Reads all that a client's socket has.
    fn read(&mut self, at: usize, ending: bool) -> Result<(), LoadError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = loop {
            let (stream, client) = &mut self.clients[at];
            let kept = client.restore(&mut buffer);
            let read = match stream.read(&mut buffer[kept..]) {
                Ok(0) => break self.end(at),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    break self.take(at, kept, &buffer);
                }
                Err(_) => break self.end(at),
            };
            let (filled, full) = (kept + read, kept + read == buffer.len());
            if let Err(error) = self.take(at, filled, &buffer) {
                break Err(error);
            }
            // Where the buffer was not filled the socket is empty, and what comes is
            // told of: one call a burst, not two. An end is not told of twice.
            if read > 0 && !full && !ending {
                break Ok(());
            }
        };
        self.buffer = buffer;
        result
    }

    fn end(&mut self, at: usize) -> Result<(), LoadError> {
        if !self.finishing {
            return Err(LoadError::Lost { client: at });
        }
        self.unwatch(at);
        Ok(())
    }

    fn unwatch(&mut self, at: usize) {
        // An error means that it is not watched any more.
        let _ = self.poll.registry().deregister(&mut self.clients[at].0);
        self.ended += 1;
    }

    fn take(&mut self, at: usize, filled: usize, buffer: &[u8]) -> Result<(), LoadError> {
        let now = if self.latency.is_some() { clock::monotonic_ns() } else { 0 };
        let (stream, client) = &mut self.clients[at];
        let (received, latency) = (&mut self.received, &mut self.latency);
        let on_message = |sent: u64| {
            *received += 1;
            if let Some(latency) = latency {
                latency.saturating_record(now.saturating_sub(sent));
            }
        };
        let taken = client.take(&buffer[..filled], on_message, |ping| answer(stream, ping));
        match taken {
            Err(Problem::Closed(_)) if self.finishing => Ok(()),
            result => result.map_err(|source| LoadError::Wrong { client: at, source }),
        }
    }
}

/// What the credential is nobody checks, that there is one saves a frame.
const TOKEN: Option<&str> = Some("anybody");

fn open(
    endpoint: &Endpoint,
    client: usize,
    deadline: Instant,
) -> Result<(std::net::TcpStream, Vec<u8>), HandshakeError> {
    let Endpoint { addr, dialect, .. } = *endpoint;
    let request = handshake::request(&addr.to_string(), &endpoint.target(client), TOKEN);
    let socket = handshake::socket(addr, source(client, addr, 0))?;
    // Of the others, the server is asked how many of them are in.
    let greeted = (dialect == Dialect::SocketIo).then_some(dialect);
    handshake::open(socket, addr, &request, greeted, deadline)
}
