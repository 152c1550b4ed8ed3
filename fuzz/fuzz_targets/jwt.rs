//! Tokens and sets of keys as anybody may have written them.
//!
//! The input is a header, claims, and the rest is a set of keys or a whole token. Claims are
//! not believed before the signature, so the target signs them: what the issuer might say.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanout::Identity;
use futures::FutureExt;
use hmac::{Hmac, Mac};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use ws_sink::auth::{Algorithm, AuthError, Jwks, Jwt, Keys};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

static JWT: LazyLock<Jwt> = LazyLock::new(|| {
    let keys = Keys::secret(SECRET).expect("long enough");
    Jwt::new(Algorithm::Hs256, keys).expect("fits").issuer("shop").audience("realtime")
});

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let [header, claims, rest] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", encode(header), encode(claims));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET).expect("any length");
    mac.update(message.as_bytes());
    let signature = mac.finalize().into_bytes();
    if let Ok(identity) = verify(&format!("{message}.{}", encode(&signature))) {
        believed(header, claims, &identity);
    }
    // Without the signature, with another, and with one that is cut, it is nobody's.
    for signature in [&[][..], &[0; 32], &signature[..31]] {
        assert!(verify(&format!("{message}.{}", encode(signature))).is_err());
    }
    if let Ok(token) = std::str::from_utf8(rest) {
        assert!(verify(token).is_err(), "a token that nobody signed");
        let refused = verify(&format!("{token}~~~~")).expect_err("no signature ends so");
        assert!(!refused.to_string().contains('~'), "shows the token");
    }
    keys(rest);
});

fn verify(token: &str) -> Result<Identity, AuthError> {
    JWT.verify(token).now_or_never().expect("a secret is there at once")
}

/// What has to be so of a token that counts.
fn believed(header: &[u8], claims: &[u8], identity: &Identity) {
    let object = |bytes| match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => object,
        other => panic!("no object: {other:?}"),
    };
    let (header, claims) = (object(header), object(claims));
    assert_eq!(header["alg"], "HS256");
    assert!(!header.contains_key("crit"));
    assert_eq!(claims["sub"], *identity.subject);
    assert!(!identity.subject.is_empty());
    assert_eq!(claims["iss"], "shop");
    let audience = &claims["aud"];
    let named = |list: &Vec<Value>| list.iter().any(|one| one == "realtime");
    assert!(audience == "realtime" || audience.as_array().is_some_and(named));
    let now = std::time::SystemTime::now();
    assert!(identity.expires_at.is_some_and(|end| end > now), "has ended");
    let roles = claims.get("roles").cloned().unwrap_or_default();
    for role in identity.roles.iter() {
        let listed = |list: &Vec<Value>| list.iter().any(|one| one == role.as_str());
        let worded = |text: &str| text.split(' ').any(|word| word == role.as_str());
        let given = roles.as_array().is_some_and(listed) || roles.as_str().is_some_and(worded);
        assert!(given, "the role {role:?} out of nothing");
    }
}

/// A set is read, or not; in a file, as there is no other way in without a network.
fn keys(json: &[u8]) {
    static FILE: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
        std::env::temp_dir().join(format!("fanout-fuzz-jwks-{}", std::process::id()))
    });
    if !json.starts_with(b"{") {
        return;
    }
    std::fs::write(&*FILE, json).expect("room for a file");
    match Jwks::file(&*FILE) {
        Ok(jwks) => {
            let shown = format!("{jwks:?}");
            assert!(shown.len() < 1000, "shows more than it should: {shown}");
            for algorithm in
                [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa]
            {
                drop(Jwt::new(algorithm, Keys::jwks(jwks.clone())));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let _ = std::fs::remove_file(&*FILE);
}
