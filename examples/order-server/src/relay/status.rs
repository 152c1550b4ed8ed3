//! Whether this process relays, for `/readyz` and for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::Before;

/// A view on whether a relay relays now; clones share it.
#[derive(Clone, Debug)]
pub struct RelayStatus(Arc<AtomicBool>);

impl Default for RelayStatus {
    /// Of one that stands by.
    fn default() -> Self {
        let status = Self(Arc::default());
        status.set(false);
        status
    }
}

impl RelayStatus {
    /// Whether it holds the lease, as far as it knows.
    pub fn relays(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, relays: bool) {
        self.0.store(relays, Ordering::Relaxed);
        metrics::gauge!("order_server_relay_leader").set(u8::from(relays));
    }
}

/// Counts that the lease was taken, by what became of the one before.
pub(super) fn count_takeover(before: Before) {
    let before = match before {
        Before::Nobody => "nobody",
        Before::Released => "released",
        Before::Expired => "expired",
    };
    metrics::counter!("order_server_relay_takeovers_total", "before" => before).increment(1);
}
