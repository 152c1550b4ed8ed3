//! What all charts share: scales with their ticks, marks, and the figure around them.

use std::fmt::{Display, Write as _};

use super::{Text, class};
use crate::servers::Kind;
use crate::summary::Spread;

/// Units across: as wide as a phone, so that text is to be read there.
pub(super) const WIDTH: f64 = 440.0;

/// Where the greatest is so many times the least, the least would hardly be seen: the
/// scale is a logarithm.
const FAR: f64 = 20.0;

/// Most ticks of a logarithm, else powers of ten have to do.
const TICKS: usize = 9;

/// From values to units of a drawing.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    log: bool,
    /// Values, and where they are drawn.
    from: (f64, f64),
    to: (f64, f64),
}

impl Scale {
    /// For lengths from zero on, up to `max`.
    pub(super) fn linear(max: f64, start: f64, end: f64) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let step = step(max);
        Self { log: false, from: (0.0, start), to: ((max / step).ceil() * step, end) }
    }

    /// For what is from `min` to `max`, both above zero.
    pub(super) fn log(min: f64, max: f64, start: f64, end: f64) -> Self {
        let below = steps(min).rfind(|step| *step <= min * 1.000_001).unwrap_or(min);
        let above = steps(max).find(|step| *step >= max * 0.999_999).unwrap_or(max);
        let above = if above > below { above } else { below * 10.0 };
        Self { log: true, from: (below, start), to: (above, end) }
    }

    /// Whichever shows the medians better. The scale holds what they spread to as well;
    /// as a logarithm no less than a tenth of the least median.
    pub(super) fn fitting(spreads: &[Spread], start: f64, end: f64) -> Self {
        let least = |of: fn(&Spread) -> f64| spreads.iter().map(of).fold(f64::INFINITY, f64::min);
        let most = |of: fn(&Spread) -> f64| spreads.iter().map(of).fold(0.0, f64::max);
        let (min, max) = (least(|spread| spread.median), most(|spread| spread.median));
        if min > 0.0 && max > min * FAR {
            let min = least(|spread| spread.min).max(min / 10.0);
            Self::log(min, most(|spread| spread.max), start, end)
        } else {
            Self::linear(most(|spread| spread.max), start, end)
        }
    }

    pub(super) fn is_log(&self) -> bool {
        self.log
    }

    /// Where a value is drawn: never beside the scale.
    pub(super) fn at(&self, value: f64) -> f64 {
        let value = value.clamp(self.from.0, self.to.0);
        let part = if self.log {
            (value / self.from.0).ln() / (self.to.0 / self.from.0).ln()
        } else {
            (value - self.from.0) / (self.to.0 - self.from.0)
        };
        self.from.1 + part * (self.to.1 - self.from.1)
    }

    /// Values to be written at the scale.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let (from, to) = (self.from.0, self.to.0 * 1.000_001);
        if !self.log {
            let step = step(self.to.0);
            let steps = (0..).map(|n| f64::from(n) * step);
            return steps.take_while(|value| *value <= to).collect();
        }
        let inside = |value: &f64| (from * 0.999_999..=to).contains(value);
        let steps = || decades(from, to).flat_map(|ten| [1.0, 2.0, 5.0].map(|n| n * ten));
        let all: Vec<f64> = steps().filter(inside).collect();
        let tens: Vec<f64> = decades(from, to).filter(inside).collect();
        if all.len() <= TICKS { all } else { tens }
    }
}

/// One of 1, 2 and 5 times a power of ten, so that four to nine make up `max`.
fn step(max: f64) -> f64 {
    let ten = 10_f64.powf(max.log10().floor());
    let steps = [0.2, 0.5, 1.0, 2.0].map(|part| part * ten);
    steps.into_iter().find(|step| max / step <= 6.0).unwrap_or(ten)
}

/// Powers of ten around and between.
fn decades(from: f64, to: f64) -> impl DoubleEndedIterator<Item = f64> {
    let (from, to) = (from.log10().floor() as i32 - 1, to.log10().ceil() as i32 + 1);
    (from..=to).map(|power| 10_f64.powi(power))
}

/// 1, 2 and 5 times the powers of ten around a value.
fn steps(value: f64) -> impl DoubleEndedIterator<Item = f64> {
    decades(value, value).flat_map(|ten| [1.0, 2.0, 5.0].map(|n| n * ten))
}

/// A number at a scale: short, with k and M for thousands and millions.
pub(super) fn tick(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e3 => (v / 1e3, "k"),
        v => (v, ""),
    };
    // Sums of steps end in long fractions.
    let rounded = format!("{value:.4}");
    let rounded = rounded.trim_end_matches('0').trim_end_matches('.');
    format!("{rounded}{unit}")
}

/// The sign of a server around a place: not by its colour alone.
pub(super) fn mark(server: Kind, x: f64, y: f64) -> String {
    let path = match server {
        Kind::Floor => "M0-6V6",
        Kind::Channel => "M-4-4H4V4H-4Z",
        Kind::Batched => "M-4.5-2.5H4.5V2.5H-4.5Z",
        Kind::Broadcast => "M0-5L5 4H-5Z",
        Kind::Socketioxide => "M0-5.5L5.5 0L0 5.5L-5.5 0Z",
        Kind::Bun => "M0 5L5-4H-5Z",
        Kind::Ws => "M-4-4L4 4M4-4L-4 4",
        Kind::SocketIo => "M0-5.5V5.5M-5.5 0H5.5",
        _ => "M-4.5 0A4.5 4.5 0 0 1 4.5 0A4.5 4.5 0 0 1-4.5 0Z",
    };
    format!("<path class=\"mark\" d=\"{path}\" transform=\"translate({x:.1} {y:.1})\"/>")
}

/// A line of two ends.
pub(super) fn line(class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    format!(
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n"
    )
}

/// Words at a place; `anchor` as SVG has it: start, middle or end.
pub(super) fn words(class: &str, anchor: &str, (x, y): (f64, f64), text: impl Display) -> String {
    let (text, mut out) = (text.to_string(), String::new());
    write!(out, "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">")
        .expect("a String takes all");
    format!("{out}{}</text>\n", Text(&text))
}

/// What belongs to a server, with what is told when it is pointed at.
pub(super) fn group(server: Kind, told: &str, inside: &str) -> String {
    format!("<g class=\"{}\">\n<title>{}</title>\n{inside}</g>\n", class(server), Text(told))
}

/// A chart and its title; `about` is for those who do not see it.
pub(super) fn figure(title: &str, about: &str, height: f64, inside: &str) -> String {
    format!(
        "<figure>\n<figcaption>{}</figcaption>\n\
         <svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}: {}\">\n\
         {inside}</svg>\n</figure>\n",
        Text(title),
        Text(title),
        Text(about)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitting(values: &[f64], start: f64, end: f64) -> Scale {
        let spread = |value: &f64| Spread::of(&mut [*value]).unwrap();
        Scale::fitting(&values.iter().map(spread).collect::<Vec<_>>(), start, end)
    }

    #[test]
    fn lengths_begin_at_zero() {
        let scale = fitting(&[1.5, 21.0], 100.0, 200.0);
        assert!(!scale.is_log());
        assert_eq!(scale.ticks(), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]);
        let places = [0.0, 12.5, 25.0, 99.0].map(|v| scale.at(v).round() as i32);
        assert_eq!(places, [100, 150, 200, 200]);
        let small = fitting(&[0.08, 0.31], 0.0, 1.0).ticks();
        assert_eq!(
            small.iter().map(|v| tick(*v)).collect::<Vec<_>>(),
            ["0", "0.1", "0.2", "0.3", "0.4"]
        );
        // Nothing at all is drawn as well.
        for values in [&[][..], &[0.0], &[-1.0, 2.0]] {
            let scale = fitting(values, 0.0, 1.0);
            assert!(!scale.is_log() && scale.at(0.0) < 1e-9 && scale.ticks().len() > 1);
        }
    }

    #[test]
    fn what_is_far_apart_is_a_logarithm() {
        let scale = fitting(&[400.0, 4_400.0, 135_000.0], 0.0, 100.0);
        assert!(scale.is_log());
        assert_eq!(scale.ticks(), [1e3, 1e4, 1e5]);
        assert!(scale.at(400.0) > 0.0 && scale.at(135_000.0) < 100.0);
        // Not what a median spreads to makes it one, and below zero it has no place.
        let wide = |median: f64| Spread::of(&mut [-1.0, median, 2.0 * median]).unwrap();
        assert!(!Scale::fitting(&[wide(1.0), wide(19.0)], 0.0, 1.0).is_log());
        let scale = Scale::fitting(&[wide(1.0), wide(21.0)], 0.0, 100.0);
        assert!(scale.is_log() && scale.at(0.1) < 1e-9 && scale.at(42.0) < 100.0);
        let scale = Scale::log(1.0, 1.0, 0.0, 100.0);
        assert_eq!((scale.at(1.0), scale.at(10.0), scale.ticks().len()), (0.0, 100.0, 4));
        assert_eq!(Scale::log(0.8, 9.0, 0.0, 1.0).ticks(), [0.5, 1.0, 2.0, 5.0, 10.0]);
    }

    #[test]
    fn a_tick_is_short() {
        let ticks = [0.0, 0.05, 0.1 + 0.2, 1_000.0, 2_500_000.0].map(tick);
        assert_eq!(ticks, ["0", "0.05", "0.3", "1k", "2.5M"]);
    }
}
