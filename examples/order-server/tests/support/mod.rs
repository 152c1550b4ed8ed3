//! A real server on a free port, and a small client.

pub(crate) mod socket;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use order_server::config::Config;
use order_server::server::{Running, Server};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Longest that a test waits for what must come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A server in memory on a free port, with more flags.
pub(crate) async fn start(flags: &[&str]) -> Running {
    start_in(Path::new(":memory:"), flags).await
}

/// A server on a free port with this data folder.
pub(crate) async fn start_in(data: &Path, flags: &[&str]) -> Running {
    let data = data.to_str().unwrap();
    let own = ["order-server", "--port", "0", "--data", data, "--drain-secs", "5"];
    let config = Config::try_parse_from(own.iter().chain(flags)).unwrap();
    Server::start(config).await.unwrap()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.bytes))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The error's code and message, whose status must be this one.
    pub(crate) fn error(&self, status: u16) -> (String, String) {
        assert_eq!(self.status, status, "{}", self.text());
        let body = self.json();
        let text = |name: &str| body["error"][name].as_str().unwrap().to_owned();
        (text("code"), text("message"))
    }
}

/// Asks a server, as somebody or as nobody.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) addr: SocketAddr,
    pub(crate) headers: HeaderMap,
}

impl Client {
    pub(crate) fn nobody(server: &Running) -> Self {
        Self { addr: server.addr(), headers: HeaderMap::new() }
    }

    pub(crate) async fn login(server: &Running, email: &str) -> Self {
        let nobody = Self::nobody(server);
        let answer = nobody.post("/api/login", &json!({"email": email})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        nobody.bearer(answer.json()["token"].as_str().unwrap())
    }

    pub(crate) fn bearer(&self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn with(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.insert(name, HeaderValue::from_str(value).unwrap());
        client
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut request =
            Request::builder().method(method).uri(path).body(Full::new(body.into())).unwrap();
        *request.headers_mut() = self.headers.clone();
        let host = self.addr.to_string().parse().unwrap();
        request.headers_mut().entry("host").or_insert(host);
        let response = tokio::time::timeout(DEADLINE, sender.send_request(request)).await;
        let (parts, body) = response.expect("an answer in time").unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        connection.abort();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.with("content-type", "application/json").send("POST", path, body.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.with("content-type", "application/json").send("PATCH", path, body.to_string()).await
    }

    /// Places an order of two apples.
    pub(crate) async fn order(&self) -> Value {
        let answer = self.post("/api/orders", &apples()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }
}

/// An order of two apples for 39.98.
pub(crate) fn apples() -> Value {
    json!({"items": [{"sku": "A", "name": "Apple", "quantity": 2, "unitPrice": 19.99}]})
}

/// Polls until `done` gives something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut done: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = done().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A folder that goes with its test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let name = order_server::order::random_id("order-server-test-", 8).unwrap();
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
