//! What hub and shards share: the log, the rooms, the bounds, and where each shard is
//! woken.
//!
//! Publishers append here and wake the shards; a publisher waits here while the slowest
//! shard is too far from the log's head. Connections are in none of it: they are their
//! shard's.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant, SystemTime};

use futures::task::AtomicWaker;
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::error::{ConnectError, PublishError};
use crate::frame::{Entry, EntryBody, Protocol, ProtocolId, ProtocolRef};
use crate::keys::Keyring;
use crate::lanes::{KnownLane, Lanes};
use crate::limits::Limits;
use crate::log::{Append, Batch, Keep, Log, LogStats, Moved};
use crate::metrics::Counts;
use crate::overflow::{Overflow, Policy, Rules};
use crate::position::{Lane, LaneId, Position};
use crate::redact::Redaction;
use crate::replay::{Replays, Verdict};
use crate::revoked::Revoked;
use crate::role::Access;
use crate::room::RoomPattern;
use crate::room_table::{RoomRef, RoomTable};
use crate::router::{Body, Emission};
use crate::shard_task::ConnectionWaker;
use crate::sink::Token;
use crate::sync;

/// What a hub is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that are in their rooms.
    pub connections: usize,
    /// Those of them whose sockets the shards poll themselves.
    pub sockets: usize,
    /// Rooms that anybody is in, or anything in the log is for.
    pub rooms: usize,
    /// Frames taken by sinks since the hub began.
    pub deliveries: u64,
    /// Bytes taken by sinks since the hub began.
    pub delivered_bytes: u64,
    /// Connections that are behind: their sockets have not taken all that they are to get.
    pub behind: usize,
    /// Times that a connection went from live to behind.
    pub fell_behind: u64,
    /// Times that the oldest of what a slow connection had pending were dropped.
    pub overflows: u64,
    /// Emissions that a slow connection was spared because a newer one of the same key
    /// stood for them.
    pub conflated: u64,
    /// Bytes that the slowest shard has not read.
    pub lag_bytes: u64,
    /// What the log holds.
    pub log: LogStats,
}

/// What hub and shards share.
pub(crate) struct Shared {
    /// Tells this hub's connections from those of others.
    pub(crate) id: u64,
    pub(crate) log: Log,
    pub(crate) rooms: RoomTable,
    pub(crate) lanes: Lanes,
    pub(crate) replays: Replays,
    pub(crate) access: Access,
    pub(crate) redaction: Redaction,
    pub(crate) limits: Limits,
    pub(crate) shards: Box<[Mailbox]>,
    pub(crate) revoked: sync::Mutex<Revoked>,
    protocols: RwLock<Vec<Arc<dyn Protocol>>>,
    /// Connections, and those on their way to a shard.
    admitted: AtomicUsize,
    closed: AtomicBool,
    /// A shard has read on, for publishers that wait.
    progress: Notify,
    waiting: AtomicUsize,
}

/// Where a shard is woken, and by whom.
#[derive(Default)]
pub(crate) struct Mailbox {
    pub(crate) waker: AtomicWaker,
    /// Connections whose wakers were woken, each once.
    pub(crate) woken: Mutex<Vec<Arc<ConnectionWaker>>>,
    /// What became of those who asked for a replay.
    pub(crate) verdicts: Mutex<Vec<(Token, Verdict)>>,
    /// Whether a replay has more than before, or is done.
    pub(crate) replay_moved: AtomicBool,
    pub(crate) counts: Counts,
}

impl Shared {
    pub(crate) fn new(
        access: Access,
        limits: Limits,
        overflow: &[(RoomPattern, Overflow)],
        keys: Keyring,
        shards: usize,
        now: Instant,
    ) -> Self {
        let keep = Keep { bytes: limits.log_bytes, age: limits.log_age };
        let mut id = [0; 8];
        getrandom::fill(&mut id).expect("the operating system gives random bytes");
        let revoked = Revoked::new(limits.revocations, limits.revocation_life);
        Self {
            id: u64::from_ne_bytes(id),
            revoked: sync::Mutex::new(revoked),
            log: Log::new(keep, shards, now),
            rooms: RoomTable::new(Rules::new(limits.overflow, overflow)),
            lanes: Lanes::new(keys),
            replays: Replays::default(),
            access,
            redaction: Redaction::default(),
            limits,
            shards: (0..shards).map(|_| Mailbox::default()).collect(),
            protocols: RwLock::default(),
            admitted: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            progress: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// What each view sees of the events that are declared.
    pub(crate) fn with_redaction(mut self, redaction: Redaction) -> Self {
        self.redaction = redaction;
        self
    }

    pub(crate) fn register(&self, protocol: Arc<dyn Protocol>) -> ProtocolRef {
        let mut protocols = self.protocols.write().expect("no panic under this lock");
        protocols.push(protocol.clone());
        let id = u8::try_from(protocols.len() - 1).expect("a hub has at most 256 protocols");
        ProtocolRef { id: ProtocolId(id), whole_cursors: protocol.whole_cursors(), protocol }
    }

    /// Checks an emission and makes it an entry.
    pub(crate) fn entry(
        &self,
        emission: Emission,
        at: Option<(Arc<KnownLane>, Position)>,
    ) -> Result<Entry, PublishError> {
        let Emission { rooms, event, body, key } = emission;
        let max = self.limits.emission_bytes;
        let fits = |len: usize| {
            let error = || PublishError::TooLarge { event: event.to_string(), len, max };
            if len <= max { Ok(()) } else { Err(error()) }
        };
        if rooms.is_empty() {
            return Err(PublishError::NoRoom { event: event.into_owned() });
        }
        let body = match body {
            Body::Shared(json) => {
                fits(json.as_bytes().len())?;
                EntryBody::Shared(json)
            }
            Body::PerView(bodies) => {
                let mut by_number = vec![None; self.access.views()];
                for (view, json) in bodies {
                    fits(json.as_bytes().len())?;
                    let Some(id) = self.access.view_id(&view) else {
                        let event = event.into_owned();
                        return Err(PublishError::UnknownView { event, view });
                    };
                    by_number[id.0 as usize] = Some(json);
                }
                EntryBody::PerView(by_number.into())
            }
        };
        let body = self.redaction.guard(&event, body);
        let mut known: SmallVec<[RoomRef; 2]> = SmallVec::with_capacity(rooms.len());
        for room in &rooms {
            let room = self.rooms.intern(room);
            if !known.iter().any(|other| other.id() == room.id()) {
                known.push(room);
            }
        }
        // Room for one that is made known a little later than the first events are read.
        let protocols = self.protocols.read().expect("no panic under this lock").len().max(1);
        let rules = self.rooms.rules();
        let conflated = |room: &RoomRef| rules.policy(room.rule()) == Policy::Conflate;
        let key = key.filter(|_| known.iter().all(conflated));
        Ok(Entry::new(known, event, body, at, key, protocols))
    }

    /// Whether the slowest shard is so near that more may be appended.
    pub(crate) fn may_append(&self) -> bool {
        self.log.lag_bytes() <= self.limits.lag_bytes
    }

    /// Waits until more may be appended; false once the hub is shutting down.
    pub(crate) async fn wait_for_shards(&self) -> bool {
        if self.may_append() {
            return !self.is_closed();
        }
        // Counted before it is asked again: a shard that reads on afterwards sees the
        // count, one that has read on before is seen by the question.
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if self.is_closed() {
                return false;
            }
            if self.may_append() {
                return true;
            }
            progress.await;
        }
    }

    /// Appends that parts of lanes are lost; everybody is told.
    pub(crate) fn append_loss(&self, lost: &[Moved], now: Instant) {
        self.log.append_loss(lost, now);
        self.shards.iter().for_each(|shard| shard.waker.wake());
    }

    /// These lanes are no more; everybody moves on. Returns the numbers of those that were
    /// known.
    pub(crate) fn close_lanes<'a>(
        &self,
        lanes: impl IntoIterator<Item = &'a Arc<Lane>>,
        now: Instant,
    ) -> Vec<LaneId> {
        // In this order: whoever has opened a cursor that names one sees the close yet to
        // come.
        let closed: Vec<LaneId> =
            lanes.into_iter().filter_map(|lane| self.lanes.close(lane)).collect();
        if !closed.is_empty() {
            self.log.append_close(&closed, now);
            metrics::counter!("fanout_lanes_closed_total").increment(closed.len() as u64);
            self.shards.iter().for_each(|shard| shard.waker.wake());
        }
        closed
    }

    /// Appends entries and wakes the shards that have members for them.
    pub(crate) fn append(&self, new: Append<'_>, now: Instant) {
        let batch = self.log.append(new, now);
        // The head is stored; now the bits are read. See `RoomRef::want`.
        let rooms = batch.entries.iter().flat_map(|entry| &entry.rooms);
        let mut wanted = rooms.fold(0, |wanted, room| wanted | room.wanted());
        if self.log.lag_bytes() > self.limits.lag_bytes / 4 {
            // Those that want nothing of it would hold up eviction and publishers.
            wanted = u64::MAX;
        }
        for (index, shard) in self.shards.iter().enumerate() {
            if wanted & (1 << index) != 0 {
                shard.waker.wake();
            }
        }
    }

    pub(crate) fn has_read(&self, shard: usize, batch: &Batch) {
        self.log.has_read(shard, batch);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.progress.notify_waiters();
        }
    }

    pub(crate) fn stopped(&self, shard: usize) {
        self.log.stopped(shard);
        self.progress.notify_waiters();
    }

    /// Tells somebody what became of his wish for a replay.
    pub(crate) fn tell(&self, shard: usize, token: Token, verdict: Verdict) {
        let mailbox = &self.shards[shard];
        let mut verdicts = mailbox.verdicts.lock().expect("no panic under this lock");
        verdicts.push((token, verdict));
        drop(verdicts);
        mailbox.waker.wake();
    }

    /// A replay has more than before, or is done.
    pub(crate) fn replay_moved(&self) {
        for shard in &self.shards {
            shard.replay_moved.store(true, Ordering::SeqCst);
            shard.waker.wake();
        }
    }

    /// How many may resume on one shard in each `period`.
    pub(crate) fn resumes_per_shard(&self, period: Duration) -> u32 {
        let in_period = u128::from(self.limits.resumes_per_second) * period.as_millis();
        let each = in_period.div_ceil(1000 * self.shards.len() as u128);
        u32::try_from(each.max(1)).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.progress.notify_waiters();
    }

    /// A connection of `shard` is gone.
    pub(crate) fn release(&self, shard: usize) {
        self.admitted.fetch_sub(1, Ordering::Relaxed);
        self.shards[shard].counts.admitted.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether there is room for a connection now.
    pub(crate) fn may_admit(&self) -> Result<(), ConnectError> {
        let max = self.limits.connections;
        if self.is_closed() {
            return Err(ConnectError::Draining);
        }
        if self.admitted.load(Ordering::Relaxed) >= max {
            return Err(ConnectError::Full { max });
        }
        Ok(())
    }

    /// Makes room for a connection and says which shard takes it: the emptiest.
    pub(crate) fn admit(&self) -> Result<usize, ConnectError> {
        let max = self.limits.connections;
        let admit = |n: usize| (n < max).then_some(n + 1);
        if self.admitted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit).is_err() {
            return Err(ConnectError::Full { max });
        }
        let connections =
            |index: &usize| self.shards[*index].counts.admitted.load(Ordering::Relaxed);
        let index = (0..self.shards.len()).min_by_key(connections).expect("at least one shard");
        self.shards[index].counts.admitted.fetch_add(1, Ordering::Relaxed);
        Ok(index)
    }

    /// What is done once a second for the whole hub.
    pub(crate) fn housekeeping(&self, now: Instant) {
        self.log.evict(now);
        for lane in self.log.take_forgotten() {
            self.lanes.forget(lane);
            self.replays.disown(lane);
        }
        let mut revoked = self.revoked.lock().expect("no panic under this lock");
        revoked.sweep(SystemTime::now());
        metrics::gauge!("fanout_revocations").set(revoked.len() as f64);
        drop(revoked);
        metrics::gauge!("fanout_lanes").set(self.lanes.len() as f64);
        let stats = self.log.stats(now);
        metrics::counter!("fanout_emissions_total").absolute(self.log.appended());
        metrics::gauge!("fanout_log_bytes").set(stats.bytes as f64);
        metrics::gauge!("fanout_log_entries").set(stats.entries as f64);
        metrics::gauge!("fanout_log_age_seconds").set(stats.age.as_secs_f64());
        metrics::gauge!("fanout_replay_waiting").set(self.replays.waiting() as f64);
    }

    pub(crate) fn stats(&self) -> Stats {
        let sum = |count: fn(&Counts) -> u64| self.shards.iter().map(|s| count(&s.counts)).sum();
        Stats {
            connections: sum(|c| c.connections.load(Ordering::Relaxed) as u64) as usize,
            sockets: sum(|c| c.sockets.load(Ordering::Relaxed)) as usize,
            rooms: self.rooms.len(),
            deliveries: sum(|c| c.deliveries.load(Ordering::Relaxed)),
            delivered_bytes: sum(|c| c.bytes.load(Ordering::Relaxed)),
            behind: sum(|c| c.behind.load(Ordering::Relaxed)) as usize,
            fell_behind: sum(|c| c.fell_behind.load(Ordering::Relaxed)),
            overflows: sum(|c| c.overflows.load(Ordering::Relaxed)),
            conflated: sum(|c| c.conflated.load(Ordering::Relaxed)),
            lag_bytes: self.log.lag_bytes(),
            log: self.log.stats(Instant::now()),
        }
    }
}

/// Counts a publisher that waits, for as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
