//! Who waits for a replay of which source.

use std::sync::{Arc, Mutex, RwLock, Weak};

use tokio::sync::Notify;

use super::Replayed;
use crate::position::{LaneId, LaneMap, Position};
use crate::sink::{GapReason, Token};

/// Somebody who needs what the log does not have, or wants to know whether the source goes
/// as far as he was.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) shard: usize,
    pub(crate) token: Token,
    /// Gone with the connection, or with its wish.
    pub(crate) connection: Weak<()>,
    /// Lanes whose events from a position on are missing.
    pub(crate) missing: Vec<(LaneId, Position)>,
    /// Lanes of which he has more than this node has read.
    pub(crate) ahead: Vec<(LaneId, Position)>,
}

impl Waiter {
    /// The lanes that he asks about.
    pub(super) fn lanes(&self) -> impl Iterator<Item = LaneId> + '_ {
        self.missing.iter().chain(&self.ahead).map(|(lane, _)| *lane)
    }
}

/// What becomes of him.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// It is in there, or will be.
    Read(Arc<Replayed>),
    /// Look in the log again.
    Again,
    /// Nobody has it, or it is too much.
    Gap(GapReason),
}

/// Who waits for which source's replay.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    services: RwLock<Vec<Arc<Service>>>,
    /// Which source a lane is from; none where it replays nothing.
    lanes: RwLock<LaneMap<usize>>,
}

#[derive(Debug, Default)]
pub(super) struct Service {
    waiting: Mutex<Waiting>,
    pub(super) asked: Notify,
}

/// As many as there are connections that wait, and at most as many again that are gone.
#[derive(Debug, Default)]
struct Waiting {
    waiters: Vec<Waiter>,
    /// How many there may be before those are left out whose connection is gone.
    most: usize,
}

impl Waiting {
    const LEAST: usize = 64;

    fn add(&mut self, waiters: impl IntoIterator<Item = Waiter>) {
        self.waiters.extend(waiters);
        if self.waiters.len() > self.most.max(Self::LEAST) {
            self.waiters.retain(|waiter| waiter.connection.strong_count() > 0);
            self.most = 2 * self.waiters.len();
        }
    }
}

impl Replays {
    /// A source that replays.
    pub(crate) fn register(&self) -> usize {
        let mut services = self.services.write().expect("no panic under this lock");
        services.push(Arc::default());
        services.len() - 1
    }

    /// A lane is of this source.
    pub(crate) fn own(&self, lane: LaneId, service: usize) {
        let mut lanes = self.lanes.write().expect("no panic under this lock");
        *lanes.get_or_insert_with(lane, || service) = service;
    }

    /// A lane was closed, and nobody has a place in it any more.
    pub(crate) fn disown(&self, lane: LaneId) {
        self.lanes.write().expect("no panic under this lock").remove(lane);
    }

    /// The source that a lane is from, where it replays.
    pub(crate) fn of(&self, lane: LaneId) -> Option<usize> {
        let lanes = self.lanes.read().expect("no panic under this lock");
        lanes.get(lane).copied()
    }

    pub(super) fn service(&self, service: usize) -> Arc<Service> {
        let services = self.services.read().expect("no panic under this lock");
        services[service].clone()
    }

    /// Waits for a verdict, which comes to the shard.
    pub(crate) fn ask(&self, service: usize, waiter: Waiter) {
        let service = self.service(service);
        service.put_back([waiter]);
        service.asked.notify_one();
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        let services = self.services.read().expect("no panic under this lock");
        let waiting =
            |service: &Arc<Service>| service.waiting.lock().map_or(0, |w| w.waiters.len());
        services.iter().map(waiting).sum()
    }
}

impl Service {
    pub(super) fn take(&self) -> Vec<Waiter> {
        let mut waiting = self.waiting.lock().expect("no panic under this lock");
        std::mem::take(&mut waiting.waiters)
    }

    pub(super) fn put_back(&self, waiters: impl IntoIterator<Item = Waiter>) {
        self.waiting.lock().expect("no panic under this lock").add(waiters);
    }
}
