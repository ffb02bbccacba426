//! Teeth of the simulator: each rule of the Raft group that a test build can break has to be
//! noticed within a few seeds.

use super::plan::Plan;
use super::run::run;
use super::{number, on_all_cores};
use causeway::raft::teeth::{RaftRule, break_rule};
use std::collections::BTreeSet;
use std::sync::Mutex;

/// The rules, and from which seed on, and within how many, the absence of each must be noticed.
/// `TEETH_SEEDS=300 TEETH=ForgetVote` looks for the numbers anew, from seed 0 on.
const TEETH: &[(RaftRule, u64, u64)] = &[
    (RaftRule::VoteWithoutLog, 17, 3),
    (RaftRule::FollowAnyLeader, 70, 3),
    (RaftRule::ElectAnybody, 16, 3),
    (RaftRule::CountRefusals, 60, 1),
    (RaftRule::ForgetVote, 1, 3),
    (RaftRule::ConfirmBeforeDurable, 19, 3),
    (RaftRule::CountBeforeDurable, 16, 3),
    (RaftRule::LeadOnAfterCrash, 16, 3),
    (RaftRule::LeaveUndecided, 40_009, 1),
    (RaftRule::ReadUnconfirmed, 20, 3),
    (RaftRule::ReadBehind, 0, 3),
    (RaftRule::ApplyTwice, 0, 3),
    (RaftRule::DenyUnsure, 1, 3),
];

/// The first seed that shows that a rule is broken, and how.
fn bites(rule: RaftRule, from: u64, within: u64) -> Option<(u64, String)> {
    let seeds = match number("TEETH_SEEDS") {
        Some(seeds) => 0..seeds,
        None => from..from + within,
    };
    break_rule(Some(rule));
    let found = seeds.into_iter().find_map(|seed| {
        let failed = run(Plan::of(seed)).err()?;
        Some((seed, failed))
    });
    break_rule(None);
    found
}

#[test]
fn the_simulator_notices_every_broken_rule() {
    let listed: BTreeSet<RaftRule> = TEETH.iter().map(|(rule, ..)| *rule).collect();
    let all = RaftRule::ALL.iter().copied().collect();
    assert_eq!(listed, all, "every rule has a tooth");
    let only = std::env::var("TEETH").unwrap_or_default();
    let wanted =
        |rule: &RaftRule| only.is_empty() || only.split(',').any(|r| r == format!("{rule:?}"));
    let teeth: Vec<_> = TEETH.iter().filter(|(rule, ..)| wanted(rule)).collect();
    let caught = Mutex::new(Vec::new());
    // Panics of broken rules are caught, and need not be read.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    on_all_cores(&teeth, |(rule, from, within)| {
        let found = bites(*rule, *from, *within);
        caught.lock().unwrap().push((*rule, found));
    });
    std::panic::set_hook(hook);
    let mut caught = caught.into_inner().unwrap();
    caught.sort();
    for (rule, found) in &caught {
        match found {
            Some((seed, what)) => println!("{rule:?}: seed {seed}: {what:.160}"),
            None => println!("{rule:?}: NOT FOUND"),
        }
    }
    let missed: Vec<RaftRule> = caught
        .iter()
        .filter(|c| c.1.is_none())
        .map(|c| c.0)
        .collect();
    assert!(
        missed.is_empty(),
        "the simulator does not notice {missed:?}"
    );
}
