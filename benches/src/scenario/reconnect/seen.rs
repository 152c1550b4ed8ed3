//! What was seen while all came back, and whether the server did not do far too much for it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::scenario::Name;
use crate::scenario::failure::Failure;
use crate::scenario::figures::{Latency, MIB, Outcome};

/// How often what was missed may be read again.
const MOST_READ: u64 = 5;

/// What was seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) before: Latency,
    pub(super) during: Latency,
    /// Of each client.
    pub(super) times: Latency,
    pub(super) ready: Duration,
    pub(super) all_live: Duration,
    pub(super) cpu: Duration,
    pub(super) refused: u64,
    pub(super) slow: u64,
    /// What was written before the server was started again.
    pub(super) range: u64,
    pub(super) memory: Option<u64>,
    pub(super) peak: Option<u64>,
    pub(super) counters: BTreeMap<String, u64>,
}

/// How much was counted of this, with any label.
fn counted(counters: &BTreeMap<String, u64>, name: &str) -> u64 {
    let of = |counted: &&String| counted.split(' ').next() == Some(name);
    counters.iter().filter(|(counted, _)| of(counted)).map(|(_, count)| count).sum()
}

/// How many records were read again, which may not be too many.
pub(super) fn read_again(
    counters: &BTreeMap<String, u64>,
    range: u64,
    slow: u64,
) -> Result<u64, Failure> {
    // The library counts what it was handed, the source what it has read.
    let read = counted(counters, "fanout_replayed_records_total")
        .max(counted(counters, "fanout_source_replayed_records_total"));
    if read <= MOST_READ * range {
        return Ok(read);
    }
    Err(Failure::Wrong(format!(
        "{read} records were read again, more than {MOST_READ} times the {range} that were missed; \
         clients were told {slow} times to come back later, too slow. What was counted: \
         {counters:?}"
    )))
}

impl Seen {
    fn counted(&self, name: &str) -> u64 {
        counted(&self.counters, name)
    }

    pub(super) fn outcome(
        &self,
        warm: bool,
        clients: usize,
        missed: usize,
        rooms: usize,
        deliveries: u64,
    ) -> Result<Outcome, Failure> {
        let read = read_again(&self.counters, self.range, self.slow)?;
        let (gaps, range) = (self.counted("fanout_gaps_total"), self.range);
        if gaps > 0 {
            return Err(Failure::Wrong(format!("{gaps} gaps were told: {:?}", self.counters)));
        }
        // Again where one was sent away in between.
        if self.counters.get("fanout_resumes_total recovered") < Some(&(clients as u64)) {
            let told = format!("not all of {clients} have recovered: {:?}", self.counters);
            return Err(Failure::Wrong(told));
        }
        let name = if warm { Name::ReconnectWarm } else { Name::Reconnect };
        let started = if warm { "warm" } else { "with nothing in memory" };
        let done = format!(
            "A server is killed and started again, {started}; {clients} clients in {rooms} rooms \
             come back, {missed} messages behind each.",
        );
        let mut outcome = Outcome::new(name, done);
        outcome.latency("others, before", &self.before);
        outcome.latency("others, while all come back", &self.during);
        outcome.latency("a client, from coming to live", &self.times);
        outcome.figure("until all are live", self.all_live.as_secs_f64(), "s");
        outcome.figure("until the server took anybody", self.ready.as_secs_f64(), "s");
        let each = self.cpu.as_secs_f64() * 1e6 / deliveries as f64;
        outcome.figure("server's CPU for each delivery", each, "us");
        outcome.figure("records read again", read as f64, "");
        outcome.figure("of what was missed", read as f64 / range as f64, "times");
        let passes = self.counted("fanout_replay_passes_total");
        outcome.figure("passes", passes as f64, "");
        if let (Some(memory), Some(peak)) = (self.memory, self.peak) {
            outcome.figure("memory, before they come", memory as f64 / MIB, "MiB");
            outcome.figure("memory, at most", peak as f64 / MIB, "MiB");
        }
        outcome.figure("told to try again, overloaded", self.refused as f64, "");
        outcome.figure("told to come back later, too slow", self.slow as f64, "");
        outcome.checked(format!(
            "all {deliveries} missed messages came to their clients, once and in order"
        ));
        outcome.checked("all cursors were taken, nobody was told of a gap");
        outcome.checked(format!("at most {MOST_READ} times what was missed was read again"));
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of ten clients in four rooms, which have missed ten messages.
    fn seen(counters: &[(&str, u64)]) -> Result<Outcome, Failure> {
        let counters = counters.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let seen = Seen { range: 40, counters, ..Seen::default() };
        seen.outcome(false, 10, 10, 4, 100)
    }

    const RECOVERED: (&str, u64) = ("fanout_resumes_total recovered", 10);

    #[test]
    fn what_the_server_counts_is_judged() {
        let read = ("fanout_replayed_records_total", 200);
        let outcome = seen(&[RECOVERED, read, ("fanout_replay_passes_total", 7)]).unwrap();
        let shown = outcome.to_string();
        assert!(shown.contains("of what was missed") && shown.contains("5.00 times"), "{shown}");
        let more = ("fanout_source_replayed_records_total t", 201);
        for wrong in [
            &[RECOVERED, read, more][..],
            &[RECOVERED, ("fanout_gaps_total limit", 1)],
            &[("fanout_resumes_total recovered", 9)],
            &[],
        ] {
            assert!(matches!(seen(wrong), Err(Failure::Wrong(_))), "{wrong:?}");
        }
    }
}
