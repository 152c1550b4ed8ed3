//! A connection that is behind reads on from the log.
//!
//! First the rest of the frame that was begun, then what is to be written between
//! frames, then entry by entry from its own place to the shard's. Batches whose
//! bloom has none of its rooms are passed over. There is no other way out of being
//! behind, and nothing is kept for the connection but its place.

use std::io::{ErrorKind, IoSlice};

use bytes::Bytes;

use crate::connection::{Behind, Connection, Control, Flow, Phase};
use crate::log::{Evicted, Place, Seq};
use crate::overflow::Lag;
use crate::shard::Shard;
use crate::sink::Close;

/// Frames of one write, and bytes of one turn.
const MAX_FRAMES: usize = 64;
const MAX_BYTES: usize = 64 * 1024;
/// Entries looked at in one turn.
const MAX_ENTRIES: usize = 4096;

/// How a connection stands after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It has all.
    Live,
    /// The socket is full.
    Full,
    /// Its turn is over; it could take more.
    More,
    /// The log has moved on.
    Lost,
    /// The socket is broken.
    Failed,
}

impl Shard {
    /// Writes what a connection has pending, as far as its socket takes it.
    pub(crate) fn catch_up(&mut self, key: usize) {
        self.connections[key].catching = false;
        match self.read_on(key) {
            Progress::Live => {
                let connection = &mut self.connections[key];
                connection.flow = Flow::Live;
                match connection.phase {
                    Phase::Finishing { .. } => self.condemn(key),
                    _ => self.watch(key, false),
                }
            }
            Progress::Full => self.wait_for_room(key),
            Progress::More => self.queue_catch_up(key),
            Progress::Lost => self.too_slow(key),
            Progress::Failed => self.condemn(key),
        }
        self.read_again(key);
    }

    /// Writes what was queued for a connection between frames.
    pub(crate) fn flush(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if connection.control.is_none() || connection.phase == Phase::Dead {
            return;
        }
        if connection.is_live() {
            let (place, lag) = (self.place.clone(), Lag::new(0, self.now));
            connection.flow =
                Flow::Behind(Box::new(Behind { place, rest: Bytes::new(), lag, inexact: false }));
            self.catch_up(key);
        }
    }

    fn read_on(&mut self, key: usize) -> Progress {
        let mut budget = MAX_BYTES;
        loop {
            let connection = &mut self.connections[key];
            let Flow::Behind(behind) = &mut connection.flow else { return Progress::Live };
            if behind.rest.is_empty() {
                if let Some(bytes) = Control::pop(&mut connection.control) {
                    behind.rest = bytes;
                } else if let Some(progress) = self.read_entries(key, &mut budget) {
                    return progress;
                }
                continue;
            }
            let sink = connection.sink.as_mut().expect("not in a session");
            match sink.try_write(&[IoSlice::new(&behind.rest)]) {
                Ok(taken) => {
                    behind.lag.moved = self.now;
                    let _ = behind.rest.split_to(taken.min(behind.rest.len()));
                    if !behind.rest.is_empty() {
                        return Progress::Full;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Full,
                Err(_) => return Progress::Failed,
            }
        }
    }

    /// Collects entries from a connection's place on and writes them; `None` where it
    /// can go on.
    fn read_entries(&mut self, key: usize, budget: &mut usize) -> Option<Progress> {
        let end = self.place.seq();
        let connection = &mut self.connections[key];
        let Flow::Behind(behind) = &mut connection.flow else { return Some(Progress::Live) };
        if behind.lag.bytes == 0 || behind.place.seq() >= end {
            // Nothing is pending: the place may have left the log, it is not needed.
            return Some(Progress::Live);
        }
        if *budget == 0 {
            return Some(Progress::More);
        }
        let mut frames = Vec::new();
        let mut bytes = 0;
        let place = behind.place.clone();
        let connection = &self.connections[key];
        let walked = walk(connection, &place, end, MAX_ENTRIES, |place, frame| {
            bytes += frame.len();
            frames.push((place, frame));
            frames.len() < MAX_FRAMES && bytes < MAX_BYTES
        });
        let Ok(place) = walked else { return Some(Progress::Lost) };

        let connection = &mut self.connections[key];
        let Flow::Behind(behind) = &mut connection.flow else { return Some(Progress::Live) };
        if frames.is_empty() {
            // Nothing in there was for it; looking cost something, though.
            behind.place = place;
            *budget = budget.saturating_sub(MAX_BYTES / 4);
            return None;
        }
        let slices: Vec<IoSlice<'_>> = frames.iter().map(|(_, f)| IoSlice::new(f)).collect();
        let sink = connection.sink.as_mut().expect("not in a session");
        let taken = match sink.try_write(&slices) {
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Progress::Full),
            Err(_) => return Some(Progress::Failed),
        };
        behind.lag.moved = self.now;
        self.counters.delivered(0, taken);
        let mut left = taken;
        for (after, frame) in frames {
            if left == 0 {
                // Only as far as the write got, not as far as was collected.
                return Some(Progress::Full);
            }
            behind.place = after;
            behind.lag.bytes = behind.lag.bytes.saturating_sub(frame.len() as u64);
            self.counters.delivered(1, 0);
            if left < frame.len() {
                behind.rest = frame.slice(left..);
                return Some(Progress::Full);
            }
            left -= frame.len();
        }
        behind.place = place;
        *budget = budget.saturating_sub(taken);
        None
    }

    /// Moves a connection that is behind past what is not for it, and judges how far
    /// behind it is. Called now and then: a socket that never becomes writable would
    /// never notice by itself that the log has moved on.
    pub(crate) fn sweep_behind(&mut self, key: usize) {
        let Flow::Behind(behind) = &mut self.connections[key].flow else { return };
        if behind.lag.bytes == 0 {
            behind.place = self.place.clone();
        } else if self.recount(key).is_err() {
            return self.too_slow(key);
        }
        let Flow::Behind(behind) = &mut self.connections[key].flow else { return };
        if self.shared.limits.overflow.exceeded(&mut behind.lag, self.now) {
            self.too_slow(key);
        }
    }

    /// Moves a place on to the first entry that its connection gets; where the bytes
    /// it is behind by may be wrong, adds them up again.
    pub(crate) fn recount(&mut self, key: usize) -> Result<(), Evicted> {
        let connection = &self.connections[key];
        let Flow::Behind(behind) = &connection.flow else { return Ok(()) };
        let inexact = behind.inexact;
        let most = if inexact { usize::MAX } else { MAX_ENTRIES };
        let (mut bytes, mut first) = (0, None);
        let reached = walk(connection, &behind.place, self.place.seq(), most, |after, frame| {
            bytes += frame.len() as u64;
            first.get_or_insert(after.back());
            inexact
        })?;
        if let Flow::Behind(behind) = &mut self.connections[key].flow {
            behind.place = first.unwrap_or(reached);
            if inexact {
                behind.lag.bytes = bytes;
                behind.inexact = false;
            }
        }
        Ok(())
    }

    fn too_slow(&mut self, key: usize) {
        let after = self.shared.limits.overflow.retry_after;
        self.begin_close(key, &Close::Slow { after });
    }
}

/// Calls `each` with every frame that `connection` gets from `place` up to `end`, and
/// the place after it, until it says stop or enough was looked at. Returns the place
/// from which to go on.
fn walk(
    connection: &Connection,
    place: &Place,
    end: Seq,
    most: usize,
    mut each: impl FnMut(Place, Bytes) -> bool,
) -> Result<Place, Evicted> {
    let mut place = place.clone();
    let mut looked = 0;
    while place.seq() < end && looked < most {
        let Some((batch, at)) = place.read()? else { break };
        if !connection.memberships.iter().any(|m| batch.bloom.may_contain(m.room)) {
            place = Place::in_batch(&batch, batch.end());
            looked += 1;
            continue;
        }
        for (i, entry) in batch.entries.iter().enumerate().skip(at) {
            let seq = batch.first + i as u64;
            if let Some(frame) = connection.frame_of(entry, seq) {
                let after = Place::in_batch(&batch, seq + 1);
                if !each(after.clone(), frame.as_bytes().clone()) {
                    return Ok(after);
                }
            }
        }
        looked += batch.entries.len().max(1);
        place = Place::in_batch(&batch, batch.end());
    }
    Ok(place)
}
