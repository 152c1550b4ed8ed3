//! One pass over the source for many who wait.
//!
//! What the log in memory no longer has is read again from the source, routed once, into a
//! second log with the same readers. However many wait there is one pass at a time, from
//! the lowest position that anybody waits for to where the source had been read when it
//! began; from there on everybody reads the log. What was read again is kept for a while:
//! in a storm of reconnects most find what they need there.
//!
//! ```text
//!  shard: of these lanes I need what is from there on --> asked
//!                                                           | one pass for all of them
//!  shard: read this | the source has it no more | again <-- told
//! ```
//!
//! A pass is bounded in records ([`Limits::replay_records`]), bytes and time. A slow
//! receiver does not hold it up: where the replay has moved on without it, it asks again.
//!
//! [`Limits::replay_records`]: crate::Limits::replay_records

mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::log::{Append, Keep, Log, Moved};
use crate::position::{Lane, LaneId, Position};
use crate::router::Router;
use crate::routing::Routing;
use crate::shared::Shared;
use crate::sink::GapReason;
use crate::source::{Bounds, Replay, ReplayError, ReplayRange};
use waiting::Service;
pub(crate) use waiting::{Replays, Verdict, Waiter};

/// Between two tries while the source cannot be reached.
const RETRY: Duration = Duration::from_millis(500);
/// Between two looks whether what was read again is still being read.
const LOOK: Duration = Duration::from_millis(10);
/// Who reads a replay and takes nothing for so long does not hold up the next pass.
const QUIET: Duration = Duration::from_millis(250);
/// How long those who do read on may hold it up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most records that a pass reads before what somebody asked for: whoever asks next is
/// likely to want a little more.
const MARGIN: u64 = 4096;

/// What was read again.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) log: Log,
    done: AtomicBool,
    /// Each who reads it has a clone.
    readers: Arc<()>,
    /// How often anybody took something of it.
    moved: AtomicU64,
}

/// A part of a lane that is to be read.
#[derive(Clone, Debug)]
struct Part {
    id: LaneId,
    range: ReplayRange,
}

/// A lane that somebody waits for, and what the source has of it.
struct Asked {
    id: LaneId,
    lane: Arc<Lane>,
    bounds: Option<Bounds>,
}

impl Replayed {
    fn new(bytes: u64, now: Instant) -> Self {
        let keep = Keep { bytes, age: Duration::MAX };
        // Its one reader is the pass: what that has read is kept until the next one begins,
        // also where a single batch is more than may be kept.
        let readers = Arc::default();
        let (done, moved) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { log: Log::new(keep, 1, now), done, readers, moved }
    }

    /// Somebody has taken something of it.
    pub(crate) fn note_moved(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether nothing more comes behind what it has, for now.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    /// For as long as this is held it is not given up for having been kept long enough.
    pub(crate) fn reader(&self) -> Arc<()> {
        self.readers.clone()
    }

    /// Whether anybody reads it, or was told to.
    fn is_read(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || Arc::strong_count(&self.readers) > 1
    }

    /// Whether it has everything from these positions on, up to where the log begins.
    fn has(&self, shared: &Shared, missing: &[(LaneId, Position)]) -> bool {
        missing.iter().all(|(lane, position)| {
            let log_begins = shared.log.oldest(*lane).unwrap_or(0);
            self.log.oldest(*lane).is_some_and(|oldest| oldest <= position.offset)
                && self.log.newest(*lane) >= Some(log_begins)
        })
    }
}

/// Replays one source for those who ask.
pub(crate) struct Replayer<R> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) routing: Routing<R>,
    pub(crate) source: Box<dyn Replay>,
    pub(crate) service: usize,
    current: Option<Arc<Replayed>>,
}

impl<R: Router> Replayer<R> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        routing: Routing<R>,
        source: Box<dyn Replay>,
        service: usize,
    ) -> Self {
        Self { shared, routing, source, service, current: None }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let service = self.shared.replays.service(self.service);
        loop {
            let waiters = service.take();
            if waiters.is_empty() {
                let keep = self.shared.limits.replay_keep.max(LOOK);
                if timeout(keep, service.asked.notified()).await.is_err()
                    && !self.current.as_ref().is_some_and(Replayed::is_read)
                {
                    self.current = None;
                    service.asked.notified().await;
                }
                continue;
            }
            let waiters = self.answer_from_current(waiters);
            let waiters = self.let_read(&service, waiters).await;
            if let Err((error, waiters)) = self.pass(&service, waiters).await {
                tracing::warn!(%error, "replay failed; trying on");
                metrics::counter!("fanout_replay_failures_total").increment(1);
                service.put_back(waiters);
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Waits for those who read what there is, where the next pass would take it from them:
    /// in a storm of reconnects everybody would be driven out by those who come a little
    /// later, again and again. Returns who needs that pass then.
    async fn let_read(&mut self, service: &Service, mut waiters: Vec<Waiter>) -> Vec<Waiter> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let (mut moved, mut quiet) = (0, tokio::time::Instant::now() + QUIET);
        while let Some(current) = &self.current {
            let missing = |waiter: &Waiter| {
                let has = |(lane, position): &(LaneId, Position)| {
                    current.log.oldest(*lane).is_none_or(|oldest| oldest <= position.offset)
                };
                !waiter.missing.iter().all(has)
            };
            let full =
                current.log.stats(Instant::now()).bytes > self.shared.limits.replay_bytes / 2;
            if waiters.is_empty()
                || !(full || waiters.iter().any(missing))
                || !current.is_read()
                || tokio::time::Instant::now() >= deadline.min(quiet)
            {
                break;
            }
            let now = current.moved.load(Ordering::Relaxed);
            if std::mem::replace(&mut moved, now) != now {
                quiet = tokio::time::Instant::now() + QUIET;
            }
            let _ = timeout(LOOK, service.asked.notified()).await;
            waiters.extend(service.take());
            waiters = self.answer_from_current(waiters);
        }
        waiters
    }

    fn tell(&self, waiter: &Waiter, verdict: Verdict) {
        self.shared.tell(waiter.shard, waiter.token, verdict);
    }

    /// Answers those who need no pass; the others come back.
    fn answer_from_current(&self, waiters: Vec<Waiter>) -> Vec<Waiter> {
        let mut left = Vec::new();
        for mut waiter in waiters {
            // What the log has after all: it was asked a moment ago.
            let has = |lane: LaneId, position: Position| {
                self.shared.log.oldest(lane).is_some_and(|oldest| oldest <= position.offset)
            };
            waiter.missing.retain(|(lane, position)| !has(*lane, *position));
            match &self.current {
                _ if !waiter.ahead.is_empty() => left.push(waiter),
                _ if waiter.missing.is_empty() => self.tell(&waiter, Verdict::Again),
                Some(current) if current.has(&self.shared, &waiter.missing) => {
                    self.tell(&waiter, Verdict::Read(current.clone()));
                }
                _ => left.push(waiter),
            }
        }
        left
    }

    /// The lanes that somebody waits for. Who waits for one that was closed and is forgotten is
    /// told; the others come back.
    fn known(&self, mut waiters: Vec<Waiter>) -> (Vec<(LaneId, Arc<Lane>)>, Vec<Waiter>) {
        let mut known = Vec::new();
        for id in lanes_of(&waiters) {
            if let Some(lane) = self.shared.lanes.get(id) {
                known.push((id, lane.lane.clone()));
                continue;
            }
            waiters.retain(|waiter| {
                let waits = waiter.lanes().any(|of| of == id);
                if waits {
                    self.tell(waiter, Verdict::Gap(GapReason::Reset));
                }
                !waits
            });
        }
        (known, waiters)
    }

    /// One pass for all of them.
    ///
    /// # Errors
    /// Where the source could not be asked; with those who still wait.
    async fn pass(
        &mut self,
        service: &Service,
        waiters: Vec<Waiter>,
    ) -> Result<(), (ReplayError, Vec<Waiter>)> {
        if waiters.is_empty() {
            return Ok(());
        }
        let limits = self.shared.limits.clone();
        let (lanes, waiters) = self.known(waiters);
        if waiters.is_empty() {
            return Ok(());
        }
        let known: Vec<Arc<Lane>> = lanes.iter().map(|(_, lane)| lane.clone()).collect();
        let bounds = match timeout(limits.replay_timeout, self.source.bounds(&known)).await {
            Ok(Ok(bounds)) => bounds,
            Ok(Err(error)) => return Err((error, waiters)),
            Err(elapsed) => return Err((ReplayError::Unavailable(elapsed.into()), waiters)),
        };
        let bounds = lanes.into_iter().zip(bounds);
        let bounds: Vec<_> =
            bounds.map(|((id, lane), bounds)| Asked { id, lane, bounds }).collect();
        let end = |lane: LaneId| self.shared.log.newest(lane).unwrap_or(0);
        let mut readers = Vec::new();
        for waiter in waiters {
            match judge(&waiter, &bounds, end, limits.replay_records) {
                Err(reason) => self.tell(&waiter, Verdict::Gap(reason)),
                Ok(()) if waiter.missing.is_empty() => {}
                Ok(()) => readers.push(waiter),
            }
        }
        let Some((replayed, parts)) = self.plan(&readers, &bounds) else { return Ok(()) };
        replayed.done.store(false, Ordering::SeqCst);
        self.current = Some(replayed.clone());
        let result = self.read(service, &replayed, parts, readers).await;
        replayed.done.store(true, Ordering::SeqCst);
        self.shared.replay_moved();
        result
    }

    /// What is to be read, and where to: behind what is there, where that has the beginning
    /// of all that is asked for, else anew.
    fn plan(&self, readers: &[Waiter], bounds: &[Asked]) -> Option<(Arc<Replayed>, Vec<Part>)> {
        if readers.is_empty() {
            return None;
        }
        let limits = &self.shared.limits;
        let lowest = |lane: LaneId| {
            let missing = readers.iter().flat_map(|reader| &reader.missing);
            missing.filter(|(of, _)| *of == lane).map(|(_, position)| position.offset).min()
        };
        let asked: Vec<(&Asked, u64)> =
            bounds.iter().filter_map(|asked| Some((asked, lowest(asked.id)?))).collect();
        let first = |asked: &Asked| asked.bounds.map_or(0, |bounds| bounds.first);
        let extends = |current: &&Arc<Replayed>| {
            asked.iter().all(|(lane, from)| {
                // What is between its end and the source's beginning can be read no more.
                current.log.oldest(lane.id).is_none_or(|oldest| oldest <= *from)
                    && current.log.newest(lane.id).is_none_or(|newest| newest >= first(lane))
            })
        };
        let current = self.current.as_ref().filter(extends);
        let new = || Arc::new(Replayed::new(limits.replay_bytes, Instant::now()));
        let replayed = current.map_or_else(new, Arc::clone);
        let parts = asked.into_iter().filter_map(|(asked, from)| {
            // None where it was closed meanwhile.
            let to = self.shared.log.newest(asked.id)?;
            let from = replayed.log.newest(asked.id).unwrap_or_else(|| {
                from.saturating_sub(MARGIN.min(to.saturating_sub(from))).max(first(asked))
            });
            let range = ReplayRange { lane: asked.lane.clone(), from, to };
            (from < to).then_some(Part { id: asked.id, range })
        });
        let parts = parts.collect();
        Some((replayed, parts))
    }

    /// Reads the ranges into the replay, while those who wait read along.
    async fn read(
        &mut self,
        service: &Service,
        replayed: &Arc<Replayed>,
        parts: Vec<Part>,
        readers: Vec<Waiter>,
    ) -> Result<(), (ReplayError, Vec<Waiter>)> {
        let limits = self.shared.limits.clone();
        let ranges: Vec<_> = parts.iter().map(|part| part.range.clone()).collect();
        if !ranges.is_empty() {
            match timeout(limits.replay_timeout, self.source.begin(ranges)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err((error, readers)),
                Err(elapsed) => return Err((ReplayError::Unavailable(elapsed.into()), readers)),
            }
        }
        // From here on it says what it has of each lane.
        let begin =
            |Part { id, range }: &Part| Moved { lane: *id, from: range.from, next: range.from };
        let begun: Vec<_> = parts.iter().map(begin).collect();
        let begin = replayed.log.append(Append::new(Vec::new(), &begun), Instant::now());
        replayed.log.has_read(0, &begin);
        for reader in &readers {
            self.tell(reader, Verdict::Read(replayed.clone()));
        }
        if parts.is_empty() {
            return Ok(());
        }
        metrics::counter!("fanout_replay_passes_total").increment(1);
        let deadline = tokio::time::Instant::now() + limits.replay_timeout;
        let mut bytes = 0;
        // Half of what it may hold: what is read now must not drive itself out.
        while bytes <= limits.replay_bytes / 2 {
            let batch = match tokio::time::timeout_at(deadline, self.source.next()).await {
                Ok(Ok(Some(batch))) => batch,
                Ok(Ok(None)) | Err(_) => break,
                // Those who read along have come to its end then, and ask again.
                Ok(Err(error)) => {
                    tracing::warn!(%error, "replay ended early");
                    metrics::counter!("fanout_replay_failures_total").increment(1);
                    break;
                }
            };
            metrics::counter!("fanout_replayed_records_total").increment(batch.events.len() as u64);
            let routed = self.routing.route(&self.shared, &batch, None);
            let before = replayed.log.head_bytes();
            replayed.log.append(Append::new(routed.entries, &routed.moved), Instant::now());
            bytes += replayed.log.head_bytes() - before;
            self.shared.replay_moved();
            let left = self.answer_from_current(service.take());
            service.put_back(left);
        }
        // What was taken and put back has to be looked at again.
        service.asked.notify_one();
        Ok(())
    }
}

/// The lanes that somebody waits for.
fn lanes_of(waiters: &[Waiter]) -> Vec<LaneId> {
    let mut lanes: Vec<LaneId> = waiters.iter().flat_map(Waiter::lanes).collect();
    lanes.sort_unstable();
    lanes.dedup();
    lanes
}

/// Whether the source has what somebody needs, within what one may ask for.
fn judge(
    waiter: &Waiter,
    bounds: &[Asked],
    end: impl Fn(LaneId) -> u64,
    most: u64,
) -> Result<(), GapReason> {
    let mut records: u64 = 0;
    for (lane, position) in waiter.missing.iter().chain(&waiter.ahead) {
        let bounds = bounds.iter().find(|asked| asked.id == *lane).and_then(|asked| asked.bounds);
        let Some(Bounds { first, end: last }) = bounds else { return Err(GapReason::Reset) };
        let seen = position.offset.saturating_add(u64::from(position.emission > 0));
        if seen > last {
            return Err(GapReason::Reset);
        }
        if position.offset < first && position.offset < last {
            return Err(GapReason::Expired);
        }
        if waiter.missing.iter().any(|(of, _)| of == lane) {
            records = records.saturating_add(end(*lane).saturating_sub(position.offset));
        }
    }
    if records > most { Err(GapReason::Limit) } else { Ok(()) }
}
