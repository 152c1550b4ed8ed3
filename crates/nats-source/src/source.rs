//! The handle.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fanout::{EventBatch, Lane, Replay, Source, SourceError, SourceStatus};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::config::{ConfigError, NatsConfig};
use crate::link::Link;
use crate::reader::{Halted, Handed, Reader, Shared};
use crate::replay::NatsReplay;
use crate::report::Report;

/// Every message of some streams, on every node: no consumer is shared, nothing is
/// acknowledged.
///
/// A task for each stream and one for the connection work behind it. Whatever may pass by
/// itself (a server away, a stream that does not exist yet) is told by
/// [`status`](Source::status) and in the log, and they go on by themselves.
///
/// It has caught up once the batches up to the ends seen at start were taken and the next
/// one is asked for: a source that nobody reads is never ready.
///
/// [`replay`](Source::replay) reads again what was read, by a connection of its own that is
/// made when it is first asked for something.
///
/// Dropping it returns at once; the tasks end by themselves, drop their consumers and close
/// the connection. [`close`](Self::close) waits for that.
#[derive(Debug)]
pub struct NatsSource {
    batches: mpsc::Receiver<Handed>,
    status: SourceStatus,
    /// The tasks' own: when they have ended there is nobody to tell for.
    report: Weak<Report>,
    config: Arc<NatsConfig>,
    /// One for each stream.
    halts: Vec<watch::Sender<Halted>>,
    ended: bool,
}

/// Why a [`NatsSource`] was not started. A server that is away is no reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("configuration refused")]
    Config(#[from] ConfigError),
    /// It was not called from within a tokio runtime.
    #[error("no tokio runtime to work in")]
    NoRuntime,
}

#[derive(Debug, thiserror::Error)]
#[error("the reading tasks have ended")]
struct ReadersGone;

impl NatsSource {
    /// Begins to read, in the tokio runtime that it is called from; time and input have to
    /// be enabled in it. Returns before any server has answered: what is written once
    /// [`status`](Source::status) says ready is read, whatever the [`Start`](crate::Start).
    ///
    /// # Errors
    /// [`StartError`]; nothing was started.
    pub fn start(config: NatsConfig) -> Result<Self, StartError> {
        config.check()?;
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let config = Arc::new(config);
        let (reporter, status) = SourceStatus::new();
        let streams = config.streams.len();
        let report = Arc::new(Report::new(reporter, config.told_servers(), streams));
        let weak = Arc::downgrade(&report);
        let (out, batches) = mpsc::channel(config.max_queued_batches.min(Semaphore::MAX_PERMITS));
        let link = Link::start(config.clone(), report.clone(), out.clone());
        let behind = AtomicUsize::new(streams);
        let shared = Arc::new(Shared { config: config.clone(), report, out, behind });
        let start = |stream| {
            let (halt, halted) = watch::channel(None);
            let reader = Reader::new(shared.clone(), stream, link.clone(), halted);
            runtime.spawn(reader.run());
            halt
        };
        let halts = (0..streams).map(start).collect();
        Ok(Self { batches, status, report: weak, config, halts, ended: false })
    }

    /// Ends reading and waits until the connection is closed; false where that took longer
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
        // The tasks hold the reporter until they end.
        tokio::time::timeout(deadline, status.wait_for(|_| false)).await.is_ok()
    }
}

impl Source for NatsSource {
    async fn next(&mut self) -> Result<Option<EventBatch>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        loop {
            // recv is cancel safe. The tasks end by themselves only where one has panicked.
            match self.batches.recv().await {
                Some(Handed::Batch(batch)) => return Ok(Some(batch)),
                Some(Handed::CaughtUp) => {
                    if let Some(report) = self.report.upgrade() {
                        report.caught_up();
                    }
                }
                None => {
                    self.ended = true;
                    return Err(SourceError(ReadersGone.into()));
                }
            }
        }
    }

    fn status(&self) -> SourceStatus {
        self.status.clone()
    }

    /// Always one; see [`NatsSource`].
    fn replay(&self) -> Option<Box<dyn Replay>> {
        Some(Box::new(NatsReplay::new(self.config.clone())))
    }

    fn halt(&mut self, lane: &Arc<Lane>, problem: &str) {
        let stream = self.config.streams.iter().position(|stream| stream.name == lane.topic);
        if let Some(stream) = stream {
            self.halts[stream].send_replace(Some((lane.clone(), problem.to_owned())));
        }
    }
}
