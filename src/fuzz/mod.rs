//! Inputs for the parsers of what comes over the network: arbitrary bytes, and valid ones that were
//! changed or cut. Only tests have it.
//!
//! A fast suite runs proptest's 256 cases of each; `PROPTEST_CASES` says another number.

mod drawn;

pub use drawn::drawn;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Serde sets at most so many bytes aside for a sequence or a map before it has seen the elements.
const AHEAD: u64 = 1 << 20;
/// Sequences that lie in one another, at most, each with a length that promises too much.
const NESTED: u64 = 4;
/// Bytes of memory that a byte of input may become. A number of one byte is one of eight in memory;
/// a vector that grows holds its former place and one twice as long.
const BECOMES: u64 = 64;

/// One change of some bytes.
#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Remove(Index, Index),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
    Cut(Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let len = bytes.len();
        let range = |from: &Index, upto: &Index| {
            let (a, b) = (from.index(len), upto.index(len));
            a.min(b)..a.max(b) + 1
        };
        match self {
            Self::Set(at, to) => bytes[at.index(len)] = *to,
            Self::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Self::Remove(from, upto) => drop(bytes.drain(range(from, upto))),
            Self::Insert(at, more) => {
                let at = at.index(len);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Repeat(from, upto) => bytes.extend_from_within(range(from, upto)),
            Self::Cut(at) => bytes.truncate(at.index(len)),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        // The bytes with which lengths and varints go wrong.
        (at(), prop::sample::select(vec![0, 1, 0x7f, 0x80, 0xff]))
            .prop_map(|(at, to)| Change::Set(at, to)),
        (at(), any::<u8>()).prop_map(|(at, to)| Change::Set(at, to)),
        (at(), 0u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), at()).prop_map(|(from, upto)| Change::Remove(from, upto)),
        (at(), vec(any::<u8>(), 1..12)).prop_map(|(at, more)| Change::Insert(at, more)),
        (at(), at()).prop_map(|(from, upto)| Change::Repeat(from, upto)),
        at().prop_map(Change::Cut),
    ]
}

/// Valid bytes after a few changes.
pub fn changed(valid: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (valid, vec(change(), 1..5)).prop_map(|(mut bytes, changes)| {
        for change in changes {
            change.apply(&mut bytes);
        }
        bytes
    })
}

/// What becomes of `len` bytes of input, which must not take more memory than their number allows,
/// whatever lengths they say.
pub fn bounded<T>(len: usize, parse: impl FnOnce() -> T) -> T {
    let mut parsed = None;
    let took = allocation_counter::measure(|| parsed = Some(parse()));
    let most = AHEAD * NESTED + BECOMES * len as u64;
    assert!(
        took.bytes_max <= most,
        "{len} bytes took {} bytes of memory, at most {most} are right",
        took.bytes_max
    );
    parsed.expect("it was run")
}

#[test]
fn memory_is_counted() {
    let claims = |bytes: usize| {
        let run = || bounded(0, || Vec::<u8>::with_capacity(bytes));
        std::panic::catch_unwind(run).is_err()
    };
    assert!(!claims(AHEAD as usize));
    assert!(claims((AHEAD * NESTED) as usize + 1));
}
