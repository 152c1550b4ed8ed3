//! A shard walks what is new in the log.
//!
//! Several batches are taken at once, and what is pending for the same connections
//! is joined into one buffer, once, not once per connection. Which connections those
//! are is found by refinement: entries for the same rooms form an audience, and each
//! audience splits the groups of connections met so far into who is in it and who is
//! not. With one room, which is the common case under load, the room's members are
//! the group and no connection is touched before it is written to.
//!
//! ```text
//! entries   1:a  2:b  3:a  4:b          audiences  a{1,3}  b{2,4}
//! members   a: x y    b: y z            groups     x{1,3}  y{1,2,3,4}  z{2,4}
//! ```
//!
//! A walk ends only when everybody was written to; the shard gives way to others in
//! between. Joins, leaves and closes wait for its end, so that members stay where they
//! are and the shard is in one place of the log whenever it acts on them.

mod groups;
mod loss;

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::connection::{Behind, Connection, Flow, Phase};
use crate::frame::{Entry, ProtocolRef, Stand};
use crate::log::{Batch, Place, Seq};
use crate::members::{Members, claim};
use crate::role::ViewId;
use crate::shard::Shard;
use crate::shared::Shared;

/// Entries with members, entries and bytes that one walk takes, unless the first
/// batch alone has more.
const MAX_ITEMS: usize = 256;
const MAX_ENTRIES: usize = 4096;
/// Walks of one turn that have nobody to write to.
const MAX_WALKS: usize = 16;

/// Connections that are fetched together.
const LOT: usize = 8;

/// Keys of connections, and their groups.
type Lot = SmallVec<[(u32, u32); LOT]>;

const NONE: u32 = u32::MAX;

/// What is being delivered.
#[derive(Default)]
pub(crate) struct Walk {
    /// Tells this walk's marks on connections from those of walks before.
    epoch: u64,
    batches: Vec<Arc<Batch>>,
    items: Vec<Item>,
    audiences: Vec<Audience>,
    groups: Vec<Group>,
    /// The connections met, where there are several audiences.
    touched: Vec<u32>,
    /// The next connection to write to.
    next: usize,
    /// Whether any socket has taken a whole frame.
    delivered: bool,
    /// Where the shard is once all have been written to.
    after: Option<Arc<Batch>>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
}

/// An entry that has members in this shard.
struct Item {
    batch: u32,
    entry: u32,
    /// The next item of the same audience.
    next: u32,
}

/// Entries for the same rooms.
struct Audience {
    rooms: SmallVec<[u32; 1]>,
    first: u32,
    last: u32,
}

/// Connections that get the same entries.
struct Group {
    /// The group before its last audience was met.
    parent: u32,
    audience: u32,
    members: u32,
    /// The last group split off from this one, and by which audience.
    child: (u32, u32),
    payloads: SmallVec<[Payload; 1]>,
}

/// A group's frames in one protocol and view.
struct Payload {
    protocol: u8,
    view: u8,
    frames: u32,
    bytes: Joined,
    /// Whether another may come to stand for one of them.
    keyed: bool,
}

enum Joined {
    Nothing,
    /// One frame is sent as it is.
    One(Bytes),
    Many(Vec<u8>),
}

impl Payload {
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Joined::Nothing => &[],
            Joined::One(frame) => frame,
            Joined::Many(joined) => joined,
        }
    }
}

/// What became of one connection's payload.
enum Delivered {
    /// Taken, or not for it.
    Done { frames: u32, bytes: usize },
    /// It is behind now and waits for its socket.
    Behind { bytes: usize },
    /// The socket is broken.
    Failed,
}

impl Walk {
    /// Whether connections remain to be written to.
    pub(crate) fn under_way(&self) -> bool {
        self.after.is_some()
    }

    fn clear(&mut self) {
        for payload in self.groups.drain(..).flat_map(|group| group.payloads) {
            if let Joined::Many(buffer) = payload.bytes {
                keep(&mut self.spare, buffer);
            }
        }
        self.batches.clear();
        self.items.clear();
        self.audiences.clear();
        self.touched.clear();
        self.next = 0;
        self.delivered = false;
        // Zero is the mark of those never met.
        self.epoch += 1;
    }

    fn entry(&self, item: u32) -> (&Arc<Batch>, &Entry, Seq) {
        let Item { batch, entry, .. } = self.items[item as usize];
        let batch = &self.batches[batch as usize];
        (batch, &batch.entries[entry as usize], batch.first + Seq::from(entry))
    }

    fn stand<'a>(&'a self, item: u32, shared: &'a Shared) -> Stand<'a> {
        let Item { batch, entry, .. } = self.items[item as usize];
        let batch = &self.batches[batch as usize];
        Stand { lanes: &shared.lanes, log: &shared.log, batch, at: entry as usize }
    }

    /// An entry's frame. The log keeps what a shard has not walked, so there is one.
    fn frame<'a>(
        &'a self,
        item: u32,
        protocol: &ProtocolRef,
        view: ViewId,
        shared: &'a Shared,
    ) -> Option<std::borrow::Cow<'a, crate::frame::Frame>> {
        let frame = self.entry(item).1.frame(protocol, view, &self.stand(item, shared));
        frame.expect("the log keeps what a shard has not read")
    }

    /// Finds or makes what a group's connections of this protocol and view get.
    fn payload(
        &mut self,
        group: u32,
        protocol: &ProtocolRef,
        view: ViewId,
        shared: &Shared,
    ) -> usize {
        let known = &self.groups[group as usize].payloads;
        let same = |p: &Payload| p.protocol == protocol.id.0 && p.view == view.0;
        if let Some(at) = known.iter().position(same) {
            return at;
        }
        let mut spare = self.spare.pop().unwrap_or_default();
        let mut one = None;
        let (mut frames, mut keyed) = (0, false);
        for item in self.items_of(group) {
            let Some(frame) = self.frame(item, protocol, view, shared) else { continue };
            keyed |= self.entry(item).1.keyed.is_some();
            if let Some(first) = one.take() {
                let first: Bytes = first;
                spare.extend_from_slice(&first);
            }
            if frames == 0 {
                one = Some(frame.as_bytes().clone());
            } else {
                spare.extend_from_slice(frame.as_bytes());
            }
            frames += 1;
        }
        let bytes = match one {
            _ if frames > 1 => Joined::Many(spare),
            Some(frame) => {
                keep(&mut self.spare, spare);
                Joined::One(frame)
            }
            None => {
                keep(&mut self.spare, spare);
                Joined::Nothing
            }
        };
        let payloads = &mut self.groups[group as usize].payloads;
        payloads.push(Payload { protocol: protocol.id.0, view: view.0, frames, bytes, keyed });
        payloads.len() - 1
    }

    /// Where a connection stands that has taken only `taken` bytes of its payload.
    fn behind_at(
        &self,
        group: u32,
        connection: &Connection,
        taken: usize,
        shared: &Shared,
        now: Instant,
    ) -> Behind {
        let mut left = taken;
        let mut behind: Option<Behind> = None;
        for item in self.items_of(group) {
            let (batch, entry, seq) = self.entry(item);
            let (protocol, view) = (&connection.protocol, connection.view);
            let Some(frame) = self.frame(item, protocol, view, shared) else { continue };
            let frame = frame.as_bytes();
            let count = |behind: &mut Behind| {
                let size = entry.pending_size(protocol, view, &self.stand(item, shared));
                let size = size.expect("it has its frame");
                behind.count(&connection.memberships, entry, seq, size);
            };
            match &mut behind {
                Some(behind) => count(behind),
                None if left >= frame.len() => left -= frame.len(),
                None => {
                    // Only as far as the write got, not as far as was collected.
                    let (place, rest) = match left {
                        0 => (Place::in_batch(batch, seq), Bytes::new()),
                        begun => (Place::in_batch(batch, seq + 1), frame.slice(begun..)),
                    };
                    let behind = behind.insert(Behind::new(place, rest, now));
                    (behind.full, behind.rest_of_emission) = (true, left > 0);
                    if left == 0 {
                        count(behind);
                    }
                }
            }
        }
        behind.expect("less was taken than the frames have")
    }

    /// Counts what comes for a connection that is behind: it reads it from the log when
    /// its socket can take it.
    fn count(&self, group: u32, payload: usize, connection: &mut Connection, shared: &Shared) {
        let Connection { flow: Flow::Behind(behind), memberships, protocol, view, .. } = connection
        else {
            return;
        };
        let payload = &self.groups[group as usize].payloads[payload];
        let (_, entry, first) = self.entry(self.audiences[0].first);
        if self.audiences.len() == 1
            && !(payload.keyed || protocol.whole_cursors)
            && behind.resume.is_none()
            && behind.until.max(behind.counted_from) <= first
        {
            // All are for the same rooms, and nothing stands for anything.
            if let Some(claim) = claim(memberships, &entry.rooms, first) {
                behind.lags.add(claim.rule, payload.bytes().len() as u64);
            }
            return;
        }
        for item in self.items_of(group) {
            let (_, entry, seq) = self.entry(item);
            if entry.is_for(*view) {
                let size = entry.pending_size(protocol, *view, &self.stand(item, shared));
                let size = size.expect("the log keeps what a shard has not read");
                behind.count(memberships, entry, seq, size);
            }
        }
    }

    fn deliver(
        &mut self,
        group: u32,
        connection: &mut Connection,
        shared: &Shared,
        now: Instant,
    ) -> Delivered {
        if connection.phase != Phase::Open {
            return Delivered::Done { frames: 0, bytes: 0 };
        }
        let at = self.payload(group, &connection.protocol, connection.view, shared);
        let payload = &self.groups[group as usize].payloads[at];
        let (frames, bytes) = (payload.frames, payload.bytes());
        if bytes.is_empty() {
            return Delivered::Done { frames: 0, bytes: 0 };
        }
        if !connection.is_live() {
            self.count(group, at, connection, shared);
            return Delivered::Done { frames: 0, bytes: 0 };
        }
        let sink = connection.sink.as_mut().expect("a sink is out of its slot only in a session");
        let taken = match sink.try_write(&[IoSlice::new(bytes)]) {
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return Delivered::Failed,
        };
        if taken >= bytes.len() {
            return Delivered::Done { frames, bytes: bytes.len() };
        }
        // ## Live => Behind
        let behind = self.behind_at(group, connection, taken, shared, now);
        connection.flow = Flow::Behind(Box::new(behind));
        Delivered::Behind { bytes: taken }
    }

    /// The next connections to write to, at most `most`, and their groups.
    fn next_lot(
        &mut self,
        members: &Members,
        connections: &slab::Slab<Connection>,
        most: usize,
    ) -> Lot {
        let most = most.min(LOT);
        let lot: Lot = if let Some(room) = self.single_room() {
            // The first group is the one of all.
            let left = &members.of(room)[self.next..];
            left.iter().take(most).map(|member| (member.connection, 0)).collect()
        } else {
            let left = &self.touched[self.next..];
            let group = |key: &u32| (*key, connections[*key as usize].walk_group);
            left.iter().take(most).map(group).collect()
        };
        self.next += lot.len();
        lot
    }
}

/// Brings what is needed of some connections into the processor's cache, all at once: the
/// kernel's work for one write displaces what is needed for the next, and waiting for one
/// after the other costs as much as all else that is done here for a write.
fn fetch(lot: &Lot, connections: &slab::Slab<Connection>) {
    let state = |(key, _): &(u32, u32)| {
        let connection = &connections[*key as usize];
        usize::from(connection.is_live()) ^ usize::from(connection.phase == Phase::Open)
    };
    std::hint::black_box(lot.iter().map(state).fold(0, std::ops::BitXor::bitxor));
    #[cfg(unix)]
    {
        use std::os::fd::AsRawFd;
        let socket = |(key, _): &(u32, u32)| {
            let sink = connections[*key as usize].sink.as_ref();
            sink.and_then(|sink| Some(sink.socket()?.as_raw_fd())).unwrap_or_default()
        };
        std::hint::black_box(lot.iter().map(socket).fold(0, std::ops::BitXor::bitxor));
    }
}

/// Keeps a buffer for the next walk, unless it or the store is large.
fn keep(spare: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if spare.len() < 16 && buffer.capacity() <= 1 << 20 {
        buffer.clear();
        spare.push(buffer);
    }
}

impl Shard {
    /// Whether the log has something that was not walked.
    pub(crate) fn log_moved(&self) -> bool {
        self.walk.under_way() || self.shared.log.head() > self.batch
    }

    /// Takes what is new in the log; false where there is nothing.
    fn begin_walk(&mut self) -> bool {
        self.walk.clear();
        let mut place = self.place.clone();
        let (mut entries, mut bytes) = (0, 0);
        while entries < MAX_ENTRIES
            && self.walk.items.len() < MAX_ITEMS
            && bytes < self.shared.limits.joined_bytes
        {
            let next = place.read().expect("the log keeps what a shard has not read");
            let Some((batch, _)) = next else { break };
            if batch.lost || !batch.closed.is_empty() {
                // What stands before it is written first.
                if self.walk.after.is_none() {
                    if batch.lost {
                        self.note_loss(&batch);
                    } else {
                        self.note_close(&batch);
                    }
                    self.walk.after = Some(batch);
                }
                break;
            }
            let before = self.walk.items.len();
            for (at, entry) in batch.entries.iter().enumerate() {
                if self.walk.add(&mut self.members, &batch, at) {
                    bytes += entry.bytes();
                }
            }
            for (lane, next) in &batch.frontier {
                self.frontier.advance(*lane, *next);
            }
            entries += batch.entries.len().max(1);
            place = Place::in_batch(&batch, batch.end());
            if self.walk.items.len() > before {
                self.walk.batches.push(batch.clone());
            }
            self.walk.after = Some(batch);
        }
        match self.walk.single_room() {
            _ if self.walk.audiences.is_empty() => {}
            Some(_) => {
                let only = self.walk.group(NONE, 0);
                debug_assert_eq!(only, 0);
            }
            None => self.walk.refine(&self.members, &mut self.connections),
        }
        self.walk.under_way()
    }

    /// Walks on, to at most `budget` connections; over what is for nobody here it goes on
    /// at once, so that a shard which had no need to follow is at the log's end before
    /// somebody comes to it.
    pub(crate) fn walk_on(&mut self, budget: usize) {
        for _ in 0..MAX_WALKS {
            if !self.walk.under_way() && !self.begin_walk() {
                return;
            }
            let for_nobody = self.walk.audiences.is_empty();
            self.walk_some(budget);
            if !for_nobody {
                return;
            }
        }
    }

    fn walk_some(&mut self, mut budget: usize) {
        if !self.walk.audiences.is_empty() {
            while budget > 0 {
                let lot = self.walk.next_lot(&self.members, &self.connections, budget);
                if lot.is_empty() {
                    break;
                }
                budget -= lot.len();
                fetch(&lot, &self.connections);
                for (key, group) in lot {
                    self.write(key as usize, group);
                }
            }
            if budget == 0 {
                return;
            }
        }
        if self.walk.delivered {
            crate::metrics::delivery(&self.walk.batches);
        }
        let after = self.walk.after.take().expect("under way");
        self.place = Place::in_batch(&after, after.end());
        self.batch = after.number;
        self.walk.clear();
        self.shared.has_read(self.index, &after);
        // They are not live until their shard is where they are.
        for key in std::mem::take(&mut self.following) {
            let Some(connection) = self.connections.get_mut(key as usize) else { continue };
            if let Flow::Behind(behind) = &mut connection.flow {
                behind.follows = false;
            }
            self.queue_catch_up(key as usize);
        }
        self.counters.publish(self.connections.len(), &self.shared.shards[self.index].counts);
    }

    /// Writes to one connection what its group gets.
    fn write(&mut self, key: usize, group: u32) {
        match self.walk.deliver(group, &mut self.connections[key], &self.shared, self.now) {
            Delivered::Done { frames, bytes } => {
                self.walk.delivered |= frames > 0;
                self.counters.delivered(frames, bytes);
            }
            Delivered::Behind { bytes } => {
                self.counters.delivered(0, bytes);
                self.counters.fell_behind += 1;
                self.counters.behind += 1;
                self.wait_for_room(key);
            }
            Delivered::Failed => self.condemn(key),
        }
        let payloads = &mut self.walk.groups[group as usize];
        if payloads.members == 1 {
            // Nobody else gets it: the memory serves the next.
            for payload in payloads.payloads.drain(..) {
                if let Joined::Many(buffer) = payload.bytes {
                    keep(&mut self.walk.spare, buffer);
                }
            }
        }
    }
}
