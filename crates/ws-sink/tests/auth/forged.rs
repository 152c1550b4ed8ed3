//! Every token that should not be believed, for each of the algorithms.

use std::io;

use futures::FutureExt as _;
use serde_json::{Value, json};
use ws_sink::auth::{
    Algorithm, AuthError, Authenticator, Credential, Jwt, KeyError, Keys, MAX_CREDENTIAL_BYTES,
};

use crate::pairs::{AUDIENCE, ISSUER, Pair, all, b64, but, eddsa, es256, good, hs256, now, rs256};

/// `ok`, `expired`, or why it is refused.
pub(crate) fn told(jwt: &Jwt, token: &str) -> &'static str {
    match jwt.verify(token).now_or_never().expect("nothing to wait for") {
        Ok(identity) => {
            assert_eq!((&*identity.subject, identity.roles.len()), ("ann", 1));
            "ok"
        }
        Err(AuthError::Expired) => "expired",
        Err(AuthError::Invalid(why)) => why,
        Err(other) => panic!("{other:?}"),
    }
}

fn mismatch(pair: &Pair) -> String {
    format!("the algorithm is not {}", pair.algorithm)
}

const SIGNATURE: &str = "the signature is not ours";
const PARTS: &str = "not three parts";
const HEADER: &str = "the header is no JSON object with unique names";
const CLAIMS: &str = "the claims are no JSON object with unique names";
const BASE64: &str = "the signature is not base64url without padding";

#[test]
fn good_ones_are_good() {
    for pair in all() {
        assert_eq!(told(&pair.jwt(), &pair.sign(&good())), "ok", "{}", pair.algorithm);
        let several = but("aud", json!(["other", AUDIENCE]));
        assert_eq!(told(&pair.jwt(), &pair.sign(&several)), "ok");
        let scope = but("roles", json!("user"));
        assert_eq!(told(&pair.jwt(), &pair.sign(&scope)), "ok");
        // A key name leads nowhere where there is one key.
        assert_eq!(told(&pair.jwt(), &pair.of_key("../../etc/passwd")), "ok");
    }
}

#[test]
fn the_algorithm_is_the_configured_one() {
    for pair in all() {
        let (jwt, claims) = (pair.jwt(), good().to_string());
        for alg in [
            json!("none"),
            json!("None"),
            json!("NONE"),
            json!("nOnE"),
            json!(""),
            json!(" "),
            json!(null),
            json!(1),
            json!(["ES256"]),
            json!("HS384"),
            json!("HS512"),
            json!("RS512"),
            json!("PS256"),
            json!("ES384"),
            json!("es256"),
            json!("EdDSA "),
        ] {
            let header = json!({"alg": alg, "typ": "JWT"}).to_string();
            let unsigned = format!("{}.{}.", b64(&header), b64(&claims));
            assert_eq!(told(&jwt, &unsigned), mismatch(&pair), "{header}");
            assert_eq!(told(&jwt, &pair.raw(&header, claims.as_bytes())), mismatch(&pair));
        }
        let without = pair.raw("{}", claims.as_bytes());
        assert_eq!(told(&jwt, &without), mismatch(&pair));
        for other in all().iter().filter(|other| other.algorithm != pair.algorithm) {
            assert_eq!(told(&jwt, &other.sign(&good())), mismatch(&pair));
            // The header of the one, signed as the other.
            let swapped = other.raw(&pair.header().to_string(), claims.as_bytes());
            assert_eq!(told(&jwt, &swapped), SIGNATURE, "{}", other.algorithm);
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let claims = good().to_string();
    for pair in [rs256(), es256(7), eddsa(7)] {
        let text = String::from_utf8(pair.public.clone()).unwrap();
        for secret in [text.as_str(), text.trim_end(), &pair.jwk.to_string()] {
            let encoding = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
            let forger = Pair { encoding, ..hs256() };
            assert_eq!(told(&pair.jwt(), &forger.sign(&good())), mismatch(&pair));
            let dressed = forger.raw(&pair.header().to_string(), claims.as_bytes());
            assert_eq!(told(&pair.jwt(), &dressed), SIGNATURE);
        }
        // Nor by mistake.
        assert!(matches!(Keys::secret(text.as_bytes()), Err(KeyError::Secret(_))));
        let hs256 = Jwt::new(Algorithm::Hs256, pair.keys()).unwrap_err();
        assert!(matches!(hs256, KeyError::Misfit { .. }), "{hs256}");
    }
}

#[test]
fn keys_that_a_token_brings_along_are_not_used() {
    let (ours, theirs) = (es256(7), es256(8));
    let claims = good().to_string();
    for (name, value) in [
        ("jwk", theirs.jwk.clone()),
        ("jku", json!("http://127.0.0.1:1/jwks.json")),
        ("x5u", json!("http://127.0.0.1:1/chain.pem")),
        ("x5c", json!(["AAAA"])),
        ("kid", json!("ours")),
    ] {
        let mut header = ours.header();
        header[name] = value;
        let token = theirs.raw(&header.to_string(), claims.as_bytes());
        assert_eq!(told(&ours.jwt(), &token), SIGNATURE, "{name}");
    }
}

#[test]
fn what_a_header_asks_for_is_understood_or_refused() {
    let critical = "`crit` asks for what is not understood";
    let kid = "`kid` is no string of at most 256 bytes";
    for pair in all() {
        for (name, value, why) in [
            ("crit", json!(["b64"]), critical),
            ("crit", json!([]), critical),
            ("crit", json!(null), critical),
            ("kid", json!(1), kid),
            ("kid", json!(["a"]), kid),
            ("kid", json!("x".repeat(257)), kid),
        ] {
            let mut header = pair.header();
            header[name] = value;
            let token = pair.raw(&header.to_string(), good().to_string().as_bytes());
            assert_eq!(told(&pair.jwt(), &token), why);
        }
        let alg = pair.algorithm.name();
        for header in [
            format!(r#"{{"alg":"none","alg":"{alg}"}}"#),
            format!(r#"{{"alg":"{alg}","kid":"a","kid":"b"}}"#),
            format!(r#"{{"alg":"{alg}"}}x"#),
            format!(r#"["{alg}"]"#),
            format!("\u{feff}{{\"alg\":\"{alg}\"}}"),
            "null".to_owned(),
            String::new(),
        ] {
            let token = pair.raw(&header, good().to_string().as_bytes());
            assert_eq!(told(&pair.jwt(), &token), HEADER, "{header}");
        }
    }
}

#[test]
fn claims_are_all_there_and_as_they_should_be() {
    let (past, soon) = (now() - 3600, now() + 600);
    for pair in all() {
        for (name, value, why) in [
            ("exp", json!(past), "expired"),
            ("exp", json!(0), "expired"),
            ("exp", json!(null), "`exp` is missing"),
            ("exp", json!("2100-01-01"), "`exp` is no time"),
            ("exp", json!(true), "`exp` is no time"),
            ("exp", json!(-1), "`exp` is no time"),
            ("exp", json!(1e300), "`exp` is no time"),
            ("exp", json!(u64::MAX), "`exp` is no time"),
            ("exp", json!(u64::MAX as f64 * 2.0), "`exp` is no time"),
            ("nbf", json!(soon), "`nbf` is in the future"),
            ("nbf", json!("now"), "`nbf` is no time"),
            ("iat", json!(soon), "`iat` is in the future"),
            ("iat", json!(1e300), "`iat` is no time"),
            ("iss", json!(null), "`iss` is missing"),
            ("iss", json!("https://login.shop.example.evil"), "`iss` is somebody else"),
            ("iss", json!([ISSUER]), "`iss` is somebody else"),
            ("aud", json!(null), "`aud` is missing"),
            ("aud", json!("other"), "`aud` is somebody else"),
            ("aud", json!(["other"]), "`aud` is somebody else"),
            ("aud", json!([AUDIENCE, 1]), "`aud` is no strings"),
            ("sub", json!(null), "the subject is missing"),
            ("sub", json!(""), "the subject is 1 to 256 bytes"),
            ("sub", json!(7), "the subject is no string"),
            ("roles", json!(null), "the roles are missing"),
            ("roles", json!({"admin": true}), "the roles are no strings"),
            ("roles", json!(vec!["r"; 17]), "at most 16 roles"),
        ] {
            assert_eq!(told(&pair.jwt(), &pair.sign(&but(name, value.clone()))), why, "{value}");
        }
    }
}

#[test]
fn claims_are_one_object_with_unique_names() {
    let pair = es256(7);
    let exp = now() + 3600;
    let rest = format!(r#""roles":["user"],"iss":"{ISSUER}","aud":"{AUDIENCE}","exp":{exp}"#);
    let token = |claims: &str| pair.raw(&pair.header().to_string(), claims.as_bytes());
    assert_eq!(told(&pair.jwt(), &token(&format!(r#"{{"sub":"ann",{rest}}}"#))), "ok");
    let deep = format!(r#"{{"sub":"ann",{rest},"x":{}{}}}"#, "[".repeat(900), "]".repeat(900));
    for claims in [
        &format!(r#"{{"sub":"bob","sub":"ann",{rest}}}"#),
        &format!(r#"{{"sub":"ann",{rest},"roles":["admin"]}}"#),
        &format!(r#"{{"sub":"ann",{rest},"r\u006fles":["admin"]}}"#),
        &format!(r#"{{"sub":"ann",{rest},"exp":{exp}}}"#),
        &format!(r#"{{"sub":"ann",{rest},"x":{{"y":1,"y":2}}}}"#),
        &format!(r#"{{"sub":"ann",{rest}}}{{}}"#),
        &format!(r#"{{"sub":"ann",{rest}}}x"#),
        &format!("\u{feff}{{\"sub\":\"ann\",{rest}}}"),
        &format!(r#"{{"sub":"ann",{rest},"x":1e400}}"#),
        &format!(r#"{{"sub":"\ud800",{rest}}}"#),
        &format!(r#"[{{"sub":"ann",{rest}}}]"#),
        &deep,
        "null",
        "",
        "\"ann\"",
    ] {
        assert_eq!(told(&pair.jwt(), &token(claims)), CLAIMS, "{claims}");
    }
    let not_text = pair.raw(&pair.header().to_string(), b"{\"sub\":\"\xff\"}");
    assert_eq!(told(&pair.jwt(), &not_text), CLAIMS);
}

#[test]
fn a_token_is_three_parts_of_base64url() {
    for pair in all() {
        let (jwt, token) = (pair.jwt(), pair.sign(&good()));
        let parts: Vec<_> = token.split('.').collect();
        let (head, body, signature) = (parts[0], parts[1], parts[2]);
        for (token, why) in [
            (format!("{token}."), PARTS),
            (format!(".{token}"), PARTS),
            (format!("{token}.{body}.{signature}"), PARTS),
            (format!("{head}.{body}"), PARTS),
            (head.to_owned(), PARTS),
            (format!("{head}=.{body}.{signature}"), HEADER),
            (format!(" {token}"), HEADER),
            (format!("Bearer {token}"), HEADER),
            (format!(".{body}.{signature}"), HEADER),
            ("..".to_owned(), HEADER),
            (format!("{head}.{body}.{signature}="), BASE64),
            (format!("{head}.{body}.{signature}=="), BASE64),
            (format!("{token}\n"), BASE64),
            (format!("{token} "), BASE64),
            (format!("{token}\0"), BASE64),
            (format!("{token}\u{e9}"), BASE64),
            (format!("{head}.{body}=.{signature}"), SIGNATURE),
            (format!("{head}.{body}.{signature}AAAA"), SIGNATURE),
            (format!("{head}.{body}."), SIGNATURE),
            (format!("{head}..{signature}"), SIGNATURE),
            (
                format!("{head}.{}.{signature}", b64(but("sub", json!("bob")).to_string())),
                SIGNATURE,
            ),
            (String::new(), "empty"),
            ("x".repeat(MAX_CREDENTIAL_BYTES + 1), "longer than 8 KiB"),
            (pair.sign(&but("x", json!("x".repeat(8 * 1024)))), "longer than 8 KiB"),
        ] {
            assert_eq!(told(&jwt, &token), why, "{} {token}", pair.algorithm);
        }
    }
}

#[test]
fn signatures_of_nothing_are_refused() {
    for pair in all() {
        let token = pair.sign(&good());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let len = signature.len() * 3 / 4;
        // r = s = 0 was good for many a library; 0 and 1 are their own powers.
        let mut one = vec![0; len];
        one[len - 1] = 1;
        for forged in [vec![0; len], one, vec![0xff; len], vec![0; 1]] {
            let token = format!("{message}.{}", b64(forged));
            assert_eq!(told(&pair.jwt(), &token), SIGNATURE, "{}", pair.algorithm);
        }
        let other = match pair.algorithm {
            Algorithm::Es256 => es256(8),
            Algorithm::EdDsa => eddsa(8),
            _ => continue,
        };
        assert_eq!(told(&pair.jwt(), &other.sign(&good())), SIGNATURE);
    }
}

#[test]
fn without_an_audience_what_is_for_somebody_is_refused() {
    let pair = eddsa(7);
    let jwt = Jwt::new(Algorithm::EdDsa, pair.keys()).unwrap();
    assert_eq!(told(&jwt, &pair.sign(&good())), "`aud` is somebody else");
    assert_eq!(told(&jwt, &pair.sign(&but("aud", json!(null)))), "ok");
    let twice = Jwt::new(Algorithm::EdDsa, pair.keys()).unwrap().audience("a").audience(AUDIENCE);
    assert_eq!(told(&twice, &pair.sign(&good())), "ok");
}

#[test]
fn nothing_of_a_token_is_said_again() {
    let pair = hs256();
    let told = |claims: &Value| pair.jwt().verify(&pair.sign(claims)).now_or_never().unwrap();
    for name in ["sub", "roles", "iss", "aud", "exp"] {
        let error = told(&but(name, json!({"topsecret": 1}))).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("topsecret"), "{shown}");
    }
    let shown = format!("{:?}", pair.jwt());
    assert!(!shown.contains("thirty"), "{shown}");
}

#[test]
fn the_trait_takes_tokens_and_no_tickets() -> io::Result<()> {
    let pair = es256(7);
    let (jwt, token) = (pair.jwt(), pair.sign(&good()));
    let ask = |credential| jwt.authenticate(credential).now_or_never().unwrap();
    let ann = ask(Credential::Bearer(&token)).map_err(io::Error::other)?;
    assert_eq!(&*ann.subject, "ann");
    assert!(ann.issued_at.is_some());
    assert!(matches!(ask(Credential::Ticket(&token)), Err(AuthError::Invalid(_))));
    Ok(())
}
