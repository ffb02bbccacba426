//! Rules whose absence the simulator seldom meets: the test of each must fail without it.

#[path = "../sim/by_rule_tests.rs"]
mod by_rule_tests;

use crate::{
    accept, ahead, dead, driver, given_up, gossip, handover, log_end, orphans, recovery, seals,
    snapshot, tombstones, turned_away, views, walls,
};
use by_rule_tests::BY_RULE_TESTS;
use causeway::protocol::teeth::{Rule, break_rule};
use std::collections::BTreeSet;
use std::panic::catch_unwind;

const TEETH: &[(Rule, fn())] = &[
    (
        Rule::PeerKeepsItsWord,
        ahead::an_early_version_outlives_its_writers_disk_everywhere,
    ),
    (
        Rule::ShowInFlight,
        accept::in_the_place_of_a_hidden_write_nothing_is_read_that_is_not_durable,
    ),
    (
        Rule::HearTheFinished,
        log_end::a_late_message_opens_no_log_again_that_is_finished,
    ),
    (
        Rule::BelieveLateGossip,
        gossip::late_gossip_takes_back_nothing_that_later_gossip_has_told,
    ),
    (
        Rule::StableAcrossStarts,
        recovery::acknowledgements_of_a_lost_disk_do_not_count,
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
        handover::an_old_disk_is_compared_in_the_logs_of_closing_cohorts_as_well,
    ),
    (
        Rule::SupplyUncompared,
        handover::no_closing_cohort_is_copied_from_a_disk_that_may_be_old,
    ),
    (
        Rule::SnapshotKeepsRemoved,
        tombstones::a_deleted_key_does_not_come_back_from_an_old_disk,
    ),
    (
        Rule::ServeUndurable,
        snapshot::a_refilled_disk_serves_only_when_the_snapshot_is_durable,
    ),
    (
        Rule::ForgetPutAside,
        recovery::replicas_whose_data_is_put_aside_do_not_agree_that_all_is_lost,
    ),
    (
        Rule::TakeBackServed,
        handover::a_disk_that_is_about_to_serve_says_so_whatever_comes_meanwhile,
    ),
    (
        Rule::WriteUncompared,
        recovery::no_write_is_taken_before_the_replica_has_compared_itself_with_a_peer,
    ),
    (
        Rule::ForgetEarly,
        ahead::an_early_version_outlives_its_writers_disk_everywhere,
    ),
    (
        Rule::CollectBeforePast,
        tombstones::a_tombstone_stays_while_its_past_may_be_missing_somewhere,
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
        gossip::a_peer_that_knew_of_a_start_that_is_news_here_has_not_told_how_it_is,
    ),
    (
        Rule::FinishUntold,
        log_end::a_log_is_not_over_while_somebody_may_have_more_of_it,
    ),
    (
        Rule::ReadyUnfilled,
        handover::a_member_that_lacks_what_it_is_to_hold_does_not_say_that_it_is_ready,
    ),
    (
        Rule::BelieveStranger,
        views::views_of_another_cluster_are_not_taken_over,
    ),
    (
        Rule::ServeOldView,
        given_up::a_given_up_member_that_comes_back_pushes_nothing,
    ),
    (
        Rule::GiveUpTooSoon,
        given_up::a_given_up_member_back_before_the_view_is_in_force_serves_nothing_old,
    ),
    (
        Rule::BelieveGivenUp,
        given_up::a_given_up_member_stays_so_when_the_change_is_cancelled,
    ),
    (
        Rule::StableAheadOfViews,
        given_up::stability_without_a_given_up_member_counts_only_where_that_is_known,
    ),
    (
        Rule::KeepForOne,
        ahead::an_early_version_handed_to_a_holder_is_kept_until_all_holders_have_what_replaces_it,
    ),
    (
        Rule::WaitForGathered,
        ahead::two_replicas_with_an_early_version_do_not_wait_for_each_other,
    ),
    (
        Rule::LogAgainUnfilled,
        ahead::an_early_version_of_a_log_that_is_over_is_not_logged_again_before_its_cohort_is_fetched,
    ),
    (
        Rule::TellOfAllCohorts,
        turned_away::a_member_turned_away_is_not_told_what_is_stable_without_it,
    ),
    (
        Rule::KeepCopyForCancelled,
        turned_away::a_member_that_missed_that_it_was_turned_away_copies_again_what_it_is_to_hold,
    ),
    (
        Rule::FollowersDiskIsOld,
        turned_away::a_member_that_missed_that_it_was_turned_away_does_not_take_its_disk_for_old,
    ),
    (
        Rule::CopyAheadOfViews,
        snapshot::no_snapshot_is_taken_that_names_logs_of_unknown_views,
    ),
    (
        Rule::InheritFromEarlier,
        handover::a_former_holder_does_not_have_what_was_written_in_the_slot_since,
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
        driver::a_write_that_comes_while_the_replica_goes_over_is_held_and_done,
    ),
    (
        Rule::BeginBeforeEarlier,
        seals::a_log_does_not_begin_before_the_earlier_ones_of_its_writer_are_there,
    ),
    (
        Rule::FollowWrongClock,
        walls::a_wall_clock_that_is_far_ahead_takes_no_other_clock_along,
    ),
    (
        Rule::PutsTakeLastRoom,
        accept::a_scarce_disk_takes_deletes_and_what_others_send,
    ),
    (
        Rule::BreakPromise,
        accept::a_stamp_behind_the_promise_is_refused,
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
