//! Latency by percentile, of all repetitions together.
//!
//! The further out, the closer the points: from half of what remains to half of that,
//! as Gil Tene's HDR histograms are plotted.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Points until what remains is halved.
const POINTS: u32 = 5;

/// From publishing to the client.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// Microseconds: half of the messages took no longer.
    #[serde(rename = "latency_p50_us")]
    pub p50_us: f64,
    /// As above, for 99 of 100.
    #[serde(rename = "latency_p99_us")]
    pub p99_us: f64,
    /// As above, for 999 of 1,000.
    #[serde(rename = "latency_p999_us")]
    pub p999_us: f64,
    /// How many were measured.
    #[serde(rename = "latency_count")]
    pub count: u64,
    /// The whole curve, up to the slowest; neither falls.
    #[serde(rename = "latency_curve")]
    pub curve: Vec<Point>,
}

/// A point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Point {
    /// So many of a hundred took no longer.
    pub percentile: f64,
    /// Than so many microseconds.
    pub us: f64,
}

impl Latency {
    /// Of all `runs` together; `None` where nothing was measured.
    pub fn of<'a>(runs: impl IntoIterator<Item = &'a Histogram<u64>>) -> Option<Self> {
        let mut all = Histogram::<u64>::new(3).ok()?;
        for run in runs {
            all.add(run).ok()?;
        }
        if all.is_empty() {
            return None;
        }
        let quantile = |q| all.value_at_quantile(q) as f64 / 1e3;
        let mut curve = vec![Point { percentile: 0.0, us: all.min() as f64 / 1e3 }];
        curve.extend(all.iter_quantiles(POINTS).map(|step| Point {
            percentile: step.quantile_iterated_to() * 100.0,
            us: step.value_iterated_to().min(all.max()) as f64 / 1e3,
        }));
        curve.dedup_by(|next, last| next.percentile <= last.percentile);
        Some(Self {
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            count: all.len(),
            curve,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_from_the_fastest_to_the_slowest() {
        let mut runs = [(); 2].map(|()| Histogram::<u64>::new(3).unwrap());
        for n in 1..=10_000 {
            runs[n % 2].record(n as u64 * 1_000).unwrap();
        }
        let latency = Latency::of(&runs).unwrap();
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 0.002;
        assert!(near(latency.p50_us, 5_000.0) && near(latency.p999_us, 9_990.0), "{latency:?}");
        assert_eq!(latency.count, 10_000);
        let (first, last) = (latency.curve[0], *latency.curve.last().unwrap());
        assert!(first.percentile < 1e-9 && near(first.us, 1.0), "{first:?}");
        assert!(near(last.percentile, 100.0) && near(last.us, 10_000.0), "{last:?}");
        let rises =
            |pair: &[Point]| pair[0].percentile < pair[1].percentile && pair[0].us <= pair[1].us;
        assert!(latency.curve.windows(2).all(rises), "{latency:?}");
        // Enough to draw it, and no more.
        assert!((30..100).contains(&latency.curve.len()), "{}", latency.curve.len());
    }

    #[test]
    fn nothing_has_no_latency() {
        assert!(Latency::of(&[]).is_none());
        assert!(Latency::of(&[Histogram::<u64>::new(3).unwrap()]).is_none());
    }
}
