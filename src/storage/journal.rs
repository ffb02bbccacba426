//! A check of the engine's journal before the engine reads it: a torn end is repaired, damage
//! refused.
//!
//! The engine drops everything behind the first record that it cannot parse, silently, whether a
//! crash tore the end or the middle was damaged. We tell these apart by what follows. Every commit
//! is one batch and is synced before the next one is written, so a crash can only tear the *last*
//! batch: a complete batch behind a broken one proves damage.
//!
//! A batch in the journal, integers little-endian:
//!
//! ```text
//! start   1 (u8), number of items (u32), engine sequence (u64)
//! item    2 (u8), 0 put or 1 delete (u8), 0 uncompressed (u8), tree (u64),
//!         key length (u16), value length (u32), stored length (u32), key, value
//! end     3 (u8), xxh3-64 of all items (u64), "FJL" 3
//! ```
//!
//! The first item of each is our *mark*: identity of the directory, number of the commit, and the
//! engine sequence just before it. Numbers without a gap show that no batch and no file is missing;
//! the sequence is there because the engine's checksum does not cover its own, and a wrong one
//! changes the order of writes; and the identity, which no client knows, keeps a value that
//! imitates a batch from being taken for one.
//!
//! **Limit.** A damaged last batch looks like a torn one and is dropped like one, although it may
//! have been acknowledged; so does a journal from which whole commits were cut at the end. Nothing
//! on one disk can tell: only the other replicas can, and do.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::engine_error::from_io;
use super::format::DirectoryId;
use crate::protocol::store::StoreError;

/// The key of the mark. No other key may begin with [`RESERVED`].
pub const MARK_KEY: &[u8] = b"\xff\xffcommit";
/// Keys with this beginning belong to the store itself.
pub const RESERVED: &[u8] = b"\xff\xff";

const START_BYTES: usize = 13;
const ITEM_BYTES: usize = 21;

/// The mark that each commit writes into the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitMark {
    /// Counts the commits of this directory, from 1.
    pub number: u64,
    /// The engine's sequence before the commit. That of the batch is not smaller, and hardly
    /// larger: only flushes and compactions also take some.
    pub floor: u64,
}

/// More sequences than flushes and compactions take during one commit.
const SEQUENCES_BETWEEN: u64 = 1 << 20;

impl CommitMark {
    /// The mark as a value.
    pub fn encode(self, identity: &DirectoryId) -> Vec<u8> {
        let (number, floor) = (self.number.to_le_bytes(), self.floor.to_le_bytes());
        [&identity[..], &number, &floor].concat()
    }

    /// Reads a mark, if `value` is one of this directory.
    pub fn decode(identity: &DirectoryId, value: &[u8]) -> Option<Self> {
        let mut input = Input(value.strip_prefix(identity)?);
        let number = u64::from_le_bytes(input.array()?);
        let floor = u64::from_le_bytes(input.array()?);
        input.0.is_empty().then_some(Self { number, floor })
    }
}

/// Checks all journals of the engine's directory, cuts a torn end off, and returns the number of
/// the last commit in them; `None` when they hold none.
///
/// # Errors
/// `Corrupt` when something other than the end is damaged; nothing is changed then.
pub fn check_and_repair(
    engine_dir: &Path,
    identity: &DirectoryId,
) -> Result<Option<u64>, StoreError> {
    let mut last: Option<JournalBatch> = None;
    let mut torn: Option<(PathBuf, usize)> = None;
    for path in files(engine_dir)? {
        let mut bytes =
            read(&path).map_err(|e| from_io(&format!("reading {}", path.display()), &e))?;
        // The engine extends a new file with zeros; a batch never ends with one.
        bytes.truncate(bytes.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1));
        let mut at = 0;
        while at < bytes.len() {
            let damage = |detail: String| StoreError::Corrupt {
                what: format!("{} at byte {at}", path.display()),
                detail,
            };
            if let Some((torn_path, torn_at)) = &torn {
                return Err(damage(format!(
                    "there is data although {} is broken at byte {torn_at}",
                    torn_path.display()
                )));
            }
            match batch_at(&bytes, at, identity) {
                Some(batch) => {
                    follows(last.as_ref(), &batch).map_err(damage)?;
                    at = batch.end;
                    last = Some(batch);
                }
                None if batch_behind(&bytes, at, identity) => {
                    return Err(damage("the records behind it are intact".to_owned()));
                }
                None => {
                    torn = Some((path.clone(), at));
                    break;
                }
            }
        }
    }
    if let Some((path, at)) = torn {
        log::warn!(
            "the journal {} ends in a commit that was interrupted, at byte {at}: dropping it",
            path.display()
        );
        cut(&path, at).map_err(|e| from_io(&format!("cutting {}", path.display()), &e))?;
    }
    Ok(last.map(|batch| batch.mark.number))
}

/// A file up to where anything was written: most of a new journal is a hole.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut end = 0;
    loop {
        match seek(&file, SeekFrom::Data(end)) {
            Ok(data) => end = seek(&file, SeekFrom::Hole(data))?,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let mut bytes = Vec::new();
    seek(&file, SeekFrom::Start(0))?;
    Read::by_ref(&mut file).take(end).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The journals, oldest first.
fn files(engine_dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(engine_dir)?
            .map(|entry| entry.map(|e| e.path()))
            .collect()
    };
    let mut numbered = Vec::new();
    for path in list().map_err(|e| from_io(&format!("listing {}", engine_dir.display()), &e))? {
        if path.extension().is_none_or(|extension| extension != "jnl") {
            continue;
        }
        let number = path.file_stem().and_then(|stem| stem.to_str());
        match number.map(str::parse::<u64>) {
            Some(Ok(number)) => numbered.push((number, path)),
            _ => {
                return Err(StoreError::Corrupt {
                    what: path.display().to_string(),
                    detail: "a journal has a number as its name".to_owned(),
                });
            }
        }
    }
    if numbered.is_empty() {
        return Err(StoreError::Corrupt {
            what: engine_dir.display().to_string(),
            detail: "there is always a journal, and it is missing".to_owned(),
        });
    }
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

struct JournalBatch {
    sequence: u64,
    mark: CommitMark,
    end: usize,
}

/// Whether `batch` may come after `last`.
fn follows(last: Option<&JournalBatch>, batch: &JournalBatch) -> Result<(), String> {
    let JournalBatch { sequence, mark, .. } = *batch;
    if !(mark.floor..mark.floor.saturating_add(SEQUENCES_BETWEEN)).contains(&sequence) {
        return Err(format!(
            "its sequence is {sequence}, and it was written at {}",
            mark.floor
        ));
    }
    match last {
        Some(last) if last.mark.number + 1 != mark.number => Err(format!(
            "commit {} comes after commit {}",
            mark.number, last.mark.number
        )),
        Some(last) if last.sequence >= mark.floor => Err(format!(
            "sequence {} comes after {}",
            mark.floor, last.sequence
        )),
        _ => Ok(()),
    }
}

/// The complete, undamaged batch that begins at byte `at`.
fn batch_at(bytes: &[u8], at: usize, identity: &DirectoryId) -> Option<JournalBatch> {
    let mut input = Input(bytes.get(at..)?);
    if input.array()? != [1] {
        return None;
    }
    let count = u32::from_le_bytes(input.array()?);
    let sequence = u64::from_le_bytes(input.array()?);
    let items = input.0;
    let (key, value) = input.item()?;
    if key != MARK_KEY {
        return None;
    }
    let mark = CommitMark::decode(identity, value)?;
    for _ in 1..count {
        input.item()?;
    }
    let items = items.get(..items.len() - input.0.len())?;
    if input.array()? != [3] {
        return None;
    }
    let sum = u64::from_le_bytes(input.array()?);
    if input.array()? != *b"FJL\x03" || sum != xxhash_rust::xxh3::xxh3_64(items) {
        return None;
    }
    Some(JournalBatch {
        sequence,
        mark,
        end: bytes.len() - input.0.len(),
    })
}

/// Whether a complete batch of this directory begins anywhere behind byte `at`.
fn batch_behind(bytes: &[u8], at: usize, identity: &DirectoryId) -> bool {
    // The mark comes first, so each place of the identity has one possible beginning of its batch.
    let to_identity = START_BYTES + ITEM_BYTES + MARK_KEY.len();
    let earliest = at + 1 + to_identity;
    let places = bytes.get(earliest..).unwrap_or_default();
    places
        .windows(identity.len())
        .enumerate()
        .filter(|(_, window)| window == identity)
        .any(|(place, _)| batch_at(bytes, at + 1 + place, identity).is_some())
}

fn cut(path: &Path, at: usize) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(at as u64)?;
    file.sync_all()
}

/// The bytes that are left to parse.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn slice(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(head)
    }

    /// Key and value of an item.
    fn item(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let [tag, kind, compression] = self.array()?;
        if tag != 2 || kind > 1 || compression != 0 {
            return None;
        }
        let _tree: [u8; 8] = self.array()?;
        let key_bytes = u16::from_le_bytes(self.array()?);
        let value_bytes = u32::from_le_bytes(self.array()?);
        let stored_bytes = u32::from_le_bytes(self.array()?);
        if value_bytes != stored_bytes {
            return None;
        }
        let key = self.slice(usize::from(key_bytes))?;
        let value = self.slice(usize::try_from(value_bytes).ok()?)?;
        Some((key, value))
    }
}
