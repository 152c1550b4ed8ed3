//! From the outbox to Kafka, in the order of writing, by one server at a time.
//!
//! ```text
//! outbox -> a wave: the oldest records, up to the second one of any order
//!        -> all of it to Kafka -> what Kafka has is removed -> the next wave
//! ```
//!
//! A record is removed only once Kafka has it: after a crash in between it is
//! published twice, never not at all. A wave has at most one record of an order, so
//! that one which fails is not overtaken by the next of its order; records that cannot
//! be published now stay, and are the first of the next try.
//!
//! # Who relays
//!
//! Servers that share a data folder all have a relay, and one of them holds the lease
//! ([`store::Lease`](Lease)), a row beside the outbox: holder, term, until when.
//!
//! ```text
//!            the lease is free: a term of its own
//! standing by ---------------------------------------> relaying: checks before each wave,
//!      ^                                                renews with 4 of 5 s left
//!      '--- stopped: releases it ------------------------------'
//!      '--- cut off, and another would: gives it up -----------'
//!      '--- paused or starved: another has it since -----------'
//! ```
//!
//! - **Killed**: the lease expires, and another takes it within 5 s.
//! - **Paused**: the same. When it goes on it asks the database before it sends, and by
//!   its own clock right before it hands records to the producer. What still waits in the
//!   producer is thrown away as soon as the loss is seen, which is at most a second later.
//! - **Cut off from Kafka**: one that stands by, reaches Kafka, and sees the same record
//!   wait for 2 s says so in the row. The one who relays, where Kafka has acknowledged
//!   nothing for 3 s, throws away what waits in the producer and releases the lease.
//!   Where nobody reaches Kafka nobody says so, and the holder goes on trying: giving up
//!   a record that may be on its way is what doubles it.
//!
//! # What one that lost the lease can still do
//!
//! The lease fences the database, not Kafka. A process can be paused after the check and
//! before the record leaves it, or between Kafka's acknowledgement and the removal; bytes
//! that the system holds for a broken connection may arrive later. Then a record is
//! published twice, and the second one can come after later records of its order. Nothing
//! is ever missing, and no record can say anything new: both have the same order and
//! version, and who applies a record over a lower version only sees it once. Those who
//! count events see two, as after a crash.
//!
//! Kafka's transactions would fence the producer, for a transaction a wave and consumers
//! that read committed ones only. They would not end the doubling: who takes over cannot
//! know whether the last wave, acknowledged or not, was written, since Kafka and SQLite
//! commit apart. So there are none. For the same reason what Kafka has is removed by
//! whoever published it, with the lease or without.

mod standby;
mod status;

use std::collections::HashSet;
use std::time::Duration;

use kafka_source::Bootstrap;
use kafka_source::rdkafka::error::KafkaError;
use kafka_source::rdkafka::producer::{DeliveryFuture, FutureRecord, Producer as _, PurgeConfig};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

pub use status::RelayStatus;

use self::standby::{Standby, Step};
use crate::http::chain;
use crate::kafka::Producer;
use crate::order::random_id;
use crate::record::Record;
use crate::store::{Before, Kept, Lease, Store, StoreError, Waiting};

/// Most records of a wave.
const WAVE: u32 = 100;

/// How soon what other servers wrote is noticed; one's own is at once.
const LOOK: Duration = Duration::from_millis(50);

/// How soon one that stands by notices that the lease is free.
const STANDBY_LOOK: Duration = Duration::from_millis(200);

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Short, since each try lasts for as long as the producer waits for a broker.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// How often the lease is kept while a wave is on its way. After as long without an
/// acknowledgement Kafka may be away.
const TICK: Duration = Duration::from_secs(1);

/// After which without an acknowledgement another may have the lease who wants it.
const CUT_OFF: Duration = Duration::from_secs(3);

/// Whether Kafka can be reached, as far as somebody else here knows.
pub type Reachable = dyn Fn() -> bool + Send + Sync;

/// Publishes what the outbox holds, while it holds the lease.
pub struct Relay {
    store: Store,
    producer: Producer,
    bootstrap: Bootstrap,
    holder: String,
    reachable: Box<Reachable>,
    status: RelayStatus,
    trouble: Trouble,
}

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("the outbox cannot be read or cleared")]
    Store(#[from] StoreError),
    #[error("Kafka did not take {0} of the records that wait")]
    Kafka(usize, #[source] KafkaError),
}

/// How a term ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stopped,
    Lost,
    CutOff,
}

/// A wave on its way.
struct Watch<'a> {
    lease: &'a Lease,
    /// Until when nobody else can have the lease.
    valid: Instant,
    tick: Instant,
    /// When Kafka acknowledged something last, or the wave began.
    acknowledged: Instant,
    end: Option<End>,
}

impl Relay {
    /// From this store, with this producer. `reachable` tells whether it is worth while
    /// to take over from another.
    ///
    /// # Errors
    /// Where the system gives no random numbers: relays tell each other apart by them.
    pub fn new(
        store: Store,
        producer: Producer,
        reachable: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<Self, getrandom::Error> {
        Ok(Self {
            store,
            producer,
            bootstrap: Bootstrap::default(),
            holder: random_id("relay_", 10)?,
            reachable: Box::new(reachable),
            status: RelayStatus::default(),
            trouble: Trouble::default(),
        })
    }

    /// Whether it relays now.
    pub fn status(&self) -> RelayStatus {
        self.status.clone()
    }

    /// Stands by and publishes until it is stopped; then finishes its wave and lets
    /// another server go on.
    ///
    /// # Cancel safety
    /// What has been published and not yet removed is published again by the next
    /// relay, once the lease has expired.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut cut_off = false;
        while let Some(lease) = self.stand_by(cut_off, &stop).await {
            self.status.set(true);
            let end = self.lead(&lease, &stop).await;
            self.status.set(false);
            if end == End::Lost {
                tracing::warn!(term = lease.term, "another server relays orders since");
            } else {
                if end == End::CutOff {
                    tracing::warn!(term = lease.term, "cut off from Kafka: another relays orders");
                }
                if let Err(error) = self.store.release_lease(lease).await {
                    tracing::debug!(error = %chain(&error), "the relay's lease was not released");
                }
            }
            cut_off = end == End::CutOff;
        }
        // Closing the client can block.
        let producer = self.producer;
        let _ = tokio::task::spawn_blocking(move || drop(producer)).await;
    }

    /// Waits until the lease is its own; `None` where it is stopped before.
    async fn stand_by(&mut self, cut_off: bool, stop: &CancellationToken) -> Option<Lease> {
        let mut standby = Standby::new(cut_off);
        loop {
            if stop.is_cancelled() {
                return None;
            }
            let wait = match self.try_lease(&mut standby).await {
                Ok(Some((lease, before))) => {
                    status::count_takeover(before);
                    tracing::info!(term = lease.term, ?before, "this server relays orders");
                    return Some(lease);
                }
                Ok(None) => STANDBY_LOOK,
                Err(error) => self.trouble.wait(&error.into()),
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(wait) => {}
            }
        }
    }

    async fn try_lease(
        &self,
        standby: &mut Standby,
    ) -> Result<Option<(Lease, Before)>, StoreError> {
        let look = self.store.look_at_lease().await?;
        match standby.step(look, (self.reachable)(), Instant::now()) {
            Step::Wait => Ok(None),
            Step::Take => self.store.take_lease(self.holder.clone()).await,
            Step::Want => self.store.want_lease().await.map(|()| None),
        }
    }

    /// Publishes as long as the lease is its own.
    async fn lead(&mut self, lease: &Lease, stop: &CancellationToken) -> End {
        while !stop.is_cancelled() {
            let wait = match self.publish(lease).await {
                Ok(Next::Wave) => {
                    self.trouble.is_over();
                    continue;
                }
                Ok(Next::Ask) => continue,
                Ok(Next::Wait) => None,
                Ok(Next::End(end)) => return end,
                Err(error) => Some(self.trouble.wait(&error)),
            };
            let woken = async {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => {
                        let _ = tokio::time::timeout(LOOK, self.store.outbox_changed()).await;
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = woken => {}
            }
        }
        End::Stopped
    }

    /// Asks for a wave and publishes it.
    async fn publish(&mut self, lease: &Lease) -> Result<Next, RelayError> {
        let asked = Instant::now();
        let Some((kept, mut waiting)) = self.store.next_wave(lease.clone(), WAVE).await? else {
            return Ok(Next::End(End::Lost));
        };
        if kept.wanted && self.trouble.is_on() {
            return Ok(Next::End(End::CutOff));
        }
        waiting.truncate(wave_len(&waiting));
        if waiting.is_empty() {
            return Ok(Next::Wait);
        }
        let now = Instant::now();
        let valid = valid_until(asked, kept);
        // Paused since it asked.
        if now >= valid {
            return Ok(Next::Ask);
        }
        let mut watch = Watch { lease, valid, tick: now + TICK, acknowledged: now, end: None };
        self.wave(waiting, &mut watch).await?;
        Ok(watch.end.map_or(Next::Wave, Next::End))
    }

    /// Publishes one wave, and removes what Kafka has of it.
    async fn wave(
        &mut self,
        waiting: Vec<Waiting>,
        watch: &mut Watch<'_>,
    ) -> Result<(), RelayError> {
        let sent: Vec<_> = waiting.iter().map(|row| (row.id, self.send(&row.record))).collect();
        let (mut published, mut failed) = (Vec::new(), None);
        for (id, sent) in sent {
            match self.delivered(sent, watch).await {
                Ok(()) => published.push(id),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        metrics::counter!("order_server_records_published_total").increment(published.len() as u64);
        let left = waiting.len() - published.len();
        if !published.is_empty() {
            self.store.published(published).await?;
        }
        match failed {
            // Without the lease what is left is not this relay's to worry about.
            Some(error) if watch.end.is_none() => Err(RelayError::Kafka(left, error)),
            _ => Ok(()),
        }
    }

    fn send(&self, record: &Record) -> Result<DeliveryFuture, KafkaError> {
        let message = FutureRecord::to(&record.topic).key(&record.key).payload(&record.payload);
        self.producer.send_result(message).map_err(|(error, _)| error)
    }

    async fn delivered(
        &mut self,
        sent: Result<DeliveryFuture, KafkaError>,
        watch: &mut Watch<'_>,
    ) -> Result<(), KafkaError> {
        let mut delivery = sent?;
        loop {
            match timeout_at(watch.tick, &mut delivery).await {
                Ok(Ok(Ok(_))) => {
                    self.bootstrap.worked();
                    watch.acknowledged = Instant::now();
                    return Ok(());
                }
                Ok(Ok(Err((error, _)))) => return Err(error),
                // The producer is gone, and the record was not acknowledged.
                Ok(Err(_)) => return Err(KafkaError::Canceled),
                Err(_) => self.tick(watch).await,
            }
        }
    }

    /// Keeps the lease while a wave is on its way. Where it is not to be kept, what Kafka
    /// has not acknowledged is thrown away: it is the next one's.
    async fn tick(&mut self, watch: &mut Watch<'_>) {
        let asked = Instant::now();
        watch.tick = asked + TICK;
        if watch.end.is_some() {
            return;
        }
        let silent = asked - watch.acknowledged;
        if silent >= TICK {
            self.bootstrap.failed(self.producer.client());
        }
        match self.store.keep_lease(watch.lease.clone()).await {
            Ok(Some(kept)) => {
                watch.valid = valid_until(asked, kept);
                watch.end = (kept.wanted && silent >= CUT_OFF).then_some(End::CutOff);
            }
            Ok(None) => watch.end = Some(End::Lost),
            // Nobody knows who has it, and another may.
            Err(_) if Instant::now() >= watch.valid => watch.end = Some(End::Lost),
            Err(_) => {}
        }
        if watch.end.is_some() {
            self.producer.purge(PurgeConfig::default().queue().inflight());
        }
    }
}

/// What a relay does next.
enum Next {
    /// Look for the next wave: this one is published.
    Wave,
    /// Ask again, since too much time has passed.
    Ask,
    /// Wait until there is something.
    Wait,
    End(End),
}

/// Until when a lease lasts of which so much was left after `asked`.
fn valid_until(asked: Instant, kept: Kept) -> Instant {
    asked + Duration::from_millis(kept.left.unsigned_abs())
}

/// How many of these are of different orders, from the first on.
fn wave_len(waiting: &[Waiting]) -> usize {
    let mut keys = HashSet::new();
    waiting.iter().take_while(|row| keys.insert(row.record.key.as_str())).count()
}

/// What goes wrong, told of once and not once a try.
#[derive(Default)]
struct Trouble(Option<Duration>);

impl Trouble {
    fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// How long to wait after this one.
    fn wait(&mut self, error: &RelayError) -> Duration {
        if self.0.is_none() {
            tracing::warn!(error = %chain(error), "orders wait to be published");
        }
        metrics::counter!("order_server_relay_failures_total").increment(1);
        let wait = self.0.map_or(FIRST_BACKOFF, |before| (before * 2).min(MAX_BACKOFF));
        self.0 = Some(wait);
        wait
    }

    fn is_over(&mut self) {
        if self.0.take().is_some() {
            tracing::info!("orders are published again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_ends_before_the_second_record_of_an_order() {
        let row = |(id, key): (i64, &str)| {
            let record = Record { topic: "t".into(), key: key.into(), payload: vec![] };
            Waiting { id, record }
        };
        for (keys, len) in [("", 0), ("a", 1), ("abc", 3), ("aab", 1), ("abcbd", 3)] {
            let keys: Vec<_> = keys.split("").filter(|key| !key.is_empty()).collect();
            let waiting: Vec<_> = (0..).zip(keys).map(row).collect();
            assert_eq!(wave_len(&waiting), len, "{waiting:?}");
        }
    }
}
