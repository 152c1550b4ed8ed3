//! What a connection that is behind has yet to get.
//!
//! A walk from its place on, over batches whose bloom has none of its rooms, over what is
//! for others, what it has seen before it came back, and what another stands for.

use crate::connection::{Behind, Connection};
use crate::frame::{Entry, Stand};
use crate::lanes::Lanes;
use crate::log::{Batch, Evicted, Log, Place, Seq};
use crate::members::{Claim, claim, claim_where};
use crate::position::LaneId;

/// What is read, by whom.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) behind: &'a Behind,
    pub(crate) lanes: &'a Lanes,
    pub(crate) log: &'a Log,
}

/// What is met on the way.
pub(crate) enum Met<'a> {
    Entry(Pending<'a>),
    /// Something is lost that should have stood here.
    Loss {
        before: Place,
        after: Place,
    },
}

/// An entry that a connection gets.
pub(crate) struct Pending<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) stand: Stand<'a>,
    pub(crate) seq: Seq,
    /// The place after it.
    pub(crate) after: Place,
    pub(crate) claim: Claim,
    /// Another stands for it.
    pub(crate) passed_over: bool,
}

impl Pending<'_> {
    /// What it counts for in what is pending.
    pub(crate) fn size(&self, connection: &Connection) -> Result<u64, Evicted> {
        self.entry.pending_size(&connection.protocol, connection.view, &self.stand)
    }
}

/// How far a walk went.
pub(crate) struct Walked {
    /// From where to go on.
    pub(crate) place: Place,
    /// How many entries and batches were looked at.
    pub(crate) looked: usize,
    /// How far lanes are in what was passed whole; for connections that resume.
    pub(crate) passed: Vec<(LaneId, u64)>,
}

/// Calls `each` with everything there is for a connection from its place up to `end`, until
/// it says stop or enough was looked at.
pub(crate) fn walk(
    reading: Reading<'_>,
    end: Seq,
    most: usize,
    mut each: impl FnMut(Met<'_>) -> Result<bool, Evicted>,
) -> Result<Walked, Evicted> {
    let Reading { connection, behind, .. } = reading;
    let resume = behind.resume.as_deref();
    let mut walked = Walked { place: behind.place.clone(), looked: 0, passed: Vec::new() };
    while walked.place.seq() < end && walked.looked < most {
        let Some((batch, at)) = walked.place.read()? else { break };
        walked.looked += 1;
        if batch.lost {
            let (before, after) = (walked.place.clone(), Place::in_batch(&batch, batch.end()));
            if resume.is_some() {
                walked.passed.extend_from_slice(&batch.frontier);
            }
            let goes_on = each(Met::Loss { before, after: after.clone() })?;
            walked.place = after;
            if !goes_on {
                return Ok(walked);
            }
            continue;
        }
        let to = (end.min(batch.end()) - batch.first) as usize;
        if connection.memberships.iter().any(|m| batch.bloom.may_contain(m.room)) {
            for at in at..to {
                walked.looked += 1;
                let Some(pending) = reading.pending(&batch, at, end) else { continue };
                let after = pending.after.clone();
                if !each(Met::Entry(pending))? {
                    walked.place = after;
                    return Ok(walked);
                }
            }
        }
        walked.place = Place::in_batch(&batch, batch.first + to as u64);
        if resume.is_some() && batch.first + to as u64 == batch.end() {
            walked.passed.extend_from_slice(&batch.frontier);
        }
    }
    Ok(walked)
}

impl<'a> Reading<'a> {
    /// The entry `at` of a batch, where the connection gets it.
    fn pending<'b>(
        &self,
        batch: &'b std::sync::Arc<Batch>,
        at: usize,
        end: Seq,
    ) -> Option<Pending<'b>>
    where
        'a: 'b,
    {
        let Reading { connection, behind, lanes, log } = *self;
        let (entry, seq) = (&batch.entries[at], batch.first + at as u64);
        let (memberships, rooms) = (&connection.memberships, &entry.rooms);
        let claim = match behind.resume.as_ref().filter(|_| !behind.reads_log()) {
            None => claim(memberships, rooms, seq),
            // Places in a replay are not those in the log.
            Some(resume) => claim_where(memberships, rooms, |m| resume.had_begun(m, entry)),
        }?;
        if !entry.is_for(connection.view)
            || behind.resume.as_ref().is_some_and(|resume| resume.skips(entry, seq))
        {
            return None;
        }
        let after = Place::in_batch(batch, seq + 1);
        let passed_over = behind.passes_over(entry, seq, end);
        let stand = Stand { lanes, log, batch, at };
        Some(Pending { entry, stand, seq, after, claim, passed_over })
    }
}
