//! Pages of other sites, in the browser of somebody who is logged in here: the browser adds
//! the cookie to whatever they ask for, and says where they come from.

use serde_json::json;

use crate::family::attacked;
use crate::jwt;
use crate::raw::Raw;
use crate::support::apples;
use crate::target::Target;

const EVE: &str = "eve@shop.example";
/// On the server's list.
const LISTED: &str = "https://shop.example";

/// What a browser may say of a page that is not ours, and what no browser says.
fn foreign(target: &Target) -> Vec<String> {
    let (own, port) = (target.addr, target.addr.port());
    [
        "https://evil.example".to_owned(),
        "null".into(),
        "NULL".into(),
        "file://".into(),
        String::new(),
        "*".into(),
        // Ours, or one of the list, as a prefix or suffix.
        format!("http://{own}.evil.example"),
        format!("http://127.0.0.1.evil.example:{port}"),
        format!("http://evil.example.127.0.0.1:{port}"),
        format!("http://evil127.0.0.1:{port}"),
        format!("http://{own}@evil.example"),
        format!("http://evil.example@{own}"),
        format!("http://evil.example#{own}"),
        format!("http://evil.example?{own}"),
        format!("http://evil.example/{own}"),
        format!("http://evil.example\\{own}"),
        format!("http://{own}/"),
        format!("http://{own}/path"),
        format!("http://{own} http://evil.example"),
        format!("http://{own},http://evil.example"),
        format!("http://127.0.0.1:{}", port.wrapping_add(1).max(1)),
        format!("http://127.0.0.1:{port}0"),
        format!("http://127.0.0.1:0{port}.evil.example"),
        "http://127.0.0.1".into(),
        format!("http://127.0.0.2:{port}"),
        format!("http://2130706433:{port}"),
        format!("http://0x7f.0.0.1:{port}"),
        format!("http://[::1]:{port}"),
        format!("//{own}"),
        format!("{own}"),
        format!("chrome-extension://{own}"),
        "https://shop.example.evil.example".into(),
        "https://evilshop.example".into(),
        "https://evil.shop.example".into(),
        "http://shop.example".into(),
        "https://shop.example:8443".into(),
        "https://shop.example.".into(),
        "https://sh\u{43e}p.example".into(),
    ]
    .to_vec()
}

#[tokio::test]
async fn a_page_of_another_site_gets_nothing() {
    attacked(&["--cors-origin", LISTED], async |target: &Target| {
        let cookie = format!("Cookie: token={}\r\n", jwt::of(EVE, "user"));
        let json = "Content-Type: application/json\r\n";
        let order = apples().to_string();
        for origin in foreign(target) {
            let headers = format!("Origin: {origin}\r\n{cookie}");
            let ask = async |line: &str, more: &str, body: &str| {
                Raw::open(target.addr).await.ask(line, &format!("{headers}{more}"), body).await
            };
            let upgrade = Raw::open(target.addr).await.upgrade("/ws", &headers).await;
            assert_eq!(upgrade.status, 403, "{origin}");
            assert!(!upgrade.text().contains(&origin) || origin.is_empty() || origin == "*");
            // Not even with a token of its own: who is on the list is for the shop to say.
            let own = format!("Origin: {origin}\r\n{}", jwt::bearer(&jwt::of(EVE, "user")));
            assert_eq!(Raw::open(target.addr).await.upgrade("/ws", &own).await.status, 403);
            assert_eq!(ask("GET /events", "", "").await.status, 403, "{origin}");
            // What changes something is not done; what is read is kept from the page.
            for (line, more, body) in [
                ("POST /api/orders", json, order.as_str()),
                ("POST /api/orders", "Content-Type: text/plain\r\n", order.as_str()),
                ("POST /api/orders", "Content-Type: application/x-www-form-urlencoded\r\n", "a=b"),
                ("POST /api/orders", "", ""),
                ("POST /api/ticket", "", ""),
                ("POST /api/orders/x/cancel", json, "{}"),
                ("PATCH /api/orders/x/status", json, "{}"),
                ("POST /api/login", json, r#"{"email":"admin@x"}"#),
                ("POST /api/revoke", json, r#"{"subject":"ann"}"#),
            ] {
                let answer = ask(line, more, body).await;
                assert_eq!(answer.code(), (403, "forbidden".into()), "{origin}: {line}");
                assert_eq!(answer.header("set-cookie"), "");
                assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}: {line}");
            }
            let read = ask("GET /api/orders", "", "").await;
            assert_eq!(read.json()["orders"], json!([]), "{origin}");
            assert_eq!(read.header("access-control-allow-origin"), "", "{origin}");
            assert_eq!(read.header("access-control-allow-credentials"), "", "{origin}");
            let preflight =
                ask("OPTIONS /api/orders", "Access-Control-Request-Method: POST\r\n", "").await;
            assert!(
                !preflight.head.to_lowercase().contains("access-control-"),
                "{}",
                preflight.head
            );
        }
        // Two origins are none.
        let two = format!("Origin: {LISTED}\r\nOrigin: https://evil.example\r\n{cookie}");
        assert_eq!(Raw::open(target.addr).await.upgrade("/ws", &two).await.status, 403);
        let two = format!("Origin: http://{0}\r\nOrigin: http://{0}\r\n{cookie}", target.addr);
        assert_eq!(Raw::open(target.addr).await.upgrade("/ws", &two).await.status, 403);
    })
    .await;
}

#[tokio::test]
async fn a_page_of_ours_or_on_the_list_gets_what_is_the_user_s() {
    attacked(&["--cors-origin", LISTED], async |target: &Target| {
        let cookie = format!("Cookie: token={}\r\n", jwt::of(EVE, "user"));
        let own = format!("Origin: http://{}\r\n", target.addr);
        let listed = format!("Origin: {LISTED}\r\n");
        for origin in [own.as_str(), &listed, ""] {
            let headers = format!("{origin}{cookie}");
            let mut raw = Raw::open(target.addr).await;
            assert_eq!(raw.upgrade("/ws", &headers).await.status, 101, "{origin}");
            assert_eq!(raw.text().await["event"], "welcome");
            let mut raw = Raw::open(target.addr).await;
            raw.request("GET /events", &headers).await;
            assert_eq!(raw.head().await.unwrap().status, 200, "{origin}");
            let json = format!("{headers}Content-Type: application/json\r\n");
            let mut raw = Raw::open(target.addr).await;
            let placed = raw.ask("POST /api/orders", &json, &apples().to_string()).await;
            assert_eq!(placed.status, 201, "{origin}");
            // A form of no page at all cannot be JSON.
            let plain = format!("{headers}Content-Type: text/plain\r\n");
            let placed = raw.ask("POST /api/orders", &plain, &apples().to_string()).await;
            assert_eq!(placed.code(), (415, "unsupported_media_type".into()), "{origin}");
        }
        let asks = format!("{listed}Access-Control-Request-Method: POST\r\n");
        let preflight = Raw::open(target.addr).await.ask("OPTIONS /api/orders", &asks, "").await;
        assert_eq!(preflight.status, 204);
        assert_eq!(preflight.header("access-control-allow-origin"), LISTED);
        assert_eq!(preflight.header("access-control-allow-methods"), "GET, POST, PATCH");
        assert!(preflight.header("vary").contains("Origin"));
        // A cookie is for the server alone.
        let mut raw = Raw::open(target.addr).await;
        let json = format!("{own}Content-Type: application/json\r\n");
        let login = raw.ask("POST /api/login", &json, r#"{"email":"eve@shop.example"}"#).await;
        let set = login.header("set-cookie");
        assert!(set.contains("HttpOnly") && set.contains("SameSite="), "{set}");
        assert!(!set.contains("Domain"), "{set}");
    })
    .await;
}
