//! How often a client may ask.
//!
//! The generic cell rate algorithm (ITU-T I.371, annex A): all that is kept for a connection
//! is when its allowance would be whole again, and nothing has to be filled up by a timer.

use std::time::Duration;

/// How often one connection may ask for something: subscribe, unsubscribe, auth, and the
/// application's events.
///
/// ```
/// use fanout::{RequestRate, RoleAccess};
///
/// // Three at once, then one a second.
/// let guest = RoleAccess::new("guest").requests(RequestRate { per_second: 1, burst: 3 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // The two numbers of a rate; there will be no third.
pub struct RequestRate {
    /// Requests a second in the long run, at least one. 20.
    pub per_second: u32,
    /// Requests at once, after a time without, at least one. 128.
    pub burst: u32,
}

impl Default for RequestRate {
    fn default() -> Self {
        Self { per_second: 20, burst: 128 }
    }
}

impl RequestRate {
    /// The larger of both, in either number.
    pub(crate) fn max(self, other: Self) -> Self {
        let (per_second, burst) =
            (self.per_second.max(other.per_second), self.burst.max(other.burst));
        Self { per_second, burst }
    }

    /// Takes one request at `now`. `whole_at` is what is kept between: when the allowance is
    /// whole again, zero at first. Both in nanoseconds since any moment.
    ///
    /// # Errors
    /// How long to wait; nothing was taken.
    pub(crate) fn take(self, whole_at: &mut u64, now: u64) -> Result<(), Duration> {
        let each = 1_000_000_000 / u64::from(self.per_second.max(1));
        let allowance = each * u64::from(self.burst.max(1));
        let after = (*whole_at).max(now).saturating_add(each);
        match after.saturating_sub(now).checked_sub(allowance) {
            None | Some(0) => {
                *whole_at = after;
                Ok(())
            }
            Some(over) => Err(Duration::from_nanos(over)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_then_the_rate_and_the_answer_says_how_long_to_wait() {
        let (rate, mut kept) = (RequestRate { per_second: 2, burst: 3 }, 0);
        let mut take = |now| rate.take(&mut kept, now);
        for _ in 0..3 {
            assert_eq!(take(SECOND), Ok(()));
        }
        assert_eq!(take(SECOND), Err(Duration::from_millis(500)));
        assert_eq!(take(SECOND), Err(Duration::from_millis(500)), "asking costs nothing");
        assert_eq!(take(SECOND + SECOND / 4), Err(Duration::from_millis(250)));
        assert_eq!(take(SECOND + SECOND / 2), Ok(()));
        assert_eq!(take(100 * SECOND), Ok(()), "no more than a burst is saved up");
        assert_eq!((take(100 * SECOND), take(100 * SECOND)), (Ok(()), Ok(())));
        assert!(take(100 * SECOND).is_err());
    }

    #[test]
    fn a_rate_of_nothing_counts_as_one() {
        let (rate, mut kept) = (RequestRate { per_second: 0, burst: 0 }, 0);
        assert_eq!(rate.take(&mut kept, 0), Ok(()));
        assert_eq!(rate.take(&mut kept, 0), Err(Duration::from_secs(1)));
        let (rate, mut kept) = (RequestRate { per_second: u32::MAX, burst: u32::MAX }, 0);
        assert_eq!(rate.take(&mut kept, u64::MAX), Ok(()), "nothing overflows");
    }

    proptest! {
        /// A bucket that is filled up by fractions, in whole numbers.
        #[test]
        fn it_agrees_with_a_bucket(
            per_second in 1..50_u32,
            burst in 1..20_u32,
            steps in proptest::collection::vec(0..SECOND, 1..200),
        ) {
            let rate = RequestRate { per_second, burst };
            let each = SECOND / u64::from(per_second);
            let full = each * u64::from(burst);
            let (mut kept, mut now, mut level) = (0, 0, full);
            for step in steps {
                now += step;
                level = (level + step).min(full);
                let allowed = level >= each;
                let taken = rate.take(&mut kept, now);
                prop_assert_eq!(taken.is_ok(), allowed);
                match taken {
                    Ok(()) => level -= each,
                    Err(wait) => prop_assert_eq!(wait.as_nanos() as u64, each - level),
                }
            }
        }
    }
}
