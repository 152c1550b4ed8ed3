//! What was revoked, to the hub's shards.

use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use super::Hub;
use crate::error::ConnectError;
use crate::revocation::Revocation;
use crate::role::Identity;
use crate::shard::Command;

impl Hub {
    /// An identity as it counts now: without the roles that were taken away from it. For
    /// whoever serves it otherwise than by a connection; [`connect`](Self::connect) and
    /// [`Session::renew`](crate::Session::renew) do it by themselves.
    ///
    /// # Errors
    /// [`ConnectError::Revoked`], [`ConnectError::Outdated`], or [`ConnectError::Access`] where
    /// no role is left that may connect.
    pub fn validate(&self, identity: Identity) -> Result<Identity, ConnectError> {
        let identity = self.0.shared.unrevoked(identity, SystemTime::now())?;
        self.0.shared.access.rights(&identity)?;
        Ok(identity)
    }

    /// Revokes what was issued to a subject, a role of it, or a connection, on this node: what
    /// [`Controls`](crate::Controls) does on every node. Returns how many connections it has
    /// closed or taken a role from; when it returns, nothing is written to them any more that
    /// they may not have.
    ///
    /// What was issued is refused from now on, at [`connect`](Self::connect) and at
    /// [`Session::renew`](crate::Session::renew), for
    /// [`Limits::revocation_life`](crate::Limits::revocation_life). What is issued afterwards
    /// is as good as ever. It is all in memory: a node that starts learns of it by a control
    /// topic.
    ///
    /// ```
    /// # use fanout::{Access, Hub, Revocation};
    /// # use std::time::SystemTime;
    /// # async fn log_out(hub: Hub) {
    /// let before = SystemTime::now();
    /// hub.revoke(Revocation::Subject { subject: "ann".into(), before }).await;
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// Dropping the future revokes nothing, or all of it; it may be under way then.
    pub async fn revoke(&self, revocation: Revocation) -> usize {
        self.revoke_all(vec![(revocation, SystemTime::now())]).await
    }

    /// As [`revoke`](Self::revoke), several at once, each with when it was said.
    pub(crate) async fn revoke_all(&self, said: Vec<(Revocation, SystemTime)>) -> usize {
        let mut shards = Vec::with_capacity(self.0.shards.len());
        for shard in &self.0.shards {
            // One that has drained has nobody.
            shards.extend(shard.reserve().await.ok());
        }
        // The table first; see `revoking.rs`. From here on nothing is waited for until all
        // are told.
        let revoked = self.0.shared.revoke(&said, SystemTime::now());
        let tell = |shard: mpsc::Permit<'_, Command>| {
            let (done, answer) = oneshot::channel();
            shard.send(Command::Revoke { revoked: revoked.clone(), done });
            answer
        };
        let answers: Vec<_> = shards.into_iter().map(tell).collect();
        let mut changed = 0;
        for answer in answers {
            changed += answer.await.unwrap_or_default();
        }
        changed
    }
}
