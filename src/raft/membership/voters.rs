//! Which members vote: the next step from the present membership to the wanted one.

use std::collections::BTreeSet;

use crate::protocol::ids::MemberId;

/// Votes at most: with five, any two nodes may be lost.
const MAX_VOTERS: usize = 5;

/// How many of `members` nodes have a vote: an odd number, for one more would survive no more
/// losses. Two is the exception: when both vote, every decision is on both disks, so that either
/// node may be removed or lost without losing a decision. The price: while one of them is down
/// nothing is decided.
pub fn voters_of(members: usize) -> usize {
    match members.min(MAX_VOTERS) {
        small @ 0..=2 => small,
        more => more - (more + 1) % 2,
    }
}

/// The nodes that have a vote when a Raft group is formed: those with the lowest numbers, so that
/// every node finds the same ones.
pub fn first_voters(members: &BTreeSet<MemberId>) -> BTreeSet<MemberId> {
    let count = voters_of(members.len());
    members.iter().copied().take(count).collect()
}

/// The voters that have to be back before a node can be removed from `members`: without that node
/// and without those that are not `alive` there would be no majority. `None` when enough of the
/// others are alive.
pub fn missing_without(
    members: &BTreeSet<MemberId>,
    voters: &BTreeSet<MemberId>,
    removed: MemberId,
    alive: impl Fn(MemberId) -> bool,
) -> BTreeSet<MemberId> {
    let left = members.iter().copied().filter(|m| *m != removed);
    let (here, away): (BTreeSet<_>, BTreeSet<_>) = left.partition(|m| alive(*m));
    let votes = voters_of(here.len() + away.len());
    let dead = &away & voters;
    // Nodes that are alive get votes first. A dead voter keeps its vote if no node can replace it.
    let here = here.len().min(votes);
    match here > dead.len().min(votes - here) {
        true => BTreeSet::new(),
        false => dead,
    }
}

/// The group as the leader sees it.
pub struct Picture {
    pub me: MemberId,
    /// The nodes that the state machine names as members.
    pub members: BTreeSet<MemberId>,
    /// The members that may have a vote.
    pub electable: BTreeSet<MemberId>,
    pub voters: BTreeSet<MemberId>,
    /// The nodes that follow the log without a vote.
    pub learners: BTreeSet<MemberId>,
    /// Joint consensus: a change of the voters is half done, and needs majorities of both sets.
    pub joint: bool,
    /// The nodes heard of within the time after which a voter is dead.
    pub alive: BTreeSet<MemberId>,
    /// The nodes whose log is as good as the leader's.
    pub level: BTreeSet<MemberId>,
}

/// One change of the membership. They are made one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipStep {
    /// The log is sent to this node from now on.
    Learn(MemberId),
    /// These vote from now on; those that did and are not among them go on as learners.
    Vote(BTreeSet<MemberId>),
    /// Nothing is sent to these any more.
    Forget(BTreeSet<MemberId>),
}

/// The next change, if there is anything to do.
pub fn next_step(now: &Picture) -> Option<MembershipStep> {
    // The state names no members yet: only a half-done change is finished.
    if now.members.is_empty() {
        return now.joint.then(|| MembershipStep::Vote(now.voters.clone()));
    }
    let known = &now.voters | &now.learners;
    // First a member that is not in the group becomes a learner.
    let missing = now.members.difference(&known).next();
    if let Some(member) = missing.filter(|_| !now.joint) {
        return Some(MembershipStep::Learn(*member));
    }
    // Then the votes change, or a half-done change of them is finished.
    let voters = next_voters(now);
    if !voters.is_empty() && (now.joint || voters != now.voters) {
        return Some(MembershipStep::Vote(voters));
    }
    if !now.voters.contains(&now.me) {
        // The leader itself has no vote any more. Its successor removes it: removed now, it would
        // never learn which node that is.
        return None;
    }
    // Last, learners that are no members any more are dropped.
    let gone = &now.learners - &now.members;
    (!gone.is_empty()).then_some(MembershipStep::Forget(gone))
}

/// Voters that are alive keep their votes. Then come learners that are alive and level. A dead
/// voter keeps its vote only where no learner can replace it.
fn next_voters(now: &Picture) -> BTreeSet<MemberId> {
    let stay = &now.voters & &now.electable;
    let fit = &(&now.learners & &now.electable) & &(&now.alive & &now.level);
    let here = stay.iter().filter(|member| **member == now.me);
    let others = stay
        .iter()
        .filter(|m| now.alive.contains(m) && **m != now.me);
    let dead = stay
        .iter()
        .filter(|m| !now.alive.contains(m) && **m != now.me);
    let order = here.chain(others).chain(&fit).chain(dead).copied();
    let mut chosen: Vec<MemberId> = order.take(voters_of(now.electable.len())).collect();
    // Four votes survive no more losses than three, so three vote until a fifth can.
    if chosen.len() == 4 && chosen.last().is_some_and(|last| fit.contains(last)) {
        chosen.pop();
    }
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_are_odd_but_for_two() {
        let votes: Vec<usize> = (0..8).map(voters_of).collect();
        assert_eq!(votes, [0, 1, 2, 3, 3, 5, 5, 5]);
    }

    fn set(numbers: &[u16]) -> BTreeSet<MemberId> {
        numbers.iter().copied().map(MemberId).collect()
    }

    #[test]
    fn nobody_is_removed_without_whom_nothing_could_be_decided() {
        let voting = |members: &[u16], voters: &[u16], removed, dead: &[u16]| {
            let (members, voters, dead) = (set(members), set(voters), set(dead));
            missing_without(&members, &voters, MemberId(removed), |m| !dead.contains(&m))
        };
        let missing =
            |members: &[u16], removed, dead: &[u16]| voting(members, members, removed, dead);
        // The dead one first, or both votes would be needed and one never come.
        assert_eq!(missing(&[1, 2, 3], 1, &[3]), set(&[3]));
        assert_eq!(missing(&[1, 2, 3], 3, &[3]), set(&[]));
        assert_eq!(missing(&[1, 2, 3], 1, &[]), set(&[]));
        assert_eq!(missing(&[1, 2], 1, &[]), set(&[]));
        assert_eq!(missing(&[1, 2, 3, 4], 1, &[4]), set(&[]), "two of three");
        assert_eq!(missing(&[1, 2, 3, 4, 5, 6], 1, &[5, 6]), set(&[]));
        assert_eq!(missing(&[1, 2, 3, 4, 5], 1, &[4, 5]), set(&[]));
        assert_eq!(missing(&[1, 2, 3, 4], 1, &[3, 4]), set(&[3, 4]));
        // A dead node without a vote gets none.
        assert_eq!(voting(&[1, 2, 3], &[1], 2, &[2, 3]), set(&[]));
    }

    /// Node 1 leads, everybody is alive and level.
    fn picture(members: &[u16], voters: &[u16], learners: &[u16]) -> Picture {
        Picture {
            me: MemberId(1),
            members: set(members),
            electable: set(members),
            voters: set(voters),
            learners: set(learners),
            joint: false,
            alive: set(&[1, 2, 3, 4, 5, 6, 7]),
            level: set(&[1, 2, 3, 4, 5, 6, 7]),
        }
    }

    fn vote(numbers: &[u16]) -> Option<MembershipStep> {
        Some(MembershipStep::Vote(set(numbers)))
    }

    #[test]
    fn what_is_as_it_ought_to_be_is_left_alone() {
        assert_eq!(next_step(&picture(&[], &[1, 2, 3], &[])), None);
        assert_eq!(next_step(&picture(&[1, 2, 3, 4], &[1, 3, 4], &[2])), None);
        assert_eq!(next_step(&picture(&[1], &[1], &[])), None);
    }

    #[test]
    fn who_is_missing_learns_before_it_votes() {
        let mut now = picture(&[1, 2, 3], &[1], &[]);
        assert_eq!(next_step(&now), Some(MembershipStep::Learn(MemberId(2))));
        now.learners = set(&[2, 3]);
        now.level = set(&[1]);
        assert_eq!(next_step(&now), None);
        now.level = set(&[1, 2, 3]);
        assert_eq!(next_step(&now), vote(&[1, 2, 3]));
    }

    #[test]
    fn a_dead_voter_is_replaced_if_somebody_can_take_its_place() {
        let mut now = picture(&[1, 2, 3, 4], &[1, 2, 3], &[4]);
        now.alive = set(&[1, 3, 4]);
        assert_eq!(next_step(&now), vote(&[1, 3, 4]));
        now.level = set(&[1, 3]);
        assert_eq!(next_step(&now), None);
    }

    #[test]
    fn who_is_removed_loses_its_vote_first() {
        assert_eq!(next_step(&picture(&[1, 2], &[1, 2, 3], &[])), vote(&[1, 2]));
        let gone = Some(MembershipStep::Forget(set(&[3])));
        assert_eq!(next_step(&picture(&[1, 2], &[1, 2], &[3])), gone);
        // The leader too, but its successor does the rest.
        assert_eq!(next_step(&picture(&[2, 3], &[2, 3], &[1])), None);
        assert_eq!(
            next_step(&picture(&[2, 3, 4], &[1, 2, 3], &[4])),
            vote(&[2, 3, 4])
        );
    }

    #[test]
    fn who_is_about_to_go_gives_its_vote_back_and_goes_on_following() {
        let mut now = picture(&[1, 2], &[1, 2], &[]);
        now.electable = set(&[2]);
        assert_eq!(next_step(&now), vote(&[2]));
        now.electable = set(&[1]);
        assert_eq!(next_step(&now), vote(&[1]));
        let mut now = picture(&[1, 2], &[1], &[2]);
        now.electable = set(&[1]);
        assert_eq!(next_step(&now), None);
        // Nobody else can vote yet.
        now.electable = set(&[2]);
        now.level = set(&[1]);
        assert_eq!(next_step(&now), None);
        let mut now = picture(&[1, 2, 3, 4], &[1, 2, 3], &[4]);
        now.electable = set(&[1, 2, 4]);
        assert_eq!(next_step(&now), vote(&[1, 2, 4]));
    }

    #[test]
    fn five_vote_or_three() {
        let mut now = picture(&[1, 2, 3, 4, 5], &[1, 2, 3], &[4, 5]);
        now.level = set(&[1, 2, 3, 4]);
        assert_eq!(next_step(&now), None);
        now.level = set(&[1, 2, 3, 4, 5]);
        assert_eq!(next_step(&now), vote(&[1, 2, 3, 4, 5]));
        let four = picture(&[1, 2, 3, 4], &[1, 2, 3, 4, 5], &[]);
        assert_eq!(next_step(&four), vote(&[1, 2, 3]));
    }

    #[test]
    fn a_half_done_change_is_finished_first() {
        let mut now = picture(&[1, 2, 3, 4], &[1, 2, 3], &[]);
        now.joint = true;
        assert_eq!(next_step(&now), vote(&[1, 2, 3]));
    }
}
