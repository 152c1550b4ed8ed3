//! Counts by name, for the summary.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// How often what happened.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    pub(crate) fn add(&self, name: impl Into<String>) {
        let mut counts = self.0.lock().expect("nobody panics with it");
        *counts.entry(name.into()).or_default() += 1;
    }

    pub(crate) fn of(&self, name: &str) -> u64 {
        self.0.lock().expect("nobody panics with it").get(name).copied().unwrap_or(0)
    }

    pub(crate) fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().expect("nobody panics with it").clone()
    }
}
