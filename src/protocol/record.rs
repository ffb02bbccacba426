//! How a replica's state is laid out in the store: keys by kind, and the records behind them.
//!
//! ```text
//! c                                      the clock: later than all that is stored
//! d <slot u16> <key>                     the winning version of a key
//! u <member u16> <incarnation u64> <seq> keys of a run of a log's unstable dots, by its last seq
//! t <ts u64> <member u16> <key>          a tombstone to collect one day
//! l <member u16> <incarnation u64>       how far a log is applied, stable and indexed here
//! e <member u16> <incarnation u64> <seq> <key> a version that came ahead of its log
//! f <partition u32> <since u64> <member u16> logs of a member for a cohort that are finished
//! g <slot u16>                           the timestamp of the newest delete that is forgotten
//! i                                      whose disk this is
//! p                                      the timestamp behind which no write is taken
//! n                                      numbers of live keys and tombstones
//! ```
//!
//! All integers in keys are big-endian, so that byte order is number order. Values are postcard,
//! behind one byte that gives the record's own version.

use super::clock::Timestamp;
use super::context::Context;
use super::ids::{Dot, LogId, MemberId};
use super::limits::{Bound, met};
use super::slots::{Slot, SlotSet};
use super::sound::{Unsound, checked_when_read, ensure, ensure_incarnation, ensure_seq};
use super::store::{Store, StoreError};
use super::version::{Key, Stamp, Version};
use super::view::PartitionId;
use super::views::CohortId;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Version of the records' layout.
const RECORD: u8 = 1;

/// The key of the [`ReplicaIdentity`].
pub const IDENTITY: &[u8] = b"i";
/// The key of the timestamp behind which no write is taken.
pub const PROMISED: &[u8] = b"p";
/// The key of the clock, which is later than all that is stored.
pub const CLOCK: &[u8] = b"c";
/// The key of the [`KeyCounts`].
pub const COUNTS: &[u8] = b"n";

/// The replica that a disk belongs to, and its state when it last ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaIdentity {
    /// The member that the disk belongs to.
    pub member: MemberId,
    /// The last incarnation that used the disk.
    pub incarnation: u64,
    /// Fingerprint of the first view: which cluster the data belongs to.
    pub fingerprint: [u8; 32],
    /// The number of the last view under which the disk was used.
    pub view: u64,
    /// The cohorts of which everything in these slots is here, up to the marks of their logs.
    pub filled: BTreeMap<CohortId, SlotSet>,
    /// The cohort that the member opened its last log for, and the slots of which everything is
    /// here that was written before that cohort.
    pub inherited: Option<(CohortId, SlotSet)>,
    /// The number of the next view when the disk was last used, if the member is in that.
    pub next: Option<u64>,
}

/// The marks of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Durable here up to this seq, without gaps.
    pub applied: u64,
    /// Durable at all that share the log, up to this seq.
    pub stable: u64,
    /// The index of dots is complete above this seq.
    pub indexed_from: u64,
    /// The known end of the log.
    pub seal: Option<Seal>,
}

/// The known end of a closed log: how far it is wherever a later log of its member has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Seal {
    /// The incarnation of the later log: a replica with a write of that log ...
    pub by: u64,
    /// ... has all of the earlier one up to here.
    pub upto: u64,
}

/// Logs of one member that every replica had in full and that are no longer tracked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Finished {
    /// All incarnations below this one, but for those that are still tracked.
    pub below: u64,
    /// The latest finished incarnations, ascending, with their last seq.
    pub recent: Vec<(u64, u64)>,
}

checked_when_read!(Seal, Finished);

impl Seal {
    fn check(self) -> Result<(), Unsound> {
        ensure_incarnation(self.by)?;
        ensure_seq(self.upto)
    }
}

impl Finished {
    fn check(&self) -> Result<(), Unsound> {
        ensure_incarnation(self.below)?;
        let ascends = self.recent.is_sorted_by(|one, next| one.0 < next.0);
        ensure(ascends, "finished logs out of order")?;
        self.recent.iter().try_for_each(|(incarnation, last)| {
            ensure_incarnation(*incarnation)?;
            ensure_seq(*last)
        })
    }

    /// Whether an incarnation is known to be finished. A log that is still tracked is not asked
    /// about.
    #[must_use]
    pub fn contains(&self, incarnation: u64) -> bool {
        incarnation < self.below || self.last_seq(incarnation).is_some()
    }

    /// The last seq of an incarnation that is remembered by itself.
    #[must_use]
    pub fn last_seq(&self, incarnation: u64) -> Option<u64> {
        self.recent
            .binary_search_by_key(&incarnation, |e| e.0)
            .ok()
            .map(|at| self.recent[at].1)
    }

    /// The latest finished incarnation, 0 when there is none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        let latest = self.recent.last().map_or(0, |e| e.0);
        latest.max(self.below.saturating_sub(1))
    }

    /// Adds an incarnation. Only `most` are remembered one by one, and older ones told by their
    /// order, so that a clock which ran backwards between two starts does no harm.
    pub fn insert(&mut self, incarnation: u64, last_seq: u64, most: usize) {
        if let Err(at) = self.recent.binary_search_by_key(&incarnation, |e| e.0) {
            self.recent.insert(at, (incarnation, last_seq));
        }
        if self.recent.len() > most {
            met(Bound::Finished);
            let (oldest, _) = self.recent.remove(0);
            self.below = self.below.max(oldest + 1);
        }
    }

    /// Adds what another replica knows.
    pub fn join(&mut self, other: &Finished, most: usize) {
        self.below = self.below.max(other.below);
        for &(incarnation, last) in &other.recent {
            self.insert(incarnation, last, most);
        }
    }
}

/// Live keys and tombstones in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCounts {
    /// Keys with a value.
    pub live: u64,
    /// Deleted keys that are still remembered.
    pub tombstones: u64,
}

/// The keys of a run of dots of one log: `first`, `first + 1`, ...
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRun {
    /// The seq of the first dot.
    pub first: u64,
    /// The key of each dot, in order; empty for one in a slot that is not kept here.
    pub keys: Vec<Key>,
}

/// Bytes that are written as they are: a slice would be written number by number.
#[derive(Deserialize)]
struct Raw<'a>(#[serde(borrow)] &'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

#[derive(Serialize, Deserialize)]
struct StoredVersion<'a> {
    #[serde(borrow)]
    value: Option<Raw<'a>>,
    stamp: Stamp,
    dot: Dot,
    wall_ms: u64,
    deps: Cow<'a, Context>,
}

/// The store key of a data key.
#[must_use]
pub fn data_key(key: &[u8]) -> Bytes {
    slot_key(Slot::of(key), key)
}

/// The store key of a data key whose slot is known.
#[must_use]
pub fn slot_key(slot: Slot, key: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(3 + key.len());
    out.put_u8(b'd');
    out.put_u16(slot.0);
    out.put_slice(key);
    out.freeze()
}

/// All data keys.
pub const DATA: (&[u8], &[u8]) = (b"d", b"e");

/// Whether a store key is that of a data key.
#[must_use]
pub fn is_data(store_key: &[u8]) -> bool {
    store_key.starts_with(DATA.0)
}

/// The data key of a store key.
#[must_use]
pub fn key_of(data_key: &Bytes) -> Key {
    data_key.slice(3.min(data_key.len())..)
}

fn put_log(out: &mut BytesMut, log: LogId) {
    out.put_u16(log.member.0);
    out.put_u64(log.incarnation);
}

/// The log that the key of a log's marks, of an index run or of an early version names.
#[must_use]
pub fn log_of(store_key: &[u8]) -> Option<LogId> {
    let member = store_key.get(1..3)?.try_into().ok()?;
    let incarnation = store_key.get(3..11)?.try_into().ok()?;
    Some(LogId {
        member: MemberId(u16::from_be_bytes(member)),
        incarnation: u64::from_be_bytes(incarnation),
    })
}

/// The seq in the key of an index run (its last) or of an early version.
#[must_use]
pub fn seq_of(store_key: &[u8]) -> Option<u64> {
    let seq = store_key.get(11..19)?.try_into().ok()?;
    Some(u64::from_be_bytes(seq))
}

/// The cohort and the member that the key of finished logs names.
#[must_use]
pub fn cohort_of(store_key: &[u8]) -> Option<(CohortId, MemberId)> {
    let partition = store_key.get(1..5)?.try_into().ok()?;
    let since = store_key.get(5..13)?.try_into().ok()?;
    let member = store_key.get(13..15)?.try_into().ok()?;
    let cohort = CohortId {
        partition: PartitionId(u32::from_be_bytes(partition)),
        since: u64::from_be_bytes(since),
    };
    Some((cohort, MemberId(u16::from_be_bytes(member))))
}

/// The index key of a run that ends at `last`.
#[must_use]
pub fn index_key(log: LogId, last: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(19);
    out.put_u8(b'u');
    put_log(&mut out, log);
    out.put_u64(last);
    out.freeze()
}

/// The key of a version that came ahead of its log.
#[must_use]
pub fn early_key(dot: Dot, key: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(19 + key.len());
    out.put_u8(b'e');
    put_log(&mut out, dot.log);
    out.put_u64(dot.seq);
    out.put_slice(key);
    out.freeze()
}

/// The store key before all tombstones.
pub const TOMBSTONES: &[u8] = b"t";

/// The key of a tombstone in the order of collection.
#[must_use]
pub fn tombstone_key(stamp: Stamp, key: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(11 + key.len());
    out.put_u8(b't');
    out.put_u64(stamp.ts.0);
    out.put_u16(stamp.by.0);
    out.put_slice(key);
    out.freeze()
}

/// The first key past all tombstones up to and including `ts`.
#[must_use]
pub fn tombstones_after(ts: Timestamp) -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    out.put_u8(b't');
    out.put_u64(ts.0.saturating_add(1));
    out.freeze()
}

/// The stamp and key of a tombstone's key.
#[must_use]
pub fn tombstone_of(store_key: &Bytes) -> Option<(Stamp, Key)> {
    let ts = store_key.get(1..9)?.try_into().ok()?;
    let by = store_key.get(9..11)?.try_into().ok()?;
    let stamp = Stamp {
        ts: Timestamp(u64::from_be_bytes(ts)),
        by: MemberId(u16::from_be_bytes(by)),
    };
    Some((stamp, store_key.slice(11..)))
}

/// The key of a log's record.
#[must_use]
pub fn log_key(log: LogId) -> Bytes {
    let mut out = BytesMut::with_capacity(11);
    out.put_u8(b'l');
    put_log(&mut out, log);
    out.freeze()
}

/// The key of a member's finished logs for a cohort.
#[must_use]
pub fn finished_key(cohort: CohortId, member: MemberId) -> Bytes {
    let mut out = BytesMut::with_capacity(15);
    out.put_u8(b'f');
    out.put_u32(cohort.partition.0);
    out.put_u64(cohort.since);
    out.put_u16(member.0);
    out.freeze()
}

/// A record as bytes.
#[must_use]
pub fn encode<T: Serialize>(record: &T) -> Bytes {
    encode_sized(record, 32)
}

/// A record as bytes, about `size` of them.
fn encode_sized<T: Serialize>(record: &T, size: usize) -> Bytes {
    let mut out = Vec::with_capacity(size);
    out.push(RECORD);
    // Only a value that reports an error while it is being serialised can fail: none of ours does.
    postcard::to_extend(record, out)
        .map(Bytes::from)
        .unwrap_or_default()
}

/// A record from bytes.
///
/// # Errors
/// When the bytes are not such a record, or of a version that this program does not know.
pub fn decode<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, StoreError> {
    let damaged = |detail: String| StoreError::Corrupt {
        what: format!("record {what:?}"),
        detail,
    };
    match bytes.split_first() {
        Some((&RECORD, rest)) => postcard::from_bytes(rest).map_err(|e| damaged(e.to_string())),
        Some((other, _)) => Err(StoreError::Format {
            what: format!("record {what:?}"),
            found: other.to_string(),
            known: RECORD.to_string(),
        }),
        None => Err(damaged("it is empty".into())),
    }
}

/// A version as bytes; the key is the store key's.
#[must_use]
pub fn encode_version(version: &Version) -> Bytes {
    let stored = StoredVersion {
        value: version.value.as_deref().map(Raw),
        stamp: version.stamp,
        dot: version.dot,
        wall_ms: version.wall_ms,
        deps: Cow::Borrowed(&version.deps),
    };
    encode_sized(&stored, version.size())
}

/// A version from its record. The value shares the record's memory.
///
/// # Errors
/// As [`decode`].
pub fn decode_version(key: Key, bytes: &Bytes) -> Result<Version, StoreError> {
    let stored: StoredVersion = decode("version", bytes)?;
    Ok(Version {
        key,
        value: stored.value.map(|Raw(v)| bytes.slice_ref(v)),
        stamp: stored.stamp,
        dot: stored.dot,
        wall_ms: stored.wall_ms,
        deps: stored.deps.into_owned(),
    })
}

/// The stored version of a key.
///
/// # Errors
/// When the store fails.
pub fn load<S: Store + ?Sized>(store: &S, key: &Key) -> Result<Option<Version>, StoreError> {
    load_at(store, &data_key(key))
}

/// The version under a store key.
///
/// # Errors
/// When the store fails.
pub fn load_at<S: Store + ?Sized>(store: &S, place: &Bytes) -> Result<Option<Version>, StoreError> {
    store
        .get(place)?
        .map(|bytes| decode_version(key_of(place), &bytes))
        .transpose()
}

/// A record under a fixed key.
///
/// # Errors
/// When the store fails or the record is damaged.
pub fn load_record<S: Store + ?Sized, T: for<'a> Deserialize<'a>>(
    store: &S,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    store
        .get(key)?
        .map(|bytes| decode(&String::from_utf8_lossy(key), &bytes))
        .transpose()
}

/// All logs that the store knows.
///
/// # Errors
/// When the store fails or a record is damaged.
pub fn load_logs<S: Store + ?Sized>(store: &S) -> Result<Vec<(LogId, LogRecord)>, StoreError> {
    collect(store, b"l", b"m", |key, value| {
        let log = log_of(key)?;
        Some(decode("log", value).map(|record| (log, record)))
    })
}

/// Versions that came ahead of their logs.
///
/// # Errors
/// When the store fails or a key is too short.
pub fn load_early<S: Store + ?Sized>(store: &S) -> Result<BTreeMap<Dot, Key>, StoreError> {
    let early = collect(store, b"e", b"f", |key, _| {
        let (log, seq) = (log_of(key)?, seq_of(key)?);
        Some(Ok((Dot { log, seq }, key.slice(19..))))
    })?;
    Ok(early.into_iter().collect())
}

/// The key of the newest timestamp of a delete in a slot that has been forgotten.
#[must_use]
pub fn forgotten_key(slot: Slot) -> Bytes {
    let mut key = BytesMut::with_capacity(3);
    key.put_u8(b'g');
    key.put_u16(slot.0);
    key.freeze()
}

/// For each slot in which deletes have been forgotten, the timestamp of the newest one.
///
/// # Errors
/// When the store fails or a record is damaged.
pub fn load_forgotten<S: Store + ?Sized>(
    store: &S,
) -> Result<BTreeMap<Slot, Timestamp>, StoreError> {
    let forgotten = collect(store, b"g", b"h", |key, value| {
        let slot = key.get(1..3)?.try_into().ok().map(u16::from_be_bytes)?;
        Some(decode("forgotten deletes", value).map(|ts| (Slot(slot), ts)))
    })?;
    Ok(forgotten.into_iter().collect())
}

/// Finished logs by cohort and member.
///
/// # Errors
/// When the store fails or a record is damaged.
pub fn load_finished<S: Store + ?Sized>(
    store: &S,
) -> Result<BTreeMap<(CohortId, MemberId), Finished>, StoreError> {
    let finished = collect(store, b"f", b"g", |key, value| {
        let place = cohort_of(key)?;
        Some(decode("finished logs", value).map(|record| (place, record)))
    })?;
    Ok(finished.into_iter().collect())
}

fn collect<S: Store + ?Sized, T>(
    store: &S,
    from: &[u8],
    to: &[u8],
    parse: impl Fn(&Bytes, &Bytes) -> Option<Result<T, StoreError>>,
) -> Result<Vec<T>, StoreError> {
    let mut found = Vec::new();
    store.scan(from, to, &mut |key, value| {
        found.push(parse(&key, &value).unwrap_or_else(|| {
            Err(StoreError::Corrupt {
                what: format!("key {key:?}"),
                detail: "it is too short".into(),
            })
        }));
        true
    })?;
    found.into_iter().collect()
}
