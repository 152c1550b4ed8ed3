//! How far behind a connection may fall.
//!
//! One slow reader must not delay its room, and costs nothing while it is behind but
//! a number; still there is an end to waiting for it.
//!
//! ```text
//! Live --socket full--> Behind --too many bytes, for longer than the grace--+
//!   ^---caught up---------'  |--nothing taken for the stall time------------+--> Closed(Slow)
//!                            '--the log has moved on------------------------+
//! ```

use std::time::{Duration, Instant};

/// The limits; the close says when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overflow {
    /// Bytes of this connection's own frames that it may be behind by. 1 MiB.
    pub max_bytes: u64,
    /// How long it may be behind by more. 5 s.
    pub grace: Duration,
    /// How long its socket may take nothing at all. 30 s.
    pub stall: Duration,
    /// When a client that was closed may come back. 2 s.
    pub retry_after: Duration,
}

impl Default for Overflow {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 20,
            grace: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            retry_after: Duration::from_secs(2),
        }
    }
}

impl Overflow {
    /// Sets the bytes.
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the grace.
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets the stall time.
    pub fn with_stall(mut self, stall: Duration) -> Self {
        self.stall = stall;
        self
    }

    /// Whether a connection has fallen too far behind.
    pub(crate) fn exceeded(&self, lag: &mut Lag, now: Instant) -> bool {
        if lag.bytes <= self.max_bytes {
            lag.over_since = None;
        } else {
            let since = *lag.over_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= self.grace {
                return true;
            }
        }
        now.saturating_duration_since(lag.moved) >= self.stall
    }
}

/// How far a connection is behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lag {
    /// Bytes of its own frames that its socket has not begun to take.
    pub(crate) bytes: u64,
    /// When its socket last took something.
    pub(crate) moved: Instant,
    /// Since when `bytes` is more than allowed, as far as was looked.
    over_since: Option<Instant>,
}

impl Lag {
    pub(crate) fn new(bytes: u64, now: Instant) -> Self {
        Self { bytes, moved: now, over_since: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_bytes_are_forgiven_within_the_grace() {
        let limits = Overflow::default().with_max_bytes(100).with_grace(Duration::from_secs(5));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lag = Lag::new(101, start);
        assert!(!limits.exceeded(&mut lag, at(0)));
        assert!(!limits.exceeded(&mut lag, at(4)));
        lag.bytes = 100;
        assert!(!limits.exceeded(&mut lag, at(5)), "caught up in time");
        lag.bytes = 101;
        assert!(!limits.exceeded(&mut lag, at(6)), "the grace begins anew");
        assert!(limits.exceeded(&mut lag, at(11)));
    }

    #[test]
    fn a_socket_that_takes_nothing_is_given_up() {
        let limits = Overflow::default().with_stall(Duration::from_secs(30));
        let start = Instant::now();
        let mut lag = Lag::new(1, start);
        assert!(!limits.exceeded(&mut lag, start + Duration::from_secs(29)));
        assert!(limits.exceeded(&mut lag, start + Duration::from_secs(30)));
        lag.moved = start + Duration::from_secs(30);
        assert!(!limits.exceeded(&mut lag, start + Duration::from_secs(31)));
    }
}
