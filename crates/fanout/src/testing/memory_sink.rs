//! A sink in memory that takes as much as a test lets it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::frame::{Delivery, Frame, Protocol};
use crate::position::Cursor;
use crate::role::{Identity, Role};
use crate::room::Room;
use crate::session::{Renewed, Session};
use crate::sink::{Close, Gap, Input, Sink};

/// One line an emission: `event|room|body|at`, with `|skipped` where one stands for
/// others, and `!` before what is no emission.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

impl Protocol for Lines {
    fn frame(&self, delivery: &Delivery<'_>) -> Frame {
        let room = delivery.room.map_or("", Room::as_str);
        let at = delivery.at.map(|at| at.to_string()).unwrap_or_default();
        let body = delivery.body.as_str();
        let skipped = match delivery.skipped {
            0 => String::new(),
            skipped => format!("|{skipped}"),
        };
        Bytes::from(format!("{}|{room}|{body}|{at}{skipped}\n", delivery.event)).into()
    }
}

/// As [`Lines`], with the whole cursor in the place of `at`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CursorLines;

impl Protocol for CursorLines {
    fn frame(&self, delivery: &Delivery<'_>) -> Frame {
        let room = delivery.room.map_or("", Room::as_str);
        let cursor = delivery.cursor.map_or("", Cursor::as_str);
        let body = delivery.body.as_str();
        let skipped = match delivery.skipped {
            0 => String::new(),
            skipped => format!("|{skipped}"),
        };
        Bytes::from(format!("{}|{room}|{body}|{cursor}{skipped}\n", delivery.event)).into()
    }

    fn whole_cursors(&self) -> bool {
        true
    }
}

/// What a [`MemoryPeer`] asks for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Join a room; answered `!joined ROOM` or `!refused ROOM`.
    Join(Room),
    /// Leave a room; answered `!left ROOM`.
    Leave(Room),
    /// Take over an identity; answered `!renewed true`, or `!renewed false WHY`.
    Renew(Identity),
    /// Answered `!pong`.
    Ping,
    /// Take one from the requests that it may make; answered `!taken` or `!wait MILLISECONDS`.
    Request,
    /// Who it is to the hub now; answered `!is SUBJECT ROLES`.
    Identity,
}

/// The hub's end of a connection in memory.
#[derive(Debug)]
pub struct MemorySink {
    peer: MemoryPeer,
    /// What it comes with, until it is in.
    opening: Option<Opening>,
}

#[derive(Debug)]
struct Opening {
    cursor: Option<String>,
    rooms: Vec<Room>,
}

/// The test's end of a connection in memory.
#[derive(Clone, Debug)]
pub struct MemoryPeer {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    received: Vec<u8>,
    /// The bodies of the emissions received whole, up to `parsed` bytes.
    bodies: Vec<String>,
    parsed: usize,
    allowed: usize,
    asks: VecDeque<Ask>,
    gone: bool,
    dropped: bool,
    closed: Option<Close>,
    waker: Option<Waker>,
}

impl State {
    fn parse(&mut self) -> &Vec<String> {
        let new = &self.received[self.parsed..];
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text = std::str::from_utf8(&new[..whole]).expect("lines are text");
        let emissions = text.lines().filter(|line| !line.starts_with('!'));
        self.bodies.extend(emissions.filter_map(|line| Some(line.split('|').nth(2)?.to_owned())));
        self.parsed += whole;
        &self.bodies
    }
}

impl MemorySink {
    /// A sink that takes everything, and its peer.
    pub fn new() -> (MemoryPeer, Self) {
        let state = State {
            received: Vec::new(),
            bodies: Vec::new(),
            parsed: 0,
            allowed: usize::MAX,
            asks: VecDeque::new(),
            gone: false,
            dropped: false,
            closed: None,
            waker: None,
        };
        let state = Arc::new(Mutex::new(state));
        let peer = MemoryPeer { state, changed: Arc::default() };
        (peer.clone(), Self { peer, opening: None })
    }

    /// One that asks for rooms, and comes back with a cursor where it has one. Answered
    /// `!welcome CURSOR RECOVERED`, the last `true`, `false` or `new`.
    pub fn returning(cursor: Option<String>, rooms: Vec<Room>) -> (MemoryPeer, Self) {
        let (peer, mut sink) = Self::new();
        sink.opening = Some(Opening { cursor, rooms });
        (peer, sink)
    }
}

impl MemoryPeer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state();
        let result = change(&mut state);
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// Takes nothing from now on.
    pub fn stall(&self) {
        self.change(|state| state.allowed = 0);
    }

    /// Takes this many bytes more, then nothing.
    pub fn allow(&self, bytes: usize) {
        self.change(|state| state.allowed = state.allowed.saturating_add(bytes));
    }

    /// Takes everything from now on.
    pub fn flow(&self) {
        self.change(|state| state.allowed = usize::MAX);
    }

    /// Asks for something.
    pub fn ask(&self, ask: Ask) {
        self.change(|state| state.asks.push_back(ask));
    }

    /// Goes away without a word.
    pub fn hang_up(&self) {
        self.change(|state| state.gone = true);
    }

    /// The bytes received so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.state().received.clone()
    }

    /// The lines received so far; the last may be cut.
    pub fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.bytes()).expect("lines are text");
        text.split_inclusive('\n').map(str::to_owned).collect()
    }

    /// The bodies of the emissions received whole so far.
    pub fn bodies(&self) -> Vec<String> {
        self.state().parse().clone()
    }

    /// How many emissions were received whole so far.
    pub fn count(&self) -> usize {
        self.state().parse().len()
    }

    /// The body of the `n`th emission, once it was received whole.
    pub fn body(&self, n: usize) -> Option<String> {
        self.state().parse().get(n).cloned()
    }

    /// Why the hub closed it, where it did.
    pub fn closed(&self) -> Option<Close> {
        self.state().closed.clone()
    }

    /// Whether the hub has let go of it.
    pub fn dropped(&self) -> bool {
        self.state().dropped
    }

    /// Waits until something holds of it.
    ///
    /// # Panics
    /// Where it does not within ten seconds.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(10), wait).await;
        assert!(in_time.is_ok(), "waited in vain until {what}; lines {:?}", self.lines());
    }
}

impl Sink for MemorySink {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.peer.state();
        if state.gone {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut taken = 0;
        for slice in slices {
            let part = slice.len().min(state.allowed);
            state.received.extend_from_slice(&slice[..part]);
            if state.allowed != usize::MAX {
                state.allowed -= part;
            }
            taken += part;
            if part < slice.len() {
                break;
            }
        }
        drop(state);
        self.peer.changed.notify_waiters();
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn try_read(&mut self, session: &mut Session<'_>, _: &mut [u8]) -> io::Result<Input> {
        let mut state = self.peer.state();
        if state.gone {
            return Ok(Input::Closed);
        }
        let Some(ask) = state.asks.pop_front() else { return Ok(Input::Blocked) };
        drop(state);
        let answer = match ask {
            Ask::Join(room) => match session.join(&room) {
                Ok(_) => format!("!joined {room}\n"),
                Err(_) => format!("!refused {room}\n"),
            },
            Ask::Leave(room) => match session.leave(&room) {
                Ok(_) => format!("!left {room}\n"),
                Err(_) => format!("!refused {room}\n"),
            },
            Ask::Renew(identity) => match session.renew(identity) {
                Ok(_) => "!renewed true\n".to_owned(),
                Err(error) => format!("!renewed false {error}\n"),
            },
            Ask::Ping => "!pong\n".to_owned(),
            Ask::Request => match session.take_request() {
                Ok(()) => "!taken\n".to_owned(),
                Err(wait) => format!("!wait {}\n", wait.as_millis()),
            },
            Ask::Identity => {
                let identity = session.identity();
                let roles: Vec<_> = identity.roles.iter().map(Role::as_str).collect();
                format!("!is {} {}\n", identity.subject, roles.join(","))
            }
        };
        session.send(Bytes::from(answer));
        Ok(Input::More)
    }

    fn opened(&mut self, session: &mut Session<'_>) {
        self.peer.state().waker = Some(session.waker());
        let Some(opening) = self.opening.take() else { return };
        for room in &opening.rooms {
            let _ = session.join(room);
        }
        let recovered = opening.cursor.map(|cursor| session.resume(&cursor));
        let cursor = session.cursor().expect("who has only just come has a cursor");
        let recovered = recovered.map_or("new", |yes| if yes { "true" } else { "false" });
        session.send(Bytes::from(format!("!welcome {cursor} {recovered}\n")));
    }

    fn heartbeat(&mut self, session: &mut Session<'_>) {
        match session.cursor().filter(|_| session.is_live()) {
            Some(cursor) => session.send(Bytes::from(format!("!heartbeat {cursor}\n"))),
            None => session.send(Bytes::from_static(b"!heartbeat\n")),
        }
    }

    fn gap(&mut self, session: &mut Session<'_>, gap: &Gap) {
        let rooms: Vec<_> = gap.rooms.iter().map(Room::as_str).collect();
        session.send(Bytes::from(format!("!gap {} {}\n", gap.reason.name(), rooms.join(","))));
    }

    fn renewed(&mut self, session: &mut Session<'_>, renewed: &Renewed) {
        for room in &renewed.left {
            session.send(Bytes::from(format!("!unsubscribed {room}\n")));
        }
    }

    fn closing(&mut self, session: &mut Session<'_>, close: &Close) {
        self.peer.state().closed = Some(close.clone());
        session.send(Bytes::from(format!("!close {}\n", close.name())));
        session.finish();
    }
}

impl Drop for MemorySink {
    fn drop(&mut self) {
        self.peer.state().dropped = true;
        self.peer.changed.notify_waiters();
    }
}
