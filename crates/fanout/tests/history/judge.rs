//! Compares what one client received, over all its sessions, with what was written.
//!
//! It knows how far the client has each lane, and which rooms it is in since when. Where
//! something begins while events flow (a room that was asked for, what follows a gap) it
//! cannot know the exact event: before the one place it must not come, after the other it
//! must, in between it may, but what has begun has no holes.
//!
//! A lane that is closed is in no cursor any more, and that says nothing of it: in the end
//! the client has all of it, or was told of a gap. Two things are as they are and excused: of
//! a lane of which it never had anything it need not be told, and a node that has not closed
//! the lane yet takes it for a new one where the client has been on one that had.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use crate::scene::{Place, Truth, Written};

/// How far each lane is; of those that are not named nothing.
pub(crate) type Places = Vec<Place>;

pub(crate) fn of(places: &[Place], lane: usize) -> Place {
    places.get(lane).copied().unwrap_or_default()
}

fn set(places: &mut Places, lane: usize, to: Place) {
    if places.len() <= lane {
        places.resize(lane + 1, Place::default());
    }
    places[lane] = to;
}

#[derive(Clone, Debug, Default)]
struct Since {
    /// Up to here nothing may come.
    not_before: Places,
    /// After this everything must.
    sure: Places,
}

#[derive(Clone, Copy, Debug)]
enum Reached {
    /// All up to here is accounted for.
    At(Place),
    /// After a gap: what is missing or comes again is excused, but what comes after this is
    /// not.
    Unknown(Place),
}

type Line = (usize, (Vec<String>, Option<Bytes>, usize));

/// The judge of one client.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    lanes: Vec<Reached>,
    rooms: BTreeMap<String, Since>,
    view: String,
    /// After this, what only the view gets must come.
    view_sure: Places,
    /// How many were passed over of each line, for which a newer one has to stand.
    owed: HashMap<Line, u64>,
    /// Lanes of which it had something, or was told that it has.
    named: BTreeSet<usize>,
    /// Closed lanes that may come again, or not.
    waived: BTreeSet<usize>,
    /// A gap has to come next.
    gap_due: bool,
    /// Whether its nodes' logs, or a replay, may move on while it catches up: it begins again then, and
    /// what was passed over before is not counted.
    begins_again: bool,
}

type Verdict = Result<(), String>;

impl Judge {
    pub(crate) fn new(begins_again: bool) -> Self {
        Self { begins_again, ..Self::default() }
    }

    fn reached(&self, lane: usize) -> Reached {
        self.lanes.get(lane).copied().unwrap_or(Reached::At(Place::default()))
    }

    fn reach(&mut self, lane: usize, reached: Reached) {
        if self.lanes.len() <= lane {
            self.lanes.resize(lane + 1, Reached::At(Place::default()));
        }
        self.lanes[lane] = reached;
    }

    pub(crate) fn rooms(&self) -> impl Iterator<Item = &String> {
        self.rooms.keys()
    }

    /// A session without a cursor: it begins somewhere from `welcome` to `tail`.
    pub(crate) fn comes(
        &mut self,
        rooms: Vec<String>,
        view: &str,
        welcome: &Places,
        tail: &Places,
    ) {
        let since = Since { not_before: welcome.clone(), sure: tail.clone() };
        self.begin(rooms, view, &since);
        self.note_named(welcome);
        self.lanes = welcome.iter().map(|place| Reached::At(*place)).collect();
    }

    /// A session with a cursor that can be read.
    pub(crate) fn returns(
        &mut self,
        truth: &Truth,
        rooms: Vec<String>,
        view: &str,
        cursor: &Places,
        gone_there: &BTreeSet<usize>,
    ) -> Verdict {
        self.told(truth, cursor)?;
        let mut since = Since { not_before: cursor.clone(), sure: cursor.clone() };
        for lane in truth.closed.iter().filter(|lane| of(cursor, **lane) == Place::default()) {
            set(&mut since.sure, *lane, (u64::MAX, 0));
            if !gone_there.contains(lane) {
                self.waived.insert(*lane);
            }
        }
        self.begin(rooms, view, &since);
        Ok(())
    }

    /// A session with a cursor that is none: the client knows by that alone that something
    /// is missing, and a gap has to follow.
    pub(crate) fn returns_in_vain(&mut self, rooms: Vec<String>, view: &str, tail: &Places) {
        self.begin(rooms, view, &Since::default());
        self.forget(tail);
        self.gap_due = true;
    }

    /// What is missing or comes again is excused, up to where its node had read.
    fn forget(&mut self, tail: &Places) {
        for since in self.rooms.values_mut() {
            since.not_before = Places::default();
            since.sure.clone_from(tail);
        }
        for lane in 0..self.lanes.len().max(tail.len()) {
            // A node that lags need not send again what the client had before.
            let (Reached::At(had) | Reached::Unknown(had)) = self.reached(lane);
            self.reach(lane, Reached::Unknown(of(tail, lane).max(had)));
        }
        self.owed.clear();
    }

    fn begin(&mut self, rooms: Vec<String>, view: &str, since: &Since) {
        self.rooms = rooms.into_iter().map(|room| (room, since.clone())).collect();
        view.clone_into(&mut self.view);
        self.view_sure = Places::default();
        self.owed.clear();
        self.gap_due = false;
    }

    /// It is in a room, since somewhere from `asked` to `answered`.
    pub(crate) fn joined(&mut self, room: &str, asked: &Places, answered: &Places) {
        let since = Since { not_before: asked.clone(), sure: answered.clone() };
        self.rooms.entry(room.to_owned()).or_insert(since);
    }

    pub(crate) fn left(&mut self, room: &str) {
        self.rooms.remove(room);
        self.owed.retain(|(_, (rooms, ..)), _| !rooms.iter().any(|other| other == room));
    }

    /// It sees another view, since somewhere before `answered`.
    pub(crate) fn sees(&mut self, view: &str, answered: &Places) {
        if self.view != view {
            view.clone_into(&mut self.view);
            self.view_sure.clone_from(answered);
            // What is passed over now may be for another than what was.
            self.owed.clear();
        }
    }

    fn must_have(&self, lane: usize, written: &Written) -> bool {
        let place = written.after;
        let shared = written.bodies[0].0 == "*";
        let member = written.rooms.iter().filter_map(|room| self.rooms.get(room));
        let mut sure = member.map(|since| place > of(&since.sure, lane));
        sure.any(|sure| sure)
            && written.body(&self.view).is_some()
            && (shared || place > of(&self.view_sure, lane))
    }

    /// What lies before the next thing of a lane that comes, and is not accounted for.
    fn missing<'a>(
        &'a self,
        truth: &'a Truth,
        lane: usize,
        to: Place,
    ) -> impl Iterator<Item = &'a Written> {
        let (Reached::At(from) | Reached::Unknown(from)) = self.reached(lane);
        let to = if self.waived.contains(&lane) { from } else { to };
        truth.between(lane, from, to).filter(move |written| self.must_have(lane, written))
    }

    fn note_named(&mut self, cursor: &Places) {
        let named = cursor.iter().enumerate().filter(|(_, place)| **place != Place::default());
        self.named.extend(named.map(|(lane, _)| lane));
    }

    /// What it should have of a closed lane of which it had something.
    fn missing_of_closed<'a>(&self, truth: &'a Truth, lane: usize) -> Option<&'a str> {
        if !self.named.contains(&lane) {
            return None;
        }
        let (Reached::At(from) | Reached::Unknown(from)) = self.reached(lane);
        let all = truth.between(lane, from, (u64::MAX, 0));
        let mut missing = all.filter(|written| self.must_have(lane, written));
        let missing = missing.next().filter(|_| !self.waived.contains(&lane));
        missing.map(|missing| missing.bodies[0].1.as_str())
    }

    /// An emission was received.
    pub(crate) fn received(&mut self, truth: &Truth, body: &str, skipped: u64) -> Verdict {
        if self.gap_due {
            return Err(format!("{body} came where a gap had to"));
        }
        let Some((lane, written)) = truth.find(body) else {
            return Err(format!("{body} was never written"));
        };
        if written.body(&self.view) != Some(body) {
            return Err(format!("{body} is not for the view {}", self.view));
        }
        let place = written.after;
        let in_rooms: Vec<&String> =
            written.rooms.iter().filter(|room| self.rooms.contains_key(*room)).collect();
        if in_rooms.is_empty() {
            return Err(format!("{body} is for {:?}, where it is not", written.rooms));
        }
        if !in_rooms.iter().any(|room| place > of(&self.rooms[*room].not_before, lane)) {
            return Err(format!("{body} is from before it was in {in_rooms:?}"));
        }
        self.named.insert(lane);
        if self.waived.contains(&lane) {
            return Ok(());
        }
        match self.reached(lane) {
            Reached::At(at) if place <= at => {
                return Err(format!("{body}, lane {lane}, came after {at:?} was reached"));
            }
            _ => {}
        }
        // Itself is not missing.
        let missing: Vec<Written> = self
            .missing(truth, lane, place)
            .filter(|missing| missing.after < place)
            .cloned()
            .collect();
        for missing in missing {
            if !missing.conflates() {
                let what = &missing.bodies[0].1;
                return Err(format!("{body}, lane {lane}, came and {what} did not"));
            }
            *self.owed.entry((lane, missing.line())).or_default() += 1;
        }
        let owed = self.owed.remove(&(lane, written.line())).unwrap_or(0);
        let exact = in_rooms.iter().all(|room| {
            let since = &self.rooms[*room];
            of(&since.sure, lane) == of(&since.not_before, lane)
        }) && of(&self.view_sure, lane) == Place::default()
            && matches!(self.reached(lane), Reached::At(_));
        if (skipped < owed && !self.begins_again) || (exact && skipped > owed) {
            return Err(format!("{body} stands for {skipped}, not for {owed}"));
        }
        if let [room] = in_rooms[..] {
            let room = room.clone();
            let sure = &mut self.rooms.get_mut(&room).expect("looked at above").sure;
            if of(sure, lane) > place {
                set(sure, lane, place);
            }
        }
        if of(&self.view_sure, lane) > place {
            set(&mut self.view_sure, lane, place);
        }
        self.reach(lane, Reached::At(place));
        Ok(())
    }

    /// The client was told, or says itself, that it has everything up to a cursor.
    pub(crate) fn told(&mut self, truth: &Truth, cursor: &Places) -> Verdict {
        self.note_named(cursor);
        for lane in 0..self.lanes.len().max(cursor.len()).max(truth.lanes.len()) {
            let to = of(cursor, lane);
            let unnamed = truth.closed.contains(&lane) && to == Place::default();
            // It was told that the rest is missing.
            let excused = truth.closed.contains(&lane)
                && matches!(self.reached(lane), Reached::Unknown(at) if to < at);
            if excused || self.waived.contains(&lane) {
                continue;
            }
            if unnamed {
                if let Some(missing) = self.missing_of_closed(truth, lane) {
                    return Err(format!(
                        "the cursor is without lane {lane}, {missing} did not come"
                    ));
                }
                continue;
            }
            match self.reached(lane) {
                Reached::At(at) if to < at => {
                    return Err(format!("lane {lane}: the cursor says {to:?}, it had {at:?}"));
                }
                _ => {}
            }
            let missing: Vec<Written> = self.missing(truth, lane, to).cloned().collect();
            for missing in missing {
                if !missing.conflates() {
                    let what = &missing.bodies[0].1;
                    let story = format!("the cursor says {to:?}, {what} did not come");
                    return Err(format!("lane {lane}: {story}"));
                }
                *self.owed.entry((lane, missing.line())).or_default() += 1;
            }
            self.reach(lane, Reached::At(to));
        }
        Ok(())
    }

    /// It has all there is, and is told up to where that goes.
    pub(crate) fn is_live(&mut self, truth: &Truth, cursor: &Places) -> Verdict {
        self.told(truth, cursor)?;
        match self.owed.iter().next() {
            Some(owed) => Err(format!("it has all, but nothing came that stands for {owed:?}")),
            None => Ok(()),
        }
    }

    /// A gap came; `tail` is how far its node had read at the latest.
    pub(crate) fn gap(&mut self, reason: &str, rooms: &[String], tail: &Places) -> Verdict {
        self.gap_due = false;
        if reason == "overflow" {
            for room in rooms {
                let Some(since) = self.rooms.get_mut(room) else {
                    return Err(format!("a gap in {room}, where it is not"));
                };
                since.sure.clone_from(tail);
                if room.starts_with("ask:") || !room.contains(':') || room.starts_with("user:") {
                    return Err(format!("a gap by overflow in {room}, which does not drop"));
                }
            }
            self.owed.clear();
            return Ok(());
        }
        let mut named: Vec<&String> = rooms.iter().collect();
        named.sort();
        if !named.iter().copied().eq(self.rooms.keys()) {
            return Err(format!("a gap of {rooms:?}, but it is in {:?}", self.rooms.keys()));
        }
        self.forget(tail);
        Ok(())
    }

    /// Everything has flowed: nothing may be left out.
    pub(crate) fn end(&self, truth: &Truth) -> Verdict {
        if self.gap_due {
            return Err("a gap had to come".into());
        }
        for lane in 0..truth.lanes.len() {
            if truth.closed.contains(&lane) {
                if let Some(missing) = self.missing_of_closed(truth, lane) {
                    return Err(format!("lane {lane}, which is closed: {missing} never came"));
                }
                continue;
            }
            if let Some(missing) = self.missing(truth, lane, (u64::MAX, 0)).next() {
                return Err(format!("lane {lane}: {} never came", missing.bodies[0].1));
            }
        }
        match self.owed.iter().next() {
            Some(owed) => Err(format!("nothing came that stands for {owed:?}")),
            None => Ok(()),
        }
    }
}
