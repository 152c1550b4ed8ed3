//! Where a member goes on in partitions that it was given.

use std::time::{Duration, Instant};

use fanout::Lane;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::context::Consumer;
use super::watch::Common;
use crate::start::Start;

/// Where reading one partition begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) from: u64,
    /// Whether the group has committed it: else the next owner has to be told, or it would
    /// begin elsewhere.
    pub(super) committed: bool,
}

/// A partition of which it is not known where to go on, and why.
#[derive(Debug)]
pub(super) struct Unknown {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) why: KafkaError,
}

/// How long one partition's ends may take: one without a leader must not use up the others' time.
const ENDS: Duration = Duration::from_secs(1);

/// Where the group has come to, and where it has not been, where it begins; and of which
/// partitions that is not known. Blocks, for `timeout` twice at most.
///
/// "The end" is resolved once, to an offset that is then committed: were it left to each
/// owner, what was written between two of them would be read by nobody. A partition that has
/// appeared since this member started is read from its beginning.
pub(super) fn resolve<'a>(
    consumer: &Consumer,
    partitions: impl IntoIterator<Item = (&'a str, i32)>,
    start: &Start,
    common: &Common,
    timeout: Duration,
) -> Result<(Vec<Place>, Vec<Unknown>), KafkaError> {
    let mut asked = TopicPartitionList::new();
    for (topic, partition) in partitions {
        asked.add_partition(topic, partition);
    }
    if asked.count() == 0 {
        return Ok((Vec::new(), Vec::new()));
    }
    let committed = consumer.committed_offsets(asked, timeout)?;
    let begun = Instant::now();
    let place = |told: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        told.error()?;
        let (topic, partition) = (told.topic().to_owned(), told.partition());
        let committed = match told.offset() {
            Offset::Offset(offset) => u64::try_from(offset).ok(),
            _ => None,
        };
        if let Some(from) = committed {
            return Ok(Place { topic, partition, from, committed: true });
        }
        let left = timeout.saturating_sub(begun.elapsed()).min(ENDS);
        let (low, high) = consumer.fetch_watermarks(&topic, partition, left)?;
        let low_first = is_new(common, &topic, partition) || matches!(start, Start::Earliest);
        let from = u64::try_from(if low_first { low } else { high }).unwrap_or(0);
        Ok(Place { topic, partition, from, committed: false })
    };
    let (mut places, mut unknown) = (Vec::new(), Vec::new());
    for told in committed.elements() {
        match place(&told) {
            Ok(place) => places.push(place),
            Err(why) => {
                let (topic, partition) = (told.topic().to_owned(), told.partition());
                unknown.push(Unknown { topic, partition, why });
            }
        }
    }
    Ok((places, unknown))
}

/// What is wrong while these are not known.
pub(super) fn problem(group: &str, unknown: &[Unknown]) -> Option<String> {
    let Unknown { topic, partition, why } = unknown.first()?;
    let more = match unknown.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more partitions"),
    };
    Some(format!("group `{group}`: {topic}/{partition}{more}: no known place: {why}"))
}

fn is_new(common: &Common, topic: &str, partition: i32) -> bool {
    let state = common.lock();
    let counted = state.at_start.as_ref().and_then(|known| known.get(topic)).copied();
    counted.is_none_or(|count| partition.unsigned_abs() >= count)
}

/// An offset as librdkafka takes it.
pub(super) fn offset(offset: u64) -> Offset {
    Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX))
}

/// Places as librdkafka takes them.
pub(super) fn list<'a>(
    places: impl IntoIterator<Item = (&'a Lane, u64)>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (lane, next) in places {
        let partition = i32::try_from(lane.partition).unwrap_or(i32::MAX);
        list.add_partition_offset(&lane.topic, partition, offset(next))?;
    }
    Ok(list)
}
