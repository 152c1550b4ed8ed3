//! How many of each key there are now. What has none is not remembered, so the table is
//! never larger than what it counts.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Below this a table is not worth giving back.
const SMALL: usize = 256;

#[derive(Debug)]
pub(crate) struct Counts<K>(HashMap<K, u32>);

impl<K: Eq + Hash> Counts<K> {
    pub(crate) fn new() -> Self {
        Self(HashMap::new())
    }

    /// One more, where it stays within `most`.
    pub(crate) fn take(&mut self, key: K, most: usize) -> bool {
        // Refused without being remembered.
        let held = self.0.get(&key).copied().unwrap_or(0);
        if held as usize >= most.min(u32::MAX as usize) {
            return false;
        }
        self.0.insert(key, held + 1);
        true
    }

    /// One less.
    pub(crate) fn give<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let Some(held) = self.0.get_mut(key) else { return };
        *held -= 1;
        if *held == 0 {
            self.0.remove(key);
            if self.0.capacity() > SMALL && self.0.len() < self.0.capacity() / 8 {
                self.0.shrink_to(self.0.len() * 2);
            }
        }
    }

    /// How many keys have any.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_so_many_and_none_is_kept_for_nothing() {
        let mut counts = Counts::new();
        let taken = ["a", "a", "a", "b"].map(|key| counts.take(key, 2));
        assert_eq!(taken, [true, true, false, true]);
        counts.give("a");
        assert!(counts.take("a", 2));
        for key in ["a", "a", "b"] {
            counts.give(key);
        }
        assert_eq!(counts.len(), 0);
        assert!(!counts.take("c", 0));
        assert_eq!(counts.len(), 0, "who is refused is not remembered");
    }

    #[test]
    fn a_flood_leaves_no_large_table_behind() {
        let mut counts = Counts::new();
        for key in 0..100_000 {
            assert!(counts.take(key, 1));
        }
        for key in 0..100_000 {
            counts.give(&key);
        }
        assert!(counts.0.capacity() <= SMALL, "{}", counts.0.capacity());
    }
}
