//! A hub with sinks that cost nothing: what is left is the hub.
//!
//! Hub and publisher share one thread and the hub has one shard, so that the time of
//! an iteration is the work done for it, without wake-ups between processors. More
//! shards divide the walk of a large room among processors, not the work.

mod sinks;

use std::time::{Duration, Instant};

use fanout::{
    Access, Close, ConnectionId, Cursor, Emission, Hub, Identity, Json, Limits, Overflow,
    ProtocolRef, RoleAccess, Room, Sink,
};
use tokio::runtime::Runtime;

use crate::clock;
use crate::message::{EVENT, Messages, ROOM};
use crate::run::Rooms;
pub use sinks::{ActingSink, Gate, NullSink, ReturningSink, SlowSink, Wakers};

/// How long anything may take before what is measured is taken for lost.
const DEADLINE: Duration = Duration::from_secs(100);

/// A hub with its runtime.
#[derive(Debug)]
pub struct InMemory {
    runtime: Runtime,
    hub: Hub,
    native: ProtocolRef,
}

impl InMemory {
    /// Nobody in it yet. A `user` is in the room of all and in one of its own, an
    /// `admin` in the dashboard's, a `guest` in none; whoever has a role may ask for
    /// `room:*`. Nobody is closed for what he does not take.
    ///
    /// # Panics
    /// Where the system gives no runtime.
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    /// The same, with other limits.
    ///
    /// # Panics
    /// Where the system gives no runtime.
    pub fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime");
        let access = Access::new([
            RoleAccess::new("user").joins("user:{subject}").joins(ROOM).may_join("room:*"),
            RoleAccess::new("admin").joins("admin:dashboard").may_join("room:*"),
            RoleAccess::new("guest").may_join("room:*"),
        ]);
        let access = access.expect("these patterns are good");
        let mut limits = Limits::default();
        limits.connections = 200_000;
        limits.rooms_per_connection = 1_000;
        limits.overflow = Overflow::default().with_max_bytes(u64::MAX);
        limits.write_timeout = DEADLINE;
        change(&mut limits);
        let entered = runtime.enter();
        let hub = Hub::builder(access).limits(limits).shards(1).build();
        let hub = hub.expect("it watches no sockets");
        drop(entered);
        let native = hub.protocol(ws_sink::Native);
        Self { runtime, hub, native }
    }

    /// Lets somebody in who takes everything.
    ///
    /// # Panics
    /// Where the hub does not take them.
    pub fn connect(&self, subject: &str, role: &str) -> ConnectionId {
        self.connect_with(subject, role, NullSink::default())
    }

    /// Lets somebody in with a sink of his own.
    ///
    /// # Panics
    /// Where the hub does not take them.
    pub fn connect_with(&self, subject: &str, role: &str, sink: impl Sink) -> ConnectionId {
        let connecting = self.hub.connect(&self.native, Identity::new(subject, [role]), sink);
        self.runtime.block_on(connecting).expect("the hub takes everybody")
    }

    /// Somebody comes back to a room with a cursor. Ends when he has got `missed` frames and
    /// is live.
    ///
    /// # Panics
    /// Where he gets others, or the cursor is not taken.
    pub fn resume(&self, room: &Room, cursor: &Cursor, missed: u64) -> ConnectionId {
        let sink = ReturningSink::new(room.clone(), cursor.clone());
        let mut id = None;
        self.deliver(missed, async {
            let connecting = self.hub.connect(&self.native, Identity::new("ann", ["guest"]), sink);
            id = connecting.await.ok();
        });
        self.until("the one who came back to be live", || self.hub.stats().behind == 0);
        id.expect("the hub takes everybody")
    }

    /// Sends somebody away, and waits until he is gone.
    ///
    /// # Panics
    /// As [`until`](Self::until).
    pub fn disconnect(&self, id: ConnectionId) {
        let before = self.hub.stats().connections;
        self.runtime.block_on(self.hub.disconnect(id, Close::Normal));
        self.until("the hub to have one less", || self.hub.stats().connections < before);
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What its connections speak.
    pub fn protocol(&self) -> &ProtocolRef {
        &self.native
    }

    /// Has `work` done on the hub's thread, whenever something else is waited for there.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// Runs `work` on the hub's thread.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Publishes, and waits until `deliveries` frames more were taken.
    ///
    /// # Panics
    /// Where others were taken: what was measured is not what was meant.
    pub fn publish(&self, emissions: Vec<Emission>, deliveries: u64) {
        self.deliver(deliveries, async {
            self.hub.publish(emissions).await.expect("published");
        });
    }

    /// Runs `work` until its sinks have taken `deliveries` frames more.
    ///
    /// # Panics
    /// Where they have taken others: what was measured is not what was meant.
    pub fn deliver(&self, deliveries: u64, work: impl Future<Output = ()>) {
        let before = self.hub.stats().deliveries;
        self.runtime.block_on(work);
        self.until("deliveries", || self.hub.stats().deliveries >= before + deliveries);
        assert_eq!(self.hub.stats().deliveries, before + deliveries, "deliveries");
    }

    /// Lets the hub work until something holds.
    ///
    /// # Panics
    /// Where it does not within 100 seconds.
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        self.runtime.block_on(async {
            let began = Instant::now();
            while !holds() {
                assert!(began.elapsed() < DEADLINE, "waited in vain for {what}");
                tokio::task::yield_now().await;
            }
        });
    }

    /// Lets the hub work until everything published was written, or could not be.
    ///
    /// # Panics
    /// As [`until`](Self::until).
    pub fn settle(&self) {
        self.until("the shard to have read everything", || self.hub.stats().lag_bytes == 0);
    }
}

impl Default for InMemory {
    fn default() -> Self {
        Self::new()
    }
}

/// A burst for the room of all, with payloads of `bytes` bytes.
///
/// # Panics
/// Where no payload has so many.
pub fn burst(messages: usize, bytes: usize) -> Vec<Emission> {
    burst_to(ROOM, messages, bytes)
}

/// A burst for one room, with payloads of `bytes` bytes.
///
/// # Panics
/// Where no payload has so many, or no room this name.
pub fn burst_to(room: &str, messages: usize, bytes: usize) -> Vec<Emission> {
    let room = Room::new(room).expect("a good name");
    let mut payloads = Messages::new(bytes, Rooms::One, 1).expect("a size within bounds");
    let now = clock::monotonic_ns();
    let emission = |_| {
        let body = Json::parse(payloads.draw(now).payload.to_vec().into()).expect("JSON");
        Emission::new(room.clone(), EVENT, body)
    };
    (0..messages).map(emission).collect()
}

/// The median of what was measured; zero where nothing was.
pub fn median(values: &mut [f64]) -> f64 {
    crate::summary::Spread::of(values).map_or(0.0, |spread| spread.median)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use fanout::Input;

    use super::*;

    #[test]
    fn everybody_gets_everything() {
        let memory = InMemory::new();
        for n in 0..300 {
            memory.connect(&n.to_string(), "user");
        }
        memory.publish(burst(16, 200), 300 * 16);
        let frame = crate::message::text_len(200, Rooms::One) as u64 + 4;
        assert_eq!(memory.hub().stats().delivered_bytes, 300 * 16 * frame);
    }

    #[test]
    fn the_slow_get_everything_once_the_gate_is_open() {
        let (memory, gate) = (InMemory::new(), Gate::default());
        memory.connect("quick", "user");
        for n in 0..9 {
            memory.connect_with(&n.to_string(), "user", gate.sink());
        }
        gate.shut();
        for _ in 0..4 {
            memory.publish(burst(4, 200), 4);
        }
        memory.settle();
        assert_eq!(memory.hub().stats().fell_behind, 9);
        memory.deliver(9 * 16, async { gate.open() });
        memory.publish(burst(1, 200), 10);
        assert_eq!(memory.hub().stats().fell_behind, 9);
    }

    #[test]
    fn those_who_act_do_so_when_woken() {
        let (memory, wakers) = (InMemory::new(), Wakers::default());
        let room = Room::new("room:7").unwrap();
        let (acts, allowed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, most) = (acts.clone(), allowed.clone());
        let act = move |session: &mut fanout::Session<'_>| {
            if counted.load(Ordering::SeqCst) == most.load(Ordering::SeqCst) {
                return Input::Blocked;
            }
            session.join(&room).unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            Input::More
        };
        memory.connect_with("ann", "guest", ActingSink::new(&wakers, act));
        assert_eq!(memory.hub().stats().rooms, 0);
        allowed.store(3, Ordering::SeqCst);
        wakers.wake();
        memory.until("three acts", || acts.load(Ordering::SeqCst) == 3);
        memory.publish(burst_to("room:7", 1, 200), 1);
    }
}
