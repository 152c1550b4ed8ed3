//! Who somebody says they are: tokens that nobody signed, or somebody else, or for another
//! use; what the address says.

use serde_json::json;

use crate::bystander::{Bystander, PACE};
use crate::family::{attacked, withstands};
use crate::forged::{Answer, forged, nonsense, odd, with};
use crate::jwt::{self, Pair, bearer, claims, signed, unsigned};
use crate::raw::{Closed, Raw, rooms_of, text};
use crate::support::Folder;
use crate::target::{SECRET, Target};

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
