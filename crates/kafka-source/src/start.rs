//! Where reading begins.
//!
//! A place is always an offset that was resolved before anything is assigned, between the
//! oldest record and the end that the broker told of: searching by time is a question of
//! its own, and what is written between the two must not be passed.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Where reading begins in partitions that exist at start.
///
/// What appears later, a partition or a topic, is read from its beginning; see
/// [`missing_grace`](crate::KafkaConfig::missing_grace) for when a topic counts as later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the ends there are when the broker first answers: nothing that is written
    /// once the source is ready is missed.
    #[default]
    Latest,
    /// At the oldest record that the broker keeps.
    Earliest,
    /// A while before now, so that what reads it is warm: whoever was away for less gets
    /// what was missed from memory.
    ///
    /// Reading begins at the first record that is not older than `age`, by the records'
    /// own times, and never more than `records` offsets before the end of its partition:
    /// a busy topic does not hold the start for hours. The source has caught up once what
    /// was there at start was read.
    ///
    /// A broker that cannot [search by time](crate::KafkaConfig::search_by_time), such as
    /// the embedded one, is read from `records` before the end, however old they are.
    Recent {
        /// How long before now.
        age: Duration,
        /// The most offsets before a partition's end, each on its own.
        records: u64,
    },
    /// At the first record of each partition that is not older than this, by the records'
    /// own times; at the end where there is none.
    ///
    /// A broker that cannot [search by time](crate::KafkaConfig::search_by_time), such as
    /// the embedded one, is refused by configuration: any other place would be a guess.
    At(SystemTime),
    /// At given offsets, partition by partition.
    Offsets(Offsets),
}

/// Where each partition begins that is named, and where all others do.
///
/// - An offset that Kafka has deleted is read from the oldest that is left; what was
///   deleted is told as lost, as wherever records are deleted before they are read.
/// - An offset beyond the end of its partition is most likely one of another cluster or
///   topic. The partition is not read, the status says why, and the source is not ready,
///   until the partition has grown as far.
/// - A partition that appears after the start is read from its beginning nonetheless.
///
/// ```
/// use kafka_source::{Offsets, Start};
///
/// let start = Start::Offsets(
///     Offsets::otherwise(Start::Latest).at("orders", 0, 1_200).at("orders", 1, 1_340),
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    places: BTreeMap<String, BTreeMap<u32, u64>>,
    otherwise: Box<Start>,
}

impl Offsets {
    /// No partition is named yet; those that are not begin as this says.
    pub fn otherwise(start: Start) -> Self {
        Self { places: BTreeMap::new(), otherwise: Box::new(start) }
    }

    /// The first offset to read of a partition. Naming it twice replaces the first.
    pub fn at(mut self, topic: impl Into<String>, partition: u32, offset: u64) -> Self {
        self.places.entry(topic.into()).or_default().insert(partition, offset);
        self
    }
}

impl Start {
    /// What holds for one partition.
    pub(crate) fn rule(&self, topic: &str, partition: u32) -> Rule {
        match self {
            Self::Latest => Rule::End,
            Self::Earliest => Rule::Oldest,
            Self::Recent { age, records } => Rule::Recent { age: *age, records: *records },
            Self::At(time) => Rule::At(*time),
            Self::Offsets(offsets) => {
                let named = offsets.places.get(topic).and_then(|places| places.get(&partition));
                match named {
                    Some(offset) => Rule::Offset(*offset),
                    None => offsets.otherwise.rule(topic, partition),
                }
            }
        }
    }

    /// Whether it cannot do without a search by time.
    pub(crate) fn needs_search(&self) -> bool {
        match self {
            Self::At(_) => true,
            Self::Offsets(offsets) => offsets.otherwise.needs_search(),
            Self::Latest | Self::Earliest | Self::Recent { .. } => false,
        }
    }

    /// The topics that are named in it.
    pub(crate) fn topics(&self) -> Vec<&str> {
        match self {
            Self::Offsets(offsets) => {
                let named = offsets.places.keys().map(String::as_str);
                named.chain(offsets.otherwise.topics()).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Where reading of one partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    End,
    Oldest,
    Recent { age: Duration, records: u64 },
    At(SystemTime),
    Offset(u64),
}

/// This offset is not there yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Beyond(pub(crate) u64);

impl Rule {
    /// The time to be searched for, in milliseconds since 1970; `None` where nobody asks
    /// for one.
    pub(crate) fn since(self, now: SystemTime) -> Option<u64> {
        let time = match self {
            // Before 1970 is before all records.
            Self::Recent { age, .. } => now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH),
            Self::At(time) => time,
            Self::End | Self::Oldest | Self::Offset(_) => return None,
        };
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Some(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The first offset to read of a partition that holds what is from `low` up to `high`;
    /// less than `low` where what was asked for is no more. `found` is what the search for
    /// [`since`](Self::since) came to, `None` where nothing is as young.
    pub(crate) fn resolve(self, low: u64, high: u64, found: Option<u64>) -> Result<u64, Beyond> {
        // Written since, it lies beyond the end that was seen: nothing is passed.
        let young = found.unwrap_or(high).clamp(low, high);
        match self {
            Self::End => Ok(high),
            Self::Oldest => Ok(low),
            Self::At(_) => Ok(young),
            Self::Recent { records, .. } => Ok(young.max(high.saturating_sub(records))),
            Self::Offset(offset) if offset > high => Err(Beyond(offset)),
            Self::Offset(offset) => Ok(offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where reading begins in 10 to 100, where the search finds this.
    fn recent(records: u64, found: Option<u64>) -> u64 {
        let rule = Start::Recent { age: Duration::from_secs(60), records }.rule("t", 0);
        rule.resolve(10, 100, found).unwrap()
    }

    #[test]
    fn it_begins_at_what_is_young_but_within_its_bounds() {
        assert_eq!(recent(1000, Some(40)), 40);
        assert_eq!(recent(1000, None), 100, "nothing is younger");
        assert_eq!(recent(1000, Some(5)), 10, "deleted since");
        assert_eq!(recent(1000, Some(130)), 100, "written since the end was seen");
        assert_eq!(recent(20, Some(40)), 80, "a busy topic");
        assert_eq!(recent(0, Some(40)), 100);
        assert_eq!(recent(u64::MAX, Some(0)), 10);
    }

    #[test]
    fn a_time_is_searched_for_only_where_one_is_asked_for() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let age = |age| Rule::Recent { age, records: 9 };
        assert_eq!(age(Duration::from_millis(300)).since(at(1000)), Some(700));
        assert_eq!(age(Duration::MAX).since(at(1000)), Some(0));
        assert_eq!(Rule::At(at(5)).since(at(1000)), Some(5));
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Rule::At(before).since(at(1000)), Some(0));
        assert!(
            [Rule::End, Rule::Oldest, Rule::Offset(3)].iter().all(|r| r.since(at(1)).is_none())
        );
        assert_eq!(Rule::At(at(5)).resolve(10, 100, Some(70)), Ok(70));
        assert_eq!(Rule::At(at(5)).resolve(10, 100, None), Ok(100), "nothing is younger");
        assert_eq!(Rule::End.resolve(10, 100, None), Ok(100));
        assert_eq!(Rule::Oldest.resolve(10, 100, None), Ok(10));
        assert_eq!(age(Duration::ZERO).resolve(7, 7, None), Ok(7), "empty");
    }

    #[test]
    fn an_offset_that_is_no_more_is_told_from_one_that_is_not_yet() {
        let resolve = |offset| Rule::Offset(offset).resolve(10, 100, None);
        assert_eq!((resolve(10), resolve(55), resolve(100)), (Ok(10), Ok(55), Ok(100)));
        assert_eq!(resolve(4), Ok(4), "below the oldest: what is between is lost");
        assert_eq!(resolve(101), Err(Beyond(101)));
    }

    #[test]
    fn what_is_not_named_begins_as_is_said_otherwise() {
        let warm = Start::Recent { age: Duration::ZERO, records: 9 };
        let start = Start::Offsets(
            Offsets::otherwise(Start::Offsets(
                Offsets::otherwise(warm).at("t", 1, 8).at("u", 0, 1),
            ))
            .at("t", 0, 4)
            .at("t", 0, 5),
        );
        assert_eq!(start.rule("t", 0), Rule::Offset(5));
        assert_eq!(start.rule("t", 1), Rule::Offset(8));
        assert_eq!(start.rule("t", 2), Rule::Recent { age: Duration::ZERO, records: 9 });
        assert_eq!(start.topics(), ["t", "t", "u"]);
        assert!(!start.needs_search());
        let by_time = Start::Offsets(Offsets::otherwise(Start::At(SystemTime::UNIX_EPOCH)));
        assert!(by_time.needs_search());
    }
}
