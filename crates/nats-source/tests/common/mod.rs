//! A server of one's own, and a reader that notes what it was handed.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fanout::testing::{Record, SourceWriter};
use fanout::{
    Event, EventBatch, Lane, Replay, ReplayError, ReplayRange, Source as _, SourceHealth,
};
use nats_source::async_nats::{self, Client, ConnectOptions, HeaderMap};
use nats_source::{NatsConfig, NatsSource};
use serde_json::{Value, json};
use tokio::time::timeout;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Tells folders of one process apart.
static SERVERS: AtomicU32 = AtomicU32::new(0);

/// One `nats-server` with a folder and a port of its own; it ends with this.
pub(crate) struct Server {
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// A server that answers.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// A server with these lines in its configuration.
    pub(crate) async fn start_with(lines: &str) -> Self {
        let mut server = Self::not_yet(lines);
        server.run().await;
        server
    }

    /// A server that does not run, and will be at [`address`](Self::address).
    pub(crate) fn not_yet(lines: &str) -> Self {
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("nats-source-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        // Let go again: somebody else is unlikely to be given it at once.
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = port.local_addr().expect("bound").port();
        let data = folder.join("data").display().to_string();
        let config =
            format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {data:?} }}\n{lines}\n");
        std::fs::write(folder.join("server.conf"), config).expect("written");
        Self { folder, port, child: None }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs it, and waits until it takes connections.
    pub(crate) async fn run(&mut self) {
        let program =
            std::env::var_os("FANOUT_TEST_NATS_SERVER").unwrap_or_else(|| "nats-server".into());
        let log = std::fs::File::create(self.folder.join("log")).expect("a log");
        let child = Command::new(&program)
            .arg("-c")
            .arg(self.folder.join("server.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| {
            panic!("{}: {error}; FANOUT_TEST_NATS_SERVER names a nats-server", program.display())
        }));
        let deadline = Instant::now() + DEADLINE;
        loop {
            // It says who it is before anybody has to.
            let mut first = [0; 4];
            if let Ok(mut socket) = tokio::net::TcpStream::connect(self.address()).await {
                let read = tokio::io::AsyncReadExt::read_exact(&mut socket, &mut first).await;
                if read.is_ok() && &first == b"INFO" {
                    return;
                }
            }
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "it does not start: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
    }

    /// Stops it in its tracks; its sockets stay open.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().expect("sent");
        assert!(sent.success());
    }

    /// Notices soon what is new.
    pub(crate) fn config(&self) -> NatsConfig {
        NatsConfig::new(self.address())
            .info_interval(Duration::from_millis(100))
            .missing_grace(Duration::from_millis(300))
            .request_timeout(Duration::from_secs(2))
    }

    /// Writes this to it, and waits until it was taken.
    pub(crate) async fn write_raw(&self, bytes: &[u8]) {
        let socket = tokio::net::TcpStream::connect(self.address()).await.expect("connected");
        let (read, mut write) = socket.into_split();
        let connect = br#"CONNECT {"verbose":false,"headers":true}"#;
        for part in [&connect[..], b"\r\n", bytes, b"PING\r\n"] {
            tokio::io::AsyncWriteExt::write_all(&mut write, part).await.expect("written");
        }
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(read));
        loop {
            let line = timeout(DEADLINE, lines.next_line()).await.expect("in time");
            let line = line.expect("read").expect("goes on");
            assert!(!line.starts_with("-ERR"), "{line}");
            if line == "PONG" {
                return;
            }
        }
    }

    pub(crate) async fn admin(&self) -> Admin {
        self.admin_with(ConnectOptions::new()).await
    }

    pub(crate) async fn admin_with(&self, options: ConnectOptions) -> Admin {
        let client = options.connect(self.address()).await.expect("connected");
        let admin = Admin(client);
        // JetStream may be a moment later than the rest.
        let deadline = Instant::now() + DEADLINE;
        while admin.try_ask("INFO", json!({})).await.is_none_or(|told| told["error"].is_object()) {
            assert!(Instant::now() < deadline, "JetStream does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        admin
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Makes streams and writes to them.
#[derive(Clone)]
pub(crate) struct Admin(pub(crate) Client);

impl Admin {
    async fn try_ask(&self, what: &str, question: Value) -> Option<Value> {
        let subject = format!("$JS.API.{what}");
        let asked = self.0.request(subject, question.to_string().into());
        let answer = timeout(DEADLINE, asked).await.expect("in time").ok()?;
        Some(serde_json::from_slice(&answer.payload).expect("JSON"))
    }

    /// Asks, and takes no refusal.
    pub(crate) async fn ask(&self, what: &str, question: Value) -> Value {
        let answer = self.try_ask(what, question).await.expect("an answer");
        assert!(answer["error"].is_null(), "{what}: {answer}");
        answer
    }

    /// Makes the stream `name` of the subjects `name.>`, with more of its configuration.
    pub(crate) async fn make(&self, name: &str, more: Value) {
        let mut config =
            json!({ "name": name, "subjects": [format!("{name}.>")], "storage": "file" });
        for (key, value) in more.as_object().expect("an object") {
            config[key] = value.clone();
        }
        self.ask(&format!("STREAM.CREATE.{name}"), config).await;
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.ask(&format!("STREAM.DELETE.{name}"), json!({})).await;
    }

    pub(crate) async fn delete_message(&self, name: &str, sequence: u64) {
        self.ask(&format!("STREAM.MSG.DELETE.{name}"), json!({ "seq": sequence })).await;
    }

    /// The names of a stream's consumers.
    pub(crate) async fn consumers(&self, name: &str) -> Vec<String> {
        let told = self.ask(&format!("CONSUMER.NAMES.{name}"), json!({})).await;
        let names = told["consumers"].as_array().cloned().unwrap_or_default();
        names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
    }

    /// Writes a message and returns its sequence.
    pub(crate) async fn write(&self, subject: &str, payload: &str) -> u64 {
        let deadline = Instant::now() + DEADLINE;
        // A message whose answer was lost is not written twice.
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", self.0.new_inbox());
        loop {
            let (subject, payload) = (subject.to_owned(), payload.to_owned().into());
            let asked = self.0.request_with_headers(subject, headers.clone(), payload);
            if let Ok(Ok(answer)) = timeout(DEADLINE, asked).await {
                let told: Value = serde_json::from_slice(&answer.payload).expect("JSON");
                if let Some(sequence) = told["seq"].as_u64() {
                    return sequence;
                }
            }
            assert!(Instant::now() < deadline, "not written");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Writes numbers to `NAME.n`, and waits until they are there.
    pub(crate) async fn write_numbers(&self, name: &str, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.write(&format!("{name}.n"), &number.to_string()).await;
        }
    }
}

/// A source, and what it has handed on.
pub(crate) struct Reader {
    pub(crate) source: NatsSource,
    pub(crate) events: Vec<Event>,
    pub(crate) frontier: HashMap<Arc<Lane>, u64>,
    /// After how many events something was lost.
    pub(crate) lost: Vec<usize>,
    pub(crate) closed: Vec<Arc<Lane>>,
}

impl Reader {
    pub(crate) fn start(config: NatsConfig) -> Self {
        let source = NatsSource::start(config).expect("source");
        let (events, lost, closed) = (Vec::new(), Vec::new(), Vec::new());
        Self { source, events, frontier: HashMap::new(), lost, closed }
    }

    pub(crate) async fn ready(config: NatsConfig) -> Self {
        let mut reader = Self::start(config);
        reader.until(SourceHealth::ready).await;
        reader
    }

    /// Reads until `enough` holds of the source's health.
    pub(crate) async fn until(
        &mut self,
        mut enough: impl FnMut(&SourceHealth) -> bool,
    ) -> SourceHealth {
        let mut status = self.source.status();
        let mut held = None;
        let waiting = async {
            loop {
                let read = tokio::select! {
                    biased;
                    told = status.wait_for(|health| {
                        let enough = enough(health);
                        held = enough.then(|| health.clone());
                        enough
                    }) => break told,
                    read = self.source.next() => read,
                };
                self.take(read.expect("works").expect("goes on"));
            }
        };
        let told = timeout(DEADLINE, waiting).await;
        assert_eq!(told, Ok(true), "{:?}", self.source.status().health());
        held.expect("it held")
    }

    /// Reads one batch.
    pub(crate) async fn read(&mut self) {
        let read = timeout(DEADLINE, self.source.next()).await;
        let read = read.unwrap_or_else(|_| {
            let (events, health) = (self.events.len(), self.source.status().health());
            let (places, closed) = (&self.frontier, &self.closed);
            panic!("nothing more came after {events}: {health:?}, {places:?}, {closed:?}")
        });
        self.take(read.expect("works").expect("goes on"));
    }

    fn take(&mut self, EventBatch { events, frontier, lost, closed }: EventBatch) {
        assert!(events.len() + frontier.len() + lost.len() + closed.len() > 0, "an empty batch");
        if !lost.is_empty() {
            self.lost.push(self.events.len());
        }
        let known = |lane: &Arc<Lane>| !self.closed.contains(lane);
        assert!(events.iter().all(|event| known(&event.lane)), "of a lane that is no more");
        for event in &events {
            let next = self.frontier.get(&event.lane).copied();
            assert!(next.is_some_and(|next| event.offset >= next), "{}, {next:?}", event.offset);
            self.frontier.insert(event.lane.clone(), event.offset + 1);
        }
        for (lane, next) in frontier {
            let before = self.frontier.insert(lane, next);
            assert!(before.is_none_or(|before| before <= next), "a frontier fell");
        }
        self.closed.extend(closed);
        self.events.extend(events);
    }

    /// Reads until so many events have come.
    pub(crate) async fn read_events(&mut self, count: usize) {
        while self.events.len() < count {
            self.read().await;
        }
        assert_eq!(self.events.len(), count, "too many");
    }

    /// Reads until a stream has been passed up to `next`.
    pub(crate) async fn read_up_to(&mut self, stream: &str, next: u64) {
        while self.passed(stream) != Some(next) {
            self.read().await;
        }
    }

    /// Reads until a lane is no more.
    pub(crate) async fn read_closed(&mut self, lane: &Arc<Lane>) {
        while !self.closed.contains(lane) {
            self.read().await;
        }
    }

    /// How far a stream has been read that is still open.
    pub(crate) fn passed(&self, stream: &str) -> Option<u64> {
        self.lanes(stream).first().map(|lane| self.frontier[lane])
    }

    /// The lane of a stream.
    pub(crate) fn lane(&self, stream: &str) -> Arc<Lane> {
        let lanes = self.lanes(stream);
        assert_eq!(lanes.len(), 1, "{lanes:?}");
        lanes[0].clone()
    }

    fn lanes(&self, stream: &str) -> Vec<Arc<Lane>> {
        let lanes = self.frontier.keys().filter(|lane| &*lane.topic == stream);
        lanes.filter(|lane| !self.closed.contains(lane)).cloned().collect()
    }

    /// Checks that each hole in the sequences of the only lane, which was read from `first`,
    /// was told of where it is.
    pub(crate) fn assert_lost_where_missing(&self, first: u64) {
        let offsets: Vec<u64> = self.events.iter().map(|event| event.offset).collect();
        let due = |i: usize| i.checked_sub(1).map_or(first, |before| offsets[before] + 1);
        let holes = (0..offsets.len()).filter(|i| offsets[*i] != due(*i));
        assert_eq!(self.lost, holes.collect::<Vec<_>>(), "{offsets:?}");
    }

    pub(crate) fn payloads(&self) -> Vec<&str> {
        texts(&self.events)
    }

    /// Checks that exactly the numbers came, in their order.
    pub(crate) fn assert_numbers(&self, numbers: std::ops::Range<u64>) {
        let read: Vec<u64> = self.payloads().iter().map(|n| n.parse().expect("number")).collect();
        assert!(read.iter().copied().eq(numbers.clone()), "not {numbers:?}: {read:?}");
    }
}

/// Waits until it holds.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) -> bool {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.is_ok()
}

/// A range of a lane.
pub(crate) fn range(lane: &Arc<Lane>, from: u64, to: u64) -> ReplayRange {
    ReplayRange { lane: lane.clone(), from, to }
}

/// Reads ranges again: the events, and how far each lane was read.
pub(crate) async fn again(
    replay: &mut Box<dyn Replay>,
    ranges: &[ReplayRange],
) -> Result<(Vec<Event>, HashMap<Arc<Lane>, u64>), ReplayError> {
    timeout(DEADLINE, replay.begin(ranges.to_vec())).await.expect("begins in time")?;
    let (mut events, mut reached) = (Vec::new(), HashMap::new());
    while let Some(batch) = timeout(DEADLINE, replay.next()).await.expect("goes on")? {
        events.extend(batch.events);
        reached.extend(batch.frontier);
    }
    Ok((events, reached))
}

/// The payloads as text.
pub(crate) fn texts(events: &[Event]) -> Vec<&str> {
    events.iter().map(|e| std::str::from_utf8(&e.payload).expect("text")).collect()
}

/// What the contract suite writes with: a message's key is its subject.
pub(crate) struct Writer(pub(crate) Admin);

impl SourceWriter for Writer {
    async fn write(&mut self, records: Vec<Record>) {
        for Record { key, payload } in records {
            let subject = String::from_utf8(key.to_vec()).expect("text");
            self.0.write(&subject, std::str::from_utf8(&payload).expect("text")).await;
        }
    }
}

/// A client that may only do so much.
pub(crate) fn user(name: &str, password: &str) -> ConnectOptions {
    async_nats::ConnectOptions::with_user_and_password(name.into(), password.into())
}
