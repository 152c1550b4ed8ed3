//! Latency by percentile, a line a server.
//!
//! To the right each step stands for ten times fewer messages, as in the plots of Gil
//! Tene's `HdrHistogram`: the rare slow ones are what a median hides.

use super::svg::{self, Scale, WIDTH, line, words};
use crate::report::short;
use crate::summary::Row;
use crate::summary::latency::{Latency, Point};

const LEFT: f64 = 58.0;
/// For the names at the lines' ends.
const RIGHT: f64 = 96.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 216.0;
const HEIGHT: f64 = 258.0;
/// Between two names.
const APART: f64 = 13.0;
/// Least latency that is drawn, in microseconds: a logarithm has no zero.
const LEAST: f64 = 0.1;

/// The curves of all rows.
pub(super) fn of(rows: &[Row]) -> String {
    let points = || rows.iter().flat_map(|row| &row.latency.curve).map(|point| point.us.max(LEAST));
    let (min, max) = (points().fold(f64::INFINITY, f64::min), points().fold(LEAST, f64::max));
    let count = rows.iter().map(|row| row.latency.count).max().unwrap_or_default();
    let Some(first) = rows.first().filter(|_| min.is_finite()) else { return String::new() };
    let y = Scale::log(min, max, BOTTOM, TOP);
    let x = Scale::log(1.0, (count as f64).max(10.0), LEFT, WIDTH - RIGHT);

    let mut inside = axes(&x, &y, count);
    let ends = rows.iter().map(|row| row.latency.curve.last().unwrap_or(&NOTHING));
    let ends: Vec<f64> = ends.map(|end| y.at(end.us.max(LEAST))).collect();
    for ((row, end), name) in rows.iter().zip(&ends).zip(apart(&ends)) {
        let right = x.at(row.latency.count as f64);
        let mut drawn = path(&row.latency, &x, &y);
        drawn += &line("leader", (right + 2.0, *end), (right + 10.0, name));
        drawn += &words("end", "start", (right + 13.0, name + 4.0), row.server.name());
        let Latency { p50_us, p99_us, p999_us, .. } = row.latency;
        let [p50, p99, p999] = [p50_us, p99_us, p999_us].map(|us| short(us / 1e3));
        let told = format!("{}: p50 {p50} ms, p99 {p99} ms, p99.9 {p999} ms", row.server.name());
        inside += &svg::group(row.server, &told, &drawn);
    }
    let about = format!(
        "time from publishing to the client's read by percentile, of {} servers from {} on; \
         p50, p99 and p99.9 are in the table below",
        rows.len(),
        first.server.name()
    );
    svg::figure("Latency by percentile", &about, HEIGHT, &inside)
}

const NOTHING: Point = Point { percentile: 0.0, us: 0.0 };

/// How many messages there are to one that takes longer; all of them at the end.
fn one_in(percentile: f64, count: u64) -> f64 {
    let slower = 1.0 - percentile / 100.0;
    (1.0 / slower.max(f64::MIN_POSITIVE)).min(count as f64)
}

fn path(latency: &Latency, x: &Scale, y: &Scale) -> String {
    let place = |point: &Point| {
        let x = x.at(one_in(point.percentile, latency.count));
        format!("{x:.1},{:.1}", y.at(point.us.max(LEAST)))
    };
    let places: Vec<String> = latency.curve.iter().map(place).collect();
    format!("<polyline class=\"curve\" points=\"{}\"/>\n", places.join(" "))
}

fn axes(x: &Scale, y: &Scale, count: u64) -> String {
    let mut out = String::new();
    for value in y.ticks() {
        let at = y.at(value);
        out += &line("grid", (LEFT, at), (WIDTH - RIGHT, at));
        out += &words("tick", "end", (LEFT - 6.0, at + 4.0), time(value));
    }
    let tens = (0_u8..).map(|nines| (nines, 10_f64.powi(nines.into())));
    let mut free = f64::NEG_INFINITY;
    for (nines, ten) in tens.take_while(|(_, ten)| *ten <= count as f64) {
        let at = x.at(ten);
        out += &line("grid", (at, TOP), (at, BOTTOM));
        // The more nines, the wider: where two would touch, the second is left out.
        let half = 4.0 * percentile(nines.into()).len() as f64;
        if at - half < free {
            continue;
        }
        free = at + half;
        out += &words("tick", "middle", (at, BOTTOM + 15.0), percentile(nines.into()));
    }
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    out + &words("unit", "middle", (middle, BOTTOM + 34.0), "% of deliveries take no longer")
}

/// One nine is 90, three are 99.9.
fn percentile(nines: usize) -> String {
    match nines {
        0 => "0".to_owned(),
        1 => "90".to_owned(),
        2 => "99".to_owned(),
        nines => format!("99.{}", "9".repeat(nines - 2)),
    }
}

fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", svg::tick(us / 1e6)),
        us if us >= 1e3 => format!("{} ms", svg::tick(us / 1e3)),
        us => format!("{} µs", svg::tick(us)),
    }
}

/// Moves places of names apart, each as little as the others let it, within the drawing.
fn apart(places: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|a, b| places[*a].total_cmp(&places[*b]));
    let mut out = places.to_vec();
    let mut next = TOP;
    for at in &order {
        out[*at] = out[*at].max(next);
        next = out[*at] + APART;
    }
    let mut next = BOTTOM;
    for at in order.iter().rev() {
        out[*at] = out[*at].min(next);
        next = out[*at] - APART;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_cover_each_other() {
        assert_eq!(apart(&[100.0, 40.0, 101.0]), [100.0, 40.0, 113.0]);
        assert_eq!(apart(&[BOTTOM, BOTTOM]), [BOTTOM - APART, BOTTOM]);
        let many = apart(&[50.0; 8]);
        assert!(many.windows(2).all(|pair| pair[1] - pair[0] >= APART), "{many:?}");
    }

    #[test]
    fn the_slowest_is_at_the_end() {
        assert!((one_in(0.0, 1_000) - 1.0).abs() < 1e-9);
        assert!((one_in(99.0, 1_000) - 100.0).abs() < 1e-6);
        assert!((one_in(100.0, 1_000) - 1_000.0).abs() < 1e-9);
        assert_eq!([0, 1, 2, 3, 5].map(percentile), ["0", "90", "99", "99.9", "99.999"]);
        assert_eq!([2.0, 500.0, 5e3, 1e6].map(time), ["2 µs", "500 µs", "5 ms", "1 s"]);
    }
}
