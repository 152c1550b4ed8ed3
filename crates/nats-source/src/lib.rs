//! NATS `JetStream` as a source for [`fanout`]: every message of some streams, on every
//! node, with nothing acknowledged. The sequence in the stream is what clients resume from.
//!
//! ```no_run
//! use fanout::Source as _;
//! use nats_source::{NatsConfig, NatsSource, SUBJECT};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut source = NatsSource::start(NatsConfig::new("localhost:4222").stream("ORDERS"))?;
//! while let Some(batch) = source.next().await? {
//!     for event in &batch.events {
//!         println!("{} {}: {:?}", event.lane, event.offset, event.header(SUBJECT));
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # From a message to an event
//!
//! A stream is one lane: its name is the topic, its sequences are the offsets, and the
//! partition is 0. The subject is the event's key, and its first header of the name
//! [`SUBJECT`], before one that came along; the other headers follow, sorted by name. The
//! time is that at which the server took the message. A message without a payload is an
//! event like any other.
//!
//! # What it promises
//!
//! - **Everything, in order, once.** Each stream is read by a consumer that nobody else
//!   knows. The server numbers what it sends; where a number is missing, or the consumer is
//!   gone, another begins at the sequence that is due. Streams that appear later are read
//!   from their beginning.
//! - **Begin where it is worth it.** At the ends ([`Start::Latest`]), at what is oldest
//!   ([`Start::Earliest`]), at a time ([`Start::At`]), at given sequences
//!   ([`Start::Sequences`]), or a while before now ([`Start::Recent`]), so that whoever was
//!   away for less gets what was missed from memory. It has caught up once what was there at
//!   start was taken, and the next batch is asked for.
//! - **Read again.** [`replay`](fanout::Source::replay) reads any range of any stream that
//!   the server still has, by a connection of its own. What was deleted from the beginning
//!   on, before a pass or during it, is an error and never a hole.
//! - **Bounded memory.** While nobody takes batches nothing is pulled: at most
//!   [`max_queued_batches`](NatsConfig::max_queued_batches) wait here, and for each stream
//!   one pull of [`max_batch`](NatsConfig::max_batch) messages and
//!   [`max_batch_bytes`](NatsConfig::max_batch_bytes). A pass has the same bounds, of its own.
//! - **Trouble that passes ends nothing.** A server that is away or stands still, at start or
//!   later, and one that does not let us in, is told at once by the source's status and the
//!   log, and reading goes on where it was. Tries are at most two seconds apart.
//! - **What is lost is said.** Messages that were deleted before they were read, by age, size
//!   or purge, are counted and logged as an error, the batch names their lane in
//!   [`lost`](fanout::EventBatch::lost), where they stood, and reading goes on at the oldest
//!   that is left. Messages that were deleted one by one are passed in silence.
//! - **Another log is another lane.** [`Lane::log`](fanout::Lane::log) is the moment at which
//!   the stream was made, to the nanosecond, which the server tells all nodes alike.
//!
//! # When a stream is no more
//!
//! | what happened | the old lane | what is read then |
//! |---|---|---|
//! | it was deleted | closed once every answer within [`missing_grace`](NatsConfig::missing_grace) denied it | nothing; should it come again, all of it |
//! | it was made anew | closed | all of it |
//! | it ends before what was read: its memory was lost, or an old backup took its place | closed, after the same time | from that end, 40, as the lane `LOG~40` |
//! | it was purged, or its oldest messages were deleted | goes on; lost where they were not read yet | from the oldest that is left |
//!
//! With a [`log_identity`](NatsConfig::log_identity) of one's own, and where a stream comes
//! back under the moment of one that was deleted, the new one cannot be told from the old
//! one: it is halted, and the status says so.
//!
//! # What a stream has to be
//!
//! Its retention has to be `limits`: reading one of another kind would take messages from
//! others, so it is refused. The user needs to publish to `STREAM.INFO`, `CONSUMER.CREATE`,
//! `CONSUMER.INFO`, `CONSUMER.DELETE` and `CONSUMER.MSG.NEXT` of the stream, under `$JS.API`,
//! and to subscribe to `_INBOX.>`.
//!
//! Where only [some subjects](NatsConfig::stream_of) are read, or messages are deleted one by
//! one, sequences have holes, and only the server knows whether something in one of them
//! expired. So a batch with a hole is handed on one question later. The answer errs on the
//! safe side: what expired may have been of other subjects.
//!
//! # What it cannot do
//!
//! A header that is no UTF-8 is an error of the client's that ends the connection, each time
//! it is read: such a stream is not read on, and the status says at which sequence.
//!
//! # Map
//!
//! | module | what |
//! |---|---|
//! | [`NatsConfig`], [`Start`], [`Sequences`] | what to read, from where, and how much of it at once |
//! | [`NatsSource`] | the handle: batches, status, reading again |
//! | [`metrics`] | the names of what is counted |
//! | `reader`, `known` | a stream: found, opened, followed, closed |
//! | `consumer`, `collected` | what is pulled, in order and once; holes and losses |
//! | `link`, `api`, `report` | the connection, what it is asked, what is told of it |
//! | `replay` | reading again |
//! | [`async_nats`] | the client itself, for those who also write |
//!
//! # Features
//!
//! `nkeys`: credentials files. TLS is always there (rustls with ring, which needs a C
//! compiler and nothing else): write `tls://` before an address.

mod api;
mod collected;
mod config;
mod consumer;
mod identity;
mod known;
mod link;
pub mod metrics;
mod reader;
mod record;
mod replay;
mod report;
mod source;
mod start;

pub use async_nats;
pub use config::{ConfigError, NatsConfig};
pub use record::SUBJECT;
pub use source::{NatsSource, StartError};
pub use start::{Sequences, Start};
