//! What is another's: rooms by every spelling, and orders over REST.

use serde_json::{Value, json};

use crate::family::attacked;
use crate::jwt::{self, bearer};
use crate::raw::{Closed, Raw, rooms_of, text};
use crate::support::apples;
use crate::target::Target;

const EVE: &str = "eve@shop.example";
/// Somebody who is there, and somebody who is not, with names of one length.
const ANN: &str = "ann@shop.example";
const NIL: &str = "nil@shop.example";

async fn comes(target: &Target, subject: &str, path: &str) -> (Raw, Value) {
    let mut raw = Raw::open(target.addr).await;
    let header = bearer(&jwt::of(subject, "user"));
    assert_eq!(raw.upgrade(path, &header).await.status, 101, "{path}");
    let welcome = raw.text().await;
    assert_eq!(welcome["event"], "welcome", "{path}: {welcome}");
    (raw, welcome["data"].clone())
}

fn asks(event: &str, room: &str) -> Vec<u8> {
    text(&json!({"event": event, "id": 1, "data": {"room": room}}).to_string())
}

/// The answer's bytes.
async fn answered(raw: &mut Raw, event: &str, room: &str) -> String {
    raw.send(asks(event, room)).await;
    loop {
        let frame = raw.frame().await.expect("an answer");
        let answer = String::from_utf8(frame.payload).unwrap();
        // What an admin is told of others may come in between.
        if !answer.contains(r#""event":"admin:order:"#) {
            return answer;
        }
    }
}

async fn orders(target: &Target, subject: &str) -> String {
    let header = format!("Content-Type: application/json\r\n{}", bearer(&jwt::of(subject, "user")));
    let mut raw = Raw::open(target.addr).await;
    let placed = raw.ask("POST /api/orders", &header, &apples().to_string()).await;
    assert_eq!(placed.status, 201, "{}", placed.text());
    placed.json()["orderId"].as_str().unwrap().to_owned()
}

/// The next that this one is told of is an order of her own.
async fn is_told_of_hers_alone(target: &Target, raw: &mut Raw) {
    orders(target, ANN).await;
    let own = orders(target, EVE).await;
    for event in ["order:created", "notification"] {
        let told = raw.text().await;
        assert_eq!((&told["event"], &told["data"]["orderId"]), (&json!(event), &json!(own)));
    }
}

/// Spellings of rooms that are not for a user, and how asking for one is answered.
fn not_hers() -> Vec<(String, &'static str)> {
    let mut rooms: Vec<(String, &str)> = [
        "admin:dashboard",
        "admin:other",
        "admin",
        "inventory:other",
        "Admin:Dashboard",
        "ADMIN:DASHBOARD",
        "inventory:Updates",
        "Everyone",
        "everyone:all",
        "user:",
        "user::",
        "user",
        ":user:ann@shop.example",
        "user:ann@shop.example:",
        "user::ann@shop.example",
        "user:ANN@shop.example",
        "user:%61nn%40shop.example",
        "user:eve@shop.example:ann@shop.example",
        "user:eve@shop.example%2Cann@shop.example",
        "user:eve@shop.example%00",
        "user:%2E%2E:ann@shop.example",
        "..:user:ann@shop.example",
        "%61dmin:dashboard",
        "admin%3Adashboard",
        "user%3Aann%40shop.example",
    ]
    .map(|room| (room.to_owned(), "forbidden"))
    .to_vec();
    for kind in ["user", "orders", "admin"] {
        rooms.push((format!("{kind}:{ANN}"), "forbidden"));
        rooms.push((format!("{kind}:{NIL}"), "forbidden"));
    }
    for room in [
        "",
        " ",
        "*",
        "user:*",
        "user:#",
        "user:{subject}",
        "{subject}",
        "user:ann@shop.example ",
        " user:ann@shop.example",
        "user:ann@shop.example\n",
        "user:ann@shop.example\u{0}",
        "user:ann@shop.example,admin:dashboard",
        "user:ann@shop.example/admin:dashboard",
        "../admin:dashboard",
        "admin:dashboard?",
        // A Cyrillic a, a fullwidth colon, a sign that is not seen, and one that turns the text.
        "\u{430}dmin:dashboard",
        "admin\u{ff1a}dashboard",
        "admin:\u{200b}dashboard",
        "\u{202e}draobhsad:nimda",
        "user:%2e%2e:ann@shop.example",
        "user:%",
        "user:%4",
        "user:%zz",
        "user:%C0%80%",
    ] {
        rooms.push((room.to_owned(), "bad_room"));
    }
    rooms.push((format!("user:{}", "x".repeat(124)), "bad_room"));
    rooms.push(("x".repeat(60_000), "bad_room"));
    rooms
}

#[tokio::test]
async fn there_are_so_many_rooms_and_no_more() {
    // An admin is due three, and may ask for two.
    attacked(&["--max-rooms", "4"], async |target: &Target| {
        let header = bearer(&jwt::of(EVE, "admin"));
        let mut raw = Raw::open(target.addr).await;
        assert_eq!(raw.upgrade("/ws", &header).await.status, 101);
        assert_eq!(rooms_of(&raw.text().await["data"]).len(), 3);
        let own = format!("orders:{EVE}");
        let answer = answered(&mut raw, "subscribe", &own).await;
        assert!(answer.contains(r#""subscribed""#), "{answer}");
        for _ in 0..3 {
            let answer = answered(&mut raw, "subscribe", "inventory:updates").await;
            assert!(answer.contains(r#""too_many_rooms""#), "{answer}");
            // One that it is in already is no more of them, and what is forbidden stays so.
            let answer = answered(&mut raw, "subscribe", &own).await;
            assert!(answer.contains(r#""subscribed""#), "{answer}");
            let answer = answered(&mut raw, "subscribe", "user:ann@shop.example").await;
            assert!(answer.contains(r#""forbidden""#), "{answer}");
        }
        // A place that is given back is there; and the same by an address.
        answered(&mut raw, "unsubscribe", &own).await;
        let answer = answered(&mut raw, "subscribe", "inventory:updates").await;
        assert!(answer.contains(r#""subscribed""#), "{answer}");
        let mut raw = Raw::open(target.addr).await;
        let path = format!("/ws?room=inventory:updates&room={own}");
        assert_eq!(raw.upgrade(&path, &header).await.status, 101);
        assert_eq!(rooms_of(&raw.text().await["data"]).len(), 4);
        assert_eq!(raw.text().await["data"]["code"], "too_many_rooms");
    })
    .await;
}

#[tokio::test]
async fn another_s_room_is_not_joined_by_any_name() {
    attacked(&[], async |target: &Target| {
        let _ann = comes(target, ANN, "/ws").await;
        let (mut eve, _) = comes(target, EVE, "/ws").await;
        for (room, code) in not_hers() {
            let answer = answered(&mut eve, "subscribe", &room).await;
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer["event"], "error", "{room:?}: {answer}");
            assert_eq!(answer["data"]["code"], code, "{room:?}: {answer}");
        }
        is_told_of_hers_alone(target, &mut eve).await;

        // What is no name of a room does not open a connection, and no other room is joined.
        let (mut tab, welcome) = comes(
            target,
            EVE,
            &format!(
                "/ws?room=admin:dashboard&room=user:{ANN}&room=orders%3A{ANN}&room=%75ser:{ANN}"
            ),
        )
        .await;
        assert_eq!(rooms_of(&welcome), ["everyone", &format!("user:{EVE}")]);
        for room in ["admin:dashboard", &format!("user:{ANN}"), &format!("orders:{ANN}")] {
            let refused = tab.text().await;
            assert_eq!(refused["data"]["code"], "forbidden", "{refused}");
            assert_eq!(refused["data"]["room"], room, "{refused}");
        }
        is_told_of_hers_alone(target, &mut tab).await;
        let header = bearer(&jwt::of(EVE, "user"));
        for room in ["", "user:*", "user:%00", "user:%ff", "%7Bsubject%7D", "a%20b", "a+b%0d%0a"] {
            let path = format!("/ws?room={room}");
            let response = Raw::open(target.addr).await.upgrade(&path, &header).await;
            assert_eq!(response.status, 400, "{room}");
            assert!(response.text().starts_with("query parameter `room`"), "{}", response.text());
        }

        // By the first frame.
        let mut tab = Raw::open(target.addr).await;
        assert_eq!(tab.upgrade("/ws", "").await.status, 101);
        let rooms = json!(["admin:dashboard", format!("user:{ANN}")]);
        let data = json!({"token": jwt::of(EVE, "user"), "rooms": rooms});
        tab.send(text(&json!({"event": "auth", "id": 9, "data": data}).to_string())).await;
        let welcome = tab.text().await;
        assert_eq!(rooms_of(&welcome["data"]), ["everyone", &format!("user:{EVE}")]);
        assert_eq!(tab.text().await["data"]["code"], "forbidden");
        assert_eq!(tab.text().await["data"]["code"], "forbidden");
        is_told_of_hers_alone(target, &mut tab).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_forbidden_is_not_told_from_what_is_not_there() {
    attacked(&[], async |target: &Target| {
        let (mut ann, _) = comes(target, ANN, "/ws").await;
        let answer = answered(&mut ann, "subscribe", &format!("orders:{ANN}")).await;
        assert!(answer.contains("subscribed"), "{answer}");
        let (mut eve, _) = comes(target, EVE, "/ws").await;
        for event in ["subscribe", "unsubscribe"] {
            for (there, not) in [
                (format!("user:{ANN}"), format!("user:{NIL}")),
                (format!("orders:{ANN}"), format!("orders:{NIL}")),
                ("admin:dashboard".into(), "admin:dashbread".into()),
                (format!("user:{ANN}"), "nowhere:at:all".into()),
            ] {
                let answer = answered(&mut eve, event, &there).await;
                let other = answered(&mut eve, event, &not).await;
                assert_eq!(answer, other.replace(&not, &there), "{event}");
            }
        }
        // Rooms that one is in by oneself cannot be left, and the answer names the reason.
        for room in [format!("user:{EVE}"), "everyone".to_owned()] {
            let answer = answered(&mut eve, "unsubscribe", &room).await;
            assert!(answer.contains(r#""code":"bad_room""#), "{answer}");
        }
        is_told_of_hers_alone(target, &mut eve).await;
    })
    .await;
}

#[tokio::test]
async fn more_rooms_than_there_may_be_are_refused() {
    attacked(&[], async |target: &Target| {
        let header = bearer(&jwt::of(EVE, "user"));
        let query =
            |len: usize| (0..len).map(|at| format!("room=r{at}")).collect::<Vec<_>>().join("&");
        let mut raw = Raw::open(target.addr).await;
        assert_eq!(raw.upgrade(&format!("/ws?{}", query(64)), &header).await.status, 101);
        let mut raw = Raw::open(target.addr).await;
        let refused = raw.upgrade(&format!("/ws?{}", query(65)), &header).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        let refused = Raw::open(target.addr)
            .await
            .ask(&format!("GET /events?{}", query(65)), &header, "")
            .await;
        assert_eq!(refused.status, 400, "{}", refused.text());

        let mut raw = Raw::open(target.addr).await;
        assert_eq!(raw.upgrade("/ws", "").await.status, 101);
        let rooms: Vec<_> = (0..65).map(|at| format!("r{at}")).collect();
        let data = json!({"token": jwt::of(EVE, "user"), "rooms": rooms});
        raw.send(text(&json!({"event": "auth", "data": data}).to_string())).await;
        assert_eq!(raw.closed().await, Closed::With(4502, "protocol".into()));
    })
    .await;
}

#[tokio::test]
async fn another_s_order_is_as_if_it_was_not() {
    attacked(&[], async |target: &Target| {
        let id = orders(target, ANN).await;
        let none: String = id.chars().rev().collect();
        let json = "Content-Type: application/json\r\n";
        let eve = format!("{json}{}", bearer(&jwt::of(EVE, "user")));
        let ask = async |line: &str, headers: &str, body: &str| {
            Raw::open(target.addr).await.ask(line, headers, body).await
        };
        let cases = [
            ("GET", "", "", (404, "not_found")),
            (
                "POST",
                "/cancel",
                r#"{"userId":"ann@shop.example","role":"admin"}"#,
                (404, "not_found"),
            ),
            ("PATCH", "/status", r#"{"status":"paid","role":"admin"}"#, (403, "forbidden")),
        ];
        for (method, path, body, (status, code)) in cases {
            let there = ask(&format!("{method} /api/orders/{id}{path}"), &eve, body).await;
            let not = ask(&format!("{method} /api/orders/{none}{path}"), &eve, body).await;
            assert_eq!(there.code(), (status, code.to_owned()), "{method} {path}");
            assert_eq!(there.status, not.status);
            assert_eq!(there.text(), not.text().replace(&none, &id), "{method} {path}");
        }
        // Tricks of paths, methods and headers.
        for path in [
            format!("/api/orders/../orders/{id}"),
            format!("/api/orders/%2e%2e/orders/{id}"),
            format!("/api//orders/{id}"),
            format!("/API/orders/{id}"),
            format!("/api/orders/{id}/"),
            format!("/api/orders/{id}%00"),
            format!("/api/orders/{id}%0d%0aX: y"),
            format!("/api/orders/{id};a=b"),
            format!("/api/orders/{id}%2fstatus"),
            "/api/orders/' OR 1=1 --".replace(' ', "%20"),
            "/api/orders/%ff".to_owned(),
            format!("http://evil.example/api/orders/{id}"),
        ] {
            let answer = ask(&format!("GET {path}"), &eve, "").await;
            assert!([400, 404].contains(&answer.status), "{path}: {}", answer.text());
            assert!(!answer.text().contains("buyerId"), "{path}: {}", answer.text());
        }
        let tricks = format!(
            "{eve}X-HTTP-Method-Override: PATCH\r\nX-Original-URL: /api/stats\r\n\
             X-Rewrite-URL: /api/stats\r\nX-Forwarded-User: root\r\nX-Role: admin\r\n"
        );
        let list = "GET /api/orders?buyerId=ann@shop.example&userId=ann@shop.example&role=admin";
        let answer = ask(list, &tricks, "").await;
        let listed = answer.json()["orders"].as_array().expect("a list").clone();
        assert!(listed.iter().all(|order| order["buyerId"] == EVE), "{listed:?}");
        for line in ["GET /api/stats", "POST /api/revoke"] {
            let body = if line.starts_with("POST") { r#"{"subject":"ann"}"# } else { "" };
            assert_eq!(ask(line, &tricks, body).await.code(), (403, "forbidden".into()), "{line}");
        }
        // An order is of whom the token says, and new, whatever its body says.
        let mut body = apples();
        body["buyerId"] = json!(ANN);
        body["userId"] = json!(ANN);
        body["status"] = json!("delivered");
        body["total"] = json!(0);
        body["version"] = json!(7);
        let placed = ask("POST /api/orders", &eve, &body.to_string()).await.json();
        assert_eq!(
            (&placed["buyerId"], &placed["status"], &placed["total"], &placed["version"]),
            (&json!(EVE), &json!("pending"), &json!(39.98), &json!(1))
        );
        // What another has put under a key is not given out for it.
        let key = format!("{eve}Idempotency-Key: shared\r\n");
        let ann = format!("{json}Idempotency-Key: shared\r\n{}", bearer(&jwt::of(ANN, "user")));
        let first = ask("POST /api/orders", &ann, &apples().to_string()).await.json();
        let second = ask("POST /api/orders", &key, &apples().to_string()).await.json();
        assert_eq!((&first["buyerId"], &second["buyerId"]), (&json!(ANN), &json!(EVE)));
        assert_ne!(first["orderId"], second["orderId"]);
    })
    .await;
}
