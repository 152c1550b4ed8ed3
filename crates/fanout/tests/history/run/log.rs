//! Nodes, the log that they read, and what becomes of both.

use std::collections::BTreeSet;

use fanout::testing::{CursorLines, Lines, MemoryLogPause, MemoryStart, Tokens};
use fanout::{Hub, Lane, Overflow, Pipeline, Policy, ProtocolRef, RoomPattern, SourceHealth};

use super::{Hazards, Outcome, Run, keys};
use crate::judge::{Places, of};
use crate::scene::{access, any_event, route};

/// A node, and what it has had.
pub(super) struct Node {
    pub(super) hub: Hub,
    pub(super) lines: ProtocolRef,
    pub(super) cursors: ProtocolRef,
    pub(super) pause: MemoryLogPause,
    /// Lanes that it has had, and those that it cannot have any more.
    pub(super) had: BTreeSet<usize>,
    pub(super) never: BTreeSet<usize>,
    pub(super) pipeline: tokio::task::AbortHandle,
}

impl Run {
    pub(super) async fn node(&mut self) -> Node {
        let start = match self.chance.below(3) {
            0 => MemoryStart::Earliest,
            1 => MemoryStart::Latest,
            _ => MemoryStart::Last(self.chance.below(6)),
        };
        let mut builder = Hub::builder(access()).limits(self.limits.clone()).keys(keys());
        if self.hazards.lossy {
            let small = |policy| Overflow::new(policy).with_max_bytes(400);
            let rooms = |pattern| RoomPattern::new(pattern).expect("a pattern");
            builder = builder
                .overflow(rooms("drop:*"), small(Policy::DropOldest))
                .overflow(rooms("conf:*"), small(Policy::Conflate));
        }
        let hub = builder.shards(self.shards).build().expect("a hub");
        let (lines, cursors) = (hub.protocol(Lines), hub.protocol(CursorLines));
        let never = self.truth.closed.clone();
        let source = self.log.source(start);
        let pause = source.pause();
        let pipeline = Pipeline::new(source, route, hub.clone());
        let mut status = pipeline.status();
        let pipeline = tokio::spawn(pipeline.run()).abort_handle();
        // A server that is not ready lets nobody in.
        assert!(status.wait_for(SourceHealth::ready).await);
        self.tell(format!("a node starts {start:?}"));
        Node { hub, lines, cursors, pause, had: BTreeSet::new(), never, pipeline }
    }

    pub(super) fn write(&mut self, only: Option<String>) {
        let open = self.log.lanes();
        if !open.is_empty() {
            let lane = self.chance.of(&open);
            self.write_to(&lane, only);
        }
    }

    /// A lane's number, for the judge.
    pub(super) fn number_of(&self, lane: &Lane) -> usize {
        self.lanes.iter().position(|known| known == lane).expect("it was noted")
    }

    /// There may be new lanes.
    pub(super) fn note_lanes(&mut self) {
        for lane in self.log.lanes() {
            if !self.lanes.contains(&lane) {
                self.lanes.push((*lane).clone());
            }
        }
        self.tokens = Tokens::new(keys(), self.lanes.iter().cloned());
    }

    pub(super) fn write_to(&mut self, lane: &Lane, only: Option<String>) {
        let partition = lane.partition;
        let number = self.truth.number();
        let (lossy, clients) = (self.hazards.lossy, self.clients.len());
        let event = only.unwrap_or_else(|| any_event(&mut self.chance, number, lossy, clients));
        let offset = self.log.write(partition, None, event.clone());
        let lane = self.number_of(lane);
        self.truth.add(lane, offset, &event);
        self.tell(format!("write {lane}/{offset} {event}"));
    }

    /// Something becomes of the log itself.
    pub(super) fn change_log(&mut self) {
        let Hazards { expiry, growth, closing, .. } = self.hazards;
        let partitions = self.lanes.iter().map(|lane| lane.partition + 1).max().unwrap_or(0);
        let all = [(expiry, 0), (growth && partitions < 5, 1), (closing, 2)];
        let may: Vec<u8> = all.iter().filter(|(may, _)| *may).map(|(_, what)| *what).collect();
        if may.is_empty() {
            return;
        }
        let what = self.chance.of(&may);
        let partition = self.chance.below(partitions as usize) as u32;
        let lane = self.log.lanes().into_iter().find(|lane| lane.partition == partition);
        match (what, lane) {
            (0, Some(_)) => {
                let end = self.log.bounds(partition).end as usize;
                let before = self.chance.below(end + 1) as u64;
                self.log.expire(partition, before);
                self.tell(format!("partition {partition} expires before {before}"));
            }
            (1, _) => {
                let new = self.log.add_partition();
                self.note_lanes();
                self.tell(format!("partition {new} is new"));
            }
            (2, Some(lane)) => {
                let number = self.number_of(&lane);
                self.truth.closed.insert(number);
                let deleted = self.chance.percent(50);
                if deleted {
                    self.log.delete(partition);
                } else {
                    self.log.close(partition);
                }
                self.tell(format!("lane {number} is closed, unread of it deleted: {deleted}"));
            }
            (2, None) => {
                self.log.make_anew(partition);
                self.note_lanes();
                self.tell(format!("partition {partition} is made anew"));
            }
            _ => {}
        }
    }

    pub(super) async fn restart(&mut self, node: usize) -> Outcome {
        for client in 0..self.clients.len() {
            if self.clients[client].session.as_ref().is_some_and(|at| at.node == node) {
                self.hang_up(client)?;
            }
        }
        self.tell(format!("node {node} dies"));
        self.nodes[node].pipeline.abort();
        self.nodes[node] = self.node().await;
        Ok(())
    }

    pub(super) fn open(&self, cursor: &str) -> Option<Places> {
        let mut places = Places::new();
        for (lane, offset, emission) in self.tokens.open(cursor)? {
            let at = self.number_of(&lane);
            places.resize(places.len().max(at + 1), (0, 0));
            places[at] = (offset, emission);
        }
        Some(places)
    }

    pub(super) fn tail(&self, node: usize) -> Places {
        self.open(self.nodes[node].hub.cursor().as_str()).expect("a node's own cursor")
    }

    /// As [`tail`](Self::tail), with all there was of what is closed and the node does not
    /// have any more.
    pub(super) fn reached(&self, node: usize) -> Places {
        let mut places = self.tail(node);
        places.resize(self.lanes.len(), (0, 0));
        for lane in &self.truth.closed {
            if places[*lane] == (0, 0) {
                places[*lane] = (u64::MAX, 0);
            }
        }
        places
    }

    /// Looks which lanes a node has.
    pub(super) fn look(&mut self, node: usize) {
        let tail = self.tail(node);
        let named = (0..tail.len()).filter(|lane| tail[*lane] != (0, 0));
        self.nodes[node].had.extend(named);
    }

    /// Lanes that a node has closed, or will never have.
    pub(super) fn gone(&self, node: usize) -> BTreeSet<usize> {
        let (tail, Node { had, never, .. }) = (self.tail(node), &self.nodes[node]);
        let closed = had.iter().filter(|lane| of(&tail, **lane) == (0, 0));
        closed.chain(never).copied().collect()
    }
}
