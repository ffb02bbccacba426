//! Seeds of the simulator (`simulator/`): each draws a cluster and its faults, and has to keep
//! every promise.
//!
//! ```text
//! SIM_SEEDS=n cargo test --test sim      runs n seeds, from SIM_FROM on, and shrinks
//!     SIM_VIEWS=fixed                    only those without changes of the view; `changing`: the
//!                                        others
//!     SIM_SHRINK=3                       so many of those that fail
//! SIM_SEED=x cargo test --test sim       replays one; with
//!     SIM_FAULTS=3,7                     only these faults of its schedule,
//!     SIM_SESSIONS=2                     only its first clients,
//!     SIM_TRACE=400                      and that many of the last events
//! ```
//!
//! `examples/simulate.rs` takes the same as options.

#[path = "../../simulator/mod.rs"]
mod simulator;
mod teeth;

use causeway::protocol::limits::Bound;
use clap::Parser;
use simulator::plan::Plan;
use simulator::regressions::REGRESSIONS;
use simulator::runs::{replay, run, run_seeds};
use simulator::settings::{SEEDS, Settings};

/// Bounds that take more luck to meet than some hundreds of seeds have; `tests/protocol` meets
/// these.
const MET_BY_RULE_TESTS: &[Bound] = &[Bound::Handed];

#[test]
fn simulated_clusters_keep_every_promise() {
    let settings = Settings::from_environment().unwrap_or_else(|e| panic!("{e}"));
    if let Some(seed) = settings.seed {
        return replay(seed, &settings).unwrap_or_else(|failed| panic!("{failed}"));
    }
    let done = run_seeds(REGRESSIONS, &settings).unwrap_or_else(|failed| panic!("{failed}"));
    let is_met = |b: &&Bound| done.met.contains_key(b) || MET_BY_RULE_TESTS.contains(b);
    let unmet: Vec<_> = Bound::ALL.iter().filter(|b| !is_met(b)).collect();
    // Some are met only where the view changes.
    let enough = done.runs as u64 >= SEEDS && settings.views.is_none();
    assert!(!enough || unmet.is_empty(), "no run met {unmet:?}");
}

#[test]
fn a_seed_decides_everything() {
    for seed in [3, 14] {
        let (one, other) = (run(Plan::of(seed), 0), run(Plan::of(seed), 0));
        assert_eq!(one.map_err(|e| e.what), other.map_err(|e| e.what));
    }
}

#[test]
fn settings_leave_out_faults_and_clients() {
    let settings = |options: &[&str]| {
        let all = ["simulate", "--seed=3"].iter().chain(options);
        Settings::try_parse_from(all).unwrap().part_of(3)
    };
    let whole = Plan::of(3);
    let part = settings(&["--faults=1,4", "--sessions=2"]);
    assert_eq!(part.faults, [1, 4].map(|i| whole.faults[i].clone()));
    assert_eq!(part.load.sessions, 2);
    assert_eq!(settings(&["--faults="]).faults, [], "none is a choice too");
    assert_eq!(settings(&[]).faults, whole.faults);
}

#[test]
fn settings_choose_seeds_by_what_becomes_of_the_view() {
    let seeds = |views| {
        let options = ["simulate", "--seeds=4", "--from=20", views];
        let settings = Settings::try_parse_from(options).unwrap();
        settings
            .plans()
            .map(|plan| (plan.seed, plan.changes()))
            .collect::<Vec<_>>()
    };
    let (fixed, changing) = (seeds("--views=fixed"), seeds("--views=changing"));
    assert_eq!((fixed.len(), changing.len()), (4, 4));
    assert!(fixed.iter().all(|(seed, changes)| *seed >= 20 && !changes));
    assert!(
        changing
            .iter()
            .all(|(seed, changes)| *seed >= 20 && *changes)
    );
}
