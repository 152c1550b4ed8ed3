//! Clients that come and go, nodes that lag and die, and a judge.
//!
//! A run is a seed: the same seed does the same, but for what the processor's own time
//! decides. `FANOUT_HISTORY_RUNS` makes it more of them, `FANOUT_HISTORY_SEED` repeats one
//! and tells its story.

#[path = "history/judge.rs"]
mod judge;
#[path = "history/run.rs"]
mod run;
#[path = "history/scene.rs"]
mod scene;
#[path = "history/verdicts.rs"]
mod verdicts;

use std::collections::BTreeMap;

use run::Run;

const RUNS: u64 = 2000;

/// What many runs have met.
#[derive(Debug, Default)]
struct Met {
    gaps: BTreeMap<String, u64>,
    replays: u64,
    sessions: u64,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What went wrong, and the story of it.
type Failed = (String, String);

fn one(seed: u64, threads: bool, met: &mut Met) -> Result<(), Failed> {
    let mut runtime = if threads {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2);
        builder
    } else {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.start_paused(true);
        builder
    };
    let runtime = runtime.enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let mut run = Run::new(seed, !threads).await;
        run.steps().await.map_err(|what| (format!("seed {seed}: {what}"), run.account()))?;
        for (reason, count) in &run.gaps {
            *met.gaps.entry(reason.clone()).or_default() += count;
        }
        met.replays += run.replays;
        met.sessions += run.sessions;
        Ok(())
    })
}

fn all(seeds: impl Iterator<Item = u64>, threads: bool) -> Met {
    let mut met = Met::default();
    let failed: Vec<Failed> =
        seeds.filter_map(|seed| one(seed, threads, &mut met).err()).take(20).collect();
    println!("{met:?}");
    if let Some((what, story)) = failed.first() {
        println!("{story}");
        for (what, _) in &failed {
            println!("{what}");
        }
        panic!("{what}");
    }
    met
}

#[test]
fn nothing_is_missing_and_nothing_comes_twice() {
    if let Some(seed) = number("FANOUT_HISTORY_SEED") {
        all(seed..=seed, false);
        return;
    }
    let runs = number("FANOUT_HISTORY_RUNS").unwrap_or(RUNS);
    let met = all(0..runs, false);
    if runs >= RUNS {
        // Or it would have tried little.
        for reason in ["expired", "limit", "reset", "overflow"] {
            assert!(met.gaps.contains_key(reason), "no gap by {reason}: {met:?}");
        }
        assert!(met.replays > runs / 4, "{met:?}");
    }
}

#[test]
fn nor_on_several_threads() {
    let runs = number("FANOUT_HISTORY_RUNS").unwrap_or(RUNS) / 20;
    all(1_000_000..1_000_000 + runs, true);
}
