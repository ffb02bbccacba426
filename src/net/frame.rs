//! Frames: how one message, request or response lies on a connection.
//!
//! ```text
//! u32 LE  length of the body in bytes
//! u32 LE  crc32 of the body
//! body    1 tag byte, a varint with the request id (requests and responses only), the payload as
//!         postcard
//! ```
//!
//! A frame that breaks these rules ends its connection: after it the start of the next frame is not
//! known.

use bytes::{Buf, BufMut, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use std::{io, marker::PhantomData};
use tokio_util::codec::{Decoder, Encoder};

/// Bytes before the body.
pub const HEADER: usize = 8;

const MESSAGE: u8 = 1;
const REQUEST: u8 = 2;
const RESPONSE: u8 = 3;
const PING: u8 = 4;

/// Names payload types without holding any.
pub(super) type Kinds<M, Q, R> = PhantomData<fn(M, Q, R)>;

/// The content of a received frame. `M`, `Q` and `R` are the message, request and response
/// payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<M, Q, R> {
    /// A one-way message.
    Message(M),
    /// A request with its id.
    Request(u64, Q),
    /// A response, with the id of its request.
    Response(u64, R),
    /// A sign of life without content.
    Ping,
}

/// The content of a frame to be sent. Only borrows its payload, so that several peers can be sent
/// one without a clone.
#[derive(Debug, Clone, Copy)]
pub enum Outgoing<'a, T> {
    /// A one-way message.
    Message(&'a T),
    /// A request with its id.
    Request(u64, &'a T),
    /// A response, with the id of its request.
    Response(u64, &'a T),
}

/// Why bytes are no frame, or a payload cannot become one.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The body is longer than the limit.
    #[error("frame of {len} bytes or more, the limit is {limit}")]
    TooLong {
        /// Its length in bytes, or what is known of it.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The body was changed on its way.
    #[error("checksum is {got:08x}, the frame says {said:08x}")]
    Checksum {
        /// The checksum in the frame.
        said: u32,
        /// The checksum of the body that came.
        got: u32,
    },
    /// The first byte of the body names no kind of frame.
    #[error("unknown kind of frame {0}")]
    Tag(u8),
    /// The body has no bytes.
    #[error("empty frame")]
    Empty,
    /// The payload ends before the body does.
    #[error("{0} bytes left over after the payload")]
    LeftOver(usize),
    /// The payload cannot be decoded, or not be encoded.
    #[error("payload: {0}")]
    Payload(#[from] postcard::Error),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes frames to the end of a buffer; a payload that fails leaves the buffer as it was.
#[derive(Debug, Clone, Copy)]
pub struct FrameEncoder {
    /// Longest allowed body in bytes.
    pub limit: usize,
}

impl<T: Serialize> Encoder<Outgoing<'_, T>> for FrameEncoder {
    type Error = FrameError;

    fn encode(&mut self, item: Outgoing<'_, T>, dst: &mut BytesMut) -> Result<(), FrameError> {
        match item {
            Outgoing::Message(payload) => self.put(&(MESSAGE, payload), dst),
            Outgoing::Request(id, payload) => self.put(&(REQUEST, id, payload), dst),
            Outgoing::Response(id, payload) => self.put(&(RESPONSE, id, payload), dst),
        }
    }
}

impl FrameEncoder {
    /// Appends a sign of life.
    pub fn ping(&self, dst: &mut BytesMut) -> Result<(), FrameError> {
        self.put(&PING, dst)
    }

    /// Appends a frame with `body`: a tuple in postcard is its members one after the other.
    fn put(&self, body: &impl Serialize, dst: &mut BytesMut) -> Result<(), FrameError> {
        let start = dst.len();
        dst.put_bytes(0, HEADER);
        let end = start + HEADER + self.limit;
        if let Err(error) = postcard::serialize_with_flavor(body, Tail { dst, end }) {
            dst.truncate(start);
            return Err(match error {
                postcard::Error::SerializeBufferFull => FrameError::TooLong {
                    len: self.limit + 1,
                    limit: self.limit,
                },
                other => other.into(),
            });
        }
        let (header, body) = dst[start..].split_at_mut(HEADER);
        // The limit is far below u32::MAX (`NetLimits::checked`), so the length fits.
        header[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
        header[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        Ok(())
    }
}

/// Lets postcard write straight to the end of a buffer, in whole slices, up to `end`.
struct Tail<'a> {
    dst: &'a mut BytesMut,
    end: usize,
}

impl postcard::ser_flavors::Flavor for Tail<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        if data.len() > self.end - self.dst.len() {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.dst.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Reads frames from the front of a buffer. Payloads are decoded in place, without an own copy of
/// the body.
#[derive(Debug)]
pub struct FrameDecoder<M, Q, R> {
    limit: usize,
    kinds: Kinds<M, Q, R>,
}

impl<M, Q, R> FrameDecoder<M, Q, R> {
    /// A decoder that refuses bodies of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            kinds: PhantomData,
        }
    }
}

impl<M: DeserializeOwned, Q: DeserializeOwned, R: DeserializeOwned> Decoder
    for FrameDecoder<M, Q, R>
{
    type Item = Frame<M, Q, R>;
    type Error = FrameError;

    /// The next frame, or None while it is not complete. After an error the buffer is of no more
    /// use.
    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Self::Item>, FrameError> {
        let Some(&[l0, l1, l2, l3, c0, c1, c2, c3]) = src.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let said = u32::from_le_bytes([c0, c1, c2, c3]);
        // Before any memory is set aside for it.
        if len > self.limit {
            let limit = self.limit;
            return Err(FrameError::TooLong { len, limit });
        }
        let Some(body) = src.get(HEADER..HEADER + len) else {
            src.reserve(HEADER + len - src.len());
            return Ok(None);
        };
        let got = crc32fast::hash(body);
        if got != said {
            return Err(FrameError::Checksum { said, got });
        }
        let (&tag, rest) = body.split_first().ok_or(FrameError::Empty)?;
        let frame = match tag {
            MESSAGE => Frame::Message(whole(rest)?),
            REQUEST => {
                let (id, payload) = postcard::take_from_bytes(rest)?;
                Frame::Request(id, whole(payload)?)
            }
            RESPONSE => {
                let (id, payload) = postcard::take_from_bytes(rest)?;
                Frame::Response(id, whole(payload)?)
            }
            PING => Frame::Ping,
            other => return Err(FrameError::Tag(other)),
        };
        src.advance(HEADER + len);
        Ok(Some(frame))
    }
}

/// Decodes a payload that must fill all of `bytes`: left-overs mean that the two sides disagree on
/// its shape.
fn whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(FrameError::LeftOver(rest.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type TestFrame = Frame<(u32, String), Vec<u16>, Option<bytes::Bytes>>;
    type TestDecoder = FrameDecoder<(u32, String), Vec<u16>, Option<bytes::Bytes>>;
    const LIMIT: usize = 4096;

    fn encode(frame: &TestFrame, dst: &mut BytesMut) -> Result<(), FrameError> {
        let mut encoder = FrameEncoder { limit: LIMIT };
        match frame {
            Frame::Message(m) => encoder.encode(Outgoing::Message(m), dst),
            Frame::Request(id, q) => encoder.encode(Outgoing::Request(*id, q), dst),
            Frame::Response(id, r) => encoder.encode(Outgoing::Response(*id, r), dst),
            Frame::Ping => encoder.ping(dst),
        }
    }

    fn frames() -> impl Strategy<Value = TestFrame> {
        prop_oneof![
            (any::<u32>(), ".{0,40}").prop_map(Frame::Message),
            (any::<u64>(), prop::collection::vec(any::<u16>(), 0..50))
                .prop_map(|(id, q)| Frame::Request(id, q)),
            (
                any::<u64>(),
                prop::option::of(prop::collection::vec(any::<u8>(), 0..300))
            )
                .prop_map(|(id, r)| Frame::Response(id, r.map(Into::into))),
            Just(Frame::Ping),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_back_as_sent_however_they_are_cut(
            sent in prop::collection::vec(frames(), 1..20),
            cuts in prop::collection::vec(1usize..200, 1..50),
        ) {
            let mut wire = BytesMut::new();
            for frame in &sent {
                encode(frame, &mut wire).unwrap();
            }
            let mut decoder = TestDecoder::new(LIMIT);
            let (mut input, mut got) = (BytesMut::new(), Vec::new());
            let mut cuts = cuts.iter().cycle();
            while !wire.is_empty() {
                let n = (*cuts.next().unwrap()).min(wire.len());
                input.extend_from_slice(&wire.split_to(n));
                while let Some(frame) = decoder.decode(&mut input).unwrap() {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn any_bytes_are_taken_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut input = BytesMut::from(&bytes[..]);
            let mut decoder = TestDecoder::new(LIMIT);
            while let Ok(Some(_)) = decoder.decode(&mut input) {}
        }

        /// As above, but past the checksum.
        #[test]
        fn any_body_is_taken_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..600), tag in 0u8..6) {
            let mut body = body;
            if let Some(first) = body.first_mut() {
                *first = tag;
            }
            let mut input = BytesMut::new();
            input.put_u32_le(body.len() as u32);
            input.put_u32_le(crc32fast::hash(&body));
            input.extend_from_slice(&body);
            let _ = TestDecoder::new(LIMIT).decode(&mut input);
        }

        #[test]
        fn a_flipped_bit_is_found(frame in frames(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut wire = BytesMut::new();
            encode(&frame, &mut wire).unwrap();
            let at = at.index(wire.len());
            wire[at] ^= 1 << bit;
            // A longer length waits for bytes that come from later frames, and then fails the
            // checksum.
            wire.put_bytes(0x55, LIMIT + HEADER);
            prop_assert!(TestDecoder::new(LIMIT).decode(&mut wire).is_err());
        }
    }

    #[test]
    fn too_long_is_refused_on_both_sides_and_leaves_the_buffer_alone() {
        let mut wire = BytesMut::from(&b"before"[..]);
        let long = Frame::Response(1, Some(bytes::Bytes::from(vec![7; LIMIT])));
        let error = encode(&long, &mut wire).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { limit: LIMIT, .. }));
        assert_eq!(&wire[..], b"before");

        let mut wire = BytesMut::new();
        wire.put_u32_le(LIMIT as u32 + 1);
        wire.put_u32_le(0);
        let error = TestDecoder::new(LIMIT).decode(&mut wire).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { len, .. } if len == LIMIT + 1));
    }

    #[test]
    fn the_layout_on_the_wire_is_fixed() {
        let mut wire = BytesMut::new();
        encode(&Frame::Request(300, vec![1, 2]), &mut wire).unwrap();
        // Length 6, checksum; tag 2, id 300 as a varint, two elements.
        let body = [2, 0xac, 0x02, 2, 1, 2];
        assert_eq!(wire[..4], [6, 0, 0, 0]);
        assert_eq!(wire[4..8], crc32fast::hash(&body).to_le_bytes());
        assert_eq!(wire[8..], body);
    }

    #[test]
    fn bytes_after_the_payload_are_refused() {
        let body = [MESSAGE, 1, 0, 9];
        let mut wire = BytesMut::new();
        wire.put_u32_le(body.len() as u32);
        wire.put_u32_le(crc32fast::hash(&body));
        wire.extend_from_slice(&body);
        let error = TestDecoder::new(LIMIT).decode(&mut wire).unwrap_err();
        assert!(matches!(error, FrameError::LeftOver(1)));
    }
}
