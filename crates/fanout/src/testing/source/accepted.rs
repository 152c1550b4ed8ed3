//! The contract of sources that are told what was accepted, instead of having positions.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Reading, SourceHarness, SourceWriter as _, ended, next, ready, records};
use crate::position::Lane;
use crate::source::{EventBatch, Source};

/// What was accepted does not come again once the source was closed and opened, and all
/// that was handed on and not accepted does, each lane's in its order.
///
/// A harness whose source is [`RESUMABLE`](Source::RESUMABLE), or that does not
/// [`reopen`](SourceHarness::reopen), passes.
///
/// # Panics
/// Where something is missing, doubled or out of order.
pub async fn goes_on_with_what_was_not_accepted<H: SourceHarness>(harness: &mut H) {
    if H::Source::RESUMABLE {
        return;
    }
    let (mut source, mut writer) = harness.open().await;
    let written = records(1000);
    let mut reading = Reading::new(&written, harness.max_batch());
    ready(&mut source, &mut reading).await;
    let writing = tokio::spawn(async move {
        for piece in written.chunks(37) {
            writer.write(piece.to_vec()).await;
        }
        writer
    });
    let mut handed: HashMap<Arc<Lane>, Vec<u64>> = HashMap::new();
    let mut accepted: HashMap<Arc<Lane>, u64> = HashMap::new();
    let mut read = 0;
    while !reading.complete() {
        let batch = next(&mut source).await.expect("the source ended while it was written");
        for event in &batch.events {
            handed.entry(event.lane.clone()).or_default().push(event.offset);
        }
        // The first half; more than once, as a pipeline does.
        if read < 500 {
            let places = places(&batch);
            source.accepted(&places);
            source.accepted(&places);
            accepted.extend(places);
        }
        read += batch.events.len();
        reading.take(Some(batch));
    }
    let writer = ended(writing).await;
    assert!(!accepted.is_empty(), "nothing was accepted");

    let Some(mut source) = harness.reopen(source, &writer).await else { return };
    let mut due: HashMap<Arc<Lane>, Vec<u64>> = HashMap::new();
    for (lane, offsets) in handed {
        let from = accepted.get(&lane).copied().unwrap_or(0);
        let left: Vec<u64> = offsets.into_iter().filter(|offset| *offset >= from).collect();
        if !left.is_empty() {
            due.insert(lane, left);
        }
    }
    let later = records(1);
    let mut writer = writer;
    // What is written now comes behind it.
    writer.write(later.clone()).await;
    let mut again: HashMap<Arc<Lane>, Vec<u64>> = HashMap::new();
    let left: usize = due.values().map(Vec::len).sum();
    let mut come = 0;
    let mut is_later = false;
    while come < left + 1 {
        let batch = next(&mut source).await.expect("the source ended");
        for event in &batch.events {
            come += 1;
            let offsets = again.entry(event.lane.clone()).or_default();
            assert!(offsets.last() < Some(&event.offset), "{}: out of order", event.lane);
            offsets.push(event.offset);
            let next = accepted.get(&event.lane).copied().unwrap_or(0);
            assert!(event.offset >= next, "{} was accepted before {next}", event.lane);
            is_later |= event.payload == later[0].payload;
        }
    }
    assert!(is_later, "what was written later did not come");
    for (lane, offsets) in due {
        let again = again.get(&lane).map_or(&[][..], Vec::as_slice);
        assert!(again.starts_with(&offsets), "{lane}: {again:?} is not {offsets:?}");
    }
    drop(writer);
}

/// What a pipeline accepts once it has taken a batch.
fn places(batch: &EventBatch) -> Vec<(Arc<Lane>, u64)> {
    let events = batch.events.iter().map(|event| (event.lane.clone(), event.offset + 1));
    let mut places: HashMap<Arc<Lane>, u64> = HashMap::new();
    for (lane, next) in events.chain(batch.frontier.iter().cloned()) {
        let place = places.entry(lane).or_default();
        *place = next.max(*place);
    }
    places.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::watch;

    use super::super::{Record, SourceWriter, source_contract};
    use super::*;
    use crate::event::Event;
    use crate::source::{SourceError, SourceReporter, SourceStatus};

    /// What is wrong with it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fault {
        None,
        /// It goes on behind what was handed on, accepted or not.
        Skips,
        /// It goes on from the beginning.
        Forgets,
    }

    /// One lane, and how far it was accepted.
    #[derive(Clone)]
    struct Log {
        events: Arc<Mutex<Vec<Event>>>,
        written: watch::Sender<usize>,
        committed: Arc<Mutex<usize>>,
    }

    struct Member {
        fault: Fault,
        log: Log,
        written: watch::Receiver<usize>,
        read: usize,
        _reporter: SourceReporter,
        status: SourceStatus,
    }

    impl Member {
        fn new(fault: Fault, log: &Log) -> Self {
            let (reporter, status) = SourceStatus::new();
            reporter.update(|health| (health.connected, health.caught_up) = (true, true));
            let (read, written) = (*log.committed.lock().unwrap(), log.written.subscribe());
            Self { fault, log: log.clone(), written, read, _reporter: reporter, status }
        }
    }

    impl Source for Member {
        const RESUMABLE: bool = false;

        async fn next(&mut self) -> Result<Option<EventBatch>, SourceError> {
            let read = self.read;
            if self.written.wait_for(|written| *written > read).await.is_err() {
                return Ok(None);
            }
            let events: Vec<_> =
                self.log.events.lock().unwrap()[read..].iter().take(50).cloned().collect();
            self.read += events.len();
            if self.fault == Fault::Skips {
                *self.log.committed.lock().unwrap() = self.read;
            }
            Ok(Some(EventBatch { events, ..EventBatch::default() }))
        }

        fn status(&self) -> SourceStatus {
            self.status.clone()
        }

        fn accepted(&mut self, places: &[(Arc<Lane>, u64)]) {
            if self.fault == Fault::None {
                let next = places.iter().map(|(_, next)| *next as usize).max();
                *self.log.committed.lock().unwrap() = next.expect("a place");
            }
        }
    }

    impl SourceWriter for Log {
        async fn write(&mut self, records: Vec<Record>) {
            let mut events = self.events.lock().unwrap();
            for Record { key, payload } in records {
                let lane = Arc::new(Lane::new("log", "t", 0));
                let event = Event::new(lane, events.len() as u64, payload);
                events.push(event.with_key(Some(key)));
            }
            self.written.send_replace(events.len());
        }
    }

    impl SourceHarness for Fault {
        type Source = Member;
        type Writer = Log;

        async fn open(&mut self) -> (Member, Log) {
            let (events, committed) = (Arc::default(), Arc::default());
            let log = Log { events, written: watch::Sender::new(0), committed };
            (Member::new(*self, &log), log)
        }

        async fn reopen(&mut self, source: Member, log: &Log) -> Option<Member> {
            drop(source);
            Some(Member::new(*self, log))
        }

        fn max_batch(&self) -> usize {
            50
        }
    }

    async fn passes(mut fault: Fault) -> bool {
        tokio::spawn(async move { source_contract(&mut fault).await }).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_forgets_or_skips_what_was_not_accepted_is_noticed() {
        assert!(passes(Fault::None).await);
        assert!(!passes(Fault::Skips).await);
        assert!(!passes(Fault::Forgets).await);
    }
}
