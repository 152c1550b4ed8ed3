//! Polling the consumer.
//!
//! rust-rdkafka's own `poll` forgets of which topic, and at which offset, an end or a refusal
//! is; it panics at a header whose name is not UTF-8; and it shares each record behind a
//! counter. This one takes librdkafka's events as they are. All else that it does, this one
//! does too: logs, statistics and errors reach the [context](rdkafka::ClientContext), and a
//! group's rebalances and commits reach the [consumer's](ConsumerContext) while it polls.
//!
//! Invariants, which librdkafka gives (`rd_kafka_op_version_outdated`): once
//! `incremental_unassign` has returned, no record and no end of what was fetched before comes
//! of those partitions, also where they are assigned again at once. A refusal may.
//!
//! An end comes behind every record before it, and says that nothing before its offset can
//! come any more. With `isolation.level=read_committed` it lies at the last stable offset:
//! what is behind was not delivered either. So it is how marks of transactions, aborted
//! records, and compacted ones at the end of a log are passed: librdkafka moves its own place
//! on by what each batch of the log says is its last offset, whatever is left of it.

mod event;
mod record;
mod served;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub(crate) use event::Place;
use event::{Kind, NativeEvent, Queue};
pub(crate) use record::Record;

/// What one poll came to.
pub(crate) enum Polled<'a> {
    /// A record.
    Record(Record<'a>),
    /// Nothing of this partition before this offset comes any more, and there was nothing
    /// else when the broker was asked.
    End(Place),
    /// The broker does not have what was asked for. Nothing more of this partition comes
    /// until it is assigned anew.
    Refused(Refused),
    /// The consumer has told of an error. The context was told as well.
    Error(KafkaError),
    /// Something else was dealt with, such as a line of the log or a rebalance.
    Served,
}

/// An offset that the broker refused.
pub(crate) struct Refused {
    /// The partition; its offset is the one that was asked for, where that is known.
    pub(crate) place: Place,
    /// From which offset on the log is no longer the one that was read, where librdkafka
    /// found that it was cut.
    pub(crate) cut: Option<u64>,
}

/// A consumer's events, one after the other.
///
/// While one of these polls, nobody else is to: each event comes once.
pub(crate) struct Poll<C: ConsumerContext + 'static> {
    // Before the consumer: the client waits for its queues.
    queue: Queue,
    consumer: Arc<BaseConsumer<C>>,
}

impl<C: ConsumerContext + 'static> Poll<C> {
    /// # Errors
    /// Where the consumer has no `group.id`.
    pub(crate) fn new(consumer: Arc<BaseConsumer<C>>) -> Result<Self, KafkaError> {
        let none = || KafkaError::ClientCreation("group.id: has to be set".into());
        let queue = Queue::of(consumer.client()).ok_or_else(none)?;
        Ok(Self { queue, consumer })
    }

    /// The consumer that is polled.
    pub(crate) fn consumer(&self) -> &Arc<BaseConsumer<C>> {
        &self.consumer
    }

    /// What comes next, `None` where nothing does for so long.
    pub(crate) fn next(&self, wait: Duration) -> Option<Polled<'_>> {
        let event = self.queue.poll(wait)?;
        Some(match event.kind() {
            Kind::Record => Record::of(event).map_or_else(Polled::Error, Polled::Record),
            Kind::Error => self.told(&event),
            Kind::Other => {
                self.serve(&event);
                Polled::Served
            }
        })
    }

    /// Commits these offsets to the group, without waiting. Polling on tells the context's
    /// [`commit_callback`](ConsumerContext::commit_callback) what came of it, which a commit by
    /// rust-rdkafka's own means does not.
    ///
    /// # Errors
    /// Where it was not even tried.
    #[allow(dead_code, reason = "only a group commits")]
    pub(crate) fn commit(&self, offsets: &TopicPartitionList) -> Result<(), KafkaError> {
        let tried = self.queue.commit(self.consumer.client(), offsets);
        tried.map_err(KafkaError::ConsumerCommit)
    }

    /// An end, a refusal or an error.
    fn told(&self, event: &NativeEvent) -> Polled<'_> {
        use RDKafkaErrorCode::{AutoOffsetReset, LogTruncation, OffsetOutOfRange, PartitionEOF};
        let Some(code) = event.error() else { return Polled::Served };
        if code == PartitionEOF {
            return event.place().map_or(Polled::Served, Polled::End);
        }
        let reason = event.reason();
        self.consumer.context().error(KafkaError::Global(code), reason.trim());
        if matches!(code, AutoOffsetReset | LogTruncation | OffsetOutOfRange) {
            if let Some(place) = event.place() {
                return Polled::Refused(Refused { place, cut: cut(&reason) });
            }
        }
        Polled::Error(if event.is_fatal() {
            KafkaError::MessageConsumptionFatal(code)
        } else {
            KafkaError::MessageConsumption(code)
        })
    }
}

/// Where a log was cut, from librdkafka's words: it says so nowhere else.
fn cut(reason: &str) -> Option<u64> {
    if !reason.contains("log truncation detected at") {
        return None;
    }
    let (_, end) = reason.split_once("broker end offset is ")?;
    let digits = end.find(|c: char| !c.is_ascii_digit()).unwrap_or(end.len());
    end[..digits].parse().ok()
}
