use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use serde_json::json;

use super::*;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn ec(seed: u8) -> Value {
    let key = p256::SecretKey::from_slice(&[seed; 32]).unwrap().public_key();
    let point = key.to_encoded_point(false);
    json!({"kty": "EC", "crv": "P-256", "x": b64(point.x().unwrap()), "y": b64(point.y().unwrap())})
}

fn rsa(bits: usize) -> Value {
    json!({"kty": "RSA", "n": b64(vec![0xff; bits / 8]), "e": "AQAB"})
}

fn ed(seed: u8) -> Value {
    let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key();
    json!({"kty": "OKP", "crv": "Ed25519", "x": b64(key.as_bytes())})
}

fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
    jwk[name] = value.into();
    jwk
}

fn read(keys: &[Value]) -> Result<KeySet, JwksError> {
    KeySet::read(json!({"keys": keys}).to_string().as_bytes(), Secrets::Taken)
}

/// How many of one key are read: 1, or 0 where it is for another use.
fn taken(jwk: Value) -> usize {
    read(&[jwk]).unwrap().len()
}

fn unusable(jwk: Value) -> KeyError {
    match read(&[jwk]) {
        Err(JwksError::Unusable(error)) => error,
        other => panic!("{:?}", other.map(|set| set.len())),
    }
}

#[test]
fn each_kind_is_for_one_algorithm() {
    let set = read(&[ec(7), rsa(2048), ed(7)]).unwrap();
    assert_eq!(set.len(), 3);
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        assert!(set.fits(algorithm));
        match set.find(algorithm, None) {
            Found::One(key) => assert_eq!(key.algorithm, algorithm),
            _ => panic!("{algorithm}"),
        }
    }
    assert!(!set.fits(Algorithm::Hs256));
    assert!(matches!(set.find(Algorithm::Hs256, None), Found::None));
}

#[test]
fn what_a_key_says_of_itself_must_fit() {
    assert_eq!(taken(with(ec(7), "alg", "ES256")), 1);
    assert_eq!(taken(with(ed(7), "alg", "EdDSA")), 1);
    assert_eq!(taken(with(ed(7), "alg", "Ed25519")), 1);
    assert_eq!(taken(with(rsa(2048), "alg", "RS256")), 1);
    assert_eq!(taken(with(ec(7), "use", "sig")), 1);
    assert_eq!(taken(with(ec(7), "key_ops", json!(["verify"]))), 1);
    for other in [
        with(ec(7), "alg", "ES384"),
        with(ec(7), "alg", "RS256"),
        with(rsa(2048), "alg", "RS512"),
        with(rsa(2048), "alg", "PS256"),
        with(rsa(2048), "alg", "RSA-OAEP"),
        with(rsa(2048), "alg", "HS256"),
        with(rsa(2048), "alg", "none"),
        with(ec(7), "use", "enc"),
        with(ec(7), "key_ops", json!(["sign"])),
        with(ec(7), "key_ops", json!([])),
        with(ec(7), "key_ops", json!("verify")),
        with(ec(7), "crv", "P-384"),
        with(ec(7), "crv", "secp256k1"),
        with(ec(7), "kty", "OKP"),
        with(ec(7), "kty", "RSA"),
        with(ed(7), "crv", "X25519"),
        with(ed(7), "crv", "P-256"),
        with(ec(7), "kty", "unheard of"),
        json!({}),
    ] {
        assert_eq!(taken(other.clone()), 0, "{other}");
    }
}

#[test]
fn weak_broken_and_private_keys_are_passed_over_with_a_reason() {
    assert!(matches!(unusable(rsa(1024)), KeyError::RsaBits { bits: 1024 }));
    assert!(matches!(unusable(with(ec(7), "d", "AA")), KeyError::Private));
    for broken in [
        with(ec(7), "x", b64([7; 32])),
        with(ec(7), "x", b64([0; 31])),
        with(ec(7), "x", b64([0; 33])),
        with(ec(7), "x", format!("{}=", b64([0; 32]))),
        with(ec(7), "x", 7),
        with(ec(7), "alg", 7),
        with(ed(7), "x", ""),
        with(ed(7), "x", b64([0; 32])),
        with(rsa(2048), "e", ""),
        with(rsa(2048), "kid", 7),
        json!({"kty": "RSA"}),
    ] {
        assert!(matches!(unusable(broken.clone()), KeyError::Broken(_)), "{broken}");
    }
    let set = read(&[rsa(1024), with(ec(7), "kid", "good")]).unwrap();
    assert!(matches!(set.find(Algorithm::Es256, Some("good")), Found::One(_)));
    let error = read(&[rsa(1024)]).err().unwrap().to_string();
    assert!(error.contains("1024 bits"), "{error}");
}

#[test]
fn a_secret_is_long_and_comes_from_no_url() {
    let oct = |len| json!({"kty": "oct", "k": b64(vec![7; len])});
    assert_eq!(taken(oct(32)), 1);
    assert!(matches!(unusable(oct(31)), KeyError::Secret(_)));
    let json = json!({"keys": [oct(32)]}).to_string();
    let refused = KeySet::read(json.as_bytes(), Secrets::Refused).err().unwrap();
    assert!(matches!(refused, JwksError::Unusable(KeyError::SecretFromUrl)), "{refused}");
}

#[test]
fn a_key_is_found_by_its_name_among_those_that_fit() {
    let set = read(&[
        with(ec(1), "kid", "a"),
        with(ec(2), "kid", "b"),
        with(ed(3), "kid", "a"),
        with(ec(4), "kid", "twice"),
        with(ec(5), "kid", "twice"),
        rsa(2048),
    ])
    .unwrap();
    let find = |algorithm, id| set.find(algorithm, id);
    assert!(matches!(find(Algorithm::Es256, Some("a")), Found::One(_)));
    assert!(matches!(find(Algorithm::EdDsa, Some("a")), Found::One(_)));
    assert!(matches!(find(Algorithm::EdDsa, Some("b")), Found::None));
    assert!(matches!(find(Algorithm::Es256, Some("A")), Found::None));
    assert!(matches!(find(Algorithm::Es256, Some("")), Found::None));
    assert!(matches!(find(Algorithm::Es256, Some("twice")), Found::Several));
    assert!(matches!(find(Algorithm::Es256, None), Found::Several));
    assert!(matches!(find(Algorithm::EdDsa, None), Found::One(_)));
    // A key without a name is not the one that a name is of.
    assert!(matches!(find(Algorithm::Rs256, None), Found::One(_)));
    assert!(matches!(find(Algorithm::Rs256, Some("a")), Found::None));
}

#[test]
fn a_set_has_limits_and_a_form() {
    assert_eq!(read(&[]).unwrap().len(), 0);
    assert_eq!(read(&vec![ec(7); MAX_JWKS_KEYS]).unwrap().len(), MAX_JWKS_KEYS);
    let many = read(&vec![ec(7); MAX_JWKS_KEYS + 1]).err().unwrap();
    assert!(matches!(many, JwksError::TooManyKeys { len: 65 }), "{many}");
    let huge = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(MAX_JWKS_BYTES));
    for (json, huge) in [
        (huge.as_str(), true),
        ("", false),
        ("{", false),
        ("[]", false),
        ("{}", false),
        (r#"{"keys":{}}"#, false),
        (r#"{"keys":[1]}"#, false),
        (r#"{"keys":[],"keys":[]}"#, false),
        (r#"{"keys":[{"kty":"RSA","kty":"EC"}]}"#, false),
        ("<html>not found</html>", false),
    ] {
        match KeySet::read(json.as_bytes(), Secrets::Taken) {
            Err(JwksError::TooLarge) => assert!(huge),
            Err(JwksError::Malformed) => assert!(!huge, "{json}"),
            _ => panic!("{json}"),
        }
    }
}
