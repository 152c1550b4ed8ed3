//! All of it together, for as long as is asked for: clients that come and go, with and
//! without what they had; clients that stop reading; floods of frames, bad tokens, half
//! requests and garbage; and orders all along, of which the bystander misses none.
//!
//! ```text
//! FANOUT_SOAK_SECONDS=3600 cargo test -p order-server --test attacks -- --ignored soak
//! ```
//!
//! Memory, descriptors and threads are sampled each second. The first third is for warming
//! up; what the last third has in the median is compared with the middle one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::bystander::Bystander;
use crate::jwt::{self, bearer};
use crate::raw::{Raw, UPGRADE, frame, text};
use crate::target::{Target, Usage};
use crate::wire::Place;

/// What the allocator may have more of in the last third than in the middle one: it moves by
/// a few MiB with what happens to be open when a sample is taken. A leak of 1 KiB for each
/// connection that came and went is more than that within three minutes.
const NOISE_KIB: u64 = 8 * 1024;

/// What the embedded broker keeps of an order beside its own bytes: a second record, keys,
/// and the database's pages. It forgets at 5 MiB a partition, of which few are written to.
const RECORD_BYTES: u64 = 2048;
const BROKER_KIB: u64 = 32 * 1024;

/// Descriptors that come and go with those who do.
const DESCRIPTORS: usize = 40;

/// What was done.
#[derive(Default)]
struct Tally {
    came: AtomicU64,
    resumed: AtomicU64,
    stalled: AtomicU64,
    flooded: AtomicU64,
    garbage: AtomicU64,
    large: AtomicU64,
}

impl Tally {
    fn count(of: &AtomicU64) {
        of.fetch_add(1, Ordering::Relaxed);
    }
}

/// Somebody who goes on until the end.
#[derive(Clone)]
struct Actor {
    target: Place,
    tally: Arc<Tally>,
    until: Instant,
    from: Ipv4Addr,
    name: String,
}

impl Actor {
    async fn opens(&self) -> Raw {
        Raw::open_from(self.target, self.from).await
    }

    fn token(&self) -> String {
        bearer(&jwt::of(&self.name, "admin"))
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// Opens a WebSocket; what it is welcomed with, where it is.
    async fn connects(&self, path: &str) -> Option<(Raw, Value)> {
        let mut raw = self.opens().await;
        raw.request(&format!("GET {path}"), &format!("{UPGRADE}{}", self.token())).await;
        if raw.head().await?.status != 101 {
            return None;
        }
        let welcome = raw.frame().await.filter(|frame| frame.opcode == 1)?;
        Some((raw, serde_json::from_slice(&welcome.payload).unwrap()))
    }

    /// Comes, stays for a moment, goes in one way or another, and comes back with its cursor.
    async fn comes_and_goes(self) {
        let mut path = "/ws?room=inventory:updates".to_owned();
        for at in 0_u64.. {
            if !self.goes_on() {
                return;
            }
            let stay = Duration::from_millis(10 + at * 37 % 200);
            if at % 4 == 3 {
                let mut raw = self.opens().await;
                raw.request("GET /events", &self.token()).await;
                if raw.head().await.is_none_or(|head| head.status != 200) {
                    continue;
                }
                let reading = async { while raw.chunk().await.is_some() {} };
                let _ = tokio::time::timeout(stay, reading).await;
                Tally::count(&self.tally.came);
                continue;
            }
            let Some((mut raw, welcome)) = self.connects(&path).await else {
                tokio::time::sleep(stay).await;
                continue;
            };
            Tally::count(&self.tally.came);
            if welcome["data"]["recovered"] == true {
                Tally::count(&self.tally.resumed);
            }
            let cursor = welcome["data"]["cursor"].as_str().unwrap_or_default().to_owned();
            path = if at % 3 == 0 { "/ws".to_owned() } else { format!("/ws?cursor={cursor}") };
            let reading = async { while raw.frame().await.is_some() {} };
            let _ = tokio::time::timeout(stay, reading).await;
            if at % 2 == 0 {
                raw.send(frame(0x88, b"\x03\xe8")).await;
                raw.closed().await;
            }
        }
    }

    /// Reads nothing for longer than the server is patient, while much is to be read.
    async fn stalls(self) {
        while self.goes_on() {
            let mut raw = Raw::open_narrow(self.target).await;
            raw.request("GET /ws", &format!("{UPGRADE}{}", self.token())).await;
            Tally::count(&self.tally.stalled);
            let patience = Duration::from_secs(20).min(self.until - Instant::now());
            tokio::time::sleep(patience).await;
        }
    }

    /// Floods of frames, each of another kind, for a second or until sent away.
    async fn floods(self) {
        let token = json!({"event": "auth", "data": {"token": jwt::of(&self.name, "admin")}});
        let subscribe =
            json!({"event": "subscribe", "data": {"room": "user:".to_owned() + &"x".repeat(100)}});
        let kinds = [
            frame(0x89, &[b'x'; 125]),
            text(&subscribe.to_string()),
            text(&token.to_string()),
            [frame(0x01, b""), frame(0x00, b"")].concat(),
            text(r#"{"event":"subscribe","data":{"room":"inventory:updates"}}"#),
        ];
        for kind in kinds.iter().cycle() {
            if !self.goes_on() {
                return;
            }
            if let Some((mut raw, _)) = self.connects("/ws").await {
                let _ = tokio::time::timeout(Duration::from_secs(1), raw.floods(kind)).await;
            }
            Tally::count(&self.tally.flooded);
            // The others want to have something of the machine as well.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Bad tokens, half requests, garbage.
    async fn talks_garbage(self) {
        let mut half_open: Vec<Raw> = Vec::new();
        for at in 0_usize.. {
            if !self.goes_on() {
                return;
            }
            let mut raw = self.opens().await;
            let bad = bearer(&jwt::signed(r#"{"alg":"none"}"#, &jwt::claims("x", "admin"), b"x"));
            match at % 5 {
                0 => drop(raw.request("GET /ws", &format!("{UPGRADE}{bad}")).await),
                1 => drop(raw.request("GET /events", &bad).await),
                2 => drop(raw.request("GET /api/stats", &bad).await),
                3 => drop(raw.send("\0\u{1}\u{2} garbage\r\n\r\n").await),
                _ => drop(raw.send("GET / HTTP/1.1\r\nX: ").await),
            }
            if at % 5 < 4 {
                raw.head().await;
            } else {
                half_open.push(raw);
                half_open.drain(..half_open.len().saturating_sub(50));
            }
            Tally::count(&self.tally.garbage);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Orders so much that who does not read falls behind.
    async fn orders_much(self) {
        let item = json!({"sku": "A", "name": "x".repeat(200), "quantity": 1, "unitPrice": 1});
        let order = json!({"items": vec![item; 100]}).to_string();
        let headers = format!("Content-Type: application/json\r\n{}", self.token());
        let mut raw = self.opens().await;
        while self.goes_on() {
            let placed = raw.ask("POST /api/orders", &headers, &order).await;
            assert_eq!(placed.status, 201, "{}", placed.text());
            self.tally.large.fetch_add(order.len() as u64, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

fn median<T: Copy + Ord>(samples: &[(Usage, u64)], of: impl Fn(&Usage) -> T) -> T {
    let mut values: Vec<T> = samples.iter().map(|(usage, _)| of(usage)).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes FANOUT_SOAK_SECONDS, three minutes if it does not say"]
async fn soak() {
    let seconds = std::env::var("FANOUT_SOAK_SECONDS").ok();
    let seconds: u64 =
        seconds.map_or(180, |text| text.parse().expect("FANOUT_SOAK_SECONDS: a number"));
    assert!(seconds >= 15, "FANOUT_SOAK_SECONDS: 15 or more");
    let target = Target::start_as_it_comes(&[
        "--log-mib",
        "16",
        "--log-secs",
        "5",
        "--replay-records",
        "1000",
    ])
    .await;
    let bystander = Bystander::at_pace(&target, Duration::from_millis(100)).await;
    let before = target.settled().await;

    let tally = Arc::new(Tally::default());
    let actor = Actor {
        target: target.addr,
        tally: tally.clone(),
        until: Instant::now() + Duration::from_secs(seconds),
        from: Ipv4Addr::LOCALHOST,
        name: "crowd@shop.example".into(),
    };
    let mut actors = JoinSet::new();
    // Those who are refused for flooding share no address with those who come and go.
    for at in 0..10 {
        let actor = |network| Actor {
            from: Ipv4Addr::new(127, 0, network, at + 1),
            name: format!("crowd{at}@shop.example"),
            ..actor.clone()
        };
        actors.spawn(actor(3).comes_and_goes());
        if at < 4 {
            actors.spawn(actor(3).stalls());
        }
        if at < 2 {
            actors.spawn(actor(4).floods());
            actors.spawn(actor(5).talks_garbage());
        }
    }
    actors.spawn(actor.clone().orders_much());

    // What the broker has got by then is sampled with what the server has.
    let mut samples: Vec<(Usage, u64)> = Vec::new();
    let mut each = tokio::time::interval(Duration::from_secs(1));
    while actor.goes_on() {
        each.tick().await;
        let kept = tally.large.load(Ordering::Relaxed) + bystander.orders() * 2 * RECORD_BYTES;
        samples.push((target.usage().await, kept / 1024));
        while let Some(ended) = actors.try_join_next() {
            ended.expect("nobody is let down");
        }
    }
    while let Some(ended) = actors.join_next().await {
        ended.expect("nobody is let down");
    }
    bystander.is_told(3).await;
    let orders = bystander.orders();
    let mut three = bystander.pauses().await;
    let after = target.settled().await;
    three.round().await;

    let third = samples.len() / 3;
    let (middle, last) = (&samples[third..2 * third], &samples[2 * third..]);
    let kept = (last[last.len() / 2].1 - middle[third / 2].1).min(BROKER_KIB);
    let rss = [median(middle, |usage| usage.rss), median(last, |usage| usage.rss)];
    let descriptors = [middle, last].map(|of| median(of, |usage| usage.descriptors));
    let threads = [middle, last].map(|of| median(of, |usage| usage.threads));
    let load = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let figures = BTreeMap::from([
        ("orders", orders),
        ("came", load(&tally.came)),
        ("resumed", load(&tally.resumed)),
        ("stalled", load(&tally.stalled)),
        ("flooded", load(&tally.flooded)),
        ("garbage", load(&tally.garbage)),
    ]);
    println!(
        "soak: {seconds} s, {figures:?}; KiB {} at first, then in the median {} and {}, {} at the \
         end; descriptors {descriptors:?}, threads {threads:?}",
        before.rss, rss[0], rss[1], after.rss
    );
    // None of it was without effect.
    assert!(figures.values().all(|figure| *figure > 0), "{figures:?}");
    assert!(rss[1] <= rss[0] + NOISE_KIB + kept, "memory grows: {rss:?} KiB");
    assert!(descriptors[1] <= descriptors[0] + DESCRIPTORS, "{descriptors:?} descriptors");
    assert!(threads[1] <= threads[0], "{threads:?} threads");
    assert!(after.sockets <= before.sockets, "{before:?}, and {after:?} at the end");
    drop(three);
    target.end().await;
}
