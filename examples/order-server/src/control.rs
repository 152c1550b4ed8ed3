//! What is said to all servers: revocations, through a topic of their own.
//!
//! ```text
//! POST /api/revoke --> control topic --> every server, this one too --> its hub
//! ```
//!
//! A revocation is applied nowhere before it is in the topic: so all servers agree on what
//! is void, also those that start later, which read the topic before they let anybody in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use fanout::{Controls, Hub, Identity, Json, Revocation, SourceStatus};
use kafka_source::KafkaSource;
use kafka_source::rdkafka::error::KafkaError;
use kafka_source::rdkafka::producer::FutureRecord;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::http::chain;
use crate::kafka::Producer;

/// How long a revocation may wait to be written.
const PATIENCE: Duration = Duration::from_secs(5);

/// The control topic, to write to, and how reading it is going.
pub struct Control {
    producer: Producer,
    topic: String,
    hub: Hub,
    status: SourceStatus,
    ended: Arc<AtomicBool>,
    started: SystemTime,
}

/// A revocation is not known to have been written. Trying again does no harm.
#[derive(Debug, thiserror::Error)]
#[error("the revocation was not written: Kafka does not answer")]
pub struct NotWritten(#[source] KafkaError);

/// Why somebody with a good token is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Void {
    /// It was revoked.
    Revoked,
    /// It is too old, now that more was revoked than is remembered.
    Outdated,
    /// No role is left that may do anything.
    NoRole,
    /// Nobody knows yet whether it was revoked: what was said before the start has not been
    /// read.
    Unknown,
}

impl Control {
    /// Writes to `topic` by `producer`; what `controls` reads from there is applied to `hub`,
    /// by the task that is returned, until `stop`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        producer: Producer,
        topic: &str,
        hub: Hub,
        source: KafkaSource,
        stop: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let controls = Controls::new(source, hub.clone());
        let (status, ended) = (controls.status(), Arc::<AtomicBool>::default());
        let task = tokio::spawn(follow(controls, ended.clone(), stop));
        let (topic, started) = (topic.to_owned(), SystemTime::now());
        (Self { producer, topic, hub, status, ended, started }, task)
    }

    /// Writes a revocation, and says what was written. Once this returns, Kafka has it.
    ///
    /// # Errors
    /// [`NotWritten`] where Kafka does not say so in time.
    ///
    /// # Cancel safety
    /// It may be written or not.
    pub async fn revoke(&self, revocation: &Revocation) -> Result<Json, NotWritten> {
        let value = revocation.to_json();
        // One order for all: there is one partition, and no key.
        let record = FutureRecord::<(), _>::to(&self.topic).payload(value.as_str());
        let sent = self.producer.send(record, PATIENCE);
        let sent = match tokio::time::timeout(PATIENCE, sent).await {
            Ok(sent) => sent.map_err(|(error, _)| error),
            Err(_) => Err(KafkaError::Canceled),
        };
        sent.map(|_| value).map_err(NotWritten)
    }

    /// Somebody's identity as it counts now.
    ///
    /// Until the topic has been read once, only what was issued since the start is known to
    /// be good: nothing of before is let in, and a server that is cut off from Kafka serves
    /// who logs in anew.
    ///
    /// # Errors
    /// [`Void`].
    pub fn validate(&self, identity: Identity) -> Result<Identity, Void> {
        let known = self.known();
        let new = self.is_new(&identity) && !known.never_again();
        if !known.all() && !new {
            return Err(Void::Unknown);
        }
        self.hub.validate(identity).map_err(|error| match error {
            fanout::ConnectError::Revoked => Void::Revoked,
            fanout::ConnectError::Outdated => Void::Outdated,
            _ => Void::NoRole,
        })
    }

    /// In whole seconds, as tokens have them.
    fn is_new(&self, identity: &Identity) -> bool {
        let secs = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
        };
        identity.issued_at.is_some_and(|at| secs(at) >= secs(self.started))
    }

    /// Whether all that was said is known.
    pub fn known(&self) -> Known {
        Known { status: self.status.clone(), ended: self.ended.clone() }
    }
}

/// Whether all that was said is known here; a handle that outlives what reads it.
#[derive(Clone, Debug)]
pub struct Known {
    status: SourceStatus,
    ended: Arc<AtomicBool>,
}

impl Known {
    /// Whether everything was read that was said before the start, and reading goes on.
    pub fn all(&self) -> bool {
        self.status.health().caught_up && !self.never_again()
    }

    /// Whether nothing more will be read until the server is started again.
    pub fn never_again(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// How the topic is being read.
    pub fn status(&self) -> &SourceStatus {
        &self.status
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Reads the topic until `stop`. Where it cannot be read any more, nobody is let in any more.
async fn follow(controls: Controls<KafkaSource>, ended: Arc<AtomicBool>, stop: CancellationToken) {
    let error = tokio::select! {
        () = stop.cancelled() => return,
        Err(error) = controls.run() => chain(&error),
        else => "the topic has ended".to_owned(),
    };
    ended.store(true, Ordering::Relaxed);
    tracing::error!(error, "no more revocations are read: nobody is let in; restart the server");
}
