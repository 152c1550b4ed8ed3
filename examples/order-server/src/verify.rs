//! From flags to what tokens are checked with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ws_sink::auth::{
    AdminPolicy, Algorithm, ClaimError, ClaimMap, ClaimPath, Jwks, JwksError, Jwt, KeyError, Keys,
    MAX_PEM_BYTES,
};

use crate::auth::ShopAuth;
use crate::config::{AuthMode, Identity, JwtAlgorithm};

/// Why tokens could not be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The secret, or a key and its algorithm, do not fit.
    #[error("{flag}")]
    Key {
        /// Which flag gave it.
        flag: &'static str,
        /// What is wrong.
        source: KeyError,
    },
    /// The key's file cannot be read.
    #[error("--jwt-key-file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The set of keys cannot be used.
    #[error("--jwks")]
    Jwks(#[from] JwksError),
    /// A claim that is none.
    #[error("{flag}")]
    Claim {
        /// Which flag named it.
        flag: &'static str,
        /// What is wrong.
        source: ClaimError,
    },
}

/// What vouches for tokens: by `secret` where the mode has one.
///
/// # Errors
/// [`VerifyError`] names the flag.
pub fn auth(flags: &Identity, mode: AuthMode, secret: &[u8]) -> Result<ShopAuth, VerifyError> {
    let wrong = |flag| move |source| VerifyError::Key { flag, source };
    match mode {
        AuthMode::Dev | AuthMode::Secret => {
            let flag = "--secret";
            let life = Duration::from_secs(60 * u64::from(flags.token_minutes));
            let auth = ShopAuth::new(secret, life).map_err(wrong(flag))?;
            let keys = Keys::secret(secret).map_err(wrong(flag))?;
            let tokens = Jwt::new(Algorithm::Hs256, keys).map_err(wrong(flag))?;
            Ok(auth.checking(checking(flags, mode, tokens)?))
        }
        AuthMode::Jwt => {
            let (keys, flag) = match (&flags.jwt_key_file, &flags.jwks) {
                (Some(path), _) => {
                    let flag = "--jwt-key-file";
                    (Keys::pem(&read(path)?).map_err(wrong(flag))?, flag)
                }
                (None, jwks) => (Keys::jwks(set(jwks.as_deref().unwrap_or_default())?), "--jwks"),
            };
            let algorithm = flags.jwt_algorithm.map_or(Algorithm::Rs256, Into::into);
            let tokens = Jwt::new(algorithm, keys).map_err(wrong(flag))?;
            Ok(ShopAuth::verifying(checking(flags, mode, tokens)?))
        }
    }
}

fn checking(flags: &Identity, mode: AuthMode, mut tokens: Jwt) -> Result<Jwt, VerifyError> {
    let path = |flag, text: &str| {
        text.parse::<ClaimPath>().map_err(|source| VerifyError::Claim { flag, source })
    };
    let mut claims = ClaimMap::default()
        .subject(path("--jwt-subject-claim", &flags.jwt_subject_claim)?)
        .roles(path("--jwt-roles-claim", &flags.jwt_roles_claim)?);
    if flags.admin_by_email {
        claims = claims.admin(AdminPolicy::role_or_email());
    }
    if let Some(issuer) = &flags.jwt_issuer {
        tokens = tokens.issuer(issuer);
    }
    if let Some(audience) = &flags.jwt_audience {
        tokens = tokens.audience(audience);
    }
    if let Some(life) = flags.max_life(mode) {
        tokens = tokens.max_life(life);
    }
    Ok(tokens.leeway(flags.leeway()).claims(claims))
}

/// A set of keys, by what looks like an address or else is a file.
fn set(place: &str) -> Result<Jwks, JwksError> {
    if place.contains("://") { Jwks::url(place) } else { Jwks::file(place) }
}

fn read(path: &Path) -> Result<Vec<u8>, VerifyError> {
    use std::io::Read as _;
    let mut pem = Vec::new();
    // One byte more: then it is seen to be too long.
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(MAX_PEM_BYTES as u64 + 1).read_to_end(&mut pem));
    read.map_err(|source| VerifyError::File { path: path.into(), source })?;
    Ok(pem)
}

impl From<JwtAlgorithm> for Algorithm {
    fn from(name: JwtAlgorithm) -> Self {
        match name {
            JwtAlgorithm::Hs256 => Self::Hs256,
            JwtAlgorithm::Rs256 => Self::Rs256,
            JwtAlgorithm::Es256 => Self::Es256,
            JwtAlgorithm::EdDsa => Self::EdDsa,
        }
    }
}
