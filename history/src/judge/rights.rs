//! What somebody may, as tokens, servers and the control topic say it.

use std::collections::BTreeMap;

/// What a token says. Times are whole seconds, as tokens have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) issued: u64,
    pub(crate) expires: u64,
    pub(crate) roles: Vec<String>,
}

/// Why a server says who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Welcome {
        connection: String,
    },
    /// The answer to a new token.
    Renewal,
    /// A role was taken away.
    Taken,
}

/// What a revocation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Subject,
    /// One of its roles.
    Role(String),
    Connection(String),
}

/// A revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revoked {
    pub(crate) what: What,
    /// What was issued up to this second is void.
    pub(crate) before: u64,
    /// When it was written, in milliseconds.
    pub(crate) written: u64,
    /// From when on it counts at each server, in milliseconds, as far as that is certain.
    pub(crate) applied: BTreeMap<usize, u64>,
}

impl Revoked {
    /// Whether a token is void by it, or a role in it.
    pub(crate) fn voids(&self, claims: &Claims) -> bool {
        claims.issued <= self.before && !matches!(self.what, What::Connection(_))
    }
}
