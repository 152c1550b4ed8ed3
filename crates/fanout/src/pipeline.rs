//! Source to router to hub, from start to drain.

use std::sync::Arc;
use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::decode::{Decoder, Raw};
use crate::hub::Hub;
use crate::log::Append;
use crate::poison::{Halted, Poison, Poisoned};
use crate::position::{Lane, LaneId};
use crate::replay::Replayer;
use crate::router::Router;
use crate::routing::{Routed, Routing};
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
pub struct Pipeline<S, R> {
    source: S,
    decoder: Arc<dyn Decoder>,
    router: R,
    poison: Poison,
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
        let (decoder, poison) = (Arc::new(Raw), Poison::default());
        Self { source, decoder, router, poison, hub, stop: CancellationToken::new() }
    }

    /// Sets what records have to be, and what the router gets of them. Default: [`Raw`].
    pub fn decoder(mut self, decoder: impl Decoder) -> Self {
        self.decoder = Arc::new(decoder);
        self
    }

    /// Sets what is done about a record that cannot be decoded, that the router refuses, or
    /// over which either panics. Default: [`Poison::Skip`].
    pub fn poison(mut self, poison: Poison) -> Self {
        self.poison = poison;
        self
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
    /// What cannot be used is dealt with as [`poison`](Self::poison) says; letters that are
    /// under way at the end are waited for.
    ///
    /// # Errors
    /// [`SourceError`] where the source has ended for good.
    ///
    /// # Cancel safety
    /// Dropping the future loses what was read and not yet appended; stop it instead.
    pub async fn run(self) -> Result<(), SourceError> {
        let Self { source, decoder, router, poison, hub, stop } = self;
        let shared = hub.shared().clone();
        let router = Arc::new(router);
        let routing = Routing::new(decoder.clone(), router.clone(), S::RESUMABLE);
        let replay = if S::RESUMABLE { source.replay() } else { None };
        let replayer = replay.map(|source| {
            let (shared, service) = (shared.clone(), shared.replays.register());
            let routing = Routing::new(decoder, router, true);
            let replayer = Replayer::new(shared, routing, source, service);
            (service, AbortOnDropHandle::new(tokio::spawn(replayer.run())))
        });
        let service = replayer.as_ref().map(|(service, _)| *service);
        let poisoned = Poisoned::new(poison);
        let (owned, accepted) = (FxHashSet::default(), FxHashMap::default());
        let mut running =
            Running { source, routing, poisoned, service, owned, accepted, shared: shared.clone() };
        let mut ended = Ok(());
        while shared.wait_for_shards().await {
            let Running { source, poisoned, .. } = &mut running;
            let full = poisoned.is_full();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                settled = poisoned.settled() => running.halt(|poisoned| poisoned.settle(settled)),
                batch = source.next(), if !full => match batch {
                    Ok(Some(batch)) => running.take(&batch),
                    Ok(None) => break,
                    Err(error) => {
                        ended = Err(error);
                        break;
                    }
                },
            }
        }
        while running.poisoned.has_letters() {
            let settled = running.poisoned.settled().await;
            running.halt(|poisoned| poisoned.settle(settled));
        }
        ended
    }
}

/// A pipeline at work.
struct Running<S, R> {
    source: S,
    routing: Routing<R>,
    poisoned: Poisoned,
    shared: Arc<Shared>,
    /// What replays its lanes.
    service: Option<usize>,
    /// Lanes that are known to be replayed by it.
    owned: FxHashSet<LaneId>,
    /// How far the hub has taken each lane, where the source wants to know.
    accepted: FxHashMap<Arc<Lane>, u64>,
}

impl<S: Source, R: Router> Running<S, R> {
    /// From a batch of the source to the hub.
    fn take(&mut self, batch: &EventBatch) {
        let now = Instant::now();
        let routed = self.routing.route(&self.shared, batch, Some(&mut self.poisoned));
        let Routed { entries, moved, lost, halted, oldest } = routed;
        if let Some(service) = self.service {
            // Before anybody can miss anything of it.
            for lane in moved.iter().map(|moved| moved.lane) {
                if self.owned.insert(lane) {
                    self.shared.replays.own(lane, service);
                }
            }
        }
        if !batch.lost.is_empty() {
            self.shared.append_loss(&lost, now);
        }
        self.shared.append(Append { oldest, ..Append::new(entries, &moved) }, now);
        self.halt(|_| halted);
        if !S::RESUMABLE {
            self.note_accepted(batch);
        }
        // What came with it is delivered; then nobody has a place in it any more.
        for lane in self.shared.close_lanes(&batch.closed, now) {
            self.owned.remove(&lane);
        }
        for lane in &batch.closed {
            self.poisoned.close(lane);
            self.accepted.remove(lane);
        }
    }

    /// Tells the source what is halted by this, and what may be acknowledged after it.
    fn halt<H: IntoIterator<Item = Halted>>(&mut self, by: impl FnOnce(&mut Poisoned) -> H) {
        for Halted { lane, problem } in by(&mut self.poisoned) {
            self.source.halt(&lane, &problem);
        }
        if !self.accepted.is_empty() {
            self.acknowledge();
        }
    }

    fn note_accepted(&mut self, batch: &EventBatch) {
        let events = batch.events.iter().map(|event| (&event.lane, event.offset.saturating_add(1)));
        for (lane, next) in events.chain(batch.frontier.iter().map(|(lane, next)| (lane, *next))) {
            // Looked up first: most events are of a lane that is there.
            match self.accepted.get_mut(lane) {
                Some(place) => *place = next.max(*place),
                None => drop(self.accepted.insert(lane.clone(), next)),
            }
        }
        self.acknowledge();
    }

    /// What waits for a letter stays for the next time.
    fn acknowledge(&mut self) {
        let Self { poisoned, accepted, source, .. } = self;
        let places: Vec<_> = accepted
            .iter()
            .map(|(lane, next)| (lane.clone(), poisoned.acknowledged(lane, *next)))
            .collect();
        accepted.retain(|lane, next| poisoned.acknowledged(lane, *next) < *next);
        source.accepted(&places);
    }
}

impl<S, R> std::fmt::Debug for Pipeline<S, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("poison", &self.poison).finish_non_exhaustive()
    }
}
