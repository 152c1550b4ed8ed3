//! The task around a shard: brings it commands, readiness and time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::shard::{Command, Shard, Turn};
use crate::shared::Shared;
use crate::sink::{Close, Readiness, Ready, Token};

/// Between two sweeps, unless heartbeats are more frequent.
const SWEEP: Duration = Duration::from_secs(1);
/// Between two times that some of those who came back may go on.
const PACE: Duration = Duration::from_millis(10);
/// Times that readiness is asked before a turn.
const READY_ROUNDS: usize = 4;

/// Runs a shard until it has drained, or its hub is gone.
///
/// Its place in the log is taken at once, not with the first turn of its task: what is
/// appended until then it has to read, and publishers wait for it to.
pub(crate) fn run(
    index: usize,
    shared: Arc<Shared>,
    readiness: Box<dyn Readiness>,
    commands: mpsc::Receiver<Command>,
) -> impl Future<Output = ()> + Send + 'static {
    turns(Shard::new(index, shared, readiness, Instant::now()), commands)
}

async fn turns(mut shard: Shard, mut commands: mpsc::Receiver<Command>) {
    let (index, shared) = (shard.index, shard.shared.clone());
    let period = SWEEP.min(shared.limits.heartbeat / 2).max(Duration::from_millis(10));
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let per_pace = shared.resumes_per_shard(PACE);
    drop(shared);
    shard.let_resume(per_pace);
    let (mut ready, mut woken) = (Vec::new(), Vec::new());
    let mut open = true;
    loop {
        std::future::poll_fn(|cx| {
            // The waker is registered before anything is looked at: whatever comes
            // afterwards wakes, whatever came before is seen.
            shard.shared.shards[index].waker.register(cx.waker());
            if tick.poll_tick(cx).is_ready() {
                shard.tick();
            }
            if shard.resumes_wait() && pace.poll_tick(cx).is_ready() {
                shard.let_resume(per_pace);
            }
            open = open && gather_commands(&mut shard, &mut commands, cx);
            gather_ready(&mut shard, &mut ready, &mut woken, cx);
            if shard.has_work() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let began = Instant::now();
        match shard.turn(began, SystemTime::now()) {
            Turn::More => {
                shard.took(began.elapsed());
                // Other tasks of the runtime come first.
                tokio::task::yield_now().await;
            }
            Turn::Idle => {}
            Turn::Finished => return,
        }
    }
}

/// Hands commands on; false once the hub is gone, upon which all are told to leave.
fn gather_commands(
    shard: &mut Shard,
    commands: &mut mpsc::Receiver<Command>,
    cx: &mut Context<'_>,
) -> bool {
    while shard.room_for_commands() > 0 {
        match commands.poll_recv(cx) {
            Poll::Ready(Some(command)) => shard.command(command),
            Poll::Ready(None) => {
                let deadline = Instant::now() + shard.shared.limits.close_timeout;
                shard.command(Command::Drain { close: Close::GoingAway, deadline });
                return false;
            }
            Poll::Pending => break,
        }
    }
    true
}

fn gather_ready(
    shard: &mut Shard,
    ready: &mut Vec<Ready>,
    woken: &mut Vec<Arc<ConnectionWaker>>,
    cx: &mut Context<'_>,
) {
    let mailbox = &shard.shared.shards[shard.index];
    std::mem::swap(woken, &mut *mailbox.woken.lock().expect("no panic under this lock"));
    let told = std::mem::take(&mut *mailbox.verdicts.lock().expect("no panic under this lock"));
    let replay_moved = mailbox.replay_moved.swap(false, Ordering::SeqCst);
    shard.told(told);
    if replay_moved {
        shard.replay_moved();
    }
    for waker in woken.drain(..) {
        shard.woken(waker.take());
    }
    for _ in 0..READY_ROUNDS {
        if shard.readiness.poll_ready(cx, ready).is_pending() {
            return;
        }
        for event in ready.drain(..) {
            shard.ready(event);
        }
    }
    // There may be more, and no waker was kept for it.
    cx.waker().wake_by_ref();
}

/// Wakes one connection of one shard.
pub(crate) struct ConnectionWaker {
    shared: Weak<Shared>,
    shard: usize,
    token: Token,
    /// Whether it stands in the shard's list: once, however often it is woken.
    woken: AtomicBool,
}

/// A waker that puts `token` on a shard's list and wakes the shard.
pub(crate) fn waker(shared: &Arc<Shared>, shard: usize, token: Token) -> Waker {
    let (shared, woken) = (Arc::downgrade(shared), AtomicBool::new(false));
    Waker::from(Arc::new(ConnectionWaker { shared, shard, token, woken }))
}

impl ConnectionWaker {
    /// Takes it off the list. Before its connection is looked at: a wake from now on
    /// counts anew.
    pub(crate) fn take(&self) -> Token {
        self.woken.store(false, Ordering::SeqCst);
        self.token
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.woken.swap(true, Ordering::SeqCst) {
            return;
        }
        let Some(shared) = self.shared.upgrade() else { return };
        let mailbox = &shared.shards[self.shard];
        mailbox.woken.lock().expect("no panic under this lock").push(self.clone());
        mailbox.waker.wake();
    }
}
