//! What a process holds, as Linux tells it.
//!
//! Only what is the process's own counts: pages of files, such as a runtime's program,
//! are shared with whoever else runs it.

/// Bytes of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// What it holds now.
    pub held: u64,
    /// The most that it has held since it began: the most of all its pages, less those of
    /// files now.
    pub peak: u64,
}

impl Memory {
    /// Of the process with this id; `None` where nobody tells.
    pub(crate) fn of(id: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{id}/status")).ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line?.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
            kib.checked_mul(1024)
        };
        let (held, files) = (bytes("RssAnon")?, bytes("RssFile")? + bytes("RssShmem")?);
        Some(Self { held, peak: held.max(bytes("VmHWM")?.saturating_sub(files)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_files_are_not_its_own() {
        let status = "Name:\tx\nVmHWM:\t    9000 kB\nVmRSS:\t    6000 kB\nRssAnon:\t    4000 kB\n\
                      RssFile:\t    1500 kB\nRssShmem:\t     500 kB\n";
        let memory = Memory { held: 4000 << 10, peak: 7000 << 10 };
        assert_eq!(Memory::parse(status), Some(memory));
        let small = Memory::parse(&status.replace("9000", "5000")).unwrap();
        assert_eq!(small.peak, small.held);
        assert_eq!(Memory::parse(&status.replace("RssAnon", "RssOther")), None);
        assert_eq!(Memory::parse(&status.replace("4000 kB", "many")), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_holds_what_it_takes() {
        let before = Memory::of(std::process::id()).unwrap();
        let taken = std::hint::black_box(vec![1_u8; 32 << 20]);
        let after = Memory::of(std::process::id()).unwrap();
        assert!(after.held > before.held + taken.len() as u64 / 2, "{before:?} {after:?}");
    }
}
