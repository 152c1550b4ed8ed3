//! From when to when a client was due what is said in a room.

use std::collections::HashMap;

use super::{Life, Room, Step};

/// A stretch of a life in which nothing of a room may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) room: Room,
    /// From this step on, and this time.
    pub(crate) from: usize,
    pub(crate) time: u64,
    /// Up to this step; `None` to the end.
    pub(crate) to: Option<usize>,
}

/// The spans of all rooms.
pub(crate) fn spans(life: &Life) -> Vec<Span> {
    let mut spans = Spans::default();
    for (step, what) in life.steps.iter().enumerate() {
        match what {
            Step::Welcome { time, resumed, recovered, rooms } => {
                let left: Vec<Room> =
                    spans.open.keys().filter(|room| !rooms.contains(room)).cloned().collect();
                for room in &left {
                    spans.end(room, step);
                }
                // A gap follows, but the connection may have ended before it came.
                let anew = *recovered == Some(false) || !resumed || recovered.is_none();
                for room in rooms {
                    if anew {
                        spans.end(room, step);
                    }
                    spans.begin(room, step, *time);
                }
            }
            Step::Joined { time, room } => spans.begin(room, step, *time),
            Step::Leaving { room } | Step::Left { room } => {
                spans.end(room, step);
            }
            Step::Gap { time, rooms, .. } => {
                for room in rooms {
                    if spans.end(room, step) {
                        spans.begin(room, step, *time);
                    }
                }
            }
            _ => {}
        }
    }
    spans.ended.extend(spans.open.into_values());
    spans.ended.sort_by_key(|span| (span.from, span.room.clone()));
    spans.ended
}

#[derive(Default)]
struct Spans {
    open: HashMap<Room, Span>,
    ended: Vec<Span>,
}

impl Spans {
    fn begin(&mut self, room: &Room, step: usize, time: u64) {
        let span = || Span { room: room.clone(), from: step, time, to: None };
        self.open.entry(room.clone()).or_insert_with(span);
    }

    fn end(&mut self, room: &Room, step: usize) -> bool {
        let Some(span) = self.open.remove(room) else { return false };
        self.ended.push(Span { to: Some(step), ..span });
        true
    }
}
