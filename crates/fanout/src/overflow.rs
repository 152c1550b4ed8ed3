//! How far behind a connection may fall.
//!
//! One slow reader must not delay its room, and costs nothing while it is behind but
//! a number; still there is an end to waiting for it. What that end is, is the room's
//! policy:
//!
//! ```text
//! Live --socket full--> Behind --too many bytes of the room's, for longer than the grace:
//!   ^---caught up---------'        Disconnect            closed, to come back with the cursor
//!                                  DropOldest, Conflate  the oldest are passed over, and a
//!                                                        gap is told before what comes next
//! ```
//!
//! Under every policy, a socket that takes nothing at all for
//! [`Limits::write_timeout`](crate::Limits::write_timeout) is given up, and where the log
//! has moved on without a connection, what it had pending there counts as too far behind.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::room::{Room, RoomPattern};

/// What happens to a connection that is too far behind in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Policy {
    /// It is closed with [`Close::Slow`](crate::Close::Slow): with its cursor it gets
    /// everything. For what must not be missed.
    Disconnect,
    /// It goes on from the oldest emission within the limit and is told of the gap. For
    /// what is of use only while it is new.
    DropOldest,
    /// While it is behind, it gets only the newest of each key, with the number of
    /// earlier ones that this one stands for; once it is live it gets everything again.
    /// What has no key comes as it is. Where even the newest are too many, as
    /// [`DropOldest`](Self::DropOldest). For states: prices, positions.
    Conflate,
}

/// How far behind is too far in a room, and what happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overflow {
    /// What happens.
    pub policy: Policy,
    /// Bytes of the connection's own frames that it may be behind by. 1 MiB. Of those
    /// that stand for others only the bodies are counted.
    pub max_bytes: u64,
    /// How long it may be behind by more: 5 s before it is closed, nothing before its
    /// oldest are dropped.
    pub grace: Duration,
}

impl Default for Overflow {
    fn default() -> Self {
        Self::new(Policy::Disconnect)
    }
}

impl Overflow {
    /// A policy with its defaults.
    pub fn new(policy: Policy) -> Self {
        let grace = match policy {
            Policy::Disconnect => Duration::from_secs(5),
            Policy::DropOldest | Policy::Conflate => Duration::ZERO,
        };
        Self { policy, max_bytes: 1 << 20, grace }
    }

    /// Sets the bytes.
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the grace.
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}

/// A rule's number in one hub. The lower, the less may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RuleId(u8);

/// Which rule each room has.
#[derive(Debug)]
pub(crate) struct Rules {
    by_room: Vec<(RoomPattern, RuleId)>,
    otherwise: RuleId,
    /// By number.
    known: Vec<Overflow>,
}

impl Rules {
    /// The first pattern that matches decides, and `otherwise` where none does.
    ///
    /// # Panics
    /// At the 256th rule.
    pub(crate) fn new(otherwise: Overflow, by_room: &[(RoomPattern, Overflow)]) -> Self {
        assert!(by_room.len() < 256, "a hub has at most 255 overflow rules");
        let mut rules: Vec<Overflow> = by_room.iter().map(|(_, rule)| *rule).collect();
        rules.push(otherwise);
        // An emission to several rooms of one connection follows the strictest.
        rules.sort_by_key(|rule| rule.policy);
        let number = |rule: &Overflow| {
            let at = rules.iter().position(|known| known == rule).expect("it was put in");
            RuleId(at as u8)
        };
        let by_room = by_room.iter().map(|(rooms, rule)| (rooms.clone(), number(rule))).collect();
        Self { by_room, otherwise: number(&otherwise), known: rules }
    }

    /// The rule of a room.
    pub(crate) fn of(&self, room: &Room) -> RuleId {
        let matching = self.by_room.iter().find(|(rooms, _)| rooms.matches(room, ""));
        matching.map_or(self.otherwise, |(_, rule)| *rule)
    }

    pub(crate) fn rule(&self, rule: RuleId) -> &Overflow {
        &self.known[rule.0 as usize]
    }

    pub(crate) fn policy(&self, rule: RuleId) -> Policy {
        self.rule(rule).policy
    }
}

/// How far a connection is behind, by rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lags(SmallVec<[Lag; 1]>);

#[derive(Clone, Copy, Debug)]
struct Lag {
    rule: RuleId,
    /// Bytes of its own frames that its socket has not begun to take.
    bytes: u64,
    /// Since when that is more than allowed, as far as was looked.
    over_since: Option<Instant>,
}

impl Lags {
    pub(crate) fn add(&mut self, rule: RuleId, bytes: u64) {
        match self.0.iter_mut().find(|lag| lag.rule == rule) {
            Some(lag) => lag.bytes += bytes,
            None => self.0.push(Lag { rule, bytes, over_since: None }),
        }
    }

    pub(crate) fn subtract(&mut self, rule: RuleId, bytes: u64) {
        if let Some(lag) = self.0.iter_mut().find(|lag| lag.rule == rule) {
            lag.bytes = lag.bytes.saturating_sub(bytes);
        }
    }

    pub(crate) fn bytes(&self, rule: RuleId) -> u64 {
        self.0.iter().find(|lag| lag.rule == rule).map_or(0, |lag| lag.bytes)
    }

    /// Whether nothing is pending.
    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|lag| lag.bytes == 0)
    }

    /// The rules in which something is pending.
    pub(crate) fn pending(&self) -> impl Iterator<Item = RuleId> {
        self.0.iter().filter(|lag| lag.bytes > 0).map(|lag| lag.rule)
    }

    /// Takes over what was counted anew.
    pub(crate) fn recounted(&mut self, counted: Self) {
        let before = std::mem::replace(self, counted);
        for lag in before.0.into_iter().filter(|lag| lag.over_since.is_some()) {
            if let Some(now) = self.0.iter_mut().find(|now| now.rule == lag.rule) {
                now.over_since = lag.over_since;
            }
        }
    }

    /// The strictest rule in which it has fallen too far behind.
    pub(crate) fn exceeded(&mut self, rules: &Rules, now: Instant) -> Option<RuleId> {
        let mut exceeded = None;
        for lag in &mut self.0 {
            let rule = rules.rule(lag.rule);
            if lag.bytes <= rule.max_bytes {
                lag.over_since = None;
                continue;
            }
            let since = *lag.over_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= rule.grace {
                exceeded = Some(exceeded.map_or(lag.rule, |other: RuleId| other.min(lag.rule)));
            }
        }
        exceeded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(otherwise: Overflow) -> Rules {
        let rule = |rooms, policy| (RoomPattern::new(rooms).unwrap(), Overflow::new(policy));
        let lossy = [rule("prices:*", Policy::Conflate), rule("chat:*", Policy::DropOldest)];
        Rules::new(otherwise, &lossy)
    }

    #[test]
    fn the_first_pattern_decides_and_the_strictest_rule_is_the_lowest() {
        let rules = rules(Overflow::default());
        let of = |room: &str| rules.of(&Room::new(room).unwrap());
        assert_eq!(rules.policy(of("prices:eur")), Policy::Conflate);
        assert_eq!(rules.policy(of("chat:7")), Policy::DropOldest);
        assert_eq!(rules.policy(of("user:7")), Policy::Disconnect);
        assert!(of("user:7") < of("chat:7") && of("chat:7") < of("prices:eur"));
    }

    #[test]
    fn too_many_bytes_are_forgiven_within_the_grace() {
        let limits = Overflow::default().with_max_bytes(100).with_grace(Duration::from_secs(5));
        let rules = rules(limits);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let rule = rules.otherwise;
        let mut lags = Lags::default();
        lags.add(rule, 101);
        assert_eq!(lags.exceeded(&rules, at(0)), None);
        assert_eq!(lags.exceeded(&rules, at(4)), None);
        lags.subtract(rule, 1);
        assert_eq!(lags.exceeded(&rules, at(5)), None, "caught up in time");
        lags.add(rule, 1);
        assert_eq!(lags.exceeded(&rules, at(6)), None, "the grace begins anew");
        assert_eq!(lags.exceeded(&rules, at(11)), Some(rule));
    }

    #[test]
    fn rooms_are_judged_by_their_own_bytes() {
        let rules = rules(Overflow::default());
        let (own, chat) = (rules.otherwise, rules.of(&Room::new("chat:7").unwrap()));
        let mut lags = Lags::default();
        lags.add(own, 1 << 20);
        lags.add(chat, 1 << 20);
        let now = Instant::now();
        assert_eq!(lags.exceeded(&rules, now), None);
        lags.add(chat, 1);
        assert_eq!(lags.exceeded(&rules, now), Some(chat));
        lags.add(own, 1);
        assert_eq!(lags.exceeded(&rules, now), Some(chat), "the other's grace is not over");
        assert_eq!(lags.exceeded(&rules, now + Duration::from_secs(5)), Some(own));
        assert_eq!(lags.pending().count(), 2);
    }
}
