//! Requests that are none: too slow, too large, ambiguous, or not HTTP at all.

use std::time::Duration;

use serde_json::json;

use crate::family::attacked;
use crate::jwt::{self, bearer};
use crate::raw::Raw;
use crate::support::apples;
use crate::target::Target;

const EVE: &str = "eve@shop.example";

/// With a second for the headers, so that slow ones need not be waited for long.
const QUICK: [&str; 2] = ["--header-secs", "1"];

async fn alive(target: &Target) {
    assert_eq!(Raw::open(target.addr).await.ask("GET /livez", "", "").await.status, 200);
}

/// Half-open requests of all lengths, and one that always says a little more: all are cut off.
pub(crate) async fn never_say_all(target: &Target, count: usize) {
    let whole = format!("GET /livez HTTP/1.1\r\nHost: {}\r\nX: y\r\n", target.addr);
    let mut open = Vec::new();
    for at in 0..count {
        let mut raw = Raw::open(target.addr).await;
        raw.send(&whole[..at % whole.len()]).await;
        open.push(raw);
    }
    alive(target).await;
    let mut dribbling = Raw::open(target.addr).await;
    dribbling.send("GET /livez HTTP/1.1\r\n").await;
    dribbling.dribbles("X: y\r\n").await;
    for mut raw in open {
        let said = raw.rest().await;
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408 "), "{said:?}");
    }
    dribbling.rest().await;
}

#[tokio::test]
async fn who_says_nothing_or_too_slowly_is_cut_off() {
    attacked(&QUICK, async |target: &Target| {
        never_say_all(target, 1000).await;
        // The same after a request that was good.
        let mut second = Raw::open(target.addr).await;
        assert_eq!(second.ask("GET /livez", "", "").await.status, 200);
        second.send("GET /livez HTTP/1.1\r\nHost").await;
        let said = second.rest().await;
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408 "), "{said:?}");
    })
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    attacked(&[], async |target: &Target| {
        let header = format!("Content-Type: application/json\r\n{}", bearer(&jwt::of(EVE, "user")));
        let mut waiting = Vec::new();
        for at in 0..100 {
            let mut raw = Raw::open(target.addr).await;
            let body = ["Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"][at % 2];
            raw.request("POST /api/orders", &format!("{header}{body}")).await;
            raw.send([&b""[..], b"5\r\n{\"ite", b"{"][at % 3]).await;
            waiting.push(raw);
        }
        for mut raw in waiting {
            let answer = raw.response().await.expect("an answer");
            assert!([400, 408].contains(&answer.status), "{}", answer.text());
            raw.rest().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_its_size() {
    attacked(&[], async |target: &Target| {
        let good = format!("Content-Type: application/json\r\n{}", bearer(&jwt::of(EVE, "user")));
        // Heads: many, large, and one that never ends.
        let many = "X: y\r\n".repeat(1000);
        let large = format!("X: {}\r\n", "y".repeat(1 << 20));
        let cookies = format!("Cookie: {}\r\n", "a=b; ".repeat(200_000));
        for headers in [many, large, cookies] {
            let mut raw = Raw::open(target.addr).await;
            raw.request("GET /livez", &headers).await;
            let refused = raw.response().await;
            assert_eq!(refused.map(|refused| refused.status), Some(431));
            raw.rest().await;
        }
        let mut raw = Raw::open(target.addr).await;
        raw.send("GET /livez HTTP/1.1\r\n").await;
        let mut sent = 0_u64;
        while sent < 64 << 20
            && !raw.has_something()
            && raw.send("X: yyyyyyyy\r\n".repeat(1000)).await
        {
            sent += 13_000;
        }
        assert!(sent < 8 << 20, "{sent} bytes of headers were taken");
        raw.rest().await;
        // The address.
        for path in
            [format!("/{}", "a".repeat(1 << 20)), format!("/api/orders?{}", "a&".repeat(1 << 19))]
        {
            let mut raw = Raw::open(target.addr).await;
            raw.request(&format!("GET {path}"), "").await;
            let refused = raw.response().await.map(|refused| refused.status);
            assert!([Some(414), Some(431)].contains(&refused), "{refused:?}");
            raw.rest().await;
        }
        // Bodies: one that says so, one that does not, and chunks without end.
        for (length, status) in
            [("65537", 413), ("10737418240", 413), ("18446744073709551615", 431)]
        {
            let mut raw = Raw::open(target.addr).await;
            raw.request("POST /api/orders", &format!("{good}Content-Length: {length}\r\n")).await;
            let refused = raw.response().await.expect("an answer");
            assert_eq!(refused.status, status, "{length}: {}", refused.head);
        }
        let mut raw = Raw::open(target.addr).await;
        let body = "x".repeat(65_537);
        let refused = raw.ask("POST /api/orders", &good, &body).await;
        assert_eq!(refused.code(), (413, "too_large".into()));
        for chunk in [format!("10000\r\n{}\r\n", "x".repeat(65_536)), "1\r\nx\r\n".repeat(1000)] {
            let mut raw = Raw::open(target.addr).await;
            raw.request("POST /api/orders", &format!("{good}Transfer-Encoding: chunked\r\n")).await;
            let mut sent = 0;
            while sent < 1000 && !raw.has_something() && raw.send(&chunk).await {
                sent += 1;
            }
            assert!(sent < 1000, "chunks without end were taken");
            assert_eq!(raw.response().await.map(|refused| refused.status), Some(413));
        }
    })
    .await;
}

/// What comes back for these bytes, until the server ends it: the statuses.
async fn statuses(target: &Target, bytes: &[u8]) -> Vec<u16> {
    let mut raw = Raw::open(target.addr).await;
    raw.send(bytes).await;
    let mut statuses = Vec::new();
    while let Some(response) = raw.response().await {
        statuses.push(response.status);
    }
    statuses
}

#[tokio::test]
async fn what_may_be_read_in_two_ways_is_read_in_one() {
    attacked(&[], async |target: &Target| {
        let host = format!("Host: {}\r\n", target.addr);
        let token = bearer(&jwt::of(EVE, "user"));
        // Had anything been smuggled, a second answer would come.
        let hidden = "GET /api/stats HTTP/1.1\r\nHost: x\r\n\r\n";
        let post = format!("POST /api/orders HTTP/1.1\r\n{host}{token}");
        let chunked = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
        for (what, expected, request) in [
            ("two lengths", 400, format!("{post}Content-Length: 0\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len())),
            ("a list of lengths", 400, format!("{post}Content-Length: 0, {}\r\n\r\n{hidden}", hidden.len())),
            ("a signed length", 400, format!("{post}Content-Length: +0\r\n\r\n{hidden}")),
            ("a negative length", 400, format!("{post}Content-Length: -1\r\n\r\n{hidden}")),
            ("a length in hex", 400, format!("{post}Content-Length: 0x0\r\n\r\n{hidden}")),
            ("an empty length", 400, format!("{post}Content-Length: \r\n\r\n{hidden}")),
            // The chunks count, and the connection ends: RFC 9112, 6.1.
            ("a length and chunks", 415, format!("{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}{hidden}")),
            ("chunks and a length", 415, format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunked}{hidden}")),
            ("chunks that are not last", 400, format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n{chunked}")),
            ("another encoding", 400, format!("{post}Transfer-Encoding: xchunked\r\n\r\n{chunked}")),
            ("a folded encoding", 400, format!("{post}Transfer-Encoding:\r\n chunked\r\n\r\n{chunked}")),
            ("a space before the colon", 400, format!("{post}Transfer-Encoding : chunked\r\n\r\n{chunked}")),
            ("a folded header", 400, format!("{post}X: a\r\n Content-Length: 5\r\n\r\n{hidden}")),
            ("a space before a name", 400, format!("GET /livez HTTP/1.1\r\n Content-Length: 5\r\n{host}\r\n")),
            ("chunks in 1.0", 400, format!("POST /api/orders HTTP/1.0\r\n{token}Transfer-Encoding: chunked\r\n\r\n{chunked}")),
            ("a NUL", 400, format!("{post}X: a\0b\r\n\r\n")),
            ("a bare CR", 400, format!("{post}X: a\rContent-Length: 5\r\n\r\n")),
            ("no version", 400, "GET /livez\r\n\r\n".to_owned()),
            ("another version", 400, format!("GET /livez HTTP/3.0\r\n{host}\r\n")),
            ("no method", 400, format!(" /livez HTTP/1.1\r\n{host}\r\n")),
            ("garbage", 400, "\u{0}\u{1}\u{2}\u{3}\r\n\r\n".to_owned()),
            ("TLS", 400, "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\r\n\r\n".to_owned()),
            ("a chunk beyond any size", 400, format!("{post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n")),
            ("a chunk of no size", 400, format!("{post}Transfer-Encoding: chunked\r\n\r\n\r\n")),
            ("a chunk of a negative size", 400, format!("{post}Transfer-Encoding: chunked\r\n\r\n-1\r\n")),
            ("an extension without end", 400, format!("{post}Transfer-Encoding: chunked\r\n\r\n1;{}\r\n", "a".repeat(100_000))),
        ] {
            assert_eq!(statuses(target, request.as_bytes()).await, [expected], "{what}");
        }
        // HTTP/2 is not spoken here, and not waited for.
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let said = statuses(target, preface).await;
        assert!(said.is_empty() || said == [400], "{said:?}");
        // What comes behind a request is another one; what comes behind garbage is not read.
        let get = format!("GET /livez HTTP/1.1\r\n{host}\r\n");
        let last = format!("GET /livez HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        assert_eq!(statuses(target, format!("{get}{get}{last}{get}").as_bytes()).await, [200; 3]);
        assert_eq!(statuses(target, format!("{get}\0garbage\r\n\r\n{get}").as_bytes()).await, [200, 400]);
    })
    .await;
}

#[tokio::test]
async fn methods_and_floods_on_one_connection_are_answered_in_turn() {
    attacked(&[], async |target: &Target| {
        let mut raw = Raw::open(target.addr).await;
        for (line, expected) in [
            ("BREW /livez", 405),
            ("TRACE /livez", 405),
            ("DELETE /api/orders", 405),
            ("get /livez", 405),
            ("PROPFIND /", 405),
            ("POST /livez", 405),
            ("GET /nothing", 404),
            ("GET /..%2f..%2fetc%2fpasswd", 404),
            ("GET /../../etc/passwd", 404),
            ("GET /style.css%00.js", 404),
            ("OPTIONS *", 404),
        ] {
            let answer = raw.ask(line, "", "").await;
            assert_eq!(answer.status, expected, "{line}: {}", answer.text());
        }
        let mut tunnel = Raw::open(target.addr).await;
        tunnel.send("CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answer = tunnel.response().await.expect("an answer");
        assert!([400, 404, 405].contains(&answer.status), "{}", answer.head);

        // A thousand requests in one write, and the answers read at last.
        let get = format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", target.addr).repeat(1000);
        let mut flood = Raw::open(target.addr).await;
        assert!(flood.send(&get).await);
        for _ in 0..1000 {
            assert_eq!(flood.response().await.expect("an answer").status, 200);
        }
        // Who never reads is not read on: what the kernel holds is all that piles up.
        let mut deaf = Raw::open_narrow(target.addr).await;
        let mut taken = 0;
        let mut idle = 0;
        while taken < 64 << 20 && idle < 20 {
            if let Some(sent) = deaf.send_now(get.as_bytes()) {
                taken += sent;
                idle = 0;
            } else {
                idle += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        assert!(taken < 64 << 20, "{taken} bytes of requests were taken and not answered");
    })
    .await;
}

#[tokio::test]
async fn json_that_is_none_is_answered_by_what_is_wrong() {
    attacked(&[], async |target: &Target| {
        let header = format!("Content-Type: application/json\r\n{}", bearer(&jwt::of(EVE, "user")));
        let item = r#"{"sku":"A","name":"Apple","quantity":2,"unitPrice":19.99}"#;
        let with = |name: &str, value: &str| {
            let others =
                [("sku", r#""A""#), ("name", r#""Apple""#), ("quantity", "2"), ("unitPrice", "1")];
            let fields =
                others.map(|(n, v)| format!(r#""{n}":{}"#, if n == name { value } else { v }));
            format!(r#"{{"items":[{{{}}}]}}"#, fields.join(","))
        };
        let nested = |open: &str, close: &str| {
            format!(r#"{{"items":[{item}],"x":{}1{}}}"#, open.repeat(10_000), close.repeat(10_000))
        };
        let mut raw = Raw::open(target.addr).await;
        for body in [
            nested("[", "]"),
            nested(r#"{"a":"#, "}")[..60_000].to_owned(),
            "[".repeat(60_000),
            with("unitPrice", "NaN"),
            with("unitPrice", "Infinity"),
            with("unitPrice", "-Infinity"),
            with("unitPrice", "1e999"),
            with("unitPrice", "-0.01"),
            with("unitPrice", "0x10"),
            with("unitPrice", "01"),
            with("unitPrice", "1."),
            with("unitPrice", "184467440737095516160"),
            with("unitPrice", r#""1""#),
            with("quantity", "1e3"),
            with("quantity", "-1"),
            with("quantity", "18446744073709551616"),
            with("quantity", "true"),
            with("name", r#""\ud800""#),
            with("name", "\"a\u{1}b\""),
            with("name", r#""\u0000""#),
            with("name", "null"),
            format!(r#"{{"items":[{item}],"items":[]}}"#),
            format!(r#"{{"items":[{item}]}} x"#),
            format!("\u{feff}{{\"items\":[{item}]}}"),
            format!(r#"{{"items":[{}]}}"#, vec![item; 101].join(",")),
            "\u{0}".into(),
            "null".into(),
            "[]".into(),
        ] {
            let answer = raw.ask("POST /api/orders", &header, &body).await;
            let start: String = body.chars().take(80).collect();
            assert_eq!(answer.code(), (400, "bad_request".into()), "{start}: {}", answer.text());
            assert!(answer.body.len() < 500, "{}", answer.text());
        }
        // Texts that are one are kept as they are, and none is HTML anywhere.
        let mut order = apples();
        order["items"][0]["name"] = json!("<script>alert(1)</script>");
        let placed = raw.ask("POST /api/orders", &header, &order.to_string()).await;
        assert_eq!(placed.status, 201, "{}", placed.text());
        assert_eq!(placed.header("content-type"), "application/json");
        assert_eq!(placed.json()["items"][0]["name"], "<script>alert(1)</script>");
    })
    .await;
}
