//! Tokens that nobody signed, or somebody else, or that say what nobody is; and how each is
//! answered.

use ring::hmac;
use serde_json::{Value, json};

use crate::jwt::{self, LATER, base64, claims, hs256, now, signed, unsigned};
use crate::target::SECRET;

/// What a token is answered with: the close code and its name, and over REST.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Unauthenticated,
    Expired,
    Forbidden,
}

impl Answer {
    pub(crate) fn close(self) -> (u16, &'static str) {
        match self {
            Self::Unauthenticated => (4500, "unauthenticated"),
            Self::Expired => (4002, "token_expired"),
            Self::Forbidden => (4501, "forbidden"),
        }
    }

    pub(crate) fn rest(self) -> (u16, String) {
        match self {
            Self::Unauthenticated => (401, "unauthenticated".into()),
            Self::Expired => (401, "token_expired".into()),
            Self::Forbidden => (403, "forbidden".into()),
        }
    }
}

/// A claim changed, and the whole signed as it should be.
pub(crate) fn with(name: &str, value: impl Into<Value>) -> String {
    let mut claims = claims("eve@shop.example", "user");
    claims[name] = value.into();
    hs256(&claims)
}

pub(crate) fn without(name: &str) -> String {
    let mut claims = claims("eve@shop.example", "user");
    claims.as_object_mut().unwrap().remove(name);
    hs256(&claims)
}

/// Tokens of an admin that this server has not signed.
pub(crate) fn forged() -> Vec<String> {
    let admin = claims("eve@shop.example", "admin");
    let good = jwt::of("eve@shop.example", "user");
    let (head, signature) = (good.split('.').next().unwrap(), good.rsplit('.').next().unwrap());
    let body = base64(admin.to_string());
    let hs256 = r#"{"alg":"HS256","typ":"JWT"}"#;
    let secret = SECRET.as_bytes();
    let mut tokens = vec![
        signed(hs256, &admin, &[1; 32]),
        signed(hs256, &admin, b""),
        signed(hs256, &admin, &secret[..31]),
        signed(hs256, &admin, &[secret, secret].concat()),
        // Another's claims under a good signature, and cut ones.
        format!("{head}.{body}.{signature}"),
        format!("{head}.{body}."),
        format!("{head}.{body}"),
        good[..good.len() - 1].to_owned(),
        format!("{good}="),
        format!("{good}.{signature}"),
        format!("{good}.."),
        good.replace('.', ".."),
    ];
    for alg in ["none", "None", "NONE", "nOnE", "none ", "", "null", "HS256\u{0}", "hs256"] {
        let header = json!({"alg": alg, "typ": "JWT"}).to_string();
        tokens.push(unsigned(&header, &admin));
        tokens.push(signed(&header, &admin, b""));
        tokens.push(signed(&header, &admin, secret));
    }
    for header in [
        // The secret is good, and for another algorithm.
        r#"{"alg":"RS256","typ":"JWT"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"HS384"}"#,
        r#"{"alg":"dir","enc":"A256GCM"}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":{"HS256":1}}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"["HS256"]"#,
        "",
        "HS256",
    ] {
        tokens.push(signed(header, &admin, secret));
        tokens.push(unsigned(header, &admin));
    }
    for algorithm in [(hmac::HMAC_SHA384, "HS384"), (hmac::HMAC_SHA512, "HS512")] {
        let header = json!({"alg": algorithm.1}).to_string();
        tokens.push(jwt::with_hmac(algorithm.0, &header, &admin.to_string(), secret));
    }
    // A key that the token brings along, or names.
    let own = jwt::base64([1; 32]);
    for (name, value) in [
        ("kid", json!("../../../../../../dev/null")),
        ("kid", json!("/proc/sys/kernel/randomize_va_space")),
        ("kid", json!("x' UNION SELECT 'AAAA")),
        ("kid", json!("| cat /etc/passwd")),
        ("jku", json!("http://127.0.0.1:9/keys")),
        ("x5u", json!("http://127.0.0.1:9/keys")),
        ("jwk", json!({"kty": "oct", "k": own})),
    ] {
        let mut header = json!({"alg": "HS256"});
        header[name] = value;
        for secret in [&b""[..], b"\n", b"AAAA", &[1; 32]] {
            tokens.push(signed(&header.to_string(), &admin, secret));
        }
    }
    tokens
}

/// Tokens that are signed as they should be, and say what nobody is.
pub(crate) fn odd() -> Vec<(String, Answer)> {
    use Answer::{Expired, Forbidden, Unauthenticated};
    let mut tokens = vec![
        (with("exp", now() - 3600), Expired),
        (with("exp", 0), Expired),
        (with("nbf", now() + 3600), Unauthenticated),
        (with("nbf", "x"), Unauthenticated),
        (with("aud", "another"), Unauthenticated),
        (without("exp"), Unauthenticated),
        (without("sub"), Unauthenticated),
        (with("sub", ""), Unauthenticated),
        (with("sub", 42), Unauthenticated),
        (with("sub", Value::Null), Unauthenticated),
        (with("sub", json!(["ann"])), Unauthenticated),
        (with("sub", "x".repeat(257)), Unauthenticated),
        (without("roles"), Unauthenticated),
        (with("roles", json!([])), Forbidden),
        (with("roles", json!(["guest"])), Forbidden),
        (with("roles", json!(["Admin", "ADMIN", "admin ", " admin", "admin\u{0}"])), Forbidden),
        (with("roles", json!({"admin": true})), Unauthenticated),
        (with("roles", json!([1])), Unauthenticated),
        (with("roles", json!([["admin"]])), Unauthenticated),
        (with("roles", json!(true)), Unauthenticated),
        (with("roles", json!(vec!["admin"; 17])), Unauthenticated),
    ];
    for exp in [json!("soon"), json!(-1), Value::Null, json!(1e300), json!([LATER]), json!(true)] {
        tokens.push((with("exp", exp), Unauthenticated));
    }
    // A claim twice: who reads the first and who reads the last would disagree.
    let twice = format!(r#"{{"sub":"eve","sub":"root","roles":["user"],"exp":{LATER}}}"#);
    let header = r#"{"alg":"HS256"}"#;
    let sign = |claims: &str| jwt::with_hmac(hmac::HMAC_SHA256, header, claims, SECRET.as_bytes());
    tokens.push((sign(&twice), Unauthenticated));
    tokens.push((sign("[]"), Unauthenticated));
    tokens.push((sign(""), Unauthenticated));
    tokens.push((sign(&"[".repeat(3000)), Unauthenticated));
    tokens
}

/// What is no token at all, and may stand in a header.
pub(crate) fn nonsense() -> Vec<String> {
    let mut tokens: Vec<String> =
        ["nonsense", "..", ".", "a.b.c", "a.b.c.d.e", "eyJ.eyJ.", "null", "undefined"]
            .map(str::to_owned)
            .to_vec();
    tokens.push("x".repeat(8000));
    tokens.push(".".repeat(8000));
    tokens.push(with("x", "x".repeat(8 * 1024)));
    tokens
}
