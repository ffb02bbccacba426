//! A deterministic simulation: whole clusters with simulated networks, disks, clocks and clients,
//! under faults that follow from one seed, and an oracle that knows what is true.
//!
//! `SIM_SEEDS=n cargo test --test sim` runs another number of seeds; `SIM_SEED=x` replays one and
//! prints what happened last
//! (`SIM_TRACE=n`: the last n events).

#[path = "sim/calm.rs"]
mod calm;
#[path = "sim/checks.rs"]
mod checks;
#[path = "sim/client.rs"]
mod client;
#[path = "sim/disk.rs"]
mod disk;
#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/net.rs"]
mod net;
#[path = "sim/node.rs"]
mod node;
#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/rng.rs"]
mod rng;
#[path = "sim/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use world::World;

/// Seeds of an ordinary run.
const SEEDS: u64 = 200;

/// Seeds that once found a defect, in the order in which they did.
const REGRESSIONS: &[u64] = &[];

/// Runs a seed; what went wrong, with the trace of the last events.
fn run(seed: u64, keep: usize) -> Result<u64, String> {
    let mut world = World::new(seed, keep);
    let done = catch_unwind(AssertUnwindSafe(|| world.run()));
    let failed = match done {
        Ok(Ok(())) => return Ok(world.steps),
        Ok(Err(failed)) => failed,
        Err(_) => "it panicked".to_owned(),
    };
    Err(format!("{}\n\n{:?}\n{failed}", world.trace(), world.plan))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn simulated_clusters_keep_every_promise() {
    if let Some(seed) = number("SIM_SEED") {
        let steps = run(seed, number("SIM_TRACE").unwrap_or(400) as usize)
            .unwrap_or_else(|failed| panic!("seed {seed}: {failed}"));
        println!("seed {seed}: {steps} events, nothing wrong");
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let all: Vec<u64> = REGRESSIONS.iter().copied().chain(0..seeds).collect();
    let (next, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some(seed) = all.get(at) else {
                        return;
                    };
                    match run(*seed, 0) {
                        Ok(n) => steps.fetch_add(n, Ordering::Relaxed),
                        Err(failed) => {
                            failures.lock().unwrap().push((*seed, failed));
                            0
                        }
                    };
                }
            });
        }
    });
    println!("{} seeds, {} events", all.len(), steps.into_inner());
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    for (seed, failed) in &failures {
        println!(
            "seed {seed}: {failed}\nreplay: SIM_SEED={seed} cargo test --test sim -- --nocapture\n"
        );
    }
    assert!(failures.is_empty(), "{} seeds failed", failures.len());
}

#[test]
fn a_seed_decides_everything() {
    for seed in [3, 14] {
        assert_eq!(run(seed, 0), run(seed, 0));
    }
}
