//! What a server's process uses, as `/proc` tells it.

use std::io;
use std::time::Duration;

/// A process of a server on this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerProcess {
    pub(super) pid: u32,
}

/// What it has used at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system time of all its threads, in ticks of mostly ten milliseconds.
    pub(super) cpu: Duration,
    /// Bytes of memory that are its own.
    pub(super) memory: u64,
}

impl ServerProcess {
    pub(super) fn usage(self) -> io::Result<Usage> {
        let read = |file| std::fs::read_to_string(format!("/proc/{}/{file}", self.pid));
        let unread = || io::Error::new(io::ErrorKind::InvalidData, "not as Linux tells it");
        let ticks = ticks(&read("stat")?).ok_or_else(unread)?;
        let per_second = rustix::param::clock_ticks_per_second();
        let memory = memory(&read("status")?).ok_or_else(unread)?;
        Ok(Usage { cpu: Duration::from_secs_f64(ticks as f64 / per_second as f64), memory })
    }
}

/// Fields 14 and 15 of `/proc/PID/stat`; the name, field 2, may have spaces in it.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(14 - 3);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_tells_is_read() {
        let stat = "42 (a) b) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0";
        assert_eq!(ticks(stat), Some(300));
        let status = "Name:\tx\nRssAnon:\t     128 kB\nRssFile:\t 4 kB\n";
        assert_eq!(memory(status), Some(128 * 1024));
        assert_eq!((ticks("x"), memory("x")), (None, None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_something() {
        let usage = ServerProcess { pid: std::process::id() }.usage().unwrap();
        assert!(usage.memory > 0);
        assert!(ServerProcess { pid: 0 }.usage().is_err());
    }
}
