//! A worker process: its share of the clients, until its stdin closes.

use std::io::{self, BufRead, Write};
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::lines::{Said, Share, Told};
use crate::clock;
use crate::options::raise_descriptors;

/// Lines that may wait to be read; more is never said at once.
const LINES: usize = 4;
/// How long to wait for sockets before looking for a line.
const PATIENCE: Duration = Duration::from_millis(20);
/// Between two words about how far it is.
const PROGRESS: Duration = Duration::from_millis(100);

/// Does as it is told on `input`, and says on `output` how it goes.
///
/// # Errors
/// Where a line is none, nobody reads `output`, or sockets cannot be polled.
pub(super) fn work(input: impl BufRead + Send + 'static, mut output: impl Write) -> io::Result<()> {
    let mut lines = input.lines();
    let Some(share) = lines.next() else { return Ok(()) };
    let share: Share = serde_json::from_str(&share?).map_err(io::Error::other)?;
    raise_descriptors();
    let (sender, told) = sync_channel(LINES);
    // Ends with its input, or with the process.
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        for line in lines.map_while(Result::ok) {
            let told = serde_json::from_str::<Told>(&line);
            if sender.send(told).is_err() {
                return;
            }
        }
    })?;

    let mut crowd = Crowd::new(share)?;
    let mut before = (clock::process_cpu(), Instant::now());
    let mut progress = Instant::now();
    loop {
        match told.try_recv() {
            Ok(Ok(Told::Go)) => {
                crowd.go();
                before = (clock::process_cpu(), Instant::now());
            }
            Ok(Ok(Told::Published(messages))) => crowd.published(&messages),
            Ok(Ok(Told::Finish)) => {
                let cpu = clock::process_cpu().saturating_sub(before.0);
                let cpu_share = cpu.as_secs_f64() / before.1.elapsed().as_secs_f64();
                let account = crowd.finish(cpu_share);
                return say(&mut output, &Said::Done(Box::new(account)));
            }
            Ok(Err(error)) => return Err(io::Error::other(error)),
            Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) => {}
        }
        crowd.turn(PATIENCE)?;
        if progress.elapsed() >= PROGRESS {
            progress = Instant::now();
            say(&mut output, &Said::Progress(crowd.progress()))?;
        }
    }
}

fn say(output: &mut impl Write, said: &Said) -> io::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}
