//! Source to router to hub, from start to drain.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio_util::sync::CancellationToken;

use crate::event::Event;
use crate::frame::Entry;
use crate::hub::Hub;
use crate::position::{At, LaneId, Position};
use crate::router::{RouteError, Router};
use crate::shared::Shared;
use crate::source::{EventBatch, Source, SourceError, SourceStatus};

/// Runs a source's events through a router into a hub.
///
/// ```no_run
/// # async fn run(source: fanout::MemorySource, hub: fanout::Hub) -> Result<(), fanout::SourceError> {
/// use fanout::{Emission, Event, Pipeline, Room, RouteError};
///
/// let router = |event: &Event, out: &mut Vec<Emission>| -> Result<(), RouteError> {
///     out.push(Emission::new(Room::new("lobby")?, "said", event.json()?));
///     Ok(())
/// };
/// Pipeline::new(source, router, hub).run().await
/// # }
/// ```
#[derive(Debug)]
pub struct Pipeline<S, R> {
    source: S,
    router: R,
    hub: Hub,
    stop: CancellationToken,
}

/// Stops a [`Pipeline`].
#[derive(Clone, Debug)]
pub struct PipelineStop(CancellationToken);

impl PipelineStop {
    /// What was read is still handed on, then the pipeline ends.
    pub fn stop(&self) {
        self.0.cancel();
    }
}

impl<S: Source, R: Router> Pipeline<S, R> {
    /// From `source` through `router` to `hub`.
    pub fn new(source: S, router: R, hub: Hub) -> Self {
        Self { source, router, hub, stop: CancellationToken::new() }
    }

    /// How the source is doing.
    pub fn status(&self) -> SourceStatus {
        self.source.status()
    }

    /// What ends [`run`](Self::run).
    pub fn stopper(&self) -> PipelineStop {
        PipelineStop(self.stop.clone())
    }

    /// Runs until the source ends, is stopped, or the hub shuts down.
    ///
    /// The source is asked for its next batch only when the hub can take one: that is
    /// the backpressure. A batch stays together: its emissions are appended at once.
    /// An event that the router refuses is counted, logged with its position and
    /// passed over.
    ///
    /// # Errors
    /// [`SourceError`] where the source has ended for good.
    ///
    /// # Cancel safety
    /// Dropping the future loses what was read and not yet appended; stop it instead.
    pub async fn run(mut self) -> Result<(), SourceError> {
        let shared = self.hub.shared().clone();
        let mut refused = Refused::default();
        while shared.wait_for_shards().await {
            let batch = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                batch = self.source.next() => batch?,
            };
            let Some(batch) = batch else { break };
            let (entries, frontier) = route(&shared, &self.router, &batch, &mut refused);
            shared.append(entries, frontier, Instant::now());
        }
        Ok(())
    }
}

/// Turns a batch of events into entries, and into how far their lanes were read.
fn route<R: Router>(
    shared: &Shared,
    router: &R,
    batch: &EventBatch,
    refused: &mut Refused,
) -> (Vec<Entry>, Vec<(LaneId, u64)>) {
    let mut entries = Vec::with_capacity(batch.events.len());
    let mut frontier: FxHashMap<LaneId, u64> = FxHashMap::default();
    let mut emissions = Vec::new();
    for event in &batch.events {
        let (lane, token) = shared.lanes.intern(&event.lane);
        emissions.clear();
        match router.route(event, &mut emissions) {
            Ok(()) => {
                for (i, emission) in emissions.drain(..).enumerate() {
                    let position = Position { offset: event.offset, emission: i as u32 + 1 };
                    match shared.entry(emission, Some((lane, At { lane: token, position }))) {
                        Ok(entry) => entries.push(entry),
                        Err(error) => refused.emission(event, &error.into()),
                    }
                }
            }
            Err(error) => refused.event(event, &error),
        }
        let next = frontier.entry(lane).or_default();
        *next = event.offset.saturating_add(1).max(*next);
    }
    for (lane, read) in &batch.frontier {
        let next = frontier.entry(shared.lanes.intern(lane).0).or_default();
        *next = (*read).max(*next);
    }
    (entries, frontier.into_iter().collect())
}

/// Tells of what was refused, not more often than anybody can read.
#[derive(Debug, Default)]
struct Refused {
    told: Option<Instant>,
    untold: u64,
}

impl Refused {
    const EVERY: Duration = Duration::from_secs(1);

    fn event(&mut self, event: &Event, error: &RouteError) {
        let topic = event.topic().to_owned();
        metrics::counter!("fanout_records_unroutable_total", "topic" => topic).increment(1);
        self.tell(event, error);
    }

    fn emission(&mut self, event: &Event, error: &RouteError) {
        metrics::counter!("fanout_emissions_refused_total").increment(1);
        self.tell(event, error);
    }

    fn tell(&mut self, event: &Event, error: &RouteError) {
        if self.told.is_some_and(|told| told.elapsed() < Self::EVERY) {
            self.untold += 1;
            return;
        }
        self.told = Some(Instant::now());
        let untold = std::mem::take(&mut self.untold);
        tracing::error!(lane = %event.lane, offset = event.offset, %error, untold, "passed over a record");
    }
}
