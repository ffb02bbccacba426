//! Damage on the disk: who hears of it, and the scrub that looks for it.
//!
//! In a scrub every table is read from the device and compared with the checksum that the engine
//! noted when it wrote the table. Damage is found before a reader or a compaction meets it.
//!
//! Journals are checked when the disk is opened, and are written all the time; tables never change.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use fjall::AbstractTree;
use rustix::fs::{Advice, fadvise};
use xxhash_rust::xxh3::Xxh3Default;

use super::disk::Disk;
use super::engine_error::from_io;
use crate::protocol::store::StoreError;

/// Bytes that are read at a time.
const READ_BYTES: usize = 256 << 10;

impl Disk {
    /// Resolves with the first damage that a reader, a commit or a scrub meets, or has met: never
    /// when the disk is closed before. Does not keep the disk open.
    pub fn damaged(&self) -> impl Future<Output = StoreError> + Send + use<> {
        let mut damage = self.damage.subscribe();
        async move {
            let found = damage.wait_for(Option::is_some).await;
            match found.ok().and_then(|error| error.clone()) {
                Some(error) => error,
                None => std::future::pending().await,
            }
        }
    }

    /// Takes note of an error, in case it is damage.
    pub(super) fn noticed(&self, error: StoreError) -> StoreError {
        if let StoreError::Corrupt { .. } = error {
            self.damage.send_if_modified(|first| {
                let new = first.is_none();
                first.get_or_insert_with(|| error.clone());
                new
            });
        }
        error
    }

    /// Reads all tables from the device and compares them with their checksums. `go_on` is told
    /// after each read how many bytes that was; it may take its time, and ends the scrub by false.
    /// Whether all was read.
    ///
    /// # Errors
    /// `Corrupt`, naming the file, when a table is not as it was written; those of the device.
    pub fn scrub(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<bool, StoreError> {
        let engine = self.engine()?;
        let tables = || engine.data.tree.current_version();
        let ids = tables();
        let ids = ids.iter_tables().map(|table| table.id());
        // Those that are made meanwhile have higher numbers: they were just written.
        let (mut from, end) = (0, ids.max().map_or(0, |newest| newest + 1));
        // One at a time: a table that is held stays on the device.
        let next = |from| {
            let version = tables();
            let left = version.iter_tables();
            let left = left.filter(|table| (from..end).contains(&table.id()));
            left.min_by_key(|table| table.id()).cloned()
        };
        while let Some(table) = next(from) {
            from = table.id() + 1;
            match digest(&table.path, go_on)? {
                None => return Ok(false),
                Some(found) if found == table.checksum().into_u128() => {}
                Some(found) => {
                    let damage = StoreError::Corrupt {
                        what: table.path.display().to_string(),
                        detail: format!(
                            "its checksum is {found:x}, {:x} was written",
                            table.checksum().into_u128()
                        ),
                    };
                    return Err(self.noticed(damage));
                }
            }
        }
        Ok(true)
    }
}

/// The checksum of a file, or `None` when the scrub is to end.
fn digest(path: &Path, go_on: &mut dyn FnMut(u64) -> bool) -> Result<Option<u128>, StoreError> {
    let failed = |e: &std::io::Error| from_io(&format!("reading {}", path.display()), e);
    let mut file = File::open(path).map_err(|e| failed(&e))?;
    // What the operating system has in memory says nothing about the device.
    let forget = |file: &File| fadvise(file, 0, None, Advice::DontNeed);
    forget(&file).map_err(|e| failed(&e.into()))?;
    let mut buffer = vec![0; READ_BYTES];
    let mut hasher = Xxh3Default::new();
    loop {
        let read = file.read(&mut buffer).map_err(|e| failed(&e))?;
        if read == 0 {
            return Ok(Some(hasher.digest128()));
        }
        hasher.update(&buffer[..read]);
        if !go_on(read as u64) {
            return Ok(None);
        }
    }
}
