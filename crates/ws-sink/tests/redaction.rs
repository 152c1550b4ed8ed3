//! No byte of a hidden field reaches a socket without the right: over WebSocket and
//! Server-Sent Events, in all the ways that a frame may come.
//!
//! Clients are sockets that are read as they are: what a sink has written is searched as
//! bytes. Nothing masks or splits what a server sends, and HTTP/1.0 knows no chunks.

#[path = "../../fanout/tests/redaction/scene.rs"]
mod scene;

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::Request;
use axum::routing::any;
use fanout::testing::{MemoryLog, MemoryStart};
use fanout::{
    Access, Emission, Hub, Identity, Json, Keyring, Overflow, Pipeline, Policy, Redaction,
    RoleAccess, Room, RoomPattern, SourceHealth,
};
use futures::future::BoxFuture;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use ws_sink::auth::{AuthError, Authenticator, Credential};
use ws_sink::{Sockets, Sse, SseConfig, Ws, WsConfig};

use scene::{Said, Script, VIEWS, any_said, any_script, emission, route};

const DEADLINE: Duration = Duration::from_secs(20);

/// A ticket is the name of the role.
struct Tickets;

impl Authenticator for Tickets {
    fn authenticate<'a>(
        &'a self,
        credential: Credential<'a>,
    ) -> BoxFuture<'a, Result<Identity, AuthError>> {
        let identity = match credential {
            Credential::Ticket(role) => Ok(Identity::new("x", [role])),
            _ => Err(AuthError::Invalid("no ticket")),
        };
        Box::pin(async { identity })
    }
}

struct Node {
    hub: Hub,
    addr: SocketAddr,
}

impl Node {
    /// One that has read all there is.
    async fn new(log: &MemoryLog, start: MemoryStart, said: &Said) -> Self {
        let role = |view: &str| RoleAccess::new(view).joins("all").joins("prices").sees(view);
        let access = Access::new(VIEWS.map(role)).unwrap();
        let redaction = Redaction::new(&access, [said.event_views()]).unwrap();
        let prices = RoomPattern::new("prices").unwrap();
        let hub = Hub::builder(access)
            .redaction(redaction)
            .shards(2)
            .readiness(Sockets::new)
            .overflow(prices, Overflow::new(Policy::Conflate))
            .keys(Keyring::new('r', &[3; 32]).unwrap())
            .build()
            .unwrap();
        let mut config = WsConfig::default();
        config.send_buffer = Some(4096);
        let ws = Ws::with_config(&hub, Tickets, config);
        let sse = Sse::with_config(&hub, Tickets, SseConfig::default());
        let app = axum::Router::new()
            .route("/ws", any(async move |request: Request| ws.upgrade(request)))
            .route("/events", any(async move |request: Request| sse.respond(request)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let pipeline = Pipeline::new(log.source(start), route, hub.clone());
        let mut status = pipeline.status();
        tokio::spawn(pipeline.run());
        assert!(status.wait_for(SourceHealth::ready).await);
        Self { hub, addr }
    }

    /// A client of each view over each protocol, in its rooms.
    async fn all(&self, cursor: Option<&str>) -> Vec<Client> {
        let before = self.hub.stats().connections;
        let mut all = Vec::new();
        for view in VIEWS {
            let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let ws = format!(
                "GET /ws?ticket={view}{cursor} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n\
                 upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            let sse = format!("GET /events?ticket={view}{cursor} HTTP/1.0\r\nhost: x\r\n\r\n");
            for request in [ws, sse] {
                all.push(Client::new(self.addr, view, &request).await);
            }
        }
        within("all are there", async {
            while self.hub.stats().connections < before + all.len() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        all
    }

    async fn publish(&self, script: &Script) {
        let emissions = script.emissions().map(|sent| emission(sent).unwrap()).collect();
        self.hub.publish(emissions).await.unwrap();
    }
}

/// A socket, and every byte that was read of it.
struct Client {
    view: &'static str,
    io: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    async fn new(addr: SocketAddr, view: &'static str, request: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // So that one that does not read is behind soon.
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let mut io = socket.connect(addr).await.unwrap();
        io.write_all(request.as_bytes()).await.unwrap();
        Self { view, io, bytes: Vec::new() }
    }

    /// Reads until a text comes.
    async fn until(&mut self, text: &str) {
        let mut searched = 0;
        while !scene::has(&self.bytes[searched..], text) {
            searched = self.bytes.len().saturating_sub(text.len());
            let read = within(text, self.io.read_buf(&mut self.bytes)).await.unwrap();
            assert!(read > 0, "{} ended before {text}", self.view);
        }
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(DEADLINE, future).await;
    result.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Reads until each has what `script` ends with, and looks at what it has of it.
async fn check(how: &str, clients: &mut [Client], said: &Said, script: &Script, behind: bool) {
    // All at once: one that does not read for long is closed.
    futures::future::join_all(clients.iter_mut().map(|client| client.until(&script.end))).await;
    for client in clients {
        script.check(how, client.view, said, &client.bytes, behind);
    }
}

async fn run(said: Said, logged: Script, published: Script) {
    let log = MemoryLog::new("t", 1);
    let node = Node::new(&log, MemoryStart::Earliest, &said).await;
    let before = node.hub.cursor().to_string();
    let mut live = node.all(None).await;
    for record in logged.records() {
        log.write(0, None, record);
    }
    check("live", &mut live, &said, &logged, false).await;
    node.publish(&published).await;
    check("published", &mut live, &said, &published, false).await;

    let mut back = node.all(Some(&before)).await;
    check("resume", &mut back, &said, &logged, true).await;

    // It began later and has nothing of it in its log.
    let late = Node::new(&log, MemoryStart::Latest, &said).await;
    let mut back = late.all(Some(&before)).await;
    check("replay", &mut back, &said, &logged, true).await;
    assert!(log.read_again() > 0, "it was read again");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 50, ..Default::default() })]

    #[test]
    fn nothing_hidden_reaches_a_socket(
        said in any_said(),
        logged in any_script("L"),
        published in any_script("P"),
    ) {
        runtime().block_on(run(said, logged, published));
    }
}

#[test]
fn a_buyer_sees_no_margin_and_an_auditor_does() {
    runtime().block_on(run(Said::example(), Script::example("L"), Script::example("P")));
}

/// Frames that stand for others are made for one connection alone.
#[test]
fn one_that_does_not_read_gets_nothing_hidden_later() {
    runtime().block_on(async {
        let (said, script) = (Said::example(), Script::example("P"));
        let log = MemoryLog::new("t", 1);
        let node = Node::new(&log, MemoryStart::Latest, &said).await;
        let mut slow = node.all(None).await;
        let pad = Json::of(&"x".repeat(100_000)).unwrap();
        let pad = Emission::new(Room::new("prices").unwrap(), "pad", pad).with_key("pad");
        within("all are behind", async {
            while node.hub.stats().behind < slow.len() {
                node.hub.publish(vec![pad.clone()]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let spared = node.hub.stats().conflated;
        node.publish(&script).await;
        check("conflation", &mut slow, &said, &script, true).await;
        assert!(node.hub.stats().conflated > spared, "somebody was spared something");
        for client in &slow {
            assert!(scene::has(&client.bytes, "\"skipped\":"), "{}", client.view);
        }
    });
}
