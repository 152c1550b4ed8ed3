//! What is known of a topic: whether it was there at start, and what of it is read.
//!
//! ```text
//! Unknown --described--> There at start: read from where the configuration says
//!    |                      |            '--another log in its place--.
//!    |                      '--denied for the grace time--.            |
//!    '--denied for the grace time-------------------------+------------+
//!                                                         v
//!                     New: what is read is closed; whatever it holds is read whole
//! ```
//!
//! A broker that has just started, or has not yet heard of a topic made elsewhere, denies
//! topics that exist. Believing it at once would read what they hold from its beginning,
//! old events as if they were live. So a denial counts only where every answer within the
//! grace time was the same; until then nothing changes: a topic that was not known yet
//! keeps the source from being ready, one that is read is read on.
//!
//! A topic that was closed and comes again is another log by the id that it got when it
//! was made. One of the same id was never deleted: it is read on where it was. One without
//! ids is taken for another, which is read whole; so nothing is missed, but should it have
//! been there all the time, what it holds comes again.
//!
//! Invariant: no two lanes that were open in this node's life are named the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanout::Lane;

use crate::cut;
use crate::identity::Log;

/// A topic that is asked for.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    /// Which log it is: what its lanes are named by.
    log: Option<Log>,
    /// How many partitions it had when it was first known: 0 where it did not exist.
    at_start: Option<u32>,
    /// What is being read.
    open: BTreeMap<u32, Reading>,
    /// Partitions of this log of which something was read that is no more.
    past: BTreeMap<u32, Past>,
    /// Whether it was closed, and is not known to be what it was.
    gone: bool,
    /// Since when every answer has been that there is no such topic.
    denied_since: Option<Instant>,
    /// Partitions that are not read because there are too many.
    pub(crate) over: BTreeSet<u32>,
    /// Partitions that had a leader at the last look.
    led: BTreeSet<u32>,
}

/// What is read of a partition.
#[derive(Debug)]
struct Reading {
    lane: Arc<Lane>,
    from: u64,
}

/// What was read of a partition before.
#[derive(Clone, Copy, Debug)]
struct Past {
    /// How many lanes were named after this log.
    lanes: u32,
    /// Where the next one begins; `None` where it is to be read whole.
    next: Option<u64>,
}

/// Where a partition that is not open is to be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Where the configuration says.
    AsConfigured,
    /// From its beginning: nobody has seen any of it.
    Whole,
    /// From here: what stands before was seen, or is no more.
    At(u64),
}

impl Topic {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            log: None,
            at_start: None,
            open: BTreeMap::new(),
            past: BTreeMap::new(),
            gone: false,
            denied_since: None,
            over: BTreeSet::new(),
            led: BTreeSet::new(),
        }
    }

    /// One that is known not to have been there at start.
    pub(crate) fn appeared(name: &str) -> Self {
        Self { at_start: Some(0), ..Self::new(name) }
    }

    /// A broker described its partitions, and which of them have a leader; true where it
    /// was denied before.
    pub(crate) fn described(&mut self, partitions: &BTreeMap<u32, bool>) -> bool {
        let count = partitions.last_key_value().map_or(0, |(id, _)| id + 1);
        self.at_start.get_or_insert(count);
        let led = partitions.iter().filter(|(_, led)| **led);
        self.led = led.map(|(id, _)| *id).collect();
        self.denied_since.take().is_some()
    }

    /// A broker says that it does not exist. True once that is to be believed.
    pub(crate) fn denied(&mut self, now: Instant, grace: Duration) -> bool {
        self.led.clear();
        let since = *self.denied_since.get_or_insert(now);
        let over = now.saturating_duration_since(since) >= grace;
        if over {
            // ## Unknown => New
            self.at_start.get_or_insert(0);
        }
        over
    }

    /// Nobody answered, or not whether it exists: what was said before may have been
    /// said by a broker that was starting.
    pub(crate) fn doubted(&mut self) {
        self.denied_since = None;
        self.led.clear();
    }

    /// Whether a question about this partition will find somebody to answer it.
    pub(crate) fn is_led(&self, partition: u32) -> bool {
        self.led.contains(&partition)
    }

    /// It is not known now which log it is: nothing of it is to be judged by its offsets.
    pub(crate) fn unidentified(&mut self) {
        self.led.clear();
    }

    /// The broker told which log it is. The lanes that are no more where another has taken
    /// its place.
    pub(crate) fn identified(&mut self, log: &Log) -> Vec<Arc<Lane>> {
        let Some(known) = &self.log else {
            self.log = Some(log.clone());
            return Vec::new();
        };
        if log.replaces(known) {
            // ## There at start => New
            let closed = self.close(|_| None);
            self.past.clear();
            self.log = Some(log.clone());
            self.gone = false;
            return closed;
        }
        if self.gone && (known.id.is_none() || log.id.is_none()) {
            // It may be another.
            self.past.values_mut().for_each(|past| past.next = None);
        }
        self.gone = false;
        Vec::new()
    }

    /// It is no more: what was read of it. `next` is how far, should it come again; `None`
    /// where nothing of it was read.
    pub(crate) fn close(&mut self, next: impl Fn(&Lane) -> Option<u64>) -> Vec<Arc<Lane>> {
        self.at_start = Some(0);
        self.gone = true;
        let mut closed = Vec::with_capacity(self.open.len());
        for (partition, Reading { lane, from }) in std::mem::take(&mut self.open) {
            self.pass(partition, next(&lane).unwrap_or(from).max(from));
            closed.push(lane);
        }
        closed
    }

    /// The log of this partition is another from this offset on: the lane that is no more.
    pub(crate) fn cut(&mut self, partition: u32, at: u64) -> Option<Arc<Lane>> {
        let Reading { lane, .. } = self.open.remove(&partition)?;
        self.pass(partition, at);
        Some(lane)
    }

    fn pass(&mut self, partition: u32, next: u64) {
        let past = self.past.entry(partition).or_insert(Past { lanes: 0, next: None });
        *past = Past { lanes: past.lanes + 1, next: Some(next) };
    }

    /// Names of lanes are used up, and it is forgotten which: so many are passed over.
    pub(crate) fn pass_over(&mut self, lanes: u32, partitions: impl Iterator<Item = u32>) {
        for partition in partitions {
            self.past.entry(partition).or_insert(Past { lanes, next: None });
        }
    }

    /// How many lanes of one partition were named after its log, at most.
    pub(crate) fn lanes_passed(&self) -> u32 {
        self.past.values().map(|past| past.lanes).max().unwrap_or(0)
    }

    /// Whether the broker tells it from another of its name.
    pub(crate) fn has_id(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.id.is_some())
    }

    /// Where this partition is to be read from.
    pub(crate) fn begin(&self, partition: u32) -> Begin {
        let new = self.at_start.is_some_and(|count| partition >= count);
        match self.past.get(&partition) {
            Some(Past { next: Some(next), .. }) => Begin::At(*next),
            Some(_) => Begin::Whole,
            None if new => Begin::Whole,
            None => Begin::AsConfigured,
        }
    }

    /// Begins a partition of a log that is known, from this offset: its lane.
    pub(crate) fn open(&mut self, partition: u32, from: u64) -> Arc<Lane> {
        let log = self.log.as_ref().map_or_else(|| "".into(), |log| log.name.clone());
        let log = match self.past.get(&partition) {
            Some(past) => cut::named(&log, past.next.unwrap_or(0), past.lanes),
            None => log,
        };
        let lane = Arc::new(Lane::new(log, self.name.clone(), partition));
        self.over.remove(&partition);
        self.open.insert(partition, Reading { lane: lane.clone(), from });
        lane
    }

    pub(crate) fn is_open(&self, partition: u32) -> bool {
        self.open.contains_key(&partition)
    }

    /// What is being read of this partition.
    pub(crate) fn lane(&self, partition: u32) -> Option<&Arc<Lane>> {
        self.open.get(&partition).map(|reading| &reading.lane)
    }

    /// What is being read.
    pub(crate) fn lanes(&self) -> impl ExactSizeIterator<Item = &Arc<Lane>> {
        self.open.values().map(|reading| &reading.lane)
    }

    /// Whether all that it held at start is being read, or never will be.
    pub(crate) fn settled(&self) -> bool {
        let decided = |id| self.is_open(id) || self.over.contains(&id);
        self.at_start.is_some_and(|count| (0..count).all(decided))
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

    fn partitions(count: u32) -> BTreeMap<u32, bool> {
        (0..count).map(|id| (id, true)).collect()
    }

    fn log(name: &str, id: Option<u128>) -> Log {
        Log { name: name.into(), id }
    }

    /// One that is being read, with two partitions, of a log with this id.
    fn read(id: Option<u128>) -> (Topic, impl Fn(u64) -> Instant) {
        let (mut topic, at) = topic();
        topic.described(&partitions(2));
        topic.identified(&log("c", id));
        topic.open(0, 7);
        topic.open(1, 7);
        (topic, at)
    }

    #[test]
    fn one_that_is_denied_for_a_moment_was_there_at_start() {
        let (mut topic, at) = topic();
        assert!(!topic.denied(at(0), GRACE) && !topic.denied(at(4), GRACE));
        assert!(!topic.settled(), "it may still turn out to be there");
        assert!(topic.described(&partitions(2)), "it was denied");
        let begins = [0, 1, 2].map(|id| topic.begin(id));
        assert_eq!(begins, [Begin::AsConfigured, Begin::AsConfigured, Begin::Whole]);
        topic.open(0, 7);
        assert!(!topic.settled());
        topic.open(1, 7);
        assert!(topic.settled());
    }

    #[test]
    fn one_that_is_denied_throughout_is_new_when_it_comes() {
        let (mut topic, at) = topic();
        topic.denied(at(0), GRACE);
        assert!(topic.denied(at(5), GRACE));
        assert!(topic.settled(), "it held nothing at start");
        assert!(topic.described(&partitions(1)) && topic.begin(0) == Begin::Whole);
        assert!(topic.settled(), "what is new keeps nothing from being ready");
    }

    #[test]
    fn whatever_else_is_said_begins_the_grace_time_anew() {
        let (mut topic, at) = topic();
        topic.denied(at(0), GRACE);
        topic.doubted();
        topic.denied(at(7), GRACE);
        assert!(!topic.denied(at(11), GRACE) && !topic.settled());
        assert!(topic.denied(at(12), GRACE) && topic.settled());
    }

    #[test]
    fn one_that_is_over_the_limit_keeps_nothing_from_being_ready() {
        let (mut topic, _) = topic();
        topic.described(&partitions(2));
        topic.open(0, 7);
        topic.over.insert(1);
        assert!(topic.settled());
        topic.open(1, 7);
        assert!(topic.settled() && topic.over.is_empty());
    }

    #[test]
    fn another_log_in_its_place_is_read_whole_under_its_own_name() {
        let (mut topic, _) = read(Some(1));
        assert_eq!(topic.identified(&log("c", None)), [], "it cannot tell");
        let closed = topic.identified(&log("d", Some(2)));
        let old = |id| Arc::new(Lane::new("c", "t", id));
        assert_eq!(closed, [old(0), old(1)]);
        assert!(!topic.is_open(0) && topic.begin(0) == Begin::Whole);
        assert_eq!(*topic.open(0, 7), Lane::new("d", "t", 0));
        assert!(topic.settled());
    }

    #[test]
    fn one_that_was_deleted_and_comes_again_is_what_its_id_says() {
        let deleted = |id| {
            let (mut topic, at) = read(id);
            let next = |lane: &Lane| (lane.partition == 0).then_some(40);
            assert!(!topic.denied(at(0), GRACE) && topic.is_open(0), "read on until it is sure");
            assert!(topic.denied(at(5), GRACE));
            assert_eq!(topic.close(next).len(), 2);
            assert_eq!(topic.close(next), [], "once");
            topic.described(&partitions(2));
            topic
        };
        // Deleted and made anew.
        let mut topic = deleted(Some(1));
        assert_eq!(topic.identified(&log("d", Some(2))), []);
        assert_eq!((topic.begin(0), &*topic.open(0, 7).log), (Begin::Whole, "d"));
        // It was there all the time.
        let mut topic = deleted(Some(1));
        assert_eq!(topic.identified(&log("c", Some(1))), []);
        assert_eq!((topic.begin(0), &*topic.open(0, 7).log), (Begin::At(40), "c~40"));
        assert_eq!(topic.begin(1), Begin::At(7), "nothing of it was read yet");
        // Nobody knows.
        let mut topic = deleted(None);
        assert_eq!(topic.identified(&log("c", None)), []);
        assert_eq!((topic.begin(0), &*topic.open(0, 7).log), (Begin::Whole, "c~0"));
    }

    #[test]
    fn a_log_that_was_cut_is_another_each_time() {
        let (mut topic, _) = read(Some(1));
        let mut names = vec![topic.lanes().next().unwrap().log.to_string()];
        for cut in [40, 12, 12] {
            let closed = topic.cut(0, cut).unwrap();
            assert_eq!(*closed.log, **names.last().unwrap());
            assert!(topic.cut(0, cut).is_none(), "once");
            assert_eq!(topic.begin(0), Begin::At(cut));
            names.push(topic.open(0, 7).log.to_string());
        }
        assert_eq!(names, ["c", "c~40", "c~12.2", "c~12.3"]);
        assert_eq!(&*topic.open(1, 7).log, "c", "its neighbour is what it was");
        assert_eq!(topic.lanes_passed(), 3);
    }

    #[test]
    fn no_denial_that_was_not_believed_makes_it_new() {
        let (mut topic, at) = read(None);
        topic.denied(at(0), GRACE);
        topic.described(&partitions(3));
        topic.denied(at(6), GRACE);
        topic.described(&partitions(3));
        assert!(topic.is_open(0) && topic.settled());
        assert_eq!(topic.begin(2), Begin::Whole, "grown since");
    }
}
