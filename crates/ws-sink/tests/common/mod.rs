//! A real server on a port of its own, and real clients.
#![allow(dead_code)] // Each test binary uses a part.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::Request;
use axum::{Router, routing::get};
use fanout::{Access, Hub, Identity, Limits, Role, RoleAccess};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use ws_sink::auth::Hs256;
use ws_sink::{Sockets, Ws, WsConfig};

pub(crate) const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) hub: Hub,
}

/// Users are in their own room and may ask for games; admins are in `admin:dashboard`.
pub(crate) fn access() -> Access {
    Access::new([
        RoleAccess::new("admin").joins("admin:dashboard").may_join("game:*").sees("full"),
        RoleAccess::new("user").joins("user:{subject}").may_join("game:*"),
    ])
    .unwrap()
}

pub(crate) fn token(subject: &str, role: &str, expires_in: i64) -> String {
    let now = std::time::SystemTime::now();
    let seconds = Duration::from_secs(expires_in.unsigned_abs());
    let end = if expires_in < 0 { now - seconds } else { now + seconds };
    let identity = Identity::new(subject, [Role::new(role)]).with_expiry(Some(end));
    Hs256::new(SECRET).unwrap().sign(&identity, &serde_json::Map::new()).unwrap()
}

pub(crate) async fn serve(
    access: Access,
    limits: Limits,
    config: WsConfig,
    sockets: bool,
) -> Server {
    let builder = Hub::builder(access).limits(limits).shards(2);
    let builder = if sockets { builder.readiness(Sockets::new) } else { builder };
    let hub = builder.build().unwrap();
    let tokens = Hs256::new(SECRET).unwrap().with_leeway(Duration::ZERO);
    let ws = Ws::with_config(&hub, tokens, config);
    listen(hub, ws).await
}

/// Serves `ws` at `/ws`.
pub(crate) async fn listen(hub: Hub, ws: Ws) -> Server {
    let app = Router::new().route("/ws", get(async move |request: Request| ws.upgrade(request)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Server { addr, hub }
}

pub(crate) async fn start() -> Server {
    serve(access(), Limits::default(), WsConfig::default(), true).await
}

pub(crate) struct Client(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(DEADLINE, future).await;
    result.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

impl Server {
    pub(crate) async fn open(&self, path: &str, headers: &[(&str, &str)]) -> Client {
        let mut request = format!("ws://{}{path}", self.addr).into_client_request().unwrap();
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let connected = within("the handshake", tokio_tungstenite::connect_async(request)).await;
        Client(connected.expect("101").0)
    }

    /// Connects, and takes the welcome.
    pub(crate) async fn connect(&self, subject: &str, role: &str) -> (Client, Value) {
        let bearer = format!("Bearer {}", token(subject, role, 3600));
        let mut client = self.open("/ws", &[("authorization", &bearer)]).await;
        let welcome = client.next().await;
        assert_eq!(welcome["event"], "welcome", "{welcome}");
        (client, welcome)
    }

    pub(crate) async fn refused(&self, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = format!("ws://{}{path}", self.addr).into_client_request().unwrap();
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        match within("the handshake", tokio_tungstenite::connect_async(request)).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                response.status().as_u16()
            }
            other => panic!("not refused: {other:?}"),
        }
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

impl Client {
    pub(crate) async fn send(&mut self, text: impl Into<String>) {
        within("sending", self.0.send(Message::text(text.into()))).await.unwrap();
    }

    /// The next text frame; `None` after a close or an end.
    pub(crate) async fn try_next(&mut self) -> Option<Value> {
        loop {
            match within("a frame", self.0.next()).await? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        self.try_next().await.expect("a text frame")
    }

    /// The next frame that is an emission.
    pub(crate) async fn emission(&mut self) -> Option<Value> {
        loop {
            let frame = self.try_next().await?;
            if !["welcome", "heartbeat"].contains(&frame["event"].as_str().unwrap()) {
                return Some(frame);
            }
        }
    }

    /// Waits for the close; its code and what its reason says.
    pub(crate) async fn closed(&mut self) -> (u16, Value) {
        loop {
            match within("the close", self.0.next()).await {
                Some(Ok(Message::Close(Some(close)))) => {
                    let reason = serde_json::from_str(&close.reason).unwrap_or(json!(null));
                    return (close.code.into(), reason);
                }
                Some(Ok(_)) => {}
                other => panic!("no close frame, but {other:?}"),
            }
        }
    }
}
