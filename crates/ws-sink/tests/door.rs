//! What strangers do at the door, over real sockets.

mod common;
#[path = "common/house.rs"]
mod house;

use std::time::Duration;

use common::within;
use house::{
    House, Plan, TEXT, answer, ask, closed, end, frame, head, request, said, send, upgrade,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use ws_sink::door::{ForwardedHeader, TrustedProxies};

const SHORT: Duration = Duration::from_millis(150);

async fn hurried() -> House {
    let mut plan = Plan::default();
    plan.door.header_timeout = SHORT;
    plan.door.body_timeout = SHORT;
    plan.door.write_timeout = SHORT;
    plan.build().await
}

#[tokio::test]
async fn half_open_requests_are_closed_in_time() {
    let house = hurried().await;
    let nothing = house.tcp().await;
    let mut part = house.tcp().await;
    send(&mut part, "GET /hello HTTP/1.1\r\nhost: house\r\n").await;
    let mut idle = house.tcp().await;
    assert_eq!(ask(&mut idle, "/hello", &[]).await.body, "hello");
    for mut stream in [nothing, part, idle] {
        end(&mut stream).await;
    }
    house.connections(0).await;
    assert_eq!(house.ask("/hello", &[]).await.status, 200);
}

#[tokio::test]
async fn headers_byte_by_byte_are_no_way_to_stay() {
    let house = hurried().await;
    let (mut read, mut write) = house.tcp().await.into_split();
    let dripping = tokio::spawn(async move {
        let mut sent = 0;
        send_all(&mut write, request("/hello", &[]).trim_end().as_bytes(), &mut sent).await;
        // A header without end.
        while sent < 1 << 20 && send_all(&mut write, b"\r\na: b", &mut sent).await {}
        sent
    });
    within("the end", async {
        let mut rest = Vec::new();
        let _ = read.read_to_end(&mut rest).await;
        assert_eq!(rest, b"", "no answer");
    })
    .await;
    assert!(within("the drip's end", dripping).await.unwrap() < 1 << 20);
    house.connections(0).await;
}

async fn send_all(
    stream: &mut tokio::net::tcp::OwnedWriteHalf,
    bytes: &[u8],
    sent: &mut usize,
) -> bool {
    for byte in bytes {
        // The drip: each byte in time, all of them never.
        tokio::time::sleep(Duration::from_millis(2)).await;
        if stream.write_all(&[*byte]).await.is_err() {
            return false;
        }
        *sent += 1;
    }
    true
}

#[tokio::test]
async fn header_bombs_are_refused() {
    let house = Plan::default().build().await;
    let many: Vec<_> = (0..64).map(|n| (format!("x-{n}"), "v".to_owned())).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(house.ask("/hello", &many).await.status, 431, "65 with `host`");
    assert_eq!(house.ask("/hello", &many[1..]).await.status, 200);
    let long = "x".repeat(40 * 1024);
    assert_eq!(house.ask("/hello", &[("cookie", &long)]).await.status, 431);
    assert_eq!(house.ask("/hello", &[("cookie", &long[..30 * 1024])]).await.status, 200);
    let several: Vec<_> = (0..5).map(|_| ("cookie", &long[..8 * 1024])).collect();
    assert_eq!(house.ask("/hello", &several).await.status, 431, "together");
    house.connections(0).await;
}

#[tokio::test]
async fn a_long_address_is_refused() {
    let house = Plan::default().build().await;
    let path = |len: usize| format!("/hello?{}", "x".repeat(len - "/hello?".len()));
    assert_eq!(house.ask(&path(16 * 1024), &[]).await.status, 200);
    let refused = house.ask(&path(16 * 1024 + 1), &[]).await;
    assert_eq!(refused.status, 414);
    assert!(refused.body.contains("16384 bytes"), "{refused:?}");
    assert_eq!(refused.header("connection"), Some("close"));
    house.connections(0).await;
}

#[tokio::test]
async fn a_flood_from_one_address_leaves_room_for_others() {
    let mut plan = Plan::default();
    plan.admission.connections_per_address = 3;
    let house = plan.build().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = house.tcp().await;
        assert_eq!(ask(&mut stream, "/hello", &[]).await.status, 200);
        held.push(stream);
    }
    for _ in 0..100 {
        let refused = house.ask("/hello", &[]).await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("5")));
        assert!(refused.body.contains("close some"), "{refused:?}");
    }
    let mut other = house.tcp_from("127.0.0.2").await;
    assert_eq!(ask(&mut other, "/hello", &[]).await.status, 200);
    held.pop();
    house.connections(3).await;
    assert_eq!(house.ask("/hello", &[]).await.status, 200);
}

#[tokio::test]
async fn a_full_house_says_so() {
    let mut plan = Plan::default();
    plan.admission.connections = 2;
    plan.door.refusals = 1;
    let house = plan.build().await;
    let (mut a, mut b) = (house.tcp().await, house.tcp_from("127.0.0.2").await);
    for stream in [&mut a, &mut b] {
        assert_eq!(ask(stream, "/hello", &[]).await.status, 200);
    }
    let mut refused = house.tcp_from("127.0.0.3").await;
    let said = answer(&mut refused).await;
    assert_eq!((said.status, said.header("retry-after")), (503, Some("5")));
    // Somebody is being told: the next is dropped without a word.
    let mut dropped = house.tcp_from("127.0.0.4").await;
    assert_eq!(head(&mut dropped).await, None);
    // He who was told is not waited for longer than a moment.
    end(&mut refused).await;
    drop(a);
    house.connections(1).await;
    assert_eq!(house.ask("/hello", &[]).await.status, 200);
}

fn proxied() -> Plan {
    let mut plan = Plan::default();
    plan.admission.connections_per_address = 2;
    plan.door.trusted_proxies = TrustedProxies::new(["127.0.0.1"]).unwrap();
    plan
}

#[tokio::test]
async fn a_trusted_proxy_says_for_whom_it_asks() {
    let house = proxied().build().await;
    let xff = |value| [("x-forwarded-for", value)];
    for (said, who) in [
        ("192.0.2.1", "192.0.2.1"),
        ("1.1.1.1, 192.0.2.1, 127.0.0.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("nonsense", "127.0.0.1"),
        ("192.0.2.1, unknown", "127.0.0.1"),
    ] {
        assert_eq!(house.ask("/who", &xff(said)).await.body, who, "{said}");
    }
    // The header that is not configured is the client's own.
    let both = [("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "192.0.2.1")];
    assert_eq!(house.ask("/who", &both).await.body, "192.0.2.1");
    assert_eq!(house.ask("/who", &both[..1]).await.body, "127.0.0.1");
    // Who is no proxy is not believed.
    let mut stranger = house.tcp_from("127.0.0.2").await;
    assert_eq!(ask(&mut stranger, "/who", &xff("192.0.2.1")).await.body, "127.0.0.2");

    let mut plan = proxied();
    let proxies = plan.door.trusted_proxies.clone();
    plan.door.trusted_proxies = proxies.with_header(ForwardedHeader::Forwarded);
    assert_eq!(plan.build().await.ask("/who", &both).await.body, "1.1.1.1");
}

#[tokio::test]
async fn clients_behind_a_proxy_are_counted_by_their_own_address() {
    let house = proxied().build().await;
    let ann = [("x-forwarded-for", "192.0.2.1")];
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let mut stream = house.tcp().await;
        assert_eq!(upgrade(&mut stream, Some("ann"), &ann).await.status, 101);
        sockets.push(stream);
    }
    house.in_hub(2).await;
    let mut one = house.tcp().await;
    let refused = upgrade(&mut one, Some("ann"), &ann).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("5")));
    // The proxy's own connections are not counted by address, and neither are others'.
    let mut many = Vec::new();
    for n in 1..20 {
        let mut stream = house.tcp().await;
        let header = [("x-forwarded-for", &*format!("198.51.100.{n}"))];
        assert_eq!(ask(&mut stream, "/hello", &header).await.status, 200);
        many.push(stream);
    }
    // A spoofed header of a stranger takes nobody's place.
    for _ in 0..5 {
        let mut stranger = house.tcp_from("127.0.0.2").await;
        assert_eq!(ask(&mut stranger, "/hello", &ann).await.status, 200);
    }
    drop(sockets.pop());
    house.in_hub(1).await;
    within("the place", async { while house.ask("/hello", &ann).await.status != 200 {} }).await;
}

#[tokio::test]
async fn a_place_is_given_back_however_a_connection_ends() {
    let mut plan = Plan::default();
    plan.ws.auth_timeout = SHORT;
    let house = plan.build().await;
    let counted = async |n| {
        house.connections(n).await;
        house.in_hub(n).await;
    };
    // Closed by either side, after the upgrade.
    let mut stream = house.ws("ann").await;
    counted(1).await;
    send(&mut stream, frame(0x88, &1000_u16.to_be_bytes())).await;
    assert_eq!(closed(&mut stream).await.0, 1000);
    counted(0).await;
    let stream = house.ws("ann").await;
    counted(1).await;
    drop(stream);
    counted(0).await;
    // Not authenticated: with a bad token, in time, and by silence.
    let mut stream = house.tcp().await;
    let bad = [("authorization", "Bearer x.y.z")];
    assert_eq!(upgrade(&mut stream, None, &bad).await.status, 101);
    assert_eq!(closed(&mut stream).await.0, 4500);
    drop(stream);
    counted(0).await;
    let mut stream = house.tcp().await;
    assert_eq!(upgrade(&mut stream, None, &[]).await.status, 101);
    assert_eq!(closed(&mut stream).await.0, 4500);
    end(&mut stream).await;
    counted(0).await;
    // Gone in the middle of the upgrade.
    for _ in 0..20 {
        let mut stream = house.tcp().await;
        let upgrade = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13";
        let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
        send(&mut stream, format!("GET /ws HTTP/1.1\r\nhost: house\r\n{upgrade}\r\n{key}\r\n\r\n"))
            .await;
    }
    counted(0).await;
    // Refused before it.
    let foreign = [("origin", "https://evil.example")];
    let mut stream = house.tcp().await;
    assert_eq!(upgrade(&mut stream, Some("ann"), &foreign).await.status, 403);
    drop(stream);
    counted(0).await;
    // Streams of events: let in, and not.
    let bearer = format!("Bearer {}", common::token("ann", "user", 3600));
    let mut stream = house.tcp().await;
    send(&mut stream, request("/events", &[("authorization", &bearer)])).await;
    assert!(head(&mut stream).await.unwrap().starts_with("HTTP/1.1 200"));
    counted(1).await;
    drop(stream);
    counted(0).await;
    let mut stream = house.tcp().await;
    send(&mut stream, request("/events", &[])).await;
    assert!(head(&mut stream).await.unwrap().starts_with("HTTP/1.1 200"));
    drop(stream);
    counted(0).await;
    // The hub ends all.
    let (mut ws, mut sse) = (house.ws("ann").await, house.tcp().await);
    send(&mut sse, request("/events", &[("authorization", &bearer)])).await;
    counted(2).await;
    within("the drain", house.hub.drain(Duration::ZERO, common::DEADLINE)).await;
    assert_eq!(closed(&mut ws).await.0, 4000);
    end(&mut ws).await;
    drop((ws, sse));
    counted(0).await;
}

#[tokio::test]
async fn a_body_has_to_come_in_time() {
    let house = hurried().await;
    let post = |len| format!("POST /body HTTP/1.1\r\nhost: house\r\ncontent-length: {len}\r\n\r\n");
    let mut stream = house.tcp().await;
    send(&mut stream, post(5) + "12345").await;
    assert_eq!(answer(&mut stream).await.body, "5 bytes");
    send(&mut stream, post(5) + "123").await;
    assert_eq!(answer(&mut stream).await.body, "too late");
    end(&mut stream).await;
    house.connections(0).await;
}

#[tokio::test]
async fn who_does_not_read_his_answer_is_dropped() {
    let house = hurried().await;
    let mut stream = house.tcp().await;
    send(&mut stream, request("/large", &[])).await;
    house.connections(1).await;
    house.connections(0).await;
    // He has what the kernel took.
    let mut got = Vec::new();
    let _ = within("the rest", stream.read_to_end(&mut got)).await;
    assert!(got.len() < house::LARGE, "{} bytes", got.len());
}

#[tokio::test]
async fn requests_under_way_are_finished_before_it_stops() {
    let house = Plan::default().build().await;
    let (mut waiting, mut idle) = (house.tcp().await, house.tcp().await);
    assert_eq!(ask(&mut idle, "/hello", &[]).await.status, 200);
    let mut ws = house.ws("ann").await;
    assert_eq!(said(&mut ws).await["event"], "welcome");
    send(&mut waiting, request("/wait", &[])).await;
    within("the request", house.waiting.notified()).await;
    house.stop.notify_one();
    end(&mut idle).await;
    assert!(within("nobody at the door", refused(&house)).await);
    assert!(!house.serving.is_finished());
    house.go.notify_one();
    let answer = answer(&mut waiting).await;
    assert_eq!((answer.status, &*answer.body), (200, "waited"));
    within("the end of serving", house.serving).await.unwrap();
    // Those who were upgraded are the hub's.
    let subscribe = br#"{"event":"subscribe","id":1,"data":{"room":"game:1"}}"#;
    send(&mut ws, frame(TEXT, subscribe)).await;
    assert_eq!(said(&mut ws).await["event"], "subscribed");
}

async fn refused(house: &House) -> bool {
    while let Ok(stream) = TcpStream::connect(house.addr).await {
        drop(stream);
    }
    true
}

#[tokio::test]
async fn what_does_not_end_is_cut_off() {
    let mut plan = Plan::default();
    plan.door.shutdown_timeout = SHORT;
    let house = plan.build().await;
    let mut stream = house.tcp().await;
    send(&mut stream, request("/wait", &[])).await;
    within("the request", house.waiting.notified()).await;
    house.stop.notify_one();
    within("the end of serving", house.serving).await.unwrap();
    assert_eq!(head(&mut stream).await, None);
    assert_eq!(house.admission.connections(), 0);
}

#[tokio::test]
async fn what_is_no_http_is_told_so() {
    let house = Plan::default().build().await;
    let mut stream = house.tcp().await;
    send(&mut stream, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n").await;
    assert_eq!(answer(&mut stream).await.status, 400);
    end(&mut stream).await;
    house.connections(0).await;
}
