//! A hub with sinks that cost nothing: what is left is the hub.
//!
//! Hub and publisher share one thread and the hub has one shard, so that the time of
//! an iteration is the work done for it, without wake-ups between processors. More
//! shards divide the walk of a large room among processors, not the work.

use std::io::{self, IoSlice};

use fanout::{
    Access, Close, Emission, Gap, Hub, Identity, Input, Json, ProtocolRef, RoleAccess, Room,
    Session, Sink,
};
use tokio::runtime::Runtime;

use crate::clock;
use crate::message::{EVENT, Messages, ROOM};

/// Takes everything, and counts its bytes without a lock or an allocation.
#[derive(Debug, Default)]
pub struct NullSink {
    taken: u64,
}

impl Sink for NullSink {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        self.taken = std::hint::black_box(self.taken + bytes as u64);
        Ok(bytes)
    }

    fn try_read(&mut self, _: &mut Session<'_>, _: &mut [u8]) -> io::Result<Input> {
        Ok(Input::Blocked)
    }

    fn opened(&mut self, _: &mut Session<'_>) {}

    fn heartbeat(&mut self, _: &mut Session<'_>) {}

    fn gap(&mut self, _: &mut Session<'_>, _: &Gap) {}

    fn closing(&mut self, _: &mut Session<'_>, _: &Close) {}
}

/// A hub with its runtime.
#[derive(Debug)]
pub struct InMemory {
    runtime: Runtime,
    hub: Hub,
    native: ProtocolRef,
}

impl InMemory {
    /// Nobody in it yet. A `user` is in the room of all and in one of its own, an
    /// `admin` in the dashboard's.
    ///
    /// # Panics
    /// Where the system gives no runtime.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime");
        let access = Access::new([
            RoleAccess::new("user").joins("user:{subject}").joins(ROOM),
            RoleAccess::new("admin").joins("admin:dashboard"),
        ]);
        let access = access.expect("these patterns are good");
        let entered = runtime.enter();
        let hub = Hub::builder(access).shards(1).build().expect("it watches no sockets");
        drop(entered);
        let native = hub.protocol(ws_sink::Native);
        Self { runtime, hub, native }
    }

    /// Lets somebody in.
    ///
    /// # Panics
    /// Where the hub does not take them.
    pub fn connect(&self, subject: &str, role: &str) {
        let identity = Identity::new(subject, [role]);
        let connecting = self.hub.connect(&self.native, identity, NullSink::default());
        self.runtime.block_on(connecting).expect("the hub takes everybody");
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Runs `work` until its sinks have taken `deliveries` frames more.
    ///
    /// # Panics
    /// Where they have taken others: what was measured is not what was meant.
    pub fn deliver(&self, deliveries: u64, work: impl Future<Output = ()>) {
        let before = self.hub.stats().deliveries;
        self.runtime.block_on(async {
            work.await;
            while self.hub.stats().deliveries < before + deliveries {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(self.hub.stats().deliveries, before + deliveries, "deliveries");
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
    let room = Room::new(ROOM).expect("a good name");
    let mut payloads = Messages::new(bytes).expect("a size within bounds");
    let now = clock::monotonic_ns();
    let emission = |_| {
        let body = Json::parse(payloads.payload(now).to_vec().into()).expect("JSON");
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
    use super::*;

    #[test]
    fn everybody_gets_everything() {
        let memory = InMemory::new();
        for n in 0..300 {
            memory.connect(&n.to_string(), "user");
        }
        let hub = memory.hub();
        memory.deliver(300 * 16, async { hub.publish(burst(16, 200)).await.unwrap() });
        let frame = crate::message::text_len(200) as u64 + 4;
        assert_eq!(hub.stats().delivered_bytes, 300 * 16 * frame);
    }
}
