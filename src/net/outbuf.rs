//! Bytes on their way out: small frames side by side in one buffer, so that many leave in one
//! system call. A large frame stays as it is, so that it is not copied again.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;

/// From this many bytes a frame is kept whole: copying it costs more than a system call of its own.
const LARGE: usize = 64 * 1024;
/// A buffer that held more than this many bytes in a burst is given back when it runs empty.
const KEEP: usize = 1024 * 1024;

/// A finished frame, ready for the queue of one or several peers.
#[derive(Debug)]
pub enum EncodedFrame {
    Small(BytesMut),
    Large(Bytes),
}

impl EncodedFrame {
    pub fn len(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.len(),
            Self::Large(bytes) => bytes.len(),
        }
    }
}

impl From<BytesMut> for EncodedFrame {
    fn from(frame: BytesMut) -> Self {
        if frame.len() < LARGE {
            Self::Small(frame)
        } else {
            Self::Large(frame.freeze())
        }
    }
}

/// An ordered queue of bytes. The order is `whole`, then `tail`.
#[derive(Debug, Default)]
pub struct OutBuf {
    whole: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
    /// The longest `tail` since it was last given back.
    peak: usize,
}

impl OutBuf {
    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes wait.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: &EncodedFrame) {
        match frame {
            EncodedFrame::Small(bytes) => self.tail.extend_from_slice(bytes),
            EncodedFrame::Large(bytes) => {
                if !self.tail.is_empty() {
                    self.whole.push_back(self.tail.split().freeze());
                }
                self.whole.push_back(bytes.clone());
            }
        }
        self.len += frame.len();
        self.peak = self.peak.max(self.tail.len());
    }

    /// Pushes what is left of a frame of which the first `sent` bytes have been sent.
    pub fn push_from(&mut self, frame: &EncodedFrame, sent: usize) {
        match frame {
            EncodedFrame::Small(bytes) if sent > 0 => {
                self.tail.extend_from_slice(&bytes[sent..]);
                self.len += bytes.len() - sent;
                self.peak = self.peak.max(self.tail.len());
            }
            whole => self.push(whole),
        }
    }

    /// Lets `write` append to the end.
    pub fn append<E>(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.tail.len();
        let result = write(&mut self.tail);
        self.len += self.tail.len() - before;
        self.peak = self.peak.max(self.tail.len());
        result
    }

    /// The bytes to send next, as many as lie together.
    pub fn front(&self) -> &[u8] {
        self.whole.front().map_or(&self.tail, |bytes| bytes)
    }

    /// Drops the first `n` bytes of `front`, which have been sent.
    pub fn advance(&mut self, n: usize) {
        match self.whole.front_mut() {
            Some(bytes) if n == bytes.len() => {
                self.whole.pop_front();
            }
            Some(bytes) => bytes.advance(n),
            None => self.tail.advance(n),
        }
        self.len -= n;
        if self.len == 0 && self.peak > KEEP {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_of_small_and_large_frames() {
        let mut out = OutBuf::default();
        let mut expected = Vec::new();
        for (fill, size) in [(1u8, 10), (2, LARGE), (3, 20), (4, LARGE - 1), (5, LARGE)] {
            let frame = vec![fill; size];
            expected.extend_from_slice(&frame);
            out.push(&EncodedFrame::from(BytesMut::from(&frame[..])));
        }
        out.append(|tail| {
            tail.extend_from_slice(b"end");
            Ok::<_, ()>(())
        })
        .unwrap();
        expected.extend_from_slice(b"end");
        out.push_from(&EncodedFrame::from(BytesMut::from(&b"begun"[..])), 2);
        expected.extend_from_slice(b"gun");
        assert_eq!(out.len(), expected.len());

        let mut sent = Vec::new();
        while !out.is_empty() {
            let n = out.front().len().min(777);
            sent.extend_from_slice(&out.front()[..n]);
            out.advance(n);
        }
        assert!(sent == expected);
        assert!(out.front().is_empty());
    }
}
