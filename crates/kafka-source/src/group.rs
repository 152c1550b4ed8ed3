//! A member of a consumer group: each event to one of several.
//!
//! ```text
//!            Common: topics, problems           Desk: batches, what was accepted
//!  Watch <---------------------------> Member <----------------------------------> KafkaGroup
//!  asks the brokers, which blocks      polls, commits, answers rebalances
//! ```
//!
//! A rebalance is answered in turns, between polls: what was handed out is waited for, then
//! committed, then given back. librdkafka hands on nothing meanwhile, and goes on with its
//! heartbeats.

mod config;
mod context;
mod desk;
mod member;
pub mod metrics;
mod places;
mod reading;
mod turn;
mod watch;

use std::io;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use fanout::{EventBatch, Lane, Source, SourceError, SourceStatus};
use rdkafka::config::FromClientConfigAndContext as _;

use crate::config::ConfigError;
use crate::context::Context;
use crate::poll::Poll;
pub use config::{GroupConfig, GroupConfigError};
use context::{Consumer, GroupContext};
use desk::{Desk, Taken};
use member::Member;
use watch::{Common, Watch};

/// Some topics as a member of a consumer group: each event goes to one member.
///
/// # When it is right
///
/// | | [`KafkaSource`](crate::KafkaSource) | `KafkaGroup` |
/// |---|---|---|
/// | an event goes to | every node | one node of the group |
/// | partitions | all of them | those that the group gives it |
/// | a client may come to | any node | the node that has its events |
/// | resume and replay | yes | no: an event has no position |
/// | an event is handled | once on each node | once while nobody crashes, else at least once |
/// | right for | what browsers follow | what is to be done once: pushes, mail, bridges |
///
/// A client sees only what its node was given. So either rooms are sharded, by the same key
/// as the partitions, and each client is sent to its shard's node; or nobody listens for
/// the event itself, and what a router does with it is what counts.
///
/// **Nothing of it can be resumed** ([`RESUMABLE`](Source::RESUMABLE) is false): what is
/// published of it has no position, is in no cursor, and reaches those who are connected to
/// this node when it comes.
///
/// # What it promises
///
/// - **No record is skipped.** An offset is committed after the hub has
///   [accepted](Source::accepted) everything before it, every
///   [`commit_interval`](GroupConfig::commit_interval), at each rebalance and at the end.
/// - **None comes twice while nobody crashes.** Partitions that are taken away are drained:
///   what was handed out is waited for ([`rebalance_timeout`](GroupConfig::rebalance_timeout)),
///   committed, and only then given back; what was read and not handed out is left to the
///   next owner. A member that is killed, that loses its session, or that does not drain in
///   time has what it had not committed handled again by another.
/// - **Nothing is committed for a partition that is lost**: its next owner has begun already.
/// - **A member that is behind stays a member.** While nobody takes batches all partitions
///   are paused and polling goes on: heartbeats are sent, a rebalance of the others is
///   answered, and memory is bounded by
///   [`max_queued_batches`](crate::KafkaConfig::max_queued_batches).
/// - **A start is decided once.** Where the group has committed nothing, reading begins as
///   [`start`](crate::KafkaConfig::start) says, and that offset is committed at once: what is
///   written between two owners is not passed over. Partitions and topics that appear later
///   are read from their beginning.
/// - **What is lost is counted** (`fanout_source_expired_total`) and logged: records that were
///   deleted before the group had read them. A log that was made anew under its name is read
///   from its beginning, one that was cut from the cut.
///
/// A lane is in [`closed`](EventBatch::closed) of a batch when it was given back; it may
/// come again. One that is [halted](Source::halt) is not read on, and its record is not
/// committed: whoever is given the partition next, after a rebalance or a restart, meets the
/// record again.
///
/// # Ready
///
/// It has [caught up](fanout::SourceHealth::caught_up) once the group has told it for the
/// first time what is its share, be it nothing, and it is known where to go on. It does not
/// wait for the ends: a backlog would go by while nobody is let in. How far it is behind is
/// in `fanout_source_lag_records`.
///
/// # Protocol
///
/// All members of a group have to share a `partition.assignment.strategy`. The default is
/// `cooperative-sticky`, which takes away only what moves. `range` and `roundrobin` work,
/// and take everything away at each rebalance. A member cannot speak both kinds, so a group
/// that was eager cannot be moved by a rolling restart: stop all of its members, then start
/// them with the other; what is committed stays. With `group.protocol=consumer` (Kafka 4)
/// the broker assigns, and moves the group by itself. `group.instance.id` makes a static
/// member: one that comes back within `session.timeout.ms` gets what it had, and the older
/// one of two of the same name ends with an error.
///
/// Dropping it returns at once; the threads commit and leave the group behind it.
/// [`close`](Self::close) waits for that.
#[derive(Debug)]
pub struct KafkaGroup {
    desk: Arc<Desk>,
    status: SourceStatus,
    common: Arc<Common>,
    ended: bool,
}

/// Why a [`KafkaGroup`] was not started. A broker that is away is no reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupStartError {
    /// The configuration cannot be used.
    #[error("configuration refused")]
    Config(#[from] GroupConfigError),
    /// The system gave no thread; it may later.
    #[error("no thread for the group")]
    Thread(#[from] io::Error),
}

impl KafkaGroup {
    /// Begins to join. Returns before any broker has answered.
    ///
    /// # Errors
    /// [`GroupStartError`]; nothing was started.
    pub fn start(config: GroupConfig) -> Result<Self, GroupStartError> {
        let refused = |error: ConfigError| GroupConfigError::Source(error);
        let client = config.client()?;
        let patterns = config.source.patterns().map_err(refused)?;
        let said = Arc::new(Context::new());
        let context = GroupContext::new(said.clone());
        let consumer = Consumer::from_config_and_context(&client, context)
            .map_err(|error| refused(error.into()))?;
        let consumer = Arc::new(consumer);
        let poll = Poll::new(consumer.clone()).map_err(|error| refused(error.into()))?;
        let (reporter, status) = SourceStatus::new();
        let reporter = Arc::new(reporter);
        said.tell(&reporter, &config.source.brokers);
        let desk = Arc::new(Desk::new(config.source.max_queued_batches));
        let common = Arc::<Common>::default();
        let source = config.source.clone();
        let watch = Watch::new(
            consumer,
            reporter.clone(),
            source,
            patterns,
            common.clone(),
            config.group.clone(),
        );
        let member = Member::new(poll, reporter, config, desk.clone(), common.clone());
        // Where the second finds no thread, the first ends as well.
        let group = Self { desk, status, common, ended: false };
        Builder::new().name("kafka-group-watch".into()).spawn(|| watch.run())?;
        Builder::new().name("kafka-group".into()).spawn(|| member.run()).inspect_err(|_| {
            group.common.end();
        })?;
        Ok(group)
    }

    /// Commits what was accepted, leaves the group, and waits until the client is closed;
    /// false where that took longer than `deadline` and goes on behind.
    ///
    /// # Cancel safety
    /// Once polled it is closed either way; only the waiting is cut short.
    ///
    /// # Panics
    /// Outside of a tokio runtime whose time is enabled.
    pub async fn close(self, deadline: Duration) -> bool {
        let mut status = self.status.clone();
        drop(self);
        // The threads hold the reporter until the client is closed.
        tokio::time::timeout(deadline, status.wait_for(|_| false)).await.is_ok()
    }
}

impl Source for KafkaGroup {
    const RESUMABLE: bool = false;

    async fn next(&mut self) -> Result<Option<EventBatch>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        match self.desk.next().await {
            Taken::Batch(batch) => Ok(Some(batch)),
            Taken::Failed(error) => {
                self.ended = true;
                Err(error)
            }
            Taken::Nothing => unreachable!("it waits"),
        }
    }

    fn status(&self) -> SourceStatus {
        self.status.clone()
    }

    fn accepted(&mut self, places: &[(Arc<Lane>, u64)]) {
        self.desk.lock().accept(places);
    }

    fn halt(&mut self, lane: &Arc<Lane>, problem: &str) {
        if self.desk.lock().halt(lane) {
            self.common.lock().halted.insert((**lane).clone(), problem.to_owned());
            self.common.poke();
        }
    }
}

impl Drop for KafkaGroup {
    fn drop(&mut self) {
        self.desk.abandon();
    }
}
