//! Bars, one a server, with how far the repetitions spread.
//!
//! Where the scale is a logarithm there is no zero for a bar to begin at: a mark
//! stands at the median then, and the line to it only leads the eye.

use super::svg::{self, Scale, WIDTH, words};
use crate::report::{grouped, short};
use crate::servers::Kind;
use crate::summary::Spread;

const ROW: f64 = 26.0;
const TOP: f64 = 6.0;
/// Below the bars: ticks, and what they count.
const FOOT: f64 = 42.0;
/// For names at the left, for values at the right.
const NAMES: f64 = 92.0;
const VALUES: f64 = 62.0;
const BAR: f64 = 15.0;

/// A chart of what each server has; empty where none has anything.
pub(super) fn bars(
    title: &str,
    unit: &str,
    rows: impl Iterator<Item = (Kind, Option<Spread>)>,
) -> String {
    let rows: Vec<(Kind, Option<Spread>)> = rows.collect();
    let spreads: Vec<Spread> = rows.iter().filter_map(|(_, spread)| *spread).collect();
    if spreads.is_empty() {
        return String::new();
    }
    let scale = Scale::fitting(&spreads, NAMES, WIDTH - VALUES);
    let bottom = TOP + ROW * rows.len() as f64;
    let mut inside = axis(&scale, bottom, unit);
    for (at, (server, spread)) in rows.iter().enumerate() {
        let middle = TOP + ROW * (at as f64 + 0.5);
        inside += &words("name", "end", (NAMES - 8.0, middle + 4.0), server.name());
        inside += &match spread {
            Some(spread) => bar(&scale, *server, spread, middle, unit),
            None => words("value", "start", (NAMES + 6.0, middle + 4.0), "not known"),
        };
    }
    let about = format!("{unit}, median, least and greatest; the numbers are in the table below");
    svg::figure(title, &about, bottom + FOOT, &inside)
}

fn axis(scale: &Scale, bottom: f64, unit: &str) -> String {
    let mut out = String::new();
    for value in scale.ticks() {
        let x = scale.at(value);
        out += &svg::line("grid", (x, TOP), (x, bottom));
        out += &words("tick", "middle", (x, bottom + 15.0), svg::tick(value));
    }
    let log = if scale.is_log() { ", logarithmic" } else { "" };
    let middle = f64::midpoint(NAMES, WIDTH - VALUES);
    out + &words("unit", "middle", (middle, bottom + 34.0), format_args!("{unit}{log}"))
}

fn bar(scale: &Scale, server: Kind, spread: &Spread, middle: f64, unit: &str) -> String {
    let [min, median, max] = [spread.min, spread.median, spread.max].map(|value| scale.at(value));
    let shown = |value| if value < 1000.0 { short(value) } else { grouped(value) };
    let told = format!(
        "{}: {} {unit} ({} to {})",
        server.name(),
        shown(spread.median),
        shown(spread.min),
        shown(spread.max)
    );
    let mut inside = if scale.is_log() {
        svg::line("lead", (NAMES, middle), (median, middle))
    } else {
        let (top, width) = (middle - BAR / 2.0, median - NAMES);
        format!(
            "<rect class=\"bar\" x=\"{NAMES}\" y=\"{top:.1}\" width=\"{width:.1}\" \
             height=\"{BAR}\"/>\n"
        )
    };
    inside += &svg::line("whisker", (min, middle), (max, middle));
    for end in [min, max] {
        inside += &svg::line("whisker", (end, middle - 4.0), (end, middle + 4.0));
    }
    if scale.is_log() {
        inside += &svg::mark(server, median, middle);
    }
    let value = if spread.median < 1000.0 { short(spread.median) } else { brief(spread.median) };
    inside += &words("value", "start", (max.max(median) + 9.0, middle + 4.0), value);
    svg::group(server, &told, &inside)
}

/// Three digits, and k or M.
fn brief(value: f64) -> String {
    let (value, unit) = if value < 999_500.0 { (value / 1e3, "k") } else { (value / 1e6, "M") };
    format!("{}{unit}", short(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(medians: [f64; 2]) -> String {
        let [floor, ws] =
            medians.map(|median| Spread::of(&mut [median * 0.9, median, median * 1.1]));
        bars("CPU", "µs", [(Kind::Floor, floor), (Kind::Ws, ws), (Kind::Bun, None)].into_iter())
    }

    #[test]
    fn a_bar_begins_at_zero_and_a_logarithm_has_none() {
        let near = chart([1.5, 5.0]);
        assert_eq!((near.matches("class=\"bar\"").count(), near.matches("mark").count()), (2, 0));
        assert!(near.contains("<title>ws: 5.00 µs (4.50 to 5.50)</title>"), "{near}");
        assert!(near.contains(">not known<"), "{near}");
        let far = chart([1.5, 50.0]);
        assert_eq!((far.matches("class=\"bar\"").count(), far.matches("mark").count()), (0, 2));
        assert!(far.contains(">µs, logarithmic<"), "{far}");
        assert_eq!(bars("CPU", "µs", [(Kind::Floor, None)].into_iter()), "");
    }

    #[test]
    fn a_value_is_brief() {
        let values = [1_000.0, 135_432.0, 999_499.0, 999_600.0, 5_900_000.0].map(brief);
        assert_eq!(values, ["1.00k", "135k", "999k", "1.00M", "5.90M"]);
    }
}
