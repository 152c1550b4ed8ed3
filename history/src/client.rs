//! A client: connects anywhere, listens, goes away in some way, and comes back with its
//! cursor.

mod cursor;
mod frame;
mod session;
mod sse;
mod wallet;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::http;
use crate::judge::{Life, Room, Step};
use crate::people::Person;
use crate::prices;
use crate::rng::Rng;
use crate::world::{Marker, Phase, World};
use cursor::Cursor;
use session::Ended;
use wallet::Wallet;
use wire::{Opening, Proof, Refused, Wire};

/// Most rooms beyond its own that a client asks for at once.
const MAX_ASKED: usize = 3;

/// A client and what it was told.
pub(crate) struct Client {
    world: Arc<World>,
    name: String,
    person: Person,
    wallet: Wallet,
    sse: bool,
    rng: Rng,
    /// Rooms beyond its own that it wants, and gets when it connects.
    wanted: BTreeSet<Room>,
    /// The rooms that it is in now.
    rooms: BTreeSet<Room>,
    cursor: Cursor,
    /// When the snapshot came whose cursor it begins with.
    snapshot: Option<u64>,
    /// The markers that it waits for, once it knows them.
    awaited: Option<BTreeSet<(String, String)>>,
    markers: Option<Arc<Vec<Marker>>>,
    /// Those that it has got.
    got: BTreeSet<(String, String)>,
    steps: Vec<Step>,
    lived: Vec<Lived>,
}

/// What became of a client.
pub(crate) struct Outcome {
    pub(crate) lived: Vec<Lived>,
    /// The client and a marker, where some did not come.
    pub(crate) awaits: Option<String>,
}

/// What a client was told, and who it is.
pub(crate) struct Lived {
    pub(crate) subject: String,
    pub(crate) life: Life,
}

/// How a session is left, if the server does not end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Close,
    Drop,
    /// Stops reading, and then drops.
    Silent,
}

impl Client {
    pub(crate) fn new(world: Arc<World>, number: usize, sse: bool) -> Self {
        let kind = if sse { "sse" } else { "ws" };
        let mut rng = world.rng.of(&format!("client {number}"));
        let people = &world.people;
        let of = if rng.percent(40) { &people.staff } else { &people.users };
        let person = rng.pick(of).expect("there are some of each").clone();
        let name = format!("{kind} {number}, {}", person.subject);
        let wallet = Wallet::new(people.token(&person.subject, wallet::life(&mut rng)));
        let mut client = Self {
            world,
            name,
            person,
            wallet,
            sse,
            rng,
            wanted: BTreeSet::new(),
            rooms: BTreeSet::new(),
            cursor: Cursor::default(),
            snapshot: None,
            awaited: None,
            markers: None,
            got: BTreeSet::new(),
            steps: Vec::new(),
            lived: Vec::new(),
        };
        client.wants_other_rooms();
        client
    }

    fn wants_other_rooms(&mut self) {
        self.wanted.clear();
        for _ in 0..self.rng.below(MAX_ASKED + 1) {
            let roles = &self.wallet.token.claims.roles;
            let may = self.world.people.rights(&self.person.subject, roles).may;
            let may: Vec<Room> = may.into_iter().collect();
            self.wanted.extend(self.rng.pick(&may).cloned());
        }
    }

    /// Comes and goes until the run is over.
    pub(crate) async fn run(mut self) -> Outcome {
        self.reads_snapshot().await;
        while !self.phase_is(|phase| matches!(phase, Phase::Over)) {
            let Some(wire) = self.connect().await else { continue };
            let ended = self.session(wire).await;
            self.ended();
            self.away(ended).await;
        }
        self.end_life();
        let awaits = match &self.awaited {
            None => Some(format!("{} did not come back", self.name)),
            Some(awaited) => awaited.first().map(|(event, marker)| {
                let (name, count) = (&self.name, awaited.len());
                format!("{name} waits for {count}, such as {event} of {marker}")
            }),
        };
        Outcome { lived: self.lived, awaits }
    }

    fn ended(&mut self) {
        self.steps.push(Step::Ended);
        self.rooms.clear();
        self.wallet.renewing.clear();
        let mut connections = self.world.connections.lock().expect("nobody panics with it");
        connections.remove(&self.name);
    }

    fn phase_is(&self, is: impl Fn(&Phase) -> bool) -> bool {
        is(&self.world.phase.borrow())
    }

    /// Whether it may still do what it likes.
    fn free(&self) -> bool {
        self.phase_is(|phase| matches!(phase, Phase::Trouble))
    }

    /// Waits, but not longer than it may.
    async fn wait(&self, time: Duration) {
        let free = self.free();
        let mut phase = self.world.phase.subscribe();
        let changed = phase.wait_for(|phase| match phase {
            Phase::Trouble => false,
            Phase::Settle(_) => free,
            Phase::Over => true,
        });
        tokio::select! {
            _ = changed => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    /// Tries once, at a random server.
    async fn connect(&mut self) -> Option<Wire> {
        let world = self.world.clone();
        let node = self.rng.pick(&world.nodes).expect("there are some");
        let addr = if self.rng.percent(50) { node.addr } else { node.front.addr };
        self.has_token();
        let claims = self.wallet.token.claims.clone();
        let rights = world.people.rights(&self.person.subject, &claims.roles);
        let mut asked: Vec<Room> = self.wanted.iter().cloned().collect();
        let tries_others = self.free() && !self.sse && self.rng.percent(10);
        let others: Vec<Room> = rights.may_not.into_iter().collect();
        asked.extend(self.rng.pick(&others).filter(|_| tries_others).cloned());
        let cursor = self.cursor.text();
        // A ticket is of the token, as it is when it is got.
        self.steps.push(Step::Presents { time: clock::now(), node: node.number, claims });
        let proof = self.proof(node.number).await;
        let opening = Opening { addr, proof: &proof, rooms: &asked, cursor: cursor.as_deref() };
        match Wire::open(&opening, self.sse).await {
            Ok(mut wire) => {
                let ticket = matches!(proof, Proof::Ticket(_));
                if self.welcomed(&mut wire, cursor.is_some(), &asked, ticket).await {
                    return Some(wire);
                }
                self.ended();
            }
            Err(Refused::Away | Refused::Status(503 | 429)) => world.tally.add("connects refused"),
            Err(Refused::Status(status)) => {
                let what = format!("connecting was answered with {status}");
                self.steps.push(Step::Broken { what });
            }
        }
        let time = self.rng.millis(50, 500);
        self.wait(time).await;
        None
    }

    /// Stays away for a while, or as the server has said.
    async fn away(&mut self, ended: Ended) {
        let time = match ended {
            Ended::AfterMillis(after) => Duration::from_millis(after),
            Ended::WithinMillis(within) => self.rng.millis(0, within.max(1)),
            Ended::ByServer => self.rng.millis(0, 1000),
            Ended::ByClient if !self.free() => Duration::ZERO,
            Ended::ByClient => match self.rng.below(100) {
                0..50 => self.rng.millis(0, 500),
                50..80 => self.rng.millis(500, 5_000),
                80..96 => self.rng.millis(5_000, 30_000),
                _ => self.rng.millis(30_000, 60_000),
            },
        };
        if self.free() {
            let rng = &mut self.rng;
            if rng.percent(15) {
                self.wants_other_rooms();
            } else if rng.percent(3) {
                self.begin_anew().await;
            }
        }
        self.wait(time).await;
    }

    /// Forgets its cursor, as another tab would.
    async fn begin_anew(&mut self) {
        self.world.tally.add("cursors forgotten");
        self.end_life();
        self.cursor = Cursor::default();
        self.reads_snapshot().await;
    }

    /// Begins with the cursor of a snapshot, as a page does; now and then without.
    async fn reads_snapshot(&mut self) {
        self.snapshot = None;
        if self.rng.percent(50) {
            return;
        }
        let node = self.rng.pick(&self.world.nodes).expect("there are some");
        let token = Some(self.wallet.token.text.as_str());
        let answer = http::ask(node.addr, "GET", "/api/orders?limit=1", token, None).await;
        let Some((200, answer)) = answer else { return };
        self.sees_only_its_own(&answer);
        if let Some(cursor) = answer["cursor"].as_str().filter(|cursor| !cursor.is_empty()) {
            self.cursor.whole(cursor);
            self.snapshot = Some(clock::now());
            self.world.tally.add("snapshots");
        }
    }

    /// A snapshot is redacted as well: support has no price in it. Roles that were taken
    /// away since the token was made only make it less.
    fn sees_only_its_own(&mut self, answer: &serde_json::Value) {
        let roles = &self.wallet.token.claims.roles;
        let view = self.world.people.rights(&self.person.subject, roles).view;
        if let Some(what) = prices::hidden(&view, &answer.to_string()) {
            let what = format!("{what} in a snapshot for {view}: {answer}");
            self.steps.push(Step::Leak { what });
        }
    }

    /// What it was told until here, to which nothing more is due.
    fn end_life(&mut self) {
        if !self.phase_is(|phase| matches!(phase, Phase::Over)) {
            let rooms: BTreeSet<Room> = self.steps.iter().flat_map(rooms_of).cloned().collect();
            self.steps.extend(rooms.into_iter().map(|room| Step::Leaving { room }));
        }
        let steps = std::mem::take(&mut self.steps);
        if !steps.is_empty() {
            // Nothing is seen before somebody is told who he is.
            let (name, view, revoked) = (self.name.clone(), String::new(), Vec::new());
            let life = Life { name, view, steps, revoked };
            self.lived.push(Lived { subject: self.person.subject.clone(), life });
        }
    }

    /// How long it is to stay, and how it leaves.
    fn plan(&mut self) -> (Instant, Leave) {
        let stay = match self.rng.below(10) {
            0 => self.rng.millis(0, 200),
            1..8 => self.rng.millis(1_000, 12_000),
            _ => self.rng.millis(12_000, 40_000),
        };
        let leave = match self.rng.below(10) {
            0..4 => Leave::Close,
            4..8 => Leave::Drop,
            _ => Leave::Silent,
        };
        (Instant::now() + stay, leave)
    }
}

fn rooms_of(step: &Step) -> &[Room] {
    match step {
        Step::Welcome { rooms, .. } => rooms,
        Step::Joined { room, .. } => std::slice::from_ref(room),
        _ => &[],
    }
}
