//! The handle.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::Builder;
use std::time::Duration;

use fanout::{EventBatch, Lane, Replay, Source, SourceError, SourceReporter, SourceStatus};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use tokio::sync::{Semaphore, mpsc};

use crate::config::{ConfigError, KafkaConfig};
use crate::context::{Consumer, Context};
use crate::reader::{Handed, Reader};
use crate::replay::KafkaReplay;
use crate::watcher::Watcher;

/// Assignments that may wait for the reader.
const FOUND: usize = 16;
/// Lanes that may wait to be halted. Each is halted once, and the reader takes them at
/// every round, so more wait only where it waits itself.
const HALTS: usize = 1000;

/// Every record of some topics, on every node: no group is joined, nothing committed.
///
/// Two threads work behind it: one reads, one asks the brokers what there is to be read.
/// Whatever may pass by itself (a broker away, a topic that does not exist yet) is told
/// by [`status`](Source::status) and in the log, and they go on by themselves.
///
/// It has caught up once the batches up to the ends seen at start were taken and the next
/// one is asked for: a source that nobody reads is never ready.
///
/// [`replay`](Source::replay) reads again what was read: a third thread with a consumer of
/// its own, both made when it is first asked for something, ends a moment after both the
/// replay was dropped and what it was asking was answered; the source does not wait for it.
///
/// Dropping it returns at once; the threads notice within a tenth of a second and close
/// the client behind it. [`close`](Self::close) waits for that.
#[derive(Debug)]
pub struct KafkaSource {
    batches: mpsc::Receiver<Handed>,
    status: SourceStatus,
    /// The threads' own: when they have ended there is nobody to tell for.
    reporter: Weak<SourceReporter>,
    config: KafkaConfig,
    /// Lanes to be read no more, and why. The reader takes what is there at each round,
    /// unassigns them, and has the watcher say so.
    halts: SyncSender<(Arc<Lane>, String)>,
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
        let patterns = config.patterns()?;
        let consumer = Consumer::from_config_and_context(&client, Context::new())
            .map_err(ConfigError::from)?;
        let consumer = Arc::new(consumer);
        let (reporter, status) = SourceStatus::new();
        let reporter = Arc::new(reporter);
        consumer.client().context().tell(&reporter, &config.brokers);
        let (out, batches) = mpsc::channel(config.max_queued_batches.min(Semaphore::MAX_PERMITS));
        let (found, finds) = sync_channel(FOUND);
        let (ask, asked) = sync_channel(1);
        let (halts, halted) = sync_channel(HALTS);

        let weak = Arc::downgrade(&reporter);
        let kept = config.clone();
        let watcher = Watcher::new(
            consumer.clone(),
            reporter.clone(),
            config.clone(),
            patterns,
            found,
            asked,
        );
        let reader = Reader::new(consumer, reporter, config, finds, ask, halted, out);
        // Where the second finds no thread, its ends of the channels are dropped and
        // the first ends as well.
        Builder::new().name("kafka-reader".into()).spawn(|| reader.run())?;
        Builder::new().name("kafka-watcher".into()).spawn(|| watcher.run())?;
        Ok(Self { batches, status, reporter: weak, config: kept, halts, ended: false })
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
        loop {
            // recv is cancel safe. The reader ends by itself only with an error.
            let handed = self.batches.recv().await;
            match handed.unwrap_or_else(|| Handed::Failed(SourceError(ReaderGone.into()))) {
                Handed::Batch(batch) => return Ok(Some(batch)),
                Handed::CaughtUp => {
                    tracing::info!("kafka source has caught up");
                    if let Some(reporter) = self.reporter.upgrade() {
                        reporter.update(|health| health.caught_up = true);
                    }
                }
                Handed::Failed(error) => {
                    self.ended = true;
                    return Err(error);
                }
            }
        }
    }

    fn status(&self) -> SourceStatus {
        self.status.clone()
    }

    /// Always one; see [`KafkaSource`].
    fn replay(&self) -> Option<Box<dyn Replay>> {
        Some(Box::new(KafkaReplay::new(self.config.clone())))
    }

    fn halt(&mut self, lane: &Arc<Lane>, problem: &str) {
        // The pipeline drops what comes of it in any case.
        if self.halts.try_send((lane.clone(), problem.to_owned())).is_err() {
            tracing::error!(%lane, problem, "too many halts at once: it is read, and dropped");
        }
    }
}
