//! What is done about partitions that are to be given back.
//!
//! ```text
//!          handed out is accepted           it is committed
//! Draining -----------------------> Committing -------------> given back
//!    | '--the deadline has passed------^  '--its own deadline----^
//!    '--they are lost: somebody else has them already-------------^
//! ```
//!
//! Invariant: nothing is committed of partitions that are lost, and nothing that was not
//! accepted.

use std::time::{Duration, Instant};

/// Partitions that are to be given back.
#[derive(Debug)]
pub(super) struct Leaving {
    /// They are not ours any more.
    pub(super) lost: bool,
    /// Until when what was handed out is waited for.
    drain: Instant,
    /// Until when it may take to be committed.
    commit: Instant,
}

/// How things stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// All that was handed out was accepted.
    pub(super) drained: bool,
    pub(super) debt: Debt,
}

/// What was accepted and is not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Debt {
    None,
    Owed,
    /// A commit is under way.
    BeingPaid,
    /// The group has refused a commit for good.
    Refused,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Commit,
    GiveBack {
        /// What was handed out was not accepted in time: it will be handed out twice.
        overdue: bool,
    },
}

impl Leaving {
    pub(super) fn new(lost: bool, now: Instant, drain: Duration, commit: Duration) -> Self {
        let drain = now + drain;
        Self { lost, drain, commit: drain + commit }
    }

    pub(super) fn step(&self, now: Instant, standing: Standing) -> Step {
        let Standing { drained, debt } = standing;
        let give_back = Step::GiveBack { overdue: !drained };
        if self.lost || debt == Debt::Refused || now >= self.commit {
            give_back
        } else if (!drained && now < self.drain) || debt == Debt::BeingPaid {
            Step::Wait
        } else if debt == Debt::Owed {
            Step::Commit
        } else {
            give_back
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(drained: bool, debt: Debt) -> Standing {
        Standing { drained, debt }
    }

    #[test]
    fn what_is_to_be_given_back_is_drained_then_committed() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        let leaving = Leaving::new(false, now, seconds(10), seconds(5));
        let step =
            |after, drained, debt| leaving.step(now + seconds(after), standing(drained, debt));
        assert_eq!(step(0, false, Debt::None), Step::Wait);
        assert_eq!(step(9, false, Debt::Owed), Step::Wait);
        assert_eq!(step(9, true, Debt::Owed), Step::Commit);
        assert_eq!(step(9, true, Debt::BeingPaid), Step::Wait);
        assert_eq!(step(9, true, Debt::None), Step::GiveBack { overdue: false });
        // Not in time: what was accepted is committed nevertheless.
        assert_eq!(step(10, false, Debt::Owed), Step::Commit);
        assert_eq!(step(10, false, Debt::None), Step::GiveBack { overdue: true });
        let nobody_answers = step(15, true, Debt::BeingPaid);
        assert_eq!(nobody_answers, Step::GiveBack { overdue: false });
        assert_eq!(step(0, true, Debt::Refused), Step::GiveBack { overdue: false });
    }

    #[test]
    fn what_is_lost_is_not_waited_for_and_not_committed() {
        let now = Instant::now();
        let lost = Leaving::new(true, now, Duration::from_secs(10), Duration::from_secs(5));
        for debt in [Debt::Owed, Debt::BeingPaid] {
            let step = lost.step(now, standing(false, debt));
            assert_eq!(step, Step::GiveBack { overdue: true });
        }
    }
}
