//! The rules that the simulator leaves to `tests/protocol`, where each has a test that fails without it. Both read this list.

use causeway::protocol::teeth::Rule;

/// What takes more luck than some hundreds of seeds have; `tests/protocol` notices these.
pub const BY_RULE_TESTS: &[Rule] = &[
    Rule::BeginBeforeEarlier,
    Rule::FollowWrongClock,
    Rule::BelieveStranger,
    Rule::PeerKeepsItsWord,
    Rule::HearTheFinished,
    Rule::BelieveLateGossip,
    Rule::StableAcrossStarts,
    Rule::TrustHearsay,
    Rule::SnapshotKeepsRemoved,
    Rule::ServeUndurable,
    Rule::WriteUncompared,
    Rule::ForgetEarly,
    Rule::CollectBeforePast,
    Rule::BreakPromise,
    Rule::FinishUntold,
    Rule::ReadyUnfilled,
    Rule::TakeDeleted,
    Rule::DropOrphanedDelete,
    Rule::PassOrphans,
    Rule::ServeOldView,
    Rule::GiveUpTooSoon,
    Rule::BelieveGivenUp,
    Rule::StableAheadOfViews,
    Rule::TellOfAllCohorts,
    Rule::WaitForGathered,
    Rule::CopyAheadOfViews,
    Rule::FollowersDiskIsOld,
    Rule::KeepCopyForCancelled,
    Rule::LogAgainUnfilled,
    Rule::InheritFromEarlier,
    Rule::SettleApart,
    Rule::ForgetHeldWrites,
];
