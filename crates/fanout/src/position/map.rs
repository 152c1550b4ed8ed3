//! Something for each lane, by the lanes' numbers.
//!
//! Numbers rise and are never used again, so a lane that is closed leaves a hole behind. It
//! must cost nothing: a table with a place for every number would grow with each topic that
//! was ever made anew.

use super::LaneId;

/// Values by lane, in the order of the lanes' numbers.
///
/// As long as no lane was closed, a lane stands where its number says; otherwise it is found
/// by bisection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaneMap<T>(Vec<(LaneId, T)>);

impl<T> Default for LaneMap<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> LaneMap<T> {
    /// Where a lane is, or would be.
    fn find(&self, lane: LaneId) -> Result<usize, usize> {
        let at = lane.0 as usize;
        if self.0.get(at).is_some_and(|(found, _)| *found == lane) {
            return Ok(at);
        }
        // It cannot be behind the place of its number.
        let end = at.min(self.0.len());
        self.0[..end].binary_search_by_key(&lane, |(found, _)| *found)
    }

    pub(crate) fn get(&self, lane: LaneId) -> Option<&T> {
        self.find(lane).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn get_mut(&mut self, lane: LaneId) -> Option<&mut T> {
        self.find(lane).ok().map(|at| &mut self.0[at].1)
    }

    pub(crate) fn get_or_insert_with(&mut self, lane: LaneId, new: impl FnOnce() -> T) -> &mut T {
        let at = self.find(lane).unwrap_or_else(|at| {
            self.0.insert(at, (lane, new()));
            at
        });
        &mut self.0[at].1
    }

    pub(crate) fn remove(&mut self, lane: LaneId) -> Option<T> {
        self.find(lane).ok().map(|at| self.0.remove(at).1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LaneId, &T)> {
        self.0.iter().map(|(lane, value)| (*lane, value))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(all(test, not(fanout_model)))]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(ops in vec((0..12_u32, 0..3_u8), 0..60)) {
            let (mut real, mut model) = (LaneMap::default(), BTreeMap::new());
            for (n, (lane, op)) in ops.into_iter().enumerate() {
                let lane = LaneId(lane);
                match op {
                    0 => prop_assert_eq!(real.remove(lane), model.remove(&lane)),
                    1 => prop_assert_eq!(
                        *real.get_or_insert_with(lane, || n),
                        *model.entry(lane).or_insert(n)
                    ),
                    _ => prop_assert_eq!(real.get_mut(lane), model.get_mut(&lane)),
                }
                prop_assert_eq!(real.get(lane), model.get(&lane));
                prop_assert_eq!(real.len(), model.len());
                let all = model.iter().map(|(lane, value)| (*lane, value));
                prop_assert!(real.iter().eq(all));
            }
        }
    }
}
