//! A shard owns a share of the connections, alone, and follows the log.
//!
//! Everything in here is synchronous: the task around it (`shard_task.rs`) brings
//! commands, readiness and time, and gives it turns. One turn does a bounded amount
//! of each kind of work, so that a large room, a flood of requests or many that catch
//! up delay neither each other nor the runtime.
//!
//! Why no event is missed or doubled: a join is acted on between two walks, when the
//! shard is in one place of the log. What is up to there the connection does not get,
//! what comes after it gets as the shard goes on; there is no third case.

mod calls;
mod sweep;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use slab::Slab;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::connection::{Connection, ConnectionId, Flow, Phase};
use crate::error::ConnectError;
use crate::frame::ProtocolRef;
use crate::log::Place;
use crate::members::Members;
use crate::metrics::Counters;
use crate::position::{Cursor, Frontier};
use crate::replay::Verdict;
use crate::revoking::{Revoke, tag};
use crate::role::{Identity, Rights};
use crate::shared::Shared;
use crate::sink::{Close, Input, Readiness, Ready, Sink, Token};
use crate::walk::Walk;

/// How long a turn should be: other tasks of the runtime wait for its end.
const TURN: Duration = Duration::from_millis(1);
/// Connections written to in one turn: as many as that takes, within these bounds.
const WRITES: std::ops::RangeInclusive<usize> = 16..=1024;
/// Commands and reads of one turn.
const COMMANDS: usize = 64;
const READS: usize = 64;
/// Bytes read at once.
const SCRATCH: usize = 16 * 1024;

/// What a hub asks of a shard.
pub(crate) enum Command {
    Connect(Box<Newcomer>),
    Close {
        id: ConnectionId,
        close: Close,
    },
    /// Apply what was revoked; how many connections were closed or changed is the answer.
    Revoke {
        revoked: Arc<[Revoke]>,
        done: oneshot::Sender<usize>,
    },
    /// Close all, and end once they are gone, or at the deadline.
    Drain {
        close: Close,
        deadline: Instant,
    },
}

/// A connection that asks to be let in.
pub(crate) struct Newcomer {
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) protocol: ProtocolRef,
    pub(crate) identity: Identity,
    pub(crate) rights: Rights,
    pub(crate) reply: oneshot::Sender<Result<ConnectionId, ConnectError>>,
}

/// One shard's state.
pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) connections: Slab<Connection>,
    pub(crate) members: Members,
    /// Up to where it has walked; always the end of a batch.
    pub(crate) place: Place,
    /// That batch's number.
    pub(crate) batch: u64,
    /// How far each lane had been read there.
    pub(crate) frontier: Frontier,
    pub(crate) walk: Walk,
    pub(crate) now: Instant,
    pub(crate) counters: Counters,
    pub(crate) wall: SystemTime,
    began: Instant,
    commands: VecDeque<Command>,
    unread: VecDeque<u32>,
    catching: VecDeque<u32>,
    /// Those that have all up to the shard's place and are not live yet.
    pub(crate) following: Vec<u32>,
    /// Those that came back with a cursor and wait for their turn, and how many may go on
    /// now.
    pub(crate) resuming: VecDeque<u32>,
    pub(crate) resume_credit: u32,
    /// Those that have read all that a replay has so far.
    pub(crate) replaying: Vec<u32>,
    verdicts: Vec<(Token, Verdict)>,
    /// The cursor of those who are live, and the batch that it is after.
    cursor: Option<(u64, Cursor)>,
    pub(crate) dead: Vec<u32>,
    /// The next slot of the sweep that is under way.
    sweep: Option<usize>,
    pub(crate) readiness: Box<dyn Readiness>,
    scratch: Vec<u8>,
    generation: u32,
    drain: Option<Instant>,
    /// Connections written to in one turn.
    writes: usize,
}

/// Whether a shard has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// At once.
    More,
    /// Once something happens.
    Idle,
    /// Never again: it has drained.
    Finished,
}

impl Shard {
    pub(crate) fn new(
        index: usize,
        shared: Arc<Shared>,
        readiness: Box<dyn Readiness>,
        now: Instant,
    ) -> Self {
        let (place, frontier) = shared.log.tail();
        Self {
            index,
            place,
            batch: shared.log.head(),
            frontier,
            shared,
            connections: Slab::new(),
            members: Members::new(index),
            walk: Walk::default(),
            now,
            wall: SystemTime::now(),
            began: now,
            counters: Counters::default(),
            commands: VecDeque::new(),
            unread: VecDeque::new(),
            catching: VecDeque::new(),
            following: Vec::new(),
            resuming: VecDeque::new(),
            resume_credit: 0,
            replaying: Vec::new(),
            verdicts: Vec::new(),
            cursor: None,
            dead: Vec::new(),
            sweep: None,
            readiness,
            scratch: vec![0; SCRATCH],
            generation: 0,
            drain: None,
            writes: 256,
        }
    }

    /// How many commands may be put in before the next turn.
    pub(crate) fn room_for_commands(&self) -> usize {
        COMMANDS.saturating_sub(self.commands.len())
    }

    /// Puts in a command; it is acted on between two walks.
    pub(crate) fn command(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    /// A sweep is due.
    pub(crate) fn tick(&mut self) {
        self.sweep.get_or_insert(0);
    }

    /// A socket can be read or written.
    pub(crate) fn ready(&mut self, ready: Ready) {
        let Some(key) = self.find(ready.token) else { return };
        let connection = &mut self.connections[key];
        if ready.readable {
            connection.readable = true;
            self.read_again(key);
        }
        if ready.writable && !self.connections[key].is_live() {
            self.queue_catch_up(key);
        }
    }

    /// A connection's waker was woken.
    pub(crate) fn woken(&mut self, token: Token) {
        self.ready(Ready { token, readable: true, writable: true });
    }

    /// Somebody who waits for a replay is told.
    pub(crate) fn told(&mut self, told: impl IntoIterator<Item = (Token, Verdict)>) {
        self.verdicts.extend(told);
    }

    /// A replay has more than before.
    pub(crate) fn replay_moved(&mut self) {
        for key in std::mem::take(&mut self.replaying) {
            let Some(connection) = self.connections.get_mut(key as usize) else { continue };
            if let Flow::Behind(behind) = &mut connection.flow {
                behind.awaits_replay = false;
            }
            self.queue_catch_up(key as usize);
        }
    }

    /// Whether anybody waits for his turn to resume.
    pub(crate) fn resumes_wait(&self) -> bool {
        !self.resuming.is_empty()
    }

    /// How many more may resume until the next time.
    pub(crate) fn let_resume(&mut self, most: u32) {
        self.resume_credit = most;
    }

    /// Whether there is something to do now.
    pub(crate) fn has_work(&self) -> bool {
        self.log_moved()
            || !self.verdicts.is_empty()
            || (self.resume_credit > 0 && !self.resuming.is_empty())
            || !(self.commands.is_empty() && self.unread.is_empty() && self.catching.is_empty())
            || self.sweep.is_some()
    }

    /// Does a bounded amount of what there is to do.
    pub(crate) fn turn(&mut self, now: Instant, wall: SystemTime) -> Turn {
        (self.now, self.wall) = (now, wall);
        self.walk_on(self.writes);
        if self.walk.under_way() {
            return Turn::More;
        }
        self.bury();
        for _ in 0..COMMANDS {
            let Some(command) = self.commands.pop_front() else { break };
            // That is a pass over all connections: one a turn.
            let last = matches!(command, Command::Revoke { .. });
            self.act(command);
            if last {
                break;
            }
        }
        for _ in 0..READS.min(self.unread.len()) {
            let Some(key) = self.unread.pop_front() else { break };
            self.read(key as usize);
        }
        for (token, verdict) in std::mem::take(&mut self.verdicts) {
            self.judge(token, verdict);
        }
        self.admit_resumes();
        let mut budget = self.shared.limits.catch_up_bytes;
        for _ in 0..self.catching.len() {
            let Some(key) = self.catching.pop_front() else { break };
            if self.connections.get(key as usize).is_some_and(|c| c.catching) {
                self.catch_up(key as usize, &mut budget);
            }
            if budget == 0 {
                break;
            }
        }
        self.sweep_some();
        self.bury();
        self.counters.publish(self.connections.len(), &self.shared.shards[self.index].counts);
        if self.drain.is_some_and(|deadline| self.connections.is_empty() || deadline <= now) {
            return Turn::Finished;
        }
        if self.has_work() { Turn::More } else { Turn::Idle }
    }

    /// Learns how long the last turn took: what a write costs depends on the kernel, on
    /// its size and on who else wants the processor.
    pub(crate) fn took(&mut self, time: Duration) {
        // Otherwise it was not the writes that made it long or short.
        if !self.walk.under_way() {
            return;
        }
        let fitting = self.writes as u128 * TURN.as_nanos() / time.as_nanos().max(1);
        // Not at once: it may have been the turn of somebody else on this processor.
        let fitting = (fitting as usize).clamp(self.writes / 2, self.writes * 2);
        self.writes = fitting.clamp(*WRITES.start(), *WRITES.end());
    }

    fn act(&mut self, command: Command) {
        match command {
            Command::Connect(newcomer) => self.connect(*newcomer),
            Command::Close { id, close } => {
                if let Some(key) = self.find_id(id) {
                    self.begin_close(key, &close);
                }
            }
            Command::Revoke { revoked, done } => {
                let _ = done.send(self.revoke(&revoked));
            }
            Command::Drain { close, deadline } => {
                self.drain = Some(deadline);
                let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
                for key in keys {
                    self.begin_close(key, &close);
                }
            }
        }
    }

    fn connect(&mut self, newcomer: Newcomer) {
        let Newcomer { sink, protocol, identity, rights, reply } = newcomer;
        // Here, where it is put in: since it was let in something may have been revoked.
        let admitted = match self.drain {
            None => self.admit(identity, rights),
            Some(_) => Err(ConnectError::Draining),
        };
        let (identity, rights) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                self.shared.release(self.index);
                let _ = reply.send(Err(error));
                return;
            }
        };
        self.generation = self.generation.wrapping_add(1);
        let now = self.tenths();
        let connection = Connection {
            sink: Some(sink),
            protocol,
            requests_at: 0,
            subject_tag: tag(&identity.subject),
            identity: Arc::new(identity),
            view: rights.view_id,
            flow: Flow::Live,
            control: None,
            memberships: SmallVec::new(),
            phase: Phase::Open,
            generation: self.generation,
            wake: None,
            heartbeat_at: now + self.heartbeat_tenths(),
            heard_at: now,
            walk_epoch: 0,
            walk_group: 0,
            unread: false,
            catching: false,
            readable: true,
            write_watched: false,
        };
        let key = self.connections.insert(connection);
        #[cfg(unix)]
        {
            let token = self.id(key).token();
            let sink = self.connections[key].sink.as_ref().expect("just put in");
            if let Some(socket) = sink.socket() {
                if let Err(error) = self.readiness.add(socket, token) {
                    self.connections.remove(key);
                    self.shared.release(self.index);
                    let _ = reply.send(Err(ConnectError::Readiness(error)));
                    return;
                }
                self.counters.sockets += 1;
            }
        }
        for room in &rights.rooms {
            let room = self.shared.rooms.intern(room);
            self.join(key, room, true);
        }
        let _ = reply.send(Ok(self.id(key)));
        self.called(key, true, Sink::opened);
        self.flush(key);
        // What came with the handshake, or before the socket was watched.
        self.read_again(key);
    }

    fn read(&mut self, key: usize) {
        let now = self.tenths();
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !std::mem::take(&mut connection.unread) || connection.phase == Phase::Dead {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let input = self.with_sink(key, |sink, session| sink.try_read(session, &mut scratch));
        self.scratch = scratch;
        match input {
            Ok(Input::More) => {
                self.connections[key].heard_at = now;
                self.read_again(key);
            }
            Ok(Input::Blocked) => self.connections[key].readable = false,
            Ok(Input::Closed) => self.finish(key),
            Err(_) => self.condemn(key),
        }
    }

    /// Queues a connection to be read, unless it has too much to write already.
    pub(crate) fn read_again(&mut self, key: usize) {
        let most = self.shared.limits.control_bytes / 4;
        let connection = &mut self.connections[key];
        if connection.readable && !connection.unread && connection.control_bytes() <= most {
            connection.unread = true;
            self.unread.push_back(key as u32);
        }
    }

    pub(crate) fn queue_catch_up(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if !connection.catching {
            connection.catching = true;
            self.catching.push_back(key as u32);
        }
    }

    /// Waits until a connection's sink can take more.
    pub(crate) fn wait_for_room(&mut self, key: usize) {
        self.watch(key, true);
    }

    /// Sets whether writability is waited for; wakers tell of it by themselves.
    pub(crate) fn watch(&mut self, key: usize, write: bool) {
        #[cfg(unix)]
        {
            let token = self.id(key).token();
            let connection = &mut self.connections[key];
            if !write && !connection.write_watched {
                return;
            }
            connection.write_watched = write;
            let Some(sink) = connection.sink.as_ref() else { return };
            let Some(socket) = sink.socket() else { return };
            if self.readiness.watch(socket, token, write).is_err() {
                self.condemn(key);
            }
        }
        #[cfg(not(unix))]
        let _ = (key, write);
    }

    /// Tenths of a second since the shard began: thirteen years of them.
    fn tenths(&self) -> u32 {
        (self.now.saturating_duration_since(self.began).as_millis() / 100) as u32
    }

    /// Nanoseconds since the shard began: five hundred years of them.
    pub(crate) fn nanos(&self) -> u64 {
        self.now.saturating_duration_since(self.began).as_nanos() as u64
    }

    pub(crate) fn since(&self, tenths: u32) -> Duration {
        Duration::from_millis(100) * self.tenths().saturating_sub(tenths)
    }

    pub(crate) fn id(&self, key: usize) -> ConnectionId {
        let generation = self.connections[key].generation;
        let (hub, shard) = (self.shared.id, self.index as u8);
        ConnectionId { hub, shard, key: key as u32, generation }
    }

    /// The connection of this name, where it is one of this shard.
    pub(crate) fn find_id(&self, id: ConnectionId) -> Option<usize> {
        let here = id.hub == self.shared.id && usize::from(id.shard) == self.index;
        if here { self.find(id.token()) } else { None }
    }

    pub(crate) fn find(&self, token: Token) -> Option<usize> {
        let (key, generation) = (token.0 as u32 as usize, (token.0 >> 32) as u32);
        let connection = self.connections.get(key)?;
        (connection.generation == generation && connection.phase != Phase::Dead).then_some(key)
    }

    pub(crate) fn waker(&mut self, key: usize) -> Waker {
        let token = self.id(key).token();
        let (shared, index) = (&self.shared, self.index);
        let make = || crate::shard_task::waker(shared, index, token);
        self.connections[key].wake.get_or_insert_with(make).clone()
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        for _ in 0..self.connections.len() {
            self.shared.release(self.index);
        }
        self.counters.behind = 0;
        self.counters.publish(0, &self.shared.shards[self.index].counts);
        self.shared.stopped(self.index);
    }
}
