use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use rsa::pkcs1::EncodeRsaPublicKey as _;

use super::*;

fn pem(key: &impl p256::pkcs8::EncodePublicKey) -> String {
    key.to_public_key_pem(LineEnding::LF).unwrap()
}

/// One with a modulus of so many bits. Nobody has its private key.
fn rsa_of(bits: usize) -> rsa::RsaPublicKey {
    let modulus = (BigUint::from(1u8) << (bits - 1)) + 1u8;
    rsa::RsaPublicKey::new(modulus, BigUint::from(65537u32)).unwrap()
}

fn p256_key() -> p256::PublicKey {
    p256::SecretKey::from_slice(&[7; 32]).unwrap().public_key()
}

fn ed25519_key() -> VerifyingKey {
    ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key()
}

fn algorithm(pem: &str) -> Result<Algorithm, KeyError> {
    Key::pem(pem.as_bytes()).map(|key| key.algorithm)
}

#[test]
fn a_key_is_for_one_algorithm() {
    assert_eq!(algorithm(&pem(&rsa_of(2048))).unwrap(), Algorithm::Rs256);
    let pkcs1 = rsa_of(2048).to_pkcs1_pem(LineEnding::CRLF).unwrap();
    assert_eq!(algorithm(&format!("\n{pkcs1}\n")).unwrap(), Algorithm::Rs256);
    assert_eq!(algorithm(&pem(&p256_key())).unwrap(), Algorithm::Es256);
    assert_eq!(algorithm(&pem(&ed25519_key())).unwrap(), Algorithm::EdDsa);
}

#[test]
fn rsa_has_a_size() {
    for (bits, fits) in [(1024, false), (2047, false), (2048, true), (4096, true)] {
        let (spki, pkcs1) = (pem(&rsa_of(bits)), rsa_of(bits).to_pkcs1_pem(LineEnding::LF));
        for pem in [spki, pkcs1.unwrap()] {
            match algorithm(&pem) {
                Ok(_) => assert!(fits, "{bits}"),
                Err(KeyError::RsaBits { bits: of }) => assert!(!fits && of == bits, "{bits}"),
                Err(other) => panic!("{bits}: {other}"),
            }
        }
    }
    let error = KeyError::RsaBits { bits: 1024 }.to_string();
    assert_eq!(error, "RSA key of 1024 bits: from 2048 to 4096 are taken");
    let huge = Key::rsa(&[0xff; 1024], &[1, 0, 1]).err().unwrap();
    assert!(matches!(huge, KeyError::RsaBits { bits: 8192 }));
    // Zeros before a number make it no longer.
    let padded = [vec![0; 128], vec![0xff; 128]].concat();
    let error = Key::rsa(&padded, &[1, 0, 1]).err().unwrap();
    assert!(matches!(error, KeyError::RsaBits { bits: 1024 }));
    for exponent in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[0xff; 9]] {
        let broken = Key::rsa(&[0xff; 256], exponent).err();
        assert!(matches!(broken, Some(KeyError::Broken(_))), "{exponent:?}");
    }
}

#[test]
fn other_curves_and_points_off_the_curve_are_refused() {
    let mut point = [4; 65];
    assert!(matches!(Key::p256(&point), Err(KeyError::Broken(_))));
    point[0] = 0;
    assert!(matches!(Key::p256(&point[..1]), Err(KeyError::Broken(_))), "at infinity");
    assert!(matches!(Key::p256(&[]), Err(KeyError::Broken(_))));
    for short in [0, 31, 33, 64] {
        assert!(matches!(Key::ed25519(&vec![7; short]), Err(KeyError::Broken(_))), "{short}");
    }
    // Of small order: signatures that anybody can make would be good.
    let mut identity = [0; 32];
    identity[0] = 1;
    assert!(matches!(Key::ed25519(&identity), Err(KeyError::Broken(_))));
    assert!(matches!(Key::ed25519(&[0; 32]), Err(KeyError::Broken(_))));
}

#[test]
fn keys_of_other_kinds_are_refused() {
    let spki = |key: &dyn Fn() -> Document, from: &[u8], to: &[u8]| {
        let mut der = key().as_bytes().to_vec();
        let at = der.windows(from.len()).position(|bytes| bytes == from).unwrap();
        der[at..at + to.len()].copy_from_slice(to);
        Key::spki(&der).map(|key| key.algorithm)
    };
    let p256 = || p256_key().to_public_key_der().unwrap();
    let ed25519 = || ed25519_key().to_public_key_der().unwrap();
    let rsa = || rsa_of(2048).to_public_key_der().unwrap();
    // The curve P-192, the exchange of keys X25519, RSA with PSS.
    for (key, from, to) in [
        (&p256 as &dyn Fn() -> Document, &[3, 1, 7][..], &[3, 1, 1][..]),
        (&ed25519, &[0x2b, 0x65, 0x70], &[0x2b, 0x65, 0x6e]),
        (&rsa, &[0x0d, 1, 1, 1], &[0x0d, 1, 1, 10]),
    ] {
        assert!(spki(key, from, from).is_ok());
        assert!(matches!(spki(key, from, to), Err(KeyError::UnknownKind)));
    }
}

#[test]
fn what_is_no_public_key_is_told_apart() {
    let good = pem(&p256_key());
    for label in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
        let private = good.replace("PUBLIC KEY", label);
        assert!(matches!(algorithm(&private), Err(KeyError::Private)), "{label}");
    }
    let certificate = good.replace("PUBLIC KEY", "CERTIFICATE");
    let twice = format!("{good}{good}");
    let huge = format!("{good}{}", " ".repeat(MAX_PEM_BYTES));
    for odd in ["", "secret", &good[..good.len() - 30], &certificate, &twice, &huge] {
        assert!(matches!(algorithm(odd), Err(KeyError::NotPem)), "{odd}");
    }
    assert!(matches!(Keys::pem(b"\xff"), Err(KeyError::NotPem)));
    let not_a_key = "-----BEGIN PUBLIC KEY-----\nMAMCAQE=\n-----END PUBLIC KEY-----";
    assert!(matches!(algorithm(not_a_key), Err(KeyError::Broken(_))));
}

#[test]
fn a_secret_is_long_and_nobody_elses() {
    assert!(Keys::secret(&[7; 32]).is_ok());
    let short = Keys::secret(&[7; 31]).unwrap_err();
    assert!(matches!(short, KeyError::Secret(SecretError::TooShort { len: 31 })), "{short}");
    for text in [pem(&rsa_of(2048)), format!("\n {}", pem(&p256_key()))] {
        let public = Keys::secret(text.as_bytes()).unwrap_err();
        assert!(matches!(public, KeyError::Secret(SecretError::Pem)), "{public}");
        assert!(Hs256::new(text.as_bytes()).is_err());
    }
}

#[test]
fn an_algorithm_has_a_name() {
    for name in ["hs256", "RS256", "es256", "EdDSA", "eddsa"] {
        let algorithm: Algorithm = name.parse().unwrap();
        assert!(algorithm.to_string().eq_ignore_ascii_case(name));
    }
    for name in ["none", "", "HS384", "rs512", "PS256"] {
        assert!(name.parse::<Algorithm>().is_err(), "{name}");
    }
}

#[test]
fn nothing_of_a_key_is_shown() {
    let shown = format!("{:?}", Keys::secret(b"a secret that is never to be shown").unwrap());
    assert_eq!(shown, "Keys(Hs256)");
}
