//! What a run is made of: chance, roles, a pure router, and what was really written.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use fanout::{Access, Body, Emission, Event, Json, Lane, RoleAccess, Room, RouteError};
use serde_json::{Value, json};

/// splitmix64 (Steele, Lea, Flood 2014): the same run for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Chance(pub u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub(crate) fn between(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from)
    }

    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

/// Roles of which each client has the first, and some the last as well.
pub(crate) const VIEWERS: [&str; 3] = ["anna", "bert", "carl"];
pub(crate) const EXTRA: &str = "extra";
pub(crate) const ASKED: [&str; 6] = ["ask:1", "ask:2", "drop:1", "conf:1", "gold:1", "no:1"];

/// Three views, of which one does not get everything; a role that brings rooms.
pub(crate) fn access() -> Access {
    let viewer = |role: &str| {
        let role = RoleAccess::new(role).joins("user:{subject}").joins("all").sees(role);
        role.may_join("ask:*").may_join("drop:*").may_join("conf:*")
    };
    let extra = RoleAccess::new(EXTRA).joins("extra").may_join("gold:*").sees("anna");
    Access::new(VIEWERS.map(viewer).into_iter().chain([extra])).expect("a policy")
}

/// What becomes of an event: what its payload says.
pub(crate) fn route(event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
    let said: Value = event.parse()?;
    for (i, emission) in said["e"].as_array().ok_or("no emissions")?.iter().enumerate() {
        let pad = "x".repeat(emission["p"].as_u64().unwrap_or(0) as usize);
        let body = |view: &str| {
            Json::parse(Bytes::from(format!(
                r#"{{"n":{},"i":{i},"v":"{view}","p":"{pad}"}}"#,
                said["n"]
            )))
        };
        let rooms = emission["r"].as_array().ok_or("no rooms")?;
        let mut rooms = rooms.iter().map(|room| Room::new(room.as_str().unwrap_or("")));
        let first = rooms.next().ok_or("no room")??;
        let mut made = match emission["k"].as_str() {
            Some("views") => {
                let [a, b, c] = VIEWERS;
                Emission::new(first, "e", [(a, body(a)?), (b, body(b)?), (c, body(c)?)])
            }
            Some("some") => {
                let [a, b, _] = VIEWERS;
                Emission::new(first, "e", [(a, body(a)?), (b, body(b)?)])
            }
            _ => Emission::new(first, "e", body("*")?),
        };
        for room in rooms {
            made = made.and_to(room?);
        }
        if let Some(key) = emission["c"].as_str() {
            made = made.with_key(key.to_owned());
        }
        out.push(made);
    }
    Ok(())
}

/// An event of up to three emissions.
pub(crate) fn any_event(chance: &mut Chance, number: u64, lossy: bool, clients: usize) -> String {
    let mut rooms = vec!["all".to_owned(), "extra".into(), "ask:1".into(), "ask:2".into()];
    rooms.push("gold:1".into());
    rooms.extend((0..clients).map(|n| format!("user:c{n}")));
    let count = chance.of(&[0, 1, 1, 1, 2, 3]);
    let mut emissions = Vec::new();
    for _ in 0..count {
        let kind = chance.of(&["shared", "views", "some"]);
        let pad = chance.below(chance.clone().of(&[10, 60, 300]));
        if lossy && chance.percent(50) {
            let room = chance.of(&["drop:1", "conf:1", "conf:1"]);
            let key = chance.percent(80).then(|| chance.of(&["k1", "k2", "k3"]));
            emissions.push(json!({ "r": [room], "k": kind, "p": pad, "c": key }));
            continue;
        }
        let mut to = vec![chance.of(&rooms)];
        if chance.percent(25) {
            to.push(chance.of(&rooms));
        }
        emissions.push(json!({ "r": to, "k": kind, "p": pad }));
    }
    json!({ "n": number, "e": emissions }).to_string()
}

/// The place after an emission: an offset and an emission of it.
pub(crate) type Place = (u64, u32);

/// An emission that was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) after: Place,
    pub(crate) rooms: Vec<String>,
    /// By view; of the one view `*` where all get the same.
    pub(crate) bodies: Vec<(String, String)>,
    pub(crate) key: Option<Bytes>,
}

impl Written {
    pub(crate) fn body(&self, view: &str) -> Option<&str> {
        let of = |(known, _): &&(String, String)| known == "*" || known == view;
        self.bodies.iter().find(of).map(|(_, body)| body.as_str())
    }

    /// Whether others may stand for it.
    pub(crate) fn conflates(&self) -> bool {
        self.key.is_some() && self.rooms.iter().all(|room| room.starts_with("conf:"))
    }

    /// What those have in common that may stand for each other.
    pub(crate) fn line(&self) -> (Vec<String>, Option<Bytes>, usize) {
        let views = if self.bodies[0].0 == "*" { 0 } else { self.bodies.len() };
        (self.rooms.clone(), self.key.clone(), views)
    }
}

/// Everything that was written, by lane.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) lanes: Vec<Vec<Written>>,
    /// Lanes that are no more.
    pub(crate) closed: BTreeSet<usize>,
    bodies: HashMap<String, (usize, usize)>,
    last: u64,
}

impl Truth {
    pub(crate) fn add(&mut self, number: usize, offset: u64, payload: &str) {
        let lane = Arc::new(Lane::new("truth", "t", number as u32));
        let mut emissions = Vec::new();
        let event = Event::new(lane, offset, payload.to_owned().into());
        route(&event, &mut emissions).expect("the event is well made");
        let count = emissions.len();
        for (i, emission) in emissions.into_iter().enumerate() {
            let last = i + 1 == count;
            let after = if last { (offset + 1, 0) } else { (offset, i as u32 + 1) };
            let text = |json: &Json| json.as_str().to_owned();
            let bodies = match &emission.body {
                Body::Shared(json) => vec![("*".to_owned(), text(json))],
                Body::PerView(all) => {
                    all.iter().map(|(view, json)| (view.to_string(), text(json))).collect()
                }
            };
            let rooms: Vec<String> = emission.rooms.iter().map(Room::to_string).collect();
            self.push(number, Written { after, rooms, bodies, key: emission.key });
        }
    }

    pub(crate) fn push(&mut self, number: usize, written: Written) {
        if self.lanes.len() <= number {
            self.lanes.resize_with(number + 1, Vec::new);
        }
        let lane = &mut self.lanes[number];
        for (_, body) in &written.bodies {
            self.bodies.insert(body.clone(), (number, lane.len()));
        }
        lane.push(written);
    }

    /// The emission of a body.
    pub(crate) fn find(&self, body: &str) -> Option<(usize, &Written)> {
        let (lane, at) = *self.bodies.get(body)?;
        Some((lane, &self.lanes[lane][at]))
    }

    /// A lane's emissions after a place, up to another and with it.
    pub(crate) fn between(
        &self,
        lane: usize,
        after: Place,
        to: Place,
    ) -> impl Iterator<Item = &Written> {
        let all = self.lanes.get(lane).map_or(&[][..], Vec::as_slice);
        let from = all.partition_point(|written| written.after <= after);
        all[from..].iter().take_while(move |written| written.after <= to)
    }

    /// A number that no event had.
    pub(crate) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}
