//! What was revoked, by the record of the control topic, and from when on each server has
//! certainly applied it.
//!
//! No clock says that, and no patience. Each server has a *pulse*: a record on the control
//! topic that revokes somebody who does not exist, and then another, which is written only
//! once that server refuses a token of the first. A server applies what it reads in one go
//! and in order, and reads on when all of its shards have done it. So when it refuses the
//! second, everything before the first is applied:
//!
//! ```text
//!  control topic:   ... R ... pulse 1 ........... pulse 2
//!                                |                   |
//!  server:           "pulse 1 is revoked"   "pulse 2 is revoked": R counts here from now on
//! ```
//!
//! What is written to Kafka after that must not reach whoever R is about. A server that is
//! started again lets nobody in before it has read the topic, so what was applied stays so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kafka_source::rdkafka::producer::{FutureProducer, FutureRecord};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Duration;

use crate::clock;
use crate::error::Error;
use crate::http;
use crate::judge::{Revoked, What};
use crate::people::LONG;
use crate::producers::producer_within;
use crate::reader::{CONTROL, Quiet, Records};
use crate::trouble::drop_elsewhere;
use crate::world::World;

/// How long a pulse may wait to be written: the broker may be away.
const WRITTEN: Duration = Duration::from_secs(5);
/// Between two looks at a server.
const LOOK: Duration = Duration::from_millis(100);

/// A pulse that its server has been seen to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    pub(crate) node: usize,
    pub(crate) subject: String,
    /// In milliseconds: no later than this did the server know of it.
    pub(crate) known: u64,
}

/// All pulses, each server's in order.
#[derive(Debug, Default)]
pub(crate) struct Pulses(Mutex<Vec<Pulse>>);

impl Pulses {
    fn add(&self, pulse: Pulse) {
        self.0.lock().expect("nobody panics with it").push(pulse);
    }

    pub(crate) fn all(&self) -> Vec<Pulse> {
        self.0.lock().expect("nobody panics with it").clone()
    }

    /// How many a server has known.
    pub(crate) fn of(&self, node: usize) -> usize {
        let pulses = self.0.lock().expect("nobody panics with it");
        pulses.iter().filter(|pulse| pulse.node == node).count()
    }
}

/// Gives a server its pulses, until the task is ended.
pub(crate) async fn pulse(world: Arc<World>, brokers: String, node: usize) -> Result<(), Error> {
    let mut producer = Writer::new(&brokers)?;
    for number in 0_u64.. {
        let subject = format!("pulse{number}.server{node}.{}", world.run);
        let issued = clock::now() / 1000;
        let roles = ["user".to_owned()];
        let token = world.people.sign(&subject, &roles, issued, LONG).text;
        let payload = json!({"revoke": {"subject": subject, "before": issued}}).to_string();
        let record = FutureRecord::<str, str>::to(CONTROL).partition(0).payload(&payload);
        if producer.send(record).await.is_err() {
            // The broker is away; or it is back, and this client knows nobody any more, as
            // in `reader`.
            producer = Writer::new(&brokers)?;
            tokio::time::sleep(LOOK).await;
            continue;
        }
        while !knows(&world, node, &token).await {
            tokio::time::sleep(LOOK).await;
        }
        world.tally.add("pulses known");
        world.pulses.add(Pulse { node, subject, known: clock::now() });
        tokio::time::sleep(3 * LOOK).await;
    }
    Ok(())
}

/// A producer that holds up nobody when it goes.
struct Writer(Option<FutureProducer<Quiet>>);

impl Writer {
    fn new(brokers: &str) -> Result<Self, Error> {
        let millis = u32::try_from(WRITTEN.as_millis()).unwrap_or(u32::MAX);
        producer_within(brokers, millis).map(Some).map(Self)
    }

    async fn send(&self, record: FutureRecord<'_, str, str>) -> Result<(), Error> {
        let Some(producer) = &self.0 else { return Ok(()) };
        let sent = producer.send(record, WRITTEN).await;
        sent.map(|_| ()).map_err(|(error, _)| Error::kafka(error))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop_elsewhere(self.0.take());
    }
}

/// Whether a server refuses a token as revoked. A good one is refused, too: this is for admins.
async fn knows(world: &World, node: usize, token: &str) -> bool {
    let addr = world.nodes[node].addr;
    let answer = http::ask(addr, "GET", "/api/stats", Some(token), None).await;
    answer.is_some_and(|(_, answer)| answer["error"]["code"] == "revoked")
}

/// What a record of the control topic says.
#[derive(Deserialize)]
struct Said {
    revoke: Revoke,
}

#[derive(Deserialize)]
struct Revoke {
    subject: Option<String>,
    role: Option<String>,
    connection: Option<String>,
    before: Option<u64>,
}

/// Everything that was revoked of each subject, and of each connection, in order.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    of: BTreeMap<String, Vec<Revoked>>,
}

impl Revocations {
    /// Of a subject, and of connections with these names.
    pub(crate) fn of(&self, subject: &str, connections: &[String]) -> Vec<Revoked> {
        let names = [subject].into_iter().chain(connections.iter().map(String::as_str));
        names.filter_map(|name| self.of.get(name)).flatten().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.of.values().map(Vec::len).sum()
    }
}

/// What was revoked, where that is about anybody of this run.
pub(crate) fn revocations(records: &Records, run: &str, pulses: &[Pulse]) -> Revocations {
    let none = BTreeMap::new();
    let records = records.get(&(CONTROL.to_owned(), 0)).unwrap_or(&none);
    let mut read = Vec::new();
    let mut offsets = BTreeMap::new();
    for (offset, record) in records {
        let payload = record.payload.as_deref().unwrap_or_default();
        let Ok(Said { revoke }) = serde_json::from_slice(payload) else { continue };
        let written = record.time.unwrap_or(0).max(0).unsigned_abs();
        let Revoke { subject, role, connection, before } = revoke;
        let before = before.unwrap_or(written / 1000);
        let (name, what) = match (subject, role, connection) {
            (Some(subject), None, _) => (subject, What::Subject),
            (Some(subject), Some(role), _) => (subject, What::Role(role)),
            (None, _, Some(connection)) => (connection.clone(), What::Connection(connection)),
            (None, _, None) => continue,
        };
        if name.starts_with("pulse") {
            offsets.insert(name, *offset);
        } else if matches!(what, What::Connection(_)) || name.contains(run) {
            read.push((*offset, name, Revoked { what, before, written, applied: BTreeMap::new() }));
        }
    }
    let certain = certain(pulses, &offsets);
    let mut revocations = Revocations::default();
    for (offset, name, mut revoked) in read {
        for (node, pairs) in &certain {
            let after = pairs.iter().find(|(first, _)| *first > offset);
            revoked.applied.extend(after.map(|(_, known)| (*node, *known)));
        }
        revocations.of.entry(name).or_default().push(revoked);
    }
    revocations
}

/// For each server, in order: what is before this offset was applied at that time.
fn certain(pulses: &[Pulse], offsets: &BTreeMap<String, i64>) -> BTreeMap<usize, Vec<(i64, u64)>> {
    let mut before = BTreeMap::<usize, i64>::new();
    let mut certain = BTreeMap::<usize, Vec<(i64, u64)>>::new();
    for Pulse { node, subject, known } in pulses {
        let Some(offset) = offsets.get(subject) else { continue };
        if let Some(first) = before.insert(*node, *offset) {
            certain.entry(*node).or_default().push((first, *known));
        }
    }
    certain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Record;

    #[test]
    fn what_is_before_a_pulse_is_applied_once_the_next_one_is_known() {
        let said = [
            json!({"revoke": {"subject": "ann.r", "before": 7}}),
            json!({"revoke": {"subject": "pulse0.server1.r", "before": 7}}),
            json!({"revoke": {"subject": "ann.r", "role": "admin", "before": 8}}),
            json!({"revoke": {"subject": "ann.of-another-run", "before": 8}}),
            json!({"revoke": {"subject": "pulse1.server1.r", "before": 8}}),
            json!({"revoke": {"connection": "1-2-3-4"}}),
            json!("what is this?"),
            json!({"revoke": {"subject": "pulse2.server1.r", "before": 8}}),
        ];
        let record = |said: &serde_json::Value| Record {
            time: Some(9000),
            key: None,
            payload: Some(said.to_string().into()),
        };
        let records: BTreeMap<i64, Record> = (0..).zip(said.iter().map(record)).collect();
        let records = Records::from([((CONTROL.to_owned(), 0), records)]);
        let pulse =
            |n: u64| Pulse { node: 1, subject: format!("pulse{n}.server1.r"), known: 10_000 + n };
        let all = revocations(&records, "r", &[pulse(0), pulse(1), pulse(2)]);
        let of = all.of("ann.r", &["1-2-3-4".to_owned()]);
        let applied: Vec<_> = of.iter().map(|r| r.applied.get(&1).copied()).collect();
        assert_eq!(applied, [Some(10_001), Some(10_002), None]);
        assert_eq!(of[0].what, What::Subject);
        assert_eq!((of[1].before, of[2].before, of[2].written), (8, 9, 9000));
    }
}
