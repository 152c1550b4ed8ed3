//! A revocation reaches the connections of a shard.
//!
//! ```text
//!  Hub::revoke:   the table has it --then--> every shard is told
//!  a newcomer:    its shard looks into the table and puts it in, in one step
//!  a renewal:     its shard looks into the table and takes it over, in one step
//! ```
//!
//! Nobody slips through: whose shard looked before the table had it is there when the shard
//! is told, which is later, and whoever is looked up afterwards is refused. `model.rs` tries
//! every interleaving.
//!
//! What a socket has taken is gone. Of the rest nothing follows: whoever is closed has no
//! rooms any more, and where its socket has taken a part of an emission it is dropped without
//! a goodbye, since that could only come behind the other part. Who loses a role and stays
//! gets that frame's other part, or the stream could not go on.

use std::sync::Arc;
use std::time::SystemTime;

use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;

use crate::connection::{ConnectionId, Flow, Phase};
use crate::error::ConnectError;
use crate::revocation::Revocation;
use crate::revoked::{Void, is_void};
use crate::role::{AccessError, Identity, Rights, Role};
use crate::shard::Shard;
use crate::shared::Shared;
use crate::sink::Close;

/// What a shard is told.
#[derive(Clone, Debug)]
pub(crate) enum Revoke {
    Issued {
        subject: Arc<str>,
        /// One role, or all.
        role: Option<Role>,
        /// Up to this second.
        before: u64,
    },
    Connection(ConnectionId),
}

/// A subject in few bytes: those of others are passed over without a look at their names.
pub(crate) fn tag(subject: &str) -> u32 {
    use std::hash::{Hash, Hasher};
    let mut hasher = FxHasher::default();
    subject.hash(&mut hasher);
    (hasher.finish() >> 32) as u32
}

impl Shared {
    /// Remembers what was revoked, and when that was said. Afterwards every shard is to be
    /// told what this returns.
    pub(crate) fn revoke(
        &self,
        said: &[(Revocation, SystemTime)],
        now: SystemTime,
    ) -> Arc<[Revoke]> {
        let mut revoked = self.revoked.lock().expect("no panic under this lock");
        let mut remember = |(revocation, said): &(Revocation, SystemTime)| {
            metrics::counter!("fanout_revocations_total", "kind" => revocation.kind()).increment(1);
            let before = revoked.add(revocation, *said, now).unwrap_or_default();
            match revocation.clone() {
                Revocation::Connection(id) => Revoke::Connection(id),
                Revocation::Subject { subject, .. } => {
                    Revoke::Issued { subject, role: None, before }
                }
                Revocation::Role { subject, role, .. } => {
                    Revoke::Issued { subject, role: Some(role), before }
                }
            }
        };
        let told = said.iter().map(&mut remember).collect();
        metrics::gauge!("fanout_revocations").set(revoked.len() as f64);
        told
    }

    /// An identity without what was revoked of it.
    ///
    /// # Errors
    /// Where it was, whole.
    pub(crate) fn unrevoked(&self, identity: Identity, now: SystemTime) -> Result<Identity, Void> {
        let revoked = self.revoked.lock().expect("no panic under this lock");
        Ok(match revoked.check(&identity, now)? {
            Some(roles) => Identity { roles, ..identity },
            None => identity,
        })
    }
}

impl Shard {
    /// Whether somebody who was let in is put in, and as what.
    ///
    /// # Errors
    /// What was revoked meanwhile.
    pub(crate) fn admit(
        &self,
        identity: Identity,
        rights: Rights,
    ) -> Result<(Identity, Rights), ConnectError> {
        let roles = identity.roles.clone();
        let identity = self.shared.unrevoked(identity, self.wall)?;
        let rights =
            if roles == identity.roles { rights } else { self.shared.access.rights(&identity)? };
        Ok((identity, rights))
    }

    /// Applies what was revoked, in one pass over the connections. Returns how many were
    /// closed or changed.
    pub(crate) fn revoke(&mut self, revoked: &[Revoke]) -> usize {
        let mut changed = 0;
        let mut by_tag: FxHashMap<u32, SmallVec<[&Revoke; 1]>> = FxHashMap::default();
        for revoke in revoked {
            match revoke {
                Revoke::Issued { subject, .. } => {
                    by_tag.entry(tag(subject)).or_default().push(revoke);
                }
                Revoke::Connection(id) => {
                    if let Some(key) = self.find_id(*id) {
                        changed += usize::from(self.revoke_connection(key, &Close::Revoked));
                    }
                }
            }
        }
        if by_tag.is_empty() {
            return changed;
        }
        let met: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, connection)| by_tag.contains_key(&connection.subject_tag))
            .map(|(key, _)| key)
            .collect();
        for key in met {
            let mut touched = false;
            for revoke in &by_tag[&self.connections[key].subject_tag] {
                if let Revoke::Issued { subject, role, before } = revoke {
                    touched |= self.revoke_issued(key, subject, role.as_ref(), *before);
                }
            }
            changed += usize::from(touched);
        }
        changed
    }

    fn revoke_issued(
        &mut self,
        key: usize,
        subject: &str,
        role: Option<&Role>,
        before: u64,
    ) -> bool {
        let identity = self.connections[key].identity.clone();
        if *identity.subject != *subject || !is_void(identity.issued_at, before, self.wall) {
            return false;
        }
        let Some(role) = role else { return self.revoke_connection(key, &Close::Revoked) };
        if !identity.roles.contains(role) || self.connections[key].phase != Phase::Open {
            return false;
        }
        let roles = identity.roles.iter().filter(|other| *other != role).cloned().collect();
        let left = Identity { roles, ..Identity::clone(&identity) };
        match self.take_over(key, left) {
            Ok(renewed) => {
                self.with_sink(key, |sink, session| sink.renewed(session, &renewed));
                true
            }
            Err(AccessError::NoRole) => self.revoke_connection(key, &Close::Forbidden),
            // It cannot be told what is left to it: nothing then.
            Err(_) => self.revoke_connection(key, &Close::ServerError),
        }
    }

    /// Ends a connection of which nothing more may get out; false where it was ending.
    fn revoke_connection(&mut self, key: usize, close: &Close) -> bool {
        let connection = &self.connections[key];
        if connection.phase != Phase::Open {
            return false;
        }
        metrics::counter!("fanout_revoked_connections_total").increment(1);
        match &connection.flow {
            Flow::Behind(behind) if behind.rest_of_emission && !behind.rest.is_empty() => {
                crate::metrics::closed(close);
                self.condemn(key);
            }
            _ => self.begin_close(key, close),
        }
        true
    }
}

#[cfg(all(test, fanout_model))]
mod model;
#[cfg(all(test, not(fanout_model)))]
mod tests;
