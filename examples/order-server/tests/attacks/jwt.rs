//! Tokens, good ones and such as nobody should sign.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use serde_json::{Value, json};

use crate::target::SECRET;

/// In a distant future.
pub(crate) const LATER: u64 = 32_503_680_000;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A good token.
pub(crate) fn of(subject: &str, role: &str) -> String {
    hs256(&claims(subject, role))
}

/// The claims of one, which an attack changes.
pub(crate) fn claims(subject: &str, role: &str) -> Value {
    json!({"sub": subject, "roles": [role], "iat": now(), "exp": now() + 3600})
}

/// These claims, signed as they should be.
pub(crate) fn hs256(claims: &Value) -> String {
    signed(r#"{"alg":"HS256","typ":"JWT"}"#, claims, SECRET.as_bytes())
}

/// With another header, or another secret.
pub(crate) fn signed(header: &str, claims: &Value, secret: &[u8]) -> String {
    with_hmac(hmac::HMAC_SHA256, header, &claims.to_string(), secret)
}

/// What was signed is text, not checked to be JSON.
pub(crate) fn with_hmac(
    algorithm: hmac::Algorithm,
    header: &str,
    claims: &str,
    secret: &[u8],
) -> String {
    let signed = format!("{}.{}", base64(header), base64(claims));
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret), signed.as_bytes());
    format!("{signed}.{}", base64(tag))
}

/// Nothing signs it.
pub(crate) fn unsigned(header: &str, claims: &Value) -> String {
    format!("{}.{}.", base64(header), base64(claims.to_string()))
}

/// A key pair whose public half a server is given.
pub(crate) struct Pair(signature::Ed25519KeyPair);

impl Pair {
    pub(crate) fn new(seed: u8) -> Self {
        Self(signature::Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let signed = format!("{}.{}", base64(r#"{"alg":"EdDSA"}"#), base64(claims.to_string()));
        format!("{signed}.{}", base64(self.0.sign(signed.as_bytes())))
    }

    /// The 32 bytes.
    pub(crate) fn public(&self) -> &[u8] {
        signature::KeyPair::public_key(&self.0).as_ref()
    }

    /// RFC 8410, 10.1: what comes before the key is the same for all.
    pub(crate) fn der(&self) -> Vec<u8> {
        let before = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        before.iter().chain(self.public()).copied().collect()
    }

    pub(crate) fn pem(&self) -> String {
        let body = base64::engine::general_purpose::STANDARD.encode(self.der());
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }
}

/// The header that carries a token.
pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}
