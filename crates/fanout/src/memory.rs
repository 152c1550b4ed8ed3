//! A source in memory: for tests, examples, and events that have no log.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};

use crate::event::Event;
use crate::json::{Json, JsonError};
use crate::position::Lane;
use crate::source::{EventBatch, Source, SourceError, SourceReporter, SourceStatus};

/// Events written to a [`MemoryTopic`], in their order, as one lane.
#[derive(Debug)]
pub struct MemorySource {
    events: mpsc::Receiver<Event>,
    status: SourceStatus,
    /// The lane, until its place was told.
    begun: Option<Arc<Lane>>,
    _reporter: SourceReporter,
}

/// Writes events to a [`MemorySource`]. When the last clone is dropped the source
/// ends, after what was written.
#[derive(Clone, Debug)]
pub struct MemoryTopic {
    lane: Arc<Lane>,
    events: mpsc::Sender<Event>,
    next: Arc<Mutex<u64>>,
}

/// Why a [`MemoryTopic`] took nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The source was dropped.
    #[error("the source is gone")]
    Closed,
    /// The value has no JSON form.
    #[error("event refused")]
    Json(#[from] JsonError),
}

impl MemorySource {
    /// Events that may wait to be read before [`MemoryTopic::send`] waits.
    pub const CAPACITY: usize = 1024;

    /// Most events of one batch.
    const MAX_BATCH: usize = 256;

    /// A topic of one partition, and its source.
    pub fn new(topic: &str) -> (MemoryTopic, Self) {
        let (sender, events) = mpsc::channel(Self::CAPACITY);
        let (reporter, status) = SourceStatus::new();
        reporter.update(|health| (health.connected, health.caught_up) = (true, true));
        // Another log at every start: its offsets begin anew.
        let log = format!("memory-{:016x}", RandomState::new().build_hasher().finish());
        let lane = Arc::new(Lane::new(log, topic, 0));
        let begun = Some(lane.clone());
        let topic = MemoryTopic { lane, events: sender, next: Arc::default() };
        (topic, Self { events, status, begun, _reporter: reporter })
    }
}

impl MemoryTopic {
    /// The lane that its events are in.
    pub fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Writes `value` as JSON and returns its offset. Waits while the source has
    /// [`MemorySource::CAPACITY`] events that nobody has read.
    ///
    /// # Errors
    /// [`MemoryError`]; nothing was written.
    ///
    /// # Cancel safety
    /// Dropping the future writes nothing, or all of it.
    pub async fn send<T: serde::Serialize + ?Sized>(&self, value: &T) -> Result<u64, MemoryError> {
        let json = Json::of(value)?;
        // One lock over number and channel: offsets rise in the order of the lane.
        let mut next = self.next.lock().await;
        let event = Event::from_json(self.lane.clone(), *next, &json).with_time(SystemTime::now());
        self.push(&mut next, event).await
    }

    /// Writes an event with key and bytes as they are.
    ///
    /// # Errors
    /// [`MemoryError::Closed`]; nothing was written.
    ///
    /// # Cancel safety
    /// Dropping the future writes nothing, or all of it.
    pub async fn send_raw(&self, key: Option<Bytes>, payload: Bytes) -> Result<u64, MemoryError> {
        let mut next = self.next.lock().await;
        let event = Event::new(self.lane.clone(), *next, payload).with_key(key);
        self.push(&mut next, event.with_time(SystemTime::now())).await
    }

    async fn push(&self, next: &mut u64, event: Event) -> Result<u64, MemoryError> {
        self.events.send(event).await.map_err(|_| MemoryError::Closed)?;
        let offset = *next;
        *next += 1;
        Ok(offset)
    }
}

impl Source for MemorySource {
    async fn next(&mut self) -> Result<Option<EventBatch>, SourceError> {
        if let Some(lane) = self.begun.take() {
            return Ok(Some(EventBatch { frontier: vec![(lane, 0)], ..EventBatch::default() }));
        }
        let mut events = Vec::new();
        // recv_many is cancel safe: what it has taken it has returned.
        self.events.recv_many(&mut events, Self::MAX_BATCH).await;
        let Some(last) = events.last() else { return Ok(None) };
        let frontier = vec![(last.lane.clone(), last.offset + 1)];
        Ok(Some(EventBatch { events, frontier, ..EventBatch::default() }))
    }

    fn status(&self) -> SourceStatus {
        self.status.clone()
    }
}
