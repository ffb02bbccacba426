//! What is on its way to the disk: the next batch while it is gathered, and the batches that were
//! handed out.
//!
//! [`Staging`] is the only one that numbers batches, and knows for each store key what will be
//! there when all of them are durable.

use crate::protocol::clock::Timestamp;
use crate::protocol::ids::{Dot, LogId};
use crate::protocol::limits::{Bound, met};
use crate::protocol::record::{self, IndexRun, KeyCounts, LogRecord};
use crate::protocol::store::Batch;
use crate::protocol::version::{Key, Version};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Bytes that a dot takes in the index beside its key, about.
const DOT_BYTES: usize = 16;

/// What the next batch will hold.
#[derive(Default)]
struct Staged {
    /// Store keys whose newest version, in `inflight`, is to be written or removed.
    places: Vec<Bytes>,
    /// Dots to index, in order per log.
    index: BTreeMap<LogId, IndexRun>,
    /// The numbers of keys have changed.
    counts: bool,
    /// Further records.
    records: Batch,
    bytes: usize,
}

/// A batch that is on its way to the disk.
pub(super) struct PendingBatch {
    pub(super) no: u64,
    /// How far each log will be applied.
    pub(super) applied: Vec<(LogId, u64)>,
    places: Vec<Bytes>,
    bytes: usize,
    /// The promise that the batch makes durable.
    pub(super) promise: Option<Timestamp>,
}

/// A version that is handed in but not durable yet.
struct Inflight {
    /// The batch that the version is, or will be, in.
    batch: u64,
    /// `None`: the key is being removed.
    version: Option<Version>,
}

/// All that is on its way to the disk.
pub(super) struct Staging {
    staged: Staged,
    batches: VecDeque<PendingBatch>,
    next_batch: u64,
    durable_batch: u64,
    /// Versions that are not durable yet, by store key.
    inflight: BTreeMap<Bytes, Inflight>,
    /// Bytes of the batches that were handed out.
    inflight_bytes: usize,
    counts: KeyCounts,
    /// A batch has become durable, since this was last asked for.
    moved: bool,
}

impl Staging {
    /// Nothing, after so many batches of earlier replicas of this process; `counts` is what the
    /// disk says.
    pub(super) fn new(batches: u64, counts: KeyCounts) -> Self {
        Self {
            staged: Staged::default(),
            batches: VecDeque::new(),
            next_batch: batches + 1,
            durable_batch: batches,
            inflight: BTreeMap::new(),
            inflight_bytes: 0,
            counts,
            moved: false,
        }
    }

    /// Whether readers have to be told, since the last call.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// The number of the batch that is being gathered.
    pub(super) fn next_batch(&self) -> u64 {
        self.next_batch
    }

    /// Whether a batch is durable.
    pub(super) fn is_durable(&self, no: u64) -> bool {
        no <= self.durable_batch
    }

    /// Whether nothing is on its way to the disk.
    pub(super) fn is_empty(&self) -> bool {
        let staged = &self.staged;
        let nothing = staged.places.is_empty() && staged.records.is_empty() && !staged.counts;
        nothing && self.batches.is_empty()
    }

    /// Bytes that are on their way to the disk.
    pub(super) fn bytes(&self) -> usize {
        self.inflight_bytes + self.staged.bytes
    }

    /// Live keys and tombstones, when all that is staged is durable.
    pub(super) fn counts(&self) -> KeyCounts {
        self.counts
    }

    /// What is on its way to a store key: a version or, inside, `None` for a removal.
    pub(super) fn newest(&self, place: &Bytes) -> Option<Option<&Version>> {
        let inflight = self.inflight.get(place)?;
        Some(inflight.version.as_ref())
    }

    /// The batch with the newest of what is on its way to a store key.
    pub(super) fn batch_of(&self, place: &Bytes) -> Option<u64> {
        self.inflight.get(place).map(|i| i.batch)
    }

    /// Whether anything is on its way to a store key.
    pub(super) fn contains(&self, place: &Bytes) -> bool {
        self.inflight.contains_key(place)
    }

    /// Writes a record that is no version of a key.
    pub(super) fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.staged.records.put(key, value);
    }

    /// Deletes such a record.
    pub(super) fn delete(&mut self, key: impl Into<Bytes>) {
        self.staged.records.delete(key);
    }

    /// Puts a version into the store in place of `current`, which it beats.
    pub(super) fn write(&mut self, place: Bytes, version: Version, current: Option<&Version>) {
        self.count(current, Some(&version));
        if version.value.is_none() {
            let key = record::tombstone_key(version.stamp, &version.key);
            self.put(key, Bytes::new());
        }
        self.replace(place, Some(version));
    }

    /// Takes a store key out of the store; `current` is what is there.
    pub(super) fn remove(&mut self, place: Bytes, current: &Version) {
        self.count(Some(current), None);
        self.replace(place, None);
    }

    /// Has the next batch write or remove what is at a store key. The numbers of keys stay as they
    /// are.
    pub(super) fn replace(&mut self, place: Bytes, version: Option<Version>) {
        self.staged.bytes += version.as_ref().map_or(place.len(), Version::size);
        let batch = self.next_batch;
        let inflight = Inflight { batch, version };
        let before = self.inflight.insert(place.clone(), inflight);
        if before.is_none_or(|b| b.batch != batch) {
            self.staged.places.push(place);
        }
    }

    fn count(&mut self, before: Option<&Version>, after: Option<&Version>) {
        let live = |v: Option<&Version>| u64::from(v.is_some_and(|v| v.value.is_some()));
        let dead = |v: Option<&Version>| u64::from(v.is_some_and(|v| v.value.is_none()));
        let counts = &mut self.counts;
        counts.live = (counts.live + live(after)).saturating_sub(live(before));
        counts.tombstones = (counts.tombstones + dead(after)).saturating_sub(dead(before));
        self.staged.counts = true;
    }

    /// Adds the next dot of a log to the log's run. How many dots the run has now.
    pub(super) fn index(&mut self, dot: Dot, key: Key) -> usize {
        self.staged.bytes += key.len() + DOT_BYTES;
        let new = || IndexRun {
            first: dot.seq,
            keys: Vec::new(),
        };
        let run = self.staged.index.entry(dot.log).or_insert_with(new);
        run.keys.push(key);
        run.keys.len()
    }

    /// Ends the run of a log that is being gathered. False if there is none.
    pub(super) fn close_run(&mut self, log: LogId) -> bool {
        let Some(run) = self.staged.index.remove(&log) else {
            return false;
        };
        let last = run.first + run.keys.len() as u64 - 1;
        self.put(record::index_key(log, last), record::encode(&run));
        true
    }

    /// The logs that have a run which is being gathered.
    pub(super) fn open_runs(&self) -> Vec<LogId> {
        self.staged.index.keys().copied().collect()
    }

    /// Whether the next batch can be handed out: no other one is on its way, or so many bytes wait.
    pub(super) fn may_hand_out(&self, batch_bytes: usize) -> bool {
        if self.batches.is_empty() {
            return true;
        }
        let large = self.staged.bytes >= batch_bytes;
        if large {
            met(Bound::Batch);
        }
        large
    }

    /// Hands out what is staged, with the records of the logs that changed, as one batch. `None` if
    /// there is nothing.
    pub(super) fn hand_out(
        &mut self,
        logs: impl Iterator<Item = (LogId, LogRecord)>,
        promise: Option<Timestamp>,
        clock: Timestamp,
    ) -> Option<(u64, Batch)> {
        debug_assert!(self.staged.index.is_empty(), "a run is still open");
        let Staged {
            places,
            counts,
            records: mut batch,
            bytes,
            ..
        } = std::mem::take(&mut self.staged);
        for place in &places {
            let newest = self.inflight.get(place);
            match newest.and_then(|i| i.version.as_ref()) {
                Some(version) => batch.put(place.clone(), record::encode_version(version)),
                None => batch.delete(place.clone()),
            }
        }
        let mut applied = Vec::new();
        for (id, record) in logs {
            applied.push((id, record.applied));
            batch.put(record::log_key(id), record::encode(&record));
        }
        if counts {
            batch.put(record::COUNTS, record::encode(&self.counts));
        }
        if batch.is_empty() {
            return None;
        }
        batch.put(record::CLOCK, record::encode(&clock));
        let no = self.next_batch;
        self.next_batch += 1;
        self.inflight_bytes += bytes;
        self.batches.push_back(PendingBatch {
            no,
            applied,
            places,
            bytes,
            promise,
        });
        Some((no, batch))
    }

    /// Takes note that the next batch is durable, if its number is at most this.
    pub(super) fn settle(&mut self, upto: u64) -> Option<PendingBatch> {
        let batch = self.batches.pop_front_if(|b| b.no <= upto)?;
        self.durable_batch = batch.no;
        for place in &batch.places {
            let newest = self.inflight.get(place);
            // A later batch may have a newer version.
            if newest.is_some_and(|i| i.batch == batch.no) {
                self.inflight.remove(place);
            }
        }
        self.inflight_bytes -= batch.bytes;
        self.moved = true;
        Some(batch)
    }

    /// The promises that are on their way to the disk.
    pub(super) fn promises(&self) -> impl Iterator<Item = Timestamp> {
        self.batches.iter().filter_map(|b| b.promise)
    }

    /// Asserts what must hold of the batches; `received` says how far a log has been taken in.
    pub(super) fn check(&self, received: impl Fn(LogId) -> Option<u64>) {
        let mut no = self.durable_batch;
        for batch in &self.batches {
            no += 1;
            assert_eq!(batch.no, no, "batches are numbered one after the other");
            for (id, upto) in &batch.applied {
                assert!(
                    received(*id).is_none_or(|received| *upto <= received),
                    "{id}: a batch holds more than was taken in"
                );
            }
        }
        assert_eq!(self.next_batch, no + 1, "the next batch follows");
        let bytes: usize = self.batches.iter().map(|b| b.bytes).sum();
        assert_eq!(bytes, self.inflight_bytes, "bytes on their way");
    }

    /// Asserts what must hold of the versions on their way, in a pass over all of them.
    pub(super) fn check_inflight(&self) {
        let batches = self.durable_batch + 1..=self.next_batch;
        let mut staged = 0;
        for (place, Inflight { batch, .. }) in &self.inflight {
            assert!(batches.contains(batch), "{place:?} is in batch {batch}");
            staged += usize::from(*batch == self.next_batch);
        }
        let places: BTreeSet<_> = self.staged.places.iter().collect();
        assert_eq!(places.len(), self.staged.places.len(), "staged once");
        assert_eq!(places.len(), staged, "what is staged is on its way");
        assert!(places.iter().all(|p| self.inflight.contains_key(*p)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::context::Context;
    use crate::protocol::ids::MemberId;
    use crate::protocol::version::Stamp;

    const LOG: LogId = LogId {
        member: MemberId(0),
        incarnation: 7,
    };

    fn version(key: &'static str, seq: u64, value: Option<&'static str>) -> Version {
        Version {
            key: Key::from_static(key.as_bytes()),
            value: value.map(|v| Bytes::from_static(v.as_bytes())),
            stamp: Stamp {
                ts: Timestamp::from_ms(seq),
                by: MemberId(0),
            },
            dot: Dot { log: LOG, seq },
            wall_ms: seq,
            deps: Context::default(),
        }
    }

    fn place(key: &'static str) -> Bytes {
        record::data_key(key.as_bytes())
    }

    fn hand_out(staging: &mut Staging) -> Option<(u64, Batch)> {
        let handed = staging.hand_out(std::iter::empty(), None, Timestamp::default());
        staging.check(|_| None);
        staging.check_inflight();
        handed
    }

    /// What a batch does to a store key.
    fn does<'a>(batch: &'a Batch, key: &Bytes) -> Option<&'a Option<Bytes>> {
        let mut ops = batch.ops.iter();
        ops.find(|(k, _)| k == key).map(|(_, value)| value)
    }

    #[test]
    fn what_is_on_its_way_is_the_newest_until_its_batch_is_durable() {
        let mut staging = Staging::new(4, KeyCounts::default());
        assert!(staging.is_empty() && staging.newest(&place("a")).is_none());
        let (one, two) = (version("a", 1, Some("x")), version("a", 2, Some("y")));
        staging.write(place("a"), one.clone(), None);
        let (no, batch) = hand_out(&mut staging).unwrap();
        assert_eq!(no, 5, "batches go on from those of earlier replicas");
        let written = does(&batch, &place("a")).unwrap().clone().unwrap();
        assert_eq!(written, record::encode_version(&one));
        staging.write(place("a"), two.clone(), Some(&one));
        hand_out(&mut staging).unwrap();
        assert!(staging.settle(5).is_some() && staging.settle(5).is_none());
        assert_eq!(
            staging.newest(&place("a")),
            Some(Some(&two)),
            "the next batch has it"
        );
        assert!(staging.is_durable(5) && !staging.is_durable(6));
        assert!(staging.settle(6).is_some());
        assert!(staging.is_empty() && !staging.contains(&place("a")));
        assert_eq!(staging.bytes(), 0);
    }

    #[test]
    fn a_batch_holds_only_the_last_of_several_versions_of_a_key() {
        let mut staging = Staging::new(0, KeyCounts::default());
        let one = version("a", 1, Some("x"));
        staging.write(place("a"), one.clone(), None);
        staging.remove(place("a"), &one);
        let (_, batch) = hand_out(&mut staging).unwrap();
        let ops = batch.ops.iter().filter(|(key, _)| *key == place("a"));
        assert_eq!(ops.count(), 1);
        assert_eq!(does(&batch, &place("a")), Some(&None));
        assert_eq!(
            staging.newest(&place("a")),
            Some(None),
            "it is being removed"
        );
    }

    #[test]
    fn keys_and_tombstones_are_counted_as_they_come_and_go() {
        let mut staging = Staging::new(0, KeyCounts::default());
        let counts = |staging: &Staging| (staging.counts().live, staging.counts().tombstones);
        let (value, gone) = (version("a", 1, Some("x")), version("a", 2, None));
        staging.write(place("a"), value.clone(), None);
        assert_eq!(counts(&staging), (1, 0));
        staging.write(place("a"), gone.clone(), Some(&value));
        assert_eq!(counts(&staging), (0, 1));
        staging.remove(place("a"), &gone);
        assert_eq!(counts(&staging), (0, 0));
        let (_, batch) = hand_out(&mut staging).unwrap();
        let tombstone = record::tombstone_key(gone.stamp, &gone.key);
        assert!(does(&batch, &tombstone).is_some());
        assert!(does(&batch, &Bytes::from_static(record::COUNTS)).is_some());
    }

    #[test]
    fn nothing_is_handed_out_when_nothing_is_staged() {
        let mut staging = Staging::new(0, KeyCounts::default());
        assert_eq!(hand_out(&mut staging), None);
        assert_eq!(staging.next_batch(), 1);
    }

    #[test]
    fn one_batch_is_on_its_way_unless_the_next_one_is_large() {
        let mut staging = Staging::new(0, KeyCounts::default());
        assert!(staging.may_hand_out(1_000_000));
        staging.put("k", "v");
        hand_out(&mut staging).unwrap();
        staging.write(place("a"), version("a", 1, Some("x")), None);
        assert!(!staging.may_hand_out(1_000_000));
        assert!(staging.may_hand_out(1));
    }

    #[test]
    fn readers_are_told_when_a_batch_is_durable() {
        let mut staging = Staging::new(0, KeyCounts::default());
        staging.put("k", "v");
        hand_out(&mut staging).unwrap();
        assert!(!staging.take_moved());
        assert!(staging.settle(0).is_none() && !staging.take_moved());
        let batch = staging.settle(1).unwrap();
        assert_eq!((batch.applied, batch.promise), (Vec::new(), None));
        assert!(staging.take_moved() && !staging.take_moved());
    }

    #[test]
    fn a_run_of_dots_becomes_one_record_under_its_last_seq() {
        let mut staging = Staging::new(0, KeyCounts::default());
        for seq in 3..=5 {
            let dot = Dot { log: LOG, seq };
            let length = staging.index(dot, Key::from_static(b"k"));
            assert_eq!(length as u64, seq - 2);
        }
        assert_eq!(staging.open_runs(), [LOG]);
        assert!(staging.close_run(LOG) && !staging.close_run(LOG));
        let (_, batch) = hand_out(&mut staging).unwrap();
        let written = does(&batch, &record::index_key(LOG, 5));
        let run: IndexRun = record::decode("run", written.unwrap().as_ref().unwrap()).unwrap();
        assert_eq!((run.first, run.keys.len()), (3, 3));
    }

    #[test]
    fn a_batch_says_how_far_logs_will_be_and_which_promise_it_keeps() {
        let mut staging = Staging::new(0, KeyCounts::default());
        let record = LogRecord {
            applied: 9,
            ..LogRecord::default()
        };
        let promise = Some(Timestamp::from_ms(5));
        let logs = [(LOG, record)].into_iter();
        let handed = staging.hand_out(logs, promise, Timestamp::default());
        assert!(does(&handed.unwrap().1, &record::log_key(LOG)).is_some());
        assert_eq!(
            staging.promises().collect::<Vec<_>>(),
            [Timestamp::from_ms(5)]
        );
        let batch = staging.settle(1).unwrap();
        assert_eq!((batch.applied, batch.promise), (vec![(LOG, 9)], promise));
        assert_eq!(staging.promises().count(), 0);
    }
}
