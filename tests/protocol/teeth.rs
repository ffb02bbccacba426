//! Rules whose absence the simulator seldom meets: the test of each must fail without it.

#[path = "../sim/by_rule_tests.rs"]
mod by_rule_tests;

use crate::{
    bounds, clocks, dead, early, given_up, handover_disks, orphans, peers, recovery, turned_away,
    views, writes,
};
use by_rule_tests::BY_RULE_TESTS;
use causeway::protocol::teeth::{Rule, break_rule};
use std::collections::BTreeSet;
use std::panic::catch_unwind;

const TEETH: &[(Rule, fn())] = &[
    (
        Rule::PeerKeepsItsWord,
        recovery::a_version_that_came_ahead_of_its_log_outlives_its_writers_disk_everywhere,
    ),
    (
        Rule::HearTheFinished,
        peers::a_late_message_opens_no_log_again_that_is_finished,
    ),
    (
        Rule::BelieveLateGossip,
        peers::late_gossip_takes_back_nothing_that_later_gossip_has_told,
    ),
    (
        Rule::StableAcrossStarts,
        recovery::what_a_lost_disk_had_confirmed_is_not_counted_on,
    ),
    (
        Rule::TrustHearsay,
        recovery::a_start_after_a_lost_disk_is_not_forgotten_for_an_earlier_one_with_a_higher_number,
    ),
    (
        Rule::CompareWithEarlier,
        recovery::an_old_disk_is_not_compared_with_what_a_peer_said_before_it_knew_of_the_start,
    ),
    (
        Rule::CompareOwnAlone,
        handover_disks::an_old_disk_is_compared_in_the_logs_of_closing_cohorts_as_well,
    ),
    (
        Rule::SupplyUncompared,
        handover_disks::nobody_copies_a_closing_cohort_from_a_disk_that_may_be_old,
    ),
    (
        Rule::SnapshotKeepsRemoved,
        recovery::a_deleted_key_does_not_come_back_from_an_old_disk,
    ),
    (
        Rule::ServeUndurable,
        recovery::a_refilled_disk_serves_only_when_the_snapshot_is_durable,
    ),
    (
        Rule::TakeBackServed,
        handover_disks::a_disk_that_is_about_to_serve_says_so_whatever_comes_meanwhile,
    ),
    (
        Rule::WriteUncompared,
        recovery::no_write_is_taken_before_the_replica_has_compared_itself_with_a_peer,
    ),
    (
        Rule::ForgetEarly,
        recovery::a_version_that_came_ahead_of_its_log_outlives_its_writers_disk_everywhere,
    ),
    (
        Rule::CollectBeforePast,
        recovery::a_tombstone_stays_while_its_past_may_be_missing_somewhere,
    ),
    (
        Rule::TakeDeleted,
        orphans::an_orphaned_write_does_not_come_back_after_a_delete_that_is_forgotten,
    ),
    (
        Rule::DropOrphanedDelete,
        orphans::an_orphaned_delete_holds_against_values_that_come_after_it,
    ),
    (
        Rule::PassOrphans,
        orphans::no_delete_is_forgotten_while_somebody_may_lack_an_orphaned_write_that_it_beats,
    ),
    (
        Rule::ToldAhead,
        peers::who_knew_of_a_start_that_is_news_here_has_not_told_how_it_is,
    ),
    (
        Rule::FinishUntold,
        recovery::a_log_is_not_over_while_somebody_may_have_more_of_it,
    ),
    (
        Rule::ReadyUnfilled,
        views::who_lacks_what_it_is_to_hold_does_not_say_that_it_is_ready,
    ),
    (
        Rule::BelieveStranger,
        views::views_of_another_cluster_are_not_taken_over,
    ),
    (
        Rule::ServeOldView,
        given_up::who_was_given_up_and_comes_back_pushes_nothing,
    ),
    (
        Rule::GiveUpTooSoon,
        given_up::who_was_given_up_and_comes_back_before_the_view_is_in_force_serves_nothing_old,
    ),
    (
        Rule::BelieveGivenUp,
        given_up::who_was_given_up_stays_so_when_the_change_is_cancelled,
    ),
    (
        Rule::StableAheadOfViews,
        given_up::what_is_stable_without_who_was_given_up_counts_only_for_whoever_knows_of_it,
    ),
    (
        Rule::KeepForOne,
        early::what_is_handed_to_a_holder_is_kept_until_all_holders_have_what_replaces_it,
    ),
    (
        Rule::WaitForGathered,
        early::two_who_have_a_version_ahead_of_its_log_do_not_wait_for_each_other,
    ),
    (
        Rule::LogAgainUnfilled,
        early::what_is_over_is_not_logged_again_by_who_has_yet_to_fetch_its_cohort,
    ),
    (
        Rule::TellOfAllCohorts,
        turned_away::who_was_turned_away_is_not_told_what_is_stable_without_it,
    ),
    (
        Rule::KeepCopyForCancelled,
        turned_away::who_missed_that_it_was_turned_away_copies_again_what_it_is_to_hold,
    ),
    (
        Rule::FollowersDiskIsOld,
        turned_away::who_missed_that_it_was_turned_away_does_not_take_its_disk_for_old,
    ),
    (
        Rule::CopyAheadOfViews,
        views::no_snapshot_is_taken_that_names_logs_of_unknown_views,
    ),
    (
        Rule::InheritFromEarlier,
        views::who_held_a_slot_earlier_does_not_have_what_was_written_there_since,
    ),
    (
        Rule::ForgetFormerHolders,
        dead::what_a_dead_partition_took_over_is_still_with_those_who_held_it_before,
    ),
    (
        Rule::SettleApart,
        dead::what_is_left_of_a_dead_partition_is_the_same_everywhere,
    ),
    (
        Rule::ForgetHeldWrites,
        views::a_write_that_comes_while_the_replica_goes_over_is_held_and_done,
    ),
    (
        Rule::BeginBeforeEarlier,
        bounds::a_log_does_not_begin_before_the_earlier_ones_of_its_writer_are_there,
    ),
    (
        Rule::FollowWrongClock,
        clocks::a_wall_clock_that_is_far_ahead_takes_no_other_clock_along,
    ),
    (
        Rule::BreakPromise,
        writes::a_stamp_behind_the_promise_is_refused,
    ),
];

#[test]
fn the_rule_tests_notice_what_the_simulator_seldom_meets() {
    let tested: BTreeSet<Rule> = TEETH.iter().map(|(rule, _)| *rule).collect();
    let left: BTreeSet<Rule> = BY_RULE_TESTS.iter().copied().collect();
    assert_eq!(tested, left, "what the simulator leaves to these tests");
    for (rule, test) in TEETH {
        break_rule(Some(*rule));
        let broken = catch_unwind(test);
        break_rule(None);
        assert!(broken.is_err(), "{rule:?} is not noticed");
    }
}
