//! Pairs of keys, and tokens made with them in whatever form.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use jsonwebtoken::EncodingKey;
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use ws_sink::auth::{Algorithm, Jwt, Keys};

pub(crate) const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
pub(crate) const ISSUER: &str = "https://login.shop.example";
pub(crate) const AUDIENCE: &str = "realtime";

/// What signs, and what others check it with.
pub(crate) struct Pair {
    pub(crate) algorithm: Algorithm,
    pub(crate) encoding: EncodingKey,
    /// As text: the public key, or the secret.
    pub(crate) public: Vec<u8>,
    /// Without a `kid`.
    pub(crate) jwk: Value,
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn hs256() -> Pair {
    Pair {
        algorithm: Algorithm::Hs256,
        encoding: EncodingKey::from_secret(SECRET),
        public: SECRET.to_vec(),
        jwk: json!({"kty": "oct", "k": b64(SECRET)}),
    }
}

pub(crate) fn rs256() -> Pair {
    let key = rsa::RsaPrivateKey::from_pkcs8_pem(include_str!("rsa-test-key.pem")).unwrap();
    let public = key.to_public_key();
    Pair {
        algorithm: Algorithm::Rs256,
        encoding: EncodingKey::from_rsa_der(key.to_pkcs1_der().unwrap().as_bytes()),
        public: public.to_public_key_pem(LineEnding::LF).unwrap().into_bytes(),
        jwk: json!({
            "kty": "RSA",
            "n": b64(public.n().to_bytes_be()),
            "e": b64(public.e().to_bytes_be()),
        }),
    }
}

pub(crate) fn es256(seed: u8) -> Pair {
    let key = p256::SecretKey::from_slice(&[seed; 32]).unwrap();
    let point = key.public_key().to_encoded_point(false);
    let (x, y) = (b64(point.x().unwrap()), b64(point.y().unwrap()));
    Pair {
        algorithm: Algorithm::Es256,
        encoding: EncodingKey::from_ec_der(key.to_pkcs8_der().unwrap().as_bytes()),
        public: key.public_key().to_public_key_pem(LineEnding::LF).unwrap().into_bytes(),
        jwk: json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}),
    }
}

pub(crate) fn eddsa(seed: u8) -> Pair {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let public = key.verifying_key();
    Pair {
        algorithm: Algorithm::EdDsa,
        encoding: EncodingKey::from_ed_der(key.to_pkcs8_der().unwrap().as_bytes()),
        public: public.to_public_key_pem(LineEnding::LF).unwrap().into_bytes(),
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": b64(public.as_bytes())}),
    }
}

pub(crate) fn all() -> [Pair; 4] {
    [hs256(), rs256(), es256(7), eddsa(7)]
}

impl Pair {
    pub(crate) fn library(&self) -> jsonwebtoken::Algorithm {
        self.algorithm.name().parse().unwrap()
    }

    pub(crate) fn keys(&self) -> Keys {
        match self.algorithm {
            Algorithm::Hs256 => Keys::secret(&self.public).unwrap(),
            _ => Keys::pem(&self.public).unwrap(),
        }
    }

    /// One that asks for issuer and audience.
    pub(crate) fn jwt(&self) -> Jwt {
        Jwt::new(self.algorithm, self.keys()).unwrap().issuer(ISSUER).audience(AUDIENCE)
    }

    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.algorithm.name(), "typ": "JWT"})
    }

    pub(crate) fn named(&self, id: &str) -> Value {
        let mut jwk = self.jwk.clone();
        jwk["kid"] = id.into();
        jwk
    }

    /// A token with this text as header and as claims, signed.
    pub(crate) fn raw(&self, header: &str, claims: &[u8]) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.encoding, self.library());
        format!("{message}.{}", signature.unwrap())
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.raw(&self.header().to_string(), claims.to_string().as_bytes())
    }

    /// A good token of this key name.
    pub(crate) fn of_key(&self, id: &str) -> String {
        let mut header = self.header();
        header["kid"] = id.into();
        self.raw(&header.to_string(), good().to_string().as_bytes())
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Claims that nothing is wrong with.
pub(crate) fn good() -> Value {
    json!({
        "sub": "ann",
        "roles": ["user"],
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now() - 10,
        "nbf": now() - 10,
        "exp": now() + 3600,
    })
}

/// The same, with another value or, with `null`, without.
pub(crate) fn but(name: &str, value: Value) -> Value {
    let mut claims = good();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}
