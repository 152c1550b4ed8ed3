//! What is running now, on stderr.
//!
//! In a terminal a bar, else a line a run. The bar is drawn once a second and when a run
//! begins: this process is the clients, and what it does besides is measured with them.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::comparison::Progress;
use crate::summary;

const SECOND: Duration = Duration::from_secs(1);

/// Shows each run as it begins.
#[derive(Debug)]
pub struct Shown {
    bar: Option<ProgressBar>,
}

impl Shown {
    /// A bar where stderr is a terminal, else lines.
    pub fn here() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(1));
            bar.with_style(style())
        });
        Self { bar }
    }

    /// A run begins.
    pub fn begin(&self, run: &Progress) {
        let (name, server) = (summary::name(&run.case), run.server.name());
        let repetition = run.repetition + 1;
        let Some(bar) = &self.bar else {
            let (at, total) = (run.done + 1, run.total);
            eprintln!("[{at:>3}/{total}] {name}: repetition {repetition}, {server}");
            return;
        };
        bar.set_message(format!("{name}: repetition {repetition}, {server}"));
        bar.set_length(run.total as u64);
        bar.set_position(run.done as u64);
        if run.done == 0 {
            bar.enable_steady_tick(SECOND);
        }
    }

    /// Prints lines to stdout, without a bar in between.
    pub fn print(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    /// All have run, or the last one has failed.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    let template = "{wide_msg}\n[{bar:40}] {pos} of {len} runs, {elapsed}{left}";
    let style = ProgressStyle::with_template(template).expect("it is well made");
    let style = style.progress_chars("=> ");
    // Not the usual guess from the latest steps: servers take turns, and some take long.
    style.with_key("left", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let left = left(state.elapsed(), state.pos(), state.len().unwrap_or_default());
        // What cannot be drawn is drawn the next time.
        let _ = left.map(|left| write!(out, ", about {} left", indicatif::HumanDuration(left)));
    })
}

/// How long the rest takes, if it takes as long as what was.
fn left(elapsed: Duration, done: u64, total: u64) -> Option<Duration> {
    let rest = total.saturating_sub(done) as f64;
    (done > 0).then(|| elapsed.div_f64(done as f64).mul_f64(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_was() {
        assert_eq!(left(SECOND * 10, 0, 10), None);
        assert_eq!(left(SECOND * 10, 5, 20), Some(SECOND * 30));
        assert_eq!(left(SECOND * 10, 20, 20), Some(Duration::ZERO));
    }

    #[test]
    fn a_bar_is_well_made() {
        let bar = ProgressBar::with_draw_target(Some(3), ProgressDrawTarget::hidden());
        bar.set_style(style());
        Shown { bar: Some(bar) }.finish();
    }
}
