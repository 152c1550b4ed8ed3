//! What the library counts in this process, by name.
//!
//! As small a recorder as will do: counters alone, those of one name and different labels
//! apart, as `NAME LABEL...`.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_global_recorder,
};

/// What was counted so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Counters {
    /// Counts from now on.
    ///
    /// # Errors
    /// Where somebody else does already.
    pub(super) fn install() -> io::Result<Self> {
        let counters = Self::default();
        set_global_recorder(counters.clone()).map_err(io::Error::other)?;
        Ok(counters)
    }

    /// How much of each.
    pub(super) fn now(&self) -> BTreeMap<String, u64> {
        let counters = self.0.lock().expect("no panic under this lock");
        let now = |(name, value): (&String, &Arc<AtomicU64>)| {
            (name.clone(), value.load(Ordering::Relaxed))
        };
        counters.iter().map(now).collect()
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut name = key.name().to_owned();
        for label in key.labels() {
            name.push(' ');
            name.push_str(label.value());
        }
        let mut counters = self.0.lock().expect("no panic under this lock");
        Counter::from_arc(counters.entry(name).or_default().clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_told_apart() {
        let counters = Counters::default();
        metrics::with_local_recorder(&counters, || {
            metrics::counter!("gaps", "reason" => "limit").increment(2);
            metrics::counter!("gaps", "reason" => "reset").increment(1);
            metrics::counter!("gaps", "reason" => "limit").increment(1);
            metrics::counter!("passes").increment(4);
            metrics::gauge!("log").set(7.0);
        });
        let now = counters.now().into_iter().collect::<Vec<_>>();
        let expected = [("gaps limit", 3), ("gaps reset", 1), ("passes", 4)];
        assert_eq!(now, expected.map(|(name, value)| (name.to_owned(), value)));
    }
}
