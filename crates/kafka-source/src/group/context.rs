//! What librdkafka says to a member of a group.
//!
//! Rebalances are not answered where they are told, inside of a poll, but by the thread,
//! which has to wait for what was handed out: until they are, librdkafka goes on with its
//! heartbeats, and hands on no record.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::bindings::{
    rd_kafka_commit_queue, rd_kafka_queue_destroy, rd_kafka_queue_get_consumer,
};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{IsError as _, KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::context::Context;

/// A member's client.
pub(super) type Consumer = BaseConsumer<GroupContext>;

/// What the group wants.
#[derive(Clone)]
pub(super) enum Rebalance {
    /// These partitions are ours.
    Assign(TopicPartitionList),
    /// These are to be given back; where they are lost, somebody else has them already.
    Revoke { partitions: TopicPartitionList, lost: bool },
}

/// Keeps what the thread has to do.
pub(super) struct GroupContext {
    said: Arc<Context>,
    told: Mutex<Told>,
    /// Nobody waits for anything any more: rebalances are answered at once.
    closing: AtomicBool,
}

#[derive(Default)]
struct Told {
    rebalances: VecDeque<Rebalance>,
    /// The answer to the commit that is under way.
    commit: Option<(KafkaResult<()>, TopicPartitionList)>,
}

impl GroupContext {
    pub(super) fn new(said: Arc<Context>) -> Self {
        Self { said, told: Mutex::default(), closing: AtomicBool::new(false) }
    }

    pub(super) fn said(&self) -> &Context {
        &self.said
    }

    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        self.told().rebalances.pop_front()
    }

    pub(super) fn take_commit(&self) -> Option<(KafkaResult<()>, TopicPartitionList)> {
        self.told().commit.take()
    }

    /// From now on rebalances are answered where they are told.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // Nothing in there can be left half changed.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether partitions come and go one by one, or all at once.
pub(super) fn is_cooperative(consumer: &Consumer) -> bool {
    matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative)
}

/// Takes partitions that the group gave, at these offsets.
pub(super) fn assign(consumer: &Consumer, partitions: &TopicPartitionList) -> KafkaResult<()> {
    if is_cooperative(consumer) {
        consumer.incremental_assign(partitions)
    } else {
        consumer.assign(partitions)
    }
}

/// Gives partitions back that the group wants.
pub(super) fn unassign(consumer: &Consumer, partitions: &TopicPartitionList) -> KafkaResult<()> {
    if is_cooperative(consumer) {
        consumer.incremental_unassign(partitions)
    } else {
        consumer.unassign()
    }
}

/// Begins a commit, whose answer comes as an event of the consumer.
///
/// rust-rdkafka's own asynchronous commit has no answer: librdkafka gives one where it is
/// told a queue, or a callback, and it is told neither.
#[expect(unsafe_code, reason = "the binding has no safe form")]
pub(super) fn commit(consumer: &Consumer, places: &TopicPartitionList) -> KafkaResult<()> {
    let client = consumer.client().native_ptr();
    // SAFETY: the client outlives the call because it is borrowed; the list is copied; the
    // queue is one more handle of the client's, checked for null, and given back once; there
    // is no callback.
    let code = unsafe {
        let queue = rd_kafka_queue_get_consumer(client);
        if queue.is_null() {
            return Err(KafkaError::ClientCreation("no queue of a group".into()));
        }
        let nothing = std::ptr::null_mut();
        let code = rd_kafka_commit_queue(client, places.ptr(), queue, None, nothing);
        rd_kafka_queue_destroy(queue);
        code
    };
    if code.is_error() { Err(KafkaError::ConsumerCommit(code.into())) } else { Ok(()) }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.said.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.said.error(error, reason);
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let assigned = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            let answered = if assigned {
                assign(consumer, partitions)
            } else {
                unassign(consumer, partitions)
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "a rebalance at the end was not answered");
            }
            return;
        }
        let partitions = partitions.clone();
        let rebalance = if assigned {
            Rebalance::Assign(partitions)
        } else {
            // Asked now: answering it forgets it.
            Rebalance::Revoke { partitions, lost: consumer.assignment_lost() }
        };
        // At most one or two: the next one comes once this is answered.
        self.told().rebalances.push_back(rebalance);
    }

    fn commit_callback(&self, result: KafkaResult<()>, places: &TopicPartitionList) {
        self.told().commit = Some((result, places.clone()));
    }
}

impl fmt::Debug for GroupContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupContext")
    }
}
