//! What came of a scenario: figures with names and units, for people and for programs.

use std::fmt::{self, Write as _};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Name;

/// The longest time that is told apart, one minute, to three digits.
const MAX_NS: u64 = 60_000_000_000;

/// An empty histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_NS, 3).expect("good bounds")
}

/// What a histogram of nanoseconds says in short, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)] // It goes from one process to another.
pub struct Latency {
    /// Values.
    pub count: u64,
    /// Half of them are at most this.
    pub median_ms: f64,
    /// 99 of a hundred are at most this.
    pub p99_ms: f64,
    /// The greatest.
    pub max_ms: f64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |ns: u64| ns as f64 / 1e6;
        Self {
            count: histogram.len(),
            median_ms: ms(histogram.value_at_quantile(0.5)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            max_ms: ms(histogram.max()),
        }
    }
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Figure {
    /// What of it, such as `p99`; empty where the row has one figure alone.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Of what; empty for a ratio or a number of things.
    pub unit: &'static str,
}

/// One line: what was looked at, and its figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// What was looked at.
    pub what: String,
    /// Of how many values, where they are of several.
    pub of: Option<u64>,
    /// The figures.
    pub figures: Vec<Figure>,
}

/// What came of one scenario, in which every client got what it should.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Outcome {
    /// The scenario's name.
    pub name: &'static str,
    /// What was done, in a sentence.
    pub done: String,
    /// What was measured.
    pub rows: Vec<Row>,
    /// What was checked, and held.
    pub checked: Vec<String>,
}

impl Outcome {
    pub(crate) fn new(name: Name, done: String) -> Self {
        Self { name: name.name(), done, rows: Vec::new(), checked: Vec::new() }
    }

    /// Adds a line of one figure.
    pub(crate) fn figure(&mut self, what: &str, value: f64, unit: &'static str) {
        let figures = vec![Figure { name: "", value, unit }];
        self.rows.push(Row { what: what.to_owned(), of: None, figures });
    }

    /// Adds a line of a latency's figures.
    pub(crate) fn latency(&mut self, what: &str, latency: &Latency) {
        let figures = vec![
            Figure { name: "median", value: latency.median_ms, unit: "ms" },
            Figure { name: "p99", value: latency.p99_ms, unit: "ms" },
            Figure { name: "max", value: latency.max_ms, unit: "ms" },
        ];
        self.rows.push(Row { what: what.to_owned(), of: Some(latency.count), figures });
    }

    /// Adds what held.
    pub(crate) fn checked(&mut self, what: impl Into<String>) {
        self.checked.push(what.into());
    }
}

/// Binary units, as the kernel and the limits have them.
pub(crate) const MIB: f64 = 1024.0 * 1024.0;
/// A thousandth of it.
pub(crate) const KIB: f64 = 1024.0;

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.name, self.done)?;
        let width = self.rows.iter().map(|row| row.what.len()).max().unwrap_or_default();
        for row in &self.rows {
            let mut line = format!("  {:<width$}", row.what);
            for Figure { name, value, unit } in &row.figures {
                let gap = if name.is_empty() { "" } else { " " };
                write!(line, "  {name}{gap}{:>9} {unit}", number(*value))?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        for checked in &self.checked {
            writeln!(f, "  checked: {checked}")?;
        }
        Ok(())
    }
}

/// With as many digits as say something.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 1000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_below_each_other() {
        let mut outcome = Outcome::new(Name::Storm, "15 clients leave at once.".to_owned());
        let mut values = histogram();
        values.record_n(2_000_000, 99).unwrap();
        values.record(20_000_000).unwrap();
        let latency = Latency::of(&values);
        assert_eq!(latency.count, 100);
        outcome.latency("others, before", &latency);
        outcome.figure("until only the others are connected", 12.345, "ms");
        outcome.figure("frames", 0.0, "");
        outcome.checked("nobody missed anything");
        let expected = "\
storm: 15 clients leave at once.
  others, before                       median      2.00 ms  p99      2.00 ms  max      20.0 ms
  until only the others are connected       12.3 ms
  frames                                       0
  checked: nobody missed anything
";
        assert_eq!(outcome.to_string(), expected);
    }
}
