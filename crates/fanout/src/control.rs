//! What is said to all nodes: a control topic, read and applied.

use std::convert::Infallible;
use std::time::{Duration, Instant, SystemTime};

use crate::event::Event;
use crate::hub::Hub;
use crate::position::Lane;
use crate::revocation::{Revocation, RevocationError};
use crate::source::{EventBatch, Source, SourceError, SourceStatus};
use crate::throttle::Throttle;

const READABLE: &str = "fanout_control_readable";

/// Reads a control topic and applies what it says to a hub: revocations, in the form of
/// [`Revocation::to_json`].
///
/// Every node reads all of it, from the beginning or from as long ago as
/// [`Limits::revocation_life`](crate::Limits::revocation_life): what was revoked while a node
/// was not there counts on it too. Let clients in only once it has caught up
/// ([`status`](Self::status)); what was handed on by then is applied.
///
/// A record that is none of these is counted (`fanout_control_records_total`), logged with its
/// position, and passed over. Where the source has lost records, or a lane of it is no more, a
/// revocation may have been missed: that is logged as an error. A topic that cannot be read now,
/// such as one that was deleted, is in the source's status; `fanout_control_readable` is 0 then.
///
/// ```no_run
/// # async fn run(source: fanout::MemorySource, hub: fanout::Hub) {
/// let controls = fanout::Controls::new(source, hub);
/// let status = controls.status();
/// tokio::spawn(controls.run());
/// // ... and ready only while `status.health().whole()`.
/// # }
/// ```
pub struct Controls<S> {
    source: S,
    hub: Hub,
    throttle: Throttle,
}

impl<S: Source> Controls<S> {
    /// From `source` to `hub`.
    ///
    /// A source that is not [`RESUMABLE`](Source::RESUMABLE) does not compile: it hands each
    /// record to one of several nodes.
    pub fn new(source: S, hub: Hub) -> Self {
        const { assert!(S::RESUMABLE, "every node has to read all of a control topic") };
        Self { source, hub, throttle: Throttle::new(10, Duration::from_secs(1)) }
    }

    /// How the source is doing. Once it has caught up, all that was said before is applied.
    pub fn status(&self) -> SourceStatus {
        self.source.status()
    }

    /// Runs until the source ends.
    ///
    /// # Errors
    /// [`SourceError`] where the source has ended for good: nothing that is revoked from then
    /// on reaches this node.
    ///
    /// # Cancel safety
    /// Dropping the future loses what was read and not yet applied; whoever reads the topic
    /// anew comes by it again.
    pub async fn run(mut self) -> Result<(), SourceError> {
        let mut readable = Readable(self.status());
        tokio::select! {
            ended = self.apply() => ended,
            never = readable.tell() => match never {},
        }
    }

    async fn apply(&mut self) -> Result<(), SourceError> {
        while let Some(batch) = self.source.next().await? {
            let said = self.read(&batch);
            if !said.is_empty() {
                self.hub.revoke_all(said).await;
            }
        }
        Ok(())
    }

    /// What a batch says, and when.
    fn read(&mut self, batch: &EventBatch) -> Vec<(Revocation, SystemTime)> {
        for lane in &batch.lost {
            self.missing(lane, "records were deleted before they were read");
        }
        let mut said = Vec::with_capacity(batch.events.len());
        for event in &batch.events {
            match parse(event) {
                Ok(control) => {
                    count("applied");
                    said.push(control);
                }
                Err(error) => self.refuse(event, &error),
            }
        }
        for lane in &batch.closed {
            self.missing(lane, "the lane is no more");
        }
        said
    }

    fn refuse(&mut self, event: &Event, error: &RevocationError) {
        count("refused");
        if let Some(held_back) = self.throttle.pass(Instant::now()) {
            let (lane, offset) = (&event.lane, event.offset);
            tracing::error!(%lane, offset, %error, held_back, "control record passed over");
        }
    }

    fn missing(&mut self, lane: &Lane, problem: &str) {
        count("lost");
        if let Some(held_back) = self.throttle.pass(Instant::now()) {
            tracing::error!(%lane, problem, held_back, "a revocation may be missed");
        }
    }
}

/// Tells in numbers whether anything may be missed; of what is no longer read, something may.
struct Readable(SourceStatus);

impl Readable {
    async fn tell(&mut self) -> Infallible {
        let mut told = None;
        while self.0.wait_for(|health| told != Some(health.whole())).await {
            let whole = self.0.health().whole();
            metrics::gauge!(READABLE).set(f64::from(u8::from(whole)));
            told = Some(whole);
        }
        // Whoever reads notices by itself that there is no source any more.
        std::future::pending().await
    }
}

impl Drop for Readable {
    fn drop(&mut self) {
        metrics::gauge!(READABLE).set(0.0);
    }
}

fn parse(event: &Event) -> Result<(Revocation, SystemTime), RevocationError> {
    // A record without a time was said no later than it is read.
    let said = Some(event.time).filter(|time| *time > SystemTime::UNIX_EPOCH);
    let said = said.unwrap_or_else(SystemTime::now);
    Ok((Revocation::from_json(&event.payload, said)?, said))
}

fn count(outcome: &'static str) {
    metrics::counter!("fanout_control_records_total", "outcome" => outcome).increment(1);
}

impl<S> std::fmt::Debug for Controls<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controls").field("hub", &self.hub).finish_non_exhaustive()
    }
}
