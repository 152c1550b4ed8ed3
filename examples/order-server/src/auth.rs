//! Who is there: tokens and tickets, the same for REST and for sockets.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fanout::Identity;
use futures::future::{BoxFuture, FutureExt, ready};
use serde_json::Map;
use ws_sink::auth::{AuthError, Authenticator, Credential, Hs256, SecretError, SignError};

use crate::tickets::Tickets;
use crate::time::Time;

/// Vouches for whoever has a token of this secret, or a ticket of this process.
#[derive(Debug)]
pub struct ShopAuth {
    tokens: Hs256,
    /// Tickets that wait to be used.
    pub tickets: Arc<Tickets>,
    life: Duration,
}

/// What the development login knows of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The subject of their token.
    pub email: String,
    /// What they are called.
    pub name: Option<String>,
}

/// A signed token.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed {
    /// The token.
    pub token: String,
    /// Until when it is good.
    pub expires_at: Time,
    /// The same, from now on.
    pub life: Duration,
}

impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signed").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl ShopAuth {
    /// Signs tokens that live for `life`.
    ///
    /// # Errors
    /// [`SecretError`] where the secret is too short.
    pub fn new(secret: &[u8], life: Duration) -> Result<Self, SecretError> {
        Ok(Self { tokens: Hs256::new(secret)?, tickets: Arc::default(), life })
    }

    /// A token for somebody of this role.
    ///
    /// # Errors
    /// [`SignError`] where that would be no good token.
    pub fn sign(&self, person: &Person, role: &str) -> Result<Signed, SignError> {
        let now = SystemTime::now();
        // In whole seconds, as the token says it.
        let end = Time::from(now + self.life).as_secs();
        let expires_at = Time::from_millis(end.saturating_mul(1000));
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(end.unsigned_abs());
        let identity = Identity::new(person.email.as_str(), [role]).with_expiry(Some(end));
        let mut extra = Map::new();
        extra.insert("iat".into(), Time::from(now).as_secs().into());
        extra.insert("email".into(), person.email.as_str().into());
        if let Some(name) = &person.name {
            extra.insert("name".into(), name.as_str().into());
        }
        let token = self.tokens.sign(&identity, &extra)?;
        Ok(Signed { token, expires_at, life: self.life })
    }

    /// Whom a credential belongs to.
    ///
    /// # Errors
    /// [`AuthError`] where nobody can be vouched for.
    pub fn check(&self, credential: Credential<'_>) -> Result<Identity, AuthError> {
        match credential {
            Credential::Bearer(token) => self.tokens.verify(token),
            Credential::Ticket(ticket) => self
                .tickets
                .redeem(ticket, Instant::now())
                .ok_or(AuthError::Invalid("the ticket is unknown, used or too old")),
            _ => Err(AuthError::Invalid("neither a token nor a ticket")),
        }
    }
}

impl Authenticator for ShopAuth {
    fn authenticate<'a>(
        &'a self,
        credential: Credential<'a>,
    ) -> BoxFuture<'a, Result<Identity, AuthError>> {
        ready(self.check(credential)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_tickets_are_of_whom_they_were_made_for() {
        let auth = ShopAuth::new(&[7; 32], Duration::from_secs(60)).unwrap();
        let ann = Person { email: "ann@x".into(), name: Some("Ann".into()) };
        let signed = auth.sign(&ann, "user").unwrap();
        let identity = auth.check(Credential::Bearer(&signed.token)).unwrap();
        assert_eq!((&*identity.subject, identity.roles[0].as_str()), ("ann@x", "user"));
        assert!(!format!("{signed:?} {auth:?}").contains(&signed.token));

        let ticket = auth.tickets.issue(identity.clone(), Instant::now()).unwrap();
        assert!(auth.check(Credential::Bearer(&ticket)).is_err());
        assert_eq!(auth.check(Credential::Ticket(&ticket)).unwrap(), identity);
        assert!(auth.check(Credential::Ticket(&ticket)).is_err());

        let other = ShopAuth::new(&[8; 32], Duration::from_secs(60)).unwrap();
        assert!(other.check(Credential::Bearer(&signed.token)).is_err());
    }
}
