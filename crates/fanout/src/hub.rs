//! The handle: publish, connect, statistics.

mod revoke;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};

use crate::connection::ConnectionId;
use crate::error::{ConnectError, PublishError};
use crate::frame::{Protocol, ProtocolRef};
use crate::keys::Keyring;
use crate::limits::Limits;
use crate::log::Append;
use crate::overflow::Overflow;
use crate::position::{Cursor, Position};
use crate::redact::Redaction;
use crate::role::{Access, Identity};
use crate::room::RoomPattern;
use crate::router::Emission;
use crate::shard::{Command, Newcomer};
use crate::shard_task;
use crate::shared::{Shared, Stats};
use crate::sink::{Close, Readiness, Sink, WakersOnly};

/// Commands that may wait for a shard before whoever sends one waits.
const MAILBOX: usize = 256;

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
    redaction: Redaction,
    limits: Limits,
    overflow: Vec<(RoomPattern, Overflow)>,
    keys: Option<Keyring>,
    shards: usize,
    readiness: Box<dyn FnMut() -> std::io::Result<Box<dyn Readiness>>>,
}

impl HubBuilder {
    /// Sets the bounds.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets what happens to a connection that is too far behind in these rooms. The first
    /// rule that matches counts; rooms without one follow [`Limits::overflow`]. A
    /// `{subject}` in the pattern matches nothing: `*` stands for any.
    ///
    /// ```
    /// # use fanout::{Access, Hub, Overflow, Policy, RoomPattern};
    /// # fn hub(access: Access) -> Result<Hub, Box<dyn std::error::Error>> {
    /// let prices = Overflow::new(Policy::Conflate).with_max_bytes(256 << 10);
    /// let hub = Hub::builder(access)
    ///     .overflow(RoomPattern::new("prices:*")?, prices)
    ///     .overflow(RoomPattern::new("chat:*")?, Overflow::new(Policy::DropOldest))
    ///     .build()?;
    /// # Ok(hub)
    /// # }
    /// ```
    ///
    /// # Panics
    /// [`build`](Self::build) does, with more than 255 rules.
    pub fn overflow(mut self, rooms: RoomPattern, overflow: Overflow) -> Self {
        self.overflow.push((rooms, overflow));
        self
    }

    /// Sets what each view sees of the events that are declared, however they come to this
    /// hub.
    pub fn redaction(mut self, redaction: Redaction) -> Self {
        self.redaction = redaction;
        self
    }

    /// Sets the keys that cursors are sealed with, which all nodes share: a client goes on
    /// where it was on any of them. Without, they are random and die with the hub.
    pub fn keys(mut self, keys: Keyring) -> Self {
        self.keys = Some(keys);
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
    /// Where a shard's readiness cannot be made; of the kind
    /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) where the
    /// [`redaction`](Self::redaction) was made for an access policy with other views.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time enabled.
    pub fn build(mut self) -> std::io::Result<Hub> {
        let invalid = |error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
        self.redaction.check(&self.access).map_err(invalid)?;
        let now = Instant::now();
        let keys = self.keys.unwrap_or_else(Keyring::random);
        let (access, limits, overflow) = (self.access, self.limits, &self.overflow);
        let shared = Shared::new(access, limits, overflow, keys, self.shards, now);
        let shared = Arc::new(shared.with_redaction(self.redaction));
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
            redaction: Redaction::default(),
            limits: Limits::default(),
            overflow: Vec::new(),
            keys: None,
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
            shared.append(Append::new(entries, &[]), Instant::now());
        }
        Ok(())
    }

    /// Makes a protocol known, whose frames are then encoded once for all of its
    /// connections. Best before anything is published: what was published before a second
    /// protocol was known is encoded for each of its connections anew.
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
        let identity = shared.unrevoked(identity, SystemTime::now())?;
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
        self.0.shared.may_admit()
    }

    /// Closes a connection, where it is one of this hub and still there.
    ///
    /// # Cancel safety
    /// Dropping the future may leave it open.
    pub async fn disconnect(&self, id: ConnectionId, close: Close) {
        let here = Some(id).filter(|id| id.hub == self.0.shared.id);
        if let Some(shard) = here.and_then(|id| self.0.shards.get(usize::from(id.shard))) {
            let _ = shard.send(Command::Close { id, close }).await;
        }
    }

    /// How far each lane has been read: whoever has this gets what comes from now on.
    ///
    /// Taken before a snapshot is read, it is where the snapshot's reader goes on: all that
    /// was published before is in what is read afterwards, as long as events are published
    /// only once their changes are there to be read.
    pub fn cursor(&self) -> Cursor {
        loop {
            let (_, frontier) = self.0.shared.log.tail();
            let places = frontier.iter().map(|(lane, next)| (lane, Position::before(next)));
            // Of a lane that was closed and forgotten in between the next look has nothing.
            if let Some(cursor) = self.0.shared.lanes.seal(places) {
                return cursor;
            }
        }
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

    /// What each view sees of the events that are declared: for snapshots, which do not come
    /// through the hub.
    pub fn redaction(&self) -> &Redaction {
        &self.0.shared.redaction
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
