//! Tokens in frames: renewals that are none, and a first one that does not come.

use std::time::Duration;

use serde_json::{Value, json};

use crate::family::attacked;
use crate::forged::{forged, with};
use crate::jwt::{self, bearer, claims, hs256, now};
use crate::raw::{Closed, Raw, text};
use crate::target::Target;

pub(crate) async fn renews(raw: &mut Raw, token: &str) -> Value {
    let frame = json!({"event": "auth", "id": "renewal", "data": {"token": token}});
    raw.send(text(&frame.to_string())).await;
    let answer = raw.text().await;
    assert_eq!(answer["id"], "renewal", "{answer}");
    answer
}

#[tokio::test]
async fn a_renewal_is_no_way_to_become_another() {
    attacked(&["--expiry-grace-secs", "1", "--jwt-leeway-secs", "0"], async |target: &Target| {
        let eve = |seconds| {
            let mut claims = claims("eve@shop.example", "user");
            claims["exp"] = json!(now() + seconds);
            hs256(&claims)
        };
        let mut raw = Raw::open(target.addr).await;
        assert_eq!(raw.upgrade("/ws", &bearer(&eve(600))).await.status, 101);
        assert_eq!(raw.text().await["event"], "welcome");
        let bad = forged()
            .into_iter()
            .chain([
                jwt::of("ann@shop.example", "user"),
                jwt::of("root@shop.example", "admin"),
                with("exp", now() - 3600),
                with("nbf", now() + 3600),
                String::new(),
                "\u{0}".into(),
                "ü.ü.ü".into(),
            ])
            .collect::<Vec<_>>();
        for token in &bad {
            let answer = renews(&mut raw, token).await;
            assert_eq!(
                (&answer["event"], &answer["data"]["code"]),
                (&json!("error"), &json!("bad_token")),
                "{token}"
            );
        }
        // All of it has changed nothing.
        raw.send(text(r#"{"event":"subscribe","id":1,"data":{"room":"admin:dashboard"}}"#)).await;
        assert_eq!(raw.text().await["data"]["code"], "forbidden");

        // One is renewed, one is not: that one is closed, and only that one.
        let mut expires = Raw::open(target.addr).await;
        let mut renewed = Raw::open(target.addr).await;
        let soon = eve(2);
        for raw in [&mut expires, &mut renewed] {
            assert_eq!(raw.upgrade("/ws", &bearer(&soon)).await.status, 101);
            assert_eq!(raw.text().await["event"], "welcome");
        }
        let answer = renews(&mut renewed, &eve(600)).await;
        assert_eq!(answer["event"], "authenticated", "{answer}");
        assert_eq!(renews(&mut expires, &with("exp", now() - 60)).await["event"], "error");
        assert_eq!(expires.closed().await, Closed::With(4002, "token_expired".into()));
        let answer = renews(&mut renewed, &eve(600)).await;
        assert_eq!(answer["event"], "authenticated", "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_first_frame_that_does_not_come_is_not_waited_for() {
    attacked(&[], async |target: &Target| {
        let nobody = Closed::With(4500, "unauthenticated".into());
        let good = json!({"event": "auth", "data": {"token": jwt::of("eve@shop.example", "user")}});
        let good = text(&good.to_string());
        let mut silent = Vec::new();
        for _ in 0..100 {
            let mut raw = Raw::open(target.addr).await;
            assert_eq!(raw.upgrade("/ws", "").await.status, 101);
            silent.push(raw);
        }
        // Byte by byte: each is in time, the frame is not.
        let mut slow = silent.pop().unwrap();
        let mut sent = good.iter();
        while slow.send([*sent.next().expect("cut off before the end")]).await {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if slow.has_something() {
                break;
            }
        }
        assert_eq!(slow.closed().await, nobody);
        for mut raw in silent {
            assert_eq!(raw.closed().await, nobody);
        }
        // Anything but `auth` at first ends it at once.
        for first in [
            r#"{"event":"subscribe","data":{"room":"everyone"}}"#,
            r#"{"event":"auth"}"#,
            r#"{"event":"auth","data":{"token":7}}"#,
            r#"{"event":"auth","data":{"token":null}}"#,
            "[]",
            "",
        ] {
            let mut raw = Raw::open(target.addr).await;
            assert_eq!(raw.upgrade("/ws", "").await.status, 101);
            raw.send(text(first)).await;
            assert_eq!(raw.closed().await, nobody, "{first}");
        }
    })
    .await;
}
