//! What was revoked, remembered for as long as tokens of before may still be good.
//!
//! Bounded: an entry ends with its time, and where there are too many the one that ends first
//! becomes a *floor* for everybody. What was issued up to the floor is refused as outdated,
//! not as revoked: nobody can tell any more whose it was. So the table forgets nothing while
//! it matters, it only gets coarser, and always to the closed side.
//!
//! ```text
//!  revoked --> entry: subject, role --time is over--> forgotten
//!                 '--too many--> floor for everybody --time is over--> forgotten
//! ```
//!
//! Names are kept as 16 bytes of their SHA-256, so that an entry has one size however long
//! a name somebody chose. Times are whole seconds, as tokens have them: what was issued in
//! the very second of a revocation is void.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

use crate::revocation::{Revocation, seconds};
use crate::role::{Identity, Role};

/// How far clocks may be apart. What is said to be from later than that counts as from then: a
/// time in milliseconds would void what is issued for thousands of years.
const AHEAD: Duration = Duration::from_secs(5 * 60);

/// Entries whose time is over that are dropped at once; the others are, the next time.
const SWEEP: usize = 1024;

/// Why an identity is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Void {
    /// Its subject was revoked.
    Revoked,
    /// It is from before the floor.
    Outdated,
}

/// Whether something was issued so long ago that it is void.
///
/// What does not say when it was issued is void, and what says that it will be.
pub(crate) fn is_void(issued_at: Option<SystemTime>, before: u64, now: SystemTime) -> bool {
    let issued_at = issued_at.filter(|at| *at <= now + AHEAD);
    issued_at.is_none_or(|at| seconds(at) <= before)
}

/// The table.
#[derive(Debug)]
pub(crate) struct Revoked {
    entries: FxHashMap<Key, Entry>,
    /// The oldest first: by when they end, then by what they void.
    oldest: BTreeSet<(Entry, Key)>,
    floor: Option<Entry>,
    max: usize,
    life: u64,
}

/// Of a subject, or of a subject and a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key([u8; 16]);

/// Ordered by when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// The last second of it.
    until: u64,
    /// What was issued up to this second is void.
    before: u64,
}

impl Entry {
    /// Both: whatever either voids, for as long as either does.
    fn and(self, other: Self) -> Self {
        Self { before: self.before.max(other.before), until: self.until.max(other.until) }
    }
}

impl Key {
    fn new(subject: &str, role: Option<&Role>) -> Self {
        let mut hash = Sha256::new();
        // Its length first, or "ab" and "c" would be "a" and "bc".
        hash.update((subject.len() as u64).to_le_bytes());
        hash.update(subject);
        if let Some(role) = role {
            hash.update([1]);
            hash.update(role.as_str());
        }
        Self(hash.finalize()[..16].try_into().expect("of 32 bytes"))
    }
}

impl Revoked {
    /// An empty table of at most `max` entries, each of which ends `life` after it was said.
    pub(crate) fn new(max: usize, life: Duration) -> Self {
        // A second that was begun counts.
        let life = life.as_secs().saturating_add(u64::from(life.subsec_nanos() > 0));
        let (entries, oldest) = (FxHashMap::default(), BTreeSet::new());
        Self { entries, oldest, floor: None, max, life }
    }

    /// Remembers a revocation that was said then. Returns the second up to which it voids what
    /// was issued, where it is about that.
    pub(crate) fn add(
        &mut self,
        revocation: &Revocation,
        said: SystemTime,
        now: SystemTime,
    ) -> Option<u64> {
        let (subject, role, before) = match revocation {
            Revocation::Subject { subject, before } => (subject, None, *before),
            Revocation::Role { subject, role, before } => (subject, Some(role), *before),
            Revocation::Connection(_) => return None,
        };
        let said = said.min(now + AHEAD);
        let before = before.min(said + AHEAD);
        let until = seconds(before.max(said)).saturating_add(self.life);
        let new = Entry { before: seconds(before), until };
        self.sweep(now);
        if until >= seconds(now) {
            let key = Key::new(subject, role);
            let entry = self.entries.get(&key).map_or(new, |known| known.and(new));
            if let Some(known) = self.entries.insert(key, entry) {
                self.oldest.remove(&(known, key));
            }
            self.oldest.insert((entry, key));
            while self.entries.len() > self.max {
                self.raise_floor();
            }
        }
        Some(new.before)
    }

    /// The oldest entry is of everybody from now on.
    fn raise_floor(&mut self) {
        let Some((entry, key)) = self.oldest.pop_first() else { return };
        self.entries.remove(&key);
        self.floor = Some(self.floor.map_or(entry, |floor| floor.and(entry)));
    }

    /// Forgets what is over, a part of it at a time.
    pub(crate) fn sweep(&mut self, now: SystemTime) {
        let now = seconds(now);
        self.floor = self.floor.filter(|floor| floor.until >= now);
        for _ in 0..SWEEP {
            let Some((entry, key)) = self.oldest.first().copied() else { return };
            if entry.until >= now {
                return;
            }
            self.oldest.pop_first();
            self.entries.remove(&key);
        }
    }

    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether an identity is void now, or some of its roles: then those that are left.
    ///
    /// # Errors
    /// [`Void`] where all of it is.
    pub(crate) fn check(
        &self,
        identity: &Identity,
        now: SystemTime,
    ) -> Result<Option<Arc<[Role]>>, Void> {
        if self.entries.is_empty() && self.floor.is_none() {
            return Ok(None);
        }
        let voids = |entry: &Entry| {
            entry.until >= seconds(now) && is_void(identity.issued_at, entry.before, now)
        };
        let revoked = |role: Option<&Role>| {
            self.entries.get(&Key::new(&identity.subject, role)).is_some_and(voids)
        };
        if revoked(None) {
            return Err(Void::Revoked);
        }
        if self.floor.as_ref().is_some_and(voids) {
            return Err(Void::Outdated);
        }
        if !identity.roles.iter().any(|role| revoked(Some(role))) {
            return Ok(None);
        }
        Ok(Some(identity.roles.iter().filter(|role| !revoked(Some(role))).cloned().collect()))
    }
}

#[cfg(test)]
mod tests;
