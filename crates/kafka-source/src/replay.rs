//! Reads again what was read before.
//!
//! A consumer costs a hundred milliseconds to drop, so there is one for all passes, on a
//! thread of its own, made when it is first asked for something. What is live is read by
//! another, which it neither disturbs nor waits for.
//!
//! ```text
//!               commands, one at a time, each with its answer
//! KafkaReplay ------------------------------------------------> thread: one consumer
//!             <------------------------------------------------
//!               batches of this pass, a few at most
//! ```
//!
//! Not taking batches is the backpressure: the thread does not poll, and librdkafka stops
//! fetching at its own limit. Each pass has a channel of its own, so what is left of one
//! that was given up goes with it, and a thread that writes to it notices.

mod asking;
mod ranges;
mod thread;

use std::sync::Arc;

use fanout::{Bounds, EventBatch, Lane, Replay, ReplayError, ReplayRange};
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::config::KafkaConfig;

/// What the thread is asked.
enum Command {
    Bounds(Vec<Arc<Lane>>, Answer<Vec<Option<Bounds>>>),
    Begin(Vec<ReplayRange>, mpsc::Sender<Passed>, Answer<()>),
}

type Answer<T> = oneshot::Sender<Result<T, ReplayError>>;

/// What comes of a pass; its end is `None`.
type Passed = Result<Option<EventBatch>, ReplayError>;

#[derive(Debug, thiserror::Error)]
#[error("the replaying thread has ended")]
struct ThreadGone;

/// The handle. Dropping it returns at once and ends the thread.
pub(crate) struct KafkaReplay {
    config: KafkaConfig,
    /// `None` before it is first asked for something.
    commands: Option<mpsc::Sender<Command>>,
    pass: Option<mpsc::Receiver<Passed>>,
}

impl KafkaReplay {
    pub(crate) fn new(config: KafkaConfig) -> Self {
        Self { config, commands: None, pass: None }
    }

    /// Asks the thread, and starts it where there is none.
    async fn ask<T>(
        &mut self,
        command: impl FnOnce(Answer<T>) -> Command,
    ) -> Result<T, ReplayError> {
        let (answer, answered) = oneshot::channel();
        let ended = |commands: &mut mpsc::Sender<Command>| commands.is_closed();
        if self.commands.as_mut().is_none_or(ended) {
            self.commands = Some(thread::start(self.config.clone()).map_err(unavailable)?);
        }
        let commands = self.commands.as_ref().ok_or_else(|| unavailable(ThreadGone))?;
        commands.send(command(answer)).await.map_err(|_| unavailable(ThreadGone))?;
        answered.await.map_err(|_| unavailable(ThreadGone))?
    }
}

impl Replay for KafkaReplay {
    fn bounds<'a>(
        &'a mut self,
        lanes: &'a [Arc<Lane>],
    ) -> BoxFuture<'a, Result<Vec<Option<Bounds>>, ReplayError>> {
        Box::pin(self.ask(|answer| Command::Bounds(lanes.to_vec(), answer)))
    }

    fn begin(&mut self, ranges: Vec<ReplayRange>) -> BoxFuture<'_, Result<(), ReplayError>> {
        // Before anything is waited for: what is left of the last pass is given up.
        self.pass = None;
        let room = self.config.max_queued_batches.min(Semaphore::MAX_PERMITS);
        let (out, pass) = mpsc::channel(room);
        Box::pin(async move {
            self.ask(|answer| Command::Begin(ranges, out, answer)).await?;
            self.pass = Some(pass);
            Ok(())
        })
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<EventBatch>, ReplayError>> {
        Box::pin(async move {
            let Some(pass) = &mut self.pass else { return Ok(None) };
            // recv is cancel safe. A pass that ends by itself says so.
            let passed = pass.recv().await.unwrap_or_else(|| Err(unavailable(ThreadGone)));
            if !matches!(passed, Ok(Some(_))) {
                self.pass = None;
            }
            passed
        })
    }
}

/// Trouble that may pass by itself.
fn unavailable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ReplayError {
    ReplayError::Unavailable(why.into())
}
