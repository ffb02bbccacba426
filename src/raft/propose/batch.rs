//! Several proposals as bytes, one behind the other: in one log entry, in one call to the leader,
//! or one alone.
//!
//! Only the two ends decode proposals. The leader's log, the network and the followers' logs treat
//! the batch as opaque bytes.
//!
//! Each proposal is its length (4 bytes, little-endian), then a [`Header`] and the command, both as
//! postcard encodes them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::protocol::ids::MemberId;
use crate::raft::config::MAX_COMMAND_BYTES;
use crate::raft::error::ConsensusError;

/// Room for a length.
const LENGTH: usize = size_of::<u32>();
/// Room that is enough for most proposals.
const USUAL: usize = 256;

/// One run of a member's process, as a source of proposals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId {
    pub member: MemberId,
    /// Chosen at random when the Raft group is opened.
    pub run: u64,
}

/// Session and number of a proposal, by which its command is applied once however often it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub session: SessionId,
    /// The proposal's number in the session.
    pub number: u64,
    /// Nobody waits any more for proposals of the session with numbers below this one.
    pub below: u64,
}

/// A proposal as it is read out of [`Proposals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal<'a> {
    pub header: Header,
    /// Encoded: the Raft group does not know what it means until it is applied.
    pub command: &'a [u8],
}

/// Proposals in the order in which they are applied. Copies share the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposals(Bytes);

impl Proposals {
    /// One proposal.
    ///
    /// # Errors
    /// `TooLong` when the command has more than [`MAX_COMMAND_BYTES`], `Encoding` when it has no
    /// encoding.
    pub fn one(header: &Header, command: &impl Serialize) -> Result<Self, ConsensusError> {
        let mut bytes = Vec::with_capacity(USUAL);
        bytes.extend([0; LENGTH]);
        let bytes = postcard::to_extend(header, bytes).map_err(crate::raft::encoding)?;
        let header = bytes.len();
        let mut bytes = postcard::to_extend(command, bytes).map_err(crate::raft::encoding)?;
        let command = bytes.len() - header;
        let too_long = ConsensusError::TooLong { bytes: command };
        if command > MAX_COMMAND_BYTES {
            return Err(too_long);
        }
        let length = u32::try_from(bytes.len() - LENGTH).map_err(|_| too_long)?;
        if let Some(place) = bytes.first_chunk_mut() {
            *place = length.to_le_bytes();
        }
        Ok(Self(bytes.into()))
    }

    /// Several batches as one, in the same order.
    pub fn join(batches: &[Self]) -> Self {
        match batches {
            [one] => one.clone(),
            _ => {
                let mut bytes = Vec::with_capacity(batches.iter().map(Self::bytes).sum());
                for batch in batches {
                    bytes.extend_from_slice(&batch.0);
                }
                Self(bytes.into())
            }
        }
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// How many proposals it has. None if it is no batch: its lengths do not fit.
    pub fn count(&self) -> Option<usize> {
        let (mut rest, mut count) = (&*self.0, 0);
        while !rest.is_empty() {
            rest = split(rest)?.1;
            count += 1;
        }
        Some(count)
    }

    /// The proposals without those that are to be taken out, and for each whether it was. One that
    /// cannot be read stays.
    pub fn without(&self, out: impl Fn(&Proposal<'_>) -> bool) -> (Self, Vec<bool>) {
        let (mut rest, mut kept, mut taken) = (&*self.0, Vec::new(), Vec::new());
        while let Some((one, others)) = split(rest) {
            let read = postcard::take_from_bytes(one);
            let goes = read.is_ok_and(|(header, command)| out(&Proposal { header, command }));
            if !goes {
                kept.extend_from_slice(&rest[..rest.len() - others.len()]);
            }
            taken.push(goes);
            rest = others;
        }
        (Self(kept.into()), taken)
    }

    /// The proposals, as far as its lengths fit. An error stands for one whose header cannot be
    /// read.
    pub fn iter(&self) -> impl Iterator<Item = Result<Proposal<'_>, postcard::Error>> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (one, others) = split(rest)?;
            rest = others;
            let read = postcard::take_from_bytes(one);
            Some(read.map(|(header, command)| Proposal { header, command }))
        })
    }
}

/// The first one, and the rest.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(number: u64) -> Header {
        let session = SessionId {
            member: MemberId(7),
            run: u64::MAX - number,
        };
        Header {
            session,
            number,
            below: number / 2,
        }
    }

    #[test]
    fn some_are_taken_out_and_the_rest_keeps_its_order() {
        let one = |number| Proposals::one(&header(number), &number).unwrap();
        let all = Proposals::join(&[one(1), one(2), Proposals(Bytes::new()), one(3)]);
        let (rest, taken) = all.without(|proposal| proposal.header == header(2));
        assert_eq!(rest, Proposals::join(&[one(1), one(3)]));
        assert_eq!(taken, [false, true, false]);
        let (none, taken) = all.without(|_| true);
        assert_eq!((none.count(), taken), (Some(0), vec![true; 3]));
    }

    proptest! {
        #[test]
        fn what_is_joined_is_read_again_in_order(commands in proptest::collection::vec(".{0,40}", 0..9), cut in 0..9_usize) {
            let one = |(number, command)| Proposals::one(&header(number), command).unwrap();
            let batches: Vec<Proposals> = (0..).zip(&commands).map(one).collect();
            let (first, second) = batches.split_at(cut.min(batches.len()));
            let whole = Proposals::join(&[Proposals::join(first), Proposals::join(second)]);
            prop_assert_eq!(whole.count(), Some(commands.len()));
            let read: Vec<(Header, String)> = whole
                .iter()
                .map(|p| p.map(|p| (p.header, postcard::from_bytes(p.command).unwrap())).unwrap())
                .collect();
            let wanted: Vec<(Header, String)> = (0..).map(header).zip(commands).collect();
            prop_assert_eq!(read, wanted);
        }

        /// Whatever comes from elsewhere: as many are read as are counted, or it is said to be no
        /// batch.
        #[test]
        fn no_bytes_make_it_panic_or_count_wrong(bytes in proptest::collection::vec(prop_oneof![3 => Just(0), 3 => 0..9_u8, 1 => any::<u8>()], 0..60)) {
            let batch = Proposals(Bytes::from(bytes));
            if let Some(count) = batch.count() {
                prop_assert_eq!(batch.iter().count(), count);
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_no_batch_and_what_is_too_long_is_refused() {
        let whole = Proposals::one(&header(3), &"command").unwrap();
        for cut in 1..whole.bytes() {
            let part = Proposals(whole.0.slice(..cut));
            assert_eq!(part.count(), None, "{cut} bytes");
            assert_eq!(part.iter().count(), 0);
        }
        let long = "x".repeat(MAX_COMMAND_BYTES);
        let refused = Proposals::one(&header(3), &long);
        assert!(
            matches!(refused, Err(ConsensusError::TooLong { bytes }) if bytes > MAX_COMMAND_BYTES)
        );
    }
}
