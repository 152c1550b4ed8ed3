//! Who somebody says they are: tokens that nobody signed, or somebody else, or for another
//! use; tickets; what the address says.

use std::time::Duration;

use ring::hmac;
use serde_json::{Value, json};

use crate::bystander::{Bystander, PACE};
use crate::family::{attacked, withstands};
use crate::jwt::{self, LATER, Pair, base64, bearer, claims, hs256, now, signed, unsigned};
use crate::raw::{Closed, Raw, rooms_of, text};
use crate::support::Folder;
use crate::target::{SECRET, Target};

/// What a token is answered with: the close code and its name, and over REST.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Unauthenticated,
    Expired,
    Forbidden,
}

impl Answer {
    fn close(self) -> (u16, &'static str) {
        match self {
            Self::Unauthenticated => (4500, "unauthenticated"),
            Self::Expired => (4002, "token_expired"),
            Self::Forbidden => (4501, "forbidden"),
        }
    }

    fn rest(self) -> (u16, String) {
        match self {
            Self::Unauthenticated => (401, "unauthenticated".into()),
            Self::Expired => (401, "token_expired".into()),
            Self::Forbidden => (403, "forbidden".into()),
        }
    }
}

/// A claim changed, and the whole signed as it should be.
fn with(name: &str, value: impl Into<Value>) -> String {
    let mut claims = claims("eve@shop.example", "user");
    claims[name] = value.into();
    hs256(&claims)
}

fn without(name: &str) -> String {
    let mut claims = claims("eve@shop.example", "user");
    claims.as_object_mut().unwrap().remove(name);
    hs256(&claims)
}

/// Tokens of an admin that this server has not signed.
fn forged() -> Vec<String> {
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
fn odd() -> Vec<(String, Answer)> {
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
fn nonsense() -> Vec<String> {
    let mut tokens: Vec<String> =
        ["nonsense", "..", ".", "a.b.c", "a.b.c.d.e", "eyJ.eyJ.", "null", "undefined"]
            .map(str::to_owned)
            .to_vec();
    tokens.push("x".repeat(8000));
    tokens.push(".".repeat(8000));
    tokens.push(with("x", "x".repeat(8 * 1024)));
    tokens
}

/// Shows the token in every way there is, and checks that none lets it in.
async fn refuses(target: &Target, token: &str, answer: Answer) {
    let (code, name) = answer.close();
    let closed = Closed::With(code, name.to_owned());
    let list = format!("Sec-WebSocket-Protocol: fanout.v1, bearer.{token}\r\n");
    for header in [bearer(token), list, format!("Cookie: token={token}\r\n")] {
        if header.contains("bearer.") && token.contains(['=', ' ']) {
            continue;
        }
        let mut raw = Raw::open(target.addr).await;
        assert_eq!(raw.upgrade("/ws", &header).await.status, 101, "{token}");
        assert_eq!(raw.closed().await, closed, "{token}");
        if header.starts_with("Sec-") {
            continue;
        }
        let response = Raw::open(target.addr).await.ask("GET /api/orders", &header, "").await;
        assert_eq!(response.code(), answer.rest(), "{token}");
        let mut raw = Raw::open(target.addr).await;
        raw.request("GET /events", &header).await;
        assert_eq!(raw.head().await.expect("an answer").status, 200, "{token}");
        let told = raw.stream_to_its_end().await;
        assert!(told.contains(&format!(r#"{{"code":{code},"name":"{name}""#)), "{token}: {told}");
    }
    refuses_in_a_frame(target, token, closed).await;
}

async fn refuses_in_a_frame(target: &Target, token: &str, closed: Closed) {
    let mut raw = Raw::open(target.addr).await;
    assert_eq!(raw.upgrade("/ws", "").await.status, 101);
    let frame = json!({"event": "auth", "id": 1, "data": {"token": token}});
    raw.send(text(&frame.to_string())).await;
    assert_eq!(raw.closed().await, closed, "{token}");
}

#[tokio::test]
async fn no_token_but_a_good_one_lets_anybody_in() {
    let mut shown: Vec<(String, Answer)> = odd();
    for token in forged().into_iter().chain(nonsense()) {
        shown.push((token, Answer::Unauthenticated));
    }
    // Whatever is logged, no token is.
    attacked(&["--log", "debug"], async |target: &Target| {
        for (token, answer) in &shown {
            refuses(target, token, *answer).await;
        }
        let huge = with("x", "x".repeat(40 * 1024));
        let unauthenticated = Closed::With(4500, "unauthenticated".into());
        refuses_in_a_frame(target, &huge, unauthenticated).await;
        let said = target.said();
        for (token, _) in &shown {
            // Of those that have one, the part that makes it worth something.
            let secret = token.rsplit('.').next().unwrap_or_default();
            assert!(secret.len() < 40 || !said.contains(secret), "{token} was logged");
        }
        let good = bearer(&jwt::of("eve@shop.example", "user"));
        assert_eq!(
            Raw::open(target.addr).await.ask("GET /api/orders", &good, "").await.status,
            200
        );
    })
    .await;
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let (folder, pair) = (Folder::new(), Pair::new(7));
    std::fs::create_dir_all(&folder.0).unwrap();
    let file = folder.0.join("key.pem");
    std::fs::write(&file, pair.pem()).unwrap();
    let flags =
        ["--auth", "jwt", "--jwt-algorithm", "eddsa", "--jwt-key-file", file.to_str().unwrap()];
    let target = Target::start(&flags).await;
    let sign = |subject: &str, role: &str| pair.sign(&claims(subject, role));
    let (user, admin) = (sign(crate::bystander::SUBJECT, "user"), sign("boss", "admin"));
    let bystander = Bystander::with_tokens(&target, &user, &admin, PACE).await;
    withstands(target, bystander, async |target: &Target| {
        let admin = claims("eve@shop.example", "admin");
        let pem = pair.pem();
        let secrets: [&[u8]; 5] = [
            pem.as_bytes(),
            pem.trim_end().as_bytes(),
            &pair.der(),
            pair.public(),
            SECRET.as_bytes(),
        ];
        for secret in secrets {
            for alg in ["HS256", "EdDSA", "ES256", "RS256"] {
                let token = signed(&json!({"alg": alg}).to_string(), &admin, secret);
                refuses(target, &token, Answer::Unauthenticated).await;
            }
        }
        refuses(target, &Pair::new(8).sign(&admin), Answer::Unauthenticated).await;
        refuses(target, &unsigned(r#"{"alg":"none"}"#, &admin), Answer::Unauthenticated).await;
    })
    .await;
}

#[tokio::test]
async fn what_the_address_says_counts_for_nothing() {
    attacked(&[], async |target: &Target| {
        let (eve, admin) =
            (jwt::of("eve@shop.example", "user"), jwt::of("root@shop.example", "admin"));
        let claim = "role=admin&roles=admin&userId=root@shop.example&sub=root";
        let header = bearer(&eve);
        let mut raw = Raw::open(target.addr).await;
        let spoofed = format!("{header}X-Role: admin\r\nX-User-Id: root@shop.example\r\n");
        assert_eq!(raw.upgrade(&format!("/ws?{claim}"), &spoofed).await.status, 101);
        let welcome = raw.text().await["data"].clone();
        assert_eq!(welcome["subject"], "eve@shop.example");
        assert_eq!(welcome["roles"], json!(["user"]));
        assert_eq!(rooms_of(&welcome), ["everyone", "user:eve@shop.example"]);
        // As the shop's client once did it. What is a token is refused wherever it is good.
        for way in ["token", "access_token", "bearer", "jwt", "TOKEN", "%74oken"] {
            let claim = format!("{way}={admin}&{claim}");
            for path in ["/api/stats", "/api/orders", "/events", "/ws", "/livez", "/nothing"] {
                let line = format!("GET {path}?{claim}");
                let response = Raw::open(target.addr).await.ask(&line, &header, "").await;
                assert_eq!(response.code(), (400, "bad_request".into()), "{line}");
                assert!(!response.text().contains(&admin), "{}", response.text());
            }
        }
        let line = format!("GET /api/stats?auth={admin}&t={admin}&{claim}");
        let response = Raw::open(target.addr).await.ask(&line, "", "").await;
        assert_eq!(response.code(), (401, "unauthenticated".into()));
        for line in ["GET /api/stats", "GET /api/stats?role=admin"] {
            let response = Raw::open(target.addr).await.ask(line, &spoofed, "").await;
            assert_eq!(response.code(), (403, "forbidden".into()), "{line}");
        }
        let mut events = Raw::open(target.addr).await;
        events.request(&format!("GET /events?{claim}"), "").await;
        assert_eq!(events.head().await.unwrap().status, 200);
        let told = events.stream_to_its_end().await;
        assert!(told.contains(r#""code":4500"#), "{told}");
        let mut raw = Raw::open(target.addr).await;
        assert_eq!(raw.upgrade(&format!("/ws?ticket={admin}"), "").await.status, 101);
        assert_eq!(raw.closed().await, Closed::With(4500, "unauthenticated".into()));
        let response = Raw::open(target.addr).await.ask(&format!("GET /ws/{admin}"), "", "").await;
        assert_eq!(response.code(), (404, "not_found".into()));
        // Nobody is anybody for it, and who says nothing within five seconds is nobody.
        let mut raw = Raw::open(target.addr).await;
        assert_eq!(raw.upgrade(&format!("/ws?{claim}"), "").await.status, 101);
        assert_eq!(raw.closed().await, Closed::With(4500, "unauthenticated".into()));
    })
    .await;
}

async fn ticket(target: &Target, token: &str) -> String {
    let header = bearer(token);
    let response = Raw::open(target.addr).await.ask("POST /api/ticket", &header, "").await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_ticket_opens_one_connection_here() {
    attacked(&["--log", "debug"], async |target: &Target| {
        let eve = jwt::of("eve@shop.example", "user");
        let refused = Closed::With(4500, "unauthenticated".into());
        let good = ticket(target, &eve).await;
        let path = format!("/ws?ticket={good}");
        // Twenty at once: one of them is let in.
        let mut open = Vec::new();
        for _ in 0..20 {
            let mut raw = Raw::open(target.addr).await;
            assert_eq!(raw.upgrade(&path, "").await.status, 101);
            open.push(raw);
        }
        let mut welcome = 0;
        for raw in &mut open {
            let frame = raw.frame().await.expect("a frame");
            welcome += u32::from(frame.opcode == 1);
        }
        assert_eq!(welcome, 1);
        let other = Target::start(&[]).await;
        let foreign = ticket(&other, &eve).await;
        for used in [&good, &foreign, &base64([7; 24]), &eve, &"x".repeat(24), &String::from("%00")]
        {
            let mut raw = Raw::open(target.addr).await;
            let path = format!("/ws?ticket={used}");
            assert_eq!(raw.upgrade(&path, "").await.status, 101);
            assert_eq!(raw.closed().await, refused, "{used}");
        }
        // It is nothing but a ticket, and for nothing but a connection.
        let unused = ticket(target, &eve).await;
        let response =
            Raw::open(target.addr).await.ask("GET /api/orders", &bearer(&unused), "").await;
        assert_eq!(response.code(), (401, "unauthenticated".into()));
        let line = format!("GET /api/orders?ticket={unused}");
        assert_eq!(Raw::open(target.addr).await.ask(&line, "", "").await.status, 401);
        let twice = format!("/ws?ticket={unused}&ticket={unused}");
        assert_eq!(Raw::open(target.addr).await.upgrade(&twice, "").await.status, 400);
        // A credential that is there and bad is not made up for by a ticket.
        let mut raw = Raw::open(target.addr).await;
        let path = format!("/ws?ticket={unused}");
        assert_eq!(raw.upgrade(&path, &bearer("nonsense")).await.status, 101);
        assert_eq!(raw.closed().await, refused);
        let said = target.said();
        for ticket in [good, foreign, unused] {
            assert!(!said.contains(&ticket), "a ticket was logged");
        }
        other.end().await;
    })
    .await;
}

async fn renews(raw: &mut Raw, token: &str) -> Value {
    let frame = json!({"event": "auth", "id": "renewal", "data": {"token": token}});
    raw.send(text(&frame.to_string())).await;
    let answer = raw.text().await;
    assert_eq!(answer["id"], "renewal", "{answer}");
    answer
}

#[tokio::test]
async fn a_renewal_is_no_way_to_become_another() {
    attacked(&["--expiry-grace-secs", "1", "--jwt-leeway-secs", "0"], async |target: &Target| {
        let eve = |seconds| {
            let mut claims = claims("eve@shop.example", "user");
            claims["exp"] = json!(now() + seconds);
            hs256(&claims)
        };
        let mut raw = Raw::open(target.addr).await;
        assert_eq!(raw.upgrade("/ws", &bearer(&eve(600))).await.status, 101);
        assert_eq!(raw.text().await["event"], "welcome");
        let bad = forged()
            .into_iter()
            .chain([
                jwt::of("ann@shop.example", "user"),
                jwt::of("root@shop.example", "admin"),
                with("exp", now() - 3600),
                with("nbf", now() + 3600),
                String::new(),
                "\u{0}".into(),
                "ü.ü.ü".into(),
            ])
            .collect::<Vec<_>>();
        for token in &bad {
            let answer = renews(&mut raw, token).await;
            assert_eq!(
                (&answer["event"], &answer["data"]["code"]),
                (&json!("error"), &json!("bad_token")),
                "{token}"
            );
        }
        // All of it has changed nothing.
        raw.send(text(r#"{"event":"subscribe","id":1,"data":{"room":"admin:dashboard"}}"#)).await;
        assert_eq!(raw.text().await["data"]["code"], "forbidden");

        // One is renewed, one is not: that one is closed, and only that one.
        let mut expires = Raw::open(target.addr).await;
        let mut renewed = Raw::open(target.addr).await;
        let soon = eve(2);
        for raw in [&mut expires, &mut renewed] {
            assert_eq!(raw.upgrade("/ws", &bearer(&soon)).await.status, 101);
            assert_eq!(raw.text().await["event"], "welcome");
        }
        let answer = renews(&mut renewed, &eve(600)).await;
        assert_eq!(answer["event"], "authenticated", "{answer}");
        assert_eq!(renews(&mut expires, &with("exp", now() - 60)).await["event"], "error");
        assert_eq!(expires.closed().await, Closed::With(4002, "token_expired".into()));
        let answer = renews(&mut renewed, &eve(600)).await;
        assert_eq!(answer["event"], "authenticated", "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_first_frame_that_does_not_come_is_not_waited_for() {
    attacked(&[], async |target: &Target| {
        let nobody = Closed::With(4500, "unauthenticated".into());
        let good = json!({"event": "auth", "data": {"token": jwt::of("eve@shop.example", "user")}});
        let good = text(&good.to_string());
        let mut silent = Vec::new();
        for _ in 0..100 {
            let mut raw = Raw::open(target.addr).await;
            assert_eq!(raw.upgrade("/ws", "").await.status, 101);
            silent.push(raw);
        }
        // Byte by byte: each is in time, the frame is not.
        let mut slow = silent.pop().unwrap();
        let mut sent = good.iter();
        while slow.send([*sent.next().expect("cut off before the end")]).await {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if slow.has_something() {
                break;
            }
        }
        assert_eq!(slow.closed().await, nobody);
        for mut raw in silent {
            assert_eq!(raw.closed().await, nobody);
        }
        // Anything but `auth` at first ends it at once.
        for first in [
            r#"{"event":"subscribe","data":{"room":"everyone"}}"#,
            r#"{"event":"auth"}"#,
            r#"{"event":"auth","data":{"token":7}}"#,
            r#"{"event":"auth","data":{"token":null}}"#,
            "[]",
            "",
        ] {
            let mut raw = Raw::open(target.addr).await;
            assert_eq!(raw.upgrade("/ws", "").await.status, 101);
            raw.send(text(first)).await;
            assert_eq!(raw.closed().await, nobody, "{first}");
        }
    })
    .await;
}
