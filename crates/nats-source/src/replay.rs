//! Reads again what was read before.
//!
//! ```text
//!              begin: bounds verified, a task for the pass
//! NatsReplay ---------------------------------------------> task: one consumer at a time
//!            <---------------------------------------------
//!              batches of this pass, a few at most
//! ```
//!
//! By a connection of its own, made when it is first asked for something and kept for all
//! passes: what is live neither waits for it nor has its socket filled by it. The ranges of
//! a pass are read one after the other, each by a consumer that nobody else knows.
//!
//! Not taking batches is the backpressure: the task does not pull. Each pass has a channel
//! of its own, so what is left of one that was given up goes with it, and a task that writes
//! to it notices.

mod pass;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fanout::{Bounds, EventBatch, Lane, Replay, ReplayError, ReplayRange};
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc};

use crate::api::{Api, StreamInfo, Trouble};
use crate::config::{NatsConfig, Wanted};
use crate::identity::begin_of;
use crate::link::connect;

/// What comes of a pass; its end is `None`.
type Passed = Result<Option<EventBatch>, ReplayError>;

#[derive(Debug, thiserror::Error)]
#[error("the pass has ended early")]
struct TaskGone;

/// The handle. Dropping it ends the pass and the connection.
pub(crate) struct NatsReplay {
    asking: Asking,
    pass: Option<mpsc::Receiver<Passed>>,
}

/// Who asks, and what for.
#[derive(Clone)]
struct Asking {
    config: Arc<NatsConfig>,
    /// `None` before anything was asked, and once the connection has ended.
    api: Option<Api>,
}

impl NatsReplay {
    pub(crate) fn new(config: Arc<NatsConfig>) -> Self {
        Self { asking: Asking { config, api: None }, pass: None }
    }
}

impl Asking {
    /// A connection that has not ended.
    async fn api(&mut self) -> Result<Api, ReplayError> {
        if let Some(api) = self.api.as_ref().filter(|api| !api.has_ended()) {
            return Ok(api.clone());
        }
        let config = &self.config;
        let (client, said) = connect(config).await.map_err(|reason| {
            unavailable(format!("no server takes us at {}: {reason}", config.told_servers()))
        })?;
        let api = Api::new(client, config.api_prefix.clone(), config.request_timeout, said);
        Ok(self.api.insert(api).clone())
    }

    /// What is read of this stream, where anything is.
    fn wanted(&self, lane: &Lane) -> Option<&Wanted> {
        self.config.streams.iter().find(|stream| stream.name == lane.topic)
    }

    /// What there is of each lane, in their order; `None` for a lane that is no more, such
    /// as one of a stream that was made anew since, or that the source does not read.
    async fn bounds(
        &mut self,
        lanes: impl Iterator<Item = &Arc<Lane>>,
    ) -> Result<Vec<Option<Bounds>>, ReplayError> {
        let api = self.api().await?;
        let mut told: HashMap<Arc<str>, Option<StreamInfo>> = HashMap::new();
        let mut all = Vec::new();
        for lane in lanes {
            if self.wanted(lane).is_none() {
                all.push(None);
                continue;
            }
            if !told.contains_key(&lane.topic) {
                let stream = api.stream(&lane.topic).await.map_err(unavailable)?;
                told.insert(lane.topic.clone(), stream);
            }
            let bounds = told[&lane.topic].as_ref().and_then(|info| {
                let begin = begin_of(&self.config, info, lane)?;
                Some(Bounds { first: info.first().max(begin), end: info.end() })
            });
            all.push(bounds);
        }
        Ok(all)
    }

    /// Checks that all of these ranges are there.
    async fn verify(&mut self, ranges: &[ReplayRange]) -> Result<(), ReplayError> {
        let bounds = self.bounds(ranges.iter().map(|range| &range.lane)).await?;
        for (ReplayRange { lane, from, to }, bounds) in ranges.iter().zip(bounds) {
            match bounds {
                Some(Bounds { end, .. }) if end < *to => {
                    // A new leader may not have heard of the newest messages yet.
                    return Err(unavailable(format!("{lane} ends at {end}, before {to}")));
                }
                Some(Bounds { first, .. }) if first <= *from => {}
                _ => return Err(ReplayError::Expired { lane: lane.clone() }),
            }
        }
        Ok(())
    }
}

impl Replay for NatsReplay {
    fn bounds<'a>(
        &'a mut self,
        lanes: &'a [Arc<Lane>],
    ) -> BoxFuture<'a, Result<Vec<Option<Bounds>>, ReplayError>> {
        Box::pin(async move {
            if lanes.is_empty() {
                return Ok(Vec::new());
            }
            self.asking.bounds(lanes.iter()).await
        })
    }

    fn begin(&mut self, ranges: Vec<ReplayRange>) -> BoxFuture<'_, Result<(), ReplayError>> {
        // Before anything is waited for: what is left of the last pass is given up.
        self.pass = None;
        Box::pin(async move {
            self.asking.verify(&ranges).await?;
            let room = self.asking.config.max_queued_batches.min(Semaphore::MAX_PERMITS);
            let (out, pass) = mpsc::channel(room);
            tokio::spawn(pass::run(self.asking.clone(), ranges, out));
            self.pass = Some(pass);
            Ok(())
        })
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<EventBatch>, ReplayError>> {
        Box::pin(async move {
            let Some(pass) = &mut self.pass else { return Ok(None) };
            // recv is cancel safe. A pass that ends by itself says so.
            let passed = pass.recv().await.unwrap_or_else(|| Err(unavailable(TaskGone)));
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

/// How long nothing may come of a pass.
fn patience(config: &NatsConfig) -> Duration {
    config.request_timeout
}

impl std::convert::From<Trouble> for ReplayError {
    fn from(trouble: Trouble) -> Self {
        unavailable(trouble)
    }
}
