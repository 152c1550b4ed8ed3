//! Where the backlog lies: a broker somewhere, one that is started for it, or the embedded
//! one; and how it is written.

use std::process::{Command, Stdio};

use super::record::{OVERHEAD, Record};
use crate::broker::{Topic, Writer};
use crate::scenario::Failure;

/// What the embedded broker keeps of a partition for certain.
const EMBEDDED_BYTES: u64 = 4 << 20;

/// A broker.
#[derive(Debug)]
pub(super) struct Store {
    kafka: Option<String>,
    /// Ends what was started.
    _control: Option<Control>,
}

impl Store {
    /// The broker at this address, one that `control` starts, or one in this process.
    pub(super) fn new(kafka: Option<&str>, control: Option<&str>) -> Result<Self, Failure> {
        let control = control.map(Control::start).transpose()?;
        let started = control.as_ref().map(|(_, address)| address.clone());
        let kafka = started.or_else(|| kafka.map(str::to_owned));
        Ok(Self { kafka, _control: control.map(|(control, _)| control) })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &'static str {
        if self.is_embedded() { "the embedded broker" } else { "Kafka" }
    }

    pub(super) fn is_embedded(&self) -> bool {
        self.kafka.is_none()
    }

    /// Most records of so many bytes, as they are stored.
    pub(super) fn most(&self, partitions: u32, stored: u64) -> u64 {
        match self.kafka {
            Some(_) => u64::MAX,
            None => u64::from(partitions) * (EMBEDDED_BYTES / (stored + OVERHEAD as u64)),
        }
    }

    /// A topic of its own.
    pub(super) fn topic(&self, partitions: u32) -> Result<Topic, Failure> {
        Ok(Topic::new(self.kafka.as_deref(), partitions)?)
    }
}

/// A broker that somebody else starts and ends for us.
#[derive(Debug)]
struct Control {
    program: String,
    dir: String,
}

impl Control {
    /// `PROGRAM DIR`: runs `PROGRAM start DIR`, which says where the broker is.
    fn start(told: &str) -> Result<(Self, String), Failure> {
        let (program, dir) = told.rsplit_once(' ').ok_or_else(|| {
            Failure::Wrong(format!("--control: `{told}` is not a program, a space and a folder"))
        })?;
        let mut command = Command::new(program);
        let output = command.args(["start", dir]).stderr(Stdio::inherit()).output()?;
        let address = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || address.is_empty() {
            let status = output.status;
            return Err(Failure::Wrong(format!("--control: `{program} start {dir}`: {status}")));
        }
        Ok((Self { program: program.to_owned(), dir: dir.to_owned() }, address))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // What it could not do it has said itself.
        let _ = Command::new(&self.program).args(["stop", &self.dir]).status();
    }
}

/// What a backlog is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    pub(super) partitions: u32,
    pub(super) records: u64,
    /// Bytes of a value, and how many of them cannot be compressed.
    pub(super) payload: usize,
    pub(super) random: usize,
}

impl Backlog {
    /// Writes all of it, and waits until it is written.
    pub(super) fn write(self, topic: &Topic, compression: &str) -> Result<(), Failure> {
        let writer = topic.writer_with(&[
            // librdkafka's default, in place of a benchmark's haste: batches as they are.
            ("linger.ms", "5"),
            ("compression.type", compression),
            // The default lets a gigabyte wait.
            ("queue.buffering.max.kbytes", "65536"),
        ])?;
        let mut payload = Vec::with_capacity(self.payload);
        for index in 0..self.records {
            self.write_one(&writer, index, 0, &mut payload)?;
        }
        Ok(writer.flush()?)
    }

    /// Writes the record of this place, with when it was sent.
    pub(super) fn write_one(
        self,
        writer: &Writer,
        index: u64,
        sent: u64,
        payload: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let record = Record::new(index);
        record.payload(sent, self.payload, self.random, payload);
        let partition = (index % u64::from(self.partitions)) as u32;
        Ok(writer.write_with(partition, &record.key(), payload, Some(record.headers()))?)
    }
}
