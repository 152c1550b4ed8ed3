//! Clocks that two processes can compare, and the CPU time of this one.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).expect("neither clock goes below zero");
    let nanos = u32::try_from(time.tv_nsec).expect("less than a second");
    Duration::new(seconds, nanos)
}

/// Nanoseconds of the system's monotonic clock: the same in every process.
pub fn monotonic_ns() -> u64 {
    u64::try_from(read(ClockId::Monotonic).as_nanos()).expect("584 years of uptime")
}

/// What this process has used, user and system, of all its threads.
///
/// To the nanosecond, where `/proc/PID/stat` counts ticks of ten milliseconds.
pub fn process_cpu() -> Duration {
    read(ClockId::ProcessCPUTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_counts_what_was_worked_and_never_falls() {
        let (before, began) = (process_cpu(), monotonic_ns());
        let sum = (0..1_000_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
        std::hint::black_box(sum);
        assert!(process_cpu() > before);
        assert!(monotonic_ns() > began);
    }
}
