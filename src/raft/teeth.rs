//! Rules of the Raft group that a test can have broken, one at a time, to show that the simulator
//! would notice.
//!
//! As in the protocol: only a build with the feature `teeth` can break anything. In every other
//! build [`broken`] is a constant.

/// A rule, by what happens without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RaftRule {
    /// A node that came without its log votes at once.
    VoteWithoutLog,
    /// A node that came without its log follows any leader.
    FollowAnyLeader,
    /// A node that came without its log elects any candidate, whatever others have.
    ElectAnybody,
    /// A voter that goes by a candidate counts as one that elected it.
    CountRefusals,
    /// A vote is not stored.
    ForgetVote,
    /// A follower confirms entries that are not on its disk yet.
    ConfirmBeforeDurable,
    /// A leader counts its own copy before it is on its disk, and applies what it decides with it.
    CountBeforeDurable,
    /// A leader that crashed leads on in the same term.
    LeadOnAfterCrash,
    /// A node that its last entry takes out of the voters stands for no election, though that is
    /// not decided.
    LeaveUndecided,
    /// Reads are answered by a leader that does not ask whether it still is one.
    ReadUnconfirmed,
    /// Reads are answered by what this node has.
    ReadBehind,
    /// A proposal that comes twice is applied twice.
    ApplyTwice,
    /// A node that could not tell what becomes of a proposal says that it is not done.
    DenyUnsure,
}

impl RaftRule {
    /// Every rule.
    #[cfg(feature = "teeth")]
    pub const ALL: &[Self] = &[
        Self::VoteWithoutLog,
        Self::FollowAnyLeader,
        Self::ElectAnybody,
        Self::CountRefusals,
        Self::ForgetVote,
        Self::ConfirmBeforeDurable,
        Self::CountBeforeDurable,
        Self::LeadOnAfterCrash,
        Self::LeaveUndecided,
        Self::ReadUnconfirmed,
        Self::ReadBehind,
        Self::ApplyTwice,
        Self::DenyUnsure,
    ];
}

#[cfg(not(feature = "teeth"))]
#[inline(always)]
pub const fn broken(_: RaftRule) -> bool {
    false
}

#[cfg(feature = "teeth")]
pub use switch::{break_rule, broken};

#[cfg(feature = "teeth")]
mod switch {
    use super::RaftRule;
    use core::cell::Cell;

    thread_local! {
        static BROKEN: Cell<Option<RaftRule>> = const { Cell::new(None) };
    }

    /// Breaks a rule for everything that this thread runs from now on, and mends the one before.
    pub fn break_rule(rule: Option<RaftRule>) {
        BROKEN.set(rule);
    }

    /// Whether a test has broken the rule, for this thread.
    pub fn broken(rule: RaftRule) -> bool {
        BROKEN.get() == Some(rule)
    }
}
