//! The sources in memory keep the contract of sources.

use fanout::testing::{
    MemoryLog, MemoryLogSource, MemoryStart, Record, SourceHarness, SourceWriter, source_contract,
};
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

/// A log that can be read again, with holes.
struct Log;

struct LogWriter(MemoryLog);

impl SourceHarness for Log {
    type Source = MemoryLogSource;
    type Writer = LogWriter;

    async fn open(&mut self) -> (MemoryLogSource, LogWriter) {
        let log = MemoryLog::new("contract", 3).with_holes(1);
        (log.source(MemoryStart::Latest), LogWriter(log))
    }

    async fn open_holding(&mut self, records: Vec<Record>) -> Option<(MemoryLogSource, LogWriter)> {
        let log = MemoryLog::new("contract", 3).with_holes(2);
        let mut writer = LogWriter(log.clone());
        writer.write(records).await;
        Some((log.source(MemoryStart::Earliest), writer))
    }

    fn max_batch(&self) -> usize {
        MemoryLog::MAX_BATCH
    }
}

impl SourceWriter for LogWriter {
    async fn write(&mut self, records: Vec<Record>) {
        for Record { key, payload } in records {
            let partition = u32::from(key[key.len() - 1]) % 3;
            self.0.write(partition, Some(key), payload);
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

#[tokio::test]
async fn a_log_on_one_thread() {
    source_contract(&mut Log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_on_several_threads() {
    source_contract(&mut Log).await;
}
