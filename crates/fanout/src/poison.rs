//! Records that cannot be used.
//!
//! A record is poison where it cannot be decoded, a router refuses it, or either panics
//! over it: trying again cannot help. What is done about it is a policy, and concerns the
//! record's lane alone.
//!
//! ```text
//!            Skip:        counted, logged, passed over
//!  poison -->DeadLetters: written elsewhere meanwhile, passed over --not written--.
//!            Halt:        its lane is read no more  <-----------------------------'
//! ```
//!
//! Invariants: nothing behind the record that halted a lane is handed on; where offsets are
//! acknowledged, none is beyond a record that halted its lane or whose letter is not
//! written. Letters under way are bounded: while there are too many, nothing more is read.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rustc_hash::FxHashMap;

use crate::decode::DecodeError;
use crate::event::Event;
use crate::position::Lane;
use crate::router::RouteError;
use crate::throttle::Throttle;

/// What is done about a record that cannot be used; see
/// [`Pipeline::poison`](crate::Pipeline::poison).
///
/// Each is counted (`fanout_poison_records_total`) and logged with its position and reason
/// when it is first read, up to ten a second; those above are counted in the next line.
#[derive(Default)]
#[non_exhaustive]
pub enum Poison {
    /// It is passed over. The default.
    #[default]
    Skip,
    /// Its lane is read no more: nothing behind it is handed on until somebody has mended
    /// what is wrong and the process starts again. Other lanes go on.
    Halt,
    /// It is written to a place for such, and passed over. What waits to be written delays
    /// nothing, up to [`MAX_LETTERS`](Self::MAX_LETTERS) records or
    /// [`MAX_LETTER_BYTES`](Self::MAX_LETTER_BYTES): then reading waits. A letter that could not
    /// be written halts its lane.
    ///
    /// Where every node reads everything, every node writes a letter: whoever reads them
    /// tells the same record by its lane and offset.
    DeadLetters(Box<dyn DeadLetters>),
}

impl Poison {
    /// Most letters that may be under way.
    pub const MAX_LETTERS: usize = 1000;
    /// Bytes of letters under way after which no more is read.
    pub const MAX_LETTER_BYTES: usize = 16 << 20;
}

impl fmt::Debug for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Skip => "Skip",
            Self::Halt => "Halt",
            Self::DeadLetters(_) => "DeadLetters",
        })
    }
}

/// Where records go that cannot be used: to a topic of Kafka by
/// `kafka_source::KafkaDeadLetters`.
pub trait DeadLetters: Send + 'static {
    /// Begins to write a letter. The future is done once it is safe, or cannot be: an
    /// implementation tries again by itself, for as long as it sees fit and not for ever.
    fn write(&mut self, letter: DeadLetter) -> BoxFuture<'static, Result<(), DeadLetterError>>;
}

/// A record that could not be used, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The record as it was read, before it was decoded.
    pub event: Event,
    /// The kind of trouble, as in metrics.
    pub reason: &'static str,
    /// What was wrong, for people.
    pub error: String,
    /// When it was found to be.
    pub time: SystemTime,
}

/// Why a letter was not written.
#[derive(Debug, thiserror::Error)]
#[error("dead letter not written: {0}")]
pub struct DeadLetterError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("cannot be decoded: {0}")]
    Undecodable(#[from] DecodeError),
    #[error("refused by the router: {0}")]
    Unroutable(RouteError),
    #[error("{by} panicked: {message}")]
    Panicked { by: &'static str, message: String },
}

impl Unusable {
    fn reason(&self) -> &'static str {
        match self {
            Self::Undecodable(error) => error.reason(),
            Self::Unroutable(_) => "unroutable",
            Self::Panicked { .. } => "panic",
        }
    }
}

/// What somebody panicked with.
pub(crate) fn panicked(by: &'static str, payload: &(dyn std::any::Any + Send)) -> Unusable {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    Unusable::Panicked { by, message: text.unwrap_or_else(|| "without words".into()) }
}

/// A letter that is done with.
pub(crate) struct Settled {
    lane: Arc<Lane>,
    offset: u64,
    bytes: usize,
    result: Result<(), DeadLetterError>,
}

/// A lane that is to be read no more.
#[derive(Debug)]
pub(crate) struct Halted {
    pub(crate) lane: Arc<Lane>,
    pub(crate) problem: String,
}

/// Keeps to the policy, for one pipeline.
pub(crate) struct Poisoned {
    policy: Poison,
    halted: FxHashMap<Arc<Lane>, u64>,
    letters: FuturesUnordered<BoxFuture<'static, Settled>>,
    letter_bytes: usize,
    /// By lane, the offsets of letters that are not written.
    unwritten: FxHashMap<Arc<Lane>, std::collections::BTreeSet<u64>>,
    log: Throttle,
}

impl Poisoned {
    pub(crate) fn new(policy: Poison) -> Self {
        Self {
            policy,
            halted: FxHashMap::default(),
            letters: FuturesUnordered::new(),
            letter_bytes: 0,
            unwritten: FxHashMap::default(),
            log: Throttle::new(10, Duration::from_secs(1)),
        }
    }

    /// Whether a lane is read no more.
    pub(crate) fn is_halted(&self, lane: &Arc<Lane>) -> bool {
        !self.halted.is_empty() && self.halted.contains_key(lane)
    }

    /// Deals with a record that cannot be used. What comes back is halted by it.
    pub(crate) fn found(&mut self, record: &Event, unusable: &Unusable) -> Option<Halted> {
        let reason = unusable.reason();
        let topic = record.topic().to_owned();
        metrics::counter!("fanout_poison_records_total", "topic" => topic, "reason" => reason)
            .increment(1);
        if let Some(held_back) = self.log.pass(Instant::now()) {
            let (lane, offset, policy) = (&record.lane, record.offset, &self.policy);
            if matches!(policy, Poison::Skip) {
                tracing::error!(%lane, offset, reason, held_back, ?policy, "record {unusable}");
            } else {
                tracing::warn!(%lane, offset, reason, held_back, ?policy, "record {unusable}");
            }
        }
        match &mut self.policy {
            Poison::Skip => None,
            Poison::Halt => self.halt(&record.lane, record.offset, &unusable.to_string()),
            Poison::DeadLetters(letters) => {
                let (lane, offset) = (record.lane.clone(), record.offset);
                let bytes = size_of_record(record);
                let event = record.clone();
                let (error, time) = (unusable.to_string(), SystemTime::now());
                let written = letters.write(DeadLetter { event, reason, error, time });
                self.letter_bytes += bytes;
                self.unwritten.entry(lane.clone()).or_default().insert(offset);
                self.letters.push(Box::pin(async move {
                    Settled { lane, offset, bytes, result: written.await }
                }));
                None
            }
        }
    }

    /// Whether so much waits to be written that nothing more is to be read.
    pub(crate) fn is_full(&self) -> bool {
        self.letters.len() >= Poison::MAX_LETTERS || self.letter_bytes >= Poison::MAX_LETTER_BYTES
    }

    /// The next letter that is done with; waits for ever where none is under way.
    ///
    /// Cancel safe.
    pub(crate) async fn settled(&mut self) -> Settled {
        match self.letters.next().await {
            Some(settled) => settled,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn has_letters(&self) -> bool {
        !self.letters.is_empty()
    }

    /// Notes that a letter is done with. What comes back is halted by it.
    pub(crate) fn settle(&mut self, settled: Settled) -> Option<Halted> {
        let Settled { lane, offset, bytes, result } = settled;
        self.letter_bytes -= bytes;
        let name = if result.is_ok() { "written" } else { "failed" };
        metrics::counter!("fanout_dead_letters_total", "result" => name).increment(1);
        match result {
            Ok(()) => {
                if let Some(unwritten) = self.unwritten.get_mut(&lane) {
                    unwritten.remove(&offset);
                    if unwritten.is_empty() {
                        self.unwritten.remove(&lane);
                    }
                }
                None
            }
            // It stays unwritten: nothing beyond it is acknowledged.
            Err(error) if self.unwritten.get(&lane).is_some_and(|all| all.contains(&offset)) => {
                self.halt(&lane, offset, &error.to_string())
            }
            // The lane was closed meanwhile: there is nothing to hold back.
            Err(error) => {
                tracing::error!(%lane, offset, %error, "a letter of a lane that is closed");
                None
            }
        }
    }

    fn halt(&mut self, lane: &Arc<Lane>, offset: u64, why: &str) -> Option<Halted> {
        if self.is_halted(lane) {
            return None;
        }
        self.halted.insert(lane.clone(), offset);
        metrics::gauge!("fanout_halted_lanes").set(self.halted.len() as f64);
        let problem = format!("{lane} is halted at {offset}: {why}");
        tracing::error!(%lane, offset, "read no more until a restart: {why}");
        Some(Halted { lane: lane.clone(), problem })
    }

    /// How far a lane may be acknowledged that was handed on up to `next`.
    pub(crate) fn acknowledged(&self, lane: &Arc<Lane>, next: u64) -> u64 {
        let unwritten = self.unwritten.get(lane).and_then(|offsets| offsets.first());
        let halted = self.halted.get(lane);
        [unwritten, halted].into_iter().flatten().copied().fold(next, u64::min)
    }

    /// A lane is no more.
    pub(crate) fn close(&mut self, lane: &Arc<Lane>) {
        if self.halted.remove(lane).is_some() {
            metrics::gauge!("fanout_halted_lanes").set(self.halted.len() as f64);
        }
        self.unwritten.remove(lane);
    }
}

fn size_of_record(record: &Event) -> usize {
    let headers = record.headers.iter().map(|(name, value)| name.len() + value.len());
    record.payload.len() + record.key.as_ref().map_or(0, bytes::Bytes::len) + headers.sum::<usize>()
}
