//! One run: nodes that read one log, clients that come and go, and all that goes wrong.

#[path = "run/client.rs"]
mod client;
#[path = "run/end.rs"]
mod end;
#[path = "run/heard.rs"]
mod heard;
#[path = "run/log.rs"]
mod log;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use fanout::testing::{MemoryLog, Tokens};
use fanout::{Access, Keyring, Lane, Limits, Overflow};

use crate::judge::Judge;
use crate::scene::{ASKED, Chance, EXTRA, Truth, VIEWERS, access};
use client::{At, Client};
use log::Node;

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

    pub(crate) async fn steps(&mut self) -> Outcome {
        for _ in 0..self.chance.between(20, 61) {
            self.step().await?;
        }
        self.finish().await
    }
}
