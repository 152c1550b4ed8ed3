//! The handle.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::Builder;
use std::time::Duration;

use fanout::{EventBatch, Source, SourceError, SourceStatus};
use rdkafka::config::FromClientConfigAndContext as _;
use tokio::sync::{Semaphore, mpsc};

use crate::config::{ConfigError, KafkaConfig};
use crate::context::{Consumer, Context};
use crate::reader::{Handed, Reader};
use crate::watcher::Watcher;

/// Assignments that may wait for the reader.
const FOUND: usize = 16;

/// Every record of some topics, on every node: no group is joined, nothing committed.
///
/// Two threads work behind it: one reads, one asks the brokers what there is to be read.
/// Whatever may pass by itself (a broker away, a topic that does not exist yet) is told
/// by [`status`](Source::status) and in the log, and they go on by themselves.
///
/// It has caught up once the ends seen at start were read; up to
/// [`max_queued_batches`](KafkaConfig::max_queued_batches) may still wait to be taken.
///
/// Dropping it returns at once; the threads notice within a tenth of a second and close
/// the client behind it. [`close`](Self::close) waits for that.
#[derive(Debug)]
pub struct KafkaSource {
    batches: mpsc::Receiver<Handed>,
    status: SourceStatus,
    ended: bool,
}

/// Why a [`KafkaSource`] was not started. A broker that is away is no reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("configuration refused")]
    Config(#[from] ConfigError),
    /// The system gave no thread; it may later.
    #[error("no thread for the source")]
    Thread(#[from] io::Error),
}

#[derive(Debug, thiserror::Error)]
#[error("the reading thread has ended")]
struct ReaderGone;

impl KafkaSource {
    /// Begins to read. Returns before any broker has answered: what is written once
    /// [`status`](Source::status) says ready is read, whatever the [`Start`](crate::Start).
    ///
    /// # Errors
    /// [`StartError`]; nothing was started.
    pub fn start(config: KafkaConfig) -> Result<Self, StartError> {
        let client = config.client()?;
        let consumer = Consumer::from_config_and_context(&client, Context::new())
            .map_err(ConfigError::Client)?;
        let consumer = Arc::new(consumer);
        let (reporter, status) = SourceStatus::new();
        let reporter = Arc::new(reporter);
        let (out, batches) = mpsc::channel(config.max_queued_batches.min(Semaphore::MAX_PERMITS));
        let (found, finds) = sync_channel(FOUND);
        let (ask, asked) = sync_channel(1);

        let watcher =
            Watcher::new(consumer.clone(), reporter.clone(), config.clone(), found, asked);
        let reader = Reader::new(consumer, reporter, config, finds, ask, out);
        // Where the second finds no thread, its ends of the channels are dropped and
        // the first ends as well.
        Builder::new().name("kafka-reader".into()).spawn(|| reader.run())?;
        Builder::new().name("kafka-watcher".into()).spawn(|| watcher.run())?;
        Ok(Self { batches, status, ended: false })
    }

    /// Ends reading and waits until the client is closed; false where that took longer
    /// than `deadline` and goes on behind.
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

impl Source for KafkaSource {
    async fn next(&mut self) -> Result<Option<EventBatch>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        // recv is cancel safe. The reader ends by itself only with an error.
        let handed =
            self.batches.recv().await.unwrap_or_else(|| Err(SourceError(ReaderGone.into())));
        self.ended = handed.is_err();
        handed.map(Some)
    }

    fn status(&self) -> SourceStatus {
        self.status.clone()
    }
}
