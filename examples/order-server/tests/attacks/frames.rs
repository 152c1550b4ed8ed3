//! Frames that are none, too many, or never read.

use std::time::Duration;

use serde_json::json;

use crate::family::attacked;
use crate::jwt::{self, bearer};
use crate::raw::{Closed, Raw, frame, text};
use crate::target::Target;

const EVE: &str = "eve@shop.example";

async fn comes(target: &Target) -> Raw {
    let mut raw = Raw::open(target.addr).await;
    assert_eq!(raw.upgrade("/ws", &bearer(&jwt::of(EVE, "user"))).await.status, 101);
    assert_eq!(raw.text().await["event"], "welcome");
    raw
}

fn with(code: u16, name: &str) -> Closed {
    Closed::With(code, name.to_owned())
}

/// A header alone, as it is written: first byte, length byte, and what extends it.
fn head(first: u8, length: u8, more: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | length], more, &[1, 2, 3, 4]].concat()
}

fn broken() -> Vec<(String, Vec<u8>, Closed)> {
    let protocol = || with(1002, "protocol_error");
    let (big, not_utf8) = (|| with(1009, "too_big"), || with(1007, "not_utf8"));
    let mut cases: Vec<(String, Vec<u8>, Closed)> = Vec::new();
    let mut case =
        |what: &str, bytes: Vec<u8>, closed| cases.push((what.to_owned(), bytes, closed));

    case("a text beyond the limit", frame(0x81, &vec![b'x'; 65_537]), big());
    case("a length of 4 GiB", head(0x81, 127, &(1_u64 << 32).to_be_bytes()), big());
    case("a length with the top bit", head(0x81, 127, &(1_u64 << 63).to_be_bytes()), big());
    case("a length of all bits", head(0x81, 127, &u64::MAX.to_be_bytes()), big());
    let halves = [frame(0x01, &vec![b'x'; 40_000]), frame(0x80, &vec![b'x'; 40_000])].concat();
    case("fragments beyond the limit together", halves, big());
    let pieces = |piece: &[u8], n| [frame(0x01, piece), frame(0x00, piece).repeat(n)].concat();
    case("fragments without end", pieces(b"x", 100), big());
    case("empty fragments without end", pieces(b"", 100), big());
    let pinged =
        [frame(0x01, b""), [frame(0x00, b""), frame(0x89, b"")].concat().repeat(100)].concat();
    case("empty fragments, and pings between", pinged, big());
    case("a long length where a short one does", head(0x81, 126, &5_u16.to_be_bytes()), protocol());
    case("a longer one", head(0x81, 127, &5_u64.to_be_bytes()), protocol());
    case("a longer one where 16 bits do", head(0x81, 127, &500_u64.to_be_bytes()), protocol());
    case("not masked", vec![0x81, 2, b'{', b'}'], protocol());
    case("a ping that is not masked", vec![0x89, 0], protocol());
    for bit in [0x40, 0x20, 0x10, 0x70] {
        case(&format!("reserved bits {bit:#x}"), frame(0x81 | bit, b"{}"), protocol());
        case(&format!("reserved bits {bit:#x} of a ping"), frame(0x89 | bit, b""), protocol());
    }
    for opcode in (3..8).chain(11..16) {
        case(&format!("opcode {opcode}"), frame(0x80 | opcode, b""), protocol());
    }
    case("binary", frame(0x82, b"{}"), with(1003, "unsupported"));
    case("binary in fragments", frame(0x02, b"{"), with(1003, "unsupported"));
    case("a continuation of nothing", frame(0x80, b"{}"), protocol());
    let two = [frame(0x01, b"{"), frame(0x81, b"}")].concat();
    case("a text within another", two, protocol());
    for opcode in [8, 9, 10] {
        case(&format!("control {opcode} in fragments"), frame(opcode, b""), protocol());
        case(&format!("control {opcode} too long"), frame(0x80 | opcode, &[0; 126]), protocol());
        let long = head(0x80 | opcode, 127, &u64::MAX.to_be_bytes());
        case(&format!("control {opcode} of all bits"), long, protocol());
    }
    let texts: [&[u8]; 9] = [
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\x80",
        b"{\"event\":\"\xc3\"}",
        b"\xe2\x82",
        b"ok \xf0\x9f\x98",
    ];
    for bytes in texts {
        case(&format!("not UTF-8: {bytes:?}"), frame(0x81, bytes), not_utf8());
        let mut split = frame(0x01, b"");
        for (at, byte) in bytes.iter().enumerate() {
            split.extend(frame(if at + 1 == bytes.len() { 0x80 } else { 0x00 }, &[*byte]));
        }
        case(&format!("not UTF-8, split: {bytes:?}"), split, not_utf8());
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        case(&format!("close with {code}"), frame(0x88, &code.to_be_bytes()), protocol());
    }
    case("close with half a code", frame(0x88, &[3]), protocol());
    case("close for a reason that is not UTF-8", frame(0x88, b"\x03\xe8\xff"), not_utf8());
    for code in [1000, 1001, 1002, 3000, 3999, 4000, 4999_u16] {
        let close = frame(0x88, &code.to_be_bytes());
        case(&format!("close with {code}"), close.clone(), with(code, ""));
        let more = [close, text("[]").repeat(10), vec![0xff; 100]].concat();
        case(&format!("close with {code}, and more behind it"), more, with(code, ""));
    }
    case("close with nothing", frame(0x88, b""), Closed::Bare);
    case("three texts that are no requests", text("[]").repeat(3), with(4502, "protocol"));
    let deep =
        format!(r#"{{"event":"dance","data":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    case("three that are deep", text(&deep).repeat(3), with(4502, "protocol"));
    cases
}

#[tokio::test]
async fn what_breaks_the_protocol_is_closed_with_the_code_for_it() {
    attacked(&[], async |target: &Target| {
        for (what, bytes, closed) in broken() {
            let mut raw = comes(target).await;
            raw.send(&bytes).await;
            assert_eq!(raw.closed().await, closed, "{what}");
            // Cut into bytes, it is the same.
            if bytes.len() < 200 {
                let mut raw = comes(target).await;
                for byte in &bytes {
                    raw.send([*byte]).await;
                }
                assert_eq!(raw.closed().await, closed, "{what}, byte by byte");
            }
            // And before anybody has said who it is.
            let mut raw = Raw::open(target.addr).await;
            assert_eq!(raw.upgrade("/ws", "").await.status, 101);
            raw.send(&bytes).await;
            let early = raw.closed().await;
            let expected = match closed {
                // What is whole and is no `auth`.
                Closed::With(4502, _) => vec![with(4500, "unauthenticated")],
                Closed::With(1000.., ref name) if name.is_empty() => {
                    vec![with(1000, "normal"), closed]
                }
                Closed::Bare => vec![with(1000, "normal"), closed],
                _ => vec![closed],
            };
            assert!(expected.contains(&early), "{what}, at first: {early:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_never_finished_holds_up_nobody() {
    attacked(&[], async |target: &Target| {
        let mut open = Vec::new();
        for at in 0..300 {
            let mut raw = comes(target).await;
            let bytes = match at % 4 {
                0 => head(0x81, 127, &65_536_u64.to_be_bytes()),
                1 => frame(0x01, &vec![b'x'; 30_000]),
                2 => vec![0x81],
                _ => frame(0x81, &vec![b'x'; 30_000])[..29_000].to_vec(),
            };
            raw.send(&bytes).await;
            open.push(raw);
        }
        // One that dribbles, and is answered when it is whole.
        let mut raw = open.pop().unwrap();
        let rest = &frame(0x81, &vec![b'x'; 30_000])[29_000..];
        for bytes in rest.chunks(100) {
            raw.send(bytes).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(raw.text().await["data"]["code"], "bad_frame");
    })
    .await;
}

#[tokio::test]
async fn a_message_is_not_waited_for_without_end() {
    attacked(&["--message-secs", "1"], async |target: &Target| {
        // Each always says a little more of it. Who says nothing meets the next heartbeat.
        for (begun, more) in [
            (frame(0x01, b"x"), frame(0x00, b"x")),
            (head(0x81, 127, &65_536_u64.to_be_bytes()), b"x".to_vec()),
        ] {
            let mut raw = comes(target).await;
            raw.send(&begun).await;
            raw.dribbles(&more).await;
            assert_eq!(raw.closed().await, with(1001, "going_away"));
        }
    })
    .await;
}

/// Floods of frames of each kind, beyond 50 a second.
pub(crate) async fn floods_of_frames(target: &Target) {
    let token = json!({"event": "auth", "data": {"token": jwt::of(EVE, "user")}}).to_string();
    let floods_of = [
        ("pings", frame(0x89, &[b'x'; 125])),
        ("pongs", frame(0x8a, b"")),
        ("subscribes", text(r#"{"event":"subscribe","data":{"room":"inventory:updates"}}"#)),
        ("renewals", text(&token)),
        ("leaving", text(r#"{"event":"unsubscribe","data":{"room":"inventory:updates"}}"#)),
    ];
    for (what, bytes) in floods_of {
        let mut raw = comes(target).await;
        assert_eq!(raw.floods(&bytes).await, with(4003, "rate_limited"), "{what}");
    }
    // Within the rate nobody is sent away.
    let mut raw = comes(target).await;
    for _ in 0..40 {
        raw.send(frame(0x89, b"x")).await;
        assert_eq!(raw.frame().await.map(|frame| frame.opcode), Some(10));
    }
}

#[tokio::test]
async fn who_says_too_much_is_sent_away() {
    attacked(&["--frames-per-second", "50"], floods_of_frames).await;
}

#[tokio::test]
async fn who_asks_too_much_is_told_so() {
    attacked(&["--requests-per-second", "5"], async |target: &Target| {
        let mut raw = comes(target).await;
        let asks = |id: u32| {
            let data = json!({"room": "inventory:updates"});
            text(&json!({"event": "subscribe", "id": id, "data": data}).to_string())
        };
        let flood: Vec<u8> = (0..1000).flat_map(asks).collect();
        raw.send(&flood).await;
        let (mut taken, mut refused) = (0, 0);
        for id in 0..1000 {
            let answer = raw.text().await;
            assert_eq!(answer["id"], id, "each is answered, in turn");
            match (answer["event"].as_str().unwrap(), answer["data"]["code"].as_str()) {
                ("subscribed", None) => taken += 1,
                ("error", Some("rate_limited")) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(taken >= 5 && refused > 500, "{taken} taken, {refused} refused");
        let token = json!({"event": "auth", "id": "a", "data": {"token": jwt::of(EVE, "user")}});
        raw.send(text(&token.to_string())).await;
        assert_eq!(raw.text().await["data"]["code"], "rate_limited");
    })
    .await;
}

/// Asks without end, and takes none of the answers.
pub(crate) async fn deaf_askers(target: &Target) {
    let before = target.usage().await.rss;
    // Each asks for answers as fast as the server reads, and takes none of them.
    let ping = frame(0x89, &[b'x'; 125]).repeat(100);
    let ask = text(r#"{"event":"subscribe","id":1,"data":{"room":"admin:dashboard"}}"#).repeat(100);
    let mut deaf = Vec::new();
    for at in 0..40 {
        let mut raw = Raw::open_narrow(target.addr).await;
        let header = bearer(&jwt::of(EVE, "user"));
        assert_eq!(raw.upgrade("/ws", &header).await.status, 101);
        deaf.push((raw, if at % 2 == 0 { &ping } else { &ask }, 0));
    }
    let mut idle = 0;
    while idle < 50 {
        let mut taken = false;
        for (raw, bytes, at) in &mut deaf {
            if let Some(sent) = raw.send_now(&bytes[*at..]) {
                *at = (*at + sent) % bytes.len();
                taken = true;
            }
        }
        idle = if taken { 0 } else { idle + 1 };
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let now = target.usage().await.rss;
    // 64 KiB of answers for each at most, and what is read of each: a few MiB together.
    assert!(now < before + 24 * 1024, "from {before} to {now} KiB");
}

#[tokio::test]
async fn who_never_reads_costs_no_memory() {
    attacked(&[], deaf_askers).await;
}

/// Reads nothing of what is much.
pub(crate) async fn slow_readers(target: &Target) {
    let slow = "slow@shop.example";
    let token = bearer(&jwt::of(slow, "user"));
    let mut deaf = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::open_narrow(target.addr).await;
        assert_eq!(raw.upgrade("/ws", &token).await.status, 101);
        deaf.push(raw);
    }
    let item = json!({"sku": "A", "name": "x".repeat(200), "quantity": 1, "unitPrice": 1});
    let order = json!({"items": vec![item; 100]}).to_string();
    let headers = format!("Content-Type: application/json\r\n{token}");
    let mut rest = Raw::open(target.addr).await;
    // More than a MiB, for longer than the grace of five seconds.
    let closed = async || target.metric("fanout_closed_total{reason=\"slow\"}").await;
    let (before, mut orders) = (closed().await, 0);
    while closed().await < before + 3.0 {
        assert!(orders < 600, "slow readers stay");
        if orders < 80 {
            let placed = rest.ask("POST /api/orders", &headers, &order).await;
            assert_eq!(placed.status, 201, "{}", placed.text());
        } else {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        orders += 1;
    }
    for mut raw in deaf {
        let closed = raw.closed().await;
        assert!([with(4001, "slow"), Closed::Cut].contains(&closed), "{closed:?}");
    }
}

#[tokio::test]
async fn a_slow_reader_is_told_to_come_back() {
    attacked(&["--log-mib", "8"], slow_readers).await;
}
