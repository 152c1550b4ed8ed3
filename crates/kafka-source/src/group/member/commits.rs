//! Commits, and the way out.

use std::time::{Duration, Instant};

use fanout::Lane;
use metrics::{counter, gauge};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{Member, SOON, Turn};
use crate::group::context::{Rebalance, assign, commit, unassign};
use crate::group::metrics::{ASSIGNED, COMMITS};
use crate::group::places::list;

/// How long a commit may be without an answer before another one is tried.
const UNANSWERED: Duration = Duration::from_secs(60);
/// How soon one is tried again that failed.
const AGAIN: Duration = Duration::from_millis(50);
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(2);

impl Member {
    /// Begins to commit what was accepted.
    pub(super) fn commit(&mut self) {
        if self.failed_at.is_some_and(|at| at.elapsed() < AGAIN) {
            return;
        }
        self.failed_at = None;
        self.committed_at = Instant::now();
        let places = self.desk.lock().uncommitted();
        if places.is_empty() || self.committing.is_some() {
            return;
        }
        let begun = list(places.iter().map(|(lane, next)| (&**lane, *next)))
            .and_then(|list| commit(self.poll.consumer(), &list));
        match begun {
            Ok(()) => self.committing = Some((places, Instant::now())),
            Err(error) => self.commit_failed(&error, self.committed_at),
        }
    }

    pub(super) fn hear_commit(&mut self) {
        let Some((result, told)) = self.context().take_commit() else {
            if self.committing.as_ref().is_some_and(|(_, since)| since.elapsed() > UNANSWERED) {
                self.committing = None;
            }
            return;
        };
        let Some((mut places, begun)) = self.committing.take() else { return };
        if let Err(error) = result {
            return self.commit_failed(&error, begun);
        }
        for failed in told.elements().iter().filter(|place| place.error().is_err()) {
            let is = |lane: &Lane| {
                *lane.topic == *failed.topic()
                    && lane.partition == failed.partition().unsigned_abs()
            };
            places.retain(|(lane, _)| !is(lane));
        }
        counter!(COMMITS, "result" => "ok").increment(1);
        self.desk.lock().committed(&places);
    }

    fn commit_failed(&mut self, error: &KafkaError, begun: Instant) {
        self.refused |= error
            .rdkafka_error_code()
            .is_some_and(|code| is_for_good(code, begun, self.turn_at, self.leaving));
        self.failed_at = Some(Instant::now());
        counter!(COMMITS, "result" => "failed").increment(1);
        tracing::debug!(%error, group = self.config.group, "not committed");
    }

    /// Commits what was accepted, and is nobody's business any more after that.
    pub(super) fn commit_the_rest(&mut self) {
        let deadline = Instant::now() + self.config.close_timeout;
        (self.turn_at, self.leaving, self.refused) = (Instant::now(), false, false);
        let lost = matches!(&self.turn, Some(Turn::GivingBack { leaving, .. }) if leaving.lost);
        while !lost && !self.refused && Instant::now() < deadline {
            self.hear_commit();
            if self.committing.is_none() {
                if self.desk.lock().uncommitted().is_empty() {
                    return;
                }
                self.commit();
            }
            // Records are left to the next owner.
            drop(self.poll.next(SOON));
        }
        let owed = self.desk.lock().uncommitted().len();
        if owed > 0 {
            tracing::warn!(
                group = self.config.group,
                partitions = owed,
                "not committed at the end"
            );
        }
    }

    /// Tells the group, so that it need not wait for the session to time out.
    pub(super) fn leave(&mut self) {
        self.context().close();
        let waiting: Vec<_> = std::iter::from_fn(|| self.context().next_rebalance()).collect();
        let consumer = self.poll.consumer();
        // What was asked before is answered here.
        let turn = match self.turn.take() {
            Some(Turn::Assigning(partitions, _)) => Some(Rebalance::Assign(partitions)),
            Some(Turn::GivingBack { partitions, .. }) => {
                Some(Rebalance::Revoke { partitions, lost: false })
            }
            None => None,
        };
        for wanted in turn.into_iter().chain(waiting) {
            let answered = match &wanted {
                Rebalance::Assign(partitions) => assign(consumer, partitions),
                Rebalance::Revoke { partitions, .. } => unassign(consumer, partitions),
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "a rebalance at the end was not answered");
            }
        }
        consumer.unsubscribe();
        let deadline = Instant::now() + LEAVE;
        while Instant::now() < deadline {
            let left = consumer.assignment().is_ok_and(|partitions| partitions.count() == 0);
            if self.poll.next(SOON).is_none() && left {
                break;
            }
        }
        gauge!(ASSIGNED).set(0.0);
    }
}

/// Whether a commit was refused because others have the partitions.
///
/// One that was under way when a rebalance began says nothing of what came after. One of
/// another generation is refused also where the partitions stay ours and the group went on to
/// the next one meanwhile; not while they are being given back, for which the group waits.
fn is_for_good(code: RDKafkaErrorCode, begun: Instant, turn_at: Instant, leaving: bool) -> bool {
    use RDKafkaErrorCode::{
        FencedInstanceId, IllegalGeneration, StaleMemberEpoch, UnknownMemberId,
    };
    let gone = match code {
        FencedInstanceId | UnknownMemberId => true,
        IllegalGeneration | StaleMemberEpoch => leaving,
        _ => false,
    };
    gone && begun >= turn_at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_generation_before_is_not_for_good() {
        // Once upon a time a commit that came a moment after the next generation had begun
        // was the last: all that had been accepted since was handled twice.
        use RDKafkaErrorCode::{IllegalGeneration, RebalanceInProgress, UnknownMemberId};
        let before = Instant::now();
        let turn_at = before + Duration::from_millis(1);
        for (code, begun, leaving, expected) in [
            (IllegalGeneration, before, true, false),
            (IllegalGeneration, turn_at, true, true),
            (IllegalGeneration, turn_at, false, false),
            (UnknownMemberId, before, true, false),
            (UnknownMemberId, turn_at, false, true),
            (RebalanceInProgress, turn_at, true, false),
        ] {
            assert_eq!(is_for_good(code, begun, turn_at, leaving), expected, "{code:?}");
        }
    }
}
