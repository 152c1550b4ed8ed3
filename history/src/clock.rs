//! The clock of this machine, which producers, servers and clients share.

use std::time::SystemTime;

/// Milliseconds since the epoch, as Kafka counts.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
