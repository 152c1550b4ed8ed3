//! How long other tasks of a hub's runtime wait while its shards work.
//!
//! A shard works in turns and lets others run between them. An application shares the
//! runtime with it: its handlers wait for as long as a turn takes, and for what else is
//! queued before them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, sleep_until};

use super::control::Waited;
use super::figures::{Latency, histogram};

/// What the probe sleeps between two looks.
const TICK: Duration = Duration::from_millis(1);

/// A task that looks, until it is ended.
#[derive(Debug)]
pub(crate) struct Probe {
    task: AbortHandle,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug)]
struct Seen {
    timer: Histogram<u64>,
    turn: Histogram<u64>,
}

impl Probe {
    /// Begins to look.
    pub(crate) fn start(runtime: &Handle) -> Self {
        let seen = Arc::new(Mutex::new(Seen { timer: histogram(), turn: histogram() }));
        let task = runtime.spawn(look(seen.clone())).abort_handle();
        Self { task, seen }
    }

    /// What was seen.
    pub(crate) fn end(self) -> Waited {
        self.task.abort();
        let seen = self.seen.lock().expect("no panic under this lock");
        Waited { timer: Latency::of(&seen.timer), turn: Latency::of(&seen.turn) }
    }
}

async fn look(seen: Arc<Mutex<Seen>>) {
    let late = |since: Instant| u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
    loop {
        let due = Instant::now() + TICK;
        sleep_until(due).await;
        let timer = late(due);
        let ready = Instant::now();
        yield_now().await;
        let turn = late(ready);
        let mut seen = seen.lock().expect("no panic under this lock");
        seen.timer.saturating_record(timer);
        seen.turn.saturating_record(turn);
    }
}
