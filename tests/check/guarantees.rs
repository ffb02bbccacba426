//! The session guarantees one by one, each beside a history that is almost the same and consistent.

use crate::script::{consistent, violated};
use causeway::check::Guarantee::{
    MonotonicReads, MonotonicWrites, ReadYourWrites, WritesFollowReads,
};
use causeway::check::Pattern::{WriteCoInitRead, WriteCoRead};

#[test]
fn read_your_writes() {
    violated(
        "a put x 1\na get x -",
        WriteCoInitRead,
        Some(ReadYourWrites),
        &[2, 1],
    );
    violated(
        "a put x 1\na put x 2\na get y -\na get x 1",
        WriteCoRead,
        Some(ReadYourWrites),
        &[4, 1, 2],
    );
    // Own reads in between do not make it another guarantee.
    violated(
        "a put x 1\na get x 1\na put x 2\na get x 2\na get x 1",
        WriteCoRead,
        Some(ReadYourWrites),
        &[5, 1, 3],
    );
    consistent("a put x 1\nb get x -");
    consistent("a put x 1\na put x 2\nb get x 1");
    // Another's write may have won.
    consistent("b put x 1 @0-9\na put x 2 @0-9\na get x 1 @10-11");
}

#[test]
fn monotonic_reads() {
    violated(
        "a put x 1\na put x 2\nb get x 2\nb get x 1",
        WriteCoRead,
        Some(MonotonicReads),
        &[4, 1, 2],
    );
    violated(
        "a put x 1\nb get x 1\nb get x -",
        WriteCoInitRead,
        Some(MonotonicReads),
        &[3, 1],
    );
    consistent("a put x 1\na put x 2\nb get x 1\nb get x 2");
    consistent("a put x 1\na put x 2\nb get x 2\nc get x 1");
}

#[test]
fn monotonic_writes() {
    violated(
        "a put x 1\na put x 2\na put y 1\nb get y 1\nb get x 1",
        WriteCoRead,
        Some(MonotonicWrites),
        &[5, 1, 2],
    );
    violated(
        "a put x 1\na put y 1\nb get y 1\nb get x -",
        WriteCoInitRead,
        Some(MonotonicWrites),
        &[4, 1],
    );
    consistent("a put x 1\na put y 1\na put x 2\nb get y 1\nb get x 1");
}

#[test]
fn writes_follow_reads() {
    violated(
        "a put x 1\nb get x 1\nb put y 1\nc get y 1\nc get x -",
        WriteCoInitRead,
        Some(WritesFollowReads),
        &[5, 1],
    );
    violated(
        "a put x 1\na put x 2\nb get x 2\nb put y 1\nc get y 1\nc get x 1",
        WriteCoRead,
        Some(WritesFollowReads),
        &[6, 1, 2],
    );
    consistent("a put x 1\nb put y 1\nb get x 1\nc get y 1\nc get x -");
    consistent("a put x 1\nb get x 1\nb put y 1\nc get x -\nc get y 1");
}

#[test]
fn the_shortest_of_many_is_explained() {
    violated(
        "a put x 1
         b get x 1
         b put y 1
         c get y 1
         c get x -
         d put z 1
         d get z -",
        WriteCoInitRead,
        Some(ReadYourWrites),
        &[7, 6],
    );
}

#[test]
fn the_closest_of_many_overwrites_is_named() {
    // The latest is line 4; that of line 2 was read by the session itself.
    violated(
        "a put x 1
         a put x 2
         b get x 2
         a put x 3
         a put z 1
         c get z 1
         c put q 1
         b get q 1
         b get x 1",
        WriteCoRead,
        Some(MonotonicReads),
        &[9, 1, 2],
    );
}
