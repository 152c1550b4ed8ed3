//! Rooms that drop or conflate: what arrives is a correct account of what was published.
//!
//! Nothing twice, all in the log's order; what must not be lost is not; what is missing is
//! either named by a gap that stands exactly there, or stood for by a newer one of its
//! key, which says for how many.

mod exact;

use super::*;
use crate::overflow::Policy;

/// What each room does; [`ROOMS`] is everybody's own.
const POLICIES: [Policy; ROOMS + 1] = [
    Policy::Disconnect,
    Policy::DropOldest,
    Policy::Conflate,
    Policy::Conflate,
    Policy::Disconnect,
];

#[derive(Clone, Debug)]
enum Op {
    Connect { clerk: bool },
    Join { who: usize, room: usize },
    Leave { who: usize, room: usize },
    Stall { who: usize },
    Allow { who: usize, bytes: usize },
    Flow { who: usize },
    Publish { emissions: Vec<Published> },
    Sweep,
}

/// One emission, as it is asked for.
#[derive(Clone, Debug)]
struct Published {
    rooms: u8,
    only_clerks: bool,
    padding: usize,
    key: Option<u8>,
}

fn any_op() -> impl Strategy<Value = Op> {
    let who = || 0..6_usize;
    // Mostly one room: emissions to several follow the strictest.
    let rooms = prop_oneof![
        3 => (0..=ROOMS).prop_map(|n| 1_u8 << n),
        1 => 1..(1_u8 << (ROOMS + 1)),
        1 => Just(0b1100_u8),
    ];
    let key = prop_oneof![1 => Just(None), 5 => (0..3_u8).prop_map(Some)];
    let emission = (rooms, prop::bool::weighted(0.2), 0..60_usize, key).prop_map(
        |(rooms, only_clerks, padding, key)| Published { rooms, only_clerks, padding, key },
    );
    prop_oneof![
        2 => any::<bool>().prop_map(|clerk| Op::Connect { clerk }),
        5 => (who(), 0..ROOMS).prop_map(|(who, room)| Op::Join { who, room }),
        1 => (who(), 0..ROOMS).prop_map(|(who, room)| Op::Leave { who, room }),
        4 => who().prop_map(|who| Op::Stall { who }),
        6 => (who(), 1..200_usize).prop_map(|(who, bytes)| Op::Allow { who, bytes }),
        2 => who().prop_map(|who| Op::Flow { who }),
        10 => vec(emission, 1..8).prop_map(|emissions| Op::Publish { emissions }),
        3 => Just(Op::Sweep),
    ]
}

/// An emission that a connection was to get.
#[derive(Clone, Debug)]
struct Due {
    number: usize,
    /// The connection's rooms among its own.
    mine: Vec<usize>,
    /// What those that may stand for each other have in common.
    line: Option<(u8, u8, bool)>,
    /// Given up by leaving.
    forfeited: bool,
}

impl Due {
    /// The rule that it follows, as the hub has them in order.
    fn rule(&self) -> (Policy, usize) {
        self.mine.iter().map(|room| (POLICIES[*room], *room)).min().expect("it has a room")
    }
}

struct Account {
    peer: MemoryPeer,
    clerk: bool,
    rooms: Vec<usize>,
    due: Vec<Due>,
}

/// What came, in order.
#[derive(Debug)]
enum Came {
    Event { number: usize, skipped: usize },
    Gap { rooms: Vec<String> },
}

fn came(line: &str) -> Option<Came> {
    if let Some(rooms) = line.strip_prefix("!gap overflow ") {
        return Some(Came::Gap { rooms: rooms.split(',').map(str::to_owned).collect() });
    }
    if line.starts_with('!') {
        return None;
    }
    let parts: Vec<&str> = line.split('|').collect();
    let (number, _): (usize, String) = serde_json::from_str(parts[2]).unwrap();
    let skipped = parts.get(4).map_or(0, |skipped| skipped.parse().unwrap());
    Some(Came::Event { number, skipped })
}

impl Account {
    /// Checks everything up to the last event that came, or, where `all`, everything.
    fn check(&self, all: bool) -> Result<(), TestCaseError> {
        let lines = self.peer.lines();
        let whole = lines.iter().filter_map(|line| line.strip_suffix('\n'));
        let came: Vec<Came> = whole.filter_map(came).collect();
        let position = |number: usize| {
            came.iter().position(|c| matches!(c, Came::Event { number: n, .. } if *n == number))
        };
        let mut last = None;
        for event in &came {
            let Came::Event { number, .. } = event else { continue };
            prop_assert!(last < Some(*number), "{number} after {last:?}");
            prop_assert!(self.due.iter().any(|due| due.number == *number), "{number} is not its");
            last = Some(*number);
        }
        for (at, due) in self.due.iter().enumerate() {
            if due.forfeited || position(due.number).is_some() {
                continue;
            }
            if !all && last < Some(due.number) {
                continue;
            }
            prop_assert!(
                due.rule().0 != Policy::Disconnect,
                "{} is missing: {lines:?}",
                due.number
            );
            // By a gap, or by a newer one that has come, or is told itself, or comes when
            // the client that was closed is back.
            let accounted = self.due[at..].iter().any(|newer| {
                let same = newer.number == due.number;
                let to_come = !all && last < Some(newer.number);
                (same || due.line.is_some() && newer.line == due.line)
                    && (to_come || position(newer.number).is_some() || self.gap_at(&came, newer))
            });
            prop_assert!(accounted, "{due:?} is missing without a word: {lines:?}");
        }
        self.check_skipped(&came)
    }

    /// Whether a gap in one of its rooms stands between what came before it and what came
    /// after it there. What came before it may still come after the gap where that was
    /// for other rooms too, in which nothing is lost.
    fn gap_at(&self, came: &[Came], missing: &Due) -> bool {
        missing.mine.iter().any(|room| {
            let mut told = false;
            for event in came {
                match event {
                    Came::Gap { rooms } => told |= rooms.contains(&super::room(*room).to_string()),
                    Came::Event { number, .. } => {
                        let due = self.due.iter().find(|due| due.number == *number);
                        let Some(due) = due.filter(|due| due.mine.contains(room)) else {
                            continue;
                        };
                        if *number > missing.number {
                            return told;
                        }
                        told &= due.mine.len() > 1;
                    }
                }
            }
            told
        })
    }

    fn check_skipped(&self, came: &[Came]) -> Result<(), TestCaseError> {
        for (at, event) in came.iter().enumerate() {
            let Came::Event { number, skipped } = event else { continue };
            let due = self.due.iter().find(|due| due.number == *number).expect("checked");
            let Some(line) = due.line else {
                prop_assert_eq!(*skipped, 0);
                continue;
            };
            // Since the last of its line that came.
            let same = |n: usize| self.due.iter().any(|d| d.number == n && d.line == Some(line));
            let before = came[..at]
                .iter()
                .rposition(|c| matches!(c, Came::Event { number, .. } if same(*number)));
            let from = before.map_or(0, |before| match &came[before] {
                Came::Event { number, .. } => number + 1,
                Came::Gap { .. } => unreachable!("looked for an event"),
            });
            let between = self
                .due
                .iter()
                .filter(|d| d.line == Some(line) && (from..*number).contains(&d.number));
            let (forfeited, missing): (Vec<&Due>, Vec<&Due>) = between.partition(|d| d.forfeited);
            let gap = came[before.unwrap_or(0)..at].iter().any(|c| matches!(c, Came::Gap { .. }));
            if gap {
                prop_assert!(
                    *skipped <= missing.len() + forfeited.len(),
                    "{number} stands for {skipped}"
                );
            } else if forfeited.is_empty() {
                prop_assert_eq!(*skipped, missing.len(), "{} in {:?}", number, came);
            }
        }
        Ok(())
    }
}

fn publish(real: &mut Real, model: &mut [Account], next: &mut usize, emissions: &[Published]) {
    let make = |published: &Published| {
        let Published { rooms: bits, only_clerks, padding, key } = *published;
        let rooms: Vec<usize> = (0..=ROOMS).filter(|n| bits & 1 << n != 0).collect();
        let number = *next;
        *next += 1;
        let conflates = rooms.iter().all(|n| POLICIES[*n] == Policy::Conflate);
        let line = key.filter(|_| conflates).map(|key| (key, bits, only_clerks));
        for account in model.iter_mut() {
            let mine: Vec<usize> =
                rooms.iter().copied().filter(|n| account.rooms.contains(n)).collect();
            if !mine.is_empty() && (account.clerk || !only_clerks) {
                account.due.push(Due { number, mine, line, forfeited: false });
            }
        }
        let body = Json::of(&(number, "x".repeat(padding))).unwrap();
        let emission = if only_clerks {
            Emission::new(room(rooms[0]), "e", [("clerk", body)])
        } else {
            Emission::new(room(rooms[0]), "e", body)
        };
        let emission = rooms[1..].iter().fold(emission, |emission, n| emission.and_to(room(*n)));
        match key {
            Some(key) => emission.with_key(vec![key]),
            None => emission,
        }
    };
    let emissions = emissions.iter().map(make).collect();
    real.publish(emissions);
}

fn overflow() -> Vec<(RoomPattern, Overflow)> {
    let rule = |n: usize, max: u64| {
        let rooms = RoomPattern::new(room(n).as_str()).unwrap();
        (rooms, Overflow::new(POLICIES[n]).with_max_bytes(max))
    };
    // Room 2 conflates and never overflows, room 3 does both.
    vec![rule(1, 300), rule(2, u64::MAX), rule(3, 150)]
}

fn run(ops: Vec<Op>, limits: Limits, lossless: bool) -> Result<(), TestCaseError> {
    let (mut real, protocol) = Real::with(limits, &overflow());
    let (mut model, mut next) = (Vec::<Account>::new(), 0);
    for op in ops {
        let pick = |who: usize| (!model.is_empty()).then(|| who % model.len());
        match op {
            Op::Connect { clerk } if model.len() < 6 => {
                let peer = real.connect(&protocol, clerk);
                model.push(Account { peer, clerk, rooms: vec![ROOMS], due: Vec::new() });
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
                let account = &mut model[who];
                account.peer.ask(Ask::Leave(room(n)));
                real.drive();
                account.rooms.retain(|other| *other != n);
                // What has come counts all the same.
                for due in &mut account.due {
                    due.forfeited |= due.mine.contains(&n);
                }
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
            Op::Publish { emissions } => publish(&mut real, &mut model, &mut next, &emissions),
            Op::Sweep => real.sweep(),
        }
        real.drive();
        let behind = real.shard.connections.iter().filter(|(_, c)| !c.is_live()).count();
        prop_assert_eq!(real.shard.counters.behind, behind as u64);
        if lossless {
            let closed = model.iter().find_map(|account| account.peer.closed());
            prop_assert!(closed.is_none(), "closed: {closed:?}");
        }
    }
    for account in &model {
        account.peer.flow();
    }
    real.drive();
    for account in &model {
        account.check(account.peer.closed().is_none())?;
        let behind = real.shard.connections.iter().filter(|(_, c)| !c.is_live());
        prop_assert_eq!(behind.map(|(key, c)| (key, c.phase)).next(), None);
        prop_assert_eq!(real.shard.counters.behind, 0);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn what_arrives_is_a_correct_account(ops in vec(any_op(), 1..160)) {
        let mut limits = Limits::default();
        limits.overflow = Overflow::default().with_max_bytes(u64::MAX);
        limits.write_timeout = Duration::MAX;
        run(ops, limits, true)?;
    }

    /// With a log that keeps almost nothing.
    #[test]
    fn what_the_log_has_lost_is_told(ops in vec(any_op(), 1..160)) {
        let mut limits = Limits::default();
        limits.log_bytes = 6_000;
        limits.overflow = Overflow::default().with_max_bytes(u64::MAX);
        limits.write_timeout = Duration::MAX;
        run(ops, limits, false)?;
    }
}
