//! Clients: what they keep, how they come, go and ask.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fanout::testing::{Ask, MemoryPeer, MemorySink};
use fanout::{Close, Gap, Identity, Input, Room, Session, Sink};

use super::log::Node;
use super::{Outcome, Run};
use crate::judge::{Judge, Places};
use crate::scene::ASKED;

/// A sink in memory that tells its cursor when it is asked.
pub(super) struct Telling {
    pub(super) sink: MemorySink,
    pub(super) asked: Arc<AtomicBool>,
}

impl Sink for Telling {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sink.try_write(slices)
    }

    fn try_read(&mut self, session: &mut Session<'_>, scratch: &mut [u8]) -> io::Result<Input> {
        if self.asked.swap(false, Ordering::SeqCst) {
            self.sink.heartbeat(session);
            return Ok(Input::More);
        }
        self.sink.try_read(session, scratch)
    }

    fn opened(&mut self, session: &mut Session<'_>) {
        self.sink.opened(session);
    }

    fn heartbeat(&mut self, session: &mut Session<'_>) {
        self.sink.heartbeat(session);
    }

    fn gap(&mut self, session: &mut Session<'_>, gap: &Gap) {
        self.sink.gap(session, gap);
    }

    fn closing(&mut self, session: &mut Session<'_>, close: &Close) {
        self.sink.closing(session, close);
    }
}

/// A client.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) whole_cursors: bool,
    pub(super) roles: Vec<&'static str>,
    /// The rooms that it asks for when it comes back.
    pub(super) rooms: BTreeSet<String>,
    /// What it keeps of the tokens it is given.
    pub(super) whole: Option<String>,
    pub(super) ats: BTreeMap<String, String>,
    pub(super) judge: Judge,
    pub(super) session: Option<At>,
    pub(super) markers: BTreeSet<String>,
    pub(super) record: Vec<String>,
}

/// Where a client is.
pub(super) struct At {
    pub(super) node: usize,
    pub(super) peer: MemoryPeer,
    pub(super) asked: Arc<AtomicBool>,
    pub(super) read: usize,
    pub(super) asks: VecDeque<(Asked, Places)>,
    pub(super) shown: Shown,
    /// Lanes that its node had closed before.
    pub(super) gone: BTreeSet<usize>,
    pub(super) closed: bool,
}

/// What a client came with.
#[derive(Clone, Debug)]
pub(super) enum Shown {
    Nothing,
    Cursor(Places),
    /// Of nobody here.
    Forged,
}

/// What a client has asked for.
pub(super) enum Asked {
    Join(String),
    Leave(String),
    Renew(Vec<&'static str>),
}

impl Run {
    /// What a client comes back with.
    pub(super) fn cursor(&self, client: usize) -> Option<String> {
        let Client { whole, ats, .. } = &self.clients[client];
        let whole = whole.as_ref()?;
        let all: Vec<&str> =
            std::iter::once(whole.as_str()).chain(ats.values().map(String::as_str)).collect();
        Some(all.join(","))
    }

    pub(super) fn identity(&self, client: usize) -> Identity {
        let Client { name, roles, .. } = &self.clients[client];
        Identity::new(name.as_str(), roles.iter().copied())
    }

    pub(super) async fn connect(&mut self, client: usize, node: usize, flows: bool) {
        let mut cursor = self.cursor(client);
        let mut known = cursor.as_deref().map(|cursor| self.open(cursor).expect("it was given"));
        if cursor.is_some() && !flows && self.hazards.foreign && self.chance.percent(15) {
            (cursor, known) = (Some("hforged".into()), None);
        }
        let identity = self.identity(client);
        let asked = &self.clients[client].rooms;
        let asked: Vec<Room> = asked.iter().map(|room| Room::new(room).expect("a name")).collect();
        let (peer, sink) = MemorySink::returning(cursor.clone(), asked);
        if !flows && self.chance.percent(40) {
            peer.stall();
            let some = self.chance.below(600);
            peer.allow(some);
        }
        let gone = self.gone(node);
        let told = Arc::new(AtomicBool::new(false));
        let sink = Telling { sink, asked: told.clone() };
        let Node { hub, lines, cursors, .. } = &self.nodes[node];
        let protocol = if self.clients[client].whole_cursors { cursors } else { lines };
        hub.connect(protocol, identity, sink).await.expect("let in");
        self.sessions += 1;
        let shown = match (cursor, known) {
            (None, _) => Shown::Nothing,
            (Some(_), Some(places)) => Shown::Cursor(places),
            (Some(_), None) => Shown::Forged,
        };
        self.tell(format!("c{client} comes to node {node} with {shown:?}"));
        self.clients[client].record.push(format!("-- node {node}, {shown:?}"));
        self.clients[client].session = Some(At {
            node,
            peer,
            asked: told,
            read: 0,
            asks: VecDeque::new(),
            shown,
            gone,
            closed: false,
        });
    }

    /// A client goes, with what it has received.
    pub(super) fn hang_up(&mut self, client: usize) -> Outcome {
        self.absorb(client)?;
        let known = &mut self.clients[client];
        if let Some(at) = known.session.take() {
            at.peer.hang_up();
            known.record.push("-- gone".into());
            self.tell(format!("c{client} goes"));
        }
        Ok(())
    }

    pub(super) fn ask(&mut self, client: usize) -> Outcome {
        self.absorb(client)?;
        let asked = match self.chance.below(5) {
            0..2 => Asked::Join(self.chance.of(&ASKED).into()),
            2 => Asked::Leave(self.chance.of(&ASKED).into()),
            _ => Asked::Renew(self.any_roles()),
        };
        let Some(At { node, peer, .. }) = &self.clients[client].session else { return Ok(()) };
        let before = self.tail(*node);
        let name = self.clients[client].name.as_str();
        let room = |room: &String| Room::new(room).expect("a name");
        let (ask, what) = match &asked {
            Asked::Join(name) => (Ask::Join(room(name)), format!("asks for {name}")),
            Asked::Leave(name) => (Ask::Leave(room(name)), format!("leaves {name}")),
            Asked::Renew(roles) => {
                let identity = Identity::new(name, roles.iter().copied());
                (Ask::Renew(identity), format!("becomes {roles:?}"))
            }
        };
        peer.ask(ask);
        let at = self.clients[client].session.as_mut().expect("as above");
        at.asks.push_back((asked, before));
        self.tell(format!("c{client} {what}"));
        Ok(())
    }
}
