//! Reads that found nothing: the beginning, or some delete, whichever.

use crate::script::{check, consistent, violated};
use causeway::check::Guarantee::{MonotonicReads, MonotonicWrites, ReadYourWrites};
use causeway::check::Pattern::{CyclicCf, WriteCoInitRead, WriteCoRead};

#[test]
fn a_delete_explains_it() {
    consistent("a put x 1\na del x\na get x -");
    consistent("a put x 1\na del x\nb get x 1\nb get x -");
    consistent("a put x 1\nb del x\na get x -");
    consistent("a put x 1\nb del x ?\na get x -");
    // The delete may have been done later than it was asked for.
    consistent("b del x ?\na put x 1\na get x 1\na get x -");
}

#[test]
fn no_delete_explains_it() {
    let own = Some(ReadYourWrites);
    let text = violated(
        "a put x 1\nb del x !\na get x -",
        WriteCoInitRead,
        own,
        &[3, 1],
    );
    assert!(text.contains("1 failed"), "{text}");
    let text = violated(
        "a put x 1\na get x -\na del x",
        WriteCoInitRead,
        own,
        &[2, 1],
    );
    assert!(text.contains("1 started after"), "{text}");
    let text = violated(
        "a del x\na put x 1\na get x -",
        WriteCoInitRead,
        own,
        &[3, 2],
    );
    assert!(text.contains("1 came before"), "{text}");
    violated(
        "a put x 1\nb del y\na get x -",
        WriteCoInitRead,
        own,
        &[3, 1],
    );
}

#[test]
fn a_delete_that_was_written_over() {
    violated(
        "a del x\nb get x -\na put x 1\na put y 1\nb get y 1\nb get x -",
        WriteCoInitRead,
        Some(MonotonicWrites),
        &[6, 3],
    );
    // Either of the two deletes explains that nothing was found.
    let two = "a put x 1 @0-1
               b del x @0-1
               c del x @0-1
               c put x 2 @2-3
               d get x 2 @4-5
               d get x - @6-7";
    assert_eq!(consistent(two).undecided, 0);
    check(&two.replace("b del x", "b del y")).unwrap_err();
}

#[test]
fn the_value_of_a_deleted_key() {
    violated(
        "a put x 1\na del x\na get x 1",
        WriteCoRead,
        Some(ReadYourWrites),
        &[3, 1, 2],
    );
    consistent("a put x 1\nb del x\na get x 1");
}

#[test]
fn the_only_delete_is_what_was_read() {
    // c's read can only have found b's delete, so it knows b's other key.
    let script = "b put y 1 @0-1
                  b del x @2-3
                  c put x 1 @0-1
                  c get x - @4-5
                  c get y 1 @6-7";
    consistent(script);
    let text = violated(
        &script.replace("c get y 1", "c get y -"),
        WriteCoInitRead,
        Some(MonotonicWrites),
        &[5, 1],
    );
    assert!(text.contains("only the delete of line 2"), "{text}");
    // With a second one there is a choice.
    let second = format!("{script}\nd del x @0-1").replace("c get y 1", "c get y -");
    assert_eq!(consistent(&second).undecided, 1);
}

#[test]
fn what_one_read_settles_settles_the_next() {
    let script = "b put y 1 @0-1
                  b del y @2-3
                  b del x @4-5
                  c put x 1 @0-1
                  c get x - @6-7
                  c get y - @8-9
                  d get y 1 @8-9
                  d get y - @10-11";
    assert_eq!(consistent(script).undecided, 0);
    check(&script.replace("c get y -", "c get y 1")).unwrap_err();
}

#[test]
fn replicas_that_disagree_about_a_delete() {
    let one = "a put x 1 @0-9
               b del x @0-9
               b put y 1 @10-11
               c get x 1 @20-21
               c get y 1 @22-23
               c get x - @24-25";
    consistent(one);
    let text = violated(
        &format!("{one}\nd get y 1 @20-21\nd get x 1 @22-23"),
        CyclicCf,
        None,
        &[1, 2, 8, 6],
    );
    assert!(text.contains("won over"), "{text}");
}

#[test]
fn gone_and_back_again() {
    violated(
        "a put x 1 @0-9
         b del x @0-9
         c get x 1 @10-11
         c get x - @12-13
         c get x 1 @14-15",
        CyclicCf,
        Some(MonotonicReads),
        &[1, 2, 5, 4],
    );
}
