//! Somebody who has nothing to do with it: a user with a WebSocket and an event stream, and
//! an admin, who are told of all that the user orders, each once, version by version.
//!
//! An order is placed when all three have been told of the one before; each must be what
//! comes next. So nothing can be missing, twice or out of order without being seen at once,
//! and orders that are told of during an attack tell that delivery went on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::jwt::{self, bearer};
use crate::raw::{Raw, frame};
use crate::support::{DEADLINE, apples};
use crate::target::Target;

/// Between two orders, so that attackers have some of the machine too.
pub(crate) const PACE: Duration = Duration::from_millis(50);

/// Who orders.
pub(crate) const SUBJECT: &str = "bystander@shop.example";

/// Somebody who orders and is told, until stopped.
pub(crate) struct Bystander {
    told: Arc<AtomicU64>,
    go_on: watch::Sender<bool>,
    doing: JoinHandle<Three>,
}

/// The three who are told, and how they ask.
pub(crate) struct Three {
    rest: Raw,
    user: String,
    admin: String,
    socket: Raw,
    events: Events,
    dashboard: Raw,
}

struct Events {
    raw: Raw,
    text: String,
    waiting: VecDeque<Value>,
}

impl Bystander {
    pub(crate) async fn comes(target: &Target) -> Self {
        Self::at_pace(target, PACE).await
    }

    pub(crate) async fn at_pace(target: &Target, pace: Duration) -> Self {
        let (user, admin) = (jwt::of(SUBJECT, "user"), jwt::of("boss", "admin"));
        Self::with_tokens(target, &user, &admin, pace).await
    }

    pub(crate) async fn with_tokens(
        target: &Target,
        user: &str,
        admin: &str,
        pace: Duration,
    ) -> Self {
        let (user, admin) = (bearer(user), bearer(admin));
        let mut three = Three {
            rest: Raw::open(target.addr).await,
            socket: socket(target, &user).await,
            events: Events::open(target, &user).await,
            dashboard: socket(target, &admin).await,
            user,
            admin,
        };
        three.round().await;
        let told = Arc::new(AtomicU64::new(0));
        let (go_on, mut going) = watch::channel(true);
        let counting = told.clone();
        let doing = tokio::spawn(async move {
            let mut pace = tokio::time::interval(pace);
            while *going.borrow_and_update() {
                three.round().await;
                counting.fetch_add(1, Ordering::Relaxed);
                pace.tick().await;
            }
            three
        });
        Self { told, go_on, doing }
    }

    /// Waits until some more orders have been told of.
    pub(crate) async fn is_told(&self, more: u64) {
        let enough = self.told.load(Ordering::Relaxed) + more;
        let told = async {
            while self.told.load(Ordering::Relaxed) < enough {
                assert!(!self.doing.is_finished(), "the bystander was let down");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, told).await.expect("delivery goes on");
    }

    /// How many orders have been told of.
    pub(crate) fn orders(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// Orders no more, and stays.
    pub(crate) async fn pauses(self) -> Three {
        let _ = self.go_on.send(false);
        tokio::time::timeout(DEADLINE, self.doing).await.expect("in time").expect("never let down")
    }
}

impl Three {
    /// An order is placed and paid for; all are told, and of nothing else in between.
    pub(crate) async fn round(&mut self) {
        let json = "Content-Type: application/json\r\n";
        let headers = format!("{json}{}", self.user);
        let placed = self.rest.ask("POST /api/orders", &headers, &apples().to_string()).await;
        assert_eq!(placed.status, 201, "{}", placed.text());
        let id = placed.json()["orderId"].as_str().unwrap().to_owned();
        self.are_told(&["order:created", "notification"], &id, 1).await;

        let (line, headers) =
            (format!("PATCH /api/orders/{id}/status"), format!("{json}{}", self.admin));
        let paid = self.rest.ask(&line, &headers, &json!({"status": "paid"}).to_string()).await;
        assert_eq!(paid.status, 200, "{}", paid.text());
        self.are_told(&["order:updated"], &id, 2).await;
    }

    async fn are_told(&mut self, events: &[&str], id: &str, version: u64) {
        for event in events {
            is(&own(&mut self.socket).await, event, id, version);
            is(&self.events.next().await, event, id, version);
        }
        let told = loop {
            let told = own(&mut self.dashboard).await;
            // What attackers order, the admin is told of too.
            if told["data"]["buyerId"] == SUBJECT {
                break told;
            }
        };
        is(&told, &format!("admin:{}", events[0]), id, version);
    }
}

fn is(told: &Value, event: &str, id: &str, version: u64) {
    assert_eq!((&told["event"], &told["data"]["orderId"]), (&json!(event), &json!(id)), "{told}");
    if event != "notification" {
        assert_eq!(told["data"]["version"], version, "{told}");
    }
}

/// The next event; pings are answered.
async fn own(socket: &mut Raw) -> Value {
    loop {
        let got = socket.frame().await.expect("the bystander stays connected");
        match got.opcode {
            1 => {
                let object: Value = serde_json::from_slice(&got.payload).unwrap();
                if object["event"] != "heartbeat" {
                    return object;
                }
            }
            9 => assert!(socket.send(frame(0x8a, &got.payload)).await),
            other => panic!("opcode {other}: {:?}", String::from_utf8_lossy(&got.payload)),
        }
    }
}

async fn socket(target: &Target, headers: &str) -> Raw {
    let mut raw = Raw::open(target.addr).await;
    assert_eq!(raw.upgrade("/ws", headers).await.status, 101);
    assert_eq!(raw.text().await["event"], "welcome");
    raw
}

impl Events {
    async fn open(target: &Target, headers: &str) -> Self {
        let mut raw = Raw::open(target.addr).await;
        raw.request("GET /events", headers).await;
        assert_eq!(raw.head().await.expect("an answer").status, 200);
        let mut events = Self { raw, text: String::new(), waiting: VecDeque::new() };
        assert_eq!(events.next().await["event"], "welcome");
        events
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return event;
            }
            let chunk = self.raw.chunk().await.expect("the stream goes on");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.lines().filter_map(|line| line.strip_prefix("data:"));
                let data: String = data.collect();
                if !data.is_empty() {
                    let object: Value = serde_json::from_str(&data).unwrap();
                    if object["event"] != "heartbeat" {
                        self.waiting.push_back(object);
                    }
                }
                self.text = rest.to_string();
            }
        }
    }
}
