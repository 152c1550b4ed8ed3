//! Who is there: tokens and tickets, the same for REST and for sockets.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fanout::Identity;
use futures::future::{BoxFuture, FutureExt};
use serde_json::Map;
use ws_sink::auth::{
    Algorithm, AuthError, Authenticator, Credential, Hs256, Jwt, KeyError, Keys, SignError,
};

use crate::tickets::Tickets;
use crate::time::Time;

/// Vouches for whoever has a good token, or a ticket of this process.
#[derive(Debug)]
pub struct ShopAuth {
    tokens: Jwt,
    signer: Option<Hs256>,
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
    /// Signs tokens by a secret, that live for `life`, and vouches for those.
    ///
    /// # Errors
    /// [`KeyError`] where the secret is too short.
    pub fn new(secret: &[u8], life: Duration) -> Result<Self, KeyError> {
        let tokens = Jwt::new(Algorithm::Hs256, Keys::secret(secret)?)?;
        Ok(Self { signer: Some(Hs256::new(secret)?), life, ..Self::verifying(tokens) })
    }

    /// Vouches for tokens that others sign, and signs none.
    pub fn verifying(tokens: Jwt) -> Self {
        Self { tokens, signer: None, tickets: Arc::default(), life: Duration::ZERO }
    }

    /// Sets what of a token is checked, and what counts.
    pub fn checking(self, tokens: Jwt) -> Self {
        Self { tokens, ..self }
    }

    /// A token for somebody of this role.
    ///
    /// # Errors
    /// [`SignError`] where that would be no good token, or none is signed here.
    pub fn sign(&self, person: &Person, role: &str) -> Result<Signed, SignError> {
        let signer = self.signer.as_ref();
        let signer = signer.ok_or(SignError::Identity("tokens are signed elsewhere"))?;
        let now = SystemTime::now();
        // In whole seconds, as the token says it.
        let end = Time::from(now + self.life).as_secs();
        let expires_at = Time::from_millis(end.saturating_mul(1000));
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(end.unsigned_abs());
        let identity = Identity::new(person.email.as_str(), [role])
            .with_expiry(Some(end))
            .with_issued_at(Some(now));
        let mut extra = Map::new();
        extra.insert("email".into(), person.email.as_str().into());
        if let Some(name) = &person.name {
            extra.insert("name".into(), name.as_str().into());
        }
        let token = signer.sign(&identity, &extra)?;
        Ok(Signed { token, expires_at, life: self.life })
    }

    /// Whom a credential belongs to.
    ///
    /// # Errors
    /// [`AuthError`] where nobody can be vouched for.
    ///
    /// # Cancel safety
    /// A ticket is used up, or not.
    pub async fn check(&self, credential: Credential<'_>) -> Result<Identity, AuthError> {
        match credential {
            Credential::Bearer(token) => self.tokens.verify(token).await,
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
        self.check(credential).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tokens_and_tickets_are_of_whom_they_were_made_for() {
        let auth = ShopAuth::new(&[7; 32], Duration::from_secs(60)).unwrap();
        let ann = Person { email: "ann@x".into(), name: Some("Ann".into()) };
        let signed = auth.sign(&ann, "user").unwrap();
        let identity = auth.check(Credential::Bearer(&signed.token)).await.unwrap();
        assert_eq!((&*identity.subject, identity.roles[0].as_str()), ("ann@x", "user"));
        assert!(identity.issued_at.is_some(), "or it could not be revoked");
        assert!(!format!("{signed:?} {auth:?}").contains(&signed.token));

        let ticket = auth.tickets.issue(identity.clone(), Instant::now()).unwrap();
        assert!(!format!("{auth:?}").contains(&ticket));
        assert!(auth.check(Credential::Bearer(&ticket)).await.is_err());
        assert_eq!(auth.check(Credential::Ticket(&ticket)).await.unwrap(), identity);
        assert!(auth.check(Credential::Ticket(&ticket)).await.is_err());

        let other = ShopAuth::new(&[8; 32], Duration::from_secs(60)).unwrap();
        assert!(other.check(Credential::Bearer(&signed.token)).await.is_err());
    }
}
