//! A node's place in its cluster, kept beside its data: its member number and the newest views it
//! knows.
//!
//! It names the cluster, once that is born. It is on disk before anything is done under newer
//! views. From it a node that starts again knows its own number and which nodes to ask what was
//! decided meanwhile, whatever `VIEW` says.

use crate::protocol::cluster::{Cluster, ClusterId, PayloadKey};
use crate::protocol::ids::MemberId;
use crate::protocol::store::StoreError;
use crate::protocol::views::Views;
use crate::storage;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NAME: &str = "place";
/// The first bytes of the file; then the CRC-32 of the rest, and the rest in postcard.
const MAGIC: &[u8; 8] = b"CWPLACE3";
/// Where in the data directory the Raft group keeps its log.
pub const RAFT_DIR: &str = "council";
/// Where the data goes that a node had as earlier members: `former.1`, `former.2`, and so on.
const FORMER: &str = "former";
/// The name of a directory that is being put aside.
const UNFINISHED: &str = "former.new";
/// One of them that is being removed.
const GONE: &str = "former.gone";
/// Says in a data directory that what only it had was offered, and what became of it.
pub const OFFERED: &str = "offered";

/// A node's member number, cluster and newest views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its number.
    pub member: MemberId,
    /// The newest views that it knows.
    pub views: Arc<Views>,
}

#[derive(Serialize, Deserialize)]
struct Content<T> {
    member: MemberId,
    views: T,
    /// The place for a random id of the node's own; none has one yet, and nobody reads it.
    id: Option<[u8; 16]>,
}

impl Place {
    /// Reads a data directory's identity; `None` in one that no member has used.
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
        let Content { member, views, .. } = content().ok_or_else(|| StoreError::Corrupt {
            what: path.display().to_string(),
            detail: "it is not as this program wrote it; take it from a backup, or empty the data directory \
                     so that the node fetches everything from its peers"
                .to_owned(),
        })?;
        let views = Arc::new(views);
        Ok(Some(Self { member, views }))
    }

    /// Makes this what the directory says, durably; then the stores in it name its cluster. A crash
    /// in between leaves them with the cluster before, which the new one goes on from.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), StoreError> {
        let content = Content {
            member: self.member,
            views: &*self.views,
            id: None,
        };
        let path = dir.join(NAME);
        let body = postcard::to_stdvec(&content).map_err(|error| StoreError::Corrupt {
            what: path.display().to_string(),
            detail: format!("it has no encoding: {error}"),
        })?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        // A start on a full disk, where nothing is new, writes nothing.
        if !fs::read(&path).is_ok_and(|known| known == bytes) {
            replace(&path, &bytes).map_err(|error| failed("writing", &path, &error))?;
        }
        mark_cluster(dir, &self.views)
    }
}

/// Data of another cluster lies beside a node's place: somebody has put together what does not
/// belong together.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} holds data of cluster {found}, and the node belongs to {}: put back the data and the file `place` that go \
     together, or empty the data directory so that the node fetches everything from its peers",
    dir.display(),
    known.map_or_else(|| "one that is not born yet".to_owned(), |id| format!("cluster {id}"))
)]
pub struct OtherCluster {
    dir: PathBuf,
    found: ClusterId,
    known: Option<ClusterId>,
}

/// Refuses a data directory of which a part is another cluster's. To be asked before anything in it
/// is opened.
///
/// # Errors
/// When a part is another cluster's, or a `FORMAT` file cannot be read.
pub fn check_cluster<E: From<StoreError> + From<OtherCluster>>(
    dir: &Path,
    views: Option<&Views>,
) -> Result<(), E> {
    let cluster = views.and_then(|views| views.cluster);
    for dir in [dir.to_owned(), dir.join(RAFT_DIR)] {
        let format = storage::read_format(&dir)?;
        let Some(found) = format.and_then(|f| f.cluster).map(ClusterId) else {
            continue;
        };
        if !cluster.is_some_and(|c| c.goes_on_from(found)) {
            let known = cluster.map(|c| c.id);
            return Err(OtherCluster { dir, found, known }.into());
        }
    }
    Ok(())
}

/// Writes down in both stores of a data directory which cluster they belong to, once that is born.
/// A store that is not there yet is to be marked when it is. Not to be called twice at a time.
///
/// # Errors
/// When a `FORMAT` file cannot be read or written.
pub fn mark_cluster(dir: &Path, views: &Views) -> Result<(), StoreError> {
    let Some(cluster) = views.cluster else {
        return Ok(());
    };
    storage::set_cluster(dir, cluster.id.0)?;
    storage::set_cluster(&dir.join(RAFT_DIR), cluster.id.0)
}

/// Puts aside what a node has from its time as another member, beside what was put aside before;
/// the place stays, until the new one takes its place. Whatever of it was done when the process
/// ended is gone on with by the next start.
///
/// What was put aside before goes only when its offer is over.
///
/// # Errors
/// When the directory cannot be changed.
pub fn put_aside(dir: &Path) -> Result<(), StoreError> {
    aside(dir, &mut |_| Ok(())).map_err(|error| failed("putting aside what is in", dir, &error))
}

/// Goes on with what a crash cut short, before anybody opens the directory: half of a store is
/// none.
///
/// # Errors
/// When the directory cannot be changed.
pub fn finish_putting_aside(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(UNFINISHED);
    match path.try_exists() {
        Ok(true) => put_aside(dir),
        Ok(false) => Ok(()),
        Err(error) => Err(failed("looking for", &path, &error)),
    }
}

/// The directories with what a node had as earlier members, the oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn formers(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let numbers = numbers(dir).map_err(|error| failed("reading", dir, &error))?;
    Ok(numbers.into_iter().map(|n| former(dir, n)).collect())
}

/// `step` is asked before each change of the disk.
fn aside(dir: &Path, step: &mut dyn FnMut(&str) -> std::io::Result<()>) -> std::io::Result<()> {
    let moving = dir.join(UNFINISHED);
    step("begin")?;
    match fs::create_dir(&moving) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => sync(dir)?,
    }
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if name == NAME || name.to_string_lossy().starts_with(FORMER) {
            continue;
        }
        let to = moving.join(&name);
        // Nothing opens the directory in between, so no name can be there twice; and a rename would
        // replace what is there.
        if to.try_exists()? {
            let what = format!("{} is there already", to.display());
            return Err(std::io::Error::new(ErrorKind::AlreadyExists, what));
        }
        step("move")?;
        fs::rename(dir.join(&name), to)?;
    }
    step("copy the place")?;
    replace(&moving.join(NAME), &fs::read(dir.join(NAME))?)?;
    sync(dir)?;
    let before = numbers(dir)?;
    let next = before.last().map_or(1, |last| last + 1);
    step("name it")?;
    fs::rename(&moving, former(dir, next))?;
    sync(dir)?;
    let gone = dir.join(GONE);
    for n in before {
        if !former(dir, n).join(OFFERED).try_exists()? {
            continue;
        }
        // Half of a directory must not be taken for a whole one.
        step("drop an old one")?;
        remove(&gone)?;
        fs::rename(former(dir, n), &gone)?;
    }
    step("remove the dropped one")?;
    remove(&gone)
}

fn former(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{FORMER}.{number}"))
}

/// The numbers of what was put aside, in order.
fn numbers(dir: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| {
            let number = name.strip_prefix(FORMER)?.strip_prefix('.')?;
            number.parse::<u64>().ok()
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn remove(dir: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
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

/// The member at an address.
pub fn member_at(views: &Views, address: SocketAddr) -> Option<MemberId> {
    let next = views.next.as_ref();
    let next = next.and_then(|view| view.member_at(address));
    views.view.member_at(address).or(next)
}

/// A new cluster, which goes on from `former`.
pub fn draw(former: Option<ClusterId>) -> Cluster {
    Cluster {
        id: ClusterId(rand::random()),
        key: PayloadKey(rand::random()),
        former,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::error::StartError;
    use crate::protocol::view::View;

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
    fn a_place_that_is_there_already_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        place(1).save(dir.path()).unwrap();
        // Nothing can be put beside it: the name is taken by a directory.
        fs::create_dir(dir.path().join(NAME).with_extension("new")).unwrap();
        place(1).save(dir.path()).unwrap();
        assert!(place(2).save(dir.path()).is_err());
        assert_eq!(Place::load(dir.path()), Ok(Some(place(1))));
    }

    /// A node that is no member saves the views that it hears of, and its data goes along with
    /// each.
    #[test]
    fn the_stores_follow_their_node_through_clusters_that_go_on_from_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let stores = [dir.path().to_owned(), dir.path().join(RAFT_DIR)];
        drop(
            stores
                .each_ref()
                .map(|store| storage::Disk::open(store).unwrap()),
        );
        let check = |place: &Place| -> Result<(), StartError> {
            check_cluster(dir.path(), Some(&place.views))
        };
        let named = || {
            let format = |store| storage::read_format(store).unwrap().unwrap();
            stores.each_ref().map(|store| format(store).cluster)
        };
        let mut former = None;
        for _ in 0..3 {
            let mut place = place(1);
            let cluster = draw(former);
            Arc::make_mut(&mut place.views).cluster = Some(cluster);
            check(&place).unwrap();
            place.save(dir.path()).unwrap();
            assert_eq!(named(), [Some(cluster.id.0); 2]);
            former = Some(cluster.id);
        }
        let mut other = place(1);
        Arc::make_mut(&mut other.views).cluster = Some(draw(None));
        let refused = check(&other);
        assert!(
            matches!(refused, Err(StartError::OtherCluster(_))),
            "{refused:?}"
        );
        assert!(check(&place(1)).is_err(), "it is not born");
    }

    /// A directory as a member leaves it.
    fn used(dir: &Path, member: u16) {
        place(member).save(dir).unwrap();
        for name in ["data", "journal"] {
            fs::write(dir.join(name), [member as u8]).unwrap();
        }
        fs::create_dir_all(dir.join("council")).unwrap();
        fs::write(dir.join("council").join("log"), [member as u8]).unwrap();
    }

    fn assert_kept(former: &Path, member: u16) {
        assert_eq!(Place::load(former), Ok(Some(place(member))));
        for name in ["data", "journal", "council/log"] {
            assert_eq!(fs::read(former.join(name)).unwrap(), [member as u8]);
        }
    }

    #[test]
    fn what_earlier_members_had_is_kept_until_its_offer_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, former) = (dir.path(), |n| former(dir.path(), n));
        for member in 1..4 {
            used(dir, member);
            put_aside(dir).unwrap();
            // Until the new place is there the node is the one that it was.
            assert_eq!(Place::load(dir), Ok(Some(place(member))));
            assert!(!dir.join("data").exists());
            assert_eq!(formers(dir).unwrap().len(), usize::from(member));
        }
        (1..4).for_each(|member| assert_kept(&former(member.into()), member));
        fs::write(former(2).join(OFFERED), "all").unwrap();
        used(dir, 4);
        fs::write(dir.join(OFFERED), "all").unwrap();
        put_aside(dir).unwrap();
        assert_eq!(formers(dir).unwrap(), [1, 3, 4].map(former));
        for member in [1, 3, 4] {
            assert_kept(&former(u64::from(member)), member);
        }
        assert!(former(4).join(OFFERED).exists() && !dir.join(OFFERED).exists());
    }

    #[test]
    fn a_crash_while_data_is_put_aside_loses_nothing_of_it() {
        let mut steps = 0;
        for crash in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path();
            used(dir, 1);
            put_aside(dir).unwrap();
            used(dir, 2);
            put_aside(dir).unwrap();
            fs::write(former(dir, 1).join(OFFERED), "all").unwrap();
            used(dir, 3);
            let mut taken = 0;
            let ended = aside(dir, &mut |step| {
                taken += 1;
                match taken > crash {
                    true => Err(std::io::Error::other(step.to_owned())),
                    false => Ok(()),
                }
            });
            // The next start, and the next attempt to join.
            finish_putting_aside(dir).unwrap();
            assert_eq!(Place::load(dir), Ok(Some(place(3))), "step {crash}");
            if !former(dir, 3).exists() {
                assert_eq!(crash, 0, "it had begun");
                put_aside(dir).unwrap();
            }
            assert_kept(&former(dir, 2), 2);
            assert_kept(&former(dir, 3), 3);
            assert!(!dir.join("data").exists() && !dir.join(UNFINISHED).exists());
            if ended.is_ok() {
                steps = crash;
                assert!(!former(dir, 1).exists() && !dir.join(GONE).exists());
                break;
            }
        }
        assert!(steps >= 7, "{steps}");
    }
}
