//! Kafka as a source for [`fanout`]: every partition of some topics, on every node,
//! with nothing committed. The position in Kafka is what clients resume from.
//!
//! ```no_run
//! use fanout::Source as _;
//! use kafka_source::{KafkaConfig, KafkaSource};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = KafkaConfig::new("localhost:9092").topics(["order.created"]);
//! let mut source = KafkaSource::start(config)?;
//! while let Some(batch) = source.next().await? {
//!     for event in &batch.events {
//!         println!("{} {}: {:?}", event.lane, event.offset, event.json()?);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - **Everything, in order, once.** All partitions are assigned at absolute offsets that
//!   were resolved beforehand. Offsets of a lane rise; whatever the client delivers again
//!   after a reconnect is dropped. Partitions and topics that appear later are read from
//!   their beginning.
//! - **Begin where it is worth it.** At the ends ([`Start::Latest`]), at what is oldest
//!   ([`Start::Earliest`]), at a time ([`Start::At`]), at given offsets ([`Start::Offsets`]),
//!   or a while before now ([`Start::Recent`]), so that whoever was away for less gets what
//!   was missed from memory. It has caught up once what was there at start was taken, and the
//!   next batch is asked for.
//! - **Topics by name or by pattern.** What matches a
//!   [pattern](KafkaConfig::topic_pattern) is read as soon as it appears. At most
//!   [`max_partitions`](KafkaConfig::max_partitions) are read; what is over is told.
//! - **Read again.** [`replay`](fanout::Source::replay) reads any range of any lane that
//!   Kafka still has, by one consumer of its own for all passes. What is live is neither
//!   disturbed nor waited for. What was deleted, before a pass or during it, is an error
//!   and never a hole.
//! - **Bounded memory.** While nobody takes batches nothing is polled: at most
//!   [`max_queued_batches`](KafkaConfig::max_queued_batches) and one more batch wait here.
//!   librdkafka fetches ahead until `queued.max.messages.kbytes` (16 MiB) or
//!   `queued.min.messages` (20,000 records) wait, of all partitions together; then each broker
//!   may still give the one answer that it was asked for, of at most `fetch.max.bytes` (16 MiB,
//!   as they are sent, packed) or one larger batch. So the bound is 16 MiB, and 16 MiB for
//!   each broker. A pass has the same bounds, of its own, with 4 MiB in place of 16.
//! - **Nothing waits for what will never come.** Compacted records, those of aborted
//!   transactions and the marks of transactions are passed, also at the end of a log: the
//!   frontier moves on beyond them, and they hold up neither catching up nor reading again.
//!   What an open transaction has written, and what stands behind it, comes once it has ended.
//! - **Trouble that passes ends nothing.** Brokers that are away, at start or later, are
//!   told by the source's status and the log, and reading goes on where it was.
//! - **Records come as they are.** Decoding them, and what becomes of those that cannot be
//!   used, is the pipeline's. Records without a value (tombstones) are passed over and
//!   counted, unless [`tombstones`](KafkaConfig::tombstones) asks for them.
//! - **What is lost is said.** Records that were deleted before they were read are counted
//!   and logged as an error, the next batch names their lane in
//!   [`lost`](fanout::EventBatch::lost), and reading goes on at the oldest that is left.
//! - **Another log is another lane.** [`Lane::log`](fanout::Lane::log) is the cluster's id
//!   and the id that the topic got when it was made, the same on all nodes; a broker too
//!   old for such ids (before 2.8) has the cluster's alone. Where offsets would come twice
//!   with other records behind them, the lane is [closed](fanout::EventBatch::closed), so that
//!   its cursors are refused, and reading goes on with another one, without a restart. The
//!   other partitions notice nothing.
//!
//! # When a log is no more
//!
//! | what happened | the old lane | what is read then |
//! |---|---|---|
//! | the topic was deleted | closed once every answer within [`missing_grace`](KafkaConfig::missing_grace) denied it | nothing; should it come again, all of it |
//! | it was made anew | closed | all of it, under its new id |
//! | its log was cut at offset 40: a disk was lost, or a leader took over that was behind | closed, and [lost](fanout::EventBatch::lost) where something was not read yet | from 40, as the lane `LOG~40` |
//! | its oldest records were deleted | goes on; lost where they were not read yet | from the oldest that is left |
//!
//! - Where the broker knows no epochs, or lost them with the log, all that is known of a cut
//!   is that the log ends before what was read. It counts as cut at that end; what was
//!   written there before it was noticed is passed, which the refused cursors cover.
//! - Nodes that saw the same cut name the lane the same. A node that was started later knows
//!   nothing of it: its lane has the plain name, and cursors of `LOG~40` are refused there, as
//!   its own are by the others. But it takes cursors from before the cut for its own, as far
//!   as the log has grown again.
//! - A broker without ids does not tell a topic that was made anew from one that was denied
//!   in error. It is read whole, so should it have been there all the time, what it holds
//!   comes again.
//! - A topic that is deleted and made anew within one
//!   [`metadata_interval`](KafkaConfig::metadata_interval) may be read on for that long, from
//!   where the old one was, if it has grown as far: it is noticed at the next look.
//!
//! # Map
//!
//! | module | what |
//! |---|---|
//! | [`KafkaConfig`], [`Start`], [`Offsets`] | what to read, from where, and how much of it at once |
//! | [`KafkaSource`] | the handle: batches, status, reading again |
//! | [`KafkaGroup`], [`GroupConfig`] | each event to one of several nodes, committed once it was taken |
//! | [`KafkaDeadLetters`], [`DeadLetterConfig`] | a topic for records that cannot be used |
//! | [`metrics`], [`group_metrics`] | the names of what is counted |
//! | [`EmbeddedBroker`] | a broker inside this process, for development and tests |
//! | [`rdkafka`] | the client itself, for those who also write |
//! | [`Bootstrap`] | what a client of one's own needs to find a restarted broker again |
//!
//! # Features
//!
//! `tls`: connections by TLS and SASL; builds OpenSSL, which needs perl.

mod bootstrap;
mod config;
mod context;
mod cut;
mod dead_letter;
mod embedded;
mod ends;
mod group;
mod identity;
mod lanes;
pub mod metrics;
mod native;
mod pattern;
mod poll;
mod reader;
mod record;
mod refusal;
mod replay;
mod report;
mod source;
mod start;
mod topic;
mod topics;
mod trouble;
mod watcher;
mod watermarks;

pub use bootstrap::Bootstrap;
pub use config::{ConfigError, KafkaConfig};
pub use dead_letter::{
    DeadLetterConfig, DeadLetterHeaders, DeadLetterStartError, KafkaDeadLetters,
};
pub use embedded::{EmbeddedBroker, EmbeddedError};
pub use group::metrics as group_metrics;
pub use group::{GroupConfig, GroupConfigError, GroupStartError, KafkaGroup};
pub use rdkafka;
pub use source::{KafkaSource, StartError};
pub use start::{Offsets, Start};
