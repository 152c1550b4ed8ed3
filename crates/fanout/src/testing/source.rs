//! The contract of sources.
//!
//! [`source_contract`] checks all that [`Source`] promises; each of its parts can be
//! run alone. A part panics where the promise does not hold, and never waits longer
//! than [`DEADLINE`].

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::event::Event;
use crate::position::Lane;
use crate::source::{EventBatch, Source, SourceHealth};

mod accepted;
#[cfg(test)]
mod fake;
mod replay;

pub use accepted::*;
pub use replay::*;

/// Longest that any step of the suite waits.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Keys that the suite writes under, and so most lanes it can reach.
const KEYS: usize = 8;

/// A record that the suite writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Records of one key have to stay in one lane, in their order.
    pub key: Bytes,
    /// A JSON object.
    pub payload: Bytes,
}

/// Makes what is to be checked.
pub trait SourceHarness {
    /// What is checked.
    type Source: Source;
    /// What writes to its log.
    type Writer: SourceWriter;

    /// A source of a log of its own that holds no record, and what writes to that log.
    /// The source need not be ready.
    fn open(&mut self) -> impl Future<Output = (Self::Source, Self::Writer)> + Send;

    /// A source that reads a log of its own from its beginning, in which these records
    /// stand already, and what writes to it. `None`, the default, where there is no such
    /// source: then what is promised of it is not checked.
    fn open_holding(
        &mut self,
        _records: Vec<Record>,
    ) -> impl Future<Output = Option<(Self::Source, Self::Writer)>> + Send {
        std::future::ready(None)
    }

    /// Closes a source in order, and opens one that goes on where it was. `None`, the
    /// default, where there is no such source: then what is promised of it is not checked.
    /// Only asked of those that are not [`RESUMABLE`](Source::RESUMABLE).
    fn reopen(
        &mut self,
        _source: Self::Source,
        _writer: &Self::Writer,
    ) -> impl Future<Output = Option<Self::Source>> + Send {
        std::future::ready(None)
    }

    /// The most events that one batch may hold.
    fn max_batch(&self) -> usize;
}

/// Writes to the log of a source. When it is dropped, nothing more is ever written.
pub trait SourceWriter: Send + 'static {
    /// Writes the records, those of a key in this order. May wait for the source to be
    /// read.
    fn write(&mut self, records: Vec<Record>) -> impl Future<Output = ()> + Send;
}

/// Checks everything; what is promised of a [`Replay`](crate::Replay) where the source has
/// one.
///
/// Of a source that is not [`RESUMABLE`](Source::RESUMABLE) it checks what it does with
/// what was [accepted](Source::accepted), and not what a position is for: that a lane's
/// place is told before its events, and when it has caught up, which such a source says by
/// itself.
///
/// # Panics
/// Where the source breaks a promise, saying which.
pub async fn source_contract(harness: &mut impl SourceHarness) {
    becomes_ready(harness).await;
    tells_where_a_lane_begins(harness).await;
    is_caught_up_when_more_is_asked_for(harness).await;
    hands_on_everything_in_order(harness).await;
    loses_nothing_when_cancelled(harness).await;
    waits_for_its_reader(harness).await;
    status_outlives_it(harness).await;
    replay_contract(harness).await;
    goes_on_with_what_was_not_accepted(harness).await;
}

/// A source of a log that can be reached tells that it is ready, once it is read.
///
/// # Panics
/// Where it does not, or tells of a problem.
pub async fn becomes_ready(harness: &mut impl SourceHarness) {
    let (mut source, _writer) = harness.open().await;
    let health = ready(&mut source, &mut Reading::new(&[], harness.max_batch())).await;
    assert_eq!(health.problem, None, "a ready source has no problem");
}

/// A lane's place is told before anything of it comes: it holds nothing yet.
///
/// # Panics
/// Where an event comes of a lane whose place was not told.
pub async fn tells_where_a_lane_begins<H: SourceHarness>(harness: &mut H) {
    if !H::Source::RESUMABLE {
        return;
    }
    let (mut source, mut writer) = harness.open().await;
    let written = records(KEYS);
    let mut reading = Reading::new(&written, harness.max_batch());
    ready(&mut source, &mut reading).await;
    writer.write(written).await;
    while !reading.complete() {
        let begun: Vec<Arc<Lane>> = reading.next.keys().cloned().collect();
        let batch = next(&mut source).await;
        for event in batch.iter().flat_map(|batch| &batch.events) {
            assert!(begun.contains(&event.lane), "{}: its place was never told", event.lane);
        }
        reading.take(batch);
    }
}

/// A source has caught up once all that stood in its log at start was handed on and the
/// next batch is asked for, not before: what handles a batch has handled it by then.
///
/// # Panics
/// Where it tells so too early, or never.
pub async fn is_caught_up_when_more_is_asked_for<H: SourceHarness>(harness: &mut H) {
    if !H::Source::RESUMABLE {
        return;
    }
    let held = records(1000);
    let Some((mut source, _writer)) = harness.open_holding(held.clone()).await else { return };
    let mut reading = Reading::new(&held, harness.max_batch());
    while !reading.complete() {
        reading.take(next(&mut source).await);
        // What tells it by itself has some time for it.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!source.status().health().caught_up, "nobody has asked for more");
    }
    ready(&mut source, &mut reading).await;
}

/// Every record once, in the order of its lane; a frontier that fits.
///
/// # Panics
/// Where a record is missing, doubled, changed or out of order, or a frontier is behind
/// or ahead of the events.
pub async fn hands_on_everything_in_order(harness: &mut impl SourceHarness) {
    let (mut source, mut writer) = harness.open().await;
    let written = records(1000);
    let mut reading = Reading::new(&written, harness.max_batch());
    ready(&mut source, &mut reading).await;
    let writing = tokio::spawn(async move {
        // In pieces, so that batches of many sizes come about.
        for piece in written.chunks(37) {
            writer.write(piece.to_vec()).await;
        }
        writer
    });
    while !reading.complete() {
        reading.take(next(&mut source).await);
    }
    let mut writer = ended(writing).await;

    // What is written later follows, and nothing of what came before comes again.
    let later = records(10);
    reading.expect_again(&later);
    writer.write(later).await;
    while !reading.complete() {
        reading.take(next(&mut source).await);
    }
}

/// A future of [`Source::next`] may be dropped at any time.
///
/// # Panics
/// Where a record is lost, doubled or out of order by that.
pub async fn loses_nothing_when_cancelled(harness: &mut impl SourceHarness) {
    let (mut source, mut writer) = harness.open().await;
    let written = records(1000);
    let mut reading = Reading::new(&written, harness.max_batch());
    ready(&mut source, &mut reading).await;
    let writing = tokio::spawn(async move {
        for piece in written.chunks(7) {
            writer.write(piece.to_vec()).await;
            tokio::task::yield_now().await;
        }
        writer
    });
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let reads = async {
        while !reading.complete() {
            // xorshift64 (Marsaglia 2003): the same run every time.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            match poll_times(source.next(), random % 4).await {
                Some(read) => reading.take(read.expect("the source failed")),
                // Dropped at its first, second or third pending.
                None => tokio::task::yield_now().await,
            }
        }
    };
    timeout(DEADLINE, reads).await.expect("records were lost by dropping `next`");
    ended(writing).await;
}

/// Not being read loses nothing, and batches stay within their bound.
///
/// How much waits inside cannot be seen from here: that it is bounded is for the source's
/// own tests to show.
///
/// # Panics
/// Where a record is lost, doubled or out of order, or a batch is too large.
pub async fn waits_for_its_reader(harness: &mut impl SourceHarness) {
    let (mut source, mut writer) = harness.open().await;
    let written = records(5000);
    let mut reading = Reading::new(&written, harness.max_batch());
    ready(&mut source, &mut reading).await;
    // Either the log takes all of it while nobody reads, or its writer has to wait:
    // which one is the source's choice, so the reader begins once either is certain.
    let writing = tokio::spawn(async move {
        writer.write(written).await;
        writer
    });
    while !writing.is_finished() && !reading.complete() {
        // One batch, then a long pause in turns of the runtime: a slow reader.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        reading.take(next(&mut source).await);
    }
    while !reading.complete() {
        reading.take(next(&mut source).await);
    }
    ended(writing).await;
}

/// A status is a handle of its own, and learns that the source has gone.
///
/// # Panics
/// Where it does not.
pub async fn status_outlives_it(harness: &mut impl SourceHarness) {
    let (mut source, _writer) = harness.open().await;
    ready(&mut source, &mut Reading::new(&[], harness.max_batch())).await;
    let mut status = source.status();
    drop(source);
    let gone = timeout(DEADLINE, status.wait_for(|_| false)).await;
    assert_eq!(gone, Ok(false), "dropping the source must end whatever works for it");
    // What was known last can still be asked for.
    assert!(status.health().ready());
}

/// Reads until the source is ready.
async fn ready(source: &mut impl Source, reading: &mut Reading) -> SourceHealth {
    let mut status = source.status();
    let waiting = async {
        loop {
            let batch = tokio::select! {
                biased;
                told = status.wait_for(SourceHealth::ready) => break told,
                read = source.next() => read.expect("the source failed"),
            };
            reading.take(batch);
        }
    };
    let told = timeout(DEADLINE, waiting).await;
    assert_eq!(told, Ok(true), "not ready: {:?}", source.status().health());
    source.status().health()
}

async fn next(source: &mut impl Source) -> Option<EventBatch> {
    let read = timeout(DEADLINE, source.next()).await.expect("records are missing");
    read.expect("the source failed")
}

async fn ended<T>(writing: JoinHandle<T>) -> T {
    let written = timeout(DEADLINE, writing).await.expect("the writer waits for ever");
    written.expect("the writer failed")
}

/// Polls a future until it is ready or was pending `times` times after the first.
async fn poll_times<F: Future>(future: F, times: u64) -> Option<F::Output> {
    let (mut future, mut left) = (pin!(future), times);
    std::future::poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// Numbered records under [`KEYS`] keys.
fn records(count: usize) -> Vec<Record> {
    let record = |number: usize| {
        let key = format!("key-{}", number % KEYS);
        let payload = format!(r#"{{"key":"{key}","number":{number}}}"#);
        Record { key: key.into(), payload: payload.into() }
    };
    (0..count).map(record).collect()
}

/// What has been read, against what was written.
struct Reading {
    /// By key, what is still to come, the next one last.
    expected: BTreeMap<Bytes, Vec<Bytes>>,
    /// By lane, the next offset that may come.
    next: HashMap<Arc<Lane>, u64>,
    max_batch: usize,
}

impl Reading {
    fn new(written: &[Record], max_batch: usize) -> Self {
        let mut reading = Self { expected: BTreeMap::new(), next: HashMap::new(), max_batch };
        reading.expect_again(written);
        reading
    }

    fn expect_again(&mut self, written: &[Record]) {
        for record in written.iter().rev() {
            self.expected.entry(record.key.clone()).or_default().push(record.payload.clone());
        }
    }

    fn complete(&self) -> bool {
        self.expected.values().all(Vec::is_empty)
    }

    fn take(&mut self, batch: Option<EventBatch>) {
        let EventBatch { events, frontier, lost, closed } =
            batch.expect("the source ended while it was written");
        assert!(lost.is_empty(), "nothing was deleted, but lost is {lost:?}");
        assert!(closed.is_empty(), "every lane is there, but closed is {closed:?}");
        assert!(!events.is_empty() || !frontier.is_empty(), "an empty batch");
        assert!(events.len() <= self.max_batch, "a batch of {} events", events.len());
        for event in &events {
            self.take_event(event);
        }
        for (lane, told) in frontier {
            let next = self.next.entry(lane.clone()).or_default();
            assert!(told >= *next, "{lane}: frontier {told} is behind the events, {next}");
            // Nothing before it may come any more.
            *next = told;
        }
    }

    fn take_event(&mut self, event: &Event) {
        let (lane, offset) = (&event.lane, event.offset);
        let next = self.next.entry(lane.clone()).or_default();
        assert!(offset >= *next, "{lane}: offset {offset} came after {next} was reached");
        *next = offset + 1;
        let key = event.key.clone().expect("the key was lost");
        let due = self.expected.get_mut(&key).and_then(Vec::pop);
        assert_eq!(Some(&event.payload), due.as_ref(), "{lane}, {offset}: not what is due");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Arc<Lane> {
        Arc::new(Lane::new("log", "t", 0))
    }

    fn event(record: &Record, offset: u64) -> Event {
        Event::new(lane(), offset, record.payload.clone()).with_key(Some(record.key.clone()))
    }

    /// Whether the suite takes these offsets of the first records, and a frontier.
    fn takes(offsets: &[(usize, u64)], frontier: u64) -> bool {
        let written = records(KEYS);
        let events = offsets.iter().map(|&(record, offset)| event(&written[record], offset));
        let events: Vec<Event> = events.collect();
        let take = move || {
            let mut reading = Reading::new(&written, KEYS);
            reading.take(Some(EventBatch {
                events,
                frontier: vec![(lane(), frontier)],
                ..EventBatch::default()
            }));
        };
        std::panic::catch_unwind(take).is_ok()
    }

    #[test]
    fn the_suite_notices_what_it_is_for() {
        assert!(takes(&[(0, 0), (1, 1), (2, 5)], 6));
        assert!(takes(&[(0, 3)], 9), "holes may follow");
        assert!(!takes(&[(0, 1), (1, 0)], 2), "offsets fall");
        assert!(!takes(&[(0, 0), (0, 1)], 2), "a record twice");
        assert!(!takes(&[(0, 0), (1, 0)], 2), "an offset twice");
        assert!(!takes(&[(0, 0), (1, 1)], 1), "a frontier behind");
    }

    #[test]
    #[should_panic(expected = "offset 4 came after 5 was reached")]
    fn the_suite_notices_a_frontier_that_is_ahead() {
        let written = records(1);
        let mut reading = Reading::new(&written, 1);
        reading.take(Some(EventBatch { frontier: vec![(lane(), 5)], ..EventBatch::default() }));
        let events = vec![event(&written[0], 4)];
        reading.take(Some(EventBatch { events, ..EventBatch::default() }));
    }

    #[tokio::test]
    async fn a_future_is_dropped_after_as_many_polls_as_asked_for() {
        assert_eq!(poll_times(std::future::pending::<()>(), 3).await, None);
        assert_eq!(poll_times(tokio::task::yield_now(), 1).await, Some(()));
        assert_eq!(poll_times(tokio::task::yield_now(), 0).await, None);
    }
}
