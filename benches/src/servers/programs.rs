//! Which program a server is, and whether it is there.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Kind;
use crate::run::Case;

/// Where the programs lie that servers are.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)] // Made by whoever runs them.
pub struct Programs {
    /// This package's own: every server in Rust.
    pub own: PathBuf,
    /// The folder of the others: scripts, and what `install.sh` there has installed.
    pub peers: PathBuf,
    /// How many shards this library has; as many as processors where nothing is said.
    pub shards: Option<usize>,
}

/// A server that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is not installed: {what} is missing. {}, or leave it out", .server.name(), .remedy)]
#[non_exhaustive]
pub struct Missing {
    /// Which.
    pub server: Kind,
    /// What is missing.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Programs {
    /// The folder of the peers as this package has it.
    pub fn peers_here() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
    }

    /// Whether a server can be started.
    ///
    /// # Errors
    /// [`Missing`] says what is missing and what to do.
    pub fn available(&self, server: Kind) -> Result<(), Missing> {
        let Some((script, needs)) = script(server) else { return Ok(()) };
        let missing = |what, remedy| Err(Missing { server, what, remedy });
        if !self.peers.join(script).is_file() {
            let what = self.peers.join(script).display().to_string();
            return missing(what, "Name the folder with --peers".to_owned());
        }
        let installed = self.peers.join("node_modules").join(needs);
        if !installed.is_file() {
            let remedy = format!("Run {}", self.peers.join("install.sh").display());
            return missing(installed.display().to_string(), remedy);
        }
        if server != Kind::Bun && !on_path("node") {
            return missing("`node` on PATH".to_owned(), "Install Node 18 or newer".to_owned());
        }
        Ok(())
    }

    /// The command that starts a server for a case.
    ///
    /// # Errors
    /// [`Missing`] where it is not there.
    pub fn command(&self, server: Kind, case: &Case) -> Result<Command, Missing> {
        self.available(server)?;
        let mut command = match script(server) {
            None => Command::new(&self.own),
            Some((_, bun)) if server == Kind::Bun => {
                Command::new(self.peers.join("node_modules").join(bun))
            }
            Some(_) => Command::new("node"),
        };
        match script(server) {
            None => command.args(["serve", server.name()]),
            Some((script, _)) => command.arg(self.peers.join(script)),
        };
        command.args(["--port", "0", "--payload", &case.payload.to_string()]);
        command.args(["--rooms", case.rooms.name(), "--clients", &case.clients.to_string()]);
        if let (Kind::Fanout, Some(shards)) = (server, self.shards) {
            command.args(["--shards", &shards.to_string()]);
        }
        Ok(command)
    }
}

/// A peer's script, and a file that is in `node_modules` once it is installed; `None` for
/// the servers of this program.
fn script(server: Kind) -> Option<(&'static str, &'static str)> {
    match server {
        Kind::Bun => Some(("bun.js", ".bin/bun")),
        Kind::Ws => Some(("ws.mjs", "ws/package.json")),
        Kind::SocketIo => Some(("socket-io.mjs", "socket.io/package.json")),
        _ => None,
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

impl From<Missing> for io::Error {
    fn from(missing: Missing) -> Self {
        Self::new(io::ErrorKind::NotFound, missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Rooms;

    #[test]
    fn what_is_missing_is_told_with_what_to_do() {
        let programs =
            Programs { own: "own".into(), peers: "/no/such/folder".into(), shards: None };
        let missing = programs.available(Kind::Ws).unwrap_err().to_string();
        let told = "ws is not installed: /no/such/folder/ws.mjs is missing. \
                    Name the folder with --peers, or leave it out";
        assert_eq!(missing, told);
        assert!(Kind::ALL.iter().filter(|kind| programs.available(**kind).is_ok()).count() == 6);
    }

    #[test]
    fn a_server_of_this_program_is_told_the_case() {
        let programs =
            Programs { own: "own".into(), peers: "/no/such/folder".into(), shards: None };
        let (clients, payload) = (7, 300);
        let case = Case { clients, payload, burst: 1, bursts: 1, rooms: Rooms::Each, stalled: 0 };
        let command = programs.command(Kind::Channel, &case).unwrap();
        let args: Vec<_> = command.get_args().collect();
        let told = ["serve", "channel", "--port", "0", "--payload", "300"];
        assert_eq!(args, [&told[..], &["--rooms", "each", "--clients", "7"]].concat());
    }
}
