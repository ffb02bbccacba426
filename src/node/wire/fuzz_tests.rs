//! Frames between nodes, with all that can be in them, under bytes that no node sends.

use super::messages::{Envelope, Request, Response};
use crate::fuzz::{bounded, changed, drawn};
use crate::net::{Frame, FrameDecoder, FrameEncoder, FrameError, HEADER, Outgoing};
use bytes::{BufMut, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder};

type WireFrame = Frame<Envelope, Request, Response>;

/// The longest body, in bytes.
const LIMIT: usize = 4 << 20;
/// Kinds of frames, and numbers that name none: the first byte of a body.
const TAGS: std::ops::Range<u8> = 0..6;

/// The frame of a body, as it is: length and checksum are right.
fn framed(body: &[u8]) -> BytesMut {
    let mut wire = BytesMut::new();
    wire.put_u32_le(body.len() as u32);
    wire.put_u32_le(crc32fast::hash(body));
    wire.extend_from_slice(body);
    wire
}

fn decoded(mut wire: BytesMut) -> Result<Option<WireFrame>, FrameError> {
    let mut decoder = FrameDecoder::<Envelope, Request, Response>::new(LIMIT);
    bounded(wire.len(), || decoder.decode(&mut wire))
}

fn encoded(frame: &WireFrame) -> BytesMut {
    let (mut encoder, mut wire) = (FrameEncoder { limit: LIMIT }, BytesMut::new());
    let done = match frame {
        Frame::Message(message) => encoder.encode(Outgoing::Message(message), &mut wire),
        Frame::Request(id, ask) => encoder.encode(Outgoing::Request(*id, ask), &mut wire),
        Frame::Response(id, answer) => encoder.encode(Outgoing::Response(*id, answer), &mut wire),
        Frame::Ping => encoder.ping(&mut wire),
    };
    done.unwrap();
    wire
}

/// Whatever is read can be sent, and is read as the same again.
fn comes_back(wire: BytesMut) -> Result<(), TestCaseError> {
    if let Ok(Some(frame)) = decoded(wire) {
        let once = encoded(&frame);
        let again = decoded(once.clone()).unwrap().unwrap();
        prop_assert_eq!(encoded(&again), once);
    }
    Ok(())
}

/// The bodies of frames of all kinds.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    // Now and then with a long sequence at the end.
    let entropy = (
        vec(any::<u8>(), 0..300),
        prop::option::weighted(0.02, 0..40usize),
    );
    let entropy = entropy.prop_map(|(mut bytes, long)| {
        if let Some(at) = long {
            bytes.truncate(at);
            bytes.push(255);
        }
        bytes
    });
    let some = (0u8..3, any::<u64>(), entropy);
    some.prop_filter_map("what is drawn is no value", |(kind, id, entropy)| {
        let frame = match kind {
            0 => Frame::Message(drawn(&entropy)?),
            1 => Frame::Request(id, drawn(&entropy)?),
            _ => Frame::Response(id, drawn(&entropy)?),
        };
        Some(encoded(&frame)[HEADER..].to_vec())
    })
}

proptest! {
    // Most of what is drawn breaks a rule that is checked where values are read.
    #![proptest_config(ProptestConfig { max_local_rejects: u32::MAX, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sent_comes_back(body in bodies()) {
        let frame = decoded(framed(&body)).unwrap().unwrap();
        prop_assert_eq!(&encoded(&frame)[HEADER..], &body[..]);
    }

    #[test]
    fn changed_bodies_are_taken_or_refused(body in changed(bodies())) {
        comes_back(framed(&body))?;
    }

    #[test]
    fn any_bytes_after_the_kind_are_taken_or_refused(tag in TAGS, rest in vec(any::<u8>(), 0..300)) {
        let mut body = vec![tag];
        body.extend(rest);
        comes_back(framed(&body))?;
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        comes_back(BytesMut::from(&bytes[..]))?;
    }

    #[test]
    fn changed_frames_are_taken_or_refused(wire in changed(bodies().prop_map(|body| framed(&body).to_vec()))) {
        comes_back(BytesMut::from(&wire[..]))?;
    }

    #[test]
    fn a_part_of_a_body_is_no_body(body in bodies(), at in any::<prop::sample::Index>()) {
        let cut = &body[..at.index(body.len())];
        prop_assert!(decoded(framed(cut)).is_err());
    }

    #[test]
    fn a_part_of_a_frame_is_waited_for(body in bodies(), at in any::<prop::sample::Index>()) {
        let mut wire = framed(&body);
        wire.truncate(at.index(wire.len()));
        prop_assert!(matches!(decoded(wire), Ok(None)));
    }
}
