//! The current snapshot on disk. Its parts are stored first, then its manifest replaces the one
//! before: a crash in between leaves the older snapshot whole.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};

use super::{Engine, RaftDisk, decode, encode};
use crate::protocol::store::{Batch, StoreError};
use crate::raft::types::{EntryId, SnapshotMeta};

/// Bytes of a part. Writes of the log may have to wait for as many.
const PART_BYTES: usize = 1 << 20;

/// The snapshots of a Raft group. Clones share them.
#[derive(Clone)]
pub struct Snapshots {
    disk: Arc<RaftDisk>,
    /// The current one. Locked while another is written.
    current: Arc<Mutex<Option<Manifest>>>,
    stored: watch::Sender<Option<EntryId>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Manifest {
    meta: SnapshotMeta,
    generation: u64,
    parts: u32,
    bytes: u64,
}

impl Snapshots {
    /// Reads which snapshot there is, and clears away what a crash left of another. Blocks.
    ///
    /// # Errors
    /// When the manifest is damaged, or reading fails.
    pub fn open(disk: Arc<RaftDisk>) -> Result<Self, StoreError> {
        let store = disk.disk()?;
        let manifest: Option<Manifest> = store
            .get(b"s")?
            .map(|bytes| decode("the council's snapshot manifest", &bytes))
            .transpose()?;
        let generation = manifest.as_ref().map_or(0, |m| m.generation);
        let mut rest = Batch::default();
        store.scan(&part_key(generation + 1, 0), b"e", &mut |key, _| {
            rest.delete(key);
            true
        })?;
        disk.submit(rest, |_| {});
        let last = manifest.as_ref().and_then(|m| m.meta.last_log_id);
        Ok(Self {
            disk,
            stored: watch::Sender::new(last),
            current: Arc::new(Mutex::new(manifest)),
        })
    }

    /// Makes a snapshot the current one, unless the current one is newer. Durable when it returns.
    ///
    /// # Errors
    /// When it is not stored. The one before is then still current.
    pub async fn save(&self, meta: &SnapshotMeta, data: Bytes) -> Result<(), StoreError> {
        let mut current = self.current.lock().await;
        if current
            .as_ref()
            .is_some_and(|c| c.meta.last_log_id > meta.last_log_id)
        {
            return Ok(());
        }
        let before = current.as_ref().map_or((0, 0), |m| (m.generation, m.parts));
        let generation = before.0 + 1;
        let mut parts = 0;
        for at in (0..data.len()).step_by(PART_BYTES) {
            let mut batch = Batch::default();
            let part = data.slice(at..data.len().min(at + PART_BYTES));
            batch.put(part_key(generation, parts), part);
            self.disk.write(batch).await?;
            parts += 1;
        }
        let manifest = Manifest {
            meta: meta.clone(),
            generation,
            parts,
            bytes: data.len() as u64,
        };
        let mut batch = Batch::default();
        batch.put(&b"s"[..], encode("a snapshot manifest", &manifest)?);
        for part in 0..before.1 {
            batch.delete(part_key(before.0, part));
        }
        self.disk.write(batch).await?;
        self.stored.send_replace(manifest.meta.last_log_id);
        *current = Some(manifest);
        Ok(())
    }

    /// The last entry that the current snapshot stands for.
    pub fn stored(&self) -> watch::Receiver<Option<EntryId>> {
        self.stored.subscribe()
    }

    /// The current snapshot.
    ///
    /// # Errors
    /// When a part is missing, or reading fails.
    pub async fn load(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, StoreError> {
        // Locked, so that no other snapshot replaces the parts meanwhile.
        let current = self.current.lock().await;
        let Some(manifest) = current.clone() else {
            return Ok(None);
        };
        let meta = manifest.meta.clone();
        let read = move |disk: &dyn Engine| read(disk, &manifest);
        let data = self.disk.read(read).await?;
        Ok(Some((meta, data)))
    }
}

fn read(disk: &dyn Engine, manifest: &Manifest) -> Result<Vec<u8>, StoreError> {
    let mut data = Vec::new();
    for part in 0..manifest.parts {
        if let Some(bytes) = disk.get(&part_key(manifest.generation, part))? {
            data.extend_from_slice(&bytes);
        }
    }
    if data.len() as u64 == manifest.bytes {
        return Ok(data);
    }
    Err(StoreError::Corrupt {
        what: "the council's snapshot".to_owned(),
        detail: format!("{} bytes of {} are there", data.len(), manifest.bytes),
    })
}

fn part_key(generation: u64, part: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(13);
    key.push(b'd');
    key.extend(generation.to_be_bytes());
    key.extend(part.to_be_bytes());
    key
}
