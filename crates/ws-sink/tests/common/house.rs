//! A house with a door, and raw clients that do to it what browsers do not.
#![allow(dead_code)] // Each test binary uses a part.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request};
use axum::routing::{any, get, post};
use axum::{Router, body};
use fanout::{Hub, Limits};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use ws_sink::auth::Hs256;
use ws_sink::door::{Client, Door, DoorConfig};
use ws_sink::{Admission, AdmissionLimits, Sockets, Sse, SseConfig, Ws, WsConfig};

use crate::common::{SECRET, access, token, within};

#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) admission: AdmissionLimits,
    pub(crate) door: DoorConfig,
    pub(crate) ws: WsConfig,
    pub(crate) sse: SseConfig,
    pub(crate) hub: Limits,
}

pub(crate) struct House {
    pub(crate) addr: SocketAddr,
    pub(crate) hub: Hub,
    pub(crate) admission: Admission,
    /// Lets those go who asked for `/wait`.
    pub(crate) go: Arc<Notify>,
    /// Somebody waits.
    pub(crate) waiting: Arc<Notify>,
    pub(crate) stop: Arc<Notify>,
    pub(crate) serving: JoinHandle<()>,
}

pub(crate) const LARGE: usize = 32 << 20;

impl Plan {
    pub(crate) async fn build(self) -> House {
        let Self { admission, mut door, mut ws, mut sse, hub } = self;
        let admission = Admission::new(admission);
        door.admission = admission.clone();
        ws.admission = admission.clone();
        sse.admission = admission.clone();
        let tokens = || Hs256::new(SECRET).unwrap().with_leeway(Duration::ZERO);
        let hub =
            Hub::builder(access()).limits(hub).shards(2).readiness(Sockets::new).build().unwrap();
        let ws = Ws::with_config(&hub, tokens(), ws);
        let sse = Sse::with_config(&hub, tokens(), sse);
        let (go, waiting, stop) =
            (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (until, tell) = (go.clone(), waiting.clone());
        let app = Router::new()
            .route("/ws", get(async move |request: Request| ws.upgrade(request)))
            .route("/events", any(async move |request: Request| sse.respond(request)))
            .route("/hello", get("hello"))
            .route(
                "/who",
                get(async |Extension(client): Extension<Client>| client.address.to_string()),
            )
            .route(
                "/body",
                post(async |request: Request| {
                    match body::to_bytes(request.into_body(), 1 << 20).await {
                        Ok(bytes) => format!("{} bytes", bytes.len()),
                        Err(_) => "too late".to_owned(),
                    }
                }),
            )
            .route("/large", get(async || vec![b'x'; LARGE]))
            .route(
                "/wait",
                get(async move || {
                    tell.notify_one();
                    until.notified().await;
                    "waited"
                }),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stopping = stop.clone();
        let serving = tokio::spawn(async move {
            Door::new(door).serve(listener, app, stopping.notified()).await;
        });
        House { addr, hub, admission, go, waiting, stop, serving }
    }
}

impl House {
    pub(crate) async fn tcp(&self) -> TcpStream {
        within("a connection", TcpStream::connect(self.addr)).await.unwrap()
    }

    /// From another address of this machine.
    pub(crate) async fn tcp_from(&self, address: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        let address: IpAddr = address.parse().unwrap();
        socket.bind((address, 0).into()).unwrap();
        within("a connection", socket.connect(self.addr)).await.unwrap()
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut stream = self.tcp().await;
        ask(&mut stream, path, headers).await
    }

    /// A WebSocket, past its handshake.
    pub(crate) async fn ws(&self, subject: &str) -> TcpStream {
        let mut stream = self.tcp().await;
        assert_eq!(upgrade(&mut stream, Some(subject), &[]).await.status, 101);
        stream
    }

    pub(crate) async fn connections(&self, n: usize) {
        within(&format!("{n} connections at the door"), async {
            while self.admission.connections() != n {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    pub(crate) async fn in_hub(&self, n: usize) {
        within(&format!("{n} connections in the hub"), async {
            while self.hub.stats().connections != n {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(given, _)| *given == name).map(|(_, value)| value)
    }
}

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// Asks, and reads the head and as much of the body as is told beforehand.
pub(crate) async fn ask(stream: &mut impl Io, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(stream, &request(path, headers)).await;
    answer(stream).await
}

pub(crate) fn request(path: &str, headers: &[(&str, &str)]) -> String {
    let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    format!("GET {path} HTTP/1.1\r\nhost: house\r\n{}\r\n", headers.collect::<String>())
}

pub(crate) async fn send(stream: &mut impl Io, bytes: impl AsRef<[u8]>) {
    within("sending", stream.write_all(bytes.as_ref())).await.unwrap();
}

pub(crate) async fn answer(stream: &mut impl Io) -> Answer {
    let head = head(stream).await.expect("an answer");
    let status = head[9..12].parse().unwrap();
    let mut answer = Answer { status, head: head.to_lowercase(), body: String::new() };
    let len = answer.header("content-length").map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    within("the body", stream.read_exact(&mut body)).await.unwrap();
    answer.body = String::from_utf8(body).unwrap();
    answer
}

/// Up to an empty line; `None` where the connection ends before.
pub(crate) async fn head(stream: &mut impl Io) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match within("an answer", stream.read(&mut byte)).await {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).unwrap())
}

/// Waits until the server has closed, and reads on meanwhile.
pub(crate) async fn end(stream: &mut impl Io) {
    let mut rest = [0; 4096];
    within("the end", async { while matches!(stream.read(&mut rest).await, Ok(n) if n > 0) {} })
        .await;
}

pub(crate) async fn upgrade(
    stream: &mut impl Io,
    subject: Option<&str>,
    headers: &[(&str, &str)],
) -> Answer {
    let bearer = subject.map(|subject| format!("Bearer {}", token(subject, "user", 3600)));
    let mut all = vec![
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    all.extend(bearer.iter().map(|bearer| ("authorization", &**bearer)));
    all.extend_from_slice(headers);
    ask(stream, "/ws", &all).await
}

/// A client's frame, masked with zeros.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0; 4];
    match payload.len() {
        len @ 0..=125 => [&[first, 0x80 | len as u8], &mask[..], payload].concat(),
        len => {
            let len = u16::try_from(len).unwrap().to_be_bytes();
            [&[first, 0xfe], &len[..], &mask, payload].concat()
        }
    }
}

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const PING: u8 = 0x89;

/// The server's next frame: its first byte and its payload; `None` at the end.
pub(crate) async fn server_frame(stream: &mut impl Io) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    within("a frame", stream.read_exact(&mut head)).await.ok()?;
    let len = match head[1] {
        126 => usize::from(within("a length", stream.read_u16()).await.ok()?),
        127 => within("a length", stream.read_u64()).await.ok()? as usize,
        len => usize::from(len),
    };
    let mut payload = vec![0; len];
    within("a payload", stream.read_exact(&mut payload)).await.ok()?;
    Some((head[0], payload))
}

/// The next text frame.
pub(crate) async fn said(stream: &mut impl Io) -> serde_json::Value {
    loop {
        match server_frame(stream).await.expect("a frame") {
            (TEXT, payload) => return serde_json::from_slice(&payload).unwrap(),
            (0x88, payload) => panic!("closed: {payload:?}"),
            _ => {}
        }
    }
}

/// Waits for the close: its code, and its reason.
pub(crate) async fn closed(stream: &mut impl Io) -> (u16, serde_json::Value) {
    loop {
        let (first, payload) = server_frame(stream).await.expect("a close frame");
        if first == 0x88 {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            return (code, serde_json::from_slice(&payload[2..]).unwrap_or_default());
        }
    }
}
