//! From events to entries of the log: decode, route, note how far each lane was read.
//!
//! What is read again goes the same way as what is read first, or a position would mean
//! something else: only what is said of poison records differs.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::SystemTime;

use rustc_hash::FxHashMap;
use tracing::{Level, Span};

use crate::decode::Decoder;
use crate::event::Event;
use crate::frame::Entry;
use crate::lanes::KnownLane;
use crate::log::Moved;
use crate::poison::{Halted, Poisoned, Unusable, panicked};
use crate::position::{Lane, LaneId, Position};
use crate::router::{Emission, Router};
use crate::shared::Shared;
use crate::source::EventBatch;

/// From events to entries.
pub(crate) struct Routing<R> {
    decoder: Arc<dyn Decoder>,
    router: Arc<R>,
    /// Whether what comes of an event can be resumed.
    resumable: bool,
    /// The lane of the last event: most have the same as the one before.
    last: Option<(Arc<Lane>, Arc<KnownLane>)>,
    emissions: Vec<Emission>,
}

/// What became of a batch of events.
#[derive(Default)]
pub(crate) struct Routed {
    pub(crate) entries: Vec<Entry>,
    /// How far their lanes were read.
    pub(crate) moved: Vec<Moved>,
    /// What of them is lost, before that.
    pub(crate) lost: Vec<Moved>,
    /// Lanes that are to be read no more, because of a record in them.
    pub(crate) halted: Vec<Halted>,
    /// When the oldest of them was written. At the epoch means that it is not known.
    pub(crate) oldest: Option<SystemTime>,
}

/// How far the lanes of one batch were read.
#[derive(Default)]
struct Passed(FxHashMap<LaneId, Moved>);

impl Passed {
    fn move_on(&mut self, lane: LaneId, from: u64, next: u64) {
        let moved = self.0.entry(lane).or_insert(Moved { lane, from, next });
        moved.next = moved.next.max(next);
    }
}

impl<R: Router> Routing<R> {
    pub(crate) fn new(decoder: Arc<dyn Decoder>, router: Arc<R>, resumable: bool) -> Self {
        Self { decoder, router, resumable, last: None, emissions: Vec::new() }
    }

    /// Turns a batch of events into entries, and into how far their lanes were read.
    /// `poisoned` is told of what cannot be used, `None` where that was told before.
    pub(crate) fn route(
        &mut self,
        shared: &Shared,
        batch: &EventBatch,
        mut poisoned: Option<&mut Poisoned>,
    ) -> Routed {
        let mut routed = Routed::default();
        routed.entries.reserve(batch.events.len());
        let mut passed = Passed::default();
        let first = poisoned.is_some();
        if !first {
            // It may have been closed meanwhile.
            self.last = None;
        }
        for event in &batch.events {
            if is_halted(&poisoned, &event.lane) {
                continue;
            }
            let lane = if self.resumable { self.known(shared, &event.lane, first) } else { None };
            if self.resumable && lane.is_none() {
                continue;
            }
            let next = event.offset.saturating_add(1);
            if let Err(unusable) = self.emit(event) {
                let halted = poisoned.as_mut().and_then(|p| p.found(event, &unusable));
                let end = if halted.is_some() { event.offset } else { next };
                routed.halted.extend(halted);
                if let Some(lane) = lane {
                    passed.move_on(lane.id, event.offset, end);
                }
                continue;
            }
            if event.time > SystemTime::UNIX_EPOCH {
                routed.oldest = Some(routed.oldest.map_or(event.time, |time| time.min(event.time)));
            }
            if let Some(lane) = &lane {
                passed.move_on(lane.id, event.offset, next);
            }
            self.enter(shared, event, lane.as_ref(), poisoned.is_some(), &mut routed.entries);
        }
        if self.resumable {
            for (lane, next) in &batch.frontier {
                if is_halted(&poisoned, lane) {
                    continue;
                }
                if let Some(lane) = self.known(shared, lane, first) {
                    passed.move_on(lane.id, *next, *next);
                }
            }
            let lost = batch.lost.iter().filter_map(|lane| {
                let lane = self.known(shared, lane, first)?.id;
                if let Some(moved) = passed.0.get(&lane) {
                    return Some(Moved { next: moved.from, ..*moved });
                }
                // Nothing came with it: what would have come next is lost at least. Whoever has
                // all before that has yet to be told.
                let from = shared.log.newest(lane).unwrap_or_default();
                Some(Moved { lane, from, next: from.saturating_add(1) })
            });
            routed.lost = lost.collect();
        }
        routed.moved = passed.0.into_values().collect();
        if !batch.closed.is_empty() {
            self.last = None;
        }
        routed
    }

    /// What is read for the `first` time may bring a lane. What is read again does not: a lane
    /// that was closed meanwhile stays so.
    fn known(&mut self, shared: &Shared, lane: &Arc<Lane>, first: bool) -> Option<Arc<KnownLane>> {
        if let Some((_, known)) = self.last.as_ref().filter(|(last, _)| Arc::ptr_eq(last, lane)) {
            return Some(known.clone());
        }
        let known = if first { shared.lanes.intern(lane) } else { shared.lanes.find(lane)? };
        self.last = Some((lane.clone(), known.clone()));
        Some(known)
    }

    /// Puts what comes of a record into `emissions`.
    fn emit(&mut self, record: &Event) -> Result<(), Unusable> {
        let Self { decoder, router, emissions, .. } = self;
        emissions.clear();
        // Nothing of theirs is looked at after a panic but what is cleared first.
        let decoded = guarded("the decoder", || decoder.decode(record))??;
        let span = span_of(&decoded);
        let _entered = span.enter();
        guarded("the router", || router.route(&decoded, emissions))?.map_err(Unusable::Unroutable)
    }

    /// Makes entries of the emissions of an event.
    fn enter(
        &mut self,
        shared: &Shared,
        event: &Event,
        lane: Option<&Arc<KnownLane>>,
        first: bool,
        entries: &mut Vec<Entry>,
    ) {
        let last = self.emissions.len();
        for (emission, n) in self.emissions.drain(..).zip(1..) {
            // After the last one nothing of the event is left.
            let position = match n {
                n if n == last => Position::before(event.offset.saturating_add(1)),
                n => Position { offset: event.offset, emission: n as u32 },
            };
            match shared.entry(emission, lane.map(|lane| (lane.clone(), position))) {
                Ok(entry) => entries.push(entry),
                Err(error) if first => {
                    metrics::counter!("fanout_emissions_refused_total").increment(1);
                    let (lane, offset) = (&event.lane, event.offset);
                    tracing::error!(%lane, offset, %error, "emission refused");
                }
                Err(_) => {}
            }
        }
    }
}

fn is_halted(poisoned: &Option<&mut Poisoned>, lane: &Arc<Lane>) -> bool {
    poisoned.as_ref().is_some_and(|poisoned| poisoned.is_halted(lane))
}

/// What is done over an event is done in here.
fn span_of(event: &Event) -> Span {
    // Asked first: where nobody listens the fields are not even made.
    if !tracing::span_enabled!(target: "fanout::event", Level::TRACE) {
        return Span::none();
    }
    tracing::trace_span!(
        target: "fanout::event",
        "event",
        lane = %event.lane,
        offset = event.offset,
        traceparent = traceparent(event),
    )
}

/// Runs what is not ours.
fn guarded<T>(by: &'static str, run: impl FnOnce() -> T) -> Result<T, Unusable> {
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|payload: Box<dyn Any + Send>| panicked(by, &*payload))
}

/// The header of <https://www.w3.org/TR/trace-context/>, where it is one: anybody may have
/// written it, and it goes to the log.
fn traceparent(event: &Event) -> Option<&str> {
    let text = std::str::from_utf8(event.header("traceparent")?).ok()?;
    let mut parts = text.split('-');
    let mut hex = |digits: usize| {
        let part = parts.next()?;
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (part.len() == digits && part.bytes().all(lower)).then_some(())
    };
    hex(2)?;
    hex(32)?;
    hex(16)?;
    hex(2)?;
    (text.len() == 55).then_some(text)
}
