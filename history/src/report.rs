//! What was found, in words.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::judge::plant::{KINDS, plant};
use crate::judge::{Fault, Kind, Life, Lookup, Step, Verdict, judge};
use crate::world::World;

/// Most faults that are told one by one.
const TOLD: usize = 10;
/// Steps told before and after a fault.
const AROUND: usize = 4;
/// Longest text of one frame that is told.
const TEXT: usize = 120;
/// Each server has to know a pulse in so many seconds; three a second are usual.
const PULSE_SECONDS: u64 = 4;
/// How many faults of each kind are planted.
const PLANTED: usize = 25;

/// A run that was judged.
pub(crate) struct Report<'a> {
    pub(crate) world: &'a World,
    pub(crate) lookup: &'a Lookup<'a>,
    pub(crate) judged: &'a [(Life, Verdict)],
}

/// What was acknowledged and is not in Kafka.
pub(crate) fn unpublished(world: &World) -> Vec<(String, u64)> {
    let mut missing = world.acknowledged.lock().expect("nobody panics with it").clone();
    let records = world.kafka.lock().expect("nobody panics with it");
    let orders = records.iter().filter(|((topic, _), _)| topic.starts_with("order."));
    for record in orders.flat_map(|(_, records)| records.values()) {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Versioned {
            order_id: String,
            version: u64,
        }
        let payload = record.payload.as_deref().unwrap_or_default();
        if let Ok(Versioned { order_id, version }) = serde_json::from_slice(payload) {
            missing.remove(&(order_id, version));
        }
    }
    missing.into_iter().collect()
}

impl Report<'_> {
    /// Prints everything; true where nothing is wrong.
    pub(crate) fn print(&self, folder: &Path) -> bool {
        let world = self.world;
        let options = &world.options;
        println!("seed {}, {} s of trouble", options.seed, options.trouble_seconds());
        self.print_counts();
        let mut faults = world.faults.lock().expect("nobody panics with it").clone();
        faults.extend(self.promises());
        faults.extend(self.planted());
        let wrong: usize = self.judged.iter().map(|(_, verdict)| verdict.faults.len()).sum();
        for kind in Kind::ALL {
            let all = self.judged.iter().flat_map(|(_, verdict)| &verdict.faults);
            println!("  {}: {}", kind.name(), all.filter(|fault| fault.kind == kind).count());
        }
        println!("  other faults: {}", faults.len());
        for fault in faults.iter().take(TOLD) {
            println!("fault: {fault}");
        }
        let faulty = self.judged.iter().filter(|(_, verdict)| !verdict.faults.is_empty());
        // The first of each client: what follows often follows from it.
        let faulty = faulty.map(|(life, verdict)| (life, verdict));
        for (life, verdict) in faulty.clone().take(TOLD) {
            print!("{}", self.fault(life, verdict, &verdict.faults[0]));
        }
        for (number, (life, verdict)) in faulty.enumerate().take(TOLD) {
            let path = folder.join(format!("life-{number}.txt"));
            if let Err(error) = std::fs::write(&path, self.whole(life, verdict)) {
                println!("{}: {error}", path.display());
            }
        }
        let good = wrong == 0 && faults.is_empty();
        println!("{}", if good { "passed" } else { "FAILED" });
        good
    }

    fn print_counts(&self) {
        let log = self.lookup.log;
        let records: usize = {
            let records = self.world.kafka.lock().expect("nobody panics with it");
            records.values().map(std::collections::BTreeMap::len).sum()
        };
        let emissions: usize = log.lanes.iter().map(|lane| lane.emissions.len()).sum();
        let due: usize = self.judged.iter().map(|(_, verdict)| verdict.due).sum();
        println!("  lanes: {}", log.lanes.len());
        println!("  records in Kafka: {records}, with {emissions} emissions");
        println!("  emissions that cannot be told apart: {}", self.lookup.ambiguous());
        println!("  emissions due to clients: {due}");
        println!("  lives of clients: {}", self.judged.len());
        for (name, count) in self.world.tally.all() {
            println!("  {name}: {count}");
        }
    }

    /// What must hold of a run as a whole.
    fn promises(&self) -> Vec<String> {
        let (tally, options) = (&self.world.tally, &self.world.options);
        let mut broken = Vec::new();
        if tally.of("frames") == 0 || tally.of("connects") == 0 {
            broken.push("nobody was told anything: this proves nothing".to_owned());
        }
        let resets = tally.of("gaps, reset").max(tally.of("resumes, not recovered"));
        // A server may not know a new partition yet that the cursor already names.
        let grown = tally.of("trouble: partition growth") > 0;
        if tally.of("resumes, recovered") == 0 && !options.allow_reset {
            broken.push("nobody resumed: this proves little".to_owned());
        }
        if resets > 0 && !grown && !options.allow_reset {
            broken.push(format!("{resets} cursors were not taken, and the log was the same one"));
        }
        if tally.of("gaps, expired") > 0 && tally.of("lanes deleted") == 0 {
            broken.push("gaps were told as expired, and nothing was deleted".to_owned());
        }
        for node in 0..self.world.nodes.len() {
            let pulses = self.world.pulses.of(node) as u64;
            if pulses * PULSE_SECONDS < options.trouble_seconds() {
                broken.push(format!(
                    "server {node} has known {pulses} pulses: what was revoked is hardly judged"
                ));
            }
        }
        let names: BTreeSet<_> =
            ["expired", "limit", "reset", "overflow"].map(|name| format!("gaps, {name}")).into();
        let counts = tally.all();
        let unknown = counts.keys().filter(|n| n.starts_with("gaps, ") && !names.contains(*n));
        broken.extend(unknown.map(|name| format!("{name}: no such reason")));
        broken
    }

    /// Puts faults into what clients were told, and tells those that are not noticed.
    fn planted(&self) -> Vec<String> {
        let mut rng = self.world.rng.of("planted");
        let sound: Vec<_> =
            self.judged.iter().filter(|(_, verdict)| verdict.faults.is_empty()).collect();
        let mut unnoticed = Vec::new();
        for kind in KINDS {
            let (mut planted, mut noticed) = (0, 0);
            // Not every life has a place for each.
            for _ in 0..4 * PLANTED {
                let Some((life, verdict)) = rng.pick(&sound) else { break };
                let with = plant(self.lookup, life, verdict, kind, &mut rng);
                let Some(with) = with else { continue };
                planted += 1;
                let found = judge(self.lookup, &with).faults;
                noticed += usize::from(found.iter().any(|fault| fault.kind == kind));
                if planted == PLANTED {
                    break;
                }
            }
            println!("  planted, {}: {noticed} of {planted} noticed", kind.name());
            // A short run may have nobody who was revoked, and for whom that is certain.
            let short = kind == Kind::Revoked && self.world.options.trouble_seconds() < 120;
            if planted == 0 && !short {
                unnoticed.push(format!("nobody was told enough to plant {}", kind.name()));
            }
            if noticed < planted {
                unnoticed.push(format!(
                    "the judge overlooks {} of {planted} that were planted as {}",
                    planted - noticed,
                    kind.name()
                ));
            }
        }
        unnoticed
    }

    /// A fault, and what stands around it.
    fn fault(&self, life: &Life, verdict: &Verdict, fault: &Fault) -> String {
        let mut text = format!("{}: {}: {}\n", fault.kind.name(), life.name, fault.what);
        if let Some(place) = fault.place {
            let (lane, emitted) = (&self.lookup.log.lanes[place.0], self.lookup.emitted(place));
            let said = emitted.told.to(&life.view).map(|said| self.text(said)).unwrap_or_default();
            let _ = writeln!(
                text,
                "  lane {}, offset {}, emission {}, written at {}, to {:?}: {said}",
                lane.name, emitted.offset, emitted.nth, emitted.time, emitted.rooms
            );
        }
        let from = fault.step.saturating_sub(AROUND);
        for (step, what) in life.steps.iter().enumerate().skip(from).take(2 * AROUND) {
            let mark = if step == fault.step { '>' } else { ' ' };
            let _ = writeln!(text, "  {mark} {step} {}", self.step(verdict, step, what));
        }
        text
    }

    /// All that a client was told, and all that is wrong with it.
    fn whole(&self, life: &Life, verdict: &Verdict) -> String {
        let mut text = String::new();
        for fault in &verdict.faults {
            text += &self.fault(life, verdict, fault);
        }
        for (step, what) in life.steps.iter().enumerate() {
            let _ = writeln!(text, "{step} {}", self.step(verdict, step, what));
        }
        text
    }

    fn step(&self, verdict: &Verdict, step: usize, what: &Step) -> String {
        let Step::Frame { content, .. } = what else { return format!("{what:?}") };
        let place = verdict.placed.binary_search_by_key(&step, |(step, _)| *step);
        let place = place.map(|found| verdict.placed[found].1);
        let place = place.map_or_else(
            |_| "nowhere".to_owned(),
            |place| {
                let emitted = self.lookup.emitted(place);
                let lane = &self.lookup.log.lanes[place.0].name;
                format!("{lane} {}-{} of {}", emitted.offset, emitted.nth, emitted.time)
            },
        );
        format!("{place}: {}", self.text(*content))
    }

    fn text(&self, content: u32) -> String {
        let text = self.world.said.text(content).replace('\n', " ");
        text.chars().take(TEXT).collect()
    }
}
