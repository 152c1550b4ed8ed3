//! What is counted, under which name.

use std::collections::BTreeMap;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};

use super::*;

type Values = Arc<Mutex<BTreeMap<String, f64>>>;

/// Counts of this thread, which is the one that a test's tasks run on.
#[derive(Default)]
struct Counts(Values);

struct One(String, Values);

impl One {
    fn of(key: &Key, values: &Values) -> Arc<Self> {
        let labels: Vec<_> = key.labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
        Arc::new(Self(format!("{}{{{}}}", key.name(), labels.join(",")), Arc::clone(values)))
    }

    fn set_with(&self, value: impl FnOnce(f64) -> f64) {
        let mut values = self.1.lock().unwrap();
        let one = values.entry(self.0.clone()).or_default();
        *one = value(*one);
    }
}

impl CounterFn for One {
    fn increment(&self, by: u64) {
        self.set_with(|value| value + by as f64);
    }

    fn absolute(&self, to: u64) {
        self.set_with(|_| to as f64);
    }
}

impl GaugeFn for One {
    fn increment(&self, by: f64) {
        self.set_with(|value| value + by);
    }

    fn decrement(&self, by: f64) {
        self.set_with(|value| value - by);
    }

    fn set(&self, to: f64) {
        self.set_with(|_| to);
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(One::of(key, &self.0))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(One::of(key, &self.0))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn loads_are_counted_and_the_age_of_the_keys_is_known() {
    let counts = Counts::default();
    let _here = metrics::set_default_local_recorder(&counts);
    let value = |name: &str| counts.0.lock().unwrap().get(name).copied().unwrap_or_default();
    let told = Told::new(&[&["a"]]);
    let jwks = jwks(&told);
    assert_eq!(key(&jwks, "a").await, "ok");
    assert_eq!(value("fanout_jwks_refreshes_total{outcome=loaded}").to_bits(), 1f64.to_bits());
    told.set_down(true);
    advance(2 * DEFAULT_REFRESH_EVERY).await;
    assert_eq!(key(&jwks, "a").await, "ok");
    assert_eq!(value("fanout_jwks_refreshes_total{outcome=failed}").to_bits(), 1f64.to_bits());
    assert_eq!(value("fanout_jwks_age_seconds{}").to_bits(), 1200f64.to_bits());
    told.set_down(false);
    advance(RETRY_EVERY).await;
    assert_eq!(key(&jwks, "a").await, "ok");
    settled().await;
    assert_eq!(value("fanout_jwks_refreshes_total{outcome=loaded}").to_bits(), 2f64.to_bits());
    assert_eq!(value("fanout_jwks_age_seconds{}").to_bits(), 0f64.to_bits());
}
