//! Chunks of a snapshot for a peer that asks for them.

use super::super::ids::MemberId;
use super::super::limits::{Bound, met};
use super::super::message::{Message, SnapshotChunk, SnapshotPull};
use super::super::record;
use super::super::store::{Store, StoreError};
use super::Replica;
use super::snapshot::{just_after, ranges};

impl<S: Store, T> Replica<S, T> {
    /// Sends the chunk after a store key.
    pub(super) fn snapshot_pulled(
        &mut self,
        from: MemberId,
        pull: &SnapshotPull,
    ) -> Result<(), StoreError> {
        let Some(state) = self.cohorts.get(pull.cohort) else {
            return Ok(());
        };
        // A peer that asks for slots that are not kept here knows other views. And a write that
        // becomes stable from now on must be at the asker too, so this replica must know that the
        // asker shares the logs.
        let knows = state.peers.contains(&from);
        if !knows || !self.is_filled(pull.cohort) || !pull.slots.is_within(&state.part) {
            return Ok(());
        }
        self.index.pinned_us = Some(self.now.mono_us);
        let logs = self.logs.iter();
        let finished = self.finished.iter();
        let mut chunk = SnapshotChunk {
            id: pull.id,
            after: pull.after.clone(),
            upto: None,
            versions: Vec::new(),
            logs: logs
                .filter(|(_, log)| log.cohort == pull.cohort)
                .map(|(id, log)| log.report(id))
                .collect(),
            finished: finished
                .filter(|(cohort, _, _)| *cohort == pull.cohort)
                .map(|(_, member, f)| (member, f.clone()))
                .collect(),
            seals: self.seals_of(pull.cohort),
            promise: self.promises.given(),
            forgotten: Vec::new(),
            busy: self.busy,
        };
        if pull.after.is_empty() {
            chunk.forgotten = self.forgotten.within(&pull.slots);
        }
        let most = pull.bytes.clamp(1, self.limits.chunk_bytes) as usize;
        let (mut bytes, mut found) = (0, Vec::new());
        for (from, to) in ranges(&pull.slots, &just_after(&pull.after)) {
            self.store.scan(&from, &to, &mut |key, value| {
                bytes += key.len() + value.len();
                found.push((key, value));
                bytes < most
            })?;
            if bytes >= most {
                break;
            }
        }
        if bytes >= most {
            met(match pull.bytes < self.limits.chunk_bytes {
                true => Bound::BusyChunk,
                false => Bound::Chunk,
            });
            chunk.upto = found.last().map(|(key, _)| key.clone());
        }
        for (key, value) in found {
            let version = record::decode_version(record::key_of(&key), &value)?;
            chunk.versions.push(version);
        }
        self.effects.send(from, Message::SnapshotChunk(chunk));
        Ok(())
    }
}
