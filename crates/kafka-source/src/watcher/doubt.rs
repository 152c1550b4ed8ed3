//! Places that the broker may no longer have.
//!
//! ```text
//!           it is there, or older records are gone: read on (what is gone is lost)
//! In doubt -----------------------------------------------------------------------
//!           what was read is no longer there: the log was cut; close, and open the
//!           log that it became, from where it was cut
//! ```
//!
//! A log is cut where a leader that had not all of it took over, or a disk was lost. Its
//! offsets come twice then, with other records behind them, so it is another lane; see
//! [`cut`](crate::cut). Where the log was cut librdkafka tells if the broker knows epochs;
//! else all that is known is that the log ends before what was read, and it counts as cut
//! at that end. What stands there by then is passed: cursors of the old lane are refused,
//! so whoever has one loads anew what it shows.

use std::sync::Arc;
use std::time::Duration;

use fanout::Lane;

use super::{Found, Trouble, Watcher};
use crate::ends::{Partition, partition};
use crate::lanes::Opening;

/// A place that has to be verified.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    pub(super) lane: Arc<Lane>,
    pub(super) next: u64,
    /// From where on it is no longer what was read, where librdkafka told.
    pub(super) cut: Option<u64>,
}

/// What has become of a place.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Read on from here.
    There(u64),
    /// From here on it is another log.
    Cut(u64),
}

impl Doubt {
    /// Judges by the offsets that there are from `low` up to `high`.
    fn verdict(&self, low: u64, high: u64) -> Verdict {
        match self.cut {
            // It may have grown beyond what was read, with other records.
            Some(cut) if cut < self.next => Verdict::Cut(cut.min(high)),
            _ if self.next > high => Verdict::Cut(high),
            _ => Verdict::There(self.next.max(low)),
        }
    }
}

impl Watcher {
    /// Notes places whose cut is not known; they stand for all that were noted before.
    pub(super) fn doubt(&mut self, places: Vec<(Arc<Lane>, u64)>) {
        self.doubts.retain(|doubt| doubt.cut.is_some());
        let doubt = |(lane, next)| Doubt { lane, next, cut: None };
        self.doubts.extend(places.into_iter().map(doubt));
    }

    /// Notes a lane that was cut; the lowest cut counts.
    pub(super) fn doubt_cut(&mut self, lane: Arc<Lane>, next: u64, cut: u64) {
        let known = self.doubts.iter_mut().find(|doubt| doubt.lane == lane && doubt.cut.is_some());
        match known {
            Some(known) => {
                known.next = known.next.max(next);
                known.cut = known.cut.min(Some(cut));
            }
            // Before the others: it knows more of the same place.
            None => self.doubts.insert(0, Doubt { lane, next, cut: Some(cut) }),
        }
    }

    /// Finds out which places the broker no longer has.
    pub(super) fn verify(&mut self, timeout: Duration) -> Result<(), Trouble> {
        let mut doubts = std::mem::take(&mut self.doubts);
        doubts.retain(|doubt| self.is_read(&doubt.lane));
        let led = |doubt: &Doubt| {
            let topic = self.topics.get(&doubt.lane.topic);
            topic.is_some_and(|topic| topic.is_led(doubt.lane.partition))
        };
        let (asked, waiting): (Vec<_>, Vec<_>) = doubts.into_iter().partition(led);
        self.doubts = waiting;
        let mut partitions: Vec<Partition> =
            asked.iter().map(|doubt| partition(&doubt.lane)).collect();
        partitions.sort_unstable();
        partitions.dedup();
        let ends = match self.ends.ends(&self.consumer, &partitions, timeout) {
            Ok(ends) => ends,
            Err(error) => {
                self.tell_no_end(asked, &error.to_string());
                return Ok(());
            }
        };
        for doubt in asked {
            if !self.is_read(&doubt.lane) {
                continue;
            }
            match ends.get(&partition(&doubt.lane)) {
                Some(Ok((low, high))) => self.settle_doubt(&doubt, *low, *high)?,
                Some(Err(code)) => self.tell_no_end(vec![doubt], &code.to_string()),
                None => {}
            }
        }
        Ok(())
    }

    fn is_read(&self, lane: &Lane) -> bool {
        self.topics.is_open(lane) && !self.halted.contains_key(lane)
    }

    fn tell_no_end(&mut self, doubts: Vec<Doubt>, why: &str) {
        if let Some(Doubt { lane, .. }) = doubts.first() {
            self.problems.push(format!("{lane} has no known end: {why}"));
        }
        self.doubts.extend(doubts);
    }

    pub(super) fn settle_doubt(
        &mut self,
        doubt: &Doubt,
        low: u64,
        high: u64,
    ) -> Result<(), Trouble> {
        let cut = match doubt.verdict(low, high) {
            Verdict::There(next) => return self.tell(Found::Resume(doubt.lane.clone(), next)),
            Verdict::Cut(cut) => cut,
        };
        let (name, partition) = (doubt.lane.topic.clone(), doubt.lane.partition);
        let topic = self.topics.get_mut(&name);
        let Some(closed) = topic.and_then(|topic| topic.cut(partition, cut)) else { return Ok(()) };
        let next = doubt.next;
        tracing::error!(lane = %closed, cut, next, high, "the log was cut behind what was read");
        self.close(vec![closed])?;
        let from = cut.max(low);
        let Some(lane) = self.topics.open(&name, partition, from) else { return Ok(()) };
        self.tell(Found::Open(vec![Opening { lane, from, end: from }]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(next: u64, cut: Option<u64>, low: u64, high: u64) -> Verdict {
        Doubt { lane: Arc::new(Lane::new("log", "t", 0)), next, cut }.verdict(low, high)
    }

    #[test]
    fn a_place_is_there_or_passed_or_of_another_log() {
        assert_eq!(verdict(7, None, 3, 9), Verdict::There(7));
        assert_eq!(verdict(9, None, 3, 9), Verdict::There(9), "at its end");
        assert_eq!(verdict(2, None, 3, 9), Verdict::There(3), "expired");
        assert_eq!(verdict(10, None, 0, 9), Verdict::Cut(9), "beyond its end");
        assert_eq!(verdict(10, None, 0, 0), Verdict::Cut(0), "its disk was lost");
    }

    #[test]
    fn a_cut_that_was_told_counts_though_the_log_has_grown_again() {
        assert_eq!(verdict(10, Some(4), 0, 50), Verdict::Cut(4));
        assert_eq!(verdict(10, Some(4), 0, 3), Verdict::Cut(3), "cut again");
        assert_eq!(verdict(10, Some(4), 6, 50), Verdict::Cut(4), "what was there is deleted");
        assert_eq!(verdict(10, Some(10), 0, 50), Verdict::There(10), "nothing that was read");
        assert_eq!(verdict(10, Some(12), 0, 9), Verdict::Cut(9));
    }
}
