//! Order, doubling and rights: each frame's place in the log, one after the other.

use std::collections::{HashMap, HashSet};

use super::{Content, Fault, Kind, Life, Lookup, Place, Room, Step};

/// What a walk found.
pub(super) struct Walked {
    pub(super) faults: Vec<Fault>,
    pub(super) placed: Vec<(usize, Place)>,
}

/// The next position that may come, and the step that says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Floor {
    next: usize,
    step: usize,
}

struct Walk<'a> {
    lookup: &'a Lookup<'a>,
    view: &'a str,
    /// The rooms that it is in.
    rooms: HashSet<Room>,
    /// The next position of a lane that may come for a room.
    floors: HashMap<(usize, Room), Floor>,
    /// The next position of a lane, for rooms that were joined meanwhile.
    lanes: HashMap<usize, Floor>,
    /// What came since the last gap of its rooms.
    came: HashSet<Place>,
    walked: Walked,
}

pub(super) fn walk<'a>(lookup: &'a Lookup<'a>, life: &'a Life) -> Walked {
    let walked = Walked { faults: Vec::new(), placed: Vec::new() };
    let mut walk = Walk {
        lookup,
        view: &life.view,
        rooms: HashSet::new(),
        floors: HashMap::new(),
        lanes: HashMap::new(),
        came: HashSet::new(),
        walked,
    };
    for (number, step) in life.steps.iter().enumerate() {
        // What it sends meanwhile is nothing that it was told.
        let mut told = life.steps[number + 1..].iter();
        let next = told.find(|step| !matches!(step, Step::Renews { .. } | Step::Leaving { .. }));
        match step {
            Step::Welcome { resumed, recovered, rooms, .. } => {
                walk.welcome(number, *resumed, *recovered, rooms, next);
            }
            Step::Joined { room, .. } => walk.joins(room),
            Step::Left { room } => walk.leaves(room),
            Step::Frame { content, .. } => walk.frame(number, *content),
            Step::Gap { rooms, .. } => walk.gap(rooms),
            Step::Told { view, .. } => walk.view = view,
            Step::Broken { what } => walk.fault(Kind::Protocol, what.clone(), None, number),
            Step::Leak { what } => walk.fault(Kind::Forbidden, what.clone(), None, number),
            Step::Leaving { .. }
            | Step::Presents { .. }
            | Step::Renews { .. }
            | Step::NotRenewed { .. }
            | Step::Closed { .. }
            | Step::Ended => {}
        }
    }
    walk.walked
}

impl Walk<'_> {
    fn fault(&mut self, kind: Kind, what: String, place: Option<Place>, step: usize) {
        self.walked.faults.push(Fault { kind, what, place, step });
    }

    fn welcome(
        &mut self,
        step: usize,
        resumed: bool,
        recovered: Option<bool>,
        rooms: &[Room],
        next: Option<&Step>,
    ) {
        let left: Vec<Room> =
            self.rooms.difference(&rooms.iter().cloned().collect()).cloned().collect();
        for room in &left {
            self.leaves(room);
        }
        for room in rooms {
            self.joins(room);
        }
        if resumed != recovered.is_some() {
            let what = format!("a cursor was given: {resumed}, recovered: {recovered:?}");
            self.fault(Kind::Protocol, what, None, step);
        }
        if recovered != Some(true) {
            self.gap(rooms);
        }
        if recovered == Some(false) {
            let told = match next {
                Some(Step::Gap { rooms: told, .. }) => rooms.iter().all(|r| told.contains(r)),
                // It ended before.
                None | Some(Step::Ended | Step::Closed { .. }) => true,
                Some(_) => false,
            };
            if !told {
                let what = "recovered: false, and no gap of all rooms at once".to_owned();
                self.fault(Kind::Protocol, what, None, step);
            }
        }
    }

    /// A room that is joined is one place of the node's log with the others: nothing of
    /// it comes before what came of them.
    fn joins(&mut self, room: &Room) {
        if self.rooms.insert(room.clone()) {
            for (lane, next) in &self.lanes {
                self.floors.insert((*lane, room.clone()), *next);
            }
        }
    }

    /// Who joins it again begins where the other rooms are then.
    fn leaves(&mut self, room: &Room) {
        self.rooms.remove(room);
        self.floors.retain(|(_, of), _| of != room);
    }

    fn gap(&mut self, rooms: &[Room]) {
        if self.rooms.iter().all(|room| rooms.contains(room)) {
            self.lanes.clear();
        }
        self.floors.retain(|(_, room), _| !rooms.contains(room));
        let lookup = self.lookup;
        self.came
            .retain(|place| !lookup.emitted(*place).rooms.iter().any(|room| rooms.contains(room)));
    }

    fn frame(&mut self, step: usize, content: Content) {
        let lookup = self.lookup;
        let said = lookup.places(content);
        let may = |place: &&Place| {
            let emitted = lookup.emitted(**place);
            emitted.told.to(self.view) == Some(content)
                && emitted.rooms.iter().any(|room| self.rooms.contains(room))
        };
        let places: Vec<Place> = said.iter().filter(may).copied().collect();
        let Some(first) = places.first().copied() else {
            let what = match said.first() {
                None => "nothing in Kafka says this".to_owned(),
                Some(place) => format!("it is for rooms {:?}", lookup.emitted(*place).rooms),
            };
            return self.fault(Kind::Forbidden, what, said.first().copied(), step);
        };
        // The same words may have been written twice: then they come twice, in order.
        let Some(place) = places.iter().copied().find(|place| self.follows(*place)) else {
            let kind = if places.iter().all(|place| self.came.contains(place)) {
                Kind::Doubled
            } else {
                Kind::Misordered
            };
            let what = match kind {
                Kind::Doubled => "it came before, and no gap stands between".to_owned(),
                _ => format!("a later one of its lane came before, at step {}", self.later(first)),
            };
            self.walked.placed.push((step, first));
            self.came.insert(first);
            return self.fault(kind, what, Some(first), step);
        };
        let (lane, position) = place;
        let new = Floor { next: position + 1, step };
        for room in &self.rooms {
            let floor = self.floors.entry((lane, room.clone())).or_default();
            *floor = (*floor).max(new);
        }
        let floor = self.lanes.entry(lane).or_default();
        *floor = (*floor).max(new);
        self.came.insert(place);
        self.walked.placed.push((step, place));
    }

    /// What must not come after a place's lane and rooms.
    fn floors_of(&self, place: Place) -> impl Iterator<Item = Floor> {
        let rooms = self.lookup.emitted(place).rooms.iter();
        let mine = rooms.filter(|room| self.rooms.contains(*room));
        mine.filter_map(move |room| self.floors.get(&(place.0, room.clone())).copied())
    }

    fn follows(&self, place: Place) -> bool {
        self.floors_of(place).all(|floor| place.1 >= floor.next)
    }

    fn later(&self, place: Place) -> usize {
        self.floors_of(place).max().unwrap_or_default().step
    }
}
