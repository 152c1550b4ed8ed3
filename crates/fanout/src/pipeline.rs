//! Source to router to hub, from start to drain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::event::Event;
use crate::frame::Entry;
use crate::hub::Hub;
use crate::log::Moved;
use crate::position::{LaneId, Position};
use crate::replay::Replayer;
use crate::router::{Emission, RouteError, Router};
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
        let router = Arc::new(self.router);
        let mut routing = Routing::new(router.clone(), true);
        let replayer = self.source.replay().map(|source| {
            let (shared, service) = (shared.clone(), shared.replays.register());
            let routing = Routing::new(router, false);
            let replayer = Replayer::new(shared, routing, source, service);
            (service, AbortOnDropHandle::new(tokio::spawn(replayer.run())))
        });
        let mut owned: FxHashSet<LaneId> = FxHashSet::default();
        while shared.wait_for_shards().await {
            let batch = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                batch = self.source.next() => batch?,
            };
            let Some(batch) = batch else { break };
            let Routed { entries, moved, lost } = routing.route(&shared, &batch);
            if let Some((service, _)) = &replayer {
                // Before anybody can miss anything of it.
                for lane in moved.iter().map(|moved| moved.lane) {
                    if owned.insert(lane) {
                        shared.replays.own(lane, *service);
                    }
                }
            }
            if !lost.is_empty() {
                shared.append_loss(&lost, Instant::now());
            }
            shared.append(entries, &moved, Instant::now());
        }
        Ok(())
    }
}

/// From events to entries.
pub(crate) struct Routing<R> {
    router: Arc<R>,
    refused: Refused,
    emissions: Vec<Emission>,
}

/// What became of a batch of events.
pub(crate) struct Routed {
    pub(crate) entries: Vec<Entry>,
    /// How far their lanes were read.
    pub(crate) moved: Vec<Moved>,
    /// What of them is lost, before that.
    pub(crate) lost: Vec<Moved>,
}

impl<R: Router> Routing<R> {
    /// Where not `first`, somebody else has told of what is refused.
    pub(crate) fn new(router: Arc<R>, first: bool) -> Self {
        let refused = Refused { quiet: !first, ..Refused::default() };
        Self { router, refused, emissions: Vec::new() }
    }

    /// Turns a batch of events into entries, and into how far their lanes were read.
    pub(crate) fn route(&mut self, shared: &Shared, batch: &EventBatch) -> Routed {
        let mut entries = Vec::with_capacity(batch.events.len());
        let mut moved: FxHashMap<LaneId, Moved> = FxHashMap::default();
        let mut move_on = |lane: LaneId, from: u64, next: u64| {
            let moved = moved.entry(lane).or_insert(Moved { lane, from, next });
            moved.next = moved.next.max(next);
        };
        for event in &batch.events {
            let lane = shared.lanes.intern(&event.lane);
            let next = event.offset.saturating_add(1);
            move_on(lane.id, event.offset, next);
            self.emissions.clear();
            if let Err(error) = self.router.route(event, &mut self.emissions) {
                self.refused.event(event, &error);
                continue;
            }
            let last = self.emissions.len();
            for (emission, n) in self.emissions.drain(..).zip(1..) {
                // After the last one nothing of the event is left.
                let position = match n {
                    n if n == last => Position::before(next),
                    n => Position { offset: event.offset, emission: n as u32 },
                };
                match shared.entry(emission, Some((lane.clone(), position))) {
                    Ok(entry) => entries.push(entry),
                    Err(error) => self.refused.emission(event, &error.into()),
                }
            }
        }
        for (lane, next) in &batch.frontier {
            move_on(shared.lanes.intern(lane).id, *next, *next);
        }
        let lost = batch.lost.iter().filter_map(|lane| {
            let moved = moved.get(&shared.lanes.intern(lane).id)?;
            Some(Moved { next: moved.from, ..*moved })
        });
        let lost = lost.collect();
        Routed { entries, moved: moved.into_values().collect(), lost }
    }
}

/// Tells of what was refused, not more often than anybody can read.
#[derive(Debug, Default)]
struct Refused {
    quiet: bool,
    told: Option<Instant>,
    untold: u64,
}

impl Refused {
    const EVERY: Duration = Duration::from_secs(1);

    fn event(&mut self, event: &Event, error: &RouteError) {
        if self.quiet {
            return;
        }
        let topic = event.topic().to_owned();
        metrics::counter!("fanout_records_unroutable_total", "topic" => topic).increment(1);
        self.tell(event, error);
    }

    fn emission(&mut self, event: &Event, error: &RouteError) {
        if self.quiet {
            return;
        }
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
