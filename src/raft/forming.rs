//! How the first voters of a cluster come to form the Raft group, and how none of them does who has
//! lost its disk.
//!
//! A node with an empty disk is new, or it has lost what it promised and confirmed; it cannot tell
//! which by itself. So it asks the other first voters. As soon as one of them has met a Raft group
//! this node follows that one, and gains its vote by the rules for a lost disk (`standing.rs`). A
//! majority that has met none, this node included, can have decided nothing before: only then it
//! gains its vote at once.
//!
//! First all who are there gain their votes, and only then the Raft group is formed: a node that
//! crashes in its first seconds is none that came without its disk.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// For this long the nodes of a first start wait for one that says nothing, or that has no vote
/// yet.
pub const MISSING_FOR: Duration = Duration::from_secs(1);

/// What a node knows of Raft groups of the past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Past {
    /// It cannot say: it has not read its disk yet.
    #[default]
    Unknown,
    /// No Raft group that has decided anything, and it has no vote.
    None,
    /// No Raft group that has decided anything, and its vote is on its disk.
    Votes,
    /// A Raft group that has decided something, or may have.
    Met,
}

/// What a first voter has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask again: it is not clear that nothing was decided before.
    Wait,
    /// Ask again: it is clear, and the others get a moment for the same step.
    Soon,
    /// Gain its vote.
    Vote,
    /// Form the Raft group.
    Form,
    /// There is a Raft group: others tell this node of it.
    Follow,
}

/// The next step of a first voter that stands at `own`, when the others said of themselves what is
/// in `others` (`None`: no answer), and the step was [`Step::Soon`] for the time `soon`.
pub fn next_step(own: Past, others: &[Option<Past>], soon: Duration) -> Step {
    let said = |past| others.iter().filter(|said| **said == Some(past)).count();
    if own == Past::Met || said(Past::Met) > 0 {
        return Step::Follow;
    }
    let voters = others.len() + 1;
    let (new, voting) = (said(Past::None), said(Past::Votes));
    // Whoever is still starting says soon what it has.
    if own == Past::Unknown || said(Past::Unknown) > 0 || new + voting < voters / 2 {
        return Step::Wait;
    }
    let there = new + voting;
    match own {
        Past::Votes if new == 0 || soon >= MISSING_FOR => Step::Form,
        Past::None if there == others.len() || soon >= MISSING_FOR => Step::Vote,
        _ => Step::Soon,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: [Option<Past>; 5] = [
        None,
        Some(Past::Unknown),
        Some(Past::None),
        Some(Past::Votes),
        Some(Past::Met),
    ];

    /// All that `others` nodes may say.
    fn all_answers(others: u32) -> impl Iterator<Item = Vec<Option<Past>>> {
        (0..5_usize.pow(others)).map(move |mut n| {
            let mut answers = Vec::new();
            for _ in 0..others {
                answers.push(ANSWERS[n % 5]);
                n /= 5;
            }
            answers
        })
    }

    fn acts(step: Step) -> bool {
        matches!(step, Step::Vote | Step::Form)
    }

    #[test]
    fn none_votes_unless_a_majority_has_met_no_raft_group_and_nobody_can_have() {
        for others in 0..=4 {
            for answers in all_answers(others) {
                let fresh = |said: &&Option<Past>| matches!(said, Some(Past::None | Past::Votes));
                let fresh = answers.iter().filter(fresh).count() + 1;
                let majority = 2 * fresh > answers.len() + 1;
                let doubt = answers.contains(&Some(Past::Unknown));
                let met = answers.contains(&Some(Past::Met));
                for own in [Past::Unknown, Past::None, Past::Votes, Past::Met] {
                    for soon in [Duration::ZERO, MISSING_FOR] {
                        let step = next_step(own, &answers, soon);
                        let what = format!("{own:?} {answers:?} {soon:?}: {step:?}");
                        assert_eq!(step == Step::Follow, met || own == Past::Met, "{what}");
                        let clear = majority && !doubt && !met;
                        let may = clear && matches!(own, Past::None | Past::Votes);
                        assert_eq!(may, acts(step) || step == Step::Soon, "{what}");
                        // It gains its vote first.
                        assert!(step != Step::Form || own == Past::Votes, "{what}");
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
            assert_eq!(next_step(Past::None, &all(Past::None), now), Step::Vote);
            assert_eq!(next_step(Past::None, &all(Past::Votes), now), Step::Vote);
            assert_eq!(next_step(Past::Votes, &all(Past::Votes), now), Step::Form);
            if others > 0 {
                assert_eq!(next_step(Past::Votes, &all(Past::None), now), Step::Soon);
            }
        }
    }

    /// One of three never comes up.
    #[test]
    fn who_says_nothing_is_waited_for_once() {
        let others = [Some(Past::None), None];
        assert_eq!(next_step(Past::None, &others, Duration::ZERO), Step::Soon);
        assert_eq!(next_step(Past::None, &others, MISSING_FOR), Step::Vote);
        let others = [Some(Past::Votes), None];
        assert_eq!(next_step(Past::Votes, &others, Duration::ZERO), Step::Form);
        // Alone it is no majority, however long it waits.
        let nobody = [None, None];
        assert_eq!(next_step(Past::None, &nobody, MISSING_FOR), Step::Wait);
    }

    /// All nodes start, one of them without its disk, and the others have not read theirs yet.
    #[test]
    fn whoever_is_still_starting_is_waited_for() {
        let starting = [Some(Past::Unknown), Some(Past::Unknown)];
        assert_eq!(next_step(Past::None, &starting, MISSING_FOR), Step::Wait);
        let one = [Some(Past::Unknown), Some(Past::None)];
        assert_eq!(next_step(Past::None, &one, MISSING_FOR), Step::Wait);
        let met = [Some(Past::Met), None];
        assert_eq!(next_step(Past::None, &met, MISSING_FOR), Step::Follow);
    }
}
