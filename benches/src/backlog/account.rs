//! Whether every record came exactly once, and when.
//!
//! Partitions take turns, so that in each the next record's number is known: what is lost,
//! doubled or out of order is noticed where it happens. What was counted is told as well, for
//! whoever started the reader to check against what was written.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::record;
use crate::clock;
use crate::scenario::figures::{Latency, histogram};

/// What came so far.
#[derive(Debug)]
pub(super) struct Account {
    /// By partition, the place in the backlog of the record that comes next.
    next: Vec<u64>,
    counts: Vec<u64>,
    wanted: u64,
    seen: u64,
    bytes: u64,
    sum: u64,
    first_ns: u64,
    last_ns: u64,
    /// Of the records from this place on.
    latency: Option<(u64, Histogram<u64>)>,
    wrong: Option<String>,
}

/// What an [`Account`] says at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Records, by partition.
    pub(super) counts: Vec<u64>,
    /// The sum of their places in the backlog.
    pub(super) sum: u64,
    /// Bytes of their values.
    pub(super) bytes: u64,
    /// When the first and the last came, by the monotonic clock.
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    pub(super) latency: Option<Latency>,
    /// The first that was not as it should be.
    pub(super) wrong: Option<String>,
}

impl Account {
    /// Of so many records, each partition's in turn. The latency is taken of those from
    /// `latency_from` on.
    pub(super) fn new(partitions: u32, wanted: u64, latency_from: Option<u64>) -> Self {
        Self {
            next: (0..u64::from(partitions)).collect(),
            counts: vec![0; partitions as usize],
            wanted,
            seen: 0,
            bytes: 0,
            sum: 0,
            first_ns: 0,
            last_ns: 0,
            latency: latency_from.map(|from| (from, histogram())),
            wrong: None,
        }
    }

    /// A record of this partition.
    #[inline]
    pub(super) fn take(&mut self, partition: usize, payload: &[u8]) {
        let stamp = record::stamp(payload);
        self.note(partition, stamp, payload.len());
    }

    /// A record of which only the value is there.
    pub(super) fn take_value(&mut self, payload: &[u8]) {
        let stamp = record::stamp(payload);
        let partition = stamp.map_or(0, |(index, _)| index % self.next.len() as u64);
        self.note(partition as usize, stamp, payload.len());
    }

    #[inline]
    fn note(&mut self, partition: usize, stamp: Option<(u64, u64)>, bytes: usize) {
        let expected = self.next.get(partition).copied();
        match (stamp, expected) {
            (Some((index, sent)), Some(expected)) if index == expected => {
                self.next[partition] += self.next.len() as u64;
                self.counts[partition] += 1;
                self.sum += index;
                self.bytes += bytes as u64;
                self.seen += 1;
                if self.latency.is_some() || self.seen == 1 || self.seen == self.wanted {
                    self.time(index, sent);
                }
            }
            (stamp, expected) => {
                self.wrong.get_or_insert_with(|| {
                    let index = stamp.map(|(index, _)| index);
                    format!("partition {partition}: {index:?} came where {expected:?} was next")
                });
            }
        }
    }

    #[cold]
    fn time(&mut self, index: u64, sent: u64) {
        let now = clock::monotonic_ns();
        if self.seen == 1 {
            self.first_ns = now;
        }
        if self.seen == self.wanted {
            self.last_ns = now;
        }
        if let Some((from, latency)) = &mut self.latency
            && index >= *from
        {
            latency.saturating_record(now.saturating_sub(sent).max(1));
        }
    }

    /// Whether nothing is waited for any more.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.seen == self.wanted || self.wrong.is_some()
    }

    pub(super) fn seen(&self) -> Seen {
        Seen {
            counts: self.counts.clone(),
            sum: self.sum,
            bytes: self.bytes,
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            latency: self.latency.as_ref().map(|(_, latency)| Latency::of(latency)),
            wrong: self.wrong.clone(),
        }
    }
}

impl Seen {
    /// What is not as it should be, where so many records of so many bytes were written to
    /// partitions in turn.
    pub(super) fn check(&self, partitions: u32, records: u64, payload: u64) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        let partitions = u64::from(partitions);
        let count = |p: u64| records / partitions + u64::from(p < records % partitions);
        let counts: Vec<u64> = (0..partitions).map(count).collect();
        let sum = records * records.saturating_sub(1) / 2;
        if self.counts != counts || self.sum != sum || self.bytes != records * payload {
            let Self { counts: got, sum: got_sum, bytes, .. } = self;
            return Err(format!(
                "{got:?} records by partition, sum {got_sum}, {bytes} bytes; {counts:?}, sum \
                 {sum}, {} bytes were written",
                records * payload
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::*;

    fn take(account: &mut Account, partition: usize, index: u64) {
        let mut payload = Vec::new();
        Record::new(index).payload(7, 200, 0, &mut payload);
        account.take(partition, &payload);
    }

    #[test]
    fn every_record_once_and_in_the_order_of_its_partition() {
        let mut account = Account::new(2, 5, Some(2));
        for index in [1, 0, 2, 3] {
            take(&mut account, index as usize % 2, index);
            assert!(!account.is_over());
        }
        let few = account.seen().check(2, 5, 200).unwrap_err();
        assert!(few.starts_with("[2, 2] records by partition, sum 6, 800 bytes; [3, 2]"), "{few}");
        take(&mut account, 0, 4);
        assert!(account.is_over());
        let seen = account.seen();
        assert_eq!(seen.check(2, 5, 200), Ok(()));
        assert_eq!(seen.latency.map(|latency| latency.count), Some(3));
        assert!(seen.first_ns > 0 && seen.first_ns <= seen.last_ns);
    }

    #[test]
    fn what_is_lost_doubled_or_elsewhere_is_wrong() {
        for (partition, index) in [(0, 4), (0, 0), (1, 2), (2, 2)] {
            let mut account = Account::new(2, 5, None);
            take(&mut account, 0, 0);
            take(&mut account, partition, index);
            assert!(account.is_over() && account.seen().check(2, 5, 200).is_err());
        }
        let mut account = Account::new(2, 5, None);
        account.take_value(b"{}");
        let wrong = account.seen().wrong;
        assert_eq!(wrong.as_deref(), Some("partition 0: None came where Some(0) was next"));
    }
}
