//! The simulator's teeth: with any one of these rules broken, it must find something wrong within
//! so many seeds.

#[path = "by_rule_tests.rs"]
mod by_rule_tests;

use crate::simulator::plan::Plan;
use crate::simulator::runs::{on_all_cores, run};
use by_rule_tests::BY_RULE_TESTS;
use causeway::protocol::teeth::{Rule, break_rule};
use std::collections::BTreeSet;
use std::sync::Mutex;

/// The rules, and the seeds within which the absence of each must be noticed.
/// `TEETH_SEEDS=500 TEETH=ReuseLog,ServeEmpty` looks for the numbers anew.
const TEETH: &[(Rule, u64)] = &[
    (Rule::AcceptGap, 10),
    (Rule::RangeWithoutVersions, 10),
    (Rule::PruneEarly, 10),
    (Rule::ReadUnchecked, 10),
    (Rule::AbsentUnchecked, 30),
    (Rule::DropDependencies, 120),
    (Rule::StampBelowContext, 10),
    (Rule::OrderByWallClock, 10),
    (Rule::ShowOneCopy, 10),
    (Rule::ShowUndurable, 10),
    (Rule::ShowHidden, 10),
    (Rule::ConfirmBeforeDurable, 10),
    (Rule::StableWithoutTheDead, 10),
    (Rule::ReuseLog, 10),
    (Rule::ServeEmpty, 10),
    (Rule::TrustOldDisk, 10),
    (Rule::ForgetFinished, 30),
    (Rule::CollectByTime, 60),
    (Rule::TakeForeign, 60),
    (Rule::WaitForever, 10),
    (Rule::OneRoundSnapshot, 30),
    (Rule::EnactWithoutAll, 120),
];

/// The first seed that shows that a rule is broken, and how.
fn bites(rule: Rule, within: u64) -> Option<(u64, String)> {
    let asked = std::env::var("TEETH_SEEDS").ok();
    let seeds = asked.and_then(|n| n.parse().ok()).unwrap_or(within);
    break_rule(Some(rule));
    let found = (0..seeds).find_map(|seed| {
        let failed = run(Plan::of(seed), 0).err()?;
        Some((seed, failed.what))
    });
    break_rule(None);
    found
}

#[test]
fn the_simulator_notices_every_broken_rule() {
    let mut listed: BTreeSet<Rule> = TEETH.iter().map(|(rule, _)| *rule).collect();
    listed.extend(BY_RULE_TESTS);
    let all = Rule::ALL.iter().copied().collect();
    assert_eq!(listed, all, "every rule has a tooth");
    let only = std::env::var("TEETH").unwrap_or_default();
    let wanted = |(rule, _): &&(Rule, u64)| {
        only.is_empty() || only.split(',').any(|r| r == format!("{rule:?}"))
    };
    let teeth: Vec<_> = TEETH.iter().filter(wanted).collect();
    let caught = Mutex::new(Vec::new());
    // A panic that a broken rule causes is caught, and need not be read.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    on_all_cores(&teeth, |(rule, within)| {
        let found = bites(*rule, *within);
        caught.lock().unwrap().push((*rule, found));
    });
    std::panic::set_hook(hook);
    let mut caught = caught.into_inner().unwrap();
    caught.sort();
    for (rule, found) in &caught {
        match found {
            Some((seed, what)) => println!("{rule:?}: seed {seed}: {what:.120}"),
            None => println!("{rule:?}: NOT FOUND"),
        }
    }
    let missed: Vec<Rule> = caught
        .iter()
        .filter(|c| c.1.is_none())
        .map(|c| c.0)
        .collect();
    assert!(
        missed.is_empty(),
        "the simulator does not notice {missed:?}"
    );
}
