//! What the brokers say of partitions: their ends, and what is at a time. Asking blocks.
//!
//! One question for all partitions: librdkafka asks each leader once, all at the same
//! time, so hundreds cost no more than one. (`fetch_watermarks` asks for one partition.)
//! A partition without a leader would hold all others up until the time is over: whoever
//! asks leaves it out.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::Arc;
use std::time::Duration;

use fanout::Lane;
use rdkafka::bindings::{
    rd_kafka_AdminOptions_set_isolation_level, rd_kafka_IsolationLevel_t, rd_kafka_ListOffsets,
    rd_kafka_ListOffsets_result_infos, rd_kafka_ListOffsetsResultInfo_topic_partition,
    rd_kafka_admin_op_t, rd_kafka_error_destroy, rd_kafka_event_ListOffsets_result,
    rd_kafka_event_error,
};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{IsError as _, KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};

use crate::context::Consumer;
use crate::native;

/// librdkafka counts milliseconds in 32 bits, and takes what overflows for for ever.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// A partition of a topic.
pub(crate) type Partition = (Arc<str>, u32);

/// What was answered of each partition that was asked about.
pub(crate) type Answers<T> = HashMap<Partition, Result<T, RDKafkaErrorCode>>;

/// The partition that a lane is of.
pub(crate) fn partition(lane: &Lane) -> Partition {
    (lane.topic.clone(), lane.partition)
}

/// The topic, where it can be read.
pub(crate) fn usable(topic: &MetadataTopic) -> Result<&MetadataTopic, RDKafkaErrorCode> {
    match topic.error() {
        Some(code) => Err(code.into()),
        None if topic.partitions().is_empty() => Err(RDKafkaErrorCode::LeaderNotAvailable),
        None => Ok(topic),
    }
}

/// Asks for offsets, as a consumer of this isolation sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// Whether what is not committed is read, too.
    pub(crate) uncommitted: bool,
}

impl Ends {
    /// The oldest offset that is kept of each, and the one that is written next.
    pub(crate) fn ends(
        self,
        consumer: &Consumer,
        partitions: &[Partition],
        timeout: Duration,
    ) -> Result<Answers<(u64, u64)>, KafkaError> {
        let lows = self.offsets(consumer, partitions, Offset::Beginning, timeout)?;
        let mut highs = self.offsets(consumer, partitions, Offset::End, timeout)?;
        let known = |offset: Option<u64>| offset.ok_or(RDKafkaErrorCode::NoOffset);
        let both = |(partition, low): (Partition, Result<Option<u64>, _>)| {
            let high = highs.remove(&partition).unwrap_or(Err(RDKafkaErrorCode::NoOffset));
            let ends = low.and_then(known).and_then(|low| {
                // Asked later: less than `low` only where it was cut in between.
                high.and_then(known).map(|high| (low.min(high), high))
            });
            (partition, ends)
        };
        Ok(lows.into_iter().map(both).collect())
    }

    /// The first offset of each whose record is not older than `millis` since 1970; `None`
    /// where there is none.
    pub(crate) fn since(
        self,
        consumer: &Consumer,
        partitions: &[Partition],
        millis: u64,
        timeout: Duration,
    ) -> Result<Answers<Option<u64>>, KafkaError> {
        // Never below zero: -1 and -2 are the end and the beginning.
        let millis = i64::try_from(millis).unwrap_or(i64::MAX);
        self.offsets(consumer, partitions, Offset::Offset(millis), timeout)
    }

    #[expect(unsafe_code, reason = "the binding has no safe form")]
    fn offsets(
        self,
        consumer: &Consumer,
        partitions: &[Partition],
        asked: Offset,
        timeout: Duration,
    ) -> Result<Answers<Option<u64>>, KafkaError> {
        use rd_kafka_IsolationLevel_t::{
            RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED as COMMITTED,
            RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED as UNCOMMITTED,
        };
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            let id = i32::try_from(*partition).map_err(|_| unknown())?;
            list.add_partition_offset(topic, id, asked)?;
        }
        if partitions.is_empty() {
            return Ok(Answers::new());
        }
        let isolation = if self.uncommitted { UNCOMMITTED } else { COMMITTED };
        let op = rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
        let answers = native::ask(
            consumer.client(),
            op,
            timeout,
            |question| {
                // SAFETY: all of the question lives until it is answered; the list, which
                // is copied, until this returns; an error is freed once.
                unsafe {
                    let refused =
                        rd_kafka_AdminOptions_set_isolation_level(question.options, isolation);
                    if !refused.is_null() {
                        rd_kafka_error_destroy(refused);
                        return Err(KafkaError::AdminOp(RDKafkaErrorCode::InvalidArgument));
                    }
                    let (options, queue) = (question.options, question.queue);
                    rd_kafka_ListOffsets(question.client, list.ptr(), options, queue);
                }
                Ok(())
            },
            |event| {
                let mut answers = HashMap::with_capacity(partitions.len());
                // SAFETY: the event is alive, and all that is read belongs to it; names
                // are terminated.
                unsafe {
                    let code = rd_kafka_event_error(event);
                    if code.is_error() {
                        return Err(KafkaError::AdminOp(code.into()));
                    }
                    let result = rd_kafka_event_ListOffsets_result(event);
                    if result.is_null() {
                        return Err(KafkaError::AdminOp(RDKafkaErrorCode::BadMessage));
                    }
                    let mut count = 0;
                    let infos = rd_kafka_ListOffsets_result_infos(result, &raw mut count);
                    for nth in 0..count {
                        let told = rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(nth));
                        let topic = CStr::from_ptr((*told).topic).to_string_lossy().into_owned();
                        let answer = place((*told).offset, (*told).err.into());
                        answers.insert((topic, (*told).partition), answer);
                    }
                }
                Ok(answers)
            },
        )?;
        let mut answers: HashMap<(String, i32), _> = answers;
        let found = |partition: &Partition| {
            let key = (partition.0.to_string(), i32::try_from(partition.1).unwrap_or(-1));
            (partition.clone(), answers.remove(&key).unwrap_or(Err(RDKafkaErrorCode::NoOffset)))
        };
        Ok(partitions.iter().map(found).collect())
    }
}

fn unknown() -> KafkaError {
    KafkaError::AdminOp(RDKafkaErrorCode::UnknownPartition)
}

/// What an answer says: -1 where there is nothing, less where nobody has answered.
fn place(offset: i64, code: RDKafkaErrorCode) -> Result<Option<u64>, RDKafkaErrorCode> {
    match (code, u64::try_from(offset)) {
        (RDKafkaErrorCode::NoError, Ok(offset)) => Ok(Some(offset)),
        (RDKafkaErrorCode::NoError, Err(_)) if offset == -1 => Ok(None),
        (RDKafkaErrorCode::NoError, Err(_)) => Err(RDKafkaErrorCode::NoOffset),
        (code, _) => Err(code),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::config::FromClientConfigAndContext as _;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

    use super::*;
    use crate::config::KafkaConfig;
    use crate::context::Context;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const ENDS: Ends = Ends { uncommitted: false };

    #[test]
    fn hundreds_of_partitions_of_several_brokers_are_one_question() {
        let cluster = MockCluster::new(3).unwrap();
        cluster.create_topic("t", 300, 1).unwrap();
        cluster.create_topic("u", 1, 1).unwrap();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .create()
            .unwrap();
        for partition in [7, 7, 299] {
            let record = BaseRecord::<str, str>::to("t").partition(partition).payload("x");
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(TIMEOUT).unwrap();

        let config = KafkaConfig::new(cluster.bootstrap_servers()).topic("t");
        let client = config.client().unwrap();
        let consumer = Consumer::from_config_and_context(&client, Context::new()).unwrap();
        let mut asked: Vec<Partition> = (0..300).map(|id| ("t".into(), id)).collect();
        asked.extend([("u".into(), 0), ("u".into(), 9), ("none".into(), 0)]);
        let told = ENDS.ends(&consumer, &asked, TIMEOUT).unwrap();
        assert_eq!(told.len(), asked.len());
        for partition in &asked[..301] {
            let written = match (&*partition.0, partition.1) {
                ("t", 7) => 2,
                ("t", 299) => 1,
                _ => 0,
            };
            assert_eq!(told[partition], Ok((0, written)), "{partition:?}");
        }
        assert!(told[&asked[301]].is_err() && told[&asked[302]].is_err(), "{told:?}");

        // This one finds nothing by time.
        let since = ENDS.since(&consumer, &asked[..300], 0, TIMEOUT).unwrap();
        assert!(since.len() == 300 && since.values().all(|found| *found == Ok(None)));
    }

    #[test]
    fn only_what_was_answered_is_a_place() {
        use RDKafkaErrorCode::{NoError, NoOffset, NotLeaderForPartition};
        assert_eq!(place(0, NoError), Ok(Some(0)));
        assert_eq!(place(-1, NoError), Ok(None));
        assert_eq!(place(-1001, NoError), Err(NoOffset));
        assert_eq!(place(7, NotLeaderForPartition), Err(NotLeaderForPartition));
    }
}
