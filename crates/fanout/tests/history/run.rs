//! One run: nodes that read one log, clients that come and go, and all that goes wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanout::testing::{
    Ask, CursorLines, Lines, MemoryLog, MemoryLogPause, MemoryPeer, MemorySink, MemoryStart, Tokens,
};
use fanout::{
    Access, Close, Gap, Hub, Identity, Input, Keyring, Lane, Limits, Overflow, Pipeline, Policy,
    ProtocolRef, Room, RoomPattern, Session, Sink, SourceHealth,
};

use crate::judge::{Judge, Places, of};
use crate::scene::{ASKED, Chance, EXTRA, Truth, VIEWERS, access, any_event, route};

/// What may happen in a run.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each may happen with any other")]
pub(crate) struct Hazards {
    lossy: bool,
    small_replays: bool,
    unavailable: bool,
    expiry: bool,
    growth: bool,
    closing: bool,
    foreign: bool,
    slow_is_closed: bool,
    /// Whether time is the test's.
    paused_clock: bool,
}

/// Bytes of a log that keeps all there is in a run.
const LARGE: u64 = 1 << 20;

fn keys() -> Keyring {
    Keyring::new('h', &[5; 32]).expect("a key")
}

/// A sink in memory that tells its cursor when it is asked.
struct Telling {
    sink: MemorySink,
    asked: Arc<AtomicBool>,
}

impl Sink for Telling {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sink.try_write(slices)
    }

    fn try_read(&mut self, session: &mut Session<'_>, scratch: &mut [u8]) -> io::Result<Input> {
        if self.asked.swap(false, Ordering::SeqCst) {
            self.sink.heartbeat(session);
            return Ok(Input::More);
        }
        self.sink.try_read(session, scratch)
    }

    fn opened(&mut self, session: &mut Session<'_>) {
        self.sink.opened(session);
    }

    fn heartbeat(&mut self, session: &mut Session<'_>) {
        self.sink.heartbeat(session);
    }

    fn gap(&mut self, session: &mut Session<'_>, gap: &Gap) {
        self.sink.gap(session, gap);
    }

    fn closing(&mut self, session: &mut Session<'_>, close: &Close) {
        self.sink.closing(session, close);
    }
}

struct Node {
    hub: Hub,
    lines: ProtocolRef,
    cursors: ProtocolRef,
    pause: MemoryLogPause,
    /// Lanes that it has had, and those that it cannot have any more.
    had: BTreeSet<usize>,
    never: BTreeSet<usize>,
    pipeline: tokio::task::AbortHandle,
}

struct Client {
    name: String,
    whole_cursors: bool,
    roles: Vec<&'static str>,
    /// The rooms that it asks for when it comes back.
    rooms: BTreeSet<String>,
    /// What it keeps of the tokens it is given.
    whole: Option<String>,
    ats: BTreeMap<String, String>,
    judge: Judge,
    session: Option<At>,
    markers: BTreeSet<String>,
    record: Vec<String>,
}

/// Where a client is.
struct At {
    node: usize,
    peer: MemoryPeer,
    asked: Arc<AtomicBool>,
    read: usize,
    asks: VecDeque<(Asked, Places)>,
    shown: Shown,
    /// Lanes that its node had closed before.
    gone: BTreeSet<usize>,
    closed: bool,
}

/// What a client came with.
#[derive(Clone, Debug)]
enum Shown {
    Nothing,
    Cursor(Places),
    /// Of nobody here.
    Forged,
}

enum Asked {
    Join(String),
    Leave(String),
    Renew(Vec<&'static str>),
}

/// One run.
pub(crate) struct Run {
    chance: Chance,
    hazards: Hazards,
    access: Access,
    log: MemoryLog,
    /// All that there were, by their numbers here.
    lanes: Vec<Lane>,
    tokens: Tokens,
    truth: Truth,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    limits: Limits,
    shards: usize,
    pub(crate) story: Vec<String>,
    pub(crate) gaps: BTreeMap<String, u64>,
    pub(crate) replays: u64,
    pub(crate) sessions: u64,
}

type Outcome = Result<(), String>;

fn view_of(roles: &[&str]) -> &'static str {
    // The first that is declared.
    VIEWERS.into_iter().find(|role| roles.contains(role)).unwrap_or(VIEWERS[0])
}

impl Run {
    pub(crate) async fn new(seed: u64, paused_clock: bool) -> Self {
        let mut chance = Chance(seed);
        let clean = chance.percent(40);
        let hazards = Hazards {
            lossy: chance.percent(25),
            small_replays: !clean && chance.percent(40),
            unavailable: !clean && chance.percent(30),
            expiry: !clean && chance.percent(40),
            growth: !clean && chance.percent(40),
            closing: !clean && chance.percent(40),
            foreign: !clean && chance.percent(20),
            slow_is_closed: chance.percent(30),
            paused_clock,
        };
        let mut limits = Limits::default();
        let large = if hazards.lossy { 50 } else { 10 };
        limits.log_bytes =
            if chance.percent(large) { LARGE } else { chance.of(&[2 << 10, 5 << 10, 12 << 10]) };
        limits.lag_bytes = chance.of(&[1 << 10, 64 << 10]);
        limits.catch_up_bytes = chance.of(&[600, 256 << 10]);
        limits.joined_bytes = chance.of(&[800, 256 << 10]);
        let most = if hazards.slow_is_closed { 1 << 10 } else { 1 << 30 };
        limits.overflow =
            Overflow::default().with_max_bytes(most).with_grace(Duration::from_millis(0));
        if hazards.small_replays {
            limits.replay_bytes = chance.of(&[4 << 10, 8 << 10, 30 << 10]);
            limits.replay_records = chance.of(&[5, 40, 200_000]);
        }
        limits.replay_keep = chance.of(&[Duration::ZERO, Duration::from_secs(5)]);
        let shards = chance.between(1, 4);
        let log = MemoryLog::new("history", chance.between(1, 4) as u32);
        let log = if chance.percent(50) { log.with_holes(chance.next()) } else { log };
        let mut run = Self {
            hazards,
            access: access(),
            log,
            lanes: Vec::new(),
            tokens: Tokens::new(keys(), []),
            truth: Truth::default(),
            nodes: Vec::new(),
            clients: Vec::new(),
            limits,
            shards,
            story: vec![format!("seed {seed}, {hazards:?}")],
            gaps: BTreeMap::new(),
            replays: 0,
            sessions: 0,
            chance,
        };
        run.note_lanes();
        for _ in 0..run.chance.below(8) {
            run.write(None);
        }
        for _ in 0..run.chance.between(1, 4) {
            let node = run.node().await;
            run.nodes.push(node);
        }
        for n in 0..run.chance.between(2, 5) {
            let roles = run.any_roles();
            let asked = run.chance.below(3);
            let rooms = (0..asked).map(|_| run.chance.of(&ASKED).to_owned()).collect();
            let begins_again = run.limits.log_bytes < LARGE || run.hazards.small_replays;
            let judge = Judge::new(begins_again);
            run.clients.push(Client {
                name: format!("c{n}"),
                whole_cursors: run.chance.percent(50),
                roles,
                rooms,
                whole: None,
                ats: BTreeMap::new(),
                judge,
                session: None,
                markers: BTreeSet::new(),
                record: Vec::new(),
            });
        }
        run
    }

    fn any_roles(&mut self) -> Vec<&'static str> {
        let mut roles = vec![self.chance.of(&VIEWERS)];
        if self.chance.percent(40) {
            roles.push(EXTRA);
        }
        roles
    }

    fn tell(&mut self, what: String) {
        self.story.push(what);
    }

    async fn node(&mut self) -> Node {
        let start = match self.chance.below(3) {
            0 => MemoryStart::Earliest,
            1 => MemoryStart::Latest,
            _ => MemoryStart::Last(self.chance.below(6)),
        };
        let mut builder = Hub::builder(access()).limits(self.limits.clone()).keys(keys());
        if self.hazards.lossy {
            let small = |policy| Overflow::new(policy).with_max_bytes(400);
            let rooms = |pattern| RoomPattern::new(pattern).expect("a pattern");
            builder = builder
                .overflow(rooms("drop:*"), small(Policy::DropOldest))
                .overflow(rooms("conf:*"), small(Policy::Conflate));
        }
        let hub = builder.shards(self.shards).build().expect("a hub");
        let (lines, cursors) = (hub.protocol(Lines), hub.protocol(CursorLines));
        let never = self.truth.closed.clone();
        let source = self.log.source(start);
        let pause = source.pause();
        let pipeline = Pipeline::new(source, route, hub.clone());
        let mut status = pipeline.status();
        let pipeline = tokio::spawn(pipeline.run()).abort_handle();
        // A server that is not ready lets nobody in.
        assert!(status.wait_for(SourceHealth::ready).await);
        self.tell(format!("a node starts {start:?}"));
        Node { hub, lines, cursors, pause, had: BTreeSet::new(), never, pipeline }
    }

    fn write(&mut self, only: Option<String>) {
        let open = self.log.lanes();
        if !open.is_empty() {
            let lane = self.chance.of(&open);
            self.write_to(&lane, only);
        }
    }

    /// A lane's number, for the judge.
    fn number_of(&self, lane: &Lane) -> usize {
        self.lanes.iter().position(|known| known == lane).expect("it was noted")
    }

    /// There may be new lanes.
    fn note_lanes(&mut self) {
        for lane in self.log.lanes() {
            if !self.lanes.contains(&lane) {
                self.lanes.push((*lane).clone());
            }
        }
        self.tokens = Tokens::new(keys(), self.lanes.iter().cloned());
    }

    fn write_to(&mut self, lane: &Lane, only: Option<String>) {
        let partition = lane.partition;
        let number = self.truth.number();
        let (lossy, clients) = (self.hazards.lossy, self.clients.len());
        let event = only.unwrap_or_else(|| any_event(&mut self.chance, number, lossy, clients));
        let offset = self.log.write(partition, None, event.clone());
        let lane = self.number_of(lane);
        self.truth.add(lane, offset, &event);
        self.tell(format!("write {lane}/{offset} {event}"));
    }

    fn open(&self, cursor: &str) -> Option<Places> {
        let mut places = Places::new();
        for (lane, offset, emission) in self.tokens.open(cursor)? {
            let at = self.number_of(&lane);
            places.resize(places.len().max(at + 1), (0, 0));
            places[at] = (offset, emission);
        }
        Some(places)
    }

    fn tail(&self, node: usize) -> Places {
        self.open(self.nodes[node].hub.cursor().as_str()).expect("a node's own cursor")
    }

    /// As [`tail`](Self::tail), with all there was of what is closed and the node does not
    /// have any more.
    fn reached(&self, node: usize) -> Places {
        let mut places = self.tail(node);
        places.resize(self.lanes.len(), (0, 0));
        for lane in &self.truth.closed {
            if places[*lane] == (0, 0) {
                places[*lane] = (u64::MAX, 0);
            }
        }
        places
    }

    /// Looks which lanes a node has.
    fn look(&mut self, node: usize) {
        let tail = self.tail(node);
        let named = (0..tail.len()).filter(|lane| tail[*lane] != (0, 0));
        self.nodes[node].had.extend(named);
    }

    /// Lanes that a node has closed, or will never have.
    fn gone(&self, node: usize) -> BTreeSet<usize> {
        let (tail, Node { had, never, .. }) = (self.tail(node), &self.nodes[node]);
        let closed = had.iter().filter(|lane| of(&tail, **lane) == (0, 0));
        closed.chain(never).copied().collect()
    }

    /// What a client comes back with.
    fn cursor(&self, client: usize) -> Option<String> {
        let Client { whole, ats, .. } = &self.clients[client];
        let whole = whole.as_ref()?;
        let all: Vec<&str> =
            std::iter::once(whole.as_str()).chain(ats.values().map(String::as_str)).collect();
        Some(all.join(","))
    }

    fn identity(&self, client: usize) -> Identity {
        let Client { name, roles, .. } = &self.clients[client];
        Identity::new(name.as_str(), roles.iter().copied())
    }

    async fn connect(&mut self, client: usize, node: usize, flows: bool) {
        let mut cursor = self.cursor(client);
        let mut known = cursor.as_deref().map(|cursor| self.open(cursor).expect("it was given"));
        if cursor.is_some() && !flows && self.hazards.foreign && self.chance.percent(15) {
            (cursor, known) = (Some("hforged".into()), None);
        }
        let identity = self.identity(client);
        let asked = &self.clients[client].rooms;
        let asked: Vec<Room> = asked.iter().map(|room| Room::new(room).expect("a name")).collect();
        let (peer, sink) = MemorySink::returning(cursor.clone(), asked);
        if !flows && self.chance.percent(40) {
            peer.stall();
            let some = self.chance.below(600);
            peer.allow(some);
        }
        let gone = self.gone(node);
        let told = Arc::new(AtomicBool::new(false));
        let sink = Telling { sink, asked: told.clone() };
        let Node { hub, lines, cursors, .. } = &self.nodes[node];
        let protocol = if self.clients[client].whole_cursors { cursors } else { lines };
        hub.connect(protocol, identity, sink).await.expect("let in");
        self.sessions += 1;
        let shown = match (cursor, known) {
            (None, _) => Shown::Nothing,
            (Some(_), Some(places)) => Shown::Cursor(places),
            (Some(_), None) => Shown::Forged,
        };
        self.tell(format!("c{client} comes to node {node} with {shown:?}"));
        self.clients[client].record.push(format!("-- node {node}, {shown:?}"));
        self.clients[client].session = Some(At {
            node,
            peer,
            asked: told,
            read: 0,
            asks: VecDeque::new(),
            shown,
            gone,
            closed: false,
        });
    }

    /// What a client has received since, line by line.
    fn absorb(&mut self, client: usize) -> Outcome {
        let Some(at) = &mut self.clients[client].session else { return Ok(()) };
        let bytes = at.peer.bytes();
        let new = &bytes[at.read..];
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text = String::from_utf8(new[..whole].to_vec()).expect("lines are text");
        at.read += whole;
        for line in text.lines() {
            let short: String = line.chars().take(90).collect();
            self.clients[client].record.push(short);
            self.line(client, line).map_err(|what| format!("c{client}: {what}"))?;
        }
        Ok(())
    }

    fn line(&mut self, client: usize, line: &str) -> Outcome {
        let at = self.clients[client].session.as_ref().expect("it is connected");
        if at.closed {
            // An answer to what was asked before it.
            let event = !line.starts_with('!');
            return if event { Err(format!("after the close came {line}")) } else { Ok(()) };
        }
        let tail = self.reached(at.node);
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["!welcome", cursor, recovered] => self.welcome(client, cursor, recovered, &tail),
            ["!heartbeat", cursor] => {
                let places = self.open(cursor).ok_or("a heartbeat's cursor cannot be read")?;
                let client = &mut self.clients[client];
                (client.whole, client.ats) = (Some(cursor.to_owned()), BTreeMap::new());
                client.judge.is_live(&self.truth, &places)
            }
            ["!heartbeat"] => Ok(()),
            ["!gap", reason, rooms] => self.gap(client, reason, rooms, &tail),
            ["!close", _] => {
                self.clients[client].session.as_mut().expect("as above").closed = true;
                Ok(())
            }
            _ if line.starts_with('!') => self.answer(client, line, &tail),
            _ => self.emission(client, line),
        }
    }

    fn welcome(&mut self, client: usize, cursor: &str, recovered: &str, tail: &Places) -> Outcome {
        let welcome = self.open(cursor).ok_or("the welcome's cursor cannot be read")?;
        let identity = self.identity(client);
        let own = self.access.rights(&identity).expect("it was let in").rooms;
        let known = &mut self.clients[client];
        known
            .rooms
            .retain(|room| self.access.may_join(&identity, &Room::new(room).expect("a name")));
        let rooms = own.iter().map(Room::to_string).chain(known.rooms.iter().cloned());
        let rooms: Vec<String> = rooms.collect::<BTreeSet<_>>().into_iter().collect();
        let view = view_of(&known.roles);
        (known.whole, known.ats) = (Some(cursor.to_owned()), BTreeMap::new());
        let at = known.session.as_ref().expect("it is connected");
        let (shown, gone) = (at.shown.clone(), at.gone.clone());
        let judge = &mut known.judge;
        match (shown, recovered) {
            (Shown::Nothing, "new") => {
                judge.comes(rooms, view, &welcome, tail);
                Ok(())
            }
            (Shown::Cursor(shown), "true") => {
                let lanes = shown.len().max(welcome.len());
                if (0..lanes).any(|lane| of(&shown, lane) != of(&welcome, lane)) {
                    return Err(format!("came with {shown:?}, welcomed with {welcome:?}"));
                }
                judge.returns(&self.truth, rooms, view, &shown, &gone)
            }
            // Unreadable, or of a lane that the node does not know.
            (Shown::Cursor(_) | Shown::Forged, "false") => {
                judge.returns_in_vain(rooms, view, tail);
                Ok(())
            }
            (shown, _) => Err(format!("{recovered} upon {shown:?}")),
        }
    }

    fn gap(&mut self, client: usize, reason: &str, rooms: &str, tail: &Places) -> Outcome {
        let Hazards { expiry, small_replays, unavailable, growth, closing, foreign, lossy, .. } =
            self.hazards;
        let has_reason = match reason {
            "expired" => expiry || closing,
            "limit" => small_replays || unavailable,
            "reset" => growth || closing || foreign,
            "overflow" => lossy,
            _ => false,
        };
        if !has_reason {
            return Err(format!("a gap without reason: {reason}"));
        }
        *self.gaps.entry(reason.to_owned()).or_default() += 1;
        let rooms: Vec<String> = rooms.split(',').map(str::to_owned).collect();
        self.clients[client].judge.gap(reason, &rooms, tail)
    }

    fn answer(&mut self, client: usize, line: &str, tail: &Places) -> Outcome {
        let known = &mut self.clients[client];
        let asked = known.session.as_mut().and_then(|at| at.asks.pop_front());
        let (asked, before) = asked.ok_or(format!("an answer to nothing: {line}"))?;
        let (what, _) = line.split_once(' ').unwrap_or((line, ""));
        match (asked, what) {
            (Asked::Join(room), "!joined") => {
                known.judge.joined(&room, &before, tail);
                known.rooms.insert(room);
            }
            (Asked::Leave(room), "!left") => {
                known.judge.left(&room);
                known.rooms.remove(&room);
            }
            (Asked::Join(_) | Asked::Leave(_), "!refused") => {}
            (Asked::Renew(roles), "!renewed") => {
                known.roles = roles;
                let identity = self.identity(client);
                let own = self.access.rights(&identity).expect("it is let in").rooms;
                let known = &mut self.clients[client];
                let was: Vec<String> = known.judge.rooms().cloned().collect();
                for room in was {
                    if !self.access.may_join(&identity, &Room::new(&room).expect("a name")) {
                        known.judge.left(&room);
                        known.rooms.remove(&room);
                    }
                }
                for room in own {
                    known.judge.joined(room.as_str(), &before, tail);
                }
                known.judge.sees(view_of(&known.roles), tail);
            }
            _ => return Err(format!("not the answer that was due: {line}")),
        }
        Ok(())
    }

    fn emission(&mut self, client: usize, line: &str) -> Outcome {
        let parts: Vec<&str> = line.split('|').collect();
        let [_, _, body, token, ..] = parts[..] else { return Err(format!("cut: {line}")) };
        let skipped = parts.get(4).map_or(0, |skipped| skipped.parse().expect("a number"));
        let cursor = self.open(token).ok_or("its token cannot be read")?;
        let known = &mut self.clients[client];
        if body.contains("marker") {
            known.markers.insert(body.to_owned());
        }
        known.judge.received(&self.truth, body, skipped)?;
        if known.whole_cursors {
            known.judge.told(&self.truth, &cursor)?;
            known.whole = Some(token.to_owned());
        } else {
            let (lane, written) = self.truth.find(body).expect("the judge has found it");
            if of(&cursor, lane) != written.after {
                return Err(format!("{body} is at {:?}, not {cursor:?}", written.after));
            }
            let (name, _) = token.split_once('.').ok_or("an `at` without a dot")?;
            known.ats.insert(name.to_owned(), token.to_owned());
        }
        Ok(())
    }

    /// A client goes, with what it has received.
    fn hang_up(&mut self, client: usize) -> Outcome {
        self.absorb(client)?;
        let known = &mut self.clients[client];
        if let Some(at) = known.session.take() {
            at.peer.hang_up();
            known.record.push("-- gone".into());
            self.tell(format!("c{client} goes"));
        }
        Ok(())
    }

    async fn restart(&mut self, node: usize) -> Outcome {
        for client in 0..self.clients.len() {
            if self.clients[client].session.as_ref().is_some_and(|at| at.node == node) {
                self.hang_up(client)?;
            }
        }
        self.tell(format!("node {node} dies"));
        self.nodes[node].pipeline.abort();
        self.nodes[node] = self.node().await;
        Ok(())
    }

    async fn let_run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            tokio::task::yield_now().await;
        }
    }

    async fn step(&mut self) -> Outcome {
        let client = self.chance.below(self.clients.len());
        let node = self.chance.below(self.nodes.len());
        match self.chance.below(100) {
            0..35 => {
                for _ in 0..self.chance.of(&[1, 1, 2, 5, 12]) {
                    self.write(None);
                }
            }
            35..52 if self.clients[client].session.is_none() => {
                self.connect(client, node, false).await;
            }
            44..52 => self.hang_up(client)?,
            52..66 => {
                let some = self.chance.below(900);
                let how = self.chance.below(4);
                if let Some(At { peer, .. }) = &self.clients[client].session {
                    match how {
                        0 => peer.stall(),
                        1 => peer.flow(),
                        _ => peer.allow(some),
                    }
                    self.tell(format!("c{client} takes {how} {some}"));
                }
            }
            35..44 | 66..76 => self.ask(client)?,
            76..82 => {
                if let Some(At { peer, asked, .. }) = &self.clients[client].session {
                    asked.store(true, Ordering::SeqCst);
                    peer.allow(0);
                }
            }
            82..87 => {
                let pause = &self.nodes[node].pause;
                let how = self.chance.percent(50);
                if how {
                    pause.pause();
                } else {
                    pause.resume();
                }
                self.tell(format!("node {node} paused {how}"));
            }
            87..90 => {
                self.restart(node).await?;
            }
            90..93 => self.change_log(),
            93..97 if self.hazards.unavailable => {
                let available = self.chance.percent(60);
                self.log.set_replays(available);
                self.tell(format!("replays {available}"));
            }
            95..99 if self.hazards.paused_clock => {
                // Time passes at once: a sweep, and whatever else waits for it.
                tokio::time::sleep(Duration::from_millis(1100)).await;
                self.tell("a second passes".into());
            }
            _ => {}
        }
        let rounds = self.chance.of(&[0, 0, 1, 3, 10, 40]);
        self.let_run(rounds).await;
        for node in 0..self.nodes.len() {
            self.look(node);
        }
        for client in 0..self.clients.len() {
            self.absorb(client)?;
            let known = &self.clients[client];
            if known.session.as_ref().is_some_and(|at| at.closed || at.peer.dropped()) {
                self.hang_up(client)?;
            }
        }
        Ok(())
    }

    /// Something becomes of the log itself.
    fn change_log(&mut self) {
        let Hazards { expiry, growth, closing, .. } = self.hazards;
        let partitions = self.lanes.iter().map(|lane| lane.partition + 1).max().unwrap_or(0);
        let all = [(expiry, 0), (growth && partitions < 5, 1), (closing, 2)];
        let may: Vec<u8> = all.iter().filter(|(may, _)| *may).map(|(_, what)| *what).collect();
        if may.is_empty() {
            return;
        }
        let what = self.chance.of(&may);
        let partition = self.chance.below(partitions as usize) as u32;
        let lane = self.log.lanes().into_iter().find(|lane| lane.partition == partition);
        match (what, lane) {
            (0, Some(_)) => {
                let end = self.log.bounds(partition).end as usize;
                let before = self.chance.below(end + 1) as u64;
                self.log.expire(partition, before);
                self.tell(format!("partition {partition} expires before {before}"));
            }
            (1, _) => {
                let new = self.log.add_partition();
                self.note_lanes();
                self.tell(format!("partition {new} is new"));
            }
            (2, Some(lane)) => {
                let number = self.number_of(&lane);
                self.truth.closed.insert(number);
                let deleted = self.chance.percent(50);
                if deleted {
                    self.log.delete(partition);
                } else {
                    self.log.close(partition);
                }
                self.tell(format!("lane {number} is closed, unread of it deleted: {deleted}"));
            }
            (2, None) => {
                self.log.make_anew(partition);
                self.note_lanes();
                self.tell(format!("partition {partition} is made anew"));
            }
            _ => {}
        }
    }

    fn ask(&mut self, client: usize) -> Outcome {
        self.absorb(client)?;
        let asked = match self.chance.below(5) {
            0..2 => Asked::Join(self.chance.of(&ASKED).into()),
            2 => Asked::Leave(self.chance.of(&ASKED).into()),
            _ => Asked::Renew(self.any_roles()),
        };
        let Some(At { node, peer, .. }) = &self.clients[client].session else { return Ok(()) };
        let before = self.tail(*node);
        let name = self.clients[client].name.as_str();
        let room = |room: &String| Room::new(room).expect("a name");
        let (ask, what) = match &asked {
            Asked::Join(name) => (Ask::Join(room(name)), format!("asks for {name}")),
            Asked::Leave(name) => (Ask::Leave(room(name)), format!("leaves {name}")),
            Asked::Renew(roles) => {
                let identity = Identity::new(name, roles.iter().copied());
                (Ask::Renew(identity), format!("becomes {roles:?}"))
            }
        };
        peer.ask(ask);
        let at = self.clients[client].session.as_mut().expect("as above");
        at.asks.push_back((asked, before));
        self.tell(format!("c{client} {what}"));
        Ok(())
    }

    pub(crate) async fn steps(&mut self) -> Outcome {
        for _ in 0..self.chance.between(20, 61) {
            self.step().await?;
        }
        self.finish().await
    }

    /// Everything flows, everybody comes back once more and has everything.
    async fn finish(&mut self) -> Outcome {
        self.tell("everything flows".into());
        self.log.set_replays(true);
        self.nodes.iter().for_each(|node| node.pause.resume());
        if self.log.lanes().is_empty() {
            // Or there would be nothing to wait for.
            self.log.make_anew(0);
            self.note_lanes();
        }
        for client in 0..self.clients.len() {
            self.hang_up(client)?;
            let node = self.chance.below(self.nodes.len());
            self.connect(client, node, true).await;
        }
        self.let_run(5).await;
        for node in 0..self.nodes.len() {
            self.all_is_closed(node).await?;
        }
        let mut markers = self.mark();
        for client in 0..self.clients.len() {
            let mut tries = 0;
            loop {
                let gaps = self.gaps.values().sum::<u64>();
                self.absorb(client)?;
                if markers.is_subset(&self.clients[client].markers) {
                    break;
                }
                if self.gaps.values().sum::<u64>() > gaps {
                    // They may have been before it.
                    markers = self.mark();
                }
                let at = self.clients[client].session.as_ref().expect("it has come back");
                if at.closed || at.peer.dropped() {
                    tries += 1;
                    if tries > 5 {
                        return Err(format!("c{client} is closed again and again"));
                    }
                    self.hang_up(client)?;
                    let node = self.chance.below(self.nodes.len());
                    self.connect(client, node, true).await;
                    continue;
                }
                let (peer, read) = (at.peer.clone(), at.read);
                let more = peer.until("more comes", |peer| {
                    peer.dropped() || peer.bytes()[read..].contains(&b'\n')
                });
                let moved = tokio::time::timeout(Duration::from_secs(8), more).await;
                if moved.is_err() {
                    return Err(format!("c{client} waits in vain for the last of all"));
                }
            }
            let judge = &self.clients[client].judge;
            judge.end(&self.truth).map_err(|what| format!("c{client}: at the end {what}"))?;
        }
        self.replays += self.log.passes();
        for node in &self.nodes {
            node.pipeline.abort();
        }
        Ok(())
    }

    /// Waits until a node has come to the end of all lanes that are closed: what it has yet to
    /// tell of them comes before what is written then.
    async fn all_is_closed(&self, node: usize) -> Outcome {
        let Node { hub, pause, .. } = &self.nodes[node];
        let open = self.log.lanes();
        let closed = || {
            let named = self.tokens.open(hub.cursor().as_str()).expect("a node's own cursor");
            pause.closed() == self.truth.closed.len()
                && named.iter().all(|(lane, ..)| open.iter().any(|open| **open == *lane))
        };
        for _ in 0..8000 {
            if closed() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err(format!("node {node} does not come to the end of what is closed"))
    }

    /// Writes one last event to each lane, which everybody gets.
    fn mark(&mut self) -> BTreeSet<String> {
        let mut markers = BTreeSet::new();
        for lane in self.log.lanes() {
            let n = format!("\"marker {}\"", self.truth.number());
            let event = format!(r#"{{"n":{n},"e":[{{"r":["all"],"k":"shared"}}]}}"#);
            self.write_to(&lane, Some(event));
            markers.insert(format!(r#"{{"n":{n},"i":0,"v":"*","p":""}}"#));
        }
        markers
    }

    /// The whole story, for people.
    pub(crate) fn account(&self) -> String {
        let mut account = self.story.join("\n");
        for client in &self.clients {
            let Client { name, whole_cursors, roles, record, .. } = client;
            let who = format!("\n== {name}, whole cursors: {whole_cursors}, {roles:?}\n");
            account.extend([who, record.join("\n")]);
        }
        account
    }
}
