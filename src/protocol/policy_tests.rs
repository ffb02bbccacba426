//! What is due in every kind of situation, and that the Raft group takes it.

use super::super::changes::ViewOutcome;
use super::super::view::View;
use super::*;
use core::net::SocketAddr;

const SECOND: u64 = 1_000_000;

fn address(i: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, i], 8080))
}

fn members(numbers: &[u16]) -> BTreeSet<MemberId> {
    numbers.iter().copied().map(MemberId).collect()
}

/// Nodes 0 to `n - 1` with K replicas a partition, and a change that runs.
fn changing(n: u8, k: usize, change: Change, lose_data: bool) -> ViewChanges {
    let addresses: Vec<SocketAddr> = (0..n).map(address).collect();
    let mut changes = ViewChanges::first(View::first(&addresses, k).unwrap());
    let outcome = changes.apply(ViewCommand::Change {
        change,
        give_up: false,
        lose_data,
    });
    assert!(
        matches!(outcome, ViewOutcome::Started { .. }),
        "{outcome:?}"
    );
    changes
}

/// The leader hears all but these, and has led for an hour. No leaving member votes.
fn without<'a>(changes: &'a ViewChanges, away: &[(u16, u64)]) -> Situation<'a> {
    let away = away.iter().map(|(m, us)| (MemberId(*m), *us));
    Situation {
        changes,
        away: away.collect(),
        led_us: 3_600 * SECOND,
        voters: BTreeSet::new(),
        heard: BTreeSet::new(),
        only_holder: None,
        patience: Patience::default(),
    }
}

fn ready(changes: &mut ViewChanges, numbers: &[u16]) {
    let number = changes.running().unwrap().number;
    for member in members(numbers) {
        changes.apply(ViewCommand::Ready { member, number });
    }
}

fn enact(changes: &ViewChanges, passed_over: &[u16]) -> Vec<ViewCommand> {
    let number = changes.running().unwrap().number;
    let without = members(passed_over);
    vec![ViewCommand::Enact { number, without }]
}

fn give_up(member: u16) -> Vec<ViewCommand> {
    let member = MemberId(member);
    vec![ViewCommand::GiveUp { member }]
}

#[test]
fn nothing_is_due_where_nothing_changes() {
    let view = View::first(&[address(0), address(1)], 2).unwrap();
    let changes = ViewChanges::first(view);
    let now = without(&changes, &[(1, 100 * SECOND)]);
    assert!(now.due().is_empty() && now.doubted().is_empty());
}

#[test]
fn who_is_removed_and_there_goes_when_its_vote_is_given_back() {
    let changes = changing(3, 3, Change::Remove(MemberId(2)), false);
    let mut now = without(&changes, &[]);
    now.voters = members(&[0, 1, 2]);
    assert!(now.due().is_empty());
    now.voters = members(&[0, 1]);
    assert_eq!(now.due(), enact(&changes, &[]));
}

#[test]
fn who_is_removed_and_away_is_given_up_first() {
    let mut changes = changing(3, 3, Change::Remove(MemberId(2)), false);
    let away = |us| [(2, us)];
    let now = without(&changes, &away(2 * SECOND));
    assert!(now.due().is_empty() && now.doubted().is_empty());
    let mut now = without(&changes, &away(4 * SECOND));
    assert_eq!(now.doubted(), members(&[2]));
    assert_eq!(now.due(), give_up(2));
    now.heard = members(&[2]);
    assert_eq!(now.due(), enact(&changes, &[]), "another node hears it");
    now.heard.clear();
    now.led_us = SECOND;
    assert!(now.due().is_empty(), "the leader may have been cut off");
    changes.apply(give_up(2).remove(0));
    let mut now = without(&changes, &away(4 * SECOND));
    assert!(now.doubted().is_empty());
    assert_eq!(now.due(), enact(&changes, &[]));
    now.away.clear();
    assert_eq!(now.due(), enact(&changes, &[]), "it is back, and given up");
}

#[test]
fn the_only_holder_of_data_is_given_up_when_that_may_be_lost_and_not_before() {
    let dead = [(1, 4 * SECOND)];
    for may_be_lost in [false, true] {
        let changes = changing(2, 1, Change::Remove(MemberId(1)), may_be_lost);
        let mut now = without(&changes, &dead);
        let asked = (!may_be_lost).then_some(MemberId(1));
        assert_eq!(now.not_to_be_lost(), asked);
        assert_eq!(now.due(), give_up(1), "others have its data");
        now.only_holder = Some(MemberId(1));
        match may_be_lost {
            true => assert_eq!(now.due(), give_up(1)),
            false => assert!(now.due().is_empty(), "the change waits"),
        }
        now.heard = members(&[1]);
        assert_eq!(now.not_to_be_lost(), None, "it is not dead");
    }
}

#[test]
fn who_does_not_come_is_not_added() {
    let mut changes = changing(2, 2, Change::Add(address(2)), false);
    let number = changes.running().unwrap().number;
    assert!(without(&changes, &[(2, 5 * SECOND)]).due().is_empty());
    let gone = without(&changes, &[(2, 7 * SECOND)]);
    assert_eq!(gone.due(), [ViewCommand::Cancel { number }]);
    ready(&mut changes, &[2]);
    let gone = without(&changes, &[(2, 7 * SECOND)]);
    assert_eq!(
        gone.due(),
        enact(&changes, &[]),
        "it was there, and has all"
    );
}

#[test]
fn who_is_away_is_passed_over_where_another_has_all_that_its_partition_holds() {
    // Two partitions of two become one.
    let mut changes = changing(4, 2, Change::SetK(4), false);
    ready(&mut changes, &[0, 1]);
    let dead = [(3, 4 * SECOND)];
    assert!(without(&changes, &dead).due().is_empty(), "2 copies");
    let both = [(2, 4 * SECOND), (3, 4 * SECOND)];
    assert_eq!(without(&changes, &both).due(), enact(&changes, &[2, 3]));
    // All who are to have its slots are away.
    let changes = changing(2, 2, Change::SetK(1), false);
    let gaining = changes.gaining().into_keys();
    assert_eq!(gaining.count(), 0, "each has all that it is to hold");
    let changes = changing(2, 1, Change::Remove(MemberId(1)), true);
    let mut now = without(&changes, &[(0, 60 * SECOND)]);
    now.led_us = 60 * SECOND;
    assert!(now.due().is_empty(), "nobody would have the slots");
}

#[test]
fn who_leaves_and_is_away_is_given_up_later() {
    let mut changes = changing(3, 3, Change::Remove(MemberId(2)), false);
    let put_in_force = enact(&changes, &[]).remove(0);
    let outcome = changes.apply(put_in_force);
    assert!(
        matches!(outcome, ViewOutcome::InForce { .. }),
        "{outcome:?}"
    );
    assert!(without(&changes, &[(2, 4 * SECOND)]).due().is_empty());
    let mut now = without(&changes, &[(2, 6 * SECOND)]);
    assert_eq!(now.doubted(), members(&[2]));
    assert_eq!(now.due(), give_up(2));
    now.heard = members(&[2]);
    assert!(now.due().is_empty());
}

/// Some changes, with nobody, some or all ready.
fn states() -> Vec<ViewChanges> {
    let changes = [
        (3, 2, Change::Remove(MemberId(1))),
        (3, 1, Change::Remove(MemberId(2))),
        (2, 2, Change::Add(address(2))),
        (3, 1, Change::SetK(3)),
    ];
    let mut states = Vec::new();
    for (n, k, change) in changes {
        for readiness in [&[][..], &[0], &[0, 1, 2]] {
            let mut changes = changing(n, k, change, false);
            ready(&mut changes, readiness);
            let mut given_up = changes.clone();
            if given_up.apply(give_up(1).remove(0)) == ViewOutcome::Changed {
                states.push(given_up);
            }
            states.push(changes);
        }
    }
    states
}

#[test]
fn whatever_is_due_is_taken_by_the_raft_group_and_nobody_who_is_heard_is_given_up() {
    let times = [None, Some(SECOND), Some(4 * SECOND), Some(7 * SECOND)];
    for changes in states() {
        for case in 0..times.len().pow(2) * 2 * 2 {
            let (one, other) = (times[case % 4], times[case / 4 % 4]);
            let away = [(1, one), (2, other)];
            let away: Vec<(u16, u64)> = away
                .into_iter()
                .filter_map(|(m, t)| Some((m, t?)))
                .collect();
            let mut now = without(&changes, &away);
            if case / 16 % 2 == 1 {
                now.heard = members(&[1]);
            }
            if case / 32 == 1 {
                now.voters = members(&[0, 1, 2]);
            }
            for command in now.due() {
                if let ViewCommand::GiveUp { member } = command {
                    assert!(now.doubted().contains(&member), "{now:?}");
                    assert!(!now.heard.contains(&member), "{now:?}");
                }
                let outcome = changes.clone().apply(command.clone());
                let refused = matches!(outcome, ViewOutcome::Refused(_) | ViewOutcome::Unchanged);
                assert!(!refused, "{command:?}: {outcome:?}");
            }
        }
    }
}
