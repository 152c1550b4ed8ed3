//! The handle: publish, connect, statistics.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use smallvec::SmallVec;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::connection::ConnectionId;
use crate::frame::{Entry, EntryBody, Protocol, ProtocolId, ProtocolRef};
use crate::lanes::Lanes;
use crate::log::{Batch, Keep, Log, LogStats};
use crate::metrics::Counts;
use crate::overflow::Overflow;
use crate::position::{At, Cursor, LaneId};
use crate::role::{Access, AccessError, Identity, View};
use crate::room_table::{RoomRef, RoomTable};
use crate::router::{Body, Emission};
use crate::shard::{Command, Newcomer};
use crate::shard_task::{self, ConnectionWaker};
use crate::sink::{Close, Readiness, Sink, WakersOnly};

/// Commands that may wait for a shard before whoever sends one waits.
const MAILBOX: usize = 256;

/// The bounds of a hub. Each has a default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of recent emissions that the log keeps. 64 MiB.
    pub log_bytes: u64,
    /// How long the log keeps an emission. 5 minutes.
    pub log_age: Duration,
    /// Bytes that the slowest shard may be from the log's head before publishing
    /// waits. 8 MiB.
    pub lag_bytes: u64,
    /// Bytes that are joined into one write. 256 KiB.
    pub joined_bytes: u64,
    /// Most bytes of one emission's body. 1 MiB.
    pub emission_bytes: usize,
    /// Connections. 100,000.
    pub connections: usize,
    /// Rooms of one connection. 64.
    pub rooms_per_connection: usize,
    /// Bytes of answers, pongs and heartbeats that may wait for one connection; at a
    /// quarter it is no longer read. 64 KiB.
    pub control_bytes: usize,
    /// How far behind a connection may fall.
    pub overflow: Overflow,
    /// Between two heartbeats. 25 s.
    pub heartbeat: Duration,
    /// How long a connection that is being closed may take. 3 s.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            log_bytes: 64 << 20,
            log_age: Duration::from_secs(300),
            lag_bytes: 8 << 20,
            joined_bytes: 256 << 10,
            emission_bytes: 1 << 20,
            connections: 100_000,
            rooms_per_connection: 64,
            control_bytes: 64 << 10,
            overflow: Overflow::default(),
            heartbeat: Duration::from_secs(25),
            close_timeout: Duration::from_secs(3),
        }
    }
}

/// Why [`Hub::publish`] refused emissions. None of them was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Retrying cannot help.
    #[error("event `{event}`: a body of {len} bytes exceeds {max}")]
    TooLarge {
        /// Which emission.
        event: String,
        /// How large.
        len: usize,
        /// How large it may be.
        max: usize,
    },
    /// No role of the access policy sees this view, so that it would reach nobody.
    #[error("event `{event}`: no role sees the view `{view}`")]
    UnknownView {
        /// Which emission.
        event: String,
        /// Which view.
        view: View,
    },
    /// It is for nobody.
    #[error("event `{event}`: no room")]
    NoRoom {
        /// Which emission.
        event: String,
    },
    /// Shutting down; another node may take them.
    #[error("the hub is shutting down")]
    Closed,
}

/// Why [`Hub::connect`] let nobody in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The identity may not connect; retrying cannot help.
    #[error("the identity may not connect")]
    Access(#[from] AccessError),
    /// As many connections as there may be; another node may take it.
    #[error("already {max} connections")]
    Full {
        /// How many that is.
        max: usize,
    },
    /// Shutting down; another node may take it.
    #[error("the hub is shutting down")]
    Draining,
    /// The socket cannot be watched.
    #[error("the socket cannot be watched")]
    Readiness(#[source] std::io::Error),
}

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
    /// Times that a connection went from live to behind.
    pub fell_behind: u64,
    /// Bytes that the slowest shard has not read.
    pub lag_bytes: u64,
    /// What the log holds.
    pub log: LogStats,
}

/// What hub and shards share.
pub(crate) struct Shared {
    pub(crate) log: Log,
    pub(crate) rooms: RoomTable,
    pub(crate) lanes: Lanes,
    pub(crate) access: Access,
    pub(crate) limits: Limits,
    pub(crate) shards: Box<[Mailbox]>,
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
    pub(crate) counts: Counts,
}

impl Shared {
    pub(crate) fn new(access: Access, limits: Limits, shards: usize, now: Instant) -> Self {
        let keep = Keep { bytes: limits.log_bytes, age: limits.log_age };
        Self {
            log: Log::new(keep, shards, now),
            rooms: RoomTable::default(),
            lanes: Lanes::default(),
            access,
            limits,
            shards: (0..shards).map(|_| Mailbox::default()).collect(),
            protocols: RwLock::default(),
            admitted: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            progress: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(crate) fn register(&self, protocol: Arc<dyn Protocol>) -> ProtocolRef {
        let mut protocols = self.protocols.write().expect("no panic under this lock");
        protocols.push(protocol.clone());
        let id = u8::try_from(protocols.len() - 1).expect("a hub has at most 256 protocols");
        ProtocolRef { id: ProtocolId(id), protocol }
    }

    /// Checks an emission and makes it an entry.
    pub(crate) fn entry(
        &self,
        emission: Emission,
        at: Option<(LaneId, At)>,
    ) -> Result<Entry, PublishError> {
        let Emission { rooms, event, body, key: _ } = emission;
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
        let mut known: SmallVec<[RoomRef; 1]> = SmallVec::with_capacity(rooms.len());
        for room in &rooms {
            let room = self.rooms.intern(room);
            if !known.iter().any(|other| other.id() == room.id()) {
                known.push(room);
            }
        }
        let protocols = self.protocols.read().expect("no panic under this lock").len();
        Ok(Entry::new(known, event, body, at, protocols))
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

    /// Appends entries and wakes the shards that have members for them.
    pub(crate) fn append(&self, entries: Vec<Entry>, frontier: Vec<(LaneId, u64)>, now: Instant) {
        let batch = self.log.append(entries, frontier, now);
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

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.progress.notify_waiters();
    }

    /// A connection of `shard` is gone.
    pub(crate) fn release(&self, shard: usize) {
        self.admitted.fetch_sub(1, Ordering::Relaxed);
        self.shards[shard].counts.admitted.fetch_sub(1, Ordering::Relaxed);
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
        let stats = self.log.stats(now);
        metrics::counter!("fanout_emissions_total").absolute(self.log.appended());
        metrics::gauge!("fanout_log_bytes").set(stats.bytes as f64);
        metrics::gauge!("fanout_log_entries").set(stats.entries as f64);
    }

    fn stats(&self) -> Stats {
        let sum = |count: fn(&Counts) -> u64| self.shards.iter().map(|s| count(&s.counts)).sum();
        Stats {
            connections: sum(|c| c.connections.load(Ordering::Relaxed) as u64) as usize,
            sockets: sum(|c| c.sockets.load(Ordering::Relaxed)) as usize,
            rooms: self.rooms.len(),
            deliveries: sum(|c| c.deliveries.load(Ordering::Relaxed)),
            delivered_bytes: sum(|c| c.bytes.load(Ordering::Relaxed)),
            fell_behind: sum(|c| c.fell_behind.load(Ordering::Relaxed)),
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

/// The handle of a hub. Clones are the same hub; when the last is dropped its
/// shards close their connections and end.
#[derive(Clone)]
pub struct Hub(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    shards: Box<[mpsc::Sender<Command>]>,
    tasks: tokio_util::task::TaskTracker,
    watches_sockets: bool,
}

/// What a [`Hub`] is made of.
pub struct HubBuilder {
    access: Access,
    limits: Limits,
    shards: usize,
    readiness: Box<dyn FnMut() -> std::io::Result<Box<dyn Readiness>>>,
}

impl HubBuilder {
    /// Sets the bounds.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many shards follow the log, 1 to 64; as many as there are processors by
    /// default. A large room is walked by all of them at once.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards.clamp(1, 64);
        self
    }

    /// What each shard waits on for its sockets; called once a shard.
    pub fn readiness<R: Readiness>(
        mut self,
        mut make: impl FnMut() -> std::io::Result<R> + 'static,
    ) -> Self {
        self.readiness = Box::new(move || Ok(Box::new(make()?)));
        self
    }

    /// Starts the shards, as tasks of the runtime that this is called in.
    ///
    /// # Errors
    /// Where a shard's readiness cannot be made.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time enabled.
    pub fn build(mut self) -> std::io::Result<Hub> {
        let now = Instant::now();
        let shared = Arc::new(Shared::new(self.access, self.limits, self.shards, now));
        let tasks = tokio_util::task::TaskTracker::new();
        let mut shards = Vec::with_capacity(self.shards);
        let mut watches_sockets = true;
        for index in 0..self.shards {
            let (sender, commands) = mpsc::channel(MAILBOX);
            let readiness = (self.readiness)()?;
            watches_sockets &= readiness.watches_sockets();
            // Unconstrained: a shard's turns are bounded by itself. Tokio's budget would
            // make sinks that are tokio's streams look full after 128 writes.
            let shard = shard_task::run(index, shared.clone(), readiness, commands);
            tasks.spawn(tokio::task::unconstrained(shard));
            shards.push(sender);
        }
        tasks.close();
        Ok(Hub(Arc::new(Handle { shared, shards: shards.into(), tasks, watches_sockets })))
    }
}

impl std::fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubBuilder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub with this access policy.
    pub fn builder(access: Access) -> HubBuilder {
        HubBuilder {
            access,
            limits: Limits::default(),
            shards: std::thread::available_parallelism().map_or(1, usize::from).min(64),
            readiness: Box::new(|| Ok(Box::new(WakersOnly))),
        }
    }

    /// Publishes emissions that have no position in a source: they reach who is
    /// connected to this node now, in this order, and cannot be resumed. Waits while
    /// the slowest shard is too far behind.
    ///
    /// # Errors
    /// [`PublishError`]; then none of them was published.
    ///
    /// # Cancel safety
    /// Dropping the future publishes nothing, or all of them.
    pub async fn publish(&self, emissions: Vec<Emission>) -> Result<(), PublishError> {
        let shared = &self.0.shared;
        let entries: Result<Vec<_>, _> =
            emissions.into_iter().map(|emission| shared.entry(emission, None)).collect();
        let entries = entries?;
        if !shared.wait_for_shards().await {
            return Err(PublishError::Closed);
        }
        if !entries.is_empty() {
            shared.append(entries, Vec::new(), Instant::now());
        }
        Ok(())
    }

    /// Makes a protocol known, whose frames are then encoded once for all of its
    /// connections.
    ///
    /// # Panics
    /// At the 257th.
    pub fn protocol(&self, protocol: impl Protocol) -> ProtocolRef {
        self.0.shared.register(Arc::new(protocol))
    }

    /// Lets a connection in: it is in its identity's rooms from then on.
    ///
    /// # Errors
    /// [`ConnectError`]; the sink was dropped.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the connection in; its sink then ends it as any.
    pub async fn connect(
        &self,
        protocol: &ProtocolRef,
        identity: Identity,
        sink: impl Sink,
    ) -> Result<ConnectionId, ConnectError> {
        let shared = &self.0.shared;
        let rights = shared.access.rights(&identity)?;
        if shared.is_closed() {
            return Err(ConnectError::Draining);
        }
        let index = shared.admit()?;
        let admitted = Admitted { shared, shard: index };
        let (reply, answer) = oneshot::channel();
        let (protocol, sink) = (protocol.clone(), Box::new(sink));
        let newcomer = Newcomer { sink, protocol, identity, rights, reply };
        let Ok(permit) = self.0.shards[index].reserve().await else {
            return Err(ConnectError::Draining);
        };
        // From here on the shard counts it.
        std::mem::forget(admitted);
        permit.send(Command::Connect(Box::new(newcomer)));
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(ConnectError::Draining),
        }
    }

    /// Whether there is room for a connection now.
    ///
    /// # Errors
    /// What [`connect`](Self::connect) would say.
    pub fn may_connect(&self) -> Result<(), ConnectError> {
        let shared = &self.0.shared;
        let max = shared.limits.connections;
        if shared.is_closed() {
            return Err(ConnectError::Draining);
        }
        if shared.admitted.load(Ordering::Relaxed) >= max {
            return Err(ConnectError::Full { max });
        }
        Ok(())
    }

    /// Closes a connection, where it is still there.
    ///
    /// # Cancel safety
    /// Dropping the future may leave it open.
    pub async fn disconnect(&self, id: ConnectionId, close: Close) {
        if let Some(shard) = self.0.shards.get(id.shard as usize) {
            let _ = shard.send(Command::Close { id, close }).await;
        }
    }

    /// How far each lane has been read: everything before it is in the log or older.
    pub fn cursor(&self) -> Cursor {
        let (_, frontier) = self.0.shared.log.tail();
        self.0.shared.lanes.cursor(&frontier)
    }

    /// What it is doing.
    pub fn stats(&self) -> Stats {
        self.0.shared.stats()
    }

    /// Whether sinks may hand over sockets; where not, they have to use wakers.
    pub fn watches_sockets(&self) -> bool {
        self.0.watches_sockets
    }

    /// The bounds it was built with.
    pub fn limits(&self) -> &Limits {
        &self.0.shared.limits
    }

    /// The access policy.
    pub fn access(&self) -> &Access {
        &self.0.shared.access
    }

    /// Refuses newcomers, tells everybody to come back (to another node) at a random
    /// moment `within`, and waits until all have gone, at most `patience`.
    ///
    /// # Cancel safety
    /// Dropping the future ends the waiting, not the drain.
    pub async fn drain(&self, within: Duration, patience: Duration) {
        self.0.shared.close();
        let deadline = Instant::now() + patience;
        for shard in &self.0.shards {
            let close = Close::Draining { within };
            let _ = shard.send(Command::Drain { close, deadline }).await;
        }
        self.0.tasks.wait().await;
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}

/// Gives a place back that was taken for a connection which never came.
struct Admitted<'a> {
    shared: &'a Shared,
    shard: usize,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.shared.release(self.shard);
    }
}
