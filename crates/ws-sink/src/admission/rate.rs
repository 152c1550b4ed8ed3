//! How often: the generic cell rate algorithm (ITU-T I.371, annex A), which is one number a
//! key.
//!
//! The number is the moment at which all that was let through would be due at the steady
//! rate. It may be ahead of now by as much as the burst takes.
//!
//! Keys of strangers are remembered in two generations. Whoever was not seen for the time
//! in which a burst is earned anew has all of it again, so forgetting him costs nothing:
//! the older generation is dropped as a whole. A generation that is full takes nobody new:
//! forgetting somebody else for him would let both through.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// So many a second, and so many at once.
///
/// ```
/// use ws_sink::Rate;
///
/// let rate = Rate::new(20, 200);
/// assert_eq!((rate.per_second, rate.burst), (20, 200));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rate {
    /// In the long run; zero counts as one.
    pub per_second: u32,
    /// At once, where it was quiet before; zero counts as one.
    pub burst: u32,
}

impl Rate {
    /// So many a second, and `burst` at once.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst }
    }

    /// Nanoseconds from one to the next.
    fn interval(self) -> u64 {
        1_000_000_000 / u64::from(self.per_second.max(1))
    }

    /// Nanoseconds in which a whole burst is earned.
    fn window(self) -> u64 {
        self.interval().saturating_mul(u64::from(self.burst.max(1)))
    }
}

/// What one key has used of its rate. Times are nanoseconds since whatever its owner counts
/// from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used(u64);

impl Used {
    /// Takes `n`, all or none; or else says when they may come.
    pub(crate) fn take(&mut self, n: u32, rate: Rate, now: u64) -> Result<(), Duration> {
        let due = self.0.max(now).saturating_add(rate.interval().saturating_mul(u64::from(n)));
        let latest = now.saturating_add(rate.window());
        if due > latest {
            return Err(Duration::from_nanos(due - latest));
        }
        self.0 = due;
        Ok(())
    }
}

/// What many keys have used, with a bound on how many.
#[derive(Debug)]
pub(crate) struct UsedBy<K> {
    rate: Rate,
    /// Of one generation.
    most: usize,
    new: HashMap<K, Used>,
    old: HashMap<K, Used>,
    turned_at: u64,
}

/// Why a key may not have one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// Of its own.
    Own(Duration),
    /// Of keys.
    Keys(Duration),
}

impl<K: Copy + Eq + Hash> UsedBy<K> {
    pub(crate) fn new(rate: Rate, keys: usize) -> Self {
        let (new, old) = (HashMap::new(), HashMap::new());
        Self { rate, most: (keys / 2).max(1), new, old, turned_at: 0 }
    }

    pub(crate) fn take(&mut self, key: K, now: u64) -> Result<(), TooMany> {
        let (window, age) = (self.rate.window(), now.saturating_sub(self.turned_at));
        if age >= window {
            self.old = std::mem::take(&mut self.new);
            if age >= window.saturating_mul(2) {
                self.old = HashMap::new();
            }
            self.turned_at = now;
        }
        let known = self.new.get(&key).copied();
        if known.is_none() && self.new.len() >= self.most {
            let turns_at = self.turned_at.saturating_add(window);
            return Err(TooMany::Keys(Duration::from_nanos(turns_at - now)));
        }
        let mut used = known.or_else(|| self.old.get(&key).copied()).unwrap_or_default();
        let taken = used.take(1, self.rate, now);
        self.new.insert(key, used);
        taken.map_err(TooMany::Own)
    }

    /// How many are remembered.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.new.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (rate, mut used) = (Rate::new(10, 3), Used::default());
        let mut at = |ms: u64| used.take(1, rate, ms * 1_000_000).is_ok();
        assert_eq!([0, 0, 0, 0].map(&mut at), [true, true, true, false]);
        assert_eq!([99, 100, 100, 200].map(&mut at), [false, true, false, true]);
        assert_eq!([5_000; 4].map(&mut at), [true, true, true, false], "no more than a burst");
    }

    #[test]
    fn who_is_refused_is_told_when_and_has_used_nothing() {
        let (rate, mut used) = (Rate::new(10, 3), Used::default());
        assert_eq!(used.take(3, rate, 0), Ok(()));
        for _ in 0..5 {
            assert_eq!(used.take(1, rate, 0), Err(Duration::from_millis(100)));
        }
        assert_eq!(used.take(1, rate, SECOND / 10), Ok(()));
        assert_eq!(used.take(4, rate, 10 * SECOND), Err(Duration::from_millis(100)), "never");
    }

    #[test]
    fn rates_of_nothing_and_of_everything_are_no_trap() {
        let mut used = Used::default();
        assert_eq!(used.take(1, Rate::new(0, 0), 0), Ok(()));
        assert_eq!(used.take(1, Rate::new(0, 0), 0), Err(Duration::from_secs(1)));
        let mut used = Used::default();
        for _ in 0..10 {
            assert_eq!(used.take(u32::MAX, Rate::new(u32::MAX, u32::MAX), u64::MAX - 1), Ok(()));
        }
    }

    #[test]
    fn who_comes_too_often_is_not_forgotten_before_he_has_earned_it() {
        let mut used = UsedBy::new(Rate::new(1, 2), 100);
        // The end of a generation comes between his two and his third.
        assert_eq!(used.take('x', 0), Ok(()));
        let at = 2 * SECOND - 1;
        assert_eq!([used.take('a', at), used.take('a', at)], [Ok(()); 2]);
        assert!(matches!(used.take('a', 2 * SECOND), Err(TooMany::Own(_))));
        assert_eq!(used.take('b', 2 * SECOND), Ok(()), "another is another");
        assert_eq!(used.take('a', 3 * SECOND), Ok(()));
    }

    #[test]
    fn strangers_without_end_are_bounded_and_then_refused() {
        let mut used = UsedBy::new(Rate::new(1, 10), 100);
        let taken = (0..1_000).filter(|key| used.take(*key, 1).is_ok()).count();
        assert_eq!(taken, 50);
        assert_eq!(used.take(0, 1), Ok(()), "who is known is served");
        let Err(TooMany::Keys(after)) = used.take(1_000, 1) else { panic!("taken") };
        assert_eq!(after, Duration::from_nanos(10 * SECOND - 1));
        let later = 10 * SECOND;
        assert_eq!((1_000..2_000).filter(|key| used.take(*key, later).is_ok()).count(), 50);
        assert!(used.len() <= 100);
        assert_eq!(used.take(0, 40 * SECOND), Ok(()));
        assert_eq!(used.len(), 1);
    }
}
