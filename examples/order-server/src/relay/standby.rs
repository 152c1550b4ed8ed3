//! What a relay does that holds no lease: a state and a clock, and no database.
//!
//! It takes a lease that is free, at once where Kafka can be reached: where not, or where
//! it has just given the lease up for being cut off, others come first. While another
//! holds it and the same record goes on waiting, it says that it would do better.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::Look;

/// How long others come first.
const HESITATE: Duration = Duration::from_secs(2);

/// How long the oldest record may stay the same.
const STUCK: Duration = Duration::from_secs(2);

/// How often it is said that the lease is wanted; it counts for longer.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Take,
    Want,
}

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Standby {
    cut_off: bool,
    free_since: Option<Instant>,
    /// The oldest record, and since when.
    oldest: Option<(i64, Instant)>,
    said: Option<Instant>,
}

impl Standby {
    pub(super) fn new(cut_off: bool) -> Self {
        Self { cut_off, free_since: None, oldest: None, said: None }
    }

    pub(super) fn step(&mut self, look: Look, reachable: bool, now: Instant) -> Step {
        if look.free {
            let since = *self.free_since.get_or_insert(now);
            let hesitates = self.cut_off || !reachable;
            return if hesitates && now - since < HESITATE { Step::Wait } else { Step::Take };
        }
        self.free_since = None;
        let Some(oldest) = look.oldest else {
            self.oldest = None;
            return Step::Wait;
        };
        let since = match self.oldest {
            Some((before, since)) if before == oldest => since,
            _ => now,
        };
        self.oldest = Some((oldest, since));
        let told = self.said.is_some_and(|said| now - said < SAY_AGAIN);
        if !reachable || told || now - since < STUCK {
            return Step::Wait;
        }
        self.said = Some(now);
        Step::Want
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Look = Look { free: true, oldest: Some(1) };

    fn held(oldest: Option<i64>) -> Look {
        Look { free: false, oldest }
    }

    #[test]
    fn a_free_lease_is_taken_at_once_by_who_reaches_kafka() {
        let now = Instant::now();
        assert_eq!(Standby::new(false).step(FREE, true, now), Step::Take);
        for (cut_off, reachable) in [(true, true), (false, false), (true, false)] {
            let mut standby = Standby::new(cut_off);
            assert_eq!(standby.step(FREE, reachable, now), Step::Wait);
            let late = now + HESITATE;
            assert_eq!(standby.step(FREE, reachable, late - Duration::from_millis(1)), Step::Wait);
            assert_eq!(standby.step(FREE, reachable, late), Step::Take);
        }
    }

    #[test]
    fn who_hesitates_begins_anew_when_another_had_it() {
        let (mut standby, now) = (Standby::new(true), Instant::now());
        assert_eq!(standby.step(FREE, true, now), Step::Wait);
        assert_eq!(standby.step(held(None), true, now + HESITATE), Step::Wait);
        assert_eq!(standby.step(FREE, true, now + HESITATE), Step::Wait);
    }

    #[test]
    fn a_lease_is_wanted_while_a_record_is_stuck() {
        let (mut standby, now) = (Standby::new(false), Instant::now());
        assert_eq!(standby.step(held(Some(1)), true, now), Step::Wait);
        assert_eq!(standby.step(held(Some(2)), true, now + STUCK), Step::Wait, "it goes on");
        let stuck = now + 2 * STUCK;
        assert_eq!(standby.step(held(Some(2)), false, stuck), Step::Wait, "it cannot do better");
        assert_eq!(standby.step(held(Some(2)), true, stuck), Step::Want);
        assert_eq!(standby.step(held(Some(2)), true, stuck), Step::Wait, "it was said");
        assert_eq!(standby.step(held(Some(2)), true, stuck + SAY_AGAIN), Step::Want);
        assert_eq!(standby.step(held(None), true, stuck + 2 * SAY_AGAIN), Step::Wait);
        assert_eq!(standby.step(held(Some(2)), true, stuck + 3 * SAY_AGAIN), Step::Wait);
    }
}
