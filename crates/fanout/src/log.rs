//! The node's recent emissions in one sequence.
//!
//! Batches are linked, each to the next. The log holds the oldest one strongly and
//! through it all others; a reader holds its [`Place`] as a weak reference. A place
//! that no longer upgrades says that the log has moved on without it, so eviction
//! asks nobody and tells nobody: it drops the oldest batch.
//!
//! ```text
//!  oldest ==> batch ==> batch ==> batch ==> newest        ==> strong
//!               ^                   ^                     --> weak
//!    a slow connection --'            '-- a shard
//! ```
//!
//! Invariants, model-checked below:
//! - Sequence numbers have no holes, and a reader meets each entry once, in order.
//! - A batch is evicted only when no shard still needs it, and never the newest:
//!   there is always a place from which what comes next can be read.
//! - `head` is stored after the batch is linked: who sees the head finds the batch.

mod find;
mod lanes;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::conflate::Lines;
use crate::frame::Entry;
pub(crate) use crate::log::find::NotHere;
use crate::log::lanes::LanePlaces;
use crate::position::{Frontier, LaneId};
use crate::room_table::RoomId;
use crate::sync::{AtomicU64, Link, Mutex, Ordering, point, upgrade};

/// A place in one node's log: the number of the next entry. Never leaves the node.
///
/// Begins at [`FIRST`]: nothing stands at zero, which is before all.
pub(crate) type Seq = u64;

/// The number of a log's first entry.
pub(crate) const FIRST: Seq = 1;

/// Some rooms, with false positives: two of 256 bits each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bloom([u64; 4]);

impl Bloom {
    fn bits(room: RoomId) -> [u32; 2] {
        // Fibonacci hashing: room numbers are dense, their low bits alone would do,
        // but the rooms of one connection are often neighbours.
        let hash = u64::from(room.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        [(hash >> 56) as u32, (hash >> 48) as u32 & 255]
    }

    pub(crate) fn insert(&mut self, room: RoomId) {
        for bit in Self::bits(room) {
            self.0[bit as usize / 64] |= 1 << (bit % 64);
        }
    }

    pub(crate) fn may_contain(&self, room: RoomId) -> bool {
        Self::bits(room).iter().all(|bit| self.0[*bit as usize / 64] & 1 << (bit % 64) != 0)
    }
}

/// Emissions that were published together, and how far their lanes had been read.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Batches are numbered without holes; an empty one has a number as well.
    pub(crate) number: u64,
    /// The number of the first entry.
    pub(crate) first: Seq,
    pub(crate) entries: Box<[Entry]>,
    /// The rooms of all entries.
    pub(crate) bloom: Bloom,
    /// The lanes that moved, and their next offsets once this batch was read.
    pub(crate) frontier: Box<[(LaneId, u64)]>,
    /// Whether something that should have stood here is lost: everybody is told of it. Such
    /// a batch has one entry, which is for nobody: its place.
    pub(crate) lost: bool,
    /// Lanes that are no more: behind this nobody has a place in them. Such a batch has no
    /// entries.
    pub(crate) closed: Box<[LaneId]>,
    /// When the oldest record in it was written, where it is from a source.
    pub(crate) oldest: Option<SystemTime>,
    /// Bytes of everything up to the end of this batch, since the log began.
    end_bytes: u64,
    bytes: u64,
    appended: Instant,
    next: Link<Arc<Batch>>,
}

impl Batch {
    /// The number after the last entry.
    pub(crate) fn end(&self) -> Seq {
        self.first + self.entries.len() as u64
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // A chain is dropped in a loop: recursion would overflow the stack when a
        // reader was the last to hold a batch that the log has long left behind.
        let mut next = self.next.take();
        while let Some(mut batch) = next.and_then(Arc::into_inner) {
            next = batch.next.take();
        }
    }
}

/// Up to where a reader has read.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    batch: Weak<Batch>,
    /// The number of the next entry; inside `batch`, or right after it.
    seq: Seq,
}

/// The log has moved on: what stood at a place is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evicted;

impl Place {
    /// The place before entry `seq` of `batch`.
    pub(crate) fn in_batch(batch: &Arc<Batch>, seq: Seq) -> Self {
        debug_assert!((batch.first..=batch.end()).contains(&seq));
        Self { batch: Arc::downgrade(batch), seq }
    }

    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether the log has moved on without it.
    pub(crate) fn is_gone(&self) -> bool {
        upgrade(&self.batch).is_none()
    }

    /// The number of the batch that it is in, or right after; `None` where the log has moved
    /// on without it.
    pub(crate) fn batch(&self) -> Option<u64> {
        upgrade(&self.batch).map(|batch| batch.number)
    }

    /// The place before the entry that this one is right after.
    pub(crate) fn back(&self) -> Self {
        Self { batch: self.batch.clone(), seq: self.seq - 1 }
    }

    /// The batch to read on from, and the first entry in it that was not read;
    /// `None` where there is nothing newer.
    ///
    /// The entries may be none: a batch can be a frontier alone.
    pub(crate) fn read(&self) -> Result<Option<(Arc<Batch>, usize)>, Evicted> {
        let batch = upgrade(&self.batch).ok_or(Evicted)?;
        if self.seq < batch.end() {
            let at = (self.seq - batch.first) as usize;
            return Ok(Some((batch, at)));
        }
        Ok(batch.next.get().map(|next| (next.clone(), 0)))
    }
}

/// A part of a lane that a batch passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) lane: LaneId,
    /// The first offset, where this is the lane's first batch.
    pub(crate) from: u64,
    /// The offset after the last.
    pub(crate) next: u64,
}

/// What is appended at once.
#[derive(Debug, Default)]
pub(crate) struct Append<'a> {
    pub(crate) entries: Vec<Entry>,
    /// How far the lanes are read with it.
    pub(crate) moved: &'a [Moved],
    /// When the oldest record in it was written.
    pub(crate) oldest: Option<SystemTime>,
    pub(crate) lost: bool,
    pub(crate) closed: &'a [LaneId],
}

impl<'a> Append<'a> {
    pub(crate) fn new(entries: Vec<Entry>, moved: &'a [Moved]) -> Self {
        Self { entries, moved, ..Self::default() }
    }
}

/// How much the log keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub(crate) bytes: u64,
    pub(crate) age: Duration,
}

/// One sequence of batches, one writer at a time, many readers.
#[derive(Debug)]
pub(crate) struct Log {
    chain: Mutex<Chain>,
    /// The number of the newest batch.
    head: AtomicU64,
    /// The number after the newest entry.
    end: AtomicU64,
    /// Bytes up to the head, since the log began.
    head_bytes: AtomicU64,
    /// Where each shard's place is: nothing from there on is evicted.
    readers: Box<[Reader]>,
    keep: Keep,
}

#[derive(Debug, Default)]
struct Reader {
    /// The number of the batch that its place is in, and has read to the end.
    batch: AtomicU64,
    /// `end_bytes` of that batch.
    bytes: AtomicU64,
}

#[derive(Debug)]
struct Chain {
    oldest: Arc<Batch>,
    newest: Arc<Batch>,
    bytes: u64,
    frontier: Frontier,
    lanes: LanePlaces,
    lines: Lines,
    /// Lanes that were closed and of which it has nothing any more.
    forgotten: Vec<LaneId>,
}

/// What the log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStats {
    /// Emissions.
    pub entries: u64,
    /// Bytes of bodies, frames and overhead.
    pub bytes: u64,
    /// Age of the oldest emission.
    pub age: Duration,
}

impl Log {
    pub(crate) fn new(keep: Keep, readers: usize, now: Instant) -> Self {
        let origin = Arc::new(Batch {
            number: 0,
            first: FIRST,
            entries: Box::default(),
            bloom: Bloom::default(),
            frontier: Box::default(),
            lost: false,
            closed: Box::default(),
            oldest: None,
            end_bytes: 0,
            bytes: 0,
            appended: now,
            next: Link::default(),
        });
        let chain = Chain {
            oldest: origin.clone(),
            newest: origin,
            bytes: 0,
            frontier: Frontier::default(),
            lanes: LanePlaces::default(),
            lines: Lines::default(),
            forgotten: Vec::new(),
        };
        Self {
            chain: Mutex::new(chain),
            head: AtomicU64::new(0),
            end: AtomicU64::new(FIRST),
            head_bytes: AtomicU64::new(0),
            readers: (0..readers).map(|_| Reader::default()).collect(),
            keep,
        }
    }

    /// Appends a batch and evicts what is too much or too old.
    pub(crate) fn append(&self, new: Append<'_>, now: Instant) -> Arc<Batch> {
        self.link(new, now)
    }

    /// Appends that these parts of lanes are lost, which should have stood here.
    pub(crate) fn append_loss(&self, lost: &[Moved], now: Instant) -> Arc<Batch> {
        let entries = vec![Entry::for_nobody()];
        self.link(Append { entries, moved: lost, lost: true, ..Append::default() }, now)
    }

    /// Appends that these lanes are no more: nothing of them stands behind this.
    ///
    /// Until this batch is evicted, who stands before it still has a place in them.
    pub(crate) fn append_close(&self, closed: &[LaneId], now: Instant) -> Arc<Batch> {
        self.link(Append { closed, ..Append::default() }, now)
    }

    fn link(&self, new: Append<'_>, now: Instant) -> Arc<Batch> {
        let Append { mut entries, moved, oldest, lost, closed } = new;
        let mut bloom = Bloom::default();
        let mut bytes = (size_of::<Batch>() + moved.len() * lanes::BYTES_PER_MOVE) as u64;
        bytes += size_of_val(closed) as u64;
        for entry in &entries {
            entry.rooms.iter().for_each(|room| bloom.insert(room.id()));
            bytes += entry.bytes();
        }
        let mut chain = self.chain.lock().expect("no panic under this lock");
        let first = chain.newest.end();
        for (entry, seq) in entries.iter_mut().zip(first..) {
            chain.lines.enter(entry, seq);
        }
        // A source must not hand on anything of a lane that it has closed.
        let open = |moved: &&Moved| !chain.lanes.is_closed(moved.lane);
        let moves = moved.iter().filter(open).map(|moved| (moved.lane, moved.next));
        let batch = Arc::new(Batch {
            number: chain.newest.number + 1,
            first,
            entries: entries.into(),
            bloom,
            frontier: moves.collect(),
            lost,
            closed: closed.into(),
            oldest,
            end_bytes: chain.newest.end_bytes + bytes,
            bytes,
            appended: now,
            next: Link::default(),
        });
        for moved in moved {
            if !chain.lanes.is_closed(moved.lane) {
                chain.frontier.advance(moved.lane, moved.next);
                chain.lanes.enter(moved, &batch);
            }
        }
        for lane in closed {
            chain.frontier.close(*lane);
            chain.lanes.close(*lane, batch.number);
        }
        chain.bytes += bytes;
        chain.newest.next.set(batch.clone());
        chain.newest = batch.clone();
        // After the link: a reader that sees the head must find the batch.
        self.head_bytes.store(batch.end_bytes, Ordering::SeqCst);
        self.end.store(batch.end(), Ordering::SeqCst);
        self.head.store(batch.number, Ordering::SeqCst);
        let evicted = self.evict_from(&mut chain, now);
        drop(chain);
        // The batches' memory is given back outside of the lock.
        drop(evicted);
        batch
    }

    /// Evicts what has become too old.
    pub(crate) fn evict(&self, now: Instant) {
        let mut chain = self.chain.lock().expect("no panic under this lock");
        let evicted = self.evict_from(&mut chain, now);
        drop(chain);
        drop(evicted);
    }

    /// Moves `oldest` on; the batches it leaves come back as the head of a chain that
    /// ends at the new oldest.
    fn evict_from(&self, chain: &mut Chain, now: Instant) -> Vec<Arc<Batch>> {
        let needed = self.slowest();
        let mut evicted = Vec::new();
        loop {
            let oldest = &chain.oldest;
            let too_much = chain.bytes > self.keep.bytes;
            let too_old = now.saturating_duration_since(oldest.appended) > self.keep.age;
            if !(too_much || too_old) {
                break;
            }
            let Some(next) = oldest.next.get().cloned() else { break };
            // A shard that has read all of `oldest` and nothing after it has its place
            // there, and finds what comes next through it.
            if needed < next.number {
                break;
            }
            chain.bytes -= oldest.bytes;
            for entry in &oldest.entries {
                chain.lines.leave(entry);
            }
            chain.lanes.leave(oldest);
            chain.forgotten.extend_from_slice(&oldest.closed);
            evicted.push(std::mem::replace(&mut chain.oldest, next));
        }
        evicted
    }

    /// The number of the newest batch.
    pub(crate) fn head(&self) -> Seq {
        self.head.load(Ordering::SeqCst)
    }

    /// The number after the newest entry.
    pub(crate) fn end(&self) -> Seq {
        self.end.load(Ordering::SeqCst)
    }

    /// Bytes up to the head, since the log began.
    pub(crate) fn head_bytes(&self) -> u64 {
        self.head_bytes.load(Ordering::SeqCst)
    }

    /// How many entries were ever appended.
    pub(crate) fn appended(&self) -> u64 {
        self.end() - FIRST
    }

    /// The place after the last entry, and how far each lane had been read there.
    pub(crate) fn tail(&self) -> (Place, Frontier) {
        let chain = self.chain.lock().expect("no panic under this lock");
        (Place::in_batch(&chain.newest, chain.newest.end()), chain.frontier.clone())
    }

    /// Lanes that were closed and of which nobody has a place any more, each told once.
    pub(crate) fn take_forgotten(&self) -> Vec<LaneId> {
        std::mem::take(&mut self.chain.lock().expect("no panic under this lock").forgotten)
    }

    /// A shard has read up to the end of `batch`.
    pub(crate) fn has_read(&self, reader: usize, batch: &Batch) {
        self.readers[reader].bytes.store(batch.end_bytes, Ordering::SeqCst);
        self.readers[reader].batch.store(batch.number, Ordering::SeqCst);
    }

    /// A shard is gone: it needs nothing any more.
    pub(crate) fn stopped(&self, reader: usize) {
        self.readers[reader].bytes.store(u64::MAX, Ordering::SeqCst);
        self.readers[reader].batch.store(u64::MAX, Ordering::SeqCst);
    }

    fn slowest(&self) -> Seq {
        point();
        self.readers.iter().map(|r| r.batch.load(Ordering::SeqCst)).min().unwrap_or(u64::MAX)
    }

    /// Bytes that the slowest shard has not read.
    pub(crate) fn lag_bytes(&self) -> u64 {
        let read = self.readers.iter().map(|r| r.bytes.load(Ordering::SeqCst)).min();
        self.head_bytes.load(Ordering::SeqCst).saturating_sub(read.unwrap_or(u64::MAX))
    }

    pub(crate) fn stats(&self, now: Instant) -> LogStats {
        let chain = self.chain.lock().expect("no panic under this lock");
        LogStats {
            entries: chain.newest.end() - chain.oldest.first,
            bytes: chain.bytes,
            age: now.saturating_duration_since(chain.oldest.appended),
        }
    }
}

#[cfg(test)]
fn entries(numbers: std::ops::Range<u64>, room: Option<&crate::room_table::RoomRef>) -> Vec<Entry> {
    let entry = |n: u64| {
        let body = crate::frame::EntryBody::Shared(crate::json::Json::of(&n).expect("a number"));
        Entry::new(room.cloned().into_iter().collect(), "n".into(), body, None, None, 1)
    };
    numbers.map(entry).collect()
}

#[cfg(all(test, fanout_model))]
mod model;
#[cfg(all(test, not(fanout_model)))]
mod tests;
