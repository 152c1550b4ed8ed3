//! What browsers are told, whatever they ask for.

use serde_json::json;

use crate::raw::raw;
use crate::ready;
use crate::support::{Answer, Client};

const ALWAYS: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

fn is_guarded(answer: &Answer, what: &str) {
    for (name, value) in ALWAYS {
        assert_eq!(answer.header(name), value, "{name} of {what}");
    }
    assert!(answer.header("permissions-policy").contains("camera=()"), "{what}");
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{what}: {policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{what}");
    assert_eq!(answer.headers.get_all("content-security-policy").iter().count(), 1, "{what}");
    let cache = answer.header("cache-control");
    // Of the pages and what belongs to them the newest is asked for each time.
    assert!(["no-store", "no-cache"].contains(&cache), "{what}: {cache}");
    if ["/api/", "/metrics", "/health", "/readyz"].iter().any(|path| what.contains(path)) {
        assert_eq!(cache, "no-store", "{what}");
    }
}

#[tokio::test]
async fn every_answer_has_them() {
    let server = ready(&[]).await;
    let nobody = Client::nobody(&server);
    let ann = Client::login(&server, "ann@x").await;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/orders"),
        ("GET", "/admin/orders"),
        ("GET", "/app.js"),
        ("GET", "/fanout.js"),
        ("GET", "/style.css"),
        ("GET", "/icon.svg"),
        ("GET", "/health"),
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/api/orders"),
        ("GET", "/api/orders/none"),
        ("GET", "/api/stats"),
        ("GET", "/api/orders?token=x"),
        ("GET", "/nothing"),
        ("DELETE", "/api/orders"),
        ("POST", "/api/login"),
        ("POST", "/api/logout"),
        ("POST", "/api/ticket"),
        ("POST", "/api/revoke"),
        ("POST", "/api/orders"),
        ("OPTIONS", "/api/orders"),
        ("GET", "/ws"),
    ] {
        for who in [&nobody, &ann] {
            let answer = who.send(method, path, "").await;
            is_guarded(&answer, &format!("{method} {path}"));
            assert_eq!(answer.header("strict-transport-security"), "", "not over TLS");
        }
    }
    let events = raw(&nobody, "GET /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    for (name, value) in ALWAYS {
        assert!(events.contains(&format!("{name}: {value}\r\n")), "{events}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_trusted_proxy_says_whether_it_is_https() {
    let trusting = ready(&["--trusted-proxy", "127.0.0.0/8"]).await;
    let plain = ready(&[]).await;
    let behind = |server, proto: &str| Client::nobody(server).with("x-forwarded-proto", proto);
    let login = json!({"email": "ann@x"});
    for (client, secure) in [
        (behind(&trusting, "https"), true),
        (behind(&trusting, "http, https"), true),
        (behind(&trusting, "https, http"), false),
        (behind(&trusting, "http"), false),
        (Client::nobody(&trusting), false),
        // Anybody can say so.
        (behind(&plain, "https"), false),
    ] {
        let answer = client.post("/api/login", &login).await;
        assert_eq!(answer.header("set-cookie").contains("; Secure"), secure);
        let hsts = answer.header("strict-transport-security");
        assert_eq!(hsts.starts_with("max-age="), secure, "{hsts}");
    }
    trusting.stop().await;
    plain.stop().await;
}

#[tokio::test]
async fn who_logs_out_has_no_cookie() {
    let server = ready(&["--cors-origin", "https://shop.example"]).await;
    let nobody = Client::nobody(&server);
    let login = nobody.post("/api/login", &json!({"email": "ann@x"})).await;
    let cookie = login.header("set-cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"] {
        assert!(cookie.split("; ").any(|given| given == part), "{cookie}");
    }
    let ann = nobody.with("cookie", cookie.split(';').next().unwrap());
    let evil = ann.with("origin", "https://evil.example");
    assert_eq!(evil.send("POST", "/api/logout", "").await.error(403).0, "forbidden");
    for origin in ["https://shop.example", &format!("http://{}", server.addr())] {
        let out = ann.with("origin", origin).send("POST", "/api/logout", "").await;
        assert_eq!(out.status, 204);
        let cookie = out.header("set-cookie");
        assert!(cookie.starts_with("token=; ") && cookie.contains("Max-Age=0"), "{cookie}");
        assert!(cookie.contains("HttpOnly"), "{cookie}");
    }
    server.stop().await;
}

#[tokio::test]
async fn whatever_changes_something_is_not_for_other_pages() {
    let server = ready(&["--cors-origin", "https://shop.example"]).await;
    let nobody = Client::nobody(&server);
    let login = nobody.post("/api/login", &json!({"email": "admin@x"})).await;
    let cookie = nobody.with("cookie", login.header("set-cookie").split(';').next().unwrap());
    for (method, path, body) in [
        ("POST", "/api/login", json!({"email": "ann@x"})),
        ("POST", "/api/logout", json!({})),
        ("POST", "/api/ticket", json!({})),
        ("POST", "/api/orders", json!({})),
        ("PATCH", "/api/orders/x/status", json!({"status": "paid"})),
        ("POST", "/api/orders/x/cancel", json!({})),
        ("POST", "/api/revoke", json!({"subject": "ann@x"})),
    ] {
        for origin in ["https://evil.example", "null", "https://shop.example.evil.example"] {
            let page = cookie.with("origin", origin).with("content-type", "application/json");
            let answer = page.send(method, path, body.to_string()).await;
            assert_eq!(answer.error(403).0, "forbidden", "{method} {path} of {origin}");
            assert_eq!(answer.header("access-control-allow-origin"), "");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn metrics_are_for_this_machine_unless_it_is_said() {
    let server = ready(&[]).await;
    let nobody = Client::nobody(&server);
    assert_eq!(nobody.get("/metrics").await.status, 200);
    // A proxy on this machine that nobody has told of: it may ask for anybody.
    for name in ["x-forwarded-for", "forwarded", "via"] {
        assert_eq!(
            nobody.with(name, "for=127.0.0.1").get("/metrics").await.error(403).0,
            "forbidden"
        );
    }
    server.stop().await;

    let server = ready(&["--trusted-proxy", "127.0.0.1"]).await;
    let for_whom = |address: &str| Client::nobody(&server).with("x-forwarded-for", address);
    assert_eq!(for_whom("203.0.113.9").get("/metrics").await.status, 403);
    assert_eq!(for_whom("127.0.0.1, 203.0.113.9").get("/metrics").await.status, 403);
    server.stop().await;

    let server = ready(&["--metrics-from", "203.0.113.0/24", "--trusted-proxy", "127.0.0.1"]).await;
    let for_whom = |address: &str| Client::nobody(&server).with("x-forwarded-for", address);
    assert_eq!(for_whom("203.0.113.9").get("/metrics").await.status, 200);
    assert_eq!(for_whom("203.0.114.9").get("/metrics").await.status, 403);
    assert_eq!(Client::nobody(&server).get("/metrics").await.status, 403);
    server.stop().await;
}
