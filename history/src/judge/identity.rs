//! Whether a client was what its token made it, and no longer than it was.
//!
//! A revocation counts at a server from when that is certain ([`Revoked::applied`]). From
//! then on nobody is let in with what it voids, and nothing that is written to Kafka later
//! comes to who is connected with it: not after the subject or the connection was revoked,
//! and after a role was, only once the server has said that it is gone; what it says is then
//! what [`walk`](super::walk) holds it to.
//!
//! The other way round, rights are taken from nobody without a reason that is in the topic.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use super::{Cause, Claims, Fault, Kind, Life, Lookup, Place, Revoked, Step, What};
use crate::node::LEEWAY;

/// A connection, as far as rights go.
struct Known<'a> {
    life: &'a Life,
    node: usize,
    claims: Option<(&'a Claims, u64)>,
    /// Sent to the server, and not answered yet, each with when.
    renewing: VecDeque<(&'a Claims, u64)>,
    roles: &'a [String],
    connection: &'a str,
}

/// What is wrong with the rights that a client had.
pub(super) fn check(lookup: &Lookup<'_>, life: &Life, placed: &[(usize, Place)]) -> Vec<Fault> {
    let places: HashMap<usize, Place> = placed.iter().copied().collect();
    let mut known = Known {
        life,
        node: 0,
        claims: None,
        renewing: VecDeque::new(),
        roles: &[],
        connection: "",
    };
    let mut faults = Vec::new();
    for (step, what) in life.steps.iter().enumerate() {
        let place = places.get(&step).copied();
        if let Some(what) = known.wrong(lookup, what, place) {
            faults.push(Fault { kind: Kind::Revoked, what, place, step });
        }
    }
    faults
}

impl<'a> Known<'a> {
    fn wrong(
        &mut self,
        lookup: &Lookup<'_>,
        step: &'a Step,
        place: Option<Place>,
    ) -> Option<String> {
        match step {
            Step::Presents { time, node, claims } => {
                (self.node, self.claims) = (*node, Some((claims, *time)));
                (self.roles, self.connection) = (&[], "");
                self.renewing.clear();
                None
            }
            Step::Renews { time, claims } => {
                self.renewing.push_back((claims, *time));
                None
            }
            Step::NotRenewed { time } => {
                let (claims, _) = self.renewing.pop_front()?;
                let good = !self.may_be_void(claims, *time) && claims.expires * 1000 > *time;
                good.then(|| format!("a new token was refused, and was good: {claims:?}"))
            }
            Step::Told { time, cause, roles, .. } => self.told(*time, cause, roles),
            Step::Closed { time, code } => self.closed(*time, *code),
            Step::Frame { .. } => self.frame(lookup.emitted(place?).time),
            _ => None,
        }
    }

    /// The server has said who somebody is.
    fn told(&mut self, time: u64, cause: &'a Cause, roles: &'a [String]) -> Option<String> {
        let before = std::mem::replace(&mut self.roles, roles);
        match cause {
            Cause::Welcome { connection } => self.connection = connection,
            Cause::Renewal => self.claims = Some(self.renewing.pop_front()?),
            Cause::Taken => {
                if let Some(new) = roles.iter().find(|role| !before.contains(role)) {
                    return Some(format!("role {new} came without being asked for"));
                }
            }
        }
        let (claims, sent) = self.claims?;
        if let Some(more) = roles.iter().find(|role| !claims.roles.contains(role)) {
            return Some(format!("role {more} is not in the token: {claims:?}"));
        }
        let mut missing = claims.roles.iter().filter(|role| !roles.contains(role));
        if let Some(role) = missing.find(|role| !self.may_have_lost(claims, role, time)) {
            return Some(format!("role {role} is gone, and nobody revoked it: {claims:?}"));
        }
        if matches!(cause, Cause::Taken) {
            return None;
        }
        if sent > (claims.expires + LEEWAY) * 1000 {
            return Some(format!("taken at {sent}, and had expired: {claims:?}"));
        }
        let applied = |revoked: &&Revoked| {
            revoked.voids(claims) && revoked.applied.get(&self.node).is_some_and(|at| *at < sent)
        };
        let void = self.life.revoked.iter().filter(applied).find(|revoked| match &revoked.what {
            What::Subject => true,
            What::Role(role) => roles.contains(role),
            What::Connection(_) => false,
        });
        void.map(|revoked| format!("taken at {sent}, in spite of {revoked:?}: {claims:?}"))
    }

    /// A connection was ended by the server.
    fn closed(&self, time: u64, code: u16) -> Option<String> {
        let held = || self.claims.iter().chain(&self.renewing).map(|(claims, _)| *claims);
        let reason = match code {
            4002 => held().any(|claims| claims.expires * 1000 <= time),
            4501 => held().any(|claims| {
                claims.roles.iter().all(|role| self.may_have_lost(claims, role, time))
            }),
            4503 => {
                let connection = |revoked: &Revoked| match &revoked.what {
                    What::Connection(name) => name == self.connection && revoked.written <= time,
                    _ => false,
                };
                held().any(|claims| self.may_be_void(claims, time))
                    || self.life.revoked.iter().any(connection)
            }
            _ => true,
        };
        (!reason).then(|| format!("closed with {code}, and there was no reason"))
    }

    /// Something came that was written at this time.
    fn frame(&self, time: u64) -> Option<String> {
        let (claims, _) = self.claims?;
        // One that is on its way may have been taken.
        let voids = |revoked: &Revoked| {
            revoked.voids(claims) && self.renewing.iter().all(|(claims, _)| revoked.voids(claims))
        };
        let wrong = |revoked: &&Revoked| {
            let applied = revoked.applied.get(&self.node).is_some_and(|at| *at < time);
            applied
                && match &revoked.what {
                    What::Subject => voids(revoked),
                    What::Role(role) => self.roles.contains(role) && voids(revoked),
                    What::Connection(name) => name == self.connection,
                }
        };
        let revoked = self.life.revoked.iter().find(wrong)?;
        let node = self.node;
        Some(format!("written at {time}, and came from server {node} in spite of {revoked:?}"))
    }

    fn may_be_void(&self, claims: &Claims, time: u64) -> bool {
        let mut all = self.life.revoked.iter().filter(|revoked| revoked.written <= time);
        all.any(|revoked| revoked.what == What::Subject && revoked.voids(claims))
    }

    fn may_have_lost(&self, claims: &Claims, role: &str, time: u64) -> bool {
        let mut all = self.life.revoked.iter().filter(|revoked| revoked.written <= time);
        all.any(|revoked| {
            matches!(&revoked.what, What::Role(of) if of == role) && revoked.voids(claims)
        })
    }
}
