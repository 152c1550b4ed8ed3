//! Where events come from.
//!
//! A source yields batches, and a batch stays together all the way to the sockets:
//! load makes the pipeline cheaper. Beside its events a batch says how far each lane
//! has been read, so that records which became no event (skipped, deleted,
//! transaction marks) are passed as well.

use std::sync::Arc;

use tokio::sync::watch;

use crate::event::Event;
use crate::position::Lane;

/// What a source hands on at once.
#[derive(Clone, Debug, Default)]
pub struct EventBatch {
    /// Events, each lane's in its order. A lane's offset is never handed on twice.
    pub events: Vec<Event>,
    /// The next offset of each lane that moved on beyond its events, or all of them.
    pub frontier: Vec<(Arc<Lane>, u64)>,
}

/// Why a source has ended for good. What can pass by itself is no error: the source
/// goes on trying and says so in its [`SourceStatus`].
#[derive(Debug, thiserror::Error)]
#[error("source failed")]
pub struct SourceError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// Where events come from.
///
/// # Contract
/// - Offsets of a lane rise, and none is handed on twice in a source's life.
/// - A batch may hold several lanes; each lane's events stand in its order.
/// - `frontier` never says less than the events handed on before and with it.
/// - Not being asked for the next batch is the backpressure: memory stays bounded.
///
/// `testing::source_contract` (feature `test-util`) checks all of it.
pub trait Source: Send + 'static {
    /// The next batch, which is not empty of both events and frontier; `None` once
    /// there will never be one.
    ///
    /// # Errors
    /// [`SourceError`] where it has ended for good.
    ///
    /// # Cancel safety
    /// Dropping the future loses no event.
    fn next(&mut self) -> impl Future<Output = Result<Option<EventBatch>, SourceError>> + Send;

    /// How it is doing; a handle that outlives the source.
    fn status(&self) -> SourceStatus;
}

/// How a source is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceHealth {
    /// Whether it can be reached, as far as is known.
    pub connected: bool,
    /// Whether the ends seen at start have been reached once.
    pub caught_up: bool,
    /// What is wrong, for people.
    pub problem: Option<String>,
}

impl SourceHealth {
    /// Reached, and caught up once.
    pub fn ready(&self) -> bool {
        self.connected && self.caught_up
    }
}

/// A view on a source's health.
#[derive(Clone, Debug)]
pub struct SourceStatus(watch::Receiver<SourceHealth>);

/// The source's end of a [`SourceStatus`].
#[derive(Debug)]
pub struct SourceReporter(watch::Sender<SourceHealth>);

impl SourceStatus {
    /// A source's two ends: not connected, not caught up.
    pub fn new() -> (SourceReporter, Self) {
        let (sender, receiver) = watch::channel(SourceHealth::default());
        (SourceReporter(sender), Self(receiver))
    }

    /// How it is doing now.
    pub fn health(&self) -> SourceHealth {
        self.0.borrow().clone()
    }

    /// Waits until `enough` holds of its health; false where the source has gone
    /// before.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn wait_for(&mut self, enough: impl FnMut(&SourceHealth) -> bool) -> bool {
        self.0.wait_for(enough).await.is_ok()
    }
}

impl SourceReporter {
    /// Changes what is told; wakes whoever waits only where it differs.
    pub fn update(&self, change: impl FnOnce(&mut SourceHealth)) {
        self.0.send_if_modified(|health| {
            let before = health.clone();
            change(health);
            *health != before
        });
    }
}
