//! Tokens that others sign: who is vouched for by a provider's keys.

use std::fmt;
use std::time::{Duration, SystemTime};

use fanout::Identity;
use futures::future::{BoxFuture, FutureExt};

use super::keys::Kind;
use super::token::Verifier;
use super::{Algorithm, AuthError, Authenticator, ClaimMap, Credential, KeyError, Keys};

/// Vouches for whoever presents a token that one of its keys has signed.
///
/// The algorithm is pinned. `exp` must be there; `nbf` and `iat` are checked where they
/// are; an issuer or audience that is configured must be there, and without a configured
/// audience a token that names one is refused. [`ClaimMap`] says where subject and roles
/// are. `iat` becomes [`Identity::issued_at`].
///
/// ```
/// use std::time::Duration;
/// use ws_sink::auth::{Algorithm, ClaimMap, Jwt, Keys};
///
/// # fn run(pem: &[u8]) -> Result<Jwt, Box<dyn std::error::Error>> {
/// let jwt = Jwt::new(Algorithm::Es256, Keys::pem(pem)?)?
///     .issuer("https://login.shop.example")
///     .audience("realtime")
///     .max_life(Duration::from_secs(3600))
///     .claims(ClaimMap::default().roles("realm_access.roles".parse()?));
/// # Ok(jwt)
/// # }
/// ```
pub struct Jwt {
    verifier: Verifier,
    keys: Keys,
}

impl Jwt {
    /// For tokens of this algorithm, whatever they say themselves, signed with one of
    /// these keys.
    ///
    /// # Errors
    /// [`KeyError::Misfit`], [`KeyError::NoneFits`] and [`KeyError::SecretFromUrl`] where
    /// no such token could ever be checked with these keys.
    pub fn new(algorithm: Algorithm, keys: Keys) -> Result<Self, KeyError> {
        match &keys.0 {
            Kind::One(key) if key.algorithm != algorithm => {
                return Err(KeyError::Misfit { key: key.algorithm, wanted: algorithm });
            }
            Kind::One(_) => {}
            Kind::Set(jwks) => jwks.fits(algorithm)?,
        }
        Ok(Self { verifier: Verifier::new(algorithm), keys })
    }

    /// Takes tokens of this issuer (`iss`), and of others named the same way.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.verifier.issuers.push(issuer.into());
        self
    }

    /// Takes tokens for this audience (`aud`), and for others named the same way.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.verifier.audiences.push(audience.into());
        self
    }

    /// Sets how far clocks may be apart: 5 s by default, in whole seconds and at most
    /// [`Hs256::MAX_LEEWAY`](super::Hs256::MAX_LEEWAY). Tokens live that much longer.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.verifier.set_leeway(leeway);
        self
    }

    /// Refuses tokens that were made for a longer life than this, from `iat` to `exp`, and
    /// those that do not say when they were made.
    pub fn max_life(mut self, life: Duration) -> Self {
        self.verifier.max_life = Some(life);
        self
    }

    /// Sets where subject and roles are. Warns in the log of
    /// [`AdminPolicy::RoleOrEmail`](super::AdminPolicy::RoleOrEmail).
    pub fn claims(mut self, map: ClaimMap) -> Self {
        map.warn();
        self.verifier.claims = map;
        self
    }

    /// Whom `token` was signed for. The identity ends when the token does, with the
    /// leeway.
    ///
    /// # Errors
    /// [`AuthError::Expired`] only for tokens that were good once,
    /// [`AuthError::Unavailable`] where the keys cannot be had now, and
    /// [`AuthError::Invalid`] for all else.
    ///
    /// # Cancel safety
    /// Nothing is lost: keys that are being fetched go on being fetched, for whoever waits
    /// for them or comes later.
    pub async fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        let presented = self.verifier.present(token)?;
        match &self.keys.0 {
            Kind::One(key) => self.verifier.verify(&presented, key, SystemTime::now()),
            Kind::Set(jwks) => {
                let id = presented.key_id.as_deref();
                let key = jwks.key(self.verifier.algorithm, id).await?;
                self.verifier.verify(&presented, &key, SystemTime::now())
            }
        }
    }
}

impl Authenticator for Jwt {
    fn authenticate<'a>(
        &'a self,
        credential: Credential<'a>,
    ) -> BoxFuture<'a, Result<Identity, AuthError>> {
        // One signature over at most 8 KiB: not worth a thread.
        async move {
            match credential {
                Credential::Bearer(token) => self.verify(token).await,
                Credential::Ticket(_) => Err(AuthError::Invalid("tickets are not taken here")),
            }
        }
        .boxed()
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("algorithm", &self.verifier.algorithm)
            .field("keys", &self.keys)
            .field("leeway", &self.verifier.leeway)
            .finish_non_exhaustive()
    }
}
