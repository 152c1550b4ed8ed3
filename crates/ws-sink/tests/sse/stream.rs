//! What comes, and how it ends.

use std::time::Duration;

use fanout::Limits;
use serde_json::json;
use ws_sink::SseConfig;

use crate::client::{Response, bearer, serve, start};
use crate::common::{access, token, within};
use crate::wire::to;

#[tokio::test(flavor = "multi_thread")]
async fn the_head_says_what_it_is_and_keeps_proxies_from_collecting() {
    let server = start().await;
    let (stream, welcome) = server.connect("ann b", "user").await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(stream.header(name), Some(value));
    }
    assert_eq!(stream.header("content-length"), None);
    assert!((2000..=3000).contains(&stream.retry.unwrap()), "{:?}", stream.retry);
    let data = &welcome.json()["data"];
    let expected = json!({"event": "welcome", "data": {
        "connection": data["connection"], "subject": "ann b", "roles": ["user"],
        "rooms": ["user:ann%20b"], "cursor": server.hub.cursor().as_str(), "recovered": null,
        "heartbeatMs": 25_000,
    }});
    assert_eq!(welcome.json(), expected);
    assert_eq!(welcome.id, server.hub.cursor().as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_is_served_to_its_end() {
    let server = start().await;
    let headers = [("authorization", &*bearer("ann", "user"))];
    let mut old = Response::of(server.addr, "GET", "/events", "HTTP/1.0", &headers).await;
    assert_eq!((old.status, old.header("transfer-encoding")), (200, None));
    assert_eq!(old.next().await.name, "welcome");
    server.hub.publish(vec![to("user:ann", "x", &json!(1))]).await.unwrap();
    assert_eq!(old.next().await.json()["data"], 1);
    drop(old);
    server.connections(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_comes_from_each_place() {
    let server = start().await;
    let (bearer, cookie) =
        (bearer("ann", "user"), format!("a=b; token={}", token("ann", "user", 60)));
    for header in [("authorization", &*bearer), ("cookie", &cookie)] {
        let (_, welcome) = server.open("/events", &[header]).await;
        assert_eq!(welcome.json()["data"]["subject"], "ann", "{}", header.0);
    }
    let sse = ws_sink::Sse::new(&server.hub, crate::refusals::Tickets);
    let server = crate::client::listen(server.hub, sse).await;
    let (_, welcome) = server.open("/events?ticket=of-ann", &[]).await;
    assert_eq!(welcome.json()["data"]["subject"], "ann");
    // Who needs no login is let in without; only as what he may be.
    let (_, welcome) = server.open("/events?room=game:1", &[]).await;
    assert_eq!(welcome.json()["data"]["subject"], "guest");
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_in_the_address_and_one_that_is_not_allowed_is_told() {
    let server = start().await;
    let headers = [("authorization", &*bearer("ann", "user"))];
    let path = "/events?room=game:1&room=admin:dashboard";
    let (mut stream, welcome) = server.open(path, &headers).await;
    assert_eq!(welcome.json()["data"]["rooms"], json!(["user:ann", "game:1"]));
    let error = stream.next().await;
    // `error` is the browser's own.
    assert_eq!((&*error.name, &error.id), ("message", &welcome.id));
    assert_eq!(error.json()["event"], "error");
    assert_eq!(error.json()["data"]["code"], "forbidden");
    assert_eq!(error.json()["data"]["room"], "admin:dashboard");
    let emissions = vec![to("admin:dashboard", "x", &json!(1)), to("game:1", "x", &json!(2))];
    server.hub.publish(emissions).await.unwrap();
    assert_eq!(stream.next().await.json()["data"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_carry_the_cursor_and_nobody_has_to_answer() {
    let mut limits = Limits::default();
    limits.heartbeat = Duration::from_millis(100);
    let server = serve(access(), limits, SseConfig::default()).await;
    let (mut stream, _) = server.connect("ann", "user").await;
    let cursor = server.hub.cursor().to_string();
    // More than two intervals of silence.
    for _ in 0..5 {
        let heartbeat = stream.next().await;
        assert_eq!((&*heartbeat.name, &heartbeat.id), ("heartbeat", &cursor));
        assert_eq!(heartbeat.json(), json!({"event": "heartbeat", "data": {"cursor": cursor}}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_is_gone_at_once() {
    let server = start().await;
    let (stream, _) = server.connect("ann", "user").await;
    let (mut other, _) = server.connect("ann", "user").await;
    server.connections(2).await;
    drop(stream);
    server.connections(1).await;
    server.hub.publish(vec![to("user:ann", "x", &json!(1))]).await.unwrap();
    assert_eq!(other.next().await.json()["data"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_ends_each_with_a_moment_to_come_back_at() {
    let server = start().await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(server.connect("ann", "user").await.0);
    }
    let hub = server.hub.clone();
    let drain = tokio::spawn(async move {
        hub.drain(Duration::from_secs(4_000_000), Duration::from_secs(10)).await;
    });
    let mut moments = Vec::new();
    for stream in &mut streams {
        let close = json!({"code": 4000, "name": "draining", "withinMs": 4_000_000_000_u64});
        assert_eq!(stream.closed().await, close);
        moments.extend(stream.retry);
    }
    moments.sort_unstable();
    moments.dedup();
    assert!(moments.len() > 1, "not all at once: {moments:?}");
    within("the drain", drain).await.unwrap();
    let mut late = server.get("/events", &[("authorization", &bearer("ann", "user"))]).await;
    assert_eq!((late.status, &late.closed().await["code"]), (200, &json!(4000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_ends_its_stream() {
    let server = start().await;
    let bearer = format!("Bearer {}", token("ann", "user", 2));
    let (mut stream, _) = server.open("/events", &[("authorization", &bearer)]).await;
    assert_eq!(stream.closed().await["code"], 4002);
}
