//! What a client may do to its connection, and how many a subject may have, over real
//! sockets.

mod common;
#[path = "common/house.rs"]
mod house;

use std::time::{Duration, SystemTime};

use common::{token, within};
use fanout::{RequestRate, Revocation};
use house::{House, PING, Plan, TEXT, closed, end, frame, head, request, said, send, upgrade};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use ws_sink::Rate;

const SHORT: Duration = Duration::from_millis(150);

/// A WebSocket, past its welcome.
async fn welcomed(house: &House, subject: &str) -> TcpStream {
    let mut stream = house.ws(subject).await;
    assert_eq!(said(&mut stream).await["event"], "welcome");
    stream
}

/// Others go on as if nothing were.
async fn serves(house: &House, bystander: &mut TcpStream) {
    let subscribe = br#"{"event":"subscribe","id":1,"data":{"room":"game:1"}}"#;
    send(bystander, frame(TEXT, subscribe)).await;
    while said(bystander).await["event"] != "subscribed" {}
    house.connections(1).await;
}

/// A stream of events, past its head.
async fn events(house: &House, subject: &str) -> TcpStream {
    let mut stream = house.tcp().await;
    let bearer = format!("Bearer {}", token(subject, "user", 3600));
    send(&mut stream, request("/events", &[("authorization", &bearer)])).await;
    assert!(head(&mut stream).await.unwrap().starts_with("HTTP/1.1 200"));
    stream
}

/// Reads a stream of events until `what` has come.
async fn until(stream: &mut TcpStream, what: &str) -> String {
    let mut read = Vec::new();
    within(what, async {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&read).contains(what) {
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "{what} in {}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&buffer[..n]);
        }
    })
    .await;
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn a_subject_has_so_many_connections_of_either_kind() {
    let mut plan = Plan::default();
    plan.admission.connections_per_subject = 2;
    let house = plan.build().await;
    let ws = welcomed(&house, "ann").await;
    let mut sse = events(&house, "ann").await;
    until(&mut sse, "event: welcome").await;
    // Over both ways, and as the first frame says.
    let rate_limited = json!({"name": "rate_limited", "afterMs": 5000});
    assert_eq!(closed(&mut house.ws("ann").await).await, (4003, rate_limited.clone()));
    let mut late = house.tcp().await;
    assert_eq!(upgrade(&mut late, None, &[]).await.status, 101);
    let auth = json!({"event": "auth", "data": {"token": token("ann", "user", 3600)}});
    send(&mut late, frame(TEXT, auth.to_string().as_bytes())).await;
    assert_eq!(closed(&mut late).await, (4003, rate_limited));
    let refused = until(&mut events(&house, "ann").await, "afterMs").await;
    assert!(refused.contains("event: close\n") && refused.contains("\"code\":4003"), "{refused}");
    // Another is another, and a place that is given back is a place.
    let _bob = welcomed(&house, "bob").await;
    drop(ws);
    house.in_hub(2).await;
    let ws = welcomed(&house, "ann").await;
    drop(sse);
    house.in_hub(2).await;
    let mut sse = events(&house, "ann").await;
    until(&mut sse, "event: welcome").await;
    assert_eq!(closed(&mut house.ws("ann").await).await.0, 4003);
    drop(ws);
}

#[tokio::test]
async fn upgrades_come_at_their_rate() {
    let mut plan = Plan::default();
    plan.admission.upgrades_per_address = Rate::new(1, 3);
    let house = plan.build().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(house.ws("ann").await);
    }
    for path in ["/ws", "/events"] {
        let mut stream = house.tcp().await;
        let refused = if path == "/ws" {
            upgrade(&mut stream, Some("ann"), &[]).await
        } else {
            house.ask(path, &[]).await
        };
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{path}");
    }
    assert_eq!(house.ask("/hello", &[]).await.status, 200, "other requests are the application's");
    let mut other = house.tcp_from("127.0.0.2").await;
    assert_eq!(upgrade(&mut other, Some("ann"), &[]).await.status, 101);
}

#[tokio::test]
async fn a_flood_of_frames_ends_its_connection_alone() {
    let pings = || frame(PING, b"");
    let pongs = || frame(0x8a, b"");
    let texts = || frame(TEXT, br#"{"event":"subscribe","data":{"room":"game:1"}}"#);
    // A message in empty fragments, over and over.
    let fragments = || {
        let text = br#"{"event":"subscribe","data":{"room":"game:1"}}"#;
        [frame(0x01, b""), frame(0x00, b"").repeat(30), frame(0x80, text)].concat()
    };
    for (what, flood) in [
        ("pings", pings().repeat(501)),
        ("pongs", pongs().repeat(501)),
        ("texts", texts().repeat(501)),
        ("fragments", fragments().repeat(16)),
    ] {
        let mut plan = Plan::default();
        // So that a slow machine earns nothing meanwhile.
        plan.ws.frames = Rate::new(1, 500);
        plan.hub.requests = RequestRate { per_second: 1_000, burst: 1_000 };
        let house = plan.build().await;
        let mut flooding = welcomed(&house, "ann").await;
        let mut bystander = welcomed(&house, "bob").await;
        send(&mut flooding, flood).await;
        let (code, reason) = closed(&mut flooding).await;
        assert_eq!((code, &reason["afterMs"]), (4003, &json!(5000)), "{what}");
        drop(flooding);
        serves(&house, &mut bystander).await;
    }
}

#[tokio::test]
async fn pings_before_the_first_frame_are_bounded_as_well() {
    let mut plan = Plan::default();
    plan.ws.frames = Rate::new(1, 50);
    let house = plan.build().await;
    let mut stream = house.tcp().await;
    assert_eq!(upgrade(&mut stream, None, &[]).await.status, 101);
    send(&mut stream, frame(PING, &[b'x'; 125]).repeat(51)).await;
    assert_eq!(closed(&mut stream).await.0, 4003);
    drop(stream);
    // What was used before counts after.
    let mut stream = house.tcp().await;
    assert_eq!(upgrade(&mut stream, None, &[]).await.status, 101);
    send(&mut stream, frame(PING, b"").repeat(40)).await;
    let auth = json!({"event": "auth", "data": {"token": token("ann", "user", 3600)}});
    send(&mut stream, frame(TEXT, auth.to_string().as_bytes())).await;
    assert_eq!(said(&mut stream).await["event"], "welcome");
    send(&mut stream, frame(PING, b"").repeat(12)).await;
    assert_eq!(closed(&mut stream).await.0, 4003);
    house.in_hub(0).await;
}

#[tokio::test]
async fn a_first_frame_in_drips_is_out_of_time() {
    let mut plan = Plan::default();
    plan.ws.auth_timeout = SHORT;
    let house = plan.build().await;
    let mut stream = house.tcp().await;
    assert_eq!(upgrade(&mut stream, None, &[]).await.status, 101);
    let (mut read, mut write) = stream.into_split();
    let dripping = tokio::spawn(async move {
        let mut sent = 0;
        let bytes = frame(TEXT, &vec![b' '; 60_000]);
        for byte in bytes {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if write.write_all(&[byte]).await.is_err() {
                break;
            }
            sent += 1;
        }
        sent
    });
    let mut close = [0; 4];
    within("the close", read.read_exact(&mut close)).await.unwrap();
    assert_eq!(close[2..], 4500_u16.to_be_bytes());
    assert!(within("the end", dripping).await.unwrap() < 60_000);
    house.connections(0).await;
}

/// axum and tungstenite grow by 178 MiB in a second for a client that does this.
#[tokio::test]
async fn who_pings_and_never_reads_makes_the_server_queue_little() {
    const MOST: usize = 64 << 20;
    let mut plan = Plan::default();
    plan.ws.frames = Rate::new(u32::MAX, u32::MAX);
    plan.hub.write_timeout = Duration::from_secs(1);
    let house = plan.build().await;
    let mut bystander = welcomed(&house, "bob").await;
    let mut stream = welcomed(&house, "ann").await;
    let pings = frame(PING, &[b'x'; 125]).repeat(1_000);
    let mut sent = 0;
    // What is not answered is not read; the kernel holds it, and then the client waits, until
    // the server gives up on it.
    within("the end", async {
        while let Ok(n) = stream.write(&pings).await {
            sent += n;
            assert!(sent < MOST, "the server reads without end");
        }
    })
    .await;
    serves(&house, &mut bystander).await;
    house.in_hub(1).await;
}

#[tokio::test]
async fn a_message_in_drips_ends_its_connection() {
    let drips = |bytes: Vec<u8>| bytes.into_iter().map(|byte| vec![byte]).collect::<Vec<_>>();
    let frame_in_drips = drips(frame(TEXT, &[b' '; 5_000]));
    // Pings may stand between fragments, and end nothing.
    let mut fragment_and_pings = vec![frame(0x01, b"{")];
    fragment_and_pings.extend(std::iter::repeat_n(frame(PING, b""), 5_000));
    for (what, drips) in [("a frame", frame_in_drips), ("a fragment", fragment_and_pings)] {
        let mut plan = Plan::default();
        plan.ws.message_timeout = SHORT;
        let house = plan.build().await;
        let mut bystander = welcomed(&house, "bob").await;
        let (mut read, mut write) = welcomed(&house, "ann").await.into_split();
        let dripping = tokio::spawn(async move {
            let mut left = drips.len();
            for drip in drips {
                tokio::time::sleep(SHORT / 10).await;
                if write.write_all(&drip).await.is_err() {
                    break;
                }
                left -= 1;
            }
            left
        });
        let mut got = Vec::new();
        within("the close", read.read_to_end(&mut got)).await.unwrap_or_default();
        let going_away = [&[0x88, 0x17][..], &1001_u16.to_be_bytes()].concat();
        assert!(got.windows(4).any(|four| four == going_away), "{what}: {got:?}");
        assert!(within("the end", dripping).await.unwrap() > 0, "{what}");
        serves(&house, &mut bystander).await;
    }
}

#[tokio::test]
async fn a_message_that_is_left_incomplete_ends_its_connection() {
    let mut plan = Plan::default();
    plan.ws.message_timeout = SHORT;
    plan.hub.heartbeat = Duration::from_secs(1);
    let house = plan.build().await;
    // As silent as the other: silence alone would end both.
    let mut bystander = welcomed(&house, "bob").await;
    let mut stream = welcomed(&house, "ann").await;
    send(&mut stream, &frame(TEXT, b"{}")[..1]).await;
    assert_eq!(closed(&mut stream).await.0, 1001);
    drop(stream);
    serves(&house, &mut bystander).await;
}

#[tokio::test]
async fn messages_in_pieces_one_after_the_other_may_take_for_ever() {
    let mut plan = Plan::default();
    plan.ws.message_timeout = Duration::from_secs(1);
    plan.hub.requests = RequestRate { per_second: 1_000, burst: 1_000 };
    plan.ws.frames = Rate::new(1_000, 1_000);
    let house = plan.build().await;
    let mut stream = welcomed(&house, "ann").await;
    let whole = frame(TEXT, br#"{"event":"subscribe","id":1,"data":{"room":"game:1"}}"#);
    // Each part ends one message and begins the next: it is never without one.
    send(&mut stream, &whole[..30]).await;
    let part = [&whole[30..], &whole[..30]].concat();
    let start = tokio::time::Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        send(&mut stream, &part).await;
        assert_eq!(said(&mut stream).await["event"], "subscribed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    house.in_hub(1).await;
}

#[tokio::test]
async fn requests_come_at_their_rate_and_each_is_answered() {
    let mut plan = Plan::default();
    plan.hub.requests = RequestRate { per_second: 1, burst: 5 };
    let house = plan.build().await;
    let mut stream = welcomed(&house, "ann").await;
    for id in 0..5 {
        let subscribe = json!({"event": "subscribe", "id": id, "data": {"room": "game:1"}});
        send(&mut stream, frame(TEXT, subscribe.to_string().as_bytes())).await;
        assert_eq!(said(&mut stream).await["event"], "subscribed");
    }
    for (id, event) in ["subscribe", "unsubscribe", "auth", "say"].into_iter().enumerate() {
        let asked = json!({"event": event, "id": id, "data": {"room": "game:1"}});
        send(&mut stream, frame(TEXT, asked.to_string().as_bytes())).await;
        let answer = said(&mut stream).await;
        assert_eq!((&answer["event"], &answer["id"]), (&json!("error"), &json!(id)));
        assert_eq!(answer["data"]["code"], "rate_limited");
        let message = answer["data"]["message"].as_str().unwrap();
        assert!(message.starts_with("too many requests: try again in "), "{message}");
    }
    house.in_hub(1).await;
}

#[tokio::test]
async fn a_role_that_is_taken_away_is_told_over_both() {
    let house = Plan::default().build().await;
    let both = {
        let roles = ["user", "admin"].map(fanout::Role::new);
        let end = SystemTime::now() + Duration::from_secs(3600);
        let identity = fanout::Identity::new("ann", roles).with_expiry(Some(end));
        let tokens = ws_sink::auth::Hs256::new(common::SECRET).unwrap();
        format!("Bearer {}", tokens.sign(&identity, &serde_json::Map::new()).unwrap())
    };
    let bearer = [("authorization", &*both)];
    let (mut ws, mut sse) = (house.tcp().await, house.tcp().await);
    assert_eq!(upgrade(&mut ws, None, &bearer).await.status, 101);
    let welcome = said(&mut ws).await;
    assert!(welcome["data"]["rooms"].as_array().unwrap().contains(&json!("admin:dashboard")));
    send(&mut sse, request("/events", &bearer)).await;
    until(&mut sse, "event: welcome").await;
    let before = SystemTime::now() + Duration::from_secs(2);
    let revocation = |role: Option<&str>| match role {
        Some(role) => {
            Revocation::Role { subject: "ann".into(), role: fanout::Role::new(role), before }
        }
        None => Revocation::Subject { subject: "ann".into(), before },
    };
    house.hub.revoke(revocation(Some("admin"))).await;
    let left = json!({"event": "unsubscribed", "data": {"room": "admin:dashboard"}});
    assert_eq!(said(&mut ws).await, left);
    let now = said(&mut ws).await;
    assert_eq!((&now["event"], &now["data"]["roles"]), (&json!("authenticated"), &json!(["user"])));
    assert_eq!(now["data"]["rooms"], json!(["user:ann"]));
    let told = until(&mut sse, "event: authenticated").await;
    assert!(told.contains("event: unsubscribed\ndata: {\"event\":\"unsubscribed\""), "{told}");
    // All of it: nobody is let in again with what was issued.
    house.hub.revoke(revocation(None)).await;
    assert_eq!(closed(&mut ws).await, (4503, json!({"name": "revoked"})));
    assert!(until(&mut sse, "\"code\":4503").await.contains("event: close\n"));
    let mut again = house.tcp().await;
    assert_eq!(upgrade(&mut again, None, &bearer).await.status, 101);
    assert_eq!(closed(&mut again).await.0, 4503);
    end(&mut ws).await;
    house.in_hub(0).await;
}
