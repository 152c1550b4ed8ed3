//! Kafka as a source for [`fanout`]: every partition of some topics, on every node,
//! with nothing committed. The position in Kafka is what clients resume from.
//!
//! ```no_run
//! use fanout::Source as _;
//! use kafka_source::{KafkaConfig, KafkaSource};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = KafkaConfig::new("localhost:9092").topics(["order.created"]).json(true);
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
//!   ([`Start::Earliest`]), or a while before now ([`Start::Recent`]), so that whoever was
//!   away for less gets what was missed from memory. It has caught up once what was there at
//!   start was taken, and the next batch is asked for.
//! - **Read again.** [`replay`](fanout::Source::replay) reads any range of any lane that
//!   Kafka still has, by one consumer of its own for all passes. What is live is neither
//!   disturbed nor waited for. What was deleted, before a pass or during it, is an error
//!   and never a hole.
//! - **Bounded memory.** While nobody takes batches nothing is polled: at most
//!   [`max_queued_batches`](KafkaConfig::max_queued_batches) and one more batch wait here,
//!   and `queued.max.messages.kbytes` in librdkafka. A pass has the same bounds, of its own,
//!   and fetches 4 MiB ahead unless that property says otherwise.
//! - **Trouble that passes ends nothing.** Brokers that are away, at start or later, are
//!   told by the source's status and the log, and reading goes on where it was.
//! - **What cannot be used is passed.** An empty record, or one that is not JSON where
//!   [`json`](KafkaConfig::json) asks for it, is counted and logged with its position, and
//!   the frontier moves on beyond it.
//! - **What is lost is said.** Records that were deleted before they were read are counted
//!   and logged as an error, the next batch names their lane in
//!   [`lost`](fanout::EventBatch::lost), and reading goes on at the oldest that is left.
//! - **Another log is another lane.** [`Lane::log`](fanout::Lane::log) is the cluster's id
//!   and the id that the topic got when it was made, the same on all nodes; a broker too
//!   old for such ids (before 2.8) has the cluster's alone. A partition whose log was cut or
//!   made anew under the same name is halted, the others are not: its offsets would come
//!   twice with other records behind them. After a restart it is another lane, and cursors
//!   of the old one are refused.
//!
//! A topic that is deleted and made anew within one
//! [`metadata_interval`](KafkaConfig::metadata_interval) may be read on for that long, from
//! where the old one was, if it has grown as far: it is noticed at the next look.
//!
//! # Map
//!
//! | module | what |
//! |---|---|
//! | [`KafkaConfig`], [`Start`] | what to read, and how much of it at once |
//! | [`KafkaSource`] | the handle: batches, status, reading again |
//! | [`metrics`] | the names of what is counted |
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
mod embedded;
mod ends;
mod identity;
mod lanes;
pub mod metrics;
mod reader;
mod record;
mod replay;
mod report;
mod source;
mod start;
mod throttle;
mod topic;
mod watcher;
mod watermarks;

pub use bootstrap::Bootstrap;
pub use config::{ConfigError, KafkaConfig};
pub use embedded::{EmbeddedBroker, EmbeddedError};
pub use rdkafka;
pub use source::{KafkaSource, StartError};
pub use start::Start;
