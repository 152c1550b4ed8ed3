//! What nobody may read in a log: tokens, tickets, secrets, passwords and keys.
//!
//! A server at the loudest level is asked in every way there is, rightly and wrongly, and then
//! all that it said is searched: stdout, stderr, `/metrics` and the answers.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fanout::Identity;
use futures::StreamExt as _;
use kafka_source::EmbeddedBroker;
use serde_json::{Map, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use ws_sink::auth::Hs256;

use crate::raw::{listens, raw};
use crate::support::socket::Socket;
use crate::support::{Answer, Client, DEADLINE, until};

const SECRET: &str = "kX2nY7pQ4mB9tR5wZ1cV8jL3sD6hF0gA";
const OTHER_SECRET: &str = "uE5yT1rW8qI3oP6aS9dF2gH7jK4lZ0xC";
const CURSOR_KEY: &str = "vB6nM1kJ8hG3fD5sA9pO2iU7yT4rE0wQ";
const PASSWORD: &str = "zX8cV2bN6mA1sD7fG3hJ9kL5qW4eR0tY";

/// As much of a secret as is too much.
const WINDOW: usize = 12;

/// A server as a process, and all that it has said.
struct Loud {
    child: Child,
    said: Arc<Mutex<String>>,
    nobody: Client,
}

impl Loud {
    async fn start(kafka: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_order-server"))
            .args(["--port", "0", "--data", ":memory:", "--log", "trace", "--drain-secs", "2"])
            .args(["--auth", "dev", "--kafka", kafka])
            .env("ORDER_SERVER_SECRET", SECRET)
            .env("ORDER_SERVER_CURSOR_KEYS", format!("a:{CURSOR_KEY}"))
            .env("ORDER_SERVER_KAFKA_PROPERTY", format!("sasl.password={PASSWORD}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let (address, found) = tokio::sync::oneshot::channel();
        let (hears, hears_too) = (said.clone(), said.clone());
        tokio::spawn(async move {
            let mut address = Some(address);
            while let Ok(Some(line)) = out.next_line().await {
                let url = line.trim().strip_prefix("open ").map(str::trim);
                if let (Some(url), Some(address)) = (url, url.and_then(|_| address.take())) {
                    let url = url.trim_start_matches("http://").trim_end_matches('/');
                    address.send(url.parse().unwrap()).unwrap();
                }
                writeln!(hears.lock().unwrap(), "{line}").unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok(Some(line)) = errors.next_line().await {
                writeln!(hears_too.lock().unwrap(), "{line}").unwrap();
            }
        });
        let addr = tokio::time::timeout(DEADLINE, found).await.expect("started in time").unwrap();
        let nobody = Client { addr, headers: http::HeaderMap::new() };
        until("ready", async || (nobody.get("/readyz").await.status == 200).then_some(())).await;
        Self { child, said, nobody }
    }

    /// Ends it, and gives all that it has said.
    async fn end(mut self) -> String {
        let id = self.child.id().expect("it runs").to_string();
        Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
        tokio::time::timeout(DEADLINE, self.child.wait()).await.expect("it ends").unwrap();
        let said = &self.said;
        until("its last words", async || said.lock().unwrap().contains("stopped").then_some(()))
            .await;
        std::mem::take(&mut *self.said.lock().unwrap())
    }
}

fn token(secret: &str, subject: &str, seconds: i64) -> String {
    let step = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    let end = if seconds < 0 { now - step } else { now + step };
    let identity = Identity::new(subject, ["user"]).with_expiry(Some(end));
    Hs256::new(secret.as_bytes()).unwrap().sign(&identity, &Map::new()).unwrap()
}

/// Everything that must not be seen, by what it is.
#[derive(Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn add(&mut self, what: &'static str, text: &str) {
        // A token's first part says how it is signed, and is the same for all.
        let text = text.split_once('.').map_or(text, |(_, rest)| rest);
        self.0.push((what, text.to_owned()));
    }

    /// What of them is in a text: as it is, in hexadecimal, or as a list of bytes.
    fn found_in(&self, text: &str) -> Vec<String> {
        let mut forms: HashMap<Vec<u8>, &'static str> = HashMap::new();
        for (what, secret) in &self.0 {
            for window in secret.as_bytes().windows(WINDOW) {
                let mut hex = String::new();
                for byte in window {
                    write!(hex, "{byte:02x}").unwrap();
                }
                let list: Vec<_> = window.iter().map(ToString::to_string).collect();
                for form in [window.to_vec(), hex.into_bytes(), list.join(", ").into_bytes()] {
                    forms.insert(form, what);
                }
            }
        }
        let lengths: std::collections::BTreeSet<_> = forms.keys().map(Vec::len).collect();
        let mut found = Vec::new();
        for line in text.lines() {
            let here = lengths
                .iter()
                .find_map(|len| line.as_bytes().windows(*len).find_map(|window| forms.get(window)));
            found.extend(here.map(|what| format!("{what}: {line}")));
        }
        found
    }
}

/// Who asks in every way there is, and what was answered.
struct Asker {
    nobody: Client,
    good: String,
    bad: [String; 5],
    secrets: Secrets,
    answers: String,
}

impl Asker {
    async fn new(nobody: &Client) -> Self {
        let login = nobody.post("/api/login", &json!({"email": "ann@x"})).await.json();
        let good = login["token"].as_str().unwrap().to_owned();
        let bad = [
            token(OTHER_SECRET, "ann@x", 3600),
            token(SECRET, "ann@x", -3600),
            format!("{}x", token(SECRET, "ann@x", 3600)),
            "not.a.tokenatallbutlongenough".to_owned(),
            "x".repeat(9000),
        ];
        let mut secrets = Secrets::default();
        for (what, text) in [
            ("secret", SECRET),
            ("other secret", OTHER_SECRET),
            ("cursor key", CURSOR_KEY),
            ("password", PASSWORD),
            ("token", &good),
        ] {
            secrets.add(what, text);
        }
        for token in &bad {
            secrets.add("bad token", token);
        }
        Self { nobody: nobody.clone(), good, bad, secrets, answers: String::new() }
    }

    fn note(&mut self, answer: &Answer) {
        assert!(answer.status.as_u16() >= 400, "only refusals are searched: {}", answer.text());
        writeln!(self.answers, "{:?}\n{}", answer.headers, answer.text()).unwrap();
    }

    fn by_cookie(&self, token: &str) -> Client {
        self.nobody.with("cookie", &format!("token={token}"))
    }

    fn by_list(&self, token: &str) -> Client {
        self.nobody.with("sec-websocket-protocol", &format!("fanout.v1, bearer.{token}"))
    }

    async fn asks_over_http(&mut self) {
        let (nobody, ann) = (self.nobody.clone(), self.good.clone());
        for good in [nobody.bearer(&ann), self.by_cookie(&ann)] {
            assert_eq!(good.get("/api/orders").await.status, 200);
            good.order().await;
            self.note(&good.get("/api/stats").await);
            self.note(&good.get("/api/orders/none").await);
            self.note(&good.post("/api/revoke", &json!({"subject": ann})).await);
            assert_eq!(good.send("POST", "/api/logout", "").await.status, 204);
        }
        for token in self.bad.clone() {
            self.note(&nobody.bearer(&token).get("/api/orders").await);
            self.note(&self.by_cookie(&token).get("/api/orders").await);
        }
        // In an address, where it does not belong.
        for token in [&ann, &self.bad[0].clone()] {
            for path in ["/api/orders", "/ws", "/events", "/nothing", "/"] {
                self.note(&nobody.get(&format!("{path}?token={token}")).await);
                self.note(&nobody.get(&format!("{path}?a=b&access_token={token}")).await);
            }
            self.note(&nobody.get(&format!("/api/orders/{token}")).await);
            self.note(&nobody.get(&format!("/{token}")).await);
        }
        // In a body, which is quoted where it is wrong.
        let form = nobody.with("content-type", "application/json");
        self.note(&form.send("POST", "/api/login", format!("{{\"email\":{ann}}}")).await);
        let login = json!({"email": 7, "token": ann});
        self.note(&nobody.bearer(&ann).post("/api/login", &login).await);
        // In what is no HTTP.
        for text in [
            format!("GET / HTTP/9.9\r\nAuthorization: Bearer {ann}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nAuthorization Bearer {ann}\r\n\r\n"),
            format!("{ann}\r\n\r\n"),
            format!(
                "GET / HTTP/1.1\r\nHost: x\r\nCookie: token={ann}\r\nContent-Length: -\r\n\r\n"
            ),
        ] {
            self.answers += &raw(&nobody, &text).await;
        }
    }

    async fn asks_over_sockets(&mut self) {
        let (nobody, ann) = (self.nobody.clone(), self.good.clone());
        for client in [nobody.bearer(&ann), self.by_list(&ann), self.by_cookie(&ann)] {
            let (mut socket, _) = Socket::welcome(&client).await;
            for token in self.bad.iter().chain([&ann]) {
                let frame = json!({"event": "auth", "id": 1, "data": {"token": token}});
                socket.send(&frame.to_string()).await;
                self.answers += &socket.next().await.to_string();
            }
            // A token where none belongs.
            socket.send(&json!({"event": ann, "data": {"room": ann}}).to_string()).await;
            socket.next().await;
            socket.send(&format!("{{\"event\":\"auth\",\"data\":{{\"token\":{ann}}}}}")).await;
            socket.next().await;
        }
        for token in &self.bad {
            for client in [nobody.bearer(token), self.by_list(token), self.by_cookie(token)] {
                Socket::open(&client, "/ws").await.closed().await;
            }
            let mut socket = Socket::open(&nobody, "/ws").await;
            socket.send(&json!({"event": "auth", "data": {"token": token}}).to_string()).await;
            socket.closed_at_last().await;
        }
        let mut socket = Socket::open(&nobody, "/ws").await;
        socket.send(&json!({"event": "auth", "data": {"token": ann}}).to_string()).await;
        socket.expect("welcome").await;
    }

    async fn asks_with_tickets(&mut self) {
        let (nobody, ann) = (self.nobody.clone(), self.nobody.bearer(&self.good));
        for path in ["/ws", "/events"] {
            let ticket = ann.send("POST", "/api/ticket", "").await.json();
            let ticket = ticket["ticket"].as_str().unwrap();
            self.secrets.add("ticket", ticket);
            let path = format!("{path}?ticket={ticket}&room=inventory:updates");
            if path.starts_with("/ws") {
                Socket::open(&nobody, &path).await.expect("welcome").await;
                Socket::open(&nobody, &path).await.closed().await;
            } else {
                assert!(listens(&nobody, &path).await.contains("welcome"));
                self.answers += &listens(&nobody, &path).await;
            }
            self.answers += &listens(&nobody, &path.replace("room=", "ticket=")).await;
        }
    }
}

#[tokio::test]
async fn nothing_secret_is_ever_said() {
    let broker = EmbeddedBroker::start().unwrap();
    // It makes none of those that it is asked for, and without this one nobody is ready.
    broker.create_topic("fanout.control", 1).unwrap();
    let server = Loud::start(broker.bootstrap_servers()).await;
    let mut asker = Asker::new(&server.nobody).await;
    asker.asks_over_http().await;
    asker.asks_over_sockets().await;
    asker.asks_with_tickets().await;
    asker.answers += server.nobody.get("/metrics").await.text();
    let said = server.end().await;
    // Else nothing was searched.
    assert!(said.contains("TRACE") && said.contains("DEBUG"), "{said}");
    let found = [asker.secrets.found_in(&said), asker.secrets.found_in(&asker.answers)].concat();
    let shown: Vec<_> = found.iter().take(10).collect();
    assert!(found.is_empty(), "{} lines: {shown:#?}", found.len());
}

#[tokio::test]
async fn a_secret_is_found_in_any_form() {
    let mut secrets = Secrets::default();
    secrets.add("password", PASSWORD);
    let part = &PASSWORD[5..5 + WINDOW];
    let list: Vec<_> = part.bytes().map(|byte| byte.to_string()).collect();
    let hex: String = futures::stream::iter(part.bytes())
        .fold(String::new(), async |text, byte| format!("{text}{byte:02x}"))
        .await;
    for text in [part.to_owned(), format!("[{}]", list.join(", ")), hex] {
        assert_eq!(secrets.found_in(&format!("a\nx {text} y\nb")).len(), 1, "{text}");
    }
    assert!(secrets.found_in(&part[1..]).is_empty());
}
