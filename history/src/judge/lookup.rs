//! The log by what a frame says and by room, made once for all clients.

use std::collections::HashMap;

use super::{Content, Emitted, Log, Place, Room};

/// A log that things are looked up in.
pub(crate) struct Lookup<'a> {
    pub(crate) log: &'a Log,
    by_content: HashMap<Content, Vec<Place>>,
    by_room: HashMap<Room, Vec<(usize, Vec<usize>)>>,
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(log: &'a Log) -> Self {
        let mut by_content: HashMap<Content, Vec<Place>> = HashMap::new();
        let mut by_room: HashMap<Room, Vec<(usize, Vec<usize>)>> = HashMap::new();
        for (lane, lane_log) in log.lanes.iter().enumerate() {
            for (position, emitted) in lane_log.emissions.iter().enumerate() {
                for content in emitted.told.all() {
                    let places = by_content.entry(content).or_default();
                    if places.last() != Some(&(lane, position)) {
                        places.push((lane, position));
                    }
                }
                for room in &emitted.rooms {
                    let lanes = by_room.entry(room.clone()).or_default();
                    match lanes.last_mut() {
                        Some((last, positions)) if *last == lane => positions.push(position),
                        _ => lanes.push((lane, vec![position])),
                    }
                }
            }
        }
        Self { log, by_content, by_room }
    }

    pub(crate) fn emitted(&self, (lane, position): Place) -> &'a Emitted {
        &self.log.lanes[lane].emissions[position]
    }

    /// Where this is said, to whatever view.
    pub(crate) fn places(&self, content: Content) -> &[Place] {
        self.by_content.get(&content).map_or(&[], Vec::as_slice)
    }

    /// Each lane with emissions to this room, and their positions.
    pub(crate) fn room(&self, room: &str) -> &[(usize, Vec<usize>)] {
        self.by_room.get(room).map_or(&[], Vec::as_slice)
    }

    /// How many emissions share what they say with another: two records that were
    /// written twice within a millisecond cannot be told apart.
    pub(crate) fn ambiguous(&self) -> usize {
        self.by_content.values().filter(|places| places.len() > 1).count()
    }
}
