//! The bounds of a hub, each with a default and a name.

use std::time::Duration;

use crate::overflow::Overflow;

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
            write_timeout: Duration::from_secs(30),
            retry_after: Duration::from_secs(2),
            catch_up_bytes: 256 << 10,
            heartbeat: Duration::from_secs(25),
            close_timeout: Duration::from_secs(3),
        }
    }
}
