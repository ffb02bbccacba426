//! Rules that a test can have broken, one at a time, to show that the simulator would notice.
//!
//! Only a build with the feature `teeth` can break anything, and only tests have that feature. In
//! every other build [`broken`] is a constant.

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident,)*) => {
        /// A rule of the protocol, by what happens without it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$rule,)*];
        }
    };
}

rules! {
    /// A receiver takes what does not follow on what it has.
    AcceptGap,
    /// A log begins at a replica before the earlier ones of its writer are there.
    BeginBeforeEarlier,
    /// A part of a log counts as applied without its versions.
    RangeWithoutVersions,
    /// Contexts and dependencies lose what is applied here, though not everywhere.
    PruneEarly,
    /// Reads are answered whatever the client has seen.
    ReadUnchecked,
    /// "Not found" is answered whatever the client has seen.
    AbsentUnchecked,
    /// Replies name the write that was read, not what it depended on.
    DropDependencies,
    /// The clock of a context does not move the stamp of a write.
    StampBelowContext,
    /// The wall clock of the replica decides between two versions.
    OrderByWallClock,
    /// A write is shown and acknowledged when one replica has it.
    ShowOneCopy,
    /// A write is shown and acknowledged when a peer has it on its disk, though its writer has not.
    ShowUndurable,
    /// In the place of a hidden write another replica's is read that is not on the disk yet.
    ShowInFlight,
    /// A write that is not exposed is read.
    ShowHidden,
    /// A replica confirms writes that are not on its disk yet.
    ConfirmBeforeDurable,
    /// Writes that all live replicas have count as stable.
    StableWithoutTheDead,
    /// Stability counts what was said before a replica's new start was known.
    StableAcrossStarts,
    /// A replica believes what others say of a third member's start.
    TrustHearsay,
    /// A peer's marks from before its restart still count.
    PeerKeepsItsWord,
    /// A late message of an incarnation whose log is finished opens that log again.
    HearTheFinished,
    /// Gossip that a later one has overtaken takes back what the later one said.
    BelieveLateGossip,
    /// Every start uses the same log.
    ReuseLog,
    /// A replica with an empty disk serves.
    ServeEmpty,
    /// A disk is used without a look at what the peers count on.
    TrustOldDisk,
    /// A start compares itself with what a peer said before it knew of the start.
    CompareWithEarlier,
    /// A start compares itself with a peer in the logs of its own cohort alone.
    CompareOwnAlone,
    /// An old disk's data of other cohorts is given out before it is compared.
    SupplyUncompared,
    /// Writes are taken before the replica has compared itself with a peer.
    WriteUncompared,
    /// Data fetched of another cohort takes back that the disk is about to say that it has served.
    TakeBackServed,
    /// A replica whose damaged data is put aside counts as one that has lost all of it.
    ForgetPutAside,
    /// A replica serves, and says so, before its disk knows and has what a snapshot brought.
    ServeUndurable,
    /// Keys stay that the sender of a snapshot has no more.
    SnapshotKeepsRemoved,
    /// A version that came ahead of its log, and whose log then ended, is not passed on.
    ForgetEarly,
    /// A version that came ahead of its log is let go of when one holder has it.
    KeepForOne,
    /// A version that came ahead of its log keeps others from going on with that log, though they
    /// have it.
    WaitForGathered,
    /// A version that came ahead of its log is logged again by a replica that does not know yet
    /// which logs are over.
    LogAgainUnfilled,
    /// A log ends though a replica has not said how far it is.
    FinishUntold,
    /// A peer has told how it is though it knew of a start that was news here.
    ToldAhead,
    /// Which logs are finished is forgotten.
    ForgetFinished,
    /// Timestamps follow a wall clock that is far ahead of most others'.
    FollowWrongClock,
    /// Tombstones go after some seconds.
    CollectByTime,
    /// A tombstone goes before its past is stable.
    CollectBeforePast,
    /// Promises about timestamps are not kept.
    BreakPromise,
    /// Reads are answered by a replica that knows an older view than the client has seen.
    ServeOldView,
    /// A member is given up, and what is served in the view in force does not tell of that.
    GiveUpTooSoon,
    /// A change that is cancelled brings back the member that was given up.
    BelieveGivenUp,
    /// Stability without a given-up member counts for replicas that have not heard that it is given
    /// up.
    StableAheadOfViews,
    /// Members are told how logs are that they do not share any more.
    TellOfAllCohorts,
    /// A slot counts as here when what an earlier cohort wrote there is, whatever a later one
    /// wrote.
    InheritFromEarlier,
    /// Several replicas take what is left of a cohort from their own disks, each for itself.
    SettleApart,
    /// A snapshot is taken that names logs of views which are not known here.
    CopyAheadOfViews,
    /// A follower that lacks something takes its whole disk for an old one.
    FollowersDiskIsOld,
    /// Former holders drop slots although all holders since are given up.
    ForgetFormerHolders,
    /// Data copied for a cancelled view counts for another one.
    KeepCopyForCancelled,
    /// A view comes into force though nobody has what a partition of it is to hold.
    EnactWithoutAll,
    /// A replica says that it has what the next view asks of it when it has not.
    ReadyUnfilled,
    /// An orphaned write is taken though a delete of its key may have been forgotten.
    TakeDeleted,
    /// An orphaned delete is not taken where its key has no value.
    DropOrphanedDelete,
    /// Tombstones go though an orphaned write that they beat is not everywhere.
    PassOrphans,
    /// Values take the room that is kept for deletes.
    PutsTakeLastRoom,
    /// Writes that were held while the replica went over to newer views are forgotten.
    ForgetHeldWrites,
    /// Payloads of another cluster are taken.
    TakeForeign,
    /// Views are taken over from another cluster.
    BelieveStranger,
    /// Reads wait without end.
    WaitForever,
    /// What one round of reads finds is a snapshot.
    OneRoundSnapshot,
}

/// Whether a test has broken the rule: never, in a build without `teeth`.
#[cfg(not(feature = "teeth"))]
#[inline(always)]
#[must_use]
pub const fn broken(_: Rule) -> bool {
    false
}

/// Whether any rule is broken.
#[cfg(not(feature = "teeth"))]
#[inline(always)]
#[must_use]
pub const fn is_any_broken() -> bool {
    false
}

#[cfg(feature = "teeth")]
pub use switch::{break_rule, broken, is_any_broken};

#[cfg(feature = "teeth")]
mod switch {
    use super::Rule;
    use core::cell::Cell;

    thread_local! {
        static BROKEN: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    /// Breaks a rule for everything that this thread runs from now on, and mends the one before.
    pub fn break_rule(rule: Option<Rule>) {
        BROKEN.set(rule);
    }

    #[must_use]
    /// Whether a test has broken the rule, for this thread.
    pub fn broken(rule: Rule) -> bool {
        BROKEN.get() == Some(rule)
    }

    /// Whether any rule is broken.
    #[must_use]
    pub fn is_any_broken() -> bool {
        BROKEN.get().is_some()
    }
}
