//! Too many of everything: connections, upgrades, streams, log-ins, tickets, rooms.
//!
//! What is flooded with has addresses of its own, so that limits on them are the attacker's.

use std::net::Ipv4Addr;

use serde_json::json;

use crate::bystander::Bystander;
use crate::family::{attacked, withstands};
use crate::jwt::{self, bearer};
use crate::raw::{Closed, Raw, UPGRADE, text};
use crate::support::until;
use crate::target::Target;

const EVE: &str = "eve@shop.example";
/// Where the attack comes from, and the proxy that is trusted.
const EVIL: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);

fn eve() -> String {
    bearer(&jwt::of(EVE, "user"))
}

/// How a connection is met: the status of an answer, or `None` where it is ended.
async fn met(mut raw: Raw, headers: &str) -> (Raw, Option<u16>) {
    raw.request("GET /livez", headers).await;
    let status = raw.response().await.map(|response| response.status);
    (raw, status)
}

/// Refused before a word of HTTP, or by 429 or 503 that say when to come again.
fn is_refusal(status: Option<u16>) -> bool {
    matches!(status, None | Some(429 | 503))
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    attacked(&["--max-connections-per-address", "20"], async |target: &Target| {
        let mut held = Vec::new();
        let mut refused = 0;
        for _ in 0..100 {
            let raw = Raw::open_from(target.addr, EVIL).await;
            match met(raw, "").await {
                (raw, Some(200)) => held.push(raw),
                (_, status) => {
                    assert!(is_refusal(status), "{status:?}");
                    refused += 1;
                }
            }
        }
        assert_eq!((held.len(), refused), (20, 80));
        // Whatever it says of itself, it is where it comes from.
        for at in 0..10 {
            let claims = format!("X-Forwarded-For: 10.0.0.{at}\r\nForwarded: for=10.0.0.{at}\r\n");
            let (_, status) = met(Raw::open_from(target.addr, EVIL).await, &claims).await;
            assert!(is_refusal(status), "{status:?}");
        }
        // Another address has its own.
        let (_, status) = met(Raw::open(target.addr).await, "").await;
        assert_eq!(status, Some(200));
        // A place that is given back is there for the next; one that is upgraded is not.
        let mut raw = held.pop().unwrap();
        assert_eq!(raw.upgrade("/ws", &eve()).await.status, 101);
        assert_eq!(raw.text().await["event"], "welcome");
        let (_, status) = met(Raw::open_from(target.addr, EVIL).await, "").await;
        assert!(is_refusal(status), "{status:?}");
        drop((raw, held.pop()));
        until("two places are free", || async {
            let (_, status) = met(Raw::open_from(target.addr, EVIL).await, "").await;
            (status == Some(200)).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn with_the_limits_for_strangers_no_address_can_take_all() {
    let target = Target::start_as_it_comes(&["--write-rate", "0"]).await;
    let bystander = Bystander::comes(&target).await;
    withstands(target, bystander, async |target: &Target| {
        let mut held = Vec::new();
        for at in 0..500 {
            let mut raw = Raw::open_from(target.addr, EVIL).await;
            let header = bearer(&jwt::of(&format!("eve{at}@shop.example"), "user"));
            raw.request("GET /ws", &format!("{UPGRADE}{header}")).await;
            let status = raw.head().await.map(|head| head.status);
            if status == Some(101) {
                held.push(raw);
            } else {
                assert!(is_refusal(status), "{status:?}");
            }
        }
        assert!((1..=200).contains(&held.len()), "{}", held.len());
    })
    .await;
}

#[tokio::test]
async fn behind_a_proxy_addresses_are_those_that_it_tells() {
    let flags = ["--max-connections-per-address", "20", "--trusted-proxy", "127.0.0.99/32"];
    attacked(&flags, async |target: &Target| {
        let stream = async |client: &str| {
            let mut raw = Raw::open_from(target.addr, PROXY).await;
            let headers = format!("{}X-Forwarded-For: {client}\r\n", eve());
            let status = raw.upgrade("/ws", &headers).await.status;
            (raw, status)
        };
        let mut held = Vec::new();
        for at in 0..20 {
            // What the client says of itself stands before what the proxy has seen.
            let (raw, status) = stream(&format!("10.9.9.{at}, 192.0.2.1")).await;
            assert_eq!(status, 101);
            held.push(raw);
        }
        for spoofed in ["192.0.2.1", "10.0.0.1, 192.0.2.1", "127.0.0.99, 192.0.2.1", "x, 192.0.2.1"]
        {
            let (_, status) = stream(spoofed).await;
            assert_eq!(status, 429, "{spoofed}");
        }
        let (_raw, status) = stream("192.0.2.2").await;
        assert_eq!(status, 101);
    })
    .await;
}

#[tokio::test]
async fn there_are_so_many_connections_in_all() {
    attacked(&["--max-connections", "60"], async |target: &Target| {
        let mut held = Vec::new();
        let mut refused = 0;
        for at in 0..200_u8 {
            let raw = Raw::open_from(target.addr, Ipv4Addr::new(127, 0, 1, at)).await;
            match met(raw, "").await {
                (raw, Some(200)) => held.push(raw),
                (_, status) => {
                    assert!(is_refusal(status), "{status:?}");
                    refused += 1;
                }
            }
        }
        // The bystander's are among them.
        assert!((40..60).contains(&held.len()), "{} held, {refused} refused", held.len());
        drop(held);
        until("places are free", || async {
            let (_, status) = met(Raw::open(target.addr).await, "").await;
            (status == Some(200)).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn one_subject_has_so_many_connections_and_no_more() {
    attacked(&["--max-connections-per-subject", "5"], async |target: &Target| {
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut raw = Raw::open(target.addr).await;
            assert_eq!(raw.upgrade("/ws", &eve()).await.status, 101);
            assert_eq!(raw.text().await["event"], "welcome");
            held.push(raw);
        }
        for _ in 0..2 {
            let mut raw = Raw::open(target.addr).await;
            raw.request("GET /events", &eve()).await;
            assert_eq!(raw.head().await.unwrap().status, 200);
            let mut said = String::new();
            while !said.contains("welcome") {
                said.push_str(&String::from_utf8(raw.chunk().await.unwrap()).unwrap());
            }
            held.push(raw);
        }
        // From wherever: by a header, a frame, or as a stream.
        let closed = Closed::With(4003, "rate_limited".into());
        let mut raw = Raw::open_from(target.addr, EVIL).await;
        assert_eq!(raw.upgrade("/ws", &eve()).await.status, 101);
        assert_eq!(raw.closed().await, closed);
        let mut raw = Raw::open_from(target.addr, EVIL).await;
        assert_eq!(raw.upgrade("/ws", "").await.status, 101);
        let auth = json!({"event": "auth", "data": {"token": jwt::of(EVE, "user")}});
        raw.send(text(&auth.to_string())).await;
        assert_eq!(raw.closed().await, closed);
        let mut raw = Raw::open(target.addr).await;
        raw.request("GET /events", &eve()).await;
        assert_eq!(raw.head().await.unwrap().status, 200);
        let said = raw.stream_to_its_end().await;
        assert!(said.contains(r#""code":4003,"name":"rate_limited""#), "{said}");
        // Somebody else is somebody else, and a place that is given back is there.
        let mut other = Raw::open(target.addr).await;
        let ann = bearer(&jwt::of("ann@shop.example", "user"));
        assert_eq!(other.upgrade("/ws", &ann).await.status, 101);
        assert_eq!(other.text().await["event"], "welcome");
        held.pop();
        until("a place is free", || async {
            let mut raw = Raw::open(target.addr).await;
            raw.upgrade("/ws", &eve()).await;
            raw.frame().await.filter(|frame| frame.opcode == 1).map(|_| ())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn upgrades_come_at_a_rate() {
    attacked(&["--upgrades-per-second", "5"], async |target: &Target| {
        let (mut taken, mut refused) = (0, 0);
        for at in 0..400 {
            let mut raw = Raw::open_from(target.addr, EVIL).await;
            if at % 2 == 0 {
                raw.request("GET /events", &eve()).await;
            } else {
                raw.request("GET /ws", &format!("{}{}", UPGRADE, eve())).await;
            }
            let answer = raw.head().await.expect("an answer");
            match answer.status {
                101 | 200 => taken += 1,
                429 => {
                    let after: u64 = answer.header("retry-after").parse().expect("seconds");
                    assert!((1..=60).contains(&after), "{after}");
                    refused += 1;
                }
                other => panic!("{other}"),
            }
        }
        assert!(taken >= 1 && refused >= 100, "{taken} taken, {refused} refused");
        // Requests that open nothing go on.
        assert_eq!(
            Raw::open_from(target.addr, EVIL).await.ask("GET /livez", "", "").await.status,
            200
        );
        until("the next may come", || async {
            let mut raw = Raw::open(target.addr).await;
            (raw.upgrade("/ws", &eve()).await.status == 101).then_some(())
        })
        .await;
    })
    .await;
}

/// Asks for more rooms than anybody may have.
pub(crate) async fn bomb_of_rooms(target: &Target) {
    // Names as long as they may be, of which none may be joined: they are in no table.
    let names = (0..64).map(|at| format!("room=x{at:02}:{}", "n".repeat(120)));
    let path = format!("/ws?{}", names.collect::<Vec<_>>().join("&"));
    let mut open = Vec::new();
    for at in 0..200 {
        let mut raw = Raw::open(target.addr).await;
        let header = bearer(&jwt::of(&format!("eve{at}@shop.example"), "user"));
        assert_eq!(raw.upgrade(&path, &header).await.status, 101);
        let asks = (0..64).map(|room| {
            let room = format!("y{at}.{room}:{}", "n".repeat(110));
            text(&json!({"event": "subscribe", "data": {"room": room}}).to_string())
        });
        raw.send(asks.collect::<Vec<_>>().concat()).await;
        open.push(raw);
    }
    for mut raw in open {
        assert_eq!(raw.text().await["event"], "welcome");
        for _ in 0..128 {
            let code = raw.text().await["data"]["code"].clone();
            assert!(code == "forbidden" || code == "rate_limited", "{code}");
        }
    }
}

#[tokio::test]
async fn a_bomb_of_rooms_leaves_nothing() {
    attacked(&[], bomb_of_rooms).await;
}

#[tokio::test]
async fn changes_come_at_a_rate_for_each_subject() {
    // The bystander changes twice in fifty milliseconds, as two subjects.
    attacked(&["--write-rate", "40"], async |target: &Target| {
        let mut raw = Raw::open(target.addr).await;
        for line in ["POST /api/ticket", "POST /api/orders", "POST /api/orders/x/cancel"] {
            let subject = line.rsplit('/').next().unwrap();
            let header = bearer(&jwt::of(subject, "user"));
            let mut refused = 0;
            for _ in 0..1000 {
                let answer = raw.ask(line, &header, "").await;
                if answer.status == 429 {
                    assert_eq!(answer.code(), (429, "rate_limited".into()));
                    assert!(
                        answer.header("retry-after").parse::<u64>().is_ok_and(|after| after >= 1)
                    );
                    refused += 1;
                }
            }
            assert!(refused > 100, "{line}: {refused}");
        }
    })
    .await;
}

#[tokio::test]
async fn log_ins_come_at_a_rate_for_each_address() {
    attacked(&["--login-rate", "2"], async |target: &Target| {
        let mut refused = 0;
        let mut raw = Raw::open_from(target.addr, EVIL).await;
        for at in 0..300 {
            let body = format!(r#"{{"email":"eve{at}@shop.example"}}"#);
            // Nobody believes where it says to come from.
            let from = format!("X-Forwarded-For: 10.1.0.{}\r\n", at % 250);
            let headers = format!("Content-Type: application/json\r\n{from}");
            let answer = raw.ask("POST /api/login", &headers, &body).await;
            if answer.status != 200 {
                assert_eq!(answer.code(), (429, "rate_limited".into()));
                let after = answer.header("retry-after").parse::<u64>();
                assert!(after.is_ok_and(|after| (1..=60).contains(&after)));
                assert_eq!(answer.header("set-cookie"), "");
                refused += 1;
            }
        }
        assert!(refused > 100, "{refused}");
        // Another address has its own.
        let json = "Content-Type: application/json\r\n";
        let mut raw = Raw::open(target.addr).await;
        let answer = raw.ask("POST /api/login", json, r#"{"email":"ann@shop.example"}"#).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    })
    .await;
}

#[tokio::test]
async fn who_comes_and_goes_leaves_nothing() {
    attacked(&[], async |target: &Target| {
        for at in 0..1500_u32 {
            let mut raw =
                Raw::open_from(target.addr, Ipv4Addr::new(127, 0, 2, (at % 250) as u8)).await;
            let header = bearer(&jwt::of(&format!("eve{at}@shop.example"), "user"));
            match at % 6 {
                // Gone before a word, in the middle of one, and behind each step.
                0 => {}
                1 => drop(raw.send("GET /ws HT").await),
                2 => drop(raw.request("GET /ws", UPGRADE).await),
                3 => drop(raw.upgrade("/ws", &header).await),
                4 => drop(raw.request("GET /events", &header).await),
                _ => {
                    raw.upgrade("/ws?cursor=k.nonsense", &header).await;
                    raw.frame().await;
                }
            }
        }
        let login = |at: u32| format!(r#"{{"email":"eve{at}@shop.example"}}"#);
        let mut raw = Raw::open(target.addr).await;
        for at in 0..500 {
            let json = "Content-Type: application/json\r\n";
            let answer = raw.ask("POST /api/login", json, &login(at)).await;
            assert!([200, 429].contains(&answer.status), "{}", answer.text());
        }
    })
    .await;
}

#[tokio::test]
async fn many_streams_that_nobody_reads_leave_nothing() {
    attacked(&[], async |target: &Target| {
        let mut open = Vec::new();
        for at in 0..400_u32 {
            let mut raw = Raw::open_narrow(target.addr).await;
            let header = bearer(&jwt::of(&format!("eve{}@shop.example", at % 100), "admin"));
            raw.request("GET /events?room=inventory:updates", &header).await;
            open.push(raw);
        }
        until("all are there", || async {
            (target.metric("fanout_connections").await >= 403.0).then_some(())
        })
        .await;
    })
    .await;
}
