//! The end of a run: everything flows, everybody comes back and has everything.

use std::collections::BTreeSet;
use std::time::Duration;

use super::client::Client;
use super::log::Node;
use super::{Outcome, Run};

impl Run {
    /// Everything flows, everybody comes back once more and has everything.
    pub(super) async fn finish(&mut self) -> Outcome {
        self.tell("everything flows".into());
        self.log.set_replays(true);
        self.nodes.iter().for_each(|node| node.pause.resume());
        if self.log.lanes().is_empty() {
            // Or there would be nothing to wait for.
            self.log.make_anew(0);
            self.note_lanes();
        }
        for client in 0..self.clients.len() {
            self.hang_up(client)?;
            let node = self.chance.below(self.nodes.len());
            self.connect(client, node, true).await;
        }
        self.let_run(5).await;
        for node in 0..self.nodes.len() {
            self.all_is_closed(node).await?;
        }
        let mut markers = self.mark();
        for client in 0..self.clients.len() {
            let mut tries = 0;
            loop {
                let gaps = self.gaps.values().sum::<u64>();
                self.absorb(client)?;
                if markers.is_subset(&self.clients[client].markers) {
                    break;
                }
                if self.gaps.values().sum::<u64>() > gaps {
                    // They may have been before it.
                    markers = self.mark();
                }
                let at = self.clients[client].session.as_ref().expect("it has come back");
                if at.closed || at.peer.dropped() {
                    tries += 1;
                    if tries > 5 {
                        return Err(format!("c{client} is closed again and again"));
                    }
                    self.hang_up(client)?;
                    let node = self.chance.below(self.nodes.len());
                    self.connect(client, node, true).await;
                    continue;
                }
                let (peer, read) = (at.peer.clone(), at.read);
                let more = peer.until("more comes", |peer| {
                    peer.dropped() || peer.bytes()[read..].contains(&b'\n')
                });
                let moved = tokio::time::timeout(Duration::from_secs(8), more).await;
                if moved.is_err() {
                    return Err(format!("c{client} waits in vain for the last of all"));
                }
            }
            let judge = &self.clients[client].judge;
            judge.end(&self.truth).map_err(|what| format!("c{client}: at the end {what}"))?;
        }
        self.replays += self.log.passes();
        for node in &self.nodes {
            node.pipeline.abort();
        }
        Ok(())
    }

    /// Waits until a node has come to the end of all lanes that are closed: what it has yet to
    /// tell of them comes before what is written then.
    pub(super) async fn all_is_closed(&self, node: usize) -> Outcome {
        let Node { hub, pause, .. } = &self.nodes[node];
        let open = self.log.lanes();
        let closed = || {
            let named = self.tokens.open(hub.cursor().as_str()).expect("a node's own cursor");
            pause.closed() == self.truth.closed.len()
                && named.iter().all(|(lane, ..)| open.iter().any(|open| **open == *lane))
        };
        for _ in 0..8000 {
            if closed() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err(format!("node {node} does not come to the end of what is closed"))
    }

    /// Writes one last event to each lane, which everybody gets.
    pub(super) fn mark(&mut self) -> BTreeSet<String> {
        let mut markers = BTreeSet::new();
        for lane in self.log.lanes() {
            let n = format!("\"marker {}\"", self.truth.number());
            let event = format!(r#"{{"n":{n},"e":[{{"r":["all"],"k":"shared"}}]}}"#);
            self.write_to(&lane, Some(event));
            markers.insert(format!(r#"{{"n":{n},"i":0,"v":"*","p":""}}"#));
        }
        markers
    }

    /// The whole story, for people.
    pub(crate) fn account(&self) -> String {
        let mut account = self.story.join("\n");
        for client in &self.clients {
            let Client { name, whole_cursors, roles, record, .. } = client;
            let who = format!("\n== {name}, whole cursors: {whole_cursors}, {roles:?}\n");
            account.extend([who, record.join("\n")]);
        }
        account
    }
}
