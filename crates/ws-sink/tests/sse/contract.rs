//! A stream of events keeps the contract of sinks.

use fanout::testing::{SinkClient, SinkHarness, sink_contract};
use fanout::{Access, Hub, Identity, Limits};
use ws_sink::SseConfig;

use crate::client::{Response, Server, bearer, serve};

struct OverHttp {
    config: SseConfig,
    server: Option<Server>,
}

impl SinkHarness for OverHttp {
    type Client = Response;

    fn hub(&mut self, access: Access, limits: Limits) -> Hub {
        let serve = serve(access, limits, self.config.clone());
        let server =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(serve));
        let hub = server.hub.clone();
        self.server = Some(server);
        hub
    }

    async fn connect(&mut self, identity: Identity) -> Response {
        let server = self.server.as_ref().expect("a hub was made");
        let bearer = bearer(&identity.subject, identity.roles[0].as_str());
        server.get("/events", &[("authorization", &bearer)]).await
    }
}

impl SinkClient for Response {
    async fn next(&mut self) -> Option<String> {
        let message = self.emission().await?;
        (message.name != "close").then(|| message.json()["data"].to_string())
    }

    async fn hang_up(self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_keep_the_contract_of_sinks() {
    sink_contract(OverHttp { config: SseConfig::default(), server: None }).await;
}

/// Every frame is cut in several.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_buffer_does_as_well() {
    let mut config = SseConfig::default();
    config.buffer = 1_000;
    sink_contract(OverHttp { config, server: None }).await;
}
