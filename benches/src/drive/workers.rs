//! The worker processes, which never outlive their handle.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::lines::{Account, Progress, Said, Share, Told};

/// How long processes may take to end by themselves once their stdin is closed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines that may wait to be read.
const LINES: usize = 256;

/// The processes, and how far each is.
#[derive(Debug)]
pub(super) struct Workers {
    workers: Vec<Worker>,
    said: Receiver<(usize, Option<Said>)>,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    /// `None` once it was told to end.
    stdin: Option<ChildStdin>,
    progress: Progress,
    account: Option<Account>,
    /// Its stdout has ended.
    ended: bool,
}

/// Why workers are of no use. They are ended when their handle is dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// One was not started.
    #[error("cannot start a worker process")]
    Start(#[source] io::Error),
    /// One has gone; on stderr it says why.
    #[error("a worker process has ended")]
    Ended,
    /// They do not say what came in time.
    #[error("the worker processes do not answer in time")]
    Silent,
}

impl Workers {
    /// Starts `program`, which is this package's own, once for each share.
    pub(super) fn start(program: &Path, shares: &[Share]) -> Result<Self, WorkerError> {
        let (sender, said) = sync_channel(LINES);
        let mut workers = Self { workers: Vec::new(), said };
        for share in shares {
            let mut command = Command::new(program);
            command.args(["drive", "--worker"]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().map_err(WorkerError::Start)?;
            let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
            let at = workers.workers.len();
            let (progress, account, ended) = (Progress::default(), None, false);
            workers.workers.push(Worker { child, stdin, progress, account, ended });
            listen(at, stdout.expect("it is piped"), sender.clone()).map_err(WorkerError::Start)?;
            workers.say(at, share)?;
        }
        Ok(workers)
    }

    /// Tells all of them.
    pub(super) fn tell(&mut self, told: &Told) -> Result<(), WorkerError> {
        (0..self.workers.len()).try_for_each(|at| self.say(at, told))
    }

    fn say(&mut self, at: usize, line: &impl serde::Serialize) -> Result<(), WorkerError> {
        let mut line = serde_json::to_vec(line).map_err(|_| WorkerError::Ended)?;
        line.push(b'\n');
        let stdin = self.workers[at].stdin.as_mut().ok_or(WorkerError::Ended)?;
        stdin.write_all(&line).map_err(|_| WorkerError::Ended)
    }

    /// Hears what they say, for at most `patience`.
    pub(super) fn hear(&mut self, patience: Duration) -> Result<(), WorkerError> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok((at, said)) => self.heard(at, said)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(WorkerError::Ended),
            }
        }
    }

    fn heard(&mut self, at: usize, said: Option<Said>) -> Result<(), WorkerError> {
        let worker = &mut self.workers[at];
        match said {
            Some(Said::Progress(progress)) => worker.progress = progress,
            Some(Said::Done(account)) => worker.account = Some(*account),
            None => {
                worker.ended = true;
                if worker.account.is_none() {
                    return Err(WorkerError::Ended);
                }
            }
        }
        Ok(())
    }

    /// How far all are.
    pub(super) fn progress(&self) -> Progress {
        let add = |sum: Progress, worker: &Worker| {
            let more = worker.progress;
            Progress {
                connected: sum.connected + more.connected,
                failed: sum.failed + more.failed,
                gone: sum.gone + more.gone,
                received: sum.received + more.received,
                outstanding: sum.outstanding.zip(more.outstanding).map(|(a, b)| a + b),
            }
        };
        let none = Progress { outstanding: Some(0), ..Progress::default() };
        self.workers.iter().fold(none, add)
    }

    /// Has them say what came, and end.
    pub(super) fn finish(mut self, patience: Duration) -> Result<Vec<Account>, WorkerError> {
        self.tell(&Told::Finish)?;
        let deadline = Instant::now() + patience;
        while self.workers.iter().any(|worker| worker.account.is_none()) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok((at, said)) => self.heard(at, said)?,
                Err(_) => return Err(WorkerError::Silent),
            }
        }
        Ok(self.workers.iter_mut().filter_map(|worker| worker.account.take()).collect())
    }
}

/// Ends with the process, or when nobody wants to hear any more.
fn listen(
    at: usize,
    stdout: impl io::Read + Send + 'static,
    said: SyncSender<(usize, Option<Said>)>,
) -> io::Result<()> {
    let listen = move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // What is no line is not this program's: the worker is of no use.
            let Ok(line) = serde_json::from_str(&line) else { break };
            if said.send((at, Some(line))).is_err() {
                return;
            }
        }
        let _ = said.send((at, None));
    };
    std::thread::Builder::new().name("stdout".to_owned()).spawn(listen).map(drop)
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.stdin = None;
        }
        let deadline = Instant::now() + PATIENCE;
        // Their stdouts end when they do.
        while self.workers.iter().any(|worker| !worker.ended) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok((at, None)) => self.workers[at].ended = true,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        for worker in &mut self.workers {
            if !worker.ended {
                // An error means that it has ended meanwhile.
                let _ = worker.child.kill();
            }
            let _ = worker.child.wait();
        }
    }
}
