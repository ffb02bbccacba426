//! The longest value that a node takes, with the longest key and past, fits into a frame in each
//! kind of message that carries it.

use crate::cluster::Cluster;
use bytes::BytesMut;
use causeway::net::{FRAME_BYTES, FrameEncoder, Outgoing};
use causeway::node::config::LONGEST_VALUE;
use causeway::protocol::context::Context;
use causeway::protocol::ids::{LogId, MemberId, incarnation};
use causeway::protocol::message::Message;
use causeway::protocol::payload::MAX_ENTRIES;
use causeway::protocol::version::{Key, LONGEST_KEY, Version};
use tokio_util::codec::Encoder;

/// The past of a client that has seen a write of each of as many logs as a payload may name.
fn longest_past() -> Context {
    let mut past = Context::default();
    for start in 0..MAX_ENTRIES as u64 {
        let log = LogId {
            member: MemberId(1),
            incarnation: incarnation(1, (1 << 45) + start),
        };
        past.see(log, 1 << 60);
    }
    past
}

/// Whether it is the longest one that there can be.
fn is_longest(version: &Version) -> bool {
    version.key.len() == LONGEST_KEY
        && version.value.as_ref().map(bytes::Bytes::len) == Some(LONGEST_VALUE + 2)
        && version.deps.len() >= MAX_ENTRIES
}

/// What nodes have sent since the last look, of which some has the longest version: how much of it
/// does, by kind.
fn sent(c: &mut Cluster) -> [usize; 4] {
    let mut kinds = [0; 4];
    for message in std::mem::take(c.sent.as_mut().unwrap()) {
        let (kind, long) = match &message {
            Message::Append(append) => (0, append.versions.iter().any(is_longest)),
            Message::Range(range) => (1, range.versions.iter().any(is_longest)),
            Message::SnapshotChunk(chunk) => (2, chunk.versions.iter().any(is_longest)),
            Message::Early(early) => (3, early.iter().any(|e| is_longest(&e.version))),
            _ => continue,
        };
        kinds[kind] += usize::from(long);
        // As a node sends it: with the incarnation of its log.
        let envelope = (incarnation(1 << 16, 0), message);
        let mut frame = BytesMut::new();
        FrameEncoder { limit: FRAME_BYTES }
            .encode(Outgoing::Message(&envelope), &mut frame)
            .unwrap();
    }
    kinds
}

#[test]
fn the_longest_version_fits_into_each_message_that_carries_versions() {
    let mut c = Cluster::new(3, 3);
    c.sent = Some(Vec::new());
    let name = |n: usize| Key::from(format!("{n}{}", "k".repeat(LONGEST_KEY - 1)));
    let value = "v".repeat(LONGEST_VALUE + 2);
    let past = longest_past();
    // Others wait beside it, so that a message could have more in it.
    let small = |c: &mut Cluster| {
        for n in 0..37 {
            c.write(0, &name(3 + n % 7), Some(&"s".repeat(40_000)), &past);
        }
    };
    small(&mut c);
    c.write(0, &name(1), Some(&value), &past);
    small(&mut c);
    c.run_ms(500);
    assert!(sent(&mut c)[0] > 0, "it was streamed");

    // Another one follows while node 2 is cut off: that pulls it.
    c.cut(0, 2);
    c.cut(1, 2);
    small(&mut c);
    c.write(0, &name(2), Some(&value), &past);
    small(&mut c);
    c.run_ms(1_000);
    sent(&mut c);
    c.stop(0);
    c.heal();
    c.run_ms(2_000);
    assert!(sent(&mut c)[1] > 0, "it was pulled");

    // An empty disk is filled by a snapshot.
    c.stop(2);
    c.nodes[2].disk = Default::default();
    c.start(2);
    c.run_ms(3_000);
    assert!(sent(&mut c)[2] > 1, "they were copied");
}
