//! What a figure was measured on: without it the figure means little.

use std::process::{Command, Stdio};

use serde::Serialize;

/// The machine, the code and the command.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Machine {
    /// The processor's model.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// System and kernel.
    pub system: String,
    /// The commit, with a `+` where files have changed since.
    pub commit: String,
    /// The command.
    pub command: String,
    /// When it was given, in UTC.
    pub date: String,
    /// Whether the build is optimised: where it is not, no figure means anything.
    pub optimised: bool,
}

const UNKNOWN: &str = "unknown";

impl Machine {
    /// This machine, as far as it tells.
    pub fn here() -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cpu: model.map_or(UNKNOWN, |(_, model)| model).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: output("uname", &["-sr"]).unwrap_or_else(|| UNKNOWN.to_owned()),
            commit: output("git", &["describe", "--always", "--dirty=+"])
                .unwrap_or_else(|| UNKNOWN.to_owned()),
            command: command(std::env::args()),
            date: output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])
                .unwrap_or_else(|| UNKNOWN.to_owned()),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// The program's name and what it was given, without the folder it lies in.
fn command(mut args: impl Iterator<Item = String>) -> String {
    let program = args.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    std::iter::once(name).chain(args).collect::<Vec<_>>().join(" ")
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cpu, cores, system, commit, command, date, .. } = self;
        writeln!(f, "{cores} cores, {cpu}, {system}, commit {commit}, {date}")?;
        write!(f, "$ {command}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_no_folder() {
        let args = ["/a/b/fanout-bench", "--json", "/tmp/x"].map(str::to_owned);
        assert_eq!(command(args.into_iter()), "fanout-bench --json /tmp/x");
        assert_eq!(command(std::iter::empty()), "");
    }

    #[test]
    fn what_a_machine_does_not_tell_is_unknown() {
        assert_eq!(output("a-program-that-nobody-has", &[]), None);
        let machine = Machine::here();
        assert!(machine.date.len() > 10, "{}", machine.date);
        assert!(machine.cores >= 1 && !machine.cpu.is_empty() && !machine.commit.is_empty());
    }
}
