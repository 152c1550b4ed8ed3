//! What is known of a topic: whether it was there at start, and what of it is read.
//!
//! ```text
//! Unknown --described--> There at start: read from where the configuration says
//!    '--denied for the grace time--> New: whatever it holds one day is read whole
//! ```
//!
//! A broker that has just started, or has not yet heard of a topic made elsewhere, denies
//! topics that exist. Believing it at once would read what they hold from its beginning,
//! old events as if they were live. So a denial counts only where every answer within the
//! grace time was the same; until then nothing is known of the topic, and the source is
//! not ready.
//!
//! Invariant: what was once known of a start never changes, so that no later denial makes
//! a topic new.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanout::Lane;

use crate::identity::Log;

/// A topic that is asked for.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    /// Which log it was when it was first described: what its lanes are named by.
    log: Option<Log>,
    /// How many partitions it had when it was first known: 0 where it did not exist.
    at_start: Option<u32>,
    /// Partitions that are being read.
    opened: HashSet<u32>,
    /// Since when every answer has been that there is no such topic.
    denied_since: Option<Instant>,
}

impl Topic {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            log: None,
            at_start: None,
            opened: HashSet::new(),
            denied_since: None,
        }
    }

    /// A broker described it, with so many partitions; true where it was denied before.
    pub(crate) fn described(&mut self, partitions: u32) -> bool {
        self.at_start.get_or_insert(partitions);
        self.denied_since.take().is_some()
    }

    /// A broker says that it does not exist.
    pub(crate) fn denied(&mut self, now: Instant, grace: Duration) {
        let since = *self.denied_since.get_or_insert(now);
        // ## Unknown => New
        if now.saturating_duration_since(since) >= grace {
            self.at_start.get_or_insert(0);
        }
    }

    /// Nobody answered, or not whether it exists: what was said before may have been
    /// said by a broker that was starting.
    pub(crate) fn doubted(&mut self) {
        self.denied_since = None;
    }

    /// Whether this partition has appeared since start: nobody has seen any of it.
    pub(crate) fn is_new(&self, partition: u32) -> bool {
        self.at_start.is_some_and(|count| partition >= count)
    }

    /// The broker told which log it is. The name of the log that is read, which stays;
    /// `None` where another has taken its place.
    pub(crate) fn identified(&mut self, log: &Log) -> Option<Arc<str>> {
        let known = self.log.get_or_insert_with(|| log.clone());
        (!log.replaces(known)).then(|| known.name.clone())
    }

    /// What is being read of it.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = Lane> {
        let lane = |log: &Log, id| Lane::new(log.name.clone(), self.name.clone(), id);
        let open = self.log.iter().flat_map(|log| self.opened.iter().map(move |id| (log, *id)));
        open.map(move |(log, id)| lane(log, id))
    }

    pub(crate) fn is_open(&self, partition: u32) -> bool {
        self.opened.contains(&partition)
    }

    pub(crate) fn open(&mut self, partition: u32) {
        self.opened.insert(partition);
    }

    /// Whether all that it held at start is being read.
    pub(crate) fn settled(&self) -> bool {
        self.at_start.is_some_and(|count| (0..count).all(|id| self.is_open(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    fn topic() -> (Topic, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Topic::new("t"), move |seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn one_that_is_denied_for_a_moment_was_there_at_start() {
        let (mut topic, at) = topic();
        topic.denied(at(0), GRACE);
        topic.denied(at(4), GRACE);
        assert!(!topic.settled(), "it may still turn out to be there");
        assert!(topic.described(2), "it was denied");
        assert!(!topic.is_new(0) && !topic.is_new(1) && topic.is_new(2));
        topic.open(0);
        assert!(!topic.settled());
        topic.open(1);
        assert!(topic.settled());
    }

    #[test]
    fn one_that_is_denied_throughout_is_new_when_it_comes() {
        let (mut topic, at) = topic();
        topic.denied(at(0), GRACE);
        topic.denied(at(5), GRACE);
        assert!(topic.settled(), "it held nothing at start");
        assert!(topic.described(1) && topic.is_new(0));
        assert!(topic.settled(), "what is new keeps nothing from being ready");
    }

    #[test]
    fn whatever_else_is_said_begins_the_grace_time_anew() {
        let (mut topic, at) = topic();
        topic.denied(at(0), GRACE);
        topic.doubted();
        topic.denied(at(7), GRACE);
        topic.denied(at(11), GRACE);
        assert!(!topic.settled());
        topic.denied(at(12), GRACE);
        assert!(topic.settled());
    }

    #[test]
    fn it_stays_the_log_that_it_was_first() {
        let (mut topic, _) = topic();
        let log = |name: &str, id| Log { name: name.into(), id };
        assert_eq!(topic.identified(&log("c/1", Some(1))).as_deref(), Some("c/1"));
        topic.open(4);
        assert_eq!(topic.identified(&log("c", None)).as_deref(), Some("c/1"), "it cannot tell");
        assert_eq!(topic.identified(&log("c/2", Some(2))), None, "made anew");
        assert_eq!(topic.lanes().collect::<Vec<_>>(), [Lane::new("c/1", "t", 4)]);
    }

    #[test]
    fn no_later_denial_makes_it_new() {
        let (mut topic, at) = topic();
        assert!(!topic.described(1));
        topic.open(0);
        topic.denied(at(0), GRACE);
        topic.denied(at(60), GRACE);
        assert!(topic.described(3));
        assert!(topic.is_open(0) && !topic.is_new(0) && topic.settled());
        assert!(topic.is_new(1) && topic.is_new(2), "grown since");
    }
}
