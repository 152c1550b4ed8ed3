//! Where reading begins.
//!
//! A place is always a sequence that was resolved before anything is asked for, between the
//! oldest message and the end that the server told of: searching by time is a question of
//! its own, and what is written between the two must not be passed.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Where reading begins in streams that exist at start.
///
/// A stream that appears later is read from its beginning; see
/// [`missing_grace`](crate::NatsConfig::missing_grace) for when it counts as later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the ends there are when the server first answers: nothing that is written
    /// once the source is ready is missed.
    #[default]
    Latest,
    /// At the oldest message that the server keeps.
    Earliest,
    /// A while before now, so that what reads it is warm: whoever was away for less gets
    /// what was missed from memory.
    ///
    /// Reading begins at the first message that is not older than `age`, by the server's
    /// times and this node's clock, and never more than `messages` sequences before the end
    /// of its stream: a busy stream does not hold the start for hours. The source has caught
    /// up once what was there at start was read.
    Recent {
        /// How long before now.
        age: Duration,
        /// The most sequences before a stream's end, each on its own.
        messages: u64,
    },
    /// At the first message of each stream that is not older than this, by the server's own
    /// times; at the end where there is none.
    At(SystemTime),
    /// At given sequences, stream by stream.
    Sequences(Sequences),
}

/// Where each stream begins that is named, and where all others do.
///
/// - A sequence that the server has deleted is read from the oldest that is left; what was
///   deleted is told as lost, as wherever messages are deleted before they are read.
/// - A sequence beyond the end of its stream is most likely one of another stream. It is not
///   read, the status says why, and the source is not ready, until it has grown as far.
/// - A stream that appears after the start is read from its beginning nonetheless.
///
/// ```
/// use nats_source::{Sequences, Start};
///
/// let start = Start::Sequences(Sequences::otherwise(Start::Latest).at("ORDERS", 1_200));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    places: BTreeMap<String, u64>,
    otherwise: Box<Start>,
}

impl Sequences {
    /// No stream is named yet; those that are not begin as this says.
    pub fn otherwise(start: Start) -> Self {
        Self { places: BTreeMap::new(), otherwise: Box::new(start) }
    }

    /// The first sequence to read of a stream. Naming it twice replaces the first.
    pub fn at(mut self, stream: impl Into<String>, sequence: u64) -> Self {
        self.places.insert(stream.into(), sequence);
        self
    }
}

impl Start {
    /// What holds for one stream.
    pub(crate) fn rule(&self, stream: &str) -> Rule {
        match self {
            Self::Latest => Rule::End,
            Self::Earliest => Rule::Oldest,
            Self::Recent { age, messages } => Rule::Recent { age: *age, messages: *messages },
            Self::At(time) => Rule::At(*time),
            Self::Sequences(sequences) => match sequences.places.get(stream) {
                // There is none before the first.
                Some(sequence) => Rule::Sequence((*sequence).max(1)),
                None => sequences.otherwise.rule(stream),
            },
        }
    }

    /// The streams that are named in it.
    pub(crate) fn streams(&self) -> Vec<&str> {
        match self {
            Self::Sequences(sequences) => {
                let named = sequences.places.keys().map(String::as_str);
                named.chain(sequences.otherwise.streams()).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Where reading of one stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    End,
    Oldest,
    Recent { age: Duration, messages: u64 },
    At(SystemTime),
    Sequence(u64),
}

/// This sequence is not there yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Beyond(pub(crate) u64);

impl Rule {
    /// The time to be searched for; `None` where nobody asks for one.
    pub(crate) fn since(self, now: SystemTime) -> Option<SystemTime> {
        match self {
            // Before 1970 is before all messages.
            Self::Recent { age, .. } => {
                Some(now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH))
            }
            Self::At(time) => Some(time.max(SystemTime::UNIX_EPOCH)),
            Self::End | Self::Oldest | Self::Sequence(_) => None,
        }
    }

    /// The first sequence to read of a stream that holds what is from `low` up to `high`;
    /// less than `low` where what was asked for is no more. `found` is what the search for
    /// [`since`](Self::since) came to, `None` where nothing is as young.
    pub(crate) fn resolve(self, low: u64, high: u64, found: Option<u64>) -> Result<u64, Beyond> {
        // Written since, it lies beyond the end that was seen: nothing is passed.
        let young = found.unwrap_or(high).clamp(low, high);
        match self {
            Self::End => Ok(high),
            Self::Oldest => Ok(low),
            Self::At(_) => Ok(young),
            Self::Recent { messages, .. } => Ok(young.max(high.saturating_sub(messages))),
            Self::Sequence(sequence) if sequence > high => Err(Beyond(sequence)),
            Self::Sequence(sequence) => Ok(sequence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where reading begins in 10 to 100, where the search finds this.
    fn recent(messages: u64, found: Option<u64>) -> u64 {
        let rule = Start::Recent { age: Duration::from_secs(60), messages }.rule("s");
        rule.resolve(10, 100, found).unwrap()
    }

    #[test]
    fn it_begins_at_what_is_young_but_within_its_bounds() {
        assert_eq!(recent(1000, Some(40)), 40);
        assert_eq!(recent(1000, None), 100, "nothing is younger");
        assert_eq!(recent(1000, Some(5)), 10, "deleted since");
        assert_eq!(recent(1000, Some(130)), 100, "written since the end was seen");
        assert_eq!(recent(20, Some(40)), 80, "a busy stream");
        assert_eq!(recent(0, Some(40)), 100);
        assert_eq!(recent(u64::MAX, Some(0)), 10);
    }

    #[test]
    fn a_time_is_searched_for_only_where_one_is_asked_for() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let age = |age| Rule::Recent { age, messages: 9 };
        assert_eq!(age(Duration::from_secs(300)).since(at(1000)), Some(at(700)));
        assert_eq!(age(Duration::MAX).since(at(1000)), Some(at(0)));
        assert_eq!(Rule::At(at(5)).since(at(1000)), Some(at(5)));
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Rule::At(before).since(at(1000)), Some(at(0)));
        let rules = [Rule::End, Rule::Oldest, Rule::Sequence(3)];
        assert!(rules.iter().all(|rule| rule.since(at(1)).is_none()));
        assert_eq!(Rule::At(at(5)).resolve(10, 100, Some(70)), Ok(70));
        assert_eq!(Rule::At(at(5)).resolve(10, 100, None), Ok(100), "nothing is younger");
        assert_eq!(Rule::End.resolve(10, 100, None), Ok(100));
        assert_eq!(Rule::Oldest.resolve(10, 100, None), Ok(10));
        assert_eq!(age(Duration::ZERO).resolve(7, 7, None), Ok(7), "empty");
    }

    #[test]
    fn a_sequence_that_is_no_more_is_told_from_one_that_is_not_yet() {
        let resolve = |sequence| Rule::Sequence(sequence).resolve(10, 100, None);
        assert_eq!((resolve(10), resolve(55), resolve(100)), (Ok(10), Ok(55), Ok(100)));
        assert_eq!(resolve(4), Ok(4), "below the oldest: what is between is lost");
        assert_eq!(resolve(101), Err(Beyond(101)));
    }

    #[test]
    fn what_is_not_named_begins_as_is_said_otherwise() {
        let inner = Sequences::otherwise(Start::Earliest).at("t", 8);
        let start =
            Start::Sequences(Sequences::otherwise(Start::Sequences(inner)).at("s", 4).at("s", 0));
        let rules = ["s", "t", "u"].map(|stream| start.rule(stream));
        assert_eq!(rules, [Rule::Sequence(1), Rule::Sequence(8), Rule::Oldest]);
        assert_eq!(start.streams(), ["s", "t"]);
    }
}
