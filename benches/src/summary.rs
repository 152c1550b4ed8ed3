//! From runs to what is reported: medians, with how far they spread.
//!
//! Ratios are made within a repetition. A server that failed in a case has no row in
//! it but a note: half of its repetitions would be compared with all of the others'.

pub mod latency;
pub mod stalled;

use serde::Serialize;

use self::latency::Latency;
use crate::comparison::Outcome;
use crate::run::{Case, Measured, Rooms};
use crate::servers::Kind;

/// Of a core, how much the clients may use before it is they who are measured: they
/// are one thread.
const BUSY: f64 = 0.9;

/// The median of some values, and the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Spread {
    /// The middle one, or between the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of those of `values` that are finite, which are then in order; `None` where there
    /// are none.
    pub fn of(values: &mut [f64]) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        // What is not finite is at both ends.
        let first = values.iter().position(|value| value.is_finite())?;
        let last = values.iter().rposition(|value| value.is_finite())?;
        let values = &values[first..=last];
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Some(Self { median, min, max })
    }
}

/// One server in one case.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// Which.
    pub server: Kind,
    /// Microseconds of its CPU time, user and system, for a delivered message.
    pub cpu_us: Spread,
    /// How many times as much as the floor it needs; `None` where that did not run.
    pub to_floor: Option<Spread>,
    /// How many times as much as this library it needs; `None` where that did not run.
    pub to_fanout: Option<Spread>,
    /// Messages that reached their clients in a second.
    pub deliveries_per_s: Spread,
    /// From publishing to the client.
    #[serde(flatten)]
    pub latency: Latency,
    /// Bytes that its process holds for a connection before the first message; `None`
    /// where the system does not tell.
    pub idle_bytes: Option<Spread>,
    /// The most that its process has held in all, in bytes.
    pub peak_bytes: Option<Spread>,
    /// Microseconds of the clients' CPU time for a delivered message.
    pub load_cpu_us: Spread,
    /// Of a core, how much the clients have used.
    pub load_cores: Spread,
    /// Whether the clients may have held up the server: they are one thread, and had
    /// hardly any time to spare. Its CPU time stands, deliveries and latency are theirs.
    pub load_bound: bool,
}

/// A server that has no row, and why.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LeftOut {
    /// Which.
    pub server: Kind,
    /// Why.
    pub reason: String,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Which.
    #[serde(flatten)]
    pub case: Case,
    /// How often each server was run.
    pub repetitions: usize,
    /// Messages that each of them delivered in each repetition, to all clients together.
    pub deliveries: u64,
    /// The servers, as they were asked for.
    pub rows: Vec<Row>,
    /// Those that failed.
    pub left_out: Vec<LeftOut>,
}

impl Summary {
    /// Of a case that was run.
    pub fn of(outcome: &Outcome) -> Self {
        let (mut rows, mut left_out) = (Vec::new(), Vec::new());
        for (at, &server) in outcome.servers.iter().enumerate() {
            let failure = outcome.failures.iter().find(|(failed, _)| *failed == server);
            match failure.map_or_else(|| row(outcome, at).ok_or("it was not run"), |f| Err(&f.1)) {
                Ok(row) => rows.push(row),
                Err(reason) => left_out.push(LeftOut { server, reason: reason.to_owned() }),
            }
        }
        Self {
            case: outcome.case,
            repetitions: outcome.runs.len(),
            deliveries: outcome.case.deliveries(),
            rows,
            left_out,
        }
    }

    /// The row of a server, where it has one.
    pub fn row(&self, server: Kind) -> Option<&Row> {
        self.rows.iter().find(|row| row.server == server)
    }
}

/// The servers of some cases, each once, in their order.
pub fn servers(cases: &[Summary]) -> Vec<Kind> {
    let mut servers = Vec::new();
    for row in cases.iter().flat_map(|case| &case.rows) {
        if !servers.contains(&row.server) {
            servers.push(row.server);
        }
    }
    servers
}

/// What a case is called, in a few words.
pub fn name(case: &Case) -> String {
    let Case { clients, payload, burst, .. } = case;
    let rooms = match case.rooms {
        Rooms::One => "",
        Rooms::Each => ", a room each",
    };
    let stalled = match case.stalled {
        0 => String::new(),
        percent => format!(", {percent} % stalled"),
    };
    let clients = crate::report::grouped(*clients as f64);
    format!("{clients} clients, payload {payload} B, burst {burst}{rooms}{stalled}")
}

fn row(outcome: &Outcome, at: usize) -> Option<Row> {
    let deliveries = outcome.case.deliveries() as f64;
    let runs = || outcome.runs.iter().filter_map(|runs| runs[at].as_ref());
    let spread = |value: &dyn Fn(&Measured) -> Option<f64>| {
        Spread::of(&mut runs().filter_map(value).collect::<Vec<_>>())
    };
    let to = |kind: Kind| {
        let other = outcome.servers.iter().position(|server| *server == kind)?;
        let both =
            outcome.runs.iter().filter_map(|runs| runs[at].as_ref().zip(runs[other].as_ref()));
        let ratios = both.map(|(run, other)| run.cpu.as_secs_f64() / other.cpu.as_secs_f64());
        Spread::of(&mut ratios.collect::<Vec<_>>())
    };
    let load_cores = spread(&|run| Some(run.load_cpu.as_secs_f64() / run.elapsed.as_secs_f64()))?;
    Some(Row {
        server: outcome.servers[at],
        cpu_us: spread(&|run| Some(run.cpu.as_secs_f64() * 1e6 / deliveries))?,
        to_floor: to(Kind::Floor),
        to_fanout: to(Kind::Fanout),
        deliveries_per_s: spread(&|run| Some(deliveries / run.elapsed.as_secs_f64()))?,
        latency: Latency::of(runs().map(|run| &run.latency))?,
        idle_bytes: spread(&|run| run.idle_bytes),
        peak_bytes: spread(&|run| run.peak_bytes),
        load_cpu_us: spread(&|run| Some(run.load_cpu.as_secs_f64() * 1e6 / deliveries))?,
        load_cores,
        load_bound: load_cores.median > BUSY,
    })
}

#[cfg(test)]
pub(crate) mod tests;
