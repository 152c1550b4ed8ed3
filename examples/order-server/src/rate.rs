//! How often somebody may do something: a subject change something, an address log in.
//!
//! The generic cell rate algorithm: one moment a subject, no timer, no counter that is
//! reset. See <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Seconds' worth that may come at once.
const BURST_SECS: u32 = 5;

/// A limit on each subject, or on whoever else is named.
pub struct RateLimit {
    /// What it is called in metrics.
    name: &'static str,
    /// Between two changes on average; `None` for no limit.
    interval: Option<Duration>,
    max_subjects: usize,
    /// When each subject will have made up for its changes.
    even_at: Mutex<HashMap<Box<str>, Instant>>,
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RateLimit { name, interval, .. } = self;
        f.debug_struct("RateLimit").field("name", name).field("interval", interval).finish()
    }
}

impl RateLimit {
    /// Subjects that are remembered at most: those of the last few seconds.
    pub const MAX_SUBJECTS: usize = 10_000;

    /// This many changes a second; 0 for no limit. `name` is what
    /// `order_server_rate_limited_total` counts refusals under.
    pub fn per_second(name: &'static str, changes: u32) -> Self {
        let interval = (changes > 0).then(|| Duration::from_secs(1) / changes);
        Self { name, interval, max_subjects: Self::MAX_SUBJECTS, even_at: Mutex::default() }
    }

    /// Counts a change of `subject` at `now`.
    ///
    /// # Errors
    /// How long to wait where it has made too many; this one was not counted.
    pub fn take(&self, subject: &str, now: Instant) -> Result<(), Duration> {
        let taken = self.count(subject, now);
        if taken.is_err() {
            metrics::counter!("order_server_rate_limited_total", "limit" => self.name).increment(1);
        }
        taken
    }

    fn count(&self, subject: &str, now: Instant) -> Result<(), Duration> {
        let Some(interval) = self.interval else { return Ok(()) };
        let tolerance = Duration::from_secs(BURST_SECS.into()).saturating_sub(interval);
        let mut even_at = self.even_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(even) = even_at.get_mut(subject) {
            let from = (*even).max(now);
            let ahead = from - now;
            if ahead > tolerance {
                return Err(ahead.saturating_sub(tolerance));
            }
            *even = from + interval;
            return Ok(());
        }
        if even_at.len() >= self.max_subjects {
            // Who is even again is as good as never seen.
            even_at.retain(|_, even| *even > now);
            if even_at.len() >= self.max_subjects {
                return Err(Duration::from_secs(1));
            }
        }
        even_at.insert(subject.into(), now + interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let (limit, now) = (RateLimit::per_second("test", 10), Instant::now());
        for n in 0..50 {
            assert!(limit.take("ann", now).is_ok(), "{n}");
        }
        let wait = limit.take("ann", now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(limit.take("bob", now).is_ok());
        assert!(limit.take("ann", now + wait).is_ok());
        assert!(limit.take("ann", now + wait).is_err());
    }

    #[test]
    fn no_limit_is_none() {
        let (limit, now) = (RateLimit::per_second("test", 0), Instant::now());
        assert!((0..10_000).all(|_| limit.take("ann", now).is_ok()));
    }

    #[test]
    fn subjects_that_are_even_make_room() {
        let mut limit = RateLimit::per_second("test", 1);
        limit.max_subjects = 2;
        let now = Instant::now();
        assert!(limit.take("a", now).is_ok() && limit.take("b", now).is_ok());
        assert!(limit.take("c", now).is_err());
        assert!(limit.take("c", now + Duration::from_secs(1)).is_ok());
    }
}
