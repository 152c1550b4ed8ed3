//! What a broker says of a partition. Asking blocks.

use std::time::{Duration, SystemTime};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};

use crate::context::Consumer;

/// librdkafka counts milliseconds in 32 bits, and takes what overflows for for ever.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// The topic, where it can be read.
pub(crate) fn usable(topic: &MetadataTopic) -> Result<&MetadataTopic, RDKafkaErrorCode> {
    match topic.error() {
        Some(code) => Err(code.into()),
        None if topic.partitions().is_empty() => Err(RDKafkaErrorCode::LeaderNotAvailable),
        None => Ok(topic),
    }
}

/// The oldest offset that is kept, and the one that is written next.
pub(crate) fn ends(
    consumer: &Consumer,
    topic: &str,
    partition: i32,
    timeout: Duration,
) -> Result<(u64, u64), KafkaError> {
    let (low, high) = consumer.fetch_watermarks(topic, partition, timeout)?;
    // It has none below zero.
    let offset = |raw: i64| u64::try_from(raw).unwrap_or(0);
    Ok((offset(low), offset(high)))
}

/// The first offset whose record is not older than `age`; `None` where there is none.
pub(crate) fn not_older(
    consumer: &Consumer,
    topic: &str,
    partition: i32,
    age: Duration,
    timeout: Duration,
) -> Result<Option<u64>, KafkaError> {
    let since = SystemTime::now().checked_sub(age);
    let since = since.and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok());
    // Never below zero: -1 and -2 are the end and the beginning.
    let millis = since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(topic, partition, Offset::Offset(millis))?;
    let told = consumer.offsets_for_times(asked, timeout)?;
    let Some(place) = told.find_partition(topic, partition) else {
        return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition));
    };
    place.error()?;
    match place.offset() {
        Offset::Offset(offset) => Ok(u64::try_from(offset).ok()),
        Offset::End => Ok(None),
        _ => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset)),
    }
}
