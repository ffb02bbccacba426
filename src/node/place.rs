//! A node's place in its cluster, kept beside its data: its member number and the newest views it knows.
//!
//! It names the cluster, once that is born. It is on disk before anything is done under newer views. A node that starts again knows by it who it is and whom to
//! ask what was decided meanwhile, whatever `VIEW` says.

use crate::protocol::ids::MemberId;
use crate::protocol::store::StoreError;
use crate::protocol::views::Views;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NAME: &str = "place";
/// What such a file begins with; then the CRC-32 of the rest, and the rest in postcard.
const MAGIC: &[u8; 8] = b"CWPLACE2";
/// Where the data goes that a node had as an earlier member.
pub(super) const FORMER: &str = "former";

/// Who a node is, and under which views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub member: MemberId,
    pub views: Arc<Views>,
}

#[derive(Serialize, Deserialize)]
struct Content<T> {
    member: MemberId,
    views: T,
}

impl Place {
    /// What a data directory says; `None` in one that no member has used.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn load(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("reading", &path, &error)),
        };
        let content = || {
            let (crc, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
            let whole = crc32fast::hash(body) == u32::from_le_bytes(*crc);
            let content = postcard::from_bytes::<Content<Views>>(body).ok();
            content.filter(|_| whole)
        };
        let Content { member, views } = content().ok_or_else(|| StoreError::Corrupt {
            what: path.display().to_string(),
            detail: "it is not as this program wrote it; take it from a backup, or empty the data directory \
                     so that the node fetches everything from its peers"
                .to_owned(),
        })?;
        let views = Arc::new(views);
        Ok(Some(Self { member, views }))
    }

    /// Makes this what the directory says, durably.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), StoreError> {
        let content = Content {
            member: self.member,
            views: &*self.views,
        };
        let path = dir.join(NAME);
        let body = postcard::to_stdvec(&content).map_err(|error| StoreError::Corrupt {
            what: path.display().to_string(),
            detail: format!("it has no encoding: {error}"),
        })?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        replace(&path, &bytes).map_err(|error| failed("writing", &path, &error))
    }
}

/// Puts aside what a node has from its time as another member, in place of what was there before.
///
/// # Errors
/// When the directory cannot be changed.
pub fn put_aside(dir: &Path) -> Result<(), StoreError> {
    let former = dir.join(FORMER);
    let moved = || {
        match fs::remove_dir_all(&former) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&former)?,
        }
        // The place goes last: until then the next start begins again here.
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            if name != FORMER && name != NAME {
                fs::rename(dir.join(&name), former.join(&name))?;
            }
        }
        fs::rename(dir.join(NAME), former.join(NAME))?;
        File::open(dir)?.sync_all()
    };
    moved().map_err(|error| failed("putting aside what is in", dir, &error))
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new: PathBuf = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Io {
        what: format!("{doing} {}", path.display()),
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::view::View;
    use std::net::SocketAddr;

    fn place(member: u16) -> Place {
        let addresses: Vec<_> = (1..=3)
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .collect();
        Place {
            member: MemberId(member),
            views: Arc::new(Views::first(View::first(&addresses, 2).unwrap())),
        }
    }

    #[test]
    fn what_was_saved_is_loaded_and_a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Place::load(dir.path()), Ok(None));
        place(1).save(dir.path()).unwrap();
        place(2).save(dir.path()).unwrap();
        assert_eq!(Place::load(dir.path()), Ok(Some(place(2))));
        let path = dir.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            fs::write(&path, &bytes).unwrap();
            let loaded = Place::load(dir.path());
            assert!(
                matches!(loaded, Err(StoreError::Corrupt { .. })),
                "byte {at}"
            );
        }
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(Place::load(dir.path()).is_err());
    }

    #[test]
    fn what_an_earlier_member_had_is_put_aside_once() {
        let dir = tempfile::tempdir().unwrap();
        for member in 1..3 {
            place(member).save(dir.path()).unwrap();
            fs::write(dir.path().join("data"), [member as u8]).unwrap();
            put_aside(dir.path()).unwrap();
            assert_eq!(Place::load(dir.path()), Ok(None));
            let former = dir.path().join(FORMER);
            assert_eq!(Place::load(&former), Ok(Some(place(member))));
            assert_eq!(fs::read(former.join("data")).unwrap(), [member as u8]);
        }
    }
}
