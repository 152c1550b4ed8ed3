//! One pass over ranges.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanout::{EventBatch, ReplayError, ReplayRange};
use metrics::counter;
use tokio::sync::mpsc;

use super::{Asking, Passed, patience, unavailable};
use crate::api::{Api, From, StreamInfo};
use crate::collected::Collected;
use crate::config::Wanted;
use crate::consumer::{Bounds, Broken, Consumer};
use crate::identity::begin_of;
use crate::metrics::{REPLAY_PASSES, REPLAYED};
use crate::reader::look::{self, Looks};
use crate::record::to_event;

/// How long nothing has to come before it is asked whether anything will.
const IDLE: Duration = Duration::from_millis(20);
/// How long dropping the consumer may hold up the end.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why a pass goes no further.
enum Stop {
    /// Nobody takes its batches any more.
    GivenUp,
    Failed(ReplayError),
    /// The consumer is gone; what is left can be read by another.
    Broken(Broken),
}

impl<E: Into<ReplayError>> std::convert::From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Reads the ranges one after the other, and says how that ended.
pub(super) async fn run(mut asking: Asking, ranges: Vec<ReplayRange>, out: mpsc::Sender<Passed>) {
    let mut stop = Ok(());
    for range in ranges {
        stop = read(&mut asking, range, &out).await;
        if stop.is_err() {
            break;
        }
    }
    let (result, last) = match stop {
        Ok(()) => ("complete", Ok(None)),
        Err(Stop::GivenUp) => ("given_up", Ok(None)),
        Err(Stop::Broken(broken)) => ("unavailable", Err(unavailable(broken))),
        Err(Stop::Failed(error)) => {
            let expired = matches!(error, ReplayError::Expired { .. });
            (if expired { "expired" } else { "unavailable" }, Err(error))
        }
    };
    if let Err(error) = &last {
        tracing::warn!(%error, "replay: pass ended early");
    }
    counter!(REPLAY_PASSES, "result" => result).increment(1);
    // Where nobody is left to take it, that is no loss.
    let _ = out.send(last).await;
}

/// Reads one range, by as many consumers as that takes.
async fn read(
    asking: &mut Asking,
    range: ReplayRange,
    out: &mpsc::Sender<Passed>,
) -> Result<(), Stop> {
    let config = asking.config.clone();
    let Some(wanted) = asking.wanted(&range.lane).cloned() else {
        return Err(ReplayError::Expired { lane: range.lane }.into());
    };
    let api = asking.api().await?;
    let mut reading = Reading {
        // An empty range is at its end at once.
        collected: Collected::from(range.from.min(range.to)),
        heard: Instant::now(),
        range,
        config,
        wanted,
        api,
    };
    while reading.collected.next() < reading.range.to {
        let (from, bounds) = (From::Sequence(reading.collected.next()), reading.bounds());
        let mut consumer = Consumer::make(&reading.api, &reading.wanted, from, bounds).await?;
        let stop = tokio::select! {
            biased;
            () = out.closed() => Err(Stop::GivenUp),
            stop = reading.follow(&mut consumer, out) => stop,
        };
        // By itself the server does it later.
        let _ = tokio::time::timeout(GOODBYE, consumer.drop()).await;
        match stop {
            Err(Stop::Broken(_)) if reading.heard.elapsed() < patience(&reading.config) => {}
            stop => return stop,
        }
    }
    reading.hand_on(Vec::new(), out).await
}

struct Reading {
    range: ReplayRange,
    config: Arc<crate::config::NatsConfig>,
    wanted: Wanted,
    api: Api,
    collected: Collected,
    /// When something came last.
    heard: Instant,
}

impl Reading {
    fn bounds(&self) -> Bounds {
        Bounds { messages: self.config.max_batch, bytes: self.config.max_batch_bytes }
    }

    /// Reads until the range is at its end.
    async fn follow(
        &mut self,
        consumer: &mut Consumer,
        out: &mpsc::Sender<Passed>,
    ) -> Result<(), Stop> {
        // The stream is asked for after the consumer was made: it is of this one.
        let mut seen = Looks::new(self.stream().await?);
        let mut probed: Option<u64> = None;
        loop {
            consumer.pull().await?;
            let came = tokio::select! {
                biased;
                trouble = self.api.ended() => return Err(trouble.into()),
                came = consumer.next() => Some(came.map_err(Stop::Broken)?),
                () = tokio::time::sleep(IDLE) => None,
            };
            match came {
                Some(came) => self.take(consumer, came)?,
                None => probed = self.look(consumer, &mut seen).await?,
            }
            if consumer.take_empty() {
                self.collected.pass(probed.take().unwrap_or_default());
            }
            if self.collected.has_holes() {
                // A hole is what was deleted one by one, or the beginning of what is left.
                let first = self.stream().await?.first();
                if self.collected.first_hole().is_some_and(|from| from < first) {
                    return Err(ReplayError::Expired { lane: self.range.lane.clone() }.into());
                }
            }
            let pieces = self.collected.take_pieces(0);
            for piece in pieces {
                self.heard = Instant::now();
                self.hand_on(piece.events, out).await?;
            }
            if self.collected.next() >= self.range.to {
                return Ok(());
            }
        }
    }

    /// Takes what is there.
    fn take(
        &mut self,
        consumer: &mut Consumer,
        mut came: Option<(crate::record::Place, async_nats::Message)>,
    ) -> Result<(), Stop> {
        let Self { range, config, collected, .. } = self;
        while let Some((place, message)) = came {
            if place.sequence >= range.to {
                collected.pass(range.to);
                break;
            }
            collected.take(place.sequence, || to_event(&message, &range.lane, place));
            let full =
                collected.len() >= config.max_batch || collected.bytes() >= config.max_batch_bytes;
            if full {
                break;
            }
            came = consumer.next_now().map_err(Stop::Broken)?;
        }
        Ok(())
    }

    /// Asks whether anything will come: up to where the range is passed where nothing does.
    async fn look(
        &mut self,
        consumer: &mut Consumer,
        seen: &mut Looks,
    ) -> Result<Option<u64>, Stop> {
        if self.heard.elapsed() >= patience(&self.config) {
            return Err(unavailable("nothing came of what is there").into());
        }
        let look = look::look(&self.api, &self.wanted.name, &consumer.name).await?;
        let told = look.consumer.ok_or_else(|| Stop::Broken(Broken::gone()))?;
        let stream = self.same(look.stream)?;
        if seen.is_stuck(consumer, &told) {
            return Err(Stop::Broken(Broken::stuck()));
        }
        let end = seen.worth_a_probe(&told, &stream).map(|end| end.min(self.range.to));
        if end.is_some() {
            consumer.probe().await?;
        }
        Ok(end)
    }

    /// The stream, as long as it is the same.
    async fn stream(&self) -> Result<StreamInfo, Stop> {
        self.same(self.api.stream(&self.wanted.name).await?)
    }

    fn same(&self, stream: Option<StreamInfo>) -> Result<StreamInfo, Stop> {
        let lane = &self.range.lane;
        let stream = stream.filter(|info| begin_of(&self.config, info, lane).is_some());
        Ok(stream.ok_or_else(|| ReplayError::Expired { lane: lane.clone() })?)
    }

    /// Waits for room.
    async fn hand_on(
        &self,
        events: Vec<fanout::Event>,
        out: &mpsc::Sender<Passed>,
    ) -> Result<(), Stop> {
        let lane = self.range.lane.clone();
        let count = events.len() as u64;
        let frontier = vec![(lane.clone(), self.collected.next().min(self.range.to))];
        let batch = EventBatch { events, frontier, ..EventBatch::default() };
        let room = out.reserve().await.map_err(|_| Stop::GivenUp)?;
        counter!(REPLAYED, "topic" => lane.topic.to_string()).increment(count);
        room.send(Ok(Some(batch)));
        Ok(())
    }
}
