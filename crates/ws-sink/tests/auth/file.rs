//! Keys from a file that changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ws_sink::auth::{
    Algorithm, AuthError, Jwks, JwksError, Jwt, KeyError, Keys, MAX_JWKS_BYTES, MAX_JWKS_KEYS,
};

use crate::pairs::{AUDIENCE, ISSUER, Pair, es256, good, hs256, rs256};

const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const UNKNOWN: &str = "`kid` is of no key that fits";

/// A folder that goes away with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fanout-jwks-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("jwks.json")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

/// Moved into place, as one should.
fn put(path: &Path, text: &str) {
    let aside = path.with_extension("new");
    fs::write(&aside, text).unwrap();
    fs::rename(aside, path).unwrap();
}

pub(crate) fn jwt(pair: &Pair, jwks: Jwks) -> Jwt {
    Jwt::new(pair.algorithm, Keys::jwks(jwks)).unwrap().issuer(ISSUER).audience(AUDIENCE)
}

pub(crate) async fn told(jwt: &Jwt, token: &str) -> &'static str {
    match jwt.verify(token).await {
        Ok(_) => "ok",
        Err(AuthError::Invalid(why)) => why,
        Err(AuthError::Unavailable(_)) => "unavailable",
        Err(other) => panic!("{other:?}"),
    }
}

/// Asks until the answer is this one.
pub(crate) async fn until(jwt: &Jwt, token: &str, answer: &str) {
    let start = Instant::now();
    loop {
        let told = told(jwt, token).await;
        if told == answer {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{told}, not {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_token_is_checked_with_the_key_that_it_names() {
    let (folder, a, b) = (Folder::new(), es256(1), es256(2));
    put(&folder.file(), &set(&[a.named("a"), b.named("b"), rs256().named("r")]));
    let jwt = jwt(&a, Jwks::file(folder.file()).unwrap());
    assert_eq!(told(&jwt, &a.of_key("a")).await, "ok");
    assert_eq!(told(&jwt, &b.of_key("b")).await, "ok");
    // Another's name, another algorithm's, nobody's.
    assert_eq!(told(&jwt, &a.of_key("b")).await, "the signature is not ours");
    assert_eq!(told(&jwt, &a.of_key("r")).await, UNKNOWN);
    for id in ["", "A", "../jwks.json", "/etc/passwd", "a\0", "%61", "a/../a", "x"] {
        assert_eq!(told(&jwt, &a.of_key(id)).await, UNKNOWN, "{id}");
    }
    let nameless = a.sign(&good());
    assert_eq!(told(&jwt, &nameless).await, "there is no `kid`, and several keys fit");
    let rs256 = rs256();
    let only = self::jwt(&rs256, Jwks::file(folder.file()).unwrap());
    assert_eq!(told(&only, &rs256.sign(&good())).await, "ok");
    assert_eq!(told(&only, &rs256.of_key("r")).await, "ok");
    assert_eq!(told(&only, &a.of_key("a")).await, "the algorithm is not RS256");
}

#[tokio::test]
async fn keys_are_rotated_without_a_restart() {
    let (folder, a, b) = (Folder::new(), es256(1), es256(2));
    put(&folder.file(), &set(&[a.named("a")]));
    let jwt = jwt(&a, Jwks::file(folder.file()).unwrap());
    let (old, new) = (a.of_key("a"), b.of_key("b"));
    assert_eq!(told(&jwt, &old).await, "ok");
    put(&folder.file(), &set(&[a.named("a"), b.named("b")]));
    // An unknown key is worth a look at once.
    assert_eq!(told(&jwt, &new).await, "ok");
    assert_eq!(told(&jwt, &old).await, "ok");
    put(&folder.file(), &set(&[b.named("b")]));
    until(&jwt, &old, UNKNOWN).await;
    assert_eq!(told(&jwt, &new).await, "ok");
    // And again within the minute, by the file's time alone.
    put(&folder.file(), &set(&[a.named("a")]));
    until(&jwt, &old, "ok").await;
    until(&jwt, &new, UNKNOWN).await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing() {
    let (folder, a, b) = (Folder::new(), es256(1), es256(2));
    put(&folder.file(), &set(&[a.named("a")]));
    let jwt = jwt(&a, Jwks::file(folder.file()).unwrap());
    put(&folder.file(), "{\"keys\": [");
    // What is asked for an unknown key finds it broken; the known one stays.
    assert_eq!(told(&jwt, &b.of_key("b")).await, "unavailable");
    assert_eq!(told(&jwt, &a.of_key("a")).await, "ok");
    fs::remove_file(folder.file()).unwrap();
    assert_eq!(told(&jwt, &a.of_key("a")).await, "ok");
}

#[test]
fn a_bad_file_stops_the_start_and_says_why() {
    let folder = Folder::new();
    let read = |text: &str| {
        put(&folder.file(), text);
        Jwks::file(folder.file()).map(|_| ()).unwrap_err()
    };
    assert!(matches!(read(""), JwksError::Malformed));
    assert!(matches!(read(&" ".repeat(MAX_JWKS_BYTES + 1)), JwksError::TooLarge));
    let many = vec![json!({}); MAX_JWKS_KEYS + 1];
    assert!(matches!(read(&set(&many)), JwksError::TooManyKeys { len: 65 }));
    let weak = json!({"kty": "RSA", "e": "AQAB", "n": crate::pairs::b64([0xff; 128])});
    let error = read(&set(&[weak]));
    assert!(error.to_string().contains("RSA key of 1024 bits"), "{error}");
    let missing = Jwks::file(folder.0.join("missing")).unwrap_err();
    assert!(matches!(missing, JwksError::Read(_)), "{missing}");
    assert!(matches!(Jwks::file(&folder.0), Err(JwksError::Read(_))), "a folder");

    put(&folder.file(), &set(&[es256(1).jwk]));
    let jwks = Jwks::file(folder.file()).unwrap();
    let none = Jwt::new(Algorithm::Rs256, Keys::jwks(jwks)).unwrap_err();
    assert!(matches!(none, KeyError::NoneFits { wanted: Algorithm::Rs256 }), "{none}");
}

#[tokio::test]
async fn a_secret_may_be_in_a_file() {
    let (folder, pair) = (Folder::new(), hs256());
    put(&folder.file(), &set(&[pair.named("s"), es256(1).named("e")]));
    let jwt = jwt(&pair, Jwks::file(folder.file()).unwrap());
    assert_eq!(told(&jwt, &pair.of_key("s")).await, "ok");
    // The name of a public key next to it.
    assert_eq!(told(&jwt, &pair.of_key("e")).await, UNKNOWN);
}
