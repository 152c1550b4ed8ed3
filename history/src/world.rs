//! What all parts of a run share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::control::Pulses;
use crate::judge::Room;
use crate::node::Node;
use crate::options::Run;
use crate::people::People;
use crate::reader::Shared;
use crate::rng::Rng;
use crate::tally::Tally;
use crate::texts::Texts;

/// How the name of a marker begins: the last record of each lane for each room.
pub(crate) const MARKER: &str = "end-of-lane-";

/// An emission of a marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) rooms: Vec<Room>,
    pub(crate) event: String,
    /// The order or the product.
    pub(crate) name: String,
    /// The views that see it.
    pub(crate) views: Vec<String>,
}

/// What is going on.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Everybody comes and goes.
    Trouble,
    /// Everybody comes back and stays until the markers have come.
    Settle(Arc<Vec<Marker>>),
    Over,
}

/// What all parts of a run share.
pub(crate) struct World {
    pub(crate) options: Run,
    /// A name that no other run has.
    pub(crate) run: String,
    pub(crate) rng: Rng,
    pub(crate) people: People,
    pub(crate) nodes: Vec<Node>,
    pub(crate) phase: watch::Sender<Phase>,
    /// The connection that each client has.
    pub(crate) connections: Mutex<BTreeMap<String, String>>,
    pub(crate) pulses: Pulses,
    /// What is in Kafka, as far as it was read.
    pub(crate) kafka: Shared,
    /// What frames say, and their `at`.
    pub(crate) said: Texts,
    pub(crate) ats: Texts,
    pub(crate) tally: Tally,
    /// Orders and versions that a server has acknowledged.
    pub(crate) acknowledged: Mutex<BTreeSet<(String, u64)>>,
    /// What is wrong beside what clients were told.
    pub(crate) faults: Mutex<Vec<String>>,
    finished: watch::Sender<BTreeSet<String>>,
}

impl World {
    pub(crate) fn new(
        options: Run,
        run: String,
        people: People,
        nodes: Vec<Node>,
        kafka: Shared,
    ) -> Self {
        Self {
            rng: Rng::new(options.seed),
            options,
            run,
            people,
            nodes,
            phase: watch::Sender::new(Phase::Trouble),
            connections: Mutex::default(),
            pulses: Pulses::default(),
            kafka,
            said: Texts::default(),
            ats: Texts::default(),
            tally: Tally::default(),
            acknowledged: Mutex::default(),
            faults: Mutex::default(),
            finished: watch::Sender::default(),
        }
    }

    pub(crate) fn fault(&self, what: impl Into<String>) {
        self.faults.lock().expect("nobody panics with it").push(what.into());
    }

    /// Notes that a client has all markers.
    pub(crate) fn finished(&self, client: &str) {
        self.finished.send_modify(|clients| {
            clients.insert(client.to_owned());
        });
    }

    /// Waits until so many clients have all markers.
    pub(crate) async fn all_finished(&self, clients: usize) {
        let mut finished = self.finished.subscribe();
        // This holds the sender.
        let _ = finished.wait_for(|finished| finished.len() >= clients).await;
    }

    pub(crate) fn finished_count(&self) -> usize {
        self.finished.borrow().len()
    }

    /// Ends every server, without waiting.
    pub(crate) fn end(&self) {
        for node in &self.nodes {
            node.end();
        }
    }
}
