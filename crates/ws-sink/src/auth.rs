//! Who is there: from what a client presents to an [`Identity`].
//!
//! [`Credential::presented`] finds the credential of a request, an [`Authenticator`]
//! vouches for it. [`Jwt`] is one for tokens that a provider signs, [`Hs256`] one that
//! signs them as well, with a shared secret.
//!
//! No credential is ever shown: not by `Debug`, not by `Display`, not in an error.

mod claims;
mod credential;
mod hs256;
mod jwks;
mod jwt;
mod keys;
mod token;
mod unique;

use std::sync::Arc;

use fanout::{Close, Identity};
use futures::future::BoxFuture;

use crate::handshake::Query;

pub use claims::{
    AdminPolicy, ClaimError, ClaimMap, ClaimPath, MAX_CLAIM_DEPTH, MAX_NAME_BYTES,
    MAX_RENAMED_ROLES, MAX_ROLES, MAX_SUBJECT_BYTES,
};
pub use credential::{Credential, MAX_CREDENTIAL_BYTES};
pub use hs256::{Hs256, SecretError, SignError};
pub use jwks::{
    DEFAULT_MAX_STALE, DEFAULT_REFRESH_EVERY, Jwks, JwksError, LOAD_TIMEOUT, MAX_JWKS_BYTES,
    MAX_JWKS_KEYS, RETRY_EVERY, UNKNOWN_KEY_EVERY,
};
pub use jwt::Jwt;
pub use keys::{Algorithm, KeyError, Keys, MAX_PEM_BYTES, MAX_RSA_BITS, MIN_RSA_BITS};

/// Vouches for identities. An application brings its own, or takes [`Jwt`] or
/// [`Hs256`].
pub trait Authenticator: Send + Sync + 'static {
    /// Whom `credential` belongs to.
    ///
    /// # Errors
    /// [`AuthError`] says whether the client may try again, and with what.
    ///
    /// # Cancel safety
    /// The future is dropped when the client goes away or its time is over. One that
    /// redeems a ticket must have redeemed it or not, never halfway.
    fn authenticate<'a>(
        &'a self,
        credential: Credential<'a>,
    ) -> BoxFuture<'a, Result<Identity, AuthError>>;

    /// Who somebody is that presents no credential, for what needs no login. `None`, the
    /// default: a first frame has to bring one, and who only listens is not let in.
    ///
    /// The query is what the client claims: it may choose between identities that
    /// anybody may have, and proves nothing. Whoever is let in so stays who he is: a
    /// later `auth` on the same connection must be of the same subject.
    fn anonymous(&self, _query: &Query) -> Option<Identity> {
        None
    }
}

impl<T: Authenticator + ?Sized> Authenticator for Arc<T> {
    fn authenticate<'a>(
        &'a self,
        credential: Credential<'a>,
    ) -> BoxFuture<'a, Result<Identity, AuthError>> {
        (**self).authenticate(credential)
    }

    fn anonymous(&self, query: &Query) -> Option<Identity> {
        (**self).anonymous(query)
    }
}

/// Why nobody is vouched for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The credential is wrong, and will stay so. What is wrong with it is for the log,
    /// and contains nothing of it.
    #[error("credential refused: {0}")]
    Invalid(&'static str),
    /// It was good once; a new one is needed.
    #[error("credential has expired")]
    Expired,
    /// It could not be checked now; the same one may be good later.
    #[error("authenticator cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AuthError {
    /// How the connection is closed for it.
    pub fn close(&self) -> Close {
        match self {
            Self::Invalid(_) => Close::Unauthenticated,
            Self::Expired => Close::TokenExpired,
            Self::Unavailable(_) => Close::ServerError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_closes_in_its_way() {
        assert_eq!(AuthError::Invalid("x").close(), Close::Unauthenticated);
        assert_eq!(AuthError::Expired.close(), Close::TokenExpired);
        assert_eq!(AuthError::Unavailable("down".into()).close(), Close::ServerError);
    }
}
