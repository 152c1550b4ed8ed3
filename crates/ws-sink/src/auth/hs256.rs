//! Tokens signed with a shared secret: JWT with HMAC and SHA-256.

use std::fmt;
use std::time::{Duration, SystemTime};

use fanout::Identity;
use futures::future::{BoxFuture, FutureExt, ready};
use jsonwebtoken::errors::Error as JwtError;
use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;
use serde_json::{Map, Value};

use super::claims::{ClaimMap, check_roles, check_subject};
use super::keys::Key;
use super::token::Verifier;
use super::{Algorithm, AuthError, Authenticator, Credential, MAX_CREDENTIAL_BYTES};

/// Signs and vouches for tokens by one secret that all who sign and check share.
///
/// The algorithm is HS256, whatever a token says. `exp` must be there, `nbf` and `iat` are
/// checked, `sub` is the subject (1 to 256 bytes), `roles` at most 16 strings. A token for
/// somebody else (`aud`) is refused. Tokens are checked as by [`Jwt`](super::Jwt).
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use fanout::Identity;
/// use serde_json::Map;
/// use ws_sink::auth::Hs256;
///
/// let tokens = Hs256::new(b"at least 32 bytes that nobody knows")?;
/// let end = SystemTime::now() + Duration::from_secs(3600);
/// let ann = Identity::new("ann", ["user"]).with_expiry(Some(end));
/// let token = tokens.sign(&ann, &Map::new())?;
/// assert_eq!(&*tokens.verify(&token)?.subject, "ann");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Hs256 {
    signing: EncodingKey,
    checking: Key,
    verifier: Verifier,
}

/// Why a secret is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// It could be guessed.
    #[error("secret of {len} bytes is too short: at least {min} random bytes", min = Hs256::MIN_SECRET_BYTES)]
    TooShort {
        /// How many it has.
        len: usize,
    },
    /// It is the text of a key, which others may have: whoever has it could sign.
    #[error("secret is a key as PEM: it has to be random bytes that nobody else knows")]
    Pem,
}

/// Why no token was made. Retrying cannot help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// [`Hs256::verify`] would refuse it.
    #[error("identity cannot be put into a token: {0}")]
    Identity(&'static str),
    /// A claim that the identity itself makes.
    #[error("claim `{0}` is made from the identity and cannot be set")]
    Reserved(String),
    /// Too much for the places where tokens travel.
    #[error("token of {len} bytes exceeds {MAX_CREDENTIAL_BYTES}")]
    TooLong {
        /// How long it would be.
        len: usize,
    },
    /// The signature could not be made.
    #[error("signing failed")]
    Failed(#[source] JwtError),
}

#[derive(Serialize)]
struct Signed<'a> {
    sub: &'a str,
    roles: Vec<&'a str>,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

impl Hs256 {
    /// Fewest bytes of a secret: as many as the hash has (RFC 7518, 3.2).
    pub const MIN_SECRET_BYTES: usize = 32;

    /// How far clocks may be apart, where nothing else is said.
    pub const DEFAULT_LEEWAY: Duration = Duration::from_secs(5);

    /// Most leeway: more would be a longer life of tokens by another name.
    pub const MAX_LEEWAY: Duration = Duration::from_secs(300);

    /// With this secret.
    ///
    /// # Errors
    /// [`SecretError::TooShort`] below 32 bytes, [`SecretError::Pem`] for the text of a PEM.
    pub fn new(secret: &[u8]) -> Result<Self, SecretError> {
        let checking = Key::secret(secret)?;
        let mut verifier = Verifier::new(Algorithm::Hs256);
        verifier.claims = ClaimMap::default().optional_roles();
        Ok(Self { signing: EncodingKey::from_secret(secret), checking, verifier })
    }

    /// Sets how far clocks may be apart, in whole seconds and at most
    /// [`MAX_LEEWAY`](Self::MAX_LEEWAY). Tokens live that much longer.
    pub fn with_leeway(mut self, leeway: Duration) -> Self {
        self.verifier.set_leeway(leeway);
        self
    }

    /// Whom `token` was signed for. The identity ends when the token does, with the
    /// leeway.
    ///
    /// # Errors
    /// [`AuthError::Expired`] only for tokens that were good once, [`AuthError::Invalid`]
    /// for all else.
    pub fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        let presented = self.verifier.present(token)?;
        self.verifier.verify(&presented, &self.checking, SystemTime::now())
    }

    /// A token for `identity`, with more claims beside those made from it. It is of now
    /// (`iat`), where neither the identity nor the claims say of when. For logins of
    /// a development server and for tests; in production, tokens come from whoever knows
    /// passwords.
    ///
    /// # Errors
    /// [`SignError`] where [`verify`](Self::verify) would refuse it: no expiry, a subject
    /// or roles beyond the limits, a token too long.
    pub fn sign(
        &self,
        identity: &Identity,
        extra: &Map<String, Value>,
    ) -> Result<String, SignError> {
        check_subject(&identity.subject).map_err(SignError::Identity)?;
        let roles: Vec<_> = identity.roles.iter().map(fanout::Role::as_str).collect();
        check_roles(&roles).map_err(SignError::Identity)?;
        let end = identity.expires_at.ok_or(SignError::Identity("it has no expiry"))?;
        let exp = seconds(end).ok_or(SignError::Identity("its expiry is before 1970"))?;
        // Without it, no token could be told from those made before a revocation.
        let iat = match identity.issued_at {
            _ if extra.contains_key("iat") => None,
            Some(at) => Some(seconds(at).ok_or(SignError::Identity("it was issued before 1970"))?),
            None => seconds(SystemTime::now()),
        };
        if let Some(name) = ["sub", "roles", "exp", "aud"].iter().find(|n| extra.contains_key(**n))
        {
            return Err(SignError::Reserved((*name).to_owned()));
        }
        let claims = Signed { sub: &identity.subject, roles, exp, iat, extra };
        let header = Header::new(Algorithm::Hs256.library());
        let token =
            jsonwebtoken::encode(&header, &claims, &self.signing).map_err(SignError::Failed)?;
        if token.len() > MAX_CREDENTIAL_BYTES {
            return Err(SignError::TooLong { len: token.len() });
        }
        Ok(token)
    }
}

impl Authenticator for Hs256 {
    fn authenticate<'a>(
        &'a self,
        credential: Credential<'a>,
    ) -> BoxFuture<'a, Result<Identity, AuthError>> {
        // A hash over at most 8 KiB: nothing to wait for, and not worth a thread.
        ready(match credential {
            Credential::Bearer(token) => self.verify(token),
            Credential::Ticket(_) => Err(AuthError::Invalid("tickets are not taken here")),
        })
        .boxed()
    }
}

impl fmt::Debug for Hs256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hs256").field("leeway", &self.verifier.leeway).finish_non_exhaustive()
    }
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Algorithm;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    /// In a distant future, and long ago.
    const LATER: u64 = 32_503_680_000;
    const LONG_AGO: u64 = 1_000_000_000;
    const HOUR: Duration = Duration::from_secs(3600);

    fn tokens() -> Hs256 {
        Hs256::new(SECRET).unwrap()
    }

    fn signed(header: &Header, claims: &Value, secret: &[u8]) -> String {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    fn of(claims: &Value) -> String {
        signed(&Header::new(Algorithm::HS256), claims, SECRET)
    }

    fn why(token: &str) -> &'static str {
        match tokens().verify(token) {
            Err(AuthError::Invalid(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    fn now() -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn a_signed_identity_comes_back() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(LATER);
        let ann = Identity::new("ann@example.com", ["admin", "user"]).with_expiry(Some(end));
        let extra = json!({"name": "Ann", "iat": 1}).as_object().unwrap().clone();
        let token = tokens().sign(&ann, &extra).unwrap();
        let back = tokens().verify(&token).unwrap();
        assert_eq!((&back.subject, &back.roles), (&ann.subject, &ann.roles));
        assert_eq!(back.expires_at, Some(end + Hs256::DEFAULT_LEEWAY));
        let strict = tokens().with_leeway(Duration::ZERO);
        assert_eq!(strict.verify(&token).unwrap().expires_at, Some(end));
    }

    #[test]
    fn a_token_says_when_it_was_made() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(LATER);
        let ann = Identity::new("ann", ["user"]).with_expiry(Some(end));
        let issued = |ann: &Identity, extra: Value| {
            let token = tokens().sign(ann, extra.as_object().unwrap()).unwrap();
            tokens().verify(&token).unwrap().issued_at.unwrap()
        };
        assert!(issued(&ann, json!({})).elapsed().unwrap() < HOUR);
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(LONG_AGO);
        let old = ann.with_issued_at(Some(then));
        assert_eq!(issued(&old, json!({})), then);
        let said = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        assert_eq!(issued(&old, json!({"iat": 7})), said);
    }

    #[test]
    fn a_secret_is_32_bytes_or_more() {
        let error = Hs256::new(&SECRET[1..]).unwrap_err();
        assert_eq!(error, SecretError::TooShort { len: 31 });
        assert!(error.to_string().contains("at least 32"), "{error}");
    }

    #[test]
    fn forged_tokens_are_refused() {
        let claims = json!({"sub": "ann", "exp": LATER});
        let good = of(&claims);
        assert!(tokens().verify(&good).is_ok());

        let other = signed(&Header::new(Algorithm::HS256), &claims, &[b'x'; 32]);
        assert_eq!(why(&other), "the signature is not ours");
        // Another's claims under a good signature.
        let bob = of(&json!({"sub": "bob", "exp": LATER}));
        let (head, _) = good.split_once('.').unwrap();
        let (rest, signature) = good.rsplit_once('.').unwrap();
        let body = bob.split('.').nth(1).unwrap();
        assert_eq!(why(&format!("{head}.{body}.{signature}")), "the signature is not ours");
        assert_eq!(why(&format!("{rest}.")), "the signature is not ours");
        // A forged one is no expired one.
        let past = json!({"sub": "ann", "exp": LONG_AGO});
        let forged = signed(&Header::new(Algorithm::HS256), &past, &[b'x'; 32]);
        assert_eq!(why(&forged), "the signature is not ours");
    }

    #[test]
    fn the_algorithm_is_ours_not_the_tokens() {
        let claims = json!({"sub": "ann", "exp": LATER});
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let other = signed(&Header::new(algorithm), &claims, SECRET);
            assert_eq!(why(&other), "the algorithm is not HS256");
        }
        // {"alg":"none"}, {"alg":"None"}, {"alg":"RS256"}
        let good = of(&claims);
        let (_, rest) = good.split_once('.').unwrap();
        let body = rest.split('.').next().unwrap();
        for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIn0", "eyJhbGciOiJSUzI1NiJ9"] {
            why(&format!("{header}.{rest}"));
            why(&format!("{header}.{body}."));
        }
        let critical =
            Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::HS256) };
        assert!(why(&signed(&critical, &claims, SECRET)).contains("crit"));
    }

    #[test]
    fn times_are_checked() {
        let expired = |exp: Value| tokens().verify(&of(&json!({"sub": "ann", "exp": exp})));
        assert!(matches!(expired(json!(LONG_AGO)), Err(AuthError::Expired)));
        assert!(matches!(expired(json!(0)), Err(AuthError::Expired)));
        assert!(matches!(expired(json!(LONG_AGO as f64 + 0.5)), Err(AuthError::Expired)));
        assert!(expired(json!(LATER as f64 + 0.5)).is_ok());
        assert!(why(&of(&json!({"sub": "ann"}))).contains("exp"));
        for odd in [json!("soon"), json!(-1), json!(null), json!(1e300), json!(u64::MAX)] {
            assert!(matches!(expired(odd.clone()), Err(AuthError::Invalid(_))), "{odd}");
        }
        let nbf = |nbf: Value| of(&json!({"sub": "ann", "exp": LATER, "nbf": nbf}));
        assert_eq!(why(&nbf(json!(LATER - 1))), "`nbf` is in the future");
        assert_eq!(why(&nbf(json!("x"))), "`nbf` is no time");
        assert!(tokens().verify(&nbf(json!(LONG_AGO))).is_ok());
    }

    #[test]
    fn leeway_is_for_clocks_and_bounded() {
        let ago = of(&json!({"sub": "ann", "exp": now() - 100}));
        assert!(matches!(tokens().verify(&ago), Err(AuthError::Expired)));
        assert!(tokens().with_leeway(Duration::from_secs(200)).verify(&ago).is_ok());
        let long_ago = of(&json!({"sub": "ann", "exp": LONG_AGO}));
        let most = tokens().with_leeway(Duration::MAX).verify(&long_ago);
        assert!(matches!(most, Err(AuthError::Expired)));
    }

    #[test]
    fn subject_and_roles_have_limits() {
        let claims =
            |sub: &str, roles: Value| of(&json!({"sub": sub, "exp": LATER, "roles": roles}));
        let roles = |len| json!(vec!["user"; len]);
        assert!(tokens().verify(&claims(&"x".repeat(256), roles(16))).is_ok());
        assert!(why(&claims(&"x".repeat(257), roles(1))).contains("1 to 256"));
        assert!(why(&claims("", roles(1))).contains("1 to 256"));
        assert!(why(&claims("ann", roles(17))).contains("at most 16"));
        assert!(why(&claims("ann", json!([""]))).contains("empty"));
        for odd in [json!([1]), json!(null), json!({"admin": true})] {
            why(&claims("ann", odd));
        }
        why(&of(&json!({"sub": 42, "exp": LATER})));
        why(&of(&json!({"exp": LATER, "roles": ["admin"]})));
        assert_eq!(
            why(&of(&json!({"sub": "a", "exp": LATER, "aud": "x"}))),
            "`aud` is somebody else"
        );
        assert!(tokens().verify(&of(&json!({"sub": "a", "exp": LATER}))).unwrap().roles.is_empty());
    }

    #[test]
    fn what_would_be_refused_is_not_signed() {
        let end = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(LATER));
        let sign =
            |identity: Identity, extra: Value| tokens().sign(&identity, extra.as_object().unwrap());
        let ann = Identity::new("ann", ["user"]).with_expiry(end);
        let endless = ann.clone().with_expiry(None);
        assert!(matches!(sign(endless, json!({})), Err(SignError::Identity(_))));
        let nobody = Identity::new("", ["user"]).with_expiry(end);
        assert!(matches!(sign(nobody, json!({})), Err(SignError::Identity(_))));
        let old = ann.clone().with_issued_at(SystemTime::UNIX_EPOCH.checked_sub(HOUR));
        assert!(matches!(sign(old, json!({})), Err(SignError::Identity(_))));
        let many = Identity::new("ann", vec!["user"; 17]).with_expiry(end);
        assert!(matches!(sign(many, json!({})), Err(SignError::Identity(_))));
        for name in ["sub", "roles", "exp", "aud"] {
            let reserved = sign(ann.clone(), json!({name: "x"}));
            assert!(matches!(reserved, Err(SignError::Reserved(claim)) if claim == name));
        }
        let huge = sign(ann, json!({"x": "x".repeat(8 * 1024)}));
        assert!(matches!(huge, Err(SignError::TooLong { len }) if len > MAX_CREDENTIAL_BYTES));
    }

    #[test]
    fn huge_and_empty_tokens_are_refused_unread() {
        assert_eq!(why(&"x".repeat(MAX_CREDENTIAL_BYTES + 1)), "longer than 8 KiB");
        assert_eq!(why(""), "empty");
        let huge = of(&json!({"sub": "ann", "exp": LATER, "x": "x".repeat(8 * 1024)}));
        assert_eq!(why(&huge), "longer than 8 KiB");
    }

    #[test]
    fn the_trait_takes_tokens_and_no_tickets() {
        use futures::FutureExt as _;
        let good = of(&json!({"sub": "ann", "exp": LATER}));
        let tokens: std::sync::Arc<dyn Authenticator> = std::sync::Arc::new(tokens());
        let ask = |credential| tokens.authenticate(credential).now_or_never().unwrap();
        assert_eq!(&*ask(Credential::Bearer(&good)).unwrap().subject, "ann");
        assert!(matches!(ask(Credential::Ticket(&good)), Err(AuthError::Invalid(_))));
    }

    #[test]
    fn nothing_of_a_token_or_secret_is_shown() {
        let secret = std::str::from_utf8(SECRET).unwrap();
        let bad_claims = of(&json!({"sub": "ann", "exp": LATER, "roles": {"topsecret": 1}}));
        let error = tokens().verify(&bad_claims).unwrap_err();
        let shown = format!("{:?} {error:?} {error}", tokens());
        assert!(!shown.contains(secret) && !shown.contains("topsecret"), "{shown}");
        assert!(std::error::Error::source(&error).is_none());
    }

    proptest! {
        #[test]
        fn no_cut_or_flip_of_a_token_is_good(
            cut in any::<prop::sample::Index>(),
            flip in 1..128u8,
        ) {
            let good = of(&json!({"sub": "ann", "exp": LATER, "roles": ["user"]}));
            let at = cut.index(good.len());
            prop_assert!(matches!(tokens().verify(&good[..at]), Err(AuthError::Invalid(_))));
            let mut bytes = good.into_bytes();
            bytes[at] ^= flip;
            if let Ok(flipped) = String::from_utf8(bytes) {
                prop_assert!(tokens().verify(&flipped).is_err());
            }
        }

        #[test]
        fn any_text_is_refused(text in "\\PC{0,200}") {
            prop_assert!(matches!(tokens().verify(&text), Err(AuthError::Invalid(_))));
        }
    }
}
