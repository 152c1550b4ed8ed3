//! Who may no longer, and who may say so.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::bystander::SUBJECT;
use crate::family::attacked;
use crate::in_band::renews;
use crate::jwt::{self, bearer, claims, hs256, now};
use crate::raw::{Closed, Raw, Response, rooms_of, text};
use crate::support::{apples, until};
use crate::target::Target;
use crate::tickets::ticket;

const JSON: &str = "Content-Type: application/json\r\n";

/// Somebody new: what was revoked of the one before is remembered.
fn somebody() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("eve{}@shop.example", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A token of the second after the next, which what is revoked now does not void: clocks may
/// be apart by as much.
fn newer(subject: &str, roles: &[&str]) -> String {
    let mut claims = claims(subject, "user");
    claims["roles"] = json!(roles);
    claims["iat"] = json!(now() + 2);
    hs256(&claims)
}

fn revoked() -> Closed {
    Closed::With(4503, "revoked".into())
}

async fn revokes(target: &Target, token: &str, body: &str) -> Response {
    let headers = format!("{JSON}{}", bearer(token));
    Raw::open(target.addr).await.ask("POST /api/revoke", &headers, body).await
}

/// As an admin; it is written, and says what.
async fn admin_revokes(target: &Target, what: Value) {
    let answer = revokes(target, &jwt::of("boss", "admin"), &what.to_string()).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let mut written = answer.json()["revoke"].clone();
    written.as_object_mut().unwrap().remove("before");
    assert_eq!(written, what);
}

async fn comes(target: &Target, token: &str) -> (Raw, Value) {
    let mut raw = Raw::open(target.addr).await;
    assert_eq!(raw.upgrade("/ws", &bearer(token)).await.status, 101);
    let welcome = raw.text().await;
    assert_eq!(welcome["event"], "welcome", "{welcome}");
    (raw, welcome["data"].clone())
}

/// How a WebSocket to this path ends, which is not let in.
async fn closed(target: &Target, path: &str, headers: &str) -> Closed {
    let mut raw = Raw::open(target.addr).await;
    assert_eq!(raw.upgrade(path, headers).await.status, 101);
    raw.closed().await
}

/// The same for a stream of events.
async fn ends(target: &Target, path: &str, headers: &str) -> String {
    let mut raw = Raw::open(target.addr).await;
    raw.request(&format!("GET {path}"), headers).await;
    assert_eq!(raw.head().await.expect("an answer").status, 200);
    raw.stream_to_its_end().await
}

#[tokio::test]
async fn what_was_revoked_lets_nobody_in() {
    attacked(&[], async |target: &Target| {
        let eve = somebody();
        let token = jwt::of(&eve, "user");
        let mut unsaid = claims(&eve, "user");
        unsaid.as_object_mut().unwrap().remove("iat");
        let unsaid = hs256(&unsaid);
        let header = bearer(&token);
        // All that she has: two connections, tickets, and one that has not said yet who it is.
        let (mut socket, welcome) = comes(target, &token).await;
        let cursor = welcome["cursor"].as_str().expect("a cursor").to_owned();
        let mut events = Raw::open(target.addr).await;
        events.request("GET /events", &header).await;
        assert_eq!(events.head().await.expect("an answer").status, 200);
        let mut silent = Raw::open(target.addr).await;
        assert_eq!(silent.upgrade("/ws", "").await.status, 101);
        let tickets = [ticket(target, &token).await, ticket(target, &token).await];

        admin_revokes(target, json!({"subject": eve})).await;
        assert_eq!(socket.closed().await, revoked());
        let told = events.stream_to_its_end().await;
        assert!(told.contains(r#"{"code":4503,"name":"revoked""#), "{told}");

        // By header, list, cookie and frame, from where she was, with and without a time.
        for token in [&token, &unsaid] {
            let header = bearer(token);
            let list = format!("Sec-WebSocket-Protocol: fanout.v1, bearer.{token}\r\n");
            for shown in [&header, &list, &format!("Cookie: token={token}\r\n")] {
                assert_eq!(closed(target, "/ws", shown).await, revoked(), "{shown}");
                let path = format!("/ws?cursor={cursor}");
                assert_eq!(closed(target, &path, shown).await, revoked(), "{shown}");
            }
            for path in ["/events".to_owned(), format!("/events?cursor={cursor}")] {
                let headers = format!("{header}Last-Event-ID: {cursor}\r\n");
                let told = ends(target, &path, &headers).await;
                assert!(told.contains(r#"{"code":4503,"name":"revoked""#), "{told}");
                assert!(!told.contains("welcome"), "{told}");
            }
            for line in ["GET /api/orders", "POST /api/orders", "POST /api/ticket"] {
                let headers = format!("{JSON}{header}");
                let body =
                    if line == "POST /api/orders" { apples().to_string() } else { String::new() };
                let answer = Raw::open(target.addr).await.ask(line, &headers, &body).await;
                assert_eq!(answer.code(), (401, "revoked".into()), "{line}");
            }
        }
        let frame = json!({"event": "auth", "id": 1, "data": {"token": token}});
        silent.send(text(&frame.to_string())).await;
        assert_eq!(silent.closed().await, revoked());
        // By tickets of before; which are used up.
        let [first, second] = tickets.map(|ticket| format!("?ticket={ticket}"));
        assert_eq!(closed(target, &format!("/ws{first}"), "").await, revoked());
        let told = ends(target, &format!("/events{second}"), "").await;
        assert!(told.contains(r#"{"code":4503,"name":"revoked""#), "{told}");
        for used in [first, second] {
            let unknown = Closed::With(4500, "unauthenticated".into());
            assert_eq!(closed(target, &format!("/ws{used}"), "").await, unknown);
        }

        // Who has logged in anew is in, and does not come to what was revoked by a renewal.
        let new = newer(&eve, &["user"]);
        let (mut socket, _) = comes(target, &new).await;
        for void in [&token, &unsaid] {
            let answer = renews(&mut socket, void).await;
            assert_eq!(answer["data"]["code"], "bad_token", "{answer}");
        }
        assert_eq!(renews(&mut socket, &new).await["event"], "authenticated");
    })
    .await;
}

#[tokio::test]
async fn a_role_or_a_connection_that_was_taken_is_gone_and_no_more() {
    attacked(&[], async |target: &Target| {
        let root = somebody();
        let mut both = claims(&root, "user");
        both["roles"] = json!(["user", "admin"]);
        let both = hs256(&both);
        let stats = async |token: &str| {
            Raw::open(target.addr).await.ask("GET /api/stats", &bearer(token), "").await.status
        };
        let (mut socket, welcome) = comes(target, &both).await;
        assert!(rooms_of(&welcome).contains(&"admin:dashboard"), "{welcome}");
        assert_eq!(stats(&both).await, 200);
        admin_revokes(target, json!({"subject": root, "role": "admin"})).await;
        until("it is applied", || async { (stats(&both).await == 403).then_some(()) }).await;
        // The one that was there has left, and cannot come back by asking, renewing or anew.
        let subscribe = text(r#"{"event":"subscribe","id":1,"data":{"room":"admin:dashboard"}}"#);
        let answered = async |socket: &mut Raw| {
            socket.send(&subscribe).await;
            loop {
                let answer = socket.text().await;
                if answer["id"] == 1 {
                    return answer["data"]["code"].clone();
                }
            }
        };
        assert_eq!(answered(&mut socket).await, "forbidden");
        let own = format!("user:{root}");
        let (mut anew, welcome) = comes(target, &both).await;
        assert_eq!(rooms_of(&welcome), ["everyone", &own]);
        assert_eq!(welcome["roles"], json!(["user"]));
        let answer = renews(&mut anew, &both).await;
        assert_eq!(rooms_of(&answer["data"]), ["everyone", &own], "{answer}");
        assert_eq!(answered(&mut anew).await, "forbidden");
        // An admin no longer is one for revoking, either.
        let answer = revokes(target, &both, &json!({"subject": SUBJECT}).to_string()).await;
        assert_eq!(answer.code(), (403, "forbidden".into()));

        let (mut other, welcome) = comes(target, &both).await;
        admin_revokes(target, json!({"connection": welcome["connection"]})).await;
        assert_eq!(other.closed().await, revoked());
        assert_eq!(answered(&mut anew).await, "forbidden", "the others of hers stay");
        comes(target, &both).await;
    })
    .await;
}

#[tokio::test]
async fn nobody_but_an_admin_revokes_anybody() {
    attacked(&[], async |target: &Target| {
        let eve = somebody();
        let user = jwt::of(&eve, "user");
        let (socket, welcome) = comes(target, &user).await;
        let gone = somebody();
        let old_admin = jwt::of(&gone, "admin");
        admin_revokes(target, json!({"subject": gone})).await;
        until("it is applied", || async {
            (revokes(target, &old_admin, "{}").await.status == 401).then_some(())
        })
        .await;
        let counted = target.count("fanout_revocations_total").await;
        let spare = ticket(target, &jwt::of("boss", "admin")).await;
        let forged = jwt::signed(r#"{"alg":"HS256"}"#, &claims("boss", "admin"), &[1; 32]);
        for (token, refusal) in [
            (&user, (403, "forbidden")),
            (&jwt::of("sam", "support"), (403, "forbidden")),
            (&jwt::of("boss", "guest"), (403, "forbidden")),
            (&old_admin, (401, "revoked")),
            (&forged, (401, "unauthenticated")),
            (&spare, (401, "unauthenticated")),
            (&String::new(), (401, "unauthenticated")),
        ] {
            for body in [
                json!({"subject": SUBJECT}),
                json!({"subject": "boss"}),
                json!({"subject": "boss", "role": "admin"}),
                json!({"subject": eve}),
                json!({"connection": welcome["connection"]}),
                // What is wrong with it is for admins.
                json!({"subject": 7}),
            ] {
                let answer = revokes(target, token, &body.to_string()).await;
                assert_eq!(answer.code(), (refusal.0, refusal.1.into()), "{body}");
            }
        }
        // Nor is it a frame.
        let (mut socket, body) = (socket, json!({"revoke": {"subject": SUBJECT}}));
        for event in ["revoke", "control", "admin:revoke"] {
            let frame =
                json!({"event": event, "id": event, "data": {"subject": SUBJECT}, "revoke": body});
            socket.send(text(&frame.to_string())).await;
            assert_eq!(socket.text().await["data"]["code"], "bad_frame");
            // A good one in between, or the third would end it.
            assert_eq!(renews(&mut socket, &user).await["event"], "authenticated");
        }
        assert_eq!(target.count("fanout_revocations_total").await, counted);
    })
    .await;
}

#[tokio::test]
async fn a_revocation_that_is_none_revokes_nothing() {
    attacked(&[], async |target: &Target| {
        let admin = jwt::of("boss", "admin");
        let counted = target.count("fanout_revocations_total").await;
        let (bad, large) = ((400, "bad_request"), (413, "too_large"));
        for (body, refusal) in [
            (String::new(), bad),
            ("null".into(), bad),
            ("[]".into(), bad),
            (r#"["eve"]"#.into(), bad),
            (r#""eve""#.into(), bad),
            ("{".into(), bad),
            (r#"{"subject":"eve"} x"#.into(), bad),
            (json!({"subject": ""}).to_string(), bad),
            (json!({"subject": null}).to_string(), bad),
            (json!({"subject": 7}).to_string(), bad),
            (json!({"subject": true}).to_string(), bad),
            (json!({"subject": ["eve"]}).to_string(), bad),
            (json!({"subject": {"like": "%"}}).to_string(), bad),
            (r#"{"subject":"\ud800"}"#.into(), bad),
            (json!({"subject": "x".repeat(257)}).to_string(), bad),
            (json!({"subject": "x".repeat(60_000)}).to_string(), bad),
            (json!({"subject": "x".repeat(70_000)}).to_string(), large),
            (format!("{}{}", r#"{"subject":"#, "[".repeat(60_000)), bad),
            (json!({"role": "admin"}).to_string(), bad),
            (json!({"subject": "eve", "role": ""}).to_string(), bad),
            (json!({"subject": "eve", "role": ["admin"]}).to_string(), bad),
            (json!({"subject": "eve", "role": "x".repeat(101)}).to_string(), bad),
            (json!({"subject": "eve", "connection": "1-1-1-1"}).to_string(), bad),
            (json!({"connection": "*"}).to_string(), bad),
            (json!({"connection": ""}).to_string(), bad),
            (json!({"connection": 1}).to_string(), bad),
            (json!({"connection": "9".repeat(99)}).to_string(), bad),
            // When is not for anybody to say, and a field too many is none.
            (json!({"subject": "eve", "before": 32_503_680_000_u64}).to_string(), bad),
            (json!({"subject": "eve", "before": -1}).to_string(), bad),
            (json!({"subject": "eve", "before": u64::MAX}).to_string(), bad),
            (json!({"subject": "eve", "before": "now"}).to_string(), bad),
            (json!({"subject": "eve", "all": true}).to_string(), bad),
            (json!({"revoke": {"subject": "eve"}}).to_string(), bad),
        ] {
            let answer = revokes(target, &admin, &body).await;
            let start: String = body.chars().take(80).collect();
            assert_eq!(answer.code(), (refusal.0, refusal.1.into()), "{start}: {}", answer.text());
            assert!(answer.body.len() < 500, "{}", answer.text());
        }
        let plain = format!("Content-Type: text/plain\r\n{}", bearer(&admin));
        let mut raw = Raw::open(target.addr).await;
        let answer = raw.ask("POST /api/revoke", &plain, r#"{"subject":"eve"}"#).await;
        assert_eq!(answer.code(), (415, "unsupported_media_type".into()));
        assert_eq!(target.count("fanout_revocations_total").await, counted);
        // A pattern is a name like any other: it is nobody's, and no server is needed to know.
        for name in ["*", "%", "user:*", "bystander", "Bystander@shop.example", "boss "] {
            admin_revokes(target, json!({"subject": name})).await;
        }
        until("they are applied", || async {
            (target.count("fanout_revocations_total").await >= counted + 6).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_revocations_is_remembered_in_little() {
    const EACH: usize = 150;
    const ADMINS: usize = 20;
    attacked(&[], async |target: &Target| {
        // Somebody else who is there all along.
        let ann = jwt::of("ann@shop.example", "user");
        let (mut socket, _) = comes(target, &ann).await;
        let applied = target.count("fanout_revocations_total").await;
        let admin = bearer(&jwt::of("boss", "admin"));
        let flood = |of: usize| {
            let headers = format!("{JSON}{admin}");
            async move {
                let mut raw = Raw::open(target.addr).await;
                for at in 0..EACH {
                    let subject = format!("{of}:{at}:{}", "x".repeat(240));
                    let body = json!({"subject": subject}).to_string();
                    let answer = raw.ask("POST /api/revoke", &headers, &body).await;
                    assert_eq!(answer.status, 202, "{}", answer.text());
                }
            }
        };
        futures::future::join_all((0..ADMINS).map(flood)).await;
        let many = (EACH * ADMINS) as u64;
        until("all are applied", || async {
            (target.count("fanout_revocations_total").await >= applied + many).then_some(())
        })
        .await;
        // One entry for each subject, however often it is said.
        assert_eq!(target.count("fanout_revocations").await, many);
        assert_eq!(renews(&mut socket, &ann).await["event"], "authenticated");
    })
    .await;
}
