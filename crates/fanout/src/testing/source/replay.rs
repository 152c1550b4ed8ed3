//! The contract of what reads past events again.
//!
//! A harness whose source has no [`Replay`] passes: each part says so by doing nothing.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use tokio::time::timeout;

use super::{
    DEADLINE, Reading, SourceHarness, SourceWriter as _, ended, next, poll_times, ready, records,
};
use crate::event::Event;
use crate::position::Lane;
use crate::source::{EventBatch, Replay, ReplayError, ReplayRange, Source as _};

/// Checks everything that a [`Replay`] promises, where the source has one.
///
/// # Panics
/// Where it breaks a promise, saying which.
pub async fn replay_contract(harness: &mut impl SourceHarness) {
    replay_knows_what_there_is(harness).await;
    replay_hands_on_its_ranges_and_nothing_else(harness).await;
    replay_gives_up_one_pass_for_the_next(harness).await;
    replay_loses_nothing_when_cancelled(harness).await;
    replay_leaves_what_is_live_alone(harness).await;
}

/// Bounds hold all that was handed on, and a lane of another log is none.
///
/// # Panics
/// Where they do not, or it is one.
pub async fn replay_knows_what_there_is(harness: &mut impl SourceHarness) {
    let Some(mut past) = Past::read(harness, 200).await else { return };
    assert!(past.bounds(&[]).await.is_empty(), "bounds of no lane");
    let mut lanes = past.lanes();
    let strange = Lane::new("another log", lanes[0].topic.clone(), lanes[0].partition);
    lanes.insert(1, Arc::new(strange));
    let bounds = past.bounds(&lanes).await;
    assert_eq!(bounds.len(), lanes.len(), "one for each lane");
    for (i, (lane, bounds)) in lanes.iter().zip(bounds).enumerate() {
        if i == 1 {
            assert_eq!(bounds, None, "a lane of another log");
            continue;
        }
        let bounds = bounds.unwrap_or_else(|| panic!("{lane} is no more"));
        let (first, end) = (bounds.first, bounds.end);
        assert!(past.of(lane).iter().all(|e| (first..end).contains(&e.offset)), "{lane}");
        assert!(end >= past.reading.next[lane], "{lane}: {end} is behind what was handed on");
    }
}

/// A pass hands on exactly what is in its ranges, of one lane or several, and a frontier up
/// to their ends; then it is over.
///
/// # Panics
/// Where something is missing, doubled, changed, out of order or from outside.
pub async fn replay_hands_on_its_ranges_and_nothing_else(harness: &mut impl SourceHarness) {
    let Some(mut past) = Past::read(harness, 1500).await else { return };
    let all = past.all().await;
    let parts: Vec<ReplayRange> =
        past.lanes().iter().enumerate().map(|(i, lane)| past.part(lane, i)).collect();
    for range in &parts {
        past.check(vec![range.clone()]).await;
    }
    past.check(parts).await;
    past.check(all.clone()).await;
    // Again the same: what was read is still there.
    past.check(all).await;
    let over = timeout(DEADLINE, past.replay.next()).await.expect("a pass that is over waits");
    assert!(matches!(over, Ok(None)), "a pass that is over goes on: {over:?}");
}

/// A pass that was not read to its end leaves nothing to the next one.
///
/// # Panics
/// Where something of it comes later, or the next one is not whole.
pub async fn replay_gives_up_one_pass_for_the_next(harness: &mut impl SourceHarness) {
    let Some(mut past) = Past::read(harness, 1500).await else { return };
    let all = past.all().await;
    for round in 0..4 {
        past.begin(all.clone()).await;
        for _ in 0..round {
            past.next().await;
        }
        let lanes = past.lanes();
        past.check(lanes.iter().map(|lane| past.part(lane, round)).collect()).await;
        past.begin(all.clone()).await;
        past.next().await;
        past.check(all.clone()).await;
    }
}

/// A future of [`Replay::next`] may be dropped at any time, as may one of
/// [`Replay::begin`].
///
/// # Panics
/// Where a record is lost, doubled or out of order by that.
pub async fn replay_loses_nothing_when_cancelled(harness: &mut impl SourceHarness) {
    let Some(mut past) = Past::read(harness, 1500).await else { return };
    let all = past.all().await;
    for times in 0..4 {
        drop(poll_times(past.replay.begin(all.clone()), times).await);
        drop(poll_times(past.replay.bounds(&past.lanes()), times).await);
    }
    past.begin(all.clone()).await;
    let mut again = Again::default();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let reads = async {
        loop {
            // xorshift64 (Marsaglia 2003): the same run every time.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            match poll_times(past.replay.next(), random % 4).await {
                Some(read) => match read.expect("the replay failed") {
                    Some(batch) => again.take(batch, past.reading.max_batch),
                    None => break,
                },
                None => tokio::task::yield_now().await,
            }
        }
    };
    timeout(DEADLINE, reads).await.expect("records were lost by dropping `next`");
    again.compare(&all, &past);
}

/// A pass goes on while nobody reads the source, and the source while nobody reads the
/// pass.
///
/// # Panics
/// Where one waits for the other, or takes something from it.
pub async fn replay_leaves_what_is_live_alone(harness: &mut impl SourceHarness) {
    let Some(mut past) = Past::read(harness, 500).await else { return };
    let all = past.all().await;
    let later = records(3000);
    past.reading.expect_again(&later);
    let mut writer = past.writer.take().expect("it was not taken before");
    let writing = tokio::spawn(async move {
        writer.write(later).await;
        writer
    });
    // More was written than may wait in the source.
    past.check(all.clone()).await;
    past.begin(all).await;
    while !past.reading.complete() {
        let batch = next(&mut past.source).await;
        past.reading.take(batch);
    }
    ended(writing).await;
}

/// A source that has handed on some records, and what reads them again.
struct Past<H: SourceHarness> {
    source: H::Source,
    writer: Option<H::Writer>,
    replay: Box<dyn Replay>,
    reading: Reading,
    events: HashMap<Arc<Lane>, Vec<Event>>,
}

impl<H: SourceHarness> Past<H> {
    /// Writes that many records and reads them; `None` where the source has no replay.
    async fn read(harness: &mut H, count: usize) -> Option<Self> {
        let (mut source, mut writer) = harness.open().await;
        let replay = source.replay()?;
        let written = records(count);
        let mut reading = Reading::new(&written, harness.max_batch());
        ready(&mut source, &mut reading).await;
        let writing = tokio::spawn(async move {
            writer.write(written).await;
            writer
        });
        let mut events: HashMap<Arc<Lane>, Vec<Event>> = HashMap::new();
        while !reading.complete() {
            let batch = next(&mut source).await;
            for event in batch.iter().flat_map(|batch| &batch.events) {
                events.entry(event.lane.clone()).or_default().push(event.clone());
            }
            reading.take(batch);
        }
        let writer = Some(ended(writing).await);
        Some(Self { source, writer, replay, reading, events })
    }

    /// Every lane that was named, in an order that does not change.
    fn lanes(&self) -> Vec<Arc<Lane>> {
        let mut lanes: Vec<Arc<Lane>> = self.reading.next.keys().cloned().collect();
        lanes.sort();
        lanes
    }

    fn of(&self, lane: &Arc<Lane>) -> &[Event] {
        self.events.get(lane).map_or(&[], Vec::as_slice)
    }

    async fn bounds(&mut self, lanes: &[Arc<Lane>]) -> Vec<Option<crate::source::Bounds>> {
        let told = timeout(DEADLINE, self.replay.bounds(lanes)).await.expect("bounds in time");
        told.expect("the replay failed")
    }

    /// All there is of every lane that holds something.
    async fn all(&mut self) -> Vec<ReplayRange> {
        let lanes = self.lanes();
        let bounds = self.bounds(&lanes).await;
        let ranges = lanes.into_iter().zip(bounds).map(|(lane, bounds)| {
            let bounds = bounds.unwrap_or_else(|| panic!("{lane} is no more"));
            ReplayRange { lane, from: bounds.first, to: bounds.end }
        });
        ranges.filter(|range| range.from < range.to).collect()
    }

    /// A part of a lane, another for each number, of a record at least where it has some.
    fn part(&self, lane: &Arc<Lane>, number: usize) -> ReplayRange {
        let events = self.of(lane);
        let cut: Range<usize> = match number % 4 {
            _ if events.is_empty() => {
                let end = self.reading.next[lane];
                return ReplayRange { lane: lane.clone(), from: end, to: end };
            }
            0 => events.len() / 3..events.len() * 2 / 3,
            1 => 0..1,
            2 => events.len() - 1..events.len(),
            _ => 1..events.len(),
        };
        let from = events[cut.start.min(events.len() - 1)].offset;
        let to = events.get(cut.end).map_or_else(|| self.reading.next[lane], |e| e.offset);
        ReplayRange { lane: lane.clone(), from, to: to.max(from + 1) }
    }

    async fn begin(&mut self, ranges: Vec<ReplayRange>) {
        let begun = timeout(DEADLINE, self.replay.begin(ranges)).await;
        begun.expect("a pass begins in time").expect("the replay failed");
    }

    async fn next(&mut self) -> Option<EventBatch> {
        let read: Result<_, ReplayError> =
            timeout(DEADLINE, self.replay.next()).await.expect("a pass does not go on");
        read.expect("the replay failed")
    }

    /// Reads these ranges again, and compares.
    async fn check(&mut self, mut ranges: Vec<ReplayRange>) {
        ranges.retain(|range| range.from < range.to);
        self.begin(ranges.clone()).await;
        let mut again = Again::default();
        while let Some(batch) = self.next().await {
            again.take(batch, self.reading.max_batch);
        }
        again.compare(&ranges, self);
    }
}

/// What a pass has handed on.
#[derive(Default)]
struct Again {
    events: HashMap<Arc<Lane>, Vec<Event>>,
    frontier: HashMap<Arc<Lane>, u64>,
}

impl Again {
    fn take(&mut self, batch: EventBatch, max_batch: usize) {
        let EventBatch { events, frontier, lost, closed } = batch;
        assert!(!events.is_empty() || !frontier.is_empty(), "an empty batch");
        assert!(events.len() <= max_batch, "a batch of {} events", events.len());
        assert!(lost.is_empty(), "nothing was deleted, but lost is {lost:?}");
        assert!(closed.is_empty(), "every lane is there, but closed is {closed:?}");
        for event in events {
            let next = self.frontier.entry(event.lane.clone()).or_default();
            let (lane, offset) = (&event.lane, event.offset);
            assert!(offset >= *next, "{lane}: offset {offset} came after {next} was reached");
            *next = offset + 1;
            self.events.entry(event.lane.clone()).or_default().push(event);
        }
        for (lane, told) in frontier {
            let next = self.frontier.entry(lane.clone()).or_default();
            assert!(told >= *next, "{lane}: frontier {told} is behind the events, {next}");
            *next = told;
        }
    }

    /// Checks that this is what was handed on of these ranges.
    fn compare<H: SourceHarness>(mut self, ranges: &[ReplayRange], past: &Past<H>) {
        for ReplayRange { lane, from, to } in ranges {
            let again = self.events.remove(lane).unwrap_or_default();
            let live = past.of(lane).iter().filter(|event| (*from..*to).contains(&event.offset));
            let whole = |event: &Event| (event.offset, event.key.clone(), event.payload.clone());
            let again: Vec<_> = again.iter().map(whole).collect();
            let live: Vec<_> = live.map(whole).collect();
            let offsets = |events: &[(u64, _, _)]| events.iter().map(|e| e.0).collect::<Vec<_>>();
            assert_eq!(offsets(&again), offsets(&live), "{lane}, {from} to {to}");
            assert_eq!(again, live, "{lane}, {from} to {to}: changed");
            let reached = self.frontier.remove(lane);
            assert_eq!(reached, Some(*to), "{lane}: the frontier of a pass ends with its range");
        }
        assert!(self.events.is_empty(), "events of no range: {:?}", self.events.keys());
        assert!(self.frontier.is_empty(), "a frontier of no range: {:?}", self.frontier.keys());
    }
}
