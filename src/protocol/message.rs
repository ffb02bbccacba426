//! The messages between replicas.

use super::clock::Timestamp;
use super::ids::{Dot, LogId, MemberId};
use super::record::{Finished, Seal};
use super::slots::{Slot, SlotSet};
use super::sound::{Unsound, checked_when_read, ensure, ensure_incarnation, ensure_seq};
use super::version::{Key, LONGEST_KEY, Version, ensure_key};
use super::views::CohortId;
use serde::{Deserialize, Serialize};

/// A one-way message between members. It may be lost; nothing depends on a single one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub enum Message {
    /// From the writer of an open log to those that share it.
    Append(Append),
    /// The answer to [`Append`], once that is durable.
    Ack(Ack),
    /// To those that share a log with the sender.
    Gossip(Gossip),
    /// To members of other partitions.
    Beacon(Beacon),
    /// To a member that has writes which the sender lacks.
    Pull(Pull),
    /// The answer to [`Pull`].
    Range(Range),
    /// To a member that has keys which the sender lacks.
    SnapshotPull(SnapshotPull),
    /// The answer to [`SnapshotPull`].
    SnapshotChunk(SnapshotChunk),
    /// Versions that came to the sender ahead of their logs, for a member that holds their slots
    /// now.
    Early(Vec<Early>),
    /// The early versions that are durable at the sender, as they are or as newer ones.
    EarlyKept(Vec<(Dot, Key)>),
    /// The receiver uses an incarnation that is not newer than one the sender has met.
    Outdated {
        /// The newest incarnation of the receiver that the sender has met.
        known: u64,
    },
}

checked_when_read!(Message);

/// Bytes of the longest key in the store.
const LONGEST_STORE_KEY: usize = 3 + LONGEST_KEY;

impl Message {
    /// Beside what holds of its parts, which were looked at where each was read. Few steps for each
    /// version, since every write of the cluster passes here.
    fn check(&self) -> Result<(), Unsound> {
        match self {
            Self::Append(append) => append.check(),
            Self::Ack(ack) => {
                ensure_seq(ack.applied)?;
                ensure_seq(ack.received)
            }
            Self::Gossip(gossip) => {
                ensure_seq(gossip.head)?;
                ensure_reports(&gossip.logs)
            }
            Self::Beacon(beacon) => {
                let mut stable = beacon.stable.iter();
                stable.try_for_each(|(_, seq)| ensure_seq(*seq))?;
                let mut over = beacon.over.iter();
                over.try_for_each(|(_, _, incarnation)| ensure_incarnation(*incarnation))
            }
            Self::Pull(pull) => ensure_seq(pull.after),
            Self::Range(range) => range.check(),
            Self::SnapshotPull(pull) => ensure_place(&pull.after),
            Self::SnapshotChunk(chunk) => {
                ensure_place(&chunk.after)?;
                chunk.upto.as_ref().map_or(Ok(()), ensure_place)?;
                ensure_reports(&chunk.logs)
            }
            Self::Early(_) => Ok(()),
            Self::EarlyKept(kept) => kept.iter().try_for_each(|(_, key)| ensure_key(key)),
            Self::Outdated { known } => ensure_incarnation(*known),
        }
    }
}

fn ensure_reports(reports: &[LogReport]) -> Result<(), Unsound> {
    reports.iter().try_for_each(|report| {
        ensure_seq(report.applied)?;
        ensure_seq(report.stable)
    })
}

/// The seals by which a log begins name incarnations, and not logs.
fn ensure_begun(seals: &[(u64, Seal)]) -> Result<(), Unsound> {
    let mut seals = seals.iter();
    seals.try_for_each(|(incarnation, _)| ensure_incarnation(*incarnation))
}

/// A place in the order of store keys.
fn ensure_place(key: &Key) -> Result<(), Unsound> {
    let fits = key.len() <= LONGEST_STORE_KEY;
    ensure(fits, "a place behind a key that is too long")
}

/// A run of the sender's open log, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The seq of the first version.
    pub first: u64,
    /// One for each seq from `first` on.
    pub versions: Vec<Version>,
    /// The log's stable mark at its writer.
    pub stable: u64,
    /// With the first write: the earlier logs of the writer, by incarnation, that have to be there
    /// before it.
    pub seals: Vec<(u64, Seal)>,
}

impl Append {
    fn check(&self) -> Result<(), Unsound> {
        ensure(self.first > 0, "a write before the first of its log")?;
        ensure_seq(self.first)?;
        ensure_seq(self.stable)?;
        ensure_begun(&self.seals)?;
        let mut seqs = (self.first..).zip(&self.versions);
        let in_order = seqs.all(|(seq, version)| version.dot.seq == seq);
        ensure(in_order, "a run of a log that is out of order")
    }
}

/// How far the receiver of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The log that was streamed.
    pub log: LogId,
    /// Durable up to here.
    pub applied: u64,
    /// Taken in up to here, durable soon.
    pub received: u64,
    /// Set when something in between is missing: go back to `received + 1`.
    pub gap: bool,
    /// Digest of the members that share the log and their incarnations, as the sender knows them.
    pub met: u64,
}

/// How far the sender is in one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReport {
    /// The log reported about.
    pub log: LogId,
    /// Durable at the sender up to this seq.
    pub applied: u64,
    /// Stable, as far as the sender knows, up to this seq.
    pub stable: u64,
}

/// Watermarks and liveness, ten times a second, to members that share logs with the sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gossip {
    /// The sender's clock, which ticks for each gossip: of two in one incarnation, the later one
    /// has the greater clock.
    pub clock: Timestamp,
    /// The sender's wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
    /// Whether the sender serves reads of its partition.
    pub serving: bool,
    /// Whether the sender's disk was empty and it knows of nobody who has data.
    pub fresh: bool,
    /// Whether nothing on the sender's disk can be counted on, whoever may have data.
    pub empty: bool,
    /// The open log of each peer, as far as the sender has heard.
    pub open: Vec<LogId>,
    /// For each cohort whose logs the sender tracks: a digest of the members that it knows to share
    /// them, and of their incarnations.
    pub met: Vec<(CohortId, u64)>,
    /// The cohorts of which the sender has everything, up to its marks.
    pub filled: Vec<CohortId>,
    /// Every log that the sender tracks.
    pub logs: Vec<LogReport>,
    /// Logs that are finished and no longer tracked, by cohort and member.
    pub finished: Vec<(CohortId, MemberId, Finished)>,
    /// The sender's log has no write with a timestamp up to `promise` after seq `head`.
    pub head: u64,
    /// See `head`.
    pub promise: Timestamp,
    /// The sender has applied every write with a timestamp up to here that it is to have.
    pub floor: Timestamp,
    /// Asks for gossip in return, at once.
    pub reply: bool,
}

/// Stable marks and the clock, regularly, to members of other partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// The sender's clock.
    pub clock: Timestamp,
    /// The sender's wall clock, in milliseconds since 1970; 0 when it says nothing of it.
    pub wall_ms: u64,
    /// Whether the sender serves reads of its partition.
    pub serving: bool,
    /// The version of the views that the sender goes by.
    pub version: u64,
    /// Stable marks of the logs that the sender tracks.
    pub stable: Vec<(LogId, u64)>,
    /// Logs of a member for a cohort up to this incarnation are finished, but for those in
    /// `stable`.
    pub over: Vec<(MemberId, CohortId, u64)>,
}

/// Asks for a log's writes after `after`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// The log whose writes are missing.
    pub log: LogId,
    /// The last seq that the asker has without a gap.
    pub after: u64,
    /// The slots of which the versions are wanted.
    pub slots: SlotSet,
}

/// A part of a log, found through the index of unstable dots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The log that was asked for.
    pub log: LogId,
    /// As in the question.
    pub after: u64,
    /// The keys of the dots `after + 1`, `after + 2`, ...; empty for a key in a slot that the
    /// sender does not hold.
    pub keys: Vec<Key>,
    /// For each of those keys the sender's version: that write, or a newer one. A key without one
    /// was deleted and collected.
    pub versions: Vec<Version>,
    /// Set when the index no longer reaches back to `after`: only a snapshot helps.
    pub too_old: bool,
    /// As in [`Append`], when it begins with the first write.
    pub seals: Vec<(u64, Seal)>,
}

impl Range {
    fn check(&self) -> Result<(), Unsound> {
        ensure_seq(self.after)?;
        ensure_begun(&self.seals)?;
        let fit = self.keys.iter().all(|key| key.len() <= LONGEST_KEY);
        ensure(fit, "a key that is too long")
    }
}

/// A version that came ahead of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Early {
    /// As which write it came.
    pub dot: Dot,
    /// The version of that write, or a newer one of its key.
    pub version: Version,
}

/// Asks for the versions of all keys after a place in the order of slots and keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPull {
    /// Chosen by the asker, so that it knows which snapshot an answer belongs to.
    pub id: u64,
    /// The cohort whose keys are wanted.
    pub cohort: CohortId,
    /// Those of the cohort's slots that are wanted.
    pub slots: SlotSet,
    /// The last store key received; empty at the start.
    pub after: Key,
    /// Bytes of the answer, at most, but for a single larger version.
    pub bytes: u32,
}

/// A part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotChunk {
    /// As in the question.
    pub id: u64,
    /// As in the question.
    pub after: Key,
    /// The last store key that this chunk covers; `None` when it reaches the end.
    pub upto: Option<Key>,
    /// The versions after `after` and up to `upto`, in the order of their store keys.
    pub versions: Vec<Version>,
    /// How far the sender was in the cohort's logs before it read the chunk.
    pub logs: Vec<LogReport>,
    /// Logs of the cohort that are finished and no longer tracked, by member.
    pub finished: Vec<(MemberId, Finished)>,
    /// The known ends of those logs.
    pub seals: Vec<(LogId, Seal)>,
    /// The sender has promised to take no write up to this timestamp, and deletes up to it may be
    /// forgotten.
    pub promise: Timestamp,
    /// In the first chunk: for those of the slots in which the sender has forgotten deletes, when
    /// the newest was made.
    pub forgotten: Vec<(Slot, Timestamp)>,
    /// Clients are at work at the sender.
    pub busy: bool,
}
