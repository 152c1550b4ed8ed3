//! The Kafka source keeps the contract of sources, on the embedded broker.

mod common;

use common::Writer;
use fanout::testing::{Record, SourceHarness, SourceWriter as _, source_contract};
use kafka_source::{KafkaConfig, KafkaSource, Start};

struct Kafka {
    partitions: u32,
    start: Start,
}

impl SourceHarness for Kafka {
    type Source = KafkaSource;
    type Writer = Writer;

    async fn open(&mut self) -> (KafkaSource, Writer) {
        let broker = common::broker(self.partitions);
        let producer = common::producer(&broker);
        let config = common::config(&broker).start(self.start.clone());
        let source = KafkaSource::start(config).expect("source");
        (source, Writer { producer, topic: "t".into(), broker: Some(broker) })
    }

    async fn open_holding(&mut self, records: Vec<Record>) -> Option<(KafkaSource, Writer)> {
        let broker = common::broker(self.partitions);
        let producer = common::producer(&broker);
        let config = common::config(&broker).start(Start::Earliest);
        let mut writer = Writer { producer, topic: "t".into(), broker: Some(broker) };
        writer.write(records).await;
        Some((KafkaSource::start(config).expect("source"), writer))
    }

    fn max_batch(&self) -> usize {
        KafkaConfig::DEFAULT_MAX_BATCH
    }
}

#[tokio::test]
async fn one_partition_from_its_end() {
    source_contract(&mut Kafka { partitions: 1, start: Start::Latest }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_partitions_from_their_beginning() {
    source_contract(&mut Kafka { partitions: 5, start: Start::Earliest }).await;
}
