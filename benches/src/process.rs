//! A server as a process of its own, which never outlives its handle.

mod memory;

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

pub use memory::Memory;

use crate::control::Request;

/// How long a process may take to end by itself once its stdin is closed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines that may wait to be read; more is never said at once.
const LINES: usize = 16;

/// A server's process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// `None` once it was told to end.
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    addr: SocketAddr,
}

/// Why a process is of no use. It is ended when its handle is dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// It was not started.
    #[error("cannot start the server's process")]
    Start(#[source] io::Error),
    /// It has gone; on stderr it says why.
    #[error("the server's process has ended")]
    Ended,
    /// It says nothing.
    #[error("the server does not answer `{0}` in time")]
    Silent(String),
    /// It says what nobody has asked.
    #[error("the server answers `{question}` with `{answer}`")]
    Answer {
        /// What it was asked.
        question: String,
        /// What it said.
        answer: String,
    },
}

impl Process {
    /// Starts a server, and waits until clients may come.
    ///
    /// # Errors
    /// [`ProcessError`]; nothing is left running.
    pub fn start(command: Command, deadline: Instant) -> Result<Self, ProcessError> {
        let mut process = Self::spawn(command)?;
        process.addr = process.answer("listening", deadline)?;
        Ok(process)
    }

    /// Starts a process that is to answer questions of its own.
    pub(crate) fn spawn(mut command: Command) -> Result<Self, ProcessError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(ProcessError::Start)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stdout = BufReader::new(stdout.expect("it is piped"));
        let (sender, lines) = sync_channel(LINES);
        let process = Self { child, stdin, lines, addr: ([127, 0, 0, 1], 0).into() };
        // Ends with the process, or when nobody wants to hear any more.
        let reader = std::thread::Builder::new().name("stdout".to_owned()).spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        reader.map_err(ProcessError::Start)?;
        Ok(process)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has a burst published.
    ///
    /// # Errors
    /// [`ProcessError::Ended`].
    pub fn publish(&mut self, burst: usize) -> Result<(), ProcessError> {
        self.say(Request::Publish(burst))
    }

    /// How many clients are in their rooms.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn clients(&mut self, deadline: Instant) -> Result<usize, ProcessError> {
        self.say(Request::Clients)?;
        self.answer("clients", deadline)
    }

    /// What it has used, user and system.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn cpu(&mut self, deadline: Instant) -> Result<Duration, ProcessError> {
        self.say(Request::Cpu)?;
        self.answer("cpu", deadline).map(Duration::from_nanos)
    }

    /// What it holds; `None` where the system does not tell.
    pub fn memory(&self) -> Option<Memory> {
        Memory::of(self.id())
    }

    /// Closes its stdin, upon which it ends: its clients see the end of their
    /// connections.
    pub fn finish(&mut self) {
        self.stdin = None;
    }

    /// Ends it at once, as `kill -9` does: nobody is told.
    ///
    /// # Errors
    /// Where the system does not do it.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    pub(crate) fn say(&mut self, request: impl std::fmt::Display) -> Result<(), ProcessError> {
        // One write: a line is shorter than what a pipe takes whole.
        let line = format!("{request}\n");
        let stdin = self.stdin.as_mut().ok_or(ProcessError::Ended)?;
        stdin.write_all(line.as_bytes()).map_err(|_| ProcessError::Ended)
    }

    /// The next line, which has to be `question`, a space and a value.
    pub(crate) fn answer<T: std::str::FromStr>(
        &mut self,
        question: &str,
        deadline: Instant,
    ) -> Result<T, ProcessError> {
        let silent = || ProcessError::Silent(question.to_owned());
        // After it not even what is there already: whoever is late is late.
        let patience = deadline.checked_duration_since(Instant::now()).ok_or_else(silent)?;
        let line = self.lines.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => silent(),
            RecvTimeoutError::Disconnected => ProcessError::Ended,
        })?;
        let value = line.strip_prefix(question).and_then(|rest| rest.strip_prefix(' '));
        let value = value.and_then(|value| value.parse().ok());
        value.ok_or_else(|| ProcessError::Answer { question: question.to_owned(), answer: line })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.finish();
        let deadline = Instant::now() + PATIENCE;
        // Its stdout ends when it does.
        let ended = loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        if !ended {
            // An error means that it has ended meanwhile.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
