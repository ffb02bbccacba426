//! The bad patterns one by one, each beside a history that is almost the same and consistent.

use crate::script::{check, consistent, violated};
use causeway::check::Guarantee::MonotonicReads;
use causeway::check::Pattern::{CyclicCf, CyclicCo, ThinAirRead, WriteCoInitRead, WriteCoRead};

#[test]
fn an_empty_history_is_consistent() {
    assert_eq!(consistent("").operations, 0);
}

#[test]
fn a_value_that_nobody_put() {
    let text = violated("a put x 1\nb get x 2", ThinAirRead, None, &[2]);
    assert!(text.contains("nobody put that value"), "{text}");
    violated("a put y 1\nb get x 1", ThinAirRead, None, &[2]);
    violated("a put x \"1\"\nb get x 1", ThinAirRead, None, &[2]);
    consistent("a put x 1\nb get x 1");
}

#[test]
fn a_value_whose_put_failed() {
    let text = violated("a put x 1 !\nb get x 1", ThinAirRead, None, &[2, 1]);
    assert!(text.contains("failed"), "{text}");
    // One that failed and was tried again with success is no second put.
    consistent("a put x 1 !\na put x 1\nb get x 1");
    consistent("a put x 1\na put x 1 !\nb get x 1");
    consistent("a put x 1 !\na put x 1 !\nb get x -");
}

#[test]
fn a_value_from_the_future() {
    let text = violated("b get x 1\na put x 1", ThinAirRead, None, &[1, 2]);
    assert!(text.contains("after the read had ended"), "{text}");
    consistent("b get x 1 @10-20\na put x 1 @20-30");
}

#[test]
fn an_operation_in_its_own_past() {
    // Without a clock only the lines' order within a session is known.
    violated(
        "a get x 1 @0-0
         a put y 1 @0-0
         b get y 1 @0-0
         b put x 1 @0-0",
        CyclicCo,
        None,
        &[1, 2, 3, 4],
    );
    consistent(
        "a put y 1 @0-0
         a get x 1 @0-0
         b put x 1 @0-0
         b get y 1 @0-0",
    );
}

#[test]
fn the_shortest_circle_is_shown() {
    violated(
        "a get x 1 @0-0
         a put y 1 @0-0
         b get y 1 @0-0
         b put z 1 @0-0
         c get z 1 @0-0
         c put x 1 @0-0
         a get w 1 @0-0
         a put w 1 @0-0",
        CyclicCo,
        None,
        &[7, 8],
    );
}

#[test]
fn nothing_found_although_a_write_came_before() {
    violated(
        "a put x 1
         a put y 1
         b get y 1
         b put z 1
         c get z 1
         c get x -",
        WriteCoInitRead,
        None,
        &[6, 1],
    );
    consistent(
        "a put y 1
         a put x 1
         b get y 1
         b put z 1
         c get z 1
         c get x -",
    );
}

#[test]
fn an_overwritten_value_through_three_sessions() {
    let text = violated(
        "a put x 1
         b get x 1
         b put x 2
         b put y 1
         c get y 1
         c put z 1
         d get z 1
         d get x 1",
        WriteCoRead,
        None,
        &[8, 1, 3],
    );
    for line in 1..=8 {
        assert!(text.contains(&format!("line {line}: session")), "{text}");
    }
}

#[test]
fn concurrent_writes_may_win_either_way_but_only_one() {
    let both = "a put x 1 @0-9
                b put x 2 @0-9
                c get x 1 @10-11
                c get x 2 @12-13";
    consistent(both);
    let text = violated(
        &format!("{both}\nd get x 2 @10-11\nd get x 1 @12-13"),
        CyclicCf,
        None,
        &[1, 2, 6, 4],
    );
    assert!(text.starts_with("violated: convergence"), "{text}");
    consistent(&format!("{both}\nd get x 1 @10-11\nd get x 2 @12-13"));
    consistent(&format!("{both}\nd get x 1 @10-11\ne get x 2 @12-13"));
}

#[test]
fn back_and_forth_between_concurrent_writes() {
    violated(
        "a put x 1 @0-9
         b put x 2 @0-9
         c get x 1 @10-11
         c get x 2 @12-13
         c get x 1 @14-15",
        CyclicCf,
        Some(MonotonicReads),
        &[1, 2, 5, 4],
    );
}

#[test]
fn writers_that_each_hold_on_to_their_own() {
    // Both see the other's and their own write, and each takes another for the last.
    violated(
        "a put x 1 @0-1
         b put x 2 @0-1
         a get x 2 @2-3
         b get x 1 @2-3",
        CyclicCf,
        None,
        &[1, 2, 4, 3],
    );
    consistent(
        "a put x 1 @0-1
         b put x 2 @0-1
         a get x 1 @2-3
         b get x 1 @2-3",
    );
}

#[test]
fn orders_of_two_keys_that_do_not_fit_together() {
    let common = "a put x 1 @0-1
                  b put y 1 @0-1
                  a put y 2 @2-3
                  b put x 2 @2-3
                  c get x 2 @10-11
                  c get x 1 @12-13";
    // x: 2 before 1. So y: 1 before 2 by causality, 2 before 1 by what the last session saw.
    consistent(common);
    violated(
        &format!("{common}\nd get y 2 @10-11\nd get y 1 @12-13"),
        CyclicCf,
        None,
        &[1, 2, 3, 4, 6, 8],
    );
}

#[test]
fn what_may_not_have_happened_binds_nobody() {
    // The session never heard of its write.
    consistent("a put x 1\na put x 2 ?\na get x 1");
    consistent("a put x 2 ?\na get x -");
    // A read without an answer says nothing, nor does a failed one.
    consistent("a put x 1\na put x 2\na get x 1 ?\na get x 1 !");
    // The writer's session does not know of its write because others have read it.
    consistent("a put x 1\na put x 2 ?\nb get x 2\na get x 1");
    // A session that has read the write knows of it.
    violated(
        "a put x 1\na put x 2 ?\na get x 2\na get x 1",
        WriteCoRead,
        Some(MonotonicReads),
        &[4, 1, 2],
    );
    // A write without an answer depends on what its session wrote before.
    check("a put x 1\na put y 1 ?\nb get y 1\nb get x -").unwrap_err();
    consistent("a put y 1 ?\na put x 1\nb get y 1\nb get x -");
}

#[test]
fn two_unknown_writes_of_one_session_are_not_ordered() {
    let both = "a put x 1 ? @0-1
                a put x 2 ? @2-3
                b get x 2 @4-5
                b get x 1 @6-7";
    consistent(both);
    check(&format!("{both}\nc get x 1 @4-5\nc get x 2 @6-7")).unwrap_err();
}

#[test]
fn the_same_history_has_the_same_explanation() {
    let script = "a put x 1 @0-9
                  b put x 2 @0-9
                  c get x 1 @10-11
                  c get x 2 @12-13
                  d get x 2 @10-11
                  d get x 1 @12-13
                  e get x 2 @10-11
                  e get x 1 @12-13";
    let first = check(script).unwrap_err();
    for _ in 0..5 {
        assert_eq!(check(script).unwrap_err(), first);
    }
}

#[test]
fn a_session_may_be_long() {
    let reads = "b get y 1\n".repeat(40_000);
    let good = format!("a put x 1\na put x 2\nb put y 1\n{reads}b get x 2\n{reads}b get x ");
    consistent(&format!("{good}2"));
    let last = 80_005;
    let old = format!("{good}1");
    violated(&old, WriteCoRead, Some(MonotonicReads), &[last, 1, 2]);
}
