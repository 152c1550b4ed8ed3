//! With a clock that stands still. Forged tokens are in `tests/auth`.

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn verifier() -> Verifier {
    let mut verifier = Verifier::new(Algorithm::Hs256);
    verifier.claims = ClaimMap::default().optional_roles();
    verifier
}

/// Whom a token of these claims and `sub` is of.
fn of(verifier: &Verifier, mut claims: Value) -> Result<Identity, AuthError> {
    claims["sub"] = json!("ann");
    let key = EncodingKey::from_secret(SECRET);
    let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
    verifier.verify(&verifier.present(&token)?, &Key::secret(SECRET).unwrap(), at(NOW))
}

fn why(verifier: &Verifier, claims: Value) -> &'static str {
    match of(verifier, claims) {
        Err(AuthError::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_end_is_to_the_second_and_the_leeway_is_on_top() {
    let exp = |exp: Value| of(&verifier(), json!({"exp": exp}));
    assert_eq!(exp(json!(NOW + 60)).unwrap().expires_at, Some(at(NOW + 65)));
    assert_eq!(exp(json!(NOW - 4)).unwrap().expires_at, Some(at(NOW + 1)));
    assert!(matches!(exp(json!(NOW - 5)), Err(AuthError::Expired)));
    assert!(matches!(exp(json!(0)), Err(AuthError::Expired)));
    let half = exp(json!(NOW as f64 + 0.5)).unwrap().expires_at;
    assert_eq!(half, Some(at(NOW + 5) + Duration::from_millis(500)));
    for odd in [json!("1"), json!(-1), json!(-0.5), json!(null), json!(1e300), json!(u64::MAX)] {
        assert_eq!(why(&verifier(), json!({"exp": odd})), "`exp` is no time");
    }
    assert_eq!(why(&verifier(), json!({})), "`exp` is missing");
}

#[test]
fn not_yet_is_no() {
    for (name, ahead) in [("nbf", "`nbf` is in the future"), ("iat", "`iat` is in the future")] {
        let of = |value: Value| json!({"exp": NOW + 60, name: value});
        assert!(super::tests::of(&verifier(), of(json!(NOW + 5))).is_ok());
        assert_eq!(why(&verifier(), of(json!(NOW + 6))), ahead);
        assert_eq!(why(&verifier(), of(json!(1e17))), ahead);
        for odd in [json!("1"), json!(-1), json!(null), json!(1e300), json!([NOW])] {
            let no_time = why(&verifier(), of(odd));
            assert!(no_time.contains(name) && no_time.contains("no time"), "{no_time}");
        }
    }
}

#[test]
fn when_it_was_issued_is_known() {
    let issued = |claims| of(&verifier(), claims).unwrap().issued_at;
    assert_eq!(issued(json!({"exp": NOW + 60, "iat": NOW - 9})), Some(at(NOW - 9)));
    assert_eq!(issued(json!({"exp": NOW + 60})), None);
}

#[test]
fn a_life_is_bounded_where_it_was_said_so() {
    let mut verifier = verifier();
    let long = json!({"exp": NOW + 3601, "iat": NOW});
    assert!(of(&verifier, long.clone()).is_ok());
    verifier.max_life = Some(Duration::from_secs(3600));
    assert_eq!(why(&verifier, long), "`exp` is too long after `iat`");
    assert!(of(&verifier, json!({"exp": NOW + 3600, "iat": NOW})).is_ok());
    assert_eq!(why(&verifier, json!({"exp": NOW + 60})), "`iat` is missing");
}

#[test]
fn an_issuer_is_one_of_ours() {
    let mut verifier = verifier();
    let of = |iss: Value| json!({"exp": NOW + 60, "iss": iss});
    assert!(super::tests::of(&verifier, of(json!("anybody"))).is_ok());
    verifier.issuers = vec!["a".to_owned(), "b".to_owned()];
    assert!(super::tests::of(&verifier, of(json!("a"))).is_ok());
    assert!(super::tests::of(&verifier, of(json!("b"))).is_ok());
    for other in [json!("c"), json!("A"), json!("a/"), json!(""), json!(["a"]), json!(null)] {
        assert_eq!(why(&verifier, of(other)), "`iss` is somebody else");
    }
    assert_eq!(why(&verifier, json!({"exp": NOW + 60})), "`iss` is missing");
}

#[test]
fn an_audience_is_one_of_ours() {
    let mut verifier = verifier();
    let of = |aud: Value| json!({"exp": NOW + 60, "aud": aud});
    // Without a name of our own, what names anybody is for somebody else.
    for aud in [json!("a"), json!(["a"]), json!([]), json!(null), json!("")] {
        assert_eq!(why(&verifier, of(aud)), "`aud` is somebody else");
    }
    verifier.audiences = vec!["a".to_owned(), "b".to_owned()];
    for aud in [json!("a"), json!("b"), json!(["x", "a"]), json!(["a", "b"])] {
        assert!(super::tests::of(&verifier, of(aud.clone())).is_ok(), "{aud}");
    }
    for aud in [json!("c"), json!(["c"]), json!([]), json!(null), json!(""), json!({"a": 1})] {
        assert_eq!(why(&verifier, of(aud)), "`aud` is somebody else");
    }
    assert_eq!(why(&verifier, of(json!(["a", 1]))), "`aud` is no strings");
    assert_eq!(why(&verifier, json!({"exp": NOW + 60})), "`aud` is missing");
}

#[test]
fn only_what_was_good_once_is_called_expired() {
    let mut verifier = verifier();
    verifier.issuers = vec!["a".to_owned()];
    let past = |iss: &str| json!({"exp": NOW - 60, "iss": iss});
    assert!(matches!(of(&verifier, past("a")), Err(AuthError::Expired)));
    assert_eq!(why(&verifier, past("x")), "`iss` is somebody else");
    let mut roles = past("a");
    roles["roles"] = json!(1);
    assert_eq!(why(&verifier, roles), "the roles are no strings");
}

#[test]
fn leeway_is_whole_seconds_and_bounded() {
    let mut verifier = verifier();
    verifier.set_leeway(Duration::MAX);
    assert_eq!(verifier.leeway, Hs256::MAX_LEEWAY);
    verifier.set_leeway(Duration::from_millis(1999));
    assert_eq!(verifier.leeway, Duration::from_secs(1));
}
