//! The WebSocket sink keeps the contract of sinks: with sockets that the shard polls,
//! and behind wakers.

mod common;

use common::{Client, Server, access, serve, token};
use fanout::testing::{SinkClient, SinkHarness, sink_contract};
use fanout::{Access, Hub, Identity, Limits};
use ws_sink::WsConfig;

struct OverWebSocket {
    sockets: bool,
    server: Option<Server>,
}

struct Reader(Client);

impl SinkHarness for OverWebSocket {
    type Client = Reader;

    fn hub(&mut self, access: Access, limits: Limits) -> Hub {
        let serve = serve(access, limits, WsConfig::default(), self.sockets);
        let server =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(serve));
        let hub = server.hub.clone();
        self.server = Some(server);
        hub
    }

    async fn connect(&mut self, identity: Identity) -> Reader {
        let server = self.server.as_ref().expect("a hub was made");
        let bearer =
            format!("Bearer {}", token(&identity.subject, identity.roles[0].as_str(), 3600));
        Reader(server.open("/ws", &[("authorization", &bearer)]).await)
    }
}

impl SinkClient for Reader {
    async fn next(&mut self) -> Option<String> {
        self.0.emission().await.map(|frame| frame["data"].to_string())
    }

    async fn hang_up(self) {
        drop(self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_handed_over_where_the_hub_watches_them() {
    for (watched, expected) in [(true, 1), (false, 0)] {
        let server = serve(access(), Limits::default(), WsConfig::default(), watched).await;
        let (_client, _) = server.connect("ann", "user").await;
        server.connections(1).await;
        assert_eq!(server.hub.stats().sockets, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_the_shard_polls() {
    sink_contract(OverWebSocket { sockets: true, server: None }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_behind_wakers() {
    sink_contract(OverWebSocket { sockets: false, server: None }).await;
}
