//! Where events come from.
//!
//! A source yields batches, and a batch stays together all the way to the sockets:
//! load makes the pipeline cheaper. Beside its events a batch says how far each lane
//! has been read, so that records which became no event (skipped, deleted,
//! transaction marks) are passed as well.

use std::sync::Arc;

use futures::future::BoxFuture;
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
    /// Lanes in which something was deleted before it could be read: what is missing stood
    /// before this batch's events of the lane, and everybody is told of a gap.
    pub lost: Vec<Arc<Lane>>,
    /// Lanes that are no more, such as those of a topic that was deleted or made anew:
    /// nothing of them comes after this batch, and a cursor that names one is refused. Of a
    /// source that is not [`RESUMABLE`](Source::RESUMABLE) these are the lanes that it gave
    /// back, which may come again.
    pub closed: Vec<Arc<Lane>>,
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
/// - A lane's place is told, by `frontier`, as soon as it is begun to be read, also where
///   it holds nothing: what a client missed in it counts from there.
/// - Not being asked for the next batch is the backpressure: memory stays bounded.
///
/// `testing::source_contract` (feature `test-util`) checks all of it.
pub trait Source: Send + 'static {
    /// Whether an event's offset is a position that clients can come back with. Where not,
    /// what is published reaches those connected to this node now, and nothing of it can be
    /// resumed or replayed: such a source hands each event to one of several nodes, and no
    /// node has a lane whole.
    const RESUMABLE: bool = true;

    /// The next batch, which holds something; `None` once there will never be one.
    ///
    /// # Errors
    /// [`SourceError`] where it has ended for good.
    ///
    /// # Cancel safety
    /// Dropping the future loses no event.
    fn next(&mut self) -> impl Future<Output = Result<Option<EventBatch>, SourceError>> + Send;

    /// How it is doing; a handle that outlives the source. It has caught up once the
    /// batches up to the ends seen at start were handed on and the next one is asked for.
    fn status(&self) -> SourceStatus;

    /// What reads again what was handed on before; asked for once, before the first batch.
    /// `None`, the default, where nothing is kept: then a client gets what it missed only
    /// from the log in memory.
    fn replay(&self) -> Option<Box<dyn Replay>> {
        None
    }

    /// The hub has taken everything of these lanes that stands before these offsets, or it
    /// has been dealt with as poison. Told only where not [`RESUMABLE`](Self::RESUMABLE):
    /// elsewhere it is the clients' cursors that say what was taken.
    fn accepted(&mut self, _places: &[(Arc<Lane>, u64)]) {}

    /// A record of this lane cannot be used, and nothing behind it is to be handed on, for
    /// good; see [`Poison::Halt`](crate::Poison::Halt). What was read already and comes
    /// nevertheless is dropped. The source says so in its status.
    fn halt(&mut self, _lane: &Arc<Lane>, _problem: &str) {}
}

/// Reads past events of a source again, for those who were away for longer than the log
/// in memory goes back.
///
/// # Contract
/// - One pass at a time: [`begin`](Replay::begin) gives up the one before.
/// - A pass hands on the events of its ranges and of nothing else, each lane's in its
///   order, each once, and a frontier that reaches each range's end.
/// - It neither disturbs nor waits for the live [`Source`].
///
/// `testing::source_contract` (feature `test-util`) checks it.
pub trait Replay: Send + 'static {
    /// What there is of each lane now, in their order; `None` for a lane that is no more.
    ///
    /// # Errors
    /// [`ReplayError::Unavailable`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    fn bounds<'a>(
        &'a mut self,
        lanes: &'a [Arc<Lane>],
    ) -> BoxFuture<'a, Result<Vec<Option<Bounds>>, ReplayError>>;

    /// Begins a pass over these ranges, at most one a lane.
    ///
    /// # Errors
    /// [`ReplayError`]; there is no pass then.
    ///
    /// # Cancel safety
    /// There may be a pass or not; the next `begin` gives it up.
    fn begin(&mut self, ranges: Vec<ReplayRange>) -> BoxFuture<'_, Result<(), ReplayError>>;

    /// The next batch of the pass; `None` once every range was read to its end.
    ///
    /// # Errors
    /// [`ReplayError`] ends the pass.
    ///
    /// # Cancel safety
    /// Dropping the future loses no event.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<EventBatch>, ReplayError>>;
}

/// A part of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // Whoever implements `Replay` tests it with these.
pub struct ReplayRange {
    /// Which lane.
    pub lane: Arc<Lane>,
    /// The first offset.
    pub from: u64,
    /// The offset after the last; more than `from`.
    pub to: u64,
}

/// What a source has of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // Whoever implements `Replay` makes these.
pub struct Bounds {
    /// The oldest offset that is kept.
    pub first: u64,
    /// The offset of what is written next.
    pub end: u64,
}

/// Why a pass did not begin, or ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The source has deleted the beginning of what a range still had to give;
    /// [`Replay::bounds`] says what is left.
    #[error("{lane} no longer has what was asked for")]
    Expired {
        /// Which lane.
        lane: Arc<Lane>,
    },
    /// The source cannot be reached now; trying again may help.
    #[error("the source cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
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

    /// [Ready](Self::ready), and nothing that it is to read is kept from being read: such as a
    /// control topic, of which nothing may be missed.
    pub fn whole(&self) -> bool {
        self.ready() && self.problem.is_none()
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
