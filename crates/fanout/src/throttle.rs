//! How often the log may be told of the same trouble.

use std::time::{Duration, Instant};

/// Lets a burst of lines pass in each window of time, and counts the others.
///
/// For sources and sinks: a broker that is away is away many times a second.
#[derive(Debug)]
pub struct Throttle {
    burst: u32,
    window: Duration,
    opened: Option<Instant>,
    passed: u32,
    held_back: u64,
}

impl Throttle {
    /// So many lines in each window.
    pub fn new(burst: u32, window: Duration) -> Self {
        Self { burst, window, opened: None, passed: 0, held_back: 0 }
    }

    /// Whether a line may pass now, and then how many were held back since the last.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.opened.is_none_or(|opened| now.duration_since(opened) >= self.window) {
            self.opened = Some(now);
            self.passed = 0;
        }
        if self.passed >= self.burst {
            self.held_back += 1;
            return None;
        }
        self.passed += 1;
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_window_holds_the_rest_and_counts_them() {
        let (mut throttle, start) = (Throttle::new(2, Duration::from_secs(10)), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let passed = [0, 1, 2, 9, 10, 10, 11, 25].map(|seconds| throttle.pass(at(seconds)));
        assert_eq!(passed, [Some(0), Some(0), None, None, Some(2), Some(0), None, Some(1)]);
    }
}
