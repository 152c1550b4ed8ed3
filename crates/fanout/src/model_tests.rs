//! The hub against a naive model: a queue for every connection.
//!
//! Operations come in any order; sinks take bytes in arbitrary portions and stall. The
//! model keeps what the real thing must never keep, and says what each connection
//! must have received, in which order, each frame whole.

mod lossy;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::sync::oneshot;

use crate::json::Json;
use crate::keys::Keyring;
use crate::limits::Limits;
use crate::log::Append;
use crate::overflow::Overflow;
use crate::role::{Access, Identity, RoleAccess};
use crate::room::{Room, RoomPattern};
use crate::router::Emission;
use crate::shard::{Command, Newcomer, Shard, Turn};
use crate::shared::Shared;
use crate::sink::{Close, WakersOnly};
use crate::testing::{Ask, Lines, MemoryPeer, MemorySink};

/// Rooms `0..ROOMS` can be asked for; everybody is in `own` by himself.
const ROOMS: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    Connect {
        clerk: bool,
    },
    Join {
        who: usize,
        room: usize,
    },
    Leave {
        who: usize,
        room: usize,
    },
    Ping {
        who: usize,
    },
    HangUp {
        who: usize,
    },
    Stall {
        who: usize,
    },
    Allow {
        who: usize,
        bytes: usize,
    },
    Flow {
        who: usize,
    },
    /// Emissions of one batch: rooms as bits, and whether only clerks get it.
    Publish {
        emissions: Vec<(u8, bool, usize)>,
    },
    Sweep,
}

fn any_op() -> impl Strategy<Value = Op> {
    let who = || 0..8_usize;
    let emission = (1..(1_u8 << (ROOMS + 1)), any::<bool>(), 0..60_usize);
    prop_oneof![
        2 => any::<bool>().prop_map(|clerk| Op::Connect { clerk }),
        4 => (who(), 0..ROOMS).prop_map(|(who, room)| Op::Join { who, room }),
        2 => (who(), 0..ROOMS).prop_map(|(who, room)| Op::Leave { who, room }),
        2 => who().prop_map(|who| Op::Ping { who }),
        1 => who().prop_map(|who| Op::HangUp { who }),
        3 => who().prop_map(|who| Op::Stall { who }),
        6 => (who(), 1..200_usize).prop_map(|(who, bytes)| Op::Allow { who, bytes }),
        2 => who().prop_map(|who| Op::Flow { who }),
        8 => vec(emission, 1..6).prop_map(|emissions| Op::Publish { emissions }),
        1 => Just(Op::Sweep),
    ]
}

fn room(n: usize) -> Room {
    Room::new(if n == ROOMS { "own".to_owned() } else { format!("room:{n}") }).unwrap()
}

fn access() -> Access {
    let role = |name: &str| RoleAccess::new(name).joins("own").may_join("room:*").sees(name);
    Access::new([role("clerk"), role("guest")]).unwrap()
}

/// One shard, driven by hand.
struct Real {
    shared: Arc<Shared>,
    shard: Shard,
    now: Instant,
}

impl Real {
    fn new(limits: Limits) -> (Self, crate::frame::ProtocolRef) {
        Self::with(limits, &[])
    }

    fn with(
        limits: Limits,
        overflow: &[(RoomPattern, Overflow)],
    ) -> (Self, crate::frame::ProtocolRef) {
        let now = Instant::now();
        let shared = Arc::new(Shared::new(access(), limits, overflow, Keyring::random(), 1, now));
        let protocol = shared.register(Arc::new(Lines));
        let shard = Shard::new(0, shared.clone(), Box::new(WakersOnly), now);
        (Self { shared, shard, now }, protocol)
    }

    /// Lets the shard do all that it can.
    fn drive(&mut self) {
        loop {
            let woken = std::mem::take(&mut *self.shared.shards[0].woken.lock().unwrap());
            let none = woken.is_empty();
            for waker in woken {
                self.shard.woken(waker.take());
            }
            if self.shard.turn(self.now, SystemTime::now()) == Turn::Idle && none {
                return;
            }
        }
    }

    fn connect(&mut self, protocol: &crate::frame::ProtocolRef, clerk: bool) -> MemoryPeer {
        let (peer, sink) = MemorySink::new();
        let identity = Identity::new("x", [if clerk { "clerk" } else { "guest" }]);
        let rights = self.shared.access.rights(&identity).unwrap();
        let (reply, _) = oneshot::channel();
        let (sink, protocol) = (Box::new(sink), protocol.clone());
        self.shared.admit().unwrap();
        let newcomer = Newcomer { sink, protocol, identity, rights, reply };
        self.shard.command(Command::Connect(Box::new(newcomer)));
        self.drive();
        peer
    }

    fn publish(&mut self, emissions: Vec<Emission>) {
        let entries = emissions.into_iter().map(|e| self.shared.entry(e, None).unwrap()).collect();
        self.shared.append(Append::new(entries, &[]), self.now);
    }

    fn sweep(&mut self) {
        self.now += Duration::from_millis(10);
        self.shard.tick();
        self.drive();
    }
}

/// What one connection must have received.
struct Expected {
    peer: MemoryPeer,
    clerk: bool,
    rooms: Vec<usize>,
    /// Lines of which at least a byte was taken.
    begun: Vec<String>,
    /// What is to come: the rooms for which it would, and the line.
    queue: VecDeque<(Vec<usize>, String)>,
    pings: usize,
}

impl Expected {
    /// Moves what the peer has begun to receive out of the queue.
    fn settle(&mut self) {
        let events = self.peer.lines().into_iter().filter(|line| !line.starts_with('!'));
        for _ in self.begun.len()..events.count() {
            let (_, line) = self.queue.pop_front().expect("nothing more than was published");
            self.begun.push(line);
        }
    }

    fn check(&self, all: bool) -> Result<(), TestCaseError> {
        let (control, events): (Vec<_>, Vec<_>) =
            self.peer.lines().into_iter().partition(|line| line.starts_with('!'));
        for (i, (line, expected)) in events.iter().zip(&self.begun).enumerate() {
            if line.ends_with('\n') {
                prop_assert_eq!(line, expected);
            } else {
                prop_assert!(expected.starts_with(line.as_str()));
                prop_assert_eq!(i, events.len() - 1, "only the last may be cut");
            }
        }
        if all {
            prop_assert!(self.queue.is_empty(), "missed {:?}", self.queue);
            let pongs = control.iter().filter(|line| *line == "!pong\n").count();
            prop_assert_eq!(pongs, self.pings);
        }
        Ok(())
    }
}

/// Makes the emissions, and puts them into the queues of those who must get them.
fn expect(
    model: &mut [Expected],
    published: &mut usize,
    emissions: Vec<(u8, bool, usize)>,
) -> Vec<Emission> {
    let make = |(bits, only_clerks, padding): (u8, bool, usize)| {
        let rooms: Vec<usize> = (0..=ROOMS).filter(|n| bits & 1 << n != 0).collect();
        let body = Json::of(&(*published, "x".repeat(padding))).unwrap();
        let name = if rooms.len() == 1 { room(rooms[0]).to_string() } else { String::new() };
        let line = format!("e|{name}|{}|\n", body.as_str());
        *published += 1;
        for expected in model.iter_mut() {
            let mine: Vec<usize> =
                rooms.iter().copied().filter(|n| expected.rooms.contains(n)).collect();
            if !mine.is_empty() && (expected.clerk || !only_clerks) {
                expected.queue.push_back((mine, line.clone()));
            }
        }
        let emission = if only_clerks {
            Emission::new(room(rooms[0]), "e", [("clerk", body)])
        } else {
            Emission::new(room(rooms[0]), "e", body)
        };
        rooms[1..].iter().fold(emission, |emission, n| emission.and_to(room(*n)))
    };
    emissions.into_iter().map(make).collect()
}

/// Applies operations to both; where `lossless`, nobody may be closed.
fn run(ops: Vec<Op>, limits: Limits, lossless: bool) -> Result<(), TestCaseError> {
    let (mut real, protocol) = Real::new(limits);
    let mut model: Vec<Expected> = Vec::new();
    let mut published = 0;
    for op in ops {
        let pick = |who: usize| (!model.is_empty()).then(|| who % model.len());
        match op {
            Op::Connect { clerk } if model.len() < 8 => {
                let peer = real.connect(&protocol, clerk);
                let (begun, queue) = (Vec::new(), VecDeque::new());
                model.push(Expected { peer, clerk, rooms: vec![ROOMS], begun, queue, pings: 0 });
            }
            Op::Connect { .. } => {}
            Op::Join { who, room: n } => {
                let Some(who) = pick(who) else { continue };
                model[who].peer.ask(Ask::Join(room(n)));
                real.drive();
                if !model[who].rooms.contains(&n) {
                    model[who].rooms.push(n);
                }
            }
            Op::Leave { who, room: n } => {
                let Some(who) = pick(who) else { continue };
                let expected = &mut model[who];
                expected.settle();
                expected.peer.ask(Ask::Leave(room(n)));
                real.drive();
                expected.rooms.retain(|other| *other != n);
                expected.queue.retain_mut(|(rooms, _)| {
                    rooms.retain(|other| *other != n);
                    !rooms.is_empty()
                });
            }
            Op::Ping { who } => {
                let Some(who) = pick(who) else { continue };
                model[who].peer.ask(Ask::Ping);
                model[who].pings += 1;
            }
            Op::HangUp { who } => {
                let Some(who) = pick(who) else { continue };
                let gone = model.remove(who);
                gone.peer.hang_up();
                real.drive();
                prop_assert!(gone.peer.dropped());
            }
            Op::Stall { who } => {
                let Some(who) = pick(who) else { continue };
                model[who].peer.stall();
            }
            Op::Allow { who, bytes } => {
                let Some(who) = pick(who) else { continue };
                model[who].peer.allow(bytes);
            }
            Op::Flow { who } => {
                let Some(who) = pick(who) else { continue };
                model[who].peer.flow();
            }
            Op::Publish { emissions } => {
                real.publish(expect(&mut model, &mut published, emissions));
            }
            Op::Sweep => real.sweep(),
        }
        real.drive();
        // Who was closed for being slow is told so and gets no more: what came before
        // must be right all the same.
        let mut at = 0;
        while at < model.len() {
            model[at].settle();
            if model[at].peer.closed().is_some() {
                prop_assert!(!lossless, "closed: {:?}", model[at].peer.closed());
                let slow = Close::Slow { after: Duration::from_secs(2) };
                prop_assert_eq!(model[at].peer.closed(), Some(slow));
                let closed = model.remove(at);
                closed.check(false)?;
            } else {
                model[at].check(false)?;
                at += 1;
            }
        }
    }
    for expected in &model {
        expected.peer.flow();
    }
    real.drive();
    for expected in &mut model {
        expected.settle();
        expected.check(expected.peer.closed().is_none())?;
    }
    // Everybody gone, nothing is left behind.
    for expected in &model {
        expected.peer.hang_up();
    }
    real.drive();
    // Those that were closed and never read again are given up at their deadline.
    real.now += Limits::default().close_timeout;
    real.sweep();
    prop_assert!(real.shard.connections.is_empty());
    prop_assert_eq!(real.shard.members.len(), 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn hub_agrees_with_model(ops in vec(any_op(), 1..120)) {
        let mut limits = Limits::default();
        limits.overflow = Overflow::default().with_max_bytes(u64::MAX);
        limits.write_timeout = Duration::MAX;
        run(ops, limits, true)?;
    }

    /// With a log that keeps almost nothing, and limits that close: never a hole.
    #[test]
    fn what_the_log_has_lost_closes_and_never_makes_a_hole(ops in vec(any_op(), 1..120)) {
        let mut limits = Limits::default();
        limits.log_bytes = 3_000;
        limits.overflow =
            Overflow::default().with_max_bytes(300).with_grace(Duration::from_millis(20));
        run(ops, limits, false)?;
    }

    /// Batches of several walks and a budget that cuts them.
    #[test]
    fn large_batches_keep_their_order(
        rooms in vec(0..ROOMS, 1..2_000),
        joined in vec(vec(any::<bool>(), ROOMS), 1..20),
    ) {
        let (mut real, protocol) = Real::new(Limits::default());
        let peers: Vec<_> = joined.iter().map(|rooms| {
            let peer = real.connect(&protocol, false);
            for n in (0..ROOMS).filter(|n| rooms[*n]) {
                peer.ask(Ask::Join(room(n)));
            }
            real.drive();
            peer
        }).collect();
        let batch: Vec<Emission> = rooms.iter().enumerate().map(|(i, n)| {
            Emission::new(room(*n), "e", Json::of(&i).unwrap())
        }).collect();
        let half = batch.len() / 2;
        real.publish(batch[..half].to_vec());
        real.publish(batch[half..].to_vec());
        real.drive();
        for (peer, joined) in peers.iter().zip(&joined) {
            let expected: Vec<String> = rooms.iter().enumerate()
                .filter(|(_, n)| joined[**n]).map(|(i, _)| i.to_string()).collect();
            prop_assert_eq!(peer.bodies(), expected);
        }
    }
}

#[test]
fn a_role_taken_away_takes_its_rooms_and_its_view() {
    let (mut real, protocol) = Real::new(Limits::default());
    let peer = real.connect(&protocol, true);
    peer.ask(Ask::Join(room(0)));
    real.drive();
    peer.stall();
    let json = |text: &'static str| Json::parse(text.into()).unwrap();
    let views = || [("clerk", json("\"secret\"")), ("guest", json("\"open\""))];
    real.publish(vec![Emission::new(room(0), "e", views())]);
    real.drive();
    peer.ask(Ask::Renew(Identity::new("x", ["guest"])));
    real.drive();
    peer.flow();
    real.drive();
    // What was pending is seen with the rights of now.
    assert_eq!(peer.bodies(), ["\"open\""]);

    peer.ask(Ask::Renew(Identity::new("somebody else", ["clerk"])));
    real.drive();
    assert!(peer.lines().iter().any(|line| line.starts_with("!renewed false ")));
}

#[test]
fn a_stalled_client_in_a_quiet_room_is_not_closed_for_others_traffic() {
    let mut limits = Limits::default();
    limits.log_bytes = 2_000;
    limits.overflow = Overflow::default().with_max_bytes(500).with_grace(Duration::ZERO);
    let (mut real, protocol) = Real::new(limits);
    let quiet = real.connect(&protocol, false);
    quiet.allow(usize::MAX);
    quiet.stall();
    real.publish(vec![Emission::new(room(ROOMS), "e", Json::of(&0).unwrap())]);
    real.drive();
    quiet.allow(3); // A frame is begun, and no more is taken of it.
    real.drive();
    for n in 0..1_000 {
        real.publish(vec![Emission::new(room(1), "e", Json::of(&n).unwrap())]);
        real.drive();
        real.sweep();
    }
    quiet.flow();
    real.publish(vec![Emission::new(room(ROOMS), "e", Json::of(&1).unwrap())]);
    real.drive();
    assert_eq!(quiet.closed(), None);
    assert_eq!(quiet.bodies(), ["0", "1"]);
}

#[test]
fn what_was_forfeited_by_leaving_counts_no_more() {
    let mut limits = Limits::default();
    limits.overflow = Overflow::default().with_max_bytes(500).with_grace(Duration::ZERO);
    let (mut real, protocol) = Real::new(limits);
    let peer = real.connect(&protocol, false);
    peer.ask(Ask::Join(room(0)));
    real.drive();
    peer.stall();
    for n in 0..100 {
        real.publish(vec![Emission::new(room(0), "e", Json::of(&n).unwrap())]);
    }
    peer.ask(Ask::Leave(room(0)));
    real.drive();
    real.sweep();
    assert_eq!(peer.closed(), None);
    real.publish(vec![Emission::new(room(ROOMS), "e", Json::of(&"still here").unwrap())]);
    peer.flow();
    real.drive();
    assert_eq!(peer.bodies(), ["\"still here\""]);
}

#[test]
fn whoever_makes_the_server_queue_and_never_reads_is_no_longer_read_nor_kept() {
    let (mut real, protocol) = Real::new(Limits::default());
    let peer = real.connect(&protocol, false);
    peer.stall();
    for _ in 0..100_000 {
        peer.ask(Ask::Ping);
    }
    real.drive();
    let queued = real.shard.connections.iter().map(|(_, c)| c.control_bytes()).sum::<usize>();
    assert!(queued <= Limits::default().control_bytes / 4 + 100, "{queued}");
    peer.flow();
    real.drive();
    assert_eq!(peer.lines().len(), 100_000, "read again once there is room");
}

#[test]
fn an_identity_that_ends_closes_its_connection() {
    let (mut real, protocol) = Real::new(Limits::default());
    let peer = real.connect(&protocol, false);
    let ended = Identity::new("x", ["guest"]).with_expiry(Some(SystemTime::UNIX_EPOCH));
    peer.ask(Ask::Renew(ended));
    real.drive();
    assert_eq!(peer.closed(), None);
    real.sweep();
    assert_eq!(peer.closed(), Some(Close::TokenExpired));
    assert!(peer.dropped());
}
