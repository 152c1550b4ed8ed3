//! How much memory a large backlog takes: no more than a small one.
//!
//! Records of 100 KiB that compress well, so that gigabytes are small where they lie and large
//! where they are read. They go through the whole pipeline, once into a hub that takes them as
//! they come, once into one that is slower than the broker.
//!
//! What bounds it is what the bounds of each part add up to:
//!
//! | what | bytes | bound |
//! |---|---|---|
//! | librdkafka's queue | 16 MiB | `queued.max.messages.kbytes` |
//! | one answer to a fetch, unpacked | 1 MiB a partition times how well it compresses | `max.partition.fetch.bytes` |
//! | batches on their way | 10 of 1 MiB and a record | `max_queued_batches`, `max_batch_bytes` |
//! | the log | 64 MiB | `Limits::log_bytes` |
//! | what a slow shard has still to read, and what it joins | 8 MiB and 256 KiB | `Limits::lag_bytes` |
//! | the process with nothing to do | 16 MiB | |
//!
//! and that twice, because of the allocator: what one thread takes and another gives back, in
//! pieces of any size, it does not give back to the system for long.

use super::cost::peak;
use super::job::{How, Job};
use super::store::Backlog;
use super::{Failure, Play, cost};
use crate::scenario::figures::{Figure, MIB, Outcome, Row};

/// Bytes of a record.
const PAYLOAD: usize = 100 << 10;
/// Of how many bytes of it one cannot be compressed.
const COMPRESSES: usize = 20;
/// Microseconds that a slow hub takes for a record: less than 100 MiB/s.
const SLOW_US: u64 = 1_000;

pub(super) fn run(play: &Play<'_>) -> Result<Outcome, Failure> {
    let (args, store) = (play.args, play.store);
    let partitions = args.partitions;
    let random = PAYLOAD / COMPRESSES;
    #[allow(clippy::cast_sign_loss)] // It was checked to be above zero.
    let wanted = ((args.backlog_gib * 1024.0 * MIB) as u64 / PAYLOAD as u64).max(1);
    let records = wanted.min(store.most(partitions, random as u64));
    let backlog = Backlog { partitions, records, payload: PAYLOAD, random };
    let topic = store.topic(partitions)?;
    backlog.write(&topic, args.compression.name())?;

    let bound = args.memory_bound_mib.unwrap_or_else(|| bound_mib(partitions));
    let mut outcome = Outcome {
        name: "memory",
        done: format!(
            "{:.2} GiB in {records} records of {} KiB, packed with {} to about a {COMPRESSES}th, \
             in {partitions} partitions of {}, through the pipeline.",
            (records * PAYLOAD as u64) as f64 / MIB / 1024.0,
            PAYLOAD >> 10,
            args.compression.name(),
            store.name(),
        ),
        rows: Vec::new(),
        checked: Vec::new(),
    };
    let job = play.job(&topic, backlog);
    for (what, how, slow_us) in [
        ("bare rdkafka loop", How::Bare, 0),
        ("bare, librdkafka's defaults", How::BareDefaults, 0),
        ("a fast hub", How::Pipeline, 0),
        ("a slow hub", How::Pipeline, SLOW_US),
    ] {
        eprintln!("memory, {what}");
        let job = Job { how, slow_us, ..job.clone() };
        let report = cost::read(play, &job)?;
        let mib = (records * PAYLOAD as u64) as f64 / MIB;
        let read = report.elapsed.saturating_sub(report.first).as_secs_f64();
        let figures = vec![
            Figure { name: "peak", value: peak(&report), unit: "MiB" },
            Figure { name: "read", value: mib, unit: "MiB" },
            Figure { name: "at", value: mib / read, unit: "MiB/s" },
        ];
        outcome.rows.push(Row { what: what.to_owned(), of: None, figures });
        if how == How::Pipeline && peak(&report) > bound as f64 {
            return Err(Failure::Wrong(format!(
                "{what} held {:.0} MiB, more than {bound}",
                peak(&report)
            )));
        }
    }
    outcome.checked(format!("the pipeline never held more than {bound} MiB"));
    outcome.checked("every record came once and in the order of its partition");
    Ok(outcome)
}

/// What it may hold at most, in MiB: see above.
fn bound_mib(partitions: u32) -> u64 {
    2 * (16 + u64::from(partitions) * COMPRESSES as u64 + 11 + 64 + 9 + 16)
}
