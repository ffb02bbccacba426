//! The Raft group, in a simulation: the real code of `src/raft` and of the Raft library, whose
//! time, chance, disks and network are drawn from one seed.
//!
//! ```text
//! SIM_SEEDS=n cargo test --test raft_sim     runs n seeds, from SIM_FROM on
//! SIM_SEED=x cargo test --test raft_sim      replays one; with
//!     SIM_FAULTS=3,7                         only these faults of its schedule,
//!     SIM_TRACE=info                         and what happens, or debug
//! ```

mod clients;
mod disk;
mod exec;
mod faults;
mod history;
mod machine;
mod net;
mod nodes;
mod plan;
#[path = "../../simulator/rng.rs"]
mod rng;
mod run;
mod teeth;
mod trace;
mod views;

use plan::Plan;
use run::run;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Seeds of an ordinary run.
const SEEDS: u64 = 50;
/// Seeds that once found a defect, in the order in which they did.
const REGRESSIONS: &[u64] = &[1557, 1255, 21_412, 40_009, 60, 50_590];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn groups_keep_every_promise() {
    if let Some(seed) = number("SIM_SEED") {
        return replay(seed);
    }
    let from = number("SIM_FROM").unwrap_or(0);
    let end = from + number("SIM_SEEDS").unwrap_or(SEEDS);
    let seeds: Vec<u64> = REGRESSIONS.iter().copied().chain(from..end).collect();
    let failures = Mutex::new(Vec::new());
    let began = Instant::now();
    let total = Mutex::new((0, 0, 0, 0));
    on_all_cores(&seeds, |seed| match run(Plan::of(*seed)) {
        Ok(done) => {
            let mut total = total.lock().unwrap();
            total.0 += done.changes;
            total.1 += done.reads;
            total.2 += done.views;
            total.3 += done.term;
        }
        Err(why) => {
            println!(
                "seed {seed}: {why}\nreplay: SIM_SEED={seed} cargo test --test raft_sim promise -- --nocapture"
            );
            failures.lock().unwrap().push(*seed);
        }
    });
    let (changes, reads, views, terms) = *total.lock().unwrap();
    println!(
        "{} seeds in {:?}: {changes} changes and {reads} reads of lists, {views} decisions about views, {terms} terms",
        seeds.len(),
        began.elapsed()
    );
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} seeds failed: {failures:?}",
        failures.len()
    );
}

/// Does something with each item, on as many threads as there are cores.
fn on_all_cores<T: Sync>(items: &[T], each: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|threads| {
        for _ in 0..cores {
            threads.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    each(item);
                }
            });
        }
    });
}

/// Runs one seed, or what is asked for of it, and shows how it ended.
fn replay(seed: u64) {
    let mut plan = Plan::of(seed);
    if let Ok(kept) = std::env::var("SIM_FAULTS") {
        let kept: Vec<usize> = kept.split(',').filter_map(|i| i.parse().ok()).collect();
        let mut i = 0;
        plan.faults.retain(|_| {
            i += 1;
            kept.contains(&(i - 1))
        });
    }
    println!("{plan:#?}");
    if let Ok(level) = std::env::var("SIM_TRACE") {
        trace::show(level.parse().unwrap());
    }
    match run(plan) {
        Ok(done) => println!("seed {seed}: {done:?}"),
        Err(why) => panic!("seed {seed}: {why}"),
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in [3, 14] {
        assert_eq!(run(Plan::of(seed)), run(Plan::of(seed)));
    }
}
