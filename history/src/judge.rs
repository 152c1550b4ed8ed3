//! Whether what a client was told is what Kafka has, as a pure function.
//!
//! | kind | what is wrong |
//! |---|---|
//! | [`Kind::Lost`] | an emission that was due did not come |
//! | [`Kind::Doubled`] | one came twice, and no gap stood between |
//! | [`Kind::Misordered`] | one came after a later one of its lane |
//! | [`Kind::Forbidden`] | its rooms or its view may not see it, or nobody ever said it |
//! | [`Kind::Revoked`] | rights outlive what took them, or are taken without a reason |
//! | [`Kind::Protocol`] | a promise about frames is broken |
//!
//! An emission is due from when on it is certain that the client was in the room: all
//! that follows the first one that came for the room in a lane, and all that was written
//! after the answer that named the room had arrived. A gap, and leaving, end that
//! ([`spans`]); it begins anew behind them. What stands between is allowed to come, in
//! order, and allowed to be missing. After a run every client has stayed until the last
//! record of each lane, so the end is certain.
//!
//! Coming back changes nothing of it: who resumes owes no less than who never left, whoever
//! he has become meanwhile. What he may see is what the server has said of him last, and
//! [`identity`] holds the server to that.

mod identity;
mod lookup;
pub(crate) mod plant;
mod rights;
mod spans;
#[cfg(test)]
mod tests;
pub(crate) mod tokens;
mod walk;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub(crate) use lookup::Lookup;
pub(crate) use rights::{Cause, Claims, Revoked, What};
use spans::Span;

/// A room's name.
pub(crate) type Room = Arc<str>;

/// A frame's event, room and body as a number: the same text, the same number.
pub(crate) type Content = u32;

/// A frame's `at` as a number.
pub(crate) type AtId = u32;

/// What is in Kafka, routed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) lanes: Vec<LaneLog>,
}

/// One lane's emissions in their order.
#[derive(Clone, Debug)]
pub(crate) struct LaneLog {
    /// `topic/partition`.
    pub(crate) name: String,
    pub(crate) emissions: Vec<Emitted>,
    /// How many of them every client had the time to be told.
    pub(crate) due: usize,
}

/// An emission of a record.
#[derive(Clone, Debug)]
pub(crate) struct Emitted {
    /// The record's offset, and which of its emissions this is.
    pub(crate) offset: i64,
    pub(crate) nth: u32,
    /// When the record was written, in milliseconds since the epoch.
    pub(crate) time: u64,
    pub(crate) rooms: Vec<Room>,
    pub(crate) told: Told,
}

/// What it says, and to whom.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Shared(Content),
    PerView(Vec<(String, Content)>),
}

impl Told {
    pub(crate) fn to(&self, view: &str) -> Option<Content> {
        match self {
            Self::Shared(content) => Some(*content),
            Self::PerView(views) => {
                views.iter().find(|(name, _)| name == view).map(|(_, content)| *content)
            }
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Content> + '_ {
        let (shared, views) = match self {
            Self::Shared(content) => (Some(*content), &[][..]),
            Self::PerView(views) => (None, &views[..]),
        };
        shared.into_iter().chain(views.iter().map(|(_, content)| *content))
    }
}

/// All that a client was told, from its first connect without a cursor on.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) name: String,
    /// What it sees until it is told otherwise.
    pub(crate) view: String,
    pub(crate) steps: Vec<Step>,
    /// What was revoked that may concern it.
    pub(crate) revoked: Vec<Revoked>,
}

impl Life {
    /// Each change of the view, with its step.
    fn views(&self) -> impl Iterator<Item = (usize, &str)> {
        let told = self.steps.iter().enumerate().filter_map(|(step, what)| match what {
            // It is of the welcome that follows.
            Step::Told { cause: Cause::Welcome { .. }, view, .. } => {
                Some((step + 1, view.as_str()))
            }
            Step::Told { view, .. } => Some((step, view.as_str())),
            _ => None,
        });
        [(0, self.view.as_str())].into_iter().chain(told)
    }

    /// The names of its connections.
    pub(crate) fn connections(&self) -> Vec<String> {
        let names = self.steps.iter().filter_map(|step| match step {
            Step::Told { cause: Cause::Welcome { connection }, .. } => Some(connection.clone()),
            _ => None,
        });
        names.collect()
    }

    /// The views that it has in a span.
    fn views_in(&self, span: &Span) -> Vec<&str> {
        let views: Vec<_> = self.views().collect();
        let first = views.iter().rposition(|(step, _)| *step <= span.from).unwrap_or(0);
        let of = views[first..].iter().take_while(|(step, _)| span.to.is_none_or(|to| *step < to));
        of.map(|(_, view)| *view).collect()
    }
}

/// What happened to a client. Times are when it had read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It asks a server to be let in.
    Presents {
        time: u64,
        node: usize,
        claims: Claims,
    },
    /// The server says who it is; before the welcome that says so.
    Told {
        time: u64,
        cause: Cause,
        roles: Vec<String>,
        view: String,
    },
    /// A new token is on its way.
    Renews {
        time: u64,
        claims: Claims,
    },
    /// It was not taken.
    NotRenewed {
        time: u64,
    },
    /// The server has ended the connection.
    Closed {
        time: u64,
        code: u16,
    },
    /// A connection, with all rooms that it is in.
    Welcome {
        time: u64,
        /// Whether a cursor was given.
        resumed: bool,
        recovered: Option<bool>,
        rooms: Vec<Room>,
    },
    /// `subscribed`.
    Joined {
        time: u64,
        room: Room,
    },
    /// An `unsubscribe` is on its way: nothing more of the room is due.
    Leaving {
        room: Room,
    },
    /// `unsubscribed`: nothing more of it may come.
    Left {
        room: Room,
    },
    Frame {
        content: Content,
        at: Option<AtId>,
    },
    Gap {
        time: u64,
        reason: String,
        rooms: Vec<Room>,
    },
    /// The connection ended.
    Ended,
    /// Something that must never be.
    Broken {
        what: String,
    },
    /// Bytes that it must not see.
    Leak {
        what: String,
    },
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Lost,
    Doubled,
    Misordered,
    Forbidden,
    Revoked,
    Protocol,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Lost,
        Self::Doubled,
        Self::Misordered,
        Self::Forbidden,
        Self::Revoked,
        Self::Protocol,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Misordered => "misordered",
            Self::Forbidden => "forbidden",
            Self::Revoked => "revoked",
            Self::Protocol => "protocol",
        }
    }
}

/// A place in the log: lane, and emission within it.
pub(crate) type Place = (usize, usize);

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) what: String,
    pub(crate) place: Option<Place>,
    /// The step of the life at which it shows.
    pub(crate) step: usize,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) faults: Vec<Fault>,
    /// How many emissions were due.
    pub(crate) due: usize,
    /// Where each frame was found in the log, by its step.
    pub(crate) placed: Vec<(usize, Place)>,
}

/// Judges one life.
pub(crate) fn judge(lookup: &Lookup<'_>, life: &Life) -> Verdict {
    let walked = walk::walk(lookup, life);
    let mut verdict = Verdict { faults: walked.faults, due: 0, placed: walked.placed };
    verdict.faults.extend(identity::check(lookup, life, &verdict.placed));
    let spans = spans::spans(life);
    let frames = by_lane(lookup, &verdict.placed);
    let (mut due, mut lost) = (BTreeSet::new(), HashMap::new());
    for span in &spans {
        for (lane, positions) in lookup.room(&span.room) {
            let frames = frames.get(*lane).map_or(&[][..], Vec::as_slice);
            missing(lookup, life, span, *lane, positions, frames, &mut due, &mut lost);
        }
    }
    verdict.due = due.len();
    let mut lost: Vec<_> = lost.into_iter().collect();
    lost.sort_unstable();
    for ((lane, position), step) in lost {
        let emitted = &lookup.log.lanes[lane].emissions[position];
        let what = format!("rooms {:?} were due it and did not get it", emitted.rooms);
        let place = Some((lane, position));
        verdict.faults.push(Fault { kind: Kind::Lost, what, place, step });
    }
    verdict.faults.sort_by_key(|fault| (fault.step, fault.kind));
    verdict
}

/// The frames of each lane: their steps, in order, and positions.
fn by_lane(lookup: &Lookup<'_>, placed: &[(usize, Place)]) -> Vec<Vec<(usize, usize)>> {
    let mut lanes = vec![Vec::new(); lookup.log.lanes.len()];
    for (step, (lane, position)) in placed {
        lanes[*lane].push((*step, *position));
    }
    lanes
}

/// What a span was due of a lane, and what of it did not come.
#[allow(clippy::too_many_arguments, reason = "one step of `judge`")]
fn missing(
    lookup: &Lookup<'_>,
    life: &Life,
    span: &Span,
    lane: usize,
    positions: &[usize],
    frames: &[(usize, usize)],
    due: &mut BTreeSet<Place>,
    lost: &mut HashMap<Place, usize>,
) {
    let emissions = &lookup.log.lanes[lane].emissions;
    let views = life.views_in(span);
    let from = frames.partition_point(|(step, _)| *step < span.from);
    let to = frames.partition_point(|(step, _)| span.to.is_none_or(|to| *step < to));
    let frames = &frames[from..to];
    let in_room = |position: usize| emissions[position].rooms.contains(&span.room);
    let first = frames.iter().map(|(_, position)| *position).filter(|p| in_room(*p)).min();
    let last = frames.iter().map(|(_, position)| *position).max();
    let came: BTreeSet<usize> = frames.iter().map(|(_, position)| *position).collect();
    for position in positions {
        let emitted = &emissions[*position];
        let begun = first.is_some_and(|first| *position >= first) || emitted.time > span.time;
        // Where the span ends in a gap or by leaving, what followed the last frame of the
        // lane may be what was lost.
        let ended = span.to.is_some() && last.is_none_or(|last| *position > last);
        let late = *position >= lookup.log.lanes[lane].due;
        // Whose view changes meanwhile is due what all of them see.
        let unseen = views.iter().any(|view| emitted.told.to(view).is_none());
        if !begun || ended || late || unseen {
            continue;
        }
        due.insert((lane, *position));
        if !came.contains(position) {
            // Where it should have been: before the first later one that came.
            let step = frames.iter().find(|(_, p)| p > position).map(|(step, _)| *step);
            lost.entry((lane, *position)).or_insert(step.unwrap_or(life.steps.len()));
        }
    }
}
