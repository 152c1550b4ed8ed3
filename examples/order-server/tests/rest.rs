//! The real server over HTTP.

#![allow(missing_docs, reason = "a test")]

#[allow(dead_code, reason = "each test uses a part of it")]
mod support;

use std::collections::HashSet;

use serde_json::{Value, json};
use support::{Client, Folder, apples, start, start_in, until};

#[tokio::test]
async fn an_order_lives_from_placed_to_delivered() {
    let server = start(&["--tax-percent", "10"]).await;
    let (ann, admin) =
        (Client::login(&server, "ann@x").await, Client::login(&server, "admin@x").await);
    let placed = ann.post("/api/orders", &apples()).await;
    assert_eq!(placed.status, 201);
    assert!(placed.text().contains(r#""subtotal":39.98,"tax":4,"total":43.98"#));
    let order = placed.json();
    let id = order["orderId"].as_str().unwrap();
    assert_eq!(placed.header("location"), format!("/api/orders/{id}"));
    assert_eq!(
        (&order["buyerId"], &order["status"], &order["version"], &order["currency"]),
        (&json!("ann@x"), &json!("pending"), &json!(1), &json!("USD"))
    );

    for (version, status) in [(2, "processing"), (3, "paid"), (4, "shipped"), (5, "delivered")] {
        let path = format!("/api/orders/{id}/status");
        let changed = admin.patch(&path, &json!({"status": status, "reason": "so"})).await;
        assert_eq!(changed.status, 200, "{}", changed.text());
        let changed = changed.json();
        assert_eq!((&changed["status"], &changed["version"]), (&json!(status), &json!(version)));
        assert_eq!(changed["total"], 43.98);
    }
    let refused = admin.post(&format!("/api/orders/{id}/cancel"), &json!({})).await;
    let (code, message) = refused.error(409);
    assert!(code == "bad_transition" && message.contains("delivered"), "{message}");

    let found = ann.get(&format!("/api/orders/{id}")).await.json();
    let past: Vec<_> = found["history"].as_array().unwrap().iter().map(|p| &p["status"]).collect();
    assert_eq!(past, ["pending", "processing", "paid", "shipped", "delivered"]);

    let stats = admin.get("/api/stats").await.json();
    assert_eq!((&stats["byStatus"]["delivered"], &stats["revenue"]), (&json!(1), &json!(43.98)));
    assert_eq!(stats["ordersPerMinute"], 1);
    server.stop().await;
}

#[tokio::test]
async fn nobody_sees_or_changes_what_is_not_his() {
    let server = start(&[]).await;
    let (ann, bob) = (Client::login(&server, "ann@x").await, Client::login(&server, "bob@x").await);
    let id = ann.order().await["orderId"].as_str().unwrap().to_owned();
    let order = format!("/api/orders/{id}");

    assert_eq!(bob.get(&order).await.error(404).0, "not_found");
    assert_eq!(bob.post(&format!("{order}/cancel"), &json!({})).await.error(404).0, "not_found");
    assert_eq!(bob.get("/api/orders").await.json()["orders"], json!([]));
    for user in [&ann, &bob] {
        let status = user.patch(&format!("{order}/status"), &json!({"status": "paid"})).await;
        assert_eq!(status.error(403).0, "forbidden");
        assert_eq!(user.get("/api/stats").await.error(403).0, "forbidden");
    }
    // The buyer is the token's subject, whatever the body says.
    let mut forged = apples();
    forged["buyerId"] = json!("ann@x");
    let placed = bob.post("/api/orders", &forged).await.json();
    assert_eq!(placed["buyerId"], "bob@x");

    let cancelled = ann.post(&format!("{order}/cancel"), &json!({"reason": "dear"})).await.json();
    assert_eq!((&cancelled["status"], &cancelled["reason"]), (&json!("cancelled"), &json!("dear")));
    assert!(cancelled["cancelledAt"].is_string());
    server.stop().await;
}

#[tokio::test]
async fn only_tokens_of_this_server_are_good() {
    let server = start(&[]).await;
    let nobody = Client::nobody(&server);
    let paths = [
        ("GET", "/api/orders"),
        ("POST", "/api/orders"),
        ("GET", "/api/orders/x"),
        ("PATCH", "/api/orders/x/status"),
        ("POST", "/api/orders/x/cancel"),
        ("GET", "/api/stats"),
        ("POST", "/api/ticket"),
    ];
    let forged = ws_sink::auth::Hs256::new(&[1; 32]).unwrap();
    let end = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    let admin = fanout::Identity::new("admin", ["admin"]).with_expiry(Some(end));
    let forged = forged.sign(&admin, &serde_json::Map::new()).unwrap();
    for (method, path) in paths {
        for client in [&nobody, &nobody.bearer("x"), &nobody.bearer(&forged)] {
            let answer = client.send(method, path, "{}").await;
            assert_eq!(answer.error(401).0, "unauthenticated", "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn who_has_the_secret_signs_and_others_do_not_log_in() {
    let secret = "0123456789abcdef0123456789abcdef";
    let server = start(&["--secret", secret]).await;
    let nobody = Client::nobody(&server);
    let login = nobody.post("/api/login", &json!({"email": "ann@x"})).await;
    assert_eq!(login.error(403).0, "forbidden");
    let tokens = ws_sink::auth::Hs256::new(secret.as_bytes()).unwrap();
    let sign = |secs, role: &str| {
        let end = std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs);
        let ann = fanout::Identity::new("ann", [role]).with_expiry(Some(end));
        tokens.sign(&ann, &serde_json::Map::new()).unwrap()
    };
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let later = now + 3600;
    assert_eq!(nobody.bearer(&sign(later, "user")).get("/api/orders").await.status, 200);
    let expired = nobody.bearer(&sign(1, "user")).get("/api/orders").await;
    assert_eq!(expired.error(401).0, "token_expired");
    let guest = nobody.bearer(&sign(later, "guest")).get("/api/orders").await;
    assert_eq!(guest.error(403).0, "forbidden");
    // It would be good again once it is forgotten that it was revoked.
    let long = nobody.bearer(&sign(now + 25 * 3600, "user")).get("/api/orders").await;
    assert_eq!(long.error(401).0, "unauthenticated");
    server.stop().await;
}

#[tokio::test]
async fn a_repeat_with_the_same_key_is_the_same_order() {
    let server = start(&[]).await;
    let ann = Client::login(&server, "ann@x").await.with("idempotency-key", "k1");
    let (first, again) = (ann.order().await, ann.order().await);
    assert_eq!(first, again);
    let bob = Client::login(&server, "bob@x").await.with("idempotency-key", "k1");
    assert_ne!(bob.order().await["orderId"], first["orderId"]);
    let mut other = apples();
    other["currency"] = json!("EUR");
    let reused = ann.post("/api/orders", &other).await;
    assert_eq!(reused.error(409).0, "idempotency_key_reused");
    let long = ann.with("idempotency-key", &"k".repeat(129));
    let (_, message) = long.post("/api/orders", &apples()).await.error(400);
    assert!(message.contains("Idempotency-Key") && message.contains("128"), "{message}");
    assert_eq!(ann.get("/api/orders").await.json()["orders"].as_array().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_orders_follow_each_other() {
    let server = start(&[]).await;
    let ann = Client::login(&server, "ann@x").await;
    let mut placed = HashSet::new();
    for _ in 0..5 {
        placed.insert(ann.order().await["orderId"].as_str().unwrap().to_owned());
    }
    let (mut seen, mut path) = (Vec::new(), "/api/orders?limit=2&status=pending".to_owned());
    loop {
        let page = ann.get(&path).await.json();
        assert!(page["cursor"].is_string());
        let orders = page["orders"].as_array().unwrap();
        seen.extend(orders.iter().map(|order| order["orderId"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/orders?limit=2&before={next}");
    }
    assert_eq!((seen.len(), seen.into_iter().collect::<HashSet<_>>()), (5, placed));
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("status=lost", "status"),
        ("before=x", "before"),
    ] {
        let (_, message) = ann.get(&format!("/api/orders?{query}")).await.error(400);
        assert!(message.starts_with(field), "{query}: {message}");
    }
    let none = ann.get("/api/orders?status=shipped&limit=&before=").await.json();
    assert_eq!((&none["orders"], &none["next"]), (&json!([]), &Value::Null));
    server.stop().await;
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let server = start(&[]).await;
    let ann = Client::login(&server, "ann@x").await;
    let json = ann.with("content-type", "application/json; charset=utf-8");
    assert_eq!(json.send("POST", "/api/orders", "{").await.error(400).0, "bad_request");
    assert_eq!(json.send("POST", "/api/orders", "").await.error(400).0, "bad_request");
    let deep = "[".repeat(60_000);
    assert_eq!(json.send("POST", "/api/orders", deep).await.error(400).0, "bad_request");
    let large = format!("\"{}\"", "x".repeat(64 * 1024));
    assert_eq!(json.send("POST", "/api/orders", large).await.error(413).0, "too_large");
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
        let answer = ann.with("content-type", kind).send("POST", "/api/orders", "{}").await;
        assert_eq!(answer.error(415).0, "unsupported_media_type", "{kind}");
    }
    let mut order = apples();
    order["items"][0]["quantity"] = json!(10_001);
    let (_, message) = ann.post("/api/orders", &order).await.error(400);
    assert!(message.contains("items[0].quantity") && message.contains("10000"), "{message}");
    assert_eq!(ann.get("/api/nothing").await.error(404).0, "not_found");
    assert_eq!(ann.send("DELETE", "/api/orders", "").await.error(405).0, "method_not_allowed");
    assert_eq!(ann.get("/api/orders/%ff").await.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn a_login_gives_token_and_cookie() {
    let server = start(&[]).await;
    let nobody = Client::nobody(&server);
    let answer = nobody.post("/api/login", &json!({"email": "Boss@x", "role": "admin"})).await;
    let body = answer.json();
    assert_eq!((&body["subject"], &body["roles"]), (&json!("boss@x"), &json!(["admin"])));
    assert!(body["expiresAt"].as_str().unwrap().ends_with('Z'));
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let by_cookie = nobody.with("cookie", cookie.split(';').next().unwrap());
    assert_eq!(by_cookie.get("/api/stats").await.status, 200);

    // A cookie goes along with whatever any page asks for.
    let evil = by_cookie.with("origin", "http://evil.example");
    assert_eq!(evil.post("/api/orders", &apples()).await.error(403).0, "forbidden");
    assert_eq!(evil.post("/api/login", &json!({"email": "a"})).await.error(403).0, "forbidden");
    let own = by_cookie.with("origin", &format!("http://{}", server.addr()));
    assert_eq!(own.post("/api/orders", &apples()).await.status, 201);
    assert_eq!(by_cookie.post("/api/orders", &apples()).await.status, 201);

    for (body, field) in [
        (json!({}), "email"),
        (json!({"email": "é".repeat(60)}), "email"),
        (json!({"email": "a", "role": "root"}), "role"),
    ] {
        let (_, message) = nobody.post("/api/login", &body).await.error(400);
        assert!(message.starts_with(field), "{message}");
    }
    let tickets: HashSet<_> = [
        by_cookie.send("POST", "/api/ticket", "").await.json()["ticket"].to_string(),
        by_cookie.send("POST", "/api/ticket", "").await.json()["ticket"].to_string(),
    ]
    .into();
    assert_eq!(tickets.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn listed_origins_may_call() {
    let server = start(&["--cors-origin", "https://shop.example"]).await;
    let nobody = Client::nobody(&server);
    let asks =
        |origin: &str| nobody.with("origin", origin).with("access-control-request-method", "POST");
    let listed = asks("https://shop.example").send("OPTIONS", "/api/orders", "").await;
    assert_eq!(listed.status, 204);
    assert_eq!(listed.header("access-control-allow-origin"), "https://shop.example");
    assert!(listed.header("access-control-allow-headers").contains("idempotency-key"));
    let other = asks("https://evil.example").send("OPTIONS", "/api/orders", "").await;
    assert_eq!(other.header("access-control-allow-origin"), "");
    let ann = Client::login(&server, "ann@x").await.with("origin", "https://shop.example");
    let listed = ann.get("/api/orders").await;
    assert_eq!(listed.header("access-control-allow-origin"), "https://shop.example");
    assert_eq!(listed.header("vary"), "Origin");
    server.stop().await;
}

#[tokio::test]
async fn too_many_changes_have_to_wait() {
    let server = start(&["--write-rate", "1"]).await;
    let ann = Client::login(&server, "ann@x").await;
    let mut refused = None;
    for _ in 0..50 {
        let answer = ann.post("/api/orders", &apples()).await;
        if answer.status != 201 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("fifty changes in far less than fifty seconds");
    assert_eq!(refused.error(429).0, "rate_limited");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    // Reading, and others, are not concerned.
    assert_eq!(ann.get("/api/orders").await.status, 200);
    Client::login(&server, "bob@x").await.order().await;
    server.stop().await;
}

#[tokio::test]
async fn health_metrics_and_pages_are_there() {
    let server = start(&[]).await;
    let nobody = Client::nobody(&server);
    let health = nobody.get("/health").await.json();
    assert_eq!((&health["status"], &health["service"]), (&json!("ok"), &json!("order-server")));
    assert!(health["uptime"].is_u64() && health["timestamp"].is_string());
    for path in ["/livez", "/health/live"] {
        assert_eq!(nobody.get(path).await.status, 200);
    }
    for path in ["/readyz", "/health/ready"] {
        until("ready", async || {
            let ready = nobody.get(path).await;
            (ready.status == 200).then_some(())
        })
        .await;
    }
    until("it relays", async || {
        let ready = nobody.get("/readyz").await.json();
        assert!(["relays", "stands by"].contains(&ready["relay"].as_str().unwrap()), "{ready}");
        (ready["relay"] == "relays").then_some(())
    })
    .await;
    let metrics = nobody.get("/metrics").await;
    for name in ["requests_total", "relay_leader", "relay_takeovers_total"] {
        assert!(metrics.text().contains(&format!("order_server_{name}")), "{name}");
    }
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/orders", "text/html; charset=utf-8"),
        ("/admin/orders", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
    ] {
        let page = nobody.get(path).await;
        assert_eq!((page.status.as_u16(), page.header("content-type")), (200, kind), "{path}");
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("require-trusted-types-for"));
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("cache-control"), "no-cache");
    }
    server.stop().await;
}

#[tokio::test]
async fn without_kafka_orders_are_taken_and_readyz_says_why_not() {
    // A port that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = start(&["--kafka", &free.to_string()]).await;
    let ann = Client::login(&server, "ann@x").await;
    ann.order().await;
    let ready = Client::nobody(&server).get("/readyz").await;
    assert_eq!(ready.status, 503);
    let ready = ready.json();
    assert_eq!(ready["store"], "ok");
    assert_eq!(ready["source"], "Kafka does not answer");
    server.stop().await;
}

/// Polls until the cursor of a client's list is another one than `before`.
async fn cursor_after(client: &Client, before: &str) -> String {
    until("another cursor", async || {
        let list = client.get("/api/orders").await.json();
        let cursor = list["cursor"].as_str().unwrap().to_owned();
        (cursor != before).then_some(cursor)
    })
    .await
}

async fn ready(server: &order_server::server::Running) {
    let nobody = Client::nobody(server);
    until("ready", async || (nobody.get("/readyz").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn an_order_goes_through_kafka_to_the_hub_of_every_node() {
    let one = start(&[]).await;
    let two = start(&["--kafka", one.broker().address()]).await;
    ready(&one).await;
    ready(&two).await;
    let ann = Client::login(&one, "ann@x").await;
    let bob = Client::login(&two, "bob@x").await;
    let (at_one, at_two) = (cursor_after(&ann, "").await, cursor_after(&bob, "").await);
    ann.order().await;
    cursor_after(&ann, &at_one).await;
    cursor_after(&bob, &at_two).await;
    two.stop().await;
    one.stop().await;
}

#[tokio::test]
async fn a_store_that_is_away_is_503_and_comes_back() {
    let folder = Folder::new();
    let server = start_in(&folder.0, &[]).await;
    let ann = Client::login(&server, "ann@x").await;
    let other = rusqlite::Connection::open(folder.0.join("orders.db")).unwrap();
    // The relay may be writing at this moment.
    other.busy_timeout(support::DEADLINE).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let refused = ann.post("/api/orders", &apples()).await;
    assert_eq!(refused.error(503).0, "unavailable");
    assert!(!refused.header("retry-after").is_empty());
    let ready = Client::nobody(&server).get("/readyz").await;
    assert_eq!(ready.status, 503);
    let ready = ready.json();
    assert_ne!(ready["store"], "ok");
    assert!(!ready.to_string().contains(folder.0.to_str().unwrap()), "{ready}");
    other.execute_batch("ROLLBACK").unwrap();
    ann.order().await;
    assert_eq!(ann.get("/api/orders").await.json()["orders"].as_array().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn orders_and_tokens_survive_a_restart() {
    let folder = Folder::new();
    let server = start_in(&folder.0, &[]).await;
    let mut ann = Client::login(&server, "ann@x").await;
    let order = ann.order().await;
    server.stop().await;
    let server = start_in(&folder.0, &[]).await;
    ann.addr = server.addr();
    // Until then it is not known whether the token was revoked.
    ready(&server).await;
    assert_eq!(ann.get("/api/orders").await.json()["orders"], json!([order]));
    server.stop().await;
}
