//! Where reading begins.
//!
//! A place is always an offset that was resolved before anything is assigned, between the
//! oldest record and the end that the broker told of: searching by time is a question of
//! its own, and what is written between the two must not be passed.

use std::time::Duration;

/// Where reading begins in partitions that exist at start.
///
/// What appears later, a partition or a topic, is read from its beginning; see
/// [`missing_grace`](crate::KafkaConfig::missing_grace) for when a topic counts as later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}

impl Start {
    /// The first offset to read of a partition that holds what is from `low` up to `high`.
    /// `search` finds the first offset that is not older than an age, `None` where there
    /// is none; it is not called where nobody asks for a time.
    pub(crate) fn resolve<E>(
        self,
        low: u64,
        high: u64,
        search: impl FnOnce(Duration) -> Result<Option<u64>, E>,
    ) -> Result<u64, E> {
        Ok(match self {
            Self::Latest => high,
            Self::Earliest => low,
            Self::Recent { age, records } => {
                // Written since, it lies beyond the end that was seen: nothing is passed.
                let young = if low < high { search(age)?.unwrap_or(high).min(high) } else { high };
                young.max(high.saturating_sub(records)).max(low)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where reading begins in 10 to 100, where the search finds this.
    fn recent(records: u64, found: Option<u64>) -> u64 {
        let age = Duration::from_secs(60);
        let search = |asked| {
            assert_eq!(asked, age);
            Ok::<_, ()>(found)
        };
        Start::Recent { age, records }.resolve(10, 100, search).unwrap()
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
    fn nobody_searches_without_need() {
        let never = |_| -> Result<Option<u64>, ()> { panic!("searched") };
        assert_eq!(Start::Latest.resolve(10, 100, never), Ok(100));
        assert_eq!(Start::Earliest.resolve(10, 100, never), Ok(10));
        let recent = Start::Recent { age: Duration::ZERO, records: 9 };
        assert_eq!(recent.resolve(7, 7, never), Ok(7), "empty");
    }

    #[test]
    fn a_failed_search_is_no_place() {
        let recent = Start::Recent { age: Duration::ZERO, records: 9 };
        assert_eq!(recent.resolve(0, 5, |_| Err("away")), Err("away"));
    }
}
