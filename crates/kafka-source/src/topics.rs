//! All topics that are read: those that are named, and those that match a pattern.
//!
//! For patterns the brokers are asked for everything they have. What matches in the first
//! answer that holds anything that matches was there at start; what matches later is new.
//! An answer without any counts only once every answer within the grace time was the same,
//! as it is for a topic that is named: a broker that has just started may know of none yet.
//!
//! At most so many partitions are read. Topics that are named come first, then the others
//! by their names, so that all nodes leave the same ones out.
//!
//! A topic that matched and is no more is remembered, so that it is known should it come
//! again; the oldest of more than [`MAX_GONE`] such topics, and more than the partitions
//! that may be read, are forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanout::Lane;

use crate::config::KafkaConfig;
use crate::pattern::Patterns;
use crate::topic::Topic;

/// Topics that are no more and are remembered.
const MAX_GONE: usize = 1000;

/// The topics, and what is known of each.
#[derive(Debug)]
pub(crate) struct Topics {
    patterns: Patterns,
    named: Vec<Topic>,
    matched: BTreeMap<Arc<str>, Topic>,
    /// Those of `matched` that are no more, the oldest first.
    gone: VecDeque<Arc<str>>,
    /// How many lanes of one partition were named after a log that is forgotten, at most.
    forgotten: u32,
    /// Whether it is known what matched at start.
    searched: bool,
    unmatched_since: Option<Instant>,
    grace: Duration,
    max_partitions: usize,
}

impl Topics {
    pub(crate) fn new(config: &KafkaConfig, patterns: Patterns) -> Self {
        Self {
            searched: patterns.is_empty(),
            patterns,
            named: config.topics.iter().map(|name| Topic::new(name)).collect(),
            matched: BTreeMap::new(),
            gone: VecDeque::new(),
            forgotten: 0,
            unmatched_since: None,
            grace: config.missing_grace,
            max_partitions: config.max_partitions,
        }
    }

    pub(crate) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Notes what the brokers have. How many topics are not even looked at, because of the
    /// limit.
    pub(crate) fn list<'a>(
        &mut self,
        listed: impl Iterator<Item = &'a str>,
        now: Instant,
    ) -> usize {
        let mut matching: Vec<&str> =
            listed.filter(|name| self.patterns.matches(name) && !self.is_named(name)).collect();
        matching.sort_unstable();
        let mut passed_over = 0;
        for name in &matching {
            if self.matched.contains_key(*name) {
                continue;
            }
            // Each has a partition at least.
            if self.matched.len() - self.gone.len() >= self.max_partitions {
                passed_over += 1;
                continue;
            }
            let topic = if self.searched { Topic::appeared(name) } else { Topic::new(name) };
            self.matched.insert((*name).into(), topic);
        }
        let since = *self.unmatched_since.get_or_insert(now);
        if !matching.is_empty() || now.saturating_duration_since(since) >= self.grace {
            self.searched = true;
        }
        passed_over
    }

    /// Nobody answered: what was said before may have been said by a broker that was
    /// starting.
    pub(crate) fn doubted(&mut self) {
        self.unmatched_since = None;
        self.iter_mut().for_each(Topic::doubted);
    }

    fn is_named(&self, name: &str) -> bool {
        self.named.iter().any(|topic| *topic.name == *name)
    }

    /// The topics that are named.
    pub(crate) fn named(&self) -> Vec<Arc<str>> {
        self.named.iter().map(|topic| topic.name.clone()).collect()
    }

    /// The topics that match, or did.
    pub(crate) fn matched(&self) -> Vec<Arc<str>> {
        self.matched.keys().cloned().collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Topic> {
        let named = self.named.iter().find(|topic| *topic.name == *name);
        named.or_else(|| self.matched.get(name))
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Topic> {
        let named = self.named.iter_mut().find(|topic| *topic.name == *name);
        named.or_else(|| self.matched.get_mut(name))
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.named.iter_mut().chain(self.matched.values_mut())
    }

    fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.named.iter().chain(self.matched.values())
    }

    /// A broker described its partitions, and which have a leader; true where it was denied
    /// before.
    pub(crate) fn described(&mut self, name: &str, partitions: &BTreeMap<u32, bool>) -> bool {
        self.gone.retain(|gone| **gone != *name);
        self.get_mut(name).is_some_and(|topic| topic.described(partitions))
    }

    /// A broker says that it does not exist. Once that is to be believed, what was read of
    /// it; `next` is how far.
    pub(crate) fn denied(
        &mut self,
        name: &str,
        now: Instant,
        next: impl Fn(&Lane) -> Option<u64>,
    ) -> Vec<Arc<Lane>> {
        let grace = self.grace;
        let Some(topic) = self.get_mut(name) else { return Vec::new() };
        if !topic.denied(now, grace) {
            return Vec::new();
        }
        let closed = topic.close(next);
        if self.matched.contains_key(name) && !self.gone.iter().any(|gone| **gone == *name) {
            self.gone.push_back(name.into());
            self.forget();
        }
        closed
    }

    /// Forgets the oldest of those that are no more.
    fn forget(&mut self) {
        while self.gone.len() > MAX_GONE.max(self.max_partitions) {
            let Some(oldest) = self.gone.pop_front() else { return };
            let Some(topic) = self.matched.remove(&oldest) else { continue };
            if !topic.has_id() {
                self.forgotten = self.forgotten.max(topic.lanes_passed());
            }
        }
    }

    /// Begins a partition of a topic whose log is known, from this offset: its lane.
    pub(crate) fn open(&mut self, name: &str, partition: u32, from: u64) -> Option<Arc<Lane>> {
        let forgotten = self.forgotten;
        let topic = self.get_mut(name)?;
        if forgotten > 0 && !topic.has_id() {
            // Perhaps it is one that is forgotten.
            topic.pass_over(forgotten, std::iter::once(partition));
        }
        Some(topic.open(partition, from))
    }

    /// Whether this very lane is being read.
    pub(crate) fn is_open(&self, lane: &Lane) -> bool {
        let open = self.get(&lane.topic).and_then(|topic| topic.lane(lane.partition));
        open.is_some_and(|open| **open == *lane)
    }

    /// How many more partitions may be read.
    pub(crate) fn room(&self) -> usize {
        let open: usize = self.iter().map(|topic| topic.lanes().len()).sum();
        self.max_partitions.saturating_sub(open)
    }

    /// Whether all that was there at start is being read.
    pub(crate) fn settled(&self) -> bool {
        self.searched && self.iter().all(Topic::settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Log;
    use crate::topic::Begin;

    const GRACE: Duration = Duration::from_secs(5);

    /// Topics of this pattern, with `named` by its name, four partitions at most.
    fn topics(pattern: &str) -> (Topics, impl Fn(u64) -> Instant) {
        let patterns = Patterns::compile(&[pattern.into()]).unwrap();
        let config = KafkaConfig::new("b:1").topic("named").missing_grace(GRACE).max_partitions(4);
        let start = Instant::now();
        (Topics::new(&config, patterns), move |seconds| start + Duration::from_secs(seconds))
    }

    fn describe(topics: &mut Topics, name: &str) -> Begin {
        topics.described(name, &BTreeMap::from([(0, true)]));
        let log = Log { name: "log".into(), id: None };
        let topic = topics.get_mut(name).unwrap();
        topic.identified(&log);
        topic.begin(0)
    }

    #[test]
    fn what_matches_first_was_there_and_what_matches_later_is_new() {
        let (mut topics, at) = topics("a.*|named");
        topics.list(["b"].into_iter(), at(0));
        assert!(!topics.settled(), "the broker may be starting");
        topics.list(["a2", "b", "named", "a1", "__a"].into_iter(), at(1));
        assert_eq!(topics.matched(), ["a1", "a2"].map(Into::into), "what is named is no match");
        topics.list(["a3", "a1"].into_iter(), at(2));
        assert_eq!(describe(&mut topics, "a1"), Begin::AsConfigured);
        assert_eq!(describe(&mut topics, "a3"), Begin::Whole);
        describe(&mut topics, "named");
        for name in ["named", "a1"] {
            topics.open(name, 0, 0);
        }
        assert!(!topics.settled(), "a2 was there at start");
        describe(&mut topics, "a2");
        topics.open("a2", 0, 0);
        assert!(topics.settled());
    }

    #[test]
    fn where_nothing_matches_for_long_enough_nothing_is_waited_for() {
        let (mut topics, at) = topics("a.*");
        describe(&mut topics, "named");
        topics.open("named", 0, 0);
        topics.list(std::iter::empty(), at(0));
        topics.doubted();
        topics.list(std::iter::empty(), at(6));
        assert!(!topics.settled(), "nobody answered in between");
        topics.list(std::iter::empty(), at(11));
        assert!(topics.settled());
        topics.list(["a"].into_iter(), at(12));
        assert_eq!(describe(&mut topics, "a"), Begin::Whole);
    }

    #[test]
    fn no_more_is_looked_at_than_may_be_read() {
        let (mut topics, at) = topics(".*");
        let many: Vec<String> = (0..10).map(|n| format!("a{n}")).collect();
        assert_eq!(topics.list(many.iter().map(String::as_str), at(0)), 6);
        assert_eq!(topics.matched(), ["a0", "a1", "a2", "a3"].map(Into::into));
        assert_eq!(topics.room(), 4);
        describe(&mut topics, "a3");
        let lane = topics.open("a3", 0, 0).unwrap();
        assert!(topics.room() == 3 && topics.is_open(&lane));
        assert!(!topics.is_open(&Lane::new("other", "a3", 0)));
    }

    #[test]
    fn what_is_no_more_is_remembered_but_not_for_ever() {
        let (mut topics, at) = topics(".*");
        for n in 0..MAX_GONE + 9 {
            let name = format!("a{n}");
            topics.list(std::iter::once(&*name), at(0));
            describe(&mut topics, &name);
            let lane = topics.open(&name, 0, 0).unwrap();
            assert_eq!(&*lane.log, if n <= MAX_GONE { "log" } else { "log~0" }, "{n}");
            assert_eq!(topics.denied(&name, at(0), |_| None), [], "not for long enough");
            assert_eq!(topics.denied(&name, at(5), |_| None), [lane]);
        }
        assert_eq!((topics.gone.len(), topics.matched.len()), (MAX_GONE, MAX_GONE));
        // One that is remembered, and one that is not.
        for name in ["a1000", "a0"] {
            topics.list(std::iter::once(name), at(9));
            describe(&mut topics, name);
            assert_eq!(&*topics.open(name, 0, 0).unwrap().log, "log~0");
        }
    }
}
