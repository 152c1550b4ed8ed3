//! All clients of one worker, polled by one thread.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::client::{Client, Ended, NORMAL, Phase};
use super::ledger::{Ledger, Place};
use super::lines::{Account, Progress, Reasons, Share, Times, histogram, nanos};
use crate::clock;
use crate::load::handshake;
use crate::load::{MAX_FRAME, source};
use crate::message;

/// Sockets told of at once.
const EVENTS: usize = 1024;
/// Bytes read at once: several frames beside the one that is not whole.
const BUFFER: usize = 4 * MAX_FRAME;
/// Connections begun in one turn: what there is to read is not kept waiting.
const AT_ONCE: usize = 64;
/// How long a client may take until it is in.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// Different first bytes of source addresses: runs that follow each other differ.
const SOURCES: u64 = 251;

/// The clients.
#[derive(Debug)]
pub(super) struct Crowd {
    share: Share,
    poll: Poll,
    events: Events,
    buffer: Box<[u8]>,
    /// By number in this share; `None` once the connection has ended.
    clients: Vec<Option<Client>>,
    /// Those that are not in yet, the oldest first.
    waiting: VecDeque<usize>,
    began: u64,
    ledger: Ledger,
    connect: Histogram<u64>,
    connected: usize,
    /// When the last was in.
    all_in: u64,
    gone: usize,
    failed: Reasons,
    closed: Reasons,
}

impl Crowd {
    pub(super) fn new(share: Share) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; BUFFER].into(),
            clients: Vec::with_capacity(share.clients),
            waiting: VecDeque::new(),
            began: clock::monotonic_ns(),
            ledger: Ledger::new(&share),
            connect: histogram(),
            connected: 0,
            all_in: 0,
            gone: 0,
            failed: Reasons::default(),
            closed: Reasons::default(),
            share,
        })
    }

    /// Messages count from now on.
    pub(super) fn go(&mut self) {
        self.ledger.go();
    }

    /// All is published: so many messages by each publisher.
    pub(super) fn published(&mut self, messages: &[u64]) {
        self.ledger.published(messages);
    }

    pub(super) fn progress(&self) -> Progress {
        let inside = self.clients.iter().flatten();
        let outstanding = |client: &Client| self.ledger.outstanding(client.place, &client.streams);
        Progress {
            connected: self.connected,
            failed: self.failed.total() as usize,
            gone: self.gone,
            received: self.ledger.tally.received,
            outstanding: inside.map(outstanding).sum(),
        }
    }

    /// Begins the connections that are due, waits once for at most `patience`, and reads
    /// what is ready.
    pub(super) fn turn(&mut self, patience: Duration) -> io::Result<()> {
        let due = self.begin_due();
        match self.poll.poll(&mut self.events, Some(due.map_or(patience, |due| due.min(patience))))
        {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let ending = event.is_read_closed() || event.is_error();
            self.ready(event.token().0, ending);
        }
        self.events = events;
        self.expire();
        Ok(())
    }

    /// Begins what is due; says how long until more is.
    fn begin_due(&mut self) -> Option<Duration> {
        for _ in 0..AT_ONCE {
            let at = self.clients.len();
            if at == self.share.clients {
                return None;
            }
            let due = self.began + nanos(at as f64 * 1e9 / self.share.connect_rate);
            let now = clock::monotonic_ns();
            if due > now {
                return Some(Duration::from_nanos(due - now));
            }
            match self.begin(at) {
                Ok(client) => {
                    self.clients.push(Some(client));
                    self.waiting.push_back(at);
                }
                Err(error) => {
                    self.clients.push(None);
                    self.failed.add(&Ended::Handshake(error.into()).reason(), 1);
                }
            }
        }
        Some(Duration::ZERO)
    }

    fn begin(&self, at: usize) -> io::Result<Client> {
        let (n, began) = (self.share.first + at, clock::monotonic_ns());
        let place = self.place(at);
        let addr = self.share.targets[place.server as usize].addr;
        let socket = handshake::socket(addr, source(n, addr, (self.share.run % SOURCES) as u8))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&addr.into()) {
            // On its way: EINPROGRESS has no kind of its own.
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
            result => result?,
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(at), interest)?;
        Ok(Client::new(stream, place, began))
    }

    /// Servers take turns, and the clients of each are spread over its rooms.
    fn place(&self, at: usize) -> Place {
        let (n, servers) = (self.share.first + at, self.share.targets.len());
        let room = (n / servers).checked_rem(self.share.rooms as usize);
        Place { server: (n % servers) as u32, room: room.unwrap_or_default() as u32 }
    }

    fn ready(&mut self, at: usize, ending: bool) {
        let Some(client) = &mut self.clients[at] else { return };
        let before = client.phase;
        let mut result = Ok(());
        if client.phase == Phase::Connecting {
            let (share, Place { server, room }) = (&self.share, client.place);
            let target = &share.targets[server as usize];
            result = client.connected(|| {
                let room = (share.rooms > 0).then(|| message::room(room as usize));
                let path = share.dialect.target(&target.path, room.as_deref());
                handshake::request(&target.host, &path, share.token.as_deref())
            });
        }
        if result.is_ok() && client.phase != Phase::Connecting {
            result = client.read(&mut self.buffer, ending, &mut self.ledger);
        }
        if before != Phase::In && client.phase == Phase::In {
            self.connected += 1;
            self.all_in = clock::monotonic_ns();
            self.connect.saturating_record(self.all_in - client.began);
            // From now on it is only read; an error here would show when it is.
            let _ =
                self.poll.registry().reregister(&mut client.stream, Token(at), Interest::READABLE);
        }
        if let Err(ended) = result {
            self.end(at, &ended);
        }
    }

    fn end(&mut self, at: usize, ended: &Ended) {
        let Some(mut client) = self.clients[at].take() else { return };
        // An error means that it is not watched any more.
        let _ = self.poll.registry().deregister(&mut client.stream);
        self.ledger.leave(&client.streams);
        if client.phase == Phase::In {
            self.gone += 1;
            self.closed.add(&ended.reason(), 1);
        } else {
            self.failed.add(&ended.reason(), 1);
        }
    }

    /// Gives up those that wait for too long.
    fn expire(&mut self) {
        let now = clock::monotonic_ns();
        let patience = CONNECT_PATIENCE.as_nanos() as u64;
        while let Some(&at) = self.waiting.front() {
            match &self.clients[at] {
                Some(client) if client.phase != Phase::In => {
                    if now - client.began < patience {
                        return;
                    }
                    self.end(at, &Ended::Late);
                }
                _ => {}
            }
            self.waiting.pop_front();
        }
    }

    /// Says goodbye to everybody, and what came.
    pub(super) fn finish(mut self, cpu_share: f64) -> Account {
        for client in self.clients.iter_mut().flatten() {
            self.ledger.finish(client.place, &client.streams);
            client.say_goodbye(NORMAL);
        }
        Account {
            connected: self.connected,
            failed: self.failed,
            closed: self.closed,
            connect: Times::of(&self.connect),
            connecting: (self.connected > 0).then_some((self.began, self.all_in)),
            tally: self.ledger.tally,
            latency: Times::of(&self.ledger.latency),
            last: self.ledger.last,
            cpu_share,
        }
    }
}

const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();
