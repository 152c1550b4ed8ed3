//! What signatures are checked with, and how.
//!
//! The algorithm is pinned by configuration, and a key has exactly one algorithm that it
//! fits: what a token says of itself chooses neither. Keys are checked when they are
//! loaded, so that a bad one stops the start and not the first token.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::VerifyingKey;
use jsonwebtoken::DecodingKey;
use p256::NistP256;
use p256::pkcs8::spki::SubjectPublicKeyInfoRef;
use p256::pkcs8::{AssociatedOid, Document, ObjectIdentifier};
use rsa::BigUint;
use rsa::pkcs1::RsaPublicKey as Pkcs1;

use super::{Hs256, Jwks, SecretError};

/// Fewest bits of an RSA key: what RFC 7518, 3.3 asks for.
pub const MIN_RSA_BITS: usize = 2048;

/// Most bits of an RSA key: a bigger one makes each check dearer for nothing.
pub const MAX_RSA_BITS: usize = rsa::RsaPublicKey::MAX_SIZE;

/// Most bytes of a key as PEM.
pub const MAX_PEM_BYTES: usize = 16 * 1024;

/// Ed25519 (RFC 8410).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// How tokens are signed. All of a [`Jwt`](super::Jwt)'s are signed in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC with SHA-256, by a secret that all who sign and check share.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// As tokens name it: `HS256`, `RS256`, `ES256`, `EdDSA`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// What a token of another algorithm is told.
    pub(super) const fn mismatch(self) -> &'static str {
        match self {
            Self::Hs256 => "the algorithm is not HS256",
            Self::Rs256 => "the algorithm is not RS256",
            Self::Es256 => "the algorithm is not ES256",
            Self::EdDsa => "the algorithm is not EdDSA",
        }
    }

    pub(super) const fn library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = KeyError;

    /// By its name, in upper or lower case.
    fn from_str(name: &str) -> Result<Self, KeyError> {
        [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa]
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
            .ok_or(KeyError::UnknownAlgorithm)
    }
}

/// Why keys cannot be used. Nothing of a key is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A secret that is none.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Not one of [`Algorithm`].
    #[error("algorithm is not one of HS256, RS256, ES256 and EdDSA")]
    UnknownAlgorithm,
    /// What signs has no place where signatures are checked.
    #[error("a private key: only the public one is needed here (`openssl pkey -pubout`)")]
    Private,
    /// Some other text, or too long a one.
    #[error(
        "not one public key as PEM (`PUBLIC KEY` or `RSA PUBLIC KEY`, at most 16 KiB); for a \
         certificate, `openssl x509 -pubkey -noout`"
    )]
    NotPem,
    /// A key for another algorithm than the four.
    #[error("key is neither RSA, nor on the curve P-256, nor Ed25519")]
    UnknownKind,
    /// It could be broken, or is dear to use.
    #[error("RSA key of {bits} bits: from {MIN_RSA_BITS} to {MAX_RSA_BITS} are taken")]
    RsaBits {
        /// How many its modulus has.
        bits: usize,
    },
    /// The numbers of it make no key.
    #[error("key is broken: {0}")]
    Broken(&'static str),
    /// The pinned algorithm cannot use it.
    #[error("key is for {key}, and the algorithm is {wanted}")]
    Misfit {
        /// What it is for.
        key: Algorithm,
        /// What is pinned.
        wanted: Algorithm,
    },
    /// None of a set is for the pinned algorithm.
    #[error("no key of the set is for {wanted}")]
    NoneFits {
        /// What is pinned.
        wanted: Algorithm,
    },
    /// Whoever can read the set could sign.
    #[error("HS256 has a secret, which does not come from a URL: use a file")]
    SecretFromUrl,
}

/// What tokens are checked with: a secret, one public key, or a set of them.
///
/// Shows nothing of a key in `Debug`.
#[derive(Clone)]
pub struct Keys(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    One(Key),
    Set(Jwks),
}

impl Keys {
    /// The secret of [`Algorithm::Hs256`].
    ///
    /// # Errors
    /// [`KeyError::Secret`] below 32 bytes, and for the text of a PEM: what a public key's
    /// text is the secret of, anybody can sign.
    pub fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        Ok(Self(Kind::One(Key::secret(secret)?)))
    }

    /// One public key as PEM: RSA (`PUBLIC KEY` or `RSA PUBLIC KEY`), P-256 or Ed25519.
    ///
    /// # Errors
    /// [`KeyError`] for a private key, a certificate, an RSA key below
    /// [`MIN_RSA_BITS`], or what is no key.
    pub fn pem(pem: &[u8]) -> Result<Self, KeyError> {
        Key::pem(pem).map(|key| Self(Kind::One(key)))
    }

    /// A set of keys that is read again when it changes.
    pub fn jwks(jwks: Jwks) -> Self {
        Self(Kind::Set(jwks))
    }
}

impl From<Jwks> for Keys {
    fn from(jwks: Jwks) -> Self {
        Self::jwks(jwks)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::One(key) => f.debug_tuple("Keys").field(&key.algorithm).finish(),
            Kind::Set(jwks) => f.debug_tuple("Keys").field(jwks).finish(),
        }
    }
}

/// One key that was found good, with the algorithm that it is for.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl Key {
    pub(super) fn secret(secret: &[u8]) -> Result<Self, SecretError> {
        if secret.len() < Hs256::MIN_SECRET_BYTES {
            return Err(SecretError::TooShort { len: secret.len() });
        }
        if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Err(SecretError::Pem);
        }
        Ok(Self { algorithm: Algorithm::Hs256, decoding: DecodingKey::from_secret(secret) })
    }

    /// By modulus and exponent, big end first.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let modulus_number = BigUint::from_bytes_be(modulus);
        let bits = modulus_number.bits();
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
            return Err(KeyError::RsaBits { bits });
        }
        rsa::RsaPublicKey::new(modulus_number, BigUint::from_bytes_be(exponent))
            .map_err(|_| KeyError::Broken("modulus and exponent are no RSA key"))?;
        let decoding = DecodingKey::from_rsa_raw_components(modulus, exponent);
        Ok(Self { algorithm: Algorithm::Rs256, decoding })
    }

    /// By its point, as SEC 1 writes it.
    pub(super) fn p256(point: &[u8]) -> Result<Self, KeyError> {
        p256::PublicKey::from_sec1_bytes(point)
            .map_err(|_| KeyError::Broken("the point is not on the curve P-256"))?;
        Ok(Self { algorithm: Algorithm::Es256, decoding: DecodingKey::from_ec_der(point) })
    }

    pub(super) fn ed25519(bytes: &[u8]) -> Result<Self, KeyError> {
        // The library takes the first 32 of these, and panics where there are fewer.
        let key = <&[u8; 32]>::try_from(bytes)
            .ok()
            .and_then(|bytes| VerifyingKey::from_bytes(bytes).ok())
            .filter(|key| !key.is_weak())
            .ok_or(KeyError::Broken("the bytes are no Ed25519 key"))?;
        let decoding = DecodingKey::from_ed_der(key.as_bytes());
        Ok(Self { algorithm: Algorithm::EdDsa, decoding })
    }

    fn pem(pem: &[u8]) -> Result<Self, KeyError> {
        if pem.len() > MAX_PEM_BYTES {
            return Err(KeyError::NotPem);
        }
        let text = std::str::from_utf8(pem).map_err(|_| KeyError::NotPem)?.trim_ascii();
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        match Document::from_pem(text).map_err(|_| KeyError::NotPem)? {
            ("PUBLIC KEY", der) => Self::spki(der.as_bytes()),
            ("RSA PUBLIC KEY", der) => Self::pkcs1(der.as_bytes()),
            _ => Err(KeyError::NotPem),
        }
    }

    fn pkcs1(der: &[u8]) -> Result<Self, KeyError> {
        let key = Pkcs1::try_from(der).map_err(|_| KeyError::Broken("not PKCS #1"))?;
        Self::rsa(key.modulus.as_bytes(), key.public_exponent.as_bytes())
    }

    fn spki(der: &[u8]) -> Result<Self, KeyError> {
        let broken = KeyError::Broken("not a SubjectPublicKeyInfo");
        let Ok(info) = SubjectPublicKeyInfoRef::try_from(der) else { return Err(broken) };
        let Some(bytes) = info.subject_public_key.as_bytes() else { return Err(broken) };
        match info.algorithm.oid {
            rsa::pkcs1::ALGORITHM_OID => Self::pkcs1(bytes),
            p256::elliptic_curve::ALGORITHM_OID => {
                if info.algorithm.parameters_oid().ok() != Some(NistP256::OID) {
                    return Err(KeyError::UnknownKind);
                }
                Self::p256(bytes)
            }
            ED25519 => Self::ed25519(bytes),
            _ => Err(KeyError::UnknownKind),
        }
    }
}

#[cfg(test)]
mod tests;
