//! A set of public keys as RFC 7517 writes it, and which of them is a token's.
//!
//! A provider's set holds keys for other uses and of kinds that are unknown here: those
//! are passed over, and said so in the log. One that is for signatures but weak or
//! broken is passed over with a warning.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{JwksError, MAX_JWKS_BYTES, MAX_JWKS_KEYS};
use crate::auth::keys::{Algorithm, Key, KeyError};
use crate::auth::unique::Unique;

/// The keys of a set that can be used.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<(Option<Box<str>>, Key)>,
}

/// The keys that a token could be signed with.
pub(super) enum Found<'a> {
    One(&'a Key),
    Several,
    None,
}

/// Whether a set that anybody may read is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    Taken,
    Refused,
}

impl KeySet {
    /// From JSON. A set that is empty is one: whoever has taken all keys back means it.
    pub(super) fn read(json: &[u8], secrets: Secrets) -> Result<Self, JwksError> {
        if json.len() > MAX_JWKS_BYTES {
            return Err(JwksError::TooLarge);
        }
        let Ok(Unique(mut set)) = serde_json::from_slice(json) else {
            return Err(JwksError::Malformed);
        };
        let Some(Value::Array(list)) = set.remove("keys") else {
            return Err(JwksError::Malformed);
        };
        if list.len() > MAX_JWKS_KEYS {
            return Err(JwksError::TooManyKeys { len: list.len() });
        }
        let mut keys = Vec::with_capacity(list.len());
        let mut first = None;
        for (index, jwk) in list.iter().enumerate() {
            let Some(jwk) = jwk.as_object() else { return Err(JwksError::Malformed) };
            match key(jwk, secrets) {
                Ok(Some(key)) => keys.push(key),
                Ok(None) => tracing::debug!(index, "a key of the set is for another use"),
                Err(error) => {
                    tracing::warn!(index, %error, "a key of the set is passed over");
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            Some(error) if keys.is_empty() => Err(JwksError::Unusable(error)),
            _ => Ok(Self { keys }),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|(_, key)| key.algorithm == algorithm)
    }

    /// The key of this name, or without a name the only one, among those for `algorithm`.
    pub(super) fn find(&self, algorithm: Algorithm, id: Option<&str>) -> Found<'_> {
        let mut fitting = self.keys.iter().filter(|(key_id, key)| {
            key.algorithm == algorithm && (id.is_none() || key_id.as_deref() == id)
        });
        match (fitting.next(), fitting.next()) {
            (Some((_, key)), None) => Found::One(key),
            (Some(_), Some(_)) => Found::Several,
            (None, _) => Found::None,
        }
    }
}

type Named = (Option<Box<str>>, Key);

/// `Ok(None)` for one that is for another use, which is nothing to worry about.
fn key(jwk: &Map<String, Value>, secrets: Secrets) -> Result<Option<Named>, KeyError> {
    let text = |name: &'static str| match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(KeyError::Broken("a parameter is no string")),
    };
    let verifies = |ops: &Value| {
        ops.as_array().is_some_and(|ops| ops.iter().any(|op| op.as_str() == Some("verify")))
    };
    if text("use")?.is_some_and(|usage| usage != "sig") {
        return Ok(None);
    }
    if jwk.get("key_ops").is_some_and(|ops| !verifies(ops)) {
        return Ok(None);
    }
    let algorithm = match (text("kty")?, text("crv")?) {
        (Some("RSA"), None) => Algorithm::Rs256,
        (Some("EC"), Some("P-256")) => Algorithm::Es256,
        (Some("OKP"), Some("Ed25519")) => Algorithm::EdDsa,
        (Some("oct"), None) => Algorithm::Hs256,
        _ => return Ok(None),
    };
    match text("alg")? {
        None => {}
        // RFC 9864 gives it a name of its own.
        Some("Ed25519") if algorithm == Algorithm::EdDsa => {}
        Some(alg) if alg == algorithm.name() => {}
        Some(_) => return Ok(None),
    }
    if jwk.contains_key("d") {
        return Err(KeyError::Private);
    }
    let bytes = |name| {
        let text = text(name)?.ok_or(KeyError::Broken("a parameter is missing"))?;
        URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| KeyError::Broken("a parameter is not base64url without padding"))
    };
    let key = match algorithm {
        Algorithm::Rs256 => Key::rsa(&bytes("n")?, &bytes("e")?)?,
        Algorithm::Es256 => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            // Of 32 bytes each, or the point could be read in two ways.
            if (x.len(), y.len()) != (32, 32) {
                return Err(KeyError::Broken("a coordinate of P-256 has 32 bytes"));
            }
            Key::p256(&[&[4], &x[..], &y[..]].concat())?
        }
        Algorithm::EdDsa => Key::ed25519(&bytes("x")?)?,
        Algorithm::Hs256 if secrets == Secrets::Refused => return Err(KeyError::SecretFromUrl),
        Algorithm::Hs256 => Key::secret(&bytes("k")?)?,
    };
    Ok(Some((text("kid")?.map(Into::into), key)))
}

#[cfg(test)]
mod tests;
