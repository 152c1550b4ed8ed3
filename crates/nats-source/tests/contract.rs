//! The NATS source keeps the contract of sources, on a server for each log.
//!
//! ```text
//! FANOUT_TEST_NATS_SERVER=$(.ci/nats-server) cargo test -p nats-source -- --include-ignored
//! ```

mod common;

use common::{Server, Writer};
use fanout::testing::{Record, SourceHarness, SourceWriter as _, source_contract};
use nats_source::{NatsConfig, NatsSource, Start};
use serde_json::json;

struct Nats {
    start: Start,
    subjects: &'static [&'static str],
    /// The newest; the one before has ended when a source is opened.
    server: Option<Server>,
}

impl Nats {
    fn new(start: Start) -> Self {
        Self { start, subjects: &[], server: None }
    }

    async fn opened(&mut self, start: Start, held: Vec<Record>) -> (NatsSource, Writer) {
        self.server = None;
        let server = Server::start().await;
        let admin = server.admin().await;
        // The suite's keys.
        admin.make("S", json!({ "subjects": ["*"] })).await;
        let config = server.config().stream_of("S", self.subjects.iter().copied()).start(start);
        self.server = Some(server);
        let mut writer = Writer(admin);
        writer.write(held).await;
        (NatsSource::start(config).expect("source"), writer)
    }
}

impl SourceHarness for Nats {
    type Source = NatsSource;
    type Writer = Writer;

    async fn open(&mut self) -> (NatsSource, Writer) {
        let start = self.start.clone();
        self.opened(start, Vec::new()).await
    }

    async fn open_holding(&mut self, records: Vec<Record>) -> Option<(NatsSource, Writer)> {
        Some(self.opened(Start::Earliest, records).await)
    }

    fn max_batch(&self) -> usize {
        NatsConfig::DEFAULT_MAX_BATCH
    }
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn a_stream_from_its_end() {
    source_contract(&mut Nats::new(Start::Latest)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a nats-server"]
async fn a_stream_from_its_beginning() {
    source_contract(&mut Nats::new(Start::Earliest)).await;
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn a_stream_by_subjects() {
    source_contract(&mut Nats { subjects: &["*"], ..Nats::new(Start::Earliest) }).await;
}
