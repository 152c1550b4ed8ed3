//! A server of its own, and an `EventSource` that shows what it gets.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::Request;
use axum::{Router, routing::any};
use bytes::{Buf, BytesMut};
use fanout::{Access, Hub, Limits};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use ws_sink::auth::Hs256;
use ws_sink::{Sockets, Sse, SseConfig};

use crate::common::{SECRET, access, token, within};

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) hub: Hub,
}

pub(crate) fn tokens() -> Hs256 {
    Hs256::new(SECRET).unwrap().with_leeway(Duration::ZERO)
}

pub(crate) async fn start() -> Server {
    serve(access(), Limits::default(), SseConfig::default()).await
}

pub(crate) async fn serve(access: Access, limits: Limits, config: SseConfig) -> Server {
    let builder = Hub::builder(access).limits(limits).shards(2).readiness(Sockets::new);
    let hub = builder.build().unwrap();
    let sse = Sse::with_config(&hub, tokens(), config);
    listen(hub, sse).await
}

/// Serves `sse` at `/events`.
pub(crate) async fn listen(hub: Hub, sse: Sse) -> Server {
    let handler = any(async move |request: Request| sse.respond(request));
    let app = Router::new().route("/events", handler);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Server { addr, hub }
}

pub(crate) fn bearer(subject: &str, role: &str) -> String {
    format!("Bearer {}", token(subject, role, 3600))
}

impl Server {
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        Response::of(self.addr, "GET", path, "HTTP/1.1", headers).await
    }

    /// Connects, and takes the welcome.
    pub(crate) async fn open(&self, path: &str, headers: &[(&str, &str)]) -> (Response, Message) {
        let mut response = self.get(path, headers).await;
        assert_eq!(response.status, 200);
        let welcome = response.next().await;
        assert_eq!(welcome.name, "welcome", "{welcome:?}");
        (response, welcome)
    }

    pub(crate) async fn connect(&self, subject: &str, role: &str) -> (Response, Message) {
        self.open("/events", &[("authorization", &bearer(subject, role))]).await
    }

    pub(crate) async fn connections(&self, n: usize) {
        within(&format!("{n} connections"), async {
            while self.hub.stats().connections != n {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// What an `EventSource` would give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// `message` where it had none.
    pub(crate) name: String,
    /// The last that was given.
    pub(crate) id: String,
    pub(crate) data: String,
}

impl Message {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// A response that is read as it comes.
pub(crate) struct Response {
    io: TcpStream,
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    /// As it came, up to what was taken.
    raw: BytesMut,
    /// Left of the chunk that has begun; `None` before one.
    chunk: Option<usize>,
    ended: bool,
    /// The body, from the lines that were taken on.
    body: BytesMut,
    /// Where no line of it ends.
    scanned: usize,
    fields: Message,
    id: String,
    pub(crate) retry: Option<u64>,
    pub(crate) comments: usize,
}

impl Response {
    pub(crate) async fn of(
        addr: SocketAddr,
        method: &str,
        path: &str,
        version: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let mut io = TcpStream::connect(addr).await.unwrap();
        let mut request = format!("{method} {path} {version}\r\nhost: {addr}\r\n");
        for (name, value) in headers {
            request.extend([name, ": ", value, "\r\n"]);
        }
        request += "\r\n";
        io.write_all(request.as_bytes()).await.unwrap();
        let mut raw = BytesMut::new();
        let end = loop {
            if let Some(at) = raw.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(within("the head", read(&mut io, &mut raw)).await, "no whole head");
        };
        let rest = raw.split_off(end);
        let head = String::from_utf8(raw.to_vec()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let fields = Message { name: String::new(), id: String::new(), data: String::new() };
        let (body, scanned, id) = (BytesMut::new(), 0, String::new());
        let (chunk, ended, retry, comments) = (None, false, None, 0);
        Self {
            io,
            status,
            head,
            raw: rest,
            chunk,
            ended,
            body,
            scanned,
            fields,
            id,
            retry,
            comments,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The next message; `None` at the end.
    pub(crate) async fn try_next(&mut self) -> Option<Message> {
        loop {
            while let Some(line) = self.line() {
                if let Some(message) = self.take(&line) {
                    return Some(message);
                }
            }
            if !within("an event", self.more()).await {
                return None;
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Message {
        self.try_next().await.expect("an event")
    }

    /// The next message that is neither a welcome nor a heartbeat.
    pub(crate) async fn emission(&mut self) -> Option<Message> {
        loop {
            let message = self.try_next().await?;
            if !["welcome", "heartbeat"].contains(&&*message.name) {
                return Some(message);
            }
        }
    }

    /// Passes over all up to the end, which says why: the last event.
    pub(crate) async fn closed(&mut self) -> Value {
        let mut last = None;
        while let Some(message) = self.try_next().await {
            last = Some(message);
        }
        let last = last.expect("an event at the end");
        assert_eq!((&*last.name, self.ended), ("close", true), "{last:?}");
        last.json()
    }

    /// The rest of the body.
    pub(crate) async fn text(&mut self) -> String {
        while within("the end", self.more()).await {}
        String::from_utf8(self.body.split().to_vec()).unwrap()
    }

    /// Some of the body that comes next, as it is.
    pub(crate) async fn some_text(&mut self) -> String {
        assert!(!self.body.is_empty() || within("text", self.more()).await, "no text");
        String::from_utf8(self.body.split().to_vec()).unwrap()
    }

    /// Waits until the server has let go of the connection, though nothing is read of it.
    pub(crate) async fn cut_off(&mut self) {
        while self.io.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A line without its end, which may be any of three.
    fn line(&mut self) -> Option<String> {
        let unscanned = &self.body[self.scanned..];
        let Some(at) = unscanned.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            self.scanned = self.body.len();
            return None;
        };
        let at = self.scanned + at;
        let end = match (self.body[at], self.body.get(at + 1)) {
            (b'\r', None) if !self.ended => return None,
            (b'\r', Some(b'\n')) => at + 2,
            _ => at + 1,
        };
        let line = String::from_utf8(self.body[..at].to_vec()).unwrap();
        self.body.advance(end);
        self.scanned = 0;
        Some(line)
    }

    /// HTML, 9.2.6: a line of an event stream.
    fn take(&mut self, line: &str) -> Option<Message> {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => return self.dispatch(),
            "" => self.comments += 1,
            "event" => value.clone_into(&mut self.fields.name),
            "data" => self.fields.data.extend([value, "\n"]),
            "id" => value.clone_into(&mut self.fields.id),
            "retry" => self.retry = Some(value.parse().unwrap()),
            _ => panic!("unknown field in {line}"),
        }
        None
    }

    fn dispatch(&mut self) -> Option<Message> {
        let Message { name, id, mut data } = std::mem::replace(
            &mut self.fields,
            Message { name: String::new(), id: self.id.clone(), data: String::new() },
        );
        if !id.is_empty() {
            self.id.clone_from(&id);
            self.fields.id.clone_from(&id);
        }
        data.pop()?;
        let name = if name.is_empty() { "message".to_owned() } else { name };
        Some(Message { name, id, data })
    }

    /// Reads more of the body; false at its end.
    async fn more(&mut self) -> bool {
        if self.header("transfer-encoding") != Some("chunked") {
            if !self.raw.is_empty() {
                self.body.extend_from_slice(&self.raw.split());
                return true;
            }
            let more = !self.ended && read(&mut self.io, &mut self.body).await;
            self.ended = !more;
            return more;
        }
        let before = self.body.len();
        loop {
            while self.unchunk() {}
            if self.body.len() > before {
                return true;
            }
            if self.ended || !read(&mut self.io, &mut self.raw).await {
                return false;
            }
        }
    }

    /// RFC 9112, 7.1; false where more has to be read.
    fn unchunk(&mut self) -> bool {
        match self.chunk {
            None => {
                let Some(at) = self.raw.windows(2).position(|two| two == b"\r\n") else {
                    return false;
                };
                let size = std::str::from_utf8(&self.raw[..at]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                self.raw.advance(at + 2);
                self.chunk = Some(size);
                self.ended = size == 0;
                !self.ended
            }
            Some(0) if self.raw.len() >= 2 => {
                assert_eq!(&self.raw.split_to(2)[..], b"\r\n");
                self.chunk = None;
                true
            }
            Some(left) if left > 0 && !self.raw.is_empty() => {
                let part = left.min(self.raw.len());
                self.body.extend_from_slice(&self.raw.split_to(part));
                self.chunk = Some(left - part);
                true
            }
            Some(_) => false,
        }
    }
}

async fn read(io: &mut TcpStream, into: &mut BytesMut) -> bool {
    into.reserve(16 * 1024);
    matches!(io.read_buf(into).await, Ok(read) if read > 0)
}
