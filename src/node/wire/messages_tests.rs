//! What is read of other nodes' requests and answers, and what fits into a frame.

use super::*;
use crate::net::{FRAME_BYTES, FrameEncoder, Outgoing};
use crate::node::config::LONGEST_VALUE;
use crate::protocol::ids::incarnation;
use crate::protocol::message::Message;
use crate::protocol::op::{Consistency, Found, Read};
use crate::protocol::payload::MAX_ENTRIES;
use crate::protocol::version::LONGEST_KEY;
use bytes::BytesMut;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use tokio_util::codec::Encoder;

fn log(n: u64) -> LogId {
    LogId {
        member: MemberId(u16::MAX - 1),
        incarnation: incarnation(1 << 16, (1 << 45) + n),
    }
}

/// The past of a client that has seen as many logs as a payload may name.
fn longest_past() -> Context {
    let mut past = Context::at(Timestamp::from_ms(1 << 46), 1 << 16);
    (0..MAX_ENTRIES as u64).for_each(|n| past.see(log(n), 1 << 60));
    past
}

fn longest_key() -> Key {
    vec![b'k'; LONGEST_KEY].into()
}

#[test]
fn the_longest_operation_and_its_answer_fit_into_a_frame() {
    // The quotes around a string come on top.
    let value = Bytes::from(vec![b'v'; LONGEST_VALUE + 2]);
    let write = Request::Operations(Together(vec![Forward {
        op: Op::Write {
            key: longest_key(),
            value: Some(value.clone()),
            stamp: Stamp::default(),
            orphan: Some(u64::MAX),
        },
        context: longest_past(),
        stall_us: u64::MAX,
    }]));
    let read = Response::Operations(Forwarded {
        answers: vec![Answer::Read(Read {
            stamp: Some(Stamp::default()),
            found: Some(Found {
                value: value.clone(),
                wall_ms: u64::MAX,
            }),
            context: longest_past(),
            stale: true,
        })],
        clock: Timestamp::default(),
        stable: (0..MAX_ENTRIES as u64).map(|n| (log(n), 1 << 60)).collect(),
        version: u64::MAX,
    });
    let mut encoder = FrameEncoder { limit: FRAME_BYTES };
    let mut frame = BytesMut::new();
    encoder
        .encode(Outgoing::Request(u64::MAX, &write), &mut frame)
        .unwrap();
    encoder
        .encode(Outgoing::Response(u64::MAX, &read), &mut frame)
        .unwrap();
}

#[track_caller]
fn refused<T: Serialize + DeserializeOwned>(value: &T) {
    let bytes = postcard::to_allocvec(value).unwrap();
    assert!(postcard::from_bytes::<T>(&bytes).is_err());
}

fn read_of(key: Key) -> Forward {
    Forward {
        op: Op::Get {
            key,
            consistency: Consistency::Causal,
        },
        context: Context::default(),
        stall_us: 0,
    }
}

#[test]
fn more_operations_than_a_client_may_ask_for_are_refused() {
    let reads = |n| Request::Operations(Together(vec![read_of(Key::from_static(b"k")); n]));
    let bytes = postcard::to_allocvec(&reads(MOST_TOGETHER)).unwrap();
    assert!(postcard::from_bytes::<Request>(&bytes).is_ok());
    refused(&reads(MOST_TOGETHER + 1));
}

#[test]
fn numbers_and_keys_that_no_node_can_have_sent_are_refused() {
    refused(&Envelope {
        incarnation: u64::MAX,
        message: Message::Early(Vec::new()),
    });
    for key in [Key::new(), vec![b'k'; LONGEST_KEY + 1].into()] {
        refused(&Orphan {
            key: key.clone(),
            value: None,
            stamp: Stamp::default(),
            wall_ms: 0,
            past: Context::default(),
        });
        refused(&Request::Operations(Together(vec![read_of(key)])));
    }
    let offered = |taken, newer| Offered {
        taken,
        newer,
        ..Offered::default()
    };
    assert_eq!(offered(1, 2).count(), 3);
    refused(&offered(u64::MAX, 1));
    refused(&offered(1, u64::MAX));
    let mut offer = OfferProgress::of(([10, 0, 0, 1], 80).into(), Path::new("/d"), 7);
    offer.taken = u64::MAX;
    refused(&offer);
    let mut offer = OfferProgress::of(([10, 0, 0, 1], 80).into(), Path::new("/d"), 7);
    offer.failed = Some("x".repeat(LONGEST_TEXT + 1));
    refused(&offer);
    for progress in [
        Progress {
            live_keys: u64::MAX,
            ..Progress::default()
        },
        Progress {
            missing: usize::from(SLOTS) + 1,
            ..Progress::default()
        },
        Progress {
            remembers: vec![(
                MemberId(1),
                Count {
                    live_keys: u64::MAX,
                    ..Count::default()
                },
            )],
            ..Progress::default()
        },
    ] {
        refused(&progress);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_an_answer_or_none(
        kind in 0u8..12,
        rest in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..80),
    ) {
        let bytes = [vec![kind], rest].concat();
        let _ = postcard::from_bytes::<Envelope>(&bytes[1..]);
        if let Ok(Request::Offer(offer)) = postcard::from_bytes::<Request>(&bytes) {
            let _ = offer.state.left();
        }
        if let Ok(Response::Offered(offered)) = postcard::from_bytes::<Response>(&bytes) {
            let _ = offered.count();
        }
    }
}
