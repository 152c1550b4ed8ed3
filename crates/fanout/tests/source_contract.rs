//! The source in memory keeps the contract of sources.

use fanout::testing::{Record, SourceHarness, SourceWriter, source_contract};
use fanout::{MemorySource, MemoryTopic};

struct Memory;

struct Writer(MemoryTopic);

impl SourceHarness for Memory {
    type Source = MemorySource;
    type Writer = Writer;

    async fn open(&mut self) -> (MemorySource, Writer) {
        let (topic, source) = MemorySource::new("contract");
        (source, Writer(topic))
    }

    fn max_batch(&self) -> usize {
        MemorySource::CAPACITY
    }
}

impl SourceWriter for Writer {
    async fn write(&mut self, records: Vec<Record>) {
        for Record { key, payload } in records {
            self.0.send_raw(Some(key), payload).await.expect("the source lives");
        }
    }
}

#[tokio::test]
async fn on_one_thread() {
    source_contract(&mut Memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads() {
    source_contract(&mut Memory).await;
}
