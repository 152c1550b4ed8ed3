//! The bounds of a hub, each with a default and a name.

use std::time::Duration;

use crate::overflow::Overflow;
use crate::rate::RequestRate;

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
    /// Rooms of one connection, where its roles say nothing else
    /// ([`RoleAccess::max_rooms`](crate::RoleAccess::max_rooms)). 64.
    pub rooms_per_connection: usize,
    /// Bytes of answers, pongs and heartbeats that may wait for one connection; at a
    /// quarter it is no longer read. 64 KiB.
    pub control_bytes: usize,
    /// How far behind a connection may fall in rooms that have no rule of their own; see
    /// [`HubBuilder::overflow`](crate::HubBuilder::overflow).
    pub overflow: Overflow,
    /// How long a socket may take nothing at all of what is pending. 30 s.
    pub write_timeout: Duration,
    /// When a client that was closed for being slow may come back. 2 s.
    pub retry_after: Duration,
    /// Bytes that all connections which catch up may take in one turn of a shard, before
    /// those that are live get what is new. 256 KiB.
    pub catch_up_bytes: usize,
    /// Records that one client may have missed beyond the log, to be read again for it;
    /// where it is more it is told of a gap. 200,000.
    pub replay_records: u64,
    /// Bytes of what was read again that are kept at once; one pass reads half as many. Where
    /// what all have missed is more, those who come back wait for one another. 128 MiB.
    pub replay_bytes: u64,
    /// How long one pass over the source may take, and how long a client waits for one
    /// before it is told of a gap. 30 s.
    pub replay_timeout: Duration,
    /// How long what was read again is kept for whoever comes next. 30 s.
    pub replay_keep: Duration,
    /// Clients that may go on from a cursor each second; the others wait their turn.
    /// 10,000.
    pub resumes_per_second: u32,
    /// Between two heartbeats. 25 s.
    pub heartbeat: Duration,
    /// How long a connection that is being closed may take. 3 s.
    pub close_timeout: Duration,
    /// How long a connection goes on after its identity has ended, for a new token to come.
    /// 10 s.
    pub expiry_grace: Duration,
    /// How long a revocation is remembered, from when it was said. To be no less than tokens
    /// live: one that outlives it is good again. 24 hours.
    pub revocation_life: Duration,
    /// Revocations that are remembered. Where there are more, the oldest becomes a time from
    /// before which nobody's token is good any more. 100,000.
    pub revocations: usize,
    /// How often a connection may ask for something, where its roles say nothing else
    /// ([`RoleAccess::requests`](crate::RoleAccess::requests)). 20 a second, 128 at once.
    pub requests: RequestRate,
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
            write_timeout: Duration::from_secs(30),
            retry_after: Duration::from_secs(2),
            catch_up_bytes: 256 << 10,
            replay_records: 200_000,
            replay_bytes: 128 << 20,
            replay_timeout: Duration::from_secs(30),
            replay_keep: Duration::from_secs(30),
            resumes_per_second: 10_000,
            heartbeat: Duration::from_secs(25),
            close_timeout: Duration::from_secs(3),
            expiry_grace: Duration::from_secs(10),
            revocation_life: Duration::from_secs(24 * 60 * 60),
            revocations: 100_000,
            requests: RequestRate::default(),
        }
    }
}
