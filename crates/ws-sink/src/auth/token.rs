//! A token checked: the one place where it is done, whichever the key.
//!
//! In this order: its length, its three parts, the header (`alg` as pinned, no `crit`),
//! the signature, that no claim is there twice, `iss`, `aud`, `nbf`, `iat` and the life
//! that it gives, subject and roles, and last the end: what is said to have expired was
//! good in all else. Nothing is believed before the signature, and what fails is refused
//! with the name of the check and nothing of the token.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanout::Identity;
use serde_json::{Map, Value};

use super::claims::ClaimMap;
use super::keys::{Algorithm, Key};
use super::unique::Unique;
use super::{AuthError, Credential, Hs256};

/// Most bytes of a key's name.
pub(super) const MAX_KEY_ID_BYTES: usize = 256;

/// What is asked of a token.
pub(super) struct Verifier {
    pub(super) algorithm: Algorithm,
    pub(super) issuers: Vec<String>,
    pub(super) audiences: Vec<String>,
    pub(super) leeway: Duration,
    pub(super) max_life: Option<Duration>,
    pub(super) claims: ClaimMap,
}

/// A token whose header is as it should be, and nothing more.
pub(super) struct Presented<'a> {
    message: &'a str,
    claims: &'a str,
    signature: &'a str,
    /// The key that it says it was signed with.
    pub(super) key_id: Option<String>,
}

impl Verifier {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway: Hs256::DEFAULT_LEEWAY,
            max_life: None,
            claims: ClaimMap::default(),
        }
    }

    /// Sets the leeway, in whole seconds and bounded.
    pub(super) fn set_leeway(&mut self, leeway: Duration) {
        self.leeway = Duration::from_secs(leeway.min(Hs256::MAX_LEEWAY).as_secs());
    }

    /// All that can be said without a key.
    pub(super) fn present<'a>(&self, token: &'a str) -> Result<Presented<'a>, AuthError> {
        Credential::Bearer(token).checked()?;
        let three = AuthError::Invalid("not three parts");
        let Some((message, signature)) = token.rsplit_once('.') else { return Err(three) };
        let Some((header, claims)) = message.split_once('.') else { return Err(three) };
        if claims.contains('.') {
            return Err(three);
        }
        let header = object(header)
            .ok_or(AuthError::Invalid("the header is no JSON object with unique names"))?;
        if header.get("alg").and_then(Value::as_str) != Some(self.algorithm.name()) {
            return Err(AuthError::Invalid(self.algorithm.mismatch()));
        }
        // RFC 7515, 4.1.11: what is critical and not understood must be refused.
        if header.contains_key("crit") {
            return Err(AuthError::Invalid("`crit` asks for what is not understood"));
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) if id.len() <= MAX_KEY_ID_BYTES => Some(id.clone()),
            Some(_) => return Err(AuthError::Invalid("`kid` is no string of at most 256 bytes")),
        };
        Ok(Presented { message, claims, signature, key_id })
    }

    /// Whom the token was signed for by `key`, at `now`. The identity ends when the token
    /// does, with the leeway.
    pub(super) fn verify(
        &self,
        presented: &Presented<'_>,
        key: &Key,
        now: SystemTime,
    ) -> Result<Identity, AuthError> {
        if key.algorithm != self.algorithm {
            return Err(AuthError::Invalid("the key is for another algorithm"));
        }
        // The library checks signatures alone. The claims are ours to check: it knows no
        // `iat` and no life, calls expired what is for somebody else, and passes over an
        // issuer that it cannot read.
        let Presented { message, claims, signature, .. } = *presented;
        let algorithm = self.algorithm.library();
        match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.decoding, algorithm)
        {
            Ok(true) => {}
            Ok(false) => return Err(AuthError::Invalid("the signature is not ours")),
            Err(_) => {
                return Err(AuthError::Invalid("the signature is not base64url without padding"));
            }
        }
        let claims = object(claims)
            .ok_or(AuthError::Invalid("the claims are no JSON object with unique names"))?;
        self.issuer(&claims)?;
        self.audience(&claims)?;
        if time(&claims, "nbf", "`nbf` is no time")?.is_some_and(|nbf| self.ahead(nbf, now)) {
            return Err(AuthError::Invalid("`nbf` is in the future"));
        }
        let issued = time(&claims, "iat", "`iat` is no time")?;
        if issued.is_some_and(|iat| self.ahead(iat, now)) {
            return Err(AuthError::Invalid("`iat` is in the future"));
        }
        let exp = time(&claims, "exp", "`exp` is no time")?
            .ok_or(AuthError::Invalid("`exp` is missing"))?;
        if let Some(most) = self.max_life {
            let iat = issued.ok_or(AuthError::Invalid("`iat` is missing"))?;
            if exp.duration_since(iat).unwrap_or_default() > most {
                return Err(AuthError::Invalid("`exp` is too long after `iat`"));
            }
        }
        let (subject, roles) = self.claims.read(&claims)?;
        let end = exp.checked_add(self.leeway).ok_or(AuthError::Invalid("`exp` is no time"))?;
        if end <= now {
            return Err(AuthError::Expired);
        }
        Ok(Identity::new(subject, roles).with_expiry(Some(end)).with_issued_at(issued))
    }

    fn ahead(&self, time: SystemTime, now: SystemTime) -> bool {
        time.duration_since(now).is_ok_and(|ahead| ahead > self.leeway)
    }

    fn issuer(&self, claims: &Map<String, Value>) -> Result<(), AuthError> {
        let Some(ours) = some(&self.issuers) else { return Ok(()) };
        match claims.get("iss") {
            None => Err(AuthError::Invalid("`iss` is missing")),
            Some(Value::String(iss)) if ours.contains(iss) => Ok(()),
            Some(_) => Err(AuthError::Invalid("`iss` is somebody else")),
        }
    }

    fn audience(&self, claims: &Map<String, Value>) -> Result<(), AuthError> {
        let ours = some(&self.audiences);
        let is_ours = |aud: &Value| {
            ours.zip(aud.as_str()).is_some_and(|(ours, aud)| ours.iter().any(|our| our == aud))
        };
        match claims.get("aud") {
            None if ours.is_none() => Ok(()),
            None => Err(AuthError::Invalid("`aud` is missing")),
            Some(Value::Array(list)) if !list.iter().all(Value::is_string) => {
                Err(AuthError::Invalid("`aud` is no strings"))
            }
            Some(Value::Array(list)) if list.iter().any(is_ours) => Ok(()),
            Some(aud) if is_ours(aud) => Ok(()),
            // RFC 7519, 4.1.3: a token for others is refused, also by who has no name.
            Some(_) => Err(AuthError::Invalid("`aud` is somebody else")),
        }
    }
}

fn some(list: &[String]) -> Option<&[String]> {
    (!list.is_empty()).then_some(list)
}

/// RFC 7519's `NumericDate`: seconds, with a fraction if somebody likes.
fn time(
    claims: &Map<String, Value>,
    name: &str,
    odd: &'static str,
) -> Result<Option<SystemTime>, AuthError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let since = match value.as_u64() {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    };
    since
        .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
        .map(Some)
        .ok_or(AuthError::Invalid(odd))
}

/// A part: base64url without padding, of a JSON object with unique names.
fn object(part: &str) -> Option<Map<String, Value>> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok().map(|Unique(object)| object)
}

#[cfg(test)]
mod tests;
