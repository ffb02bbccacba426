//! Bootstrap: how the first voters of a cluster form the Raft group, and how a node that has lost
//! its disk is kept from forming one.
//!
//! A node with an empty disk is new, or it has lost what it promised and confirmed; the node cannot
//! tell which. So it asks the other first voters. As soon as one of them has met a Raft group
//! this node follows that one, and gains its vote by the rules for a lost disk
//! (`rejoin/eligibility.rs`). A majority that has met none, this node included, can have decided
//! nothing before: only then it gains its vote at once.
//!
//! First all nodes that are there gain their votes, and only then the Raft group is formed: so a
//! node that crashes in its first seconds is not taken for one that came without its disk.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The nodes of a first start wait this long for one that does not answer, or that has no vote yet.
pub const MISSING_FOR: Duration = Duration::from_secs(1);

/// A node's knowledge of Raft groups of the past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupPast {
    /// The node cannot say: it has not read its disk yet.
    #[default]
    Unknown,
    /// No Raft group that has decided anything, and the node has no vote.
    None,
    /// No Raft group that has decided anything, and the node's vote is on its disk.
    Votes,
    /// A Raft group that has decided something, or may have.
    Met,
}

/// The next step of a first voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormingStep {
    /// Ask again: it is not clear that nothing was decided before.
    Wait,
    /// Ask again: nothing was decided before, and the others get a moment for the same step.
    Soon,
    /// Gain the vote.
    Vote,
    /// Form the Raft group.
    Form,
    /// There is a Raft group: others tell this node of it.
    Follow,
}

/// The next step of a first voter. `own` is what this node knows, `others` what the other first
/// voters have answered (`None`: no answer), `soon` how long the step has been
/// [`FormingStep::Soon`].
pub fn next_step(own: GroupPast, others: &[Option<GroupPast>], soon: Duration) -> FormingStep {
    let said = |past| others.iter().filter(|said| **said == Some(past)).count();
    // A Raft group has decided something: this node is no founder.
    if own == GroupPast::Met || said(GroupPast::Met) > 0 {
        return FormingStep::Follow;
    }
    let voters = others.len() + 1;
    let (new, voting) = (said(GroupPast::None), said(GroupPast::Votes));
    // A node that is still starting will soon answer what it has. And without answers from a
    // majority (this node included) something may have been decided before.
    if own == GroupPast::Unknown || said(GroupPast::Unknown) > 0 || new + voting < voters / 2 {
        return FormingStep::Wait;
    }
    let there = new + voting;
    match own {
        // All that are there have their votes, or those without one have taken too long.
        GroupPast::Votes if new == 0 || soon >= MISSING_FOR => FormingStep::Form,
        // All others have answered, or those that are missing have taken too long.
        GroupPast::None if there == others.len() || soon >= MISSING_FOR => FormingStep::Vote,
        // The others get a moment.
        _ => FormingStep::Soon,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: [Option<GroupPast>; 5] = [
        None,
        Some(GroupPast::Unknown),
        Some(GroupPast::None),
        Some(GroupPast::Votes),
        Some(GroupPast::Met),
    ];

    /// All that `others` nodes may say.
    fn all_answers(others: u32) -> impl Iterator<Item = Vec<Option<GroupPast>>> {
        (0..5_usize.pow(others)).map(move |mut n| {
            let mut answers = Vec::new();
            for _ in 0..others {
                answers.push(ANSWERS[n % 5]);
                n /= 5;
            }
            answers
        })
    }

    fn acts(step: FormingStep) -> bool {
        matches!(step, FormingStep::Vote | FormingStep::Form)
    }

    #[test]
    fn none_votes_unless_a_majority_has_met_no_raft_group_and_nobody_can_have() {
        for others in 0..=4 {
            for answers in all_answers(others) {
                let fresh = |said: &&Option<GroupPast>| {
                    matches!(said, Some(GroupPast::None | GroupPast::Votes))
                };
                let fresh = answers.iter().filter(fresh).count() + 1;
                let majority = 2 * fresh > answers.len() + 1;
                let doubt = answers.contains(&Some(GroupPast::Unknown));
                let met = answers.contains(&Some(GroupPast::Met));
                for own in [
                    GroupPast::Unknown,
                    GroupPast::None,
                    GroupPast::Votes,
                    GroupPast::Met,
                ] {
                    for soon in [Duration::ZERO, MISSING_FOR] {
                        let step = next_step(own, &answers, soon);
                        let what = format!("{own:?} {answers:?} {soon:?}: {step:?}");
                        assert_eq!(
                            step == FormingStep::Follow,
                            met || own == GroupPast::Met,
                            "{what}"
                        );
                        let clear = majority && !doubt && !met;
                        let may = clear && matches!(own, GroupPast::None | GroupPast::Votes);
                        assert_eq!(may, acts(step) || step == FormingStep::Soon, "{what}");
                        // The node gains its vote first.
                        assert!(
                            step != FormingStep::Form || own == GroupPast::Votes,
                            "{what}"
                        );
                        // Nobody is waited for without end.
                        assert!(!may || soon < MISSING_FOR || acts(step), "{what}");
                    }
                }
            }
        }
    }

    #[test]
    fn it_is_formed_at_once_when_all_are_there_and_have_their_votes() {
        let now = Duration::ZERO;
        for others in 0..=4 {
            let all = |past| vec![Some(past); others];
            assert_eq!(
                next_step(GroupPast::None, &all(GroupPast::None), now),
                FormingStep::Vote
            );
            assert_eq!(
                next_step(GroupPast::None, &all(GroupPast::Votes), now),
                FormingStep::Vote
            );
            assert_eq!(
                next_step(GroupPast::Votes, &all(GroupPast::Votes), now),
                FormingStep::Form
            );
            if others > 0 {
                assert_eq!(
                    next_step(GroupPast::Votes, &all(GroupPast::None), now),
                    FormingStep::Soon
                );
            }
        }
    }

    /// One of three never comes up.
    #[test]
    fn who_says_nothing_is_waited_for_once() {
        let others = [Some(GroupPast::None), None];
        assert_eq!(
            next_step(GroupPast::None, &others, Duration::ZERO),
            FormingStep::Soon
        );
        assert_eq!(
            next_step(GroupPast::None, &others, MISSING_FOR),
            FormingStep::Vote
        );
        let others = [Some(GroupPast::Votes), None];
        assert_eq!(
            next_step(GroupPast::Votes, &others, Duration::ZERO),
            FormingStep::Form
        );
        // Alone it is no majority, however long it waits.
        let nobody = [None, None];
        assert_eq!(
            next_step(GroupPast::None, &nobody, MISSING_FOR),
            FormingStep::Wait
        );
    }

    /// All nodes start, one of them without its disk, and the others have not read theirs yet.
    #[test]
    fn whoever_is_still_starting_is_waited_for() {
        let starting = [Some(GroupPast::Unknown), Some(GroupPast::Unknown)];
        assert_eq!(
            next_step(GroupPast::None, &starting, MISSING_FOR),
            FormingStep::Wait
        );
        let one = [Some(GroupPast::Unknown), Some(GroupPast::None)];
        assert_eq!(
            next_step(GroupPast::None, &one, MISSING_FOR),
            FormingStep::Wait
        );
        let met = [Some(GroupPast::Met), None];
        assert_eq!(
            next_step(GroupPast::None, &met, MISSING_FOR),
            FormingStep::Follow
        );
    }
}
