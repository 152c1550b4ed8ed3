//! A client: connects anywhere, listens, goes away in some way, and comes back with its
//! cursor.

mod cursor;
mod frame;
mod session;
mod sse;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::http;
use crate::judge::{Life, Room, Step};
use crate::people::Person;
use crate::rng::Rng;
use crate::world::{Phase, World};
use cursor::Cursor;
use session::Ended;
use wire::{Opening, Refused, Wire};

/// Most rooms beyond its own that a client asks for at once.
const MAX_ASKED: usize = 3;

/// A client and what it was told.
pub(crate) struct Client {
    world: Arc<World>,
    name: String,
    person: Person,
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
    steps: Vec<Step>,
    lives: Vec<Life>,
}

/// What became of a client.
pub(crate) struct Outcome {
    pub(crate) lives: Vec<Life>,
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
        let of = if rng.percent(25) { &people.admins } else { &people.users };
        let person = rng.pick(of).expect("there are some of each").clone();
        let name = format!("{kind} {number}, {}", person.subject);
        let mut client = Self {
            world,
            name,
            person,
            sse,
            rng,
            wanted: BTreeSet::new(),
            rooms: BTreeSet::new(),
            cursor: Cursor::default(),
            snapshot: None,
            awaited: None,
            steps: Vec::new(),
            lives: Vec::new(),
        };
        client.wants_other_rooms();
        client
    }

    fn wants_other_rooms(&mut self) {
        self.wanted.clear();
        for _ in 0..self.rng.below(MAX_ASKED + 1) {
            self.wanted.extend(self.rng.pick(&self.person.may).cloned());
        }
    }

    /// Comes and goes until the run is over.
    pub(crate) async fn run(mut self) -> Outcome {
        self.reads_snapshot().await;
        while !self.phase_is(|phase| matches!(phase, Phase::Over)) {
            let Some(wire) = self.connect().await else { continue };
            let ended = self.session(wire).await;
            self.steps.push(Step::Ended);
            self.rooms.clear();
            self.away(ended).await;
        }
        self.end_life();
        Outcome { lives: self.lives }
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
        let mut asked: Vec<Room> = self.wanted.iter().cloned().collect();
        let tries_others = self.free() && !self.sse && self.rng.percent(10);
        asked.extend(self.rng.pick(&self.person.may_not).filter(|_| tries_others).cloned());
        let cursor = self.cursor.text();
        let opening =
            Opening { addr, token: &self.person.token, rooms: &asked, cursor: cursor.as_deref() };
        match Wire::open(&opening, self.sse).await {
            Ok(mut wire) => {
                if self.welcomed(&mut wire, cursor.is_some()).await {
                    return Some(wire);
                }
                self.steps.push(Step::Ended);
                self.rooms.clear();
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
        let token = Some(self.person.token.as_str());
        let answer = http::ask(node.addr, "GET", "/api/orders?limit=1", token, None).await;
        let Some((200, answer)) = answer else { return };
        if let Some(cursor) = answer["cursor"].as_str().filter(|cursor| !cursor.is_empty()) {
            self.cursor.whole(cursor);
            self.snapshot = Some(clock::now());
            self.world.tally.add("snapshots");
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
            let (name, view) = (self.name.clone(), self.person.view.clone());
            self.lives.push(Life { name, view, steps });
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
