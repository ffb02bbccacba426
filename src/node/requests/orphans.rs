//! Orphaned writes: what a given-up node has is offered to the owners when it comes back, with its
//! original timestamps.
//!
//! Nobody waited for such a node, so it may hold the only copy of some writes. It offers all values
//! that it has, and the deletes that it remembers, from the oldest to the newest, to any member,
//! and that one takes them to their owners like a client with a session: a write is offered when
//! all that it can depend on has been. What is newer at the owner stays, and so does a newer
//! delete. A node that handed everything over before it left has nothing to offer.
//!
//! The data is kept until its offer is over, however often the node is added, removed or started
//! again meanwhile.

use super::router::Router;
use crate::net::{self, CallError, HelloError};
use crate::node::config::Config;
use crate::node::identity::{self, OFFERED, Place};
use crate::node::membership::offers::Offers;
use crate::node::wire::links::{self, belongs};
use crate::node::wire::messages::{Offer, OfferProgress, Offered, Orphan, Request, Response};
use crate::protocol::context::Context;
use crate::protocol::op::{Answer, Declined, Op};
use crate::protocol::record;
use crate::protocol::store::{Store, StoreError};
use crate::protocol::version::Stamp;
use crate::storage::Disk;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Writes and bytes of one offer, at most, but for a single larger write.
const WRITES: usize = 256;
const BYTES: usize = 256 << 10;
/// The member that is asked takes so long at most, and then says how far it came.
const WORK: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// The pause after an offer that came to nothing.
const AGAIN: Duration = Duration::from_secs(1);
/// The pause before a directory is tried again that could not be read.
const RETRY: Duration = Duration::from_secs(10);
/// Why an offer ends that nobody takes.
const ANOTHER_CLUSTER: &str = "the cluster has gone on as another cluster since (view renew, view force), and takes \
                               nothing of what was before";
/// Time between looks at whether the data is still in use.
const LOOK: Duration = Duration::from_millis(50);

/// The writes of a directory, oldest first.
struct Orphans {
    disk: Disk,
    /// The cluster of the writes: no other cluster is offered them.
    cluster: net::Belongs,
    order: Vec<(Stamp, Bytes)>,
}

/// The writes that are offered: all that a node has from its time as earlier members, one directory
/// after the other.
pub struct Offering {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Offering {
    /// Offers what was put aside, and then what is in the data directory itself if it is given as
    /// `in_use`, once nobody uses that any more.
    pub fn start(config: Arc<Config>, offers: Arc<Offers>, in_use: Option<Weak<Disk>>) -> Self {
        let stop = CancellationToken::new();
        offers.forget_own();
        let offerer = Offerer {
            config,
            offers,
            stop: stop.clone(),
        };
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            while !offerer.all(in_use.as_ref()).await {
                let pause = tokio::time::sleep(RETRY);
                if stopped.run_until_cancelled(pause).await.is_none() {
                    return;
                }
            }
        });
        Self { stop, task }
    }

    /// Stops it, and waits until the directories are free. What was not offered is offered the next
    /// time.
    pub async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            log::error!("offering failed: {error}");
        }
    }
}

struct Offerer {
    config: Arc<Config>,
    offers: Arc<Offers>,
    stop: CancellationToken,
}

impl Offerer {
    /// Whether all was offered, or the offer was stopped.
    async fn all(&self, in_use: Option<&Weak<Disk>>) -> bool {
        let mut dirs = match identity::formers(&self.config.data_dir) {
            Ok(dirs) => dirs,
            Err(error) => {
                log::error!("what was put aside cannot be offered: {error}");
                return false;
            }
        };
        dirs.extend(in_use.map(|_| self.config.data_dir.clone()));
        dirs.retain(|dir| !self.offers.has_ended(dir));
        let unfinished = dirs.iter().filter(|dir| !dir.join(OFFERED).exists());
        unfinished.for_each(|dir| {
            self.offers
                .under_way(&OfferProgress::of(self.config.address, dir, 0))
        });
        let mut done = true;
        for dir in dirs {
            let in_use = in_use.filter(|_| dir == self.config.data_dir);
            while in_use.is_some_and(|disk| disk.strong_count() > 0) && !self.stop.is_cancelled() {
                tokio::time::sleep(LOOK).await;
            }
            match self.one(&dir).await {
                Ok(()) if dir.join(OFFERED).exists() => self.offers.over(&dir),
                Ok(()) => {}
                Err(error) => {
                    log::error!("what is in {} cannot be offered: {error}", dir.display());
                    self.offers.failed(self.config.address, &dir, &error);
                    done = false;
                }
            }
        }
        done || self.stop.is_cancelled()
    }

    /// Offers what is in a directory, to its end unless it is stopped.
    async fn one(&self, dir: &Path) -> Result<(), StoreError> {
        if self.stop.is_cancelled() || dir.join(OFFERED).exists() {
            return Ok(());
        }
        let (from, stopped) = (dir.to_owned(), self.stop.clone());
        let found = tokio::task::spawn_blocking(move || Orphans::load(&from, &stopped)).await;
        let Some(orphans) = found.map_err(|error| failed("reading", dir, &error))?? else {
            self.offers.over(dir);
            return Ok(());
        };
        if orphans.order.is_empty() {
            return mark(dir, "0 taken: there is nothing that others do not have");
        }
        log::warn!(
            "this node was given up: offering the {} writes in {} to the cluster; do not touch that directory",
            orphans.order.len(),
            dir.display()
        );
        let mut state = OfferProgress::of(self.config.address, dir, orphans.order.len());
        self.offers.under_way(&state);
        let (mut context, mut at, mut turn) = (Context::default(), 0, 0);
        let mut foreign: BTreeSet<SocketAddr> = BTreeSet::new();
        while at < orphans.order.len() {
            let offer = Offer {
                context: context.clone(),
                writes: orphans.batch(at)?,
                state: state.clone(),
            };
            let batch = offer.writes.len();
            let members = self.members();
            let to = members.get(turn % members.len().max(1));
            let asked = ask(&self.config, &orphans.cluster, to.copied(), offer);
            let Some(asked) = self.stop.run_until_cancelled(asked).await else {
                return Ok(());
            };
            let mut done = 0;
            match asked {
                Asked::Took(offered) => {
                    foreign.clear();
                    let count = usize::try_from(offered.count()).unwrap_or(usize::MAX);
                    // What was not offered cannot have been taken: it would be left out.
                    if count <= batch {
                        done = count;
                        state.add(&offered);
                        self.offers.under_way(&state);
                        context = offered.context;
                        at += done;
                    }
                }
                Asked::Foreign => {
                    foreign.extend(to);
                    if members.iter().all(|member| foreign.contains(member)) {
                        state.ended = Some(ANOTHER_CLUSTER.to_owned());
                        self.offers.under_way(&state);
                        log::error!(
                            "the offer of what is in {} has ended, {} of {} writes were not offered: {ANOTHER_CLUSTER}; they are \
                             there and nowhere else, and the directory may be removed when nobody needs them",
                            dir.display(),
                            orphans.order.len() - at,
                            orphans.order.len()
                        );
                        return Ok(());
                    }
                }
                Asked::Nothing => {
                    to.map(|to| foreign.remove(to));
                }
            }
            if done == 0 {
                turn += 1;
                let pause = tokio::time::sleep(AGAIN);
                if self.stop.run_until_cancelled(pause).await.is_none() {
                    return Ok(());
                }
            }
        }
        let said = format!(
            "{} taken, {} there already or newer there, {} declined: a newer delete may have been forgotten",
            state.taken, state.there, state.declined
        );
        mark(dir, &said)?;
        log::warn!(
            "what this node alone may have had in {} was offered: {said}",
            dir.display()
        );
        Ok(())
    }

    /// The members that this node knows of now; itself, when it is the only one.
    fn members(&self) -> Vec<SocketAddr> {
        let place = Place::load(&self.config.data_dir).ok().flatten();
        let members = place.map(|place| place.views.members().into_values().collect());
        let mut members: Vec<SocketAddr> = members.unwrap_or_default();
        if members.len() > 1 {
            members.retain(|address| *address != self.config.address);
        }
        members
    }
}

impl Orphans {
    /// `None` when nobody was a member with this directory, or the reading was stopped.
    fn load(dir: &Path, stop: &CancellationToken) -> Result<Option<Self>, StoreError> {
        let Some(place) = Place::load(dir)? else {
            return Ok(None);
        };
        let cluster = belongs(Some(&place.views));
        // What it shows is taken where nobody has anything newer, also if it may be gone tomorrow.
        let disk = Disk::open_suspect(dir)?;
        let (mut order, mut damaged) = (Vec::new(), None);
        // A node that left in peace has no log that is not over.
        if record::load_logs(&disk)?.is_empty() {
            return Ok(Some(Self {
                disk,
                cluster,
                order,
            }));
        }
        let (from, to) = record::DATA;
        disk.scan(from, to, &mut |key, value| {
            match record::decode_version(record::key_of(&key), &value) {
                Ok(version) => order.push((version.stamp, key)),
                Err(error) => damaged = Some(error),
            }
            damaged.is_none() && !stop.is_cancelled()
        })?;
        match damaged {
            Some(error) => Err(error),
            None if stop.is_cancelled() => Ok(None),
            None => {
                order.sort_unstable();
                Ok(Some(Self {
                    disk,
                    cluster,
                    order,
                }))
            }
        }
    }

    /// Some writes from one on.
    fn batch(&self, at: usize) -> Result<Vec<Orphan>, StoreError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for (_, place) in self.order[at..].iter().take(WRITES) {
            let Some(version) = record::load_at(&self.disk, place)? else {
                return Err(StoreError::Corrupt {
                    what: "the data of this node as an earlier member".to_owned(),
                    detail: "a version that was there is gone".to_owned(),
                });
            };
            // Key and past count too: they may be longer than the value.
            let long = version.size();
            if bytes + long > BYTES && !batch.is_empty() {
                break;
            }
            bytes += long;
            batch.push(Orphan {
                key: version.key,
                value: version.value,
                stamp: version.stamp,
                wall_ms: version.wall_ms,
                past: version.deps,
            });
        }
        Ok(batch)
    }
}

/// The outcome of asking a member to take some writes.
enum Asked {
    Took(Offered),
    /// The other node is of another cluster than the writes.
    Foreign,
    Nothing,
}

async fn ask(
    config: &Config,
    cluster: &net::Belongs,
    to: Option<SocketAddr>,
    offer: Offer,
) -> Asked {
    let Some(address) = to.and_then(|to| config.peer_address(to)) else {
        return Asked::Nothing;
    };
    let me = links::stranger(config, cluster);
    let request = Request::Offer(offer);
    match links::call(&me, address, None, &request, ANSWER_WITHIN).await {
        Ok(Response::Offered(offered)) => Asked::Took(offered),
        Err(CallError::Hello(
            HelloError::Refused(net::HelloRefusal::Foreign)
            | HelloError::Refusing(net::HelloRefusal::Foreign),
        )) => Asked::Foreign,
        Err(error @ CallError::Unfit(_)) => {
            log::error!("writes of this node as an earlier member cannot be offered: {error}");
            Asked::Nothing
        }
        _ => Asked::Nothing,
    }
}

/// Takes orphaned writes to their owners, one after the other, as far as it gets in [`WORK`].
pub async fn adopt(router: &Router, offer: Offer) -> Offered {
    let began = Instant::now();
    let mut offered = Offered {
        context: offer.context,
        ..Offered::default()
    };
    for orphan in offer.writes {
        if began.elapsed() > WORK {
            break;
        }
        let mut context = offered.context.clone();
        context.join(&orphan.past);
        // A clock that nobody can follow must not get in by this door either.
        let mut stamped = context.clone();
        stamped.clock = orphan.stamp.ts.max(context.clock);
        if router.admission().admit(stamped).is_err() {
            break;
        }
        let partition = router.partition_of_key(&orphan.key);
        let op = Op::Write {
            key: orphan.key,
            value: orphan.value,
            stamp: orphan.stamp,
            orphan: Some(orphan.wall_ms),
        };
        match router.drive(op, partition, context).await {
            Ok((Answer::Written(written), ..)) => {
                offered.taken += 1;
                offered.context = written.context;
            }
            Ok((Answer::Declined(why, context), ..)) => {
                match why {
                    Declined::Newer => offered.newer += 1,
                    Declined::Deleted => offered.deleted += 1,
                }
                offered.context = context;
            }
            Ok(_) | Err(_) => break,
        }
    }
    offered
}

/// Notes that all was offered.
fn mark(dir: &Path, said: &str) -> Result<(), StoreError> {
    let path = dir.join(OFFERED);
    let written = || {
        let mut file = File::create(&path)?;
        writeln!(file, "{said}")?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    written().map_err(|error: std::io::Error| failed("writing to", dir, &error))
}

fn failed(doing: &str, dir: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Io {
        what: format!("{doing} {}", dir.display()),
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{FRAME_BYTES, FrameEncoder, Outgoing};
    use crate::node::config::LONGEST_VALUE;
    use crate::protocol::ids::{Dot, LogId, MemberId, incarnation};
    use crate::protocol::payload::MAX_ENTRIES;
    use crate::protocol::store::Batch;
    use crate::protocol::version::{LONGEST_KEY, Version};
    use crate::storage::Commit;
    use bytes::BytesMut;
    use tokio_util::codec::Encoder;

    /// Writes whose key and past are as long as they can be; one value too.
    #[test]
    fn no_offer_is_longer_than_a_frame() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let mut past = Context::default();
        for start in 0..MAX_ENTRIES as u64 {
            let log = LogId {
                member: MemberId(u16::MAX - 1),
                incarnation: incarnation(1 << 16, (1 << 45) + start),
            };
            past.see(log, 1 << 60);
        }
        let (mut batch, mut order) = (Batch::default(), Vec::new());
        for n in 0..300 {
            let key = Bytes::from(format!("{n:04}{}", "k".repeat(LONGEST_KEY - 4)));
            let value = if n == 150 { LONGEST_VALUE + 2 } else { 1 };
            let version = Version {
                key,
                value: Some(vec![b'v'; value].into()),
                stamp: Stamp::default(),
                dot: Dot::default(),
                wall_ms: u64::MAX,
                deps: past.clone(),
            };
            let place = record::data_key(&version.key);
            batch.put(place.clone(), record::encode_version(&version));
            order.push((version.stamp, place));
        }
        disk.commit(&[batch]).unwrap();
        let cluster = net::Belongs::default();
        let orphans = Orphans {
            disk,
            cluster,
            order,
        };
        let (mut at, mut longest) = (0, 0);
        while at < orphans.order.len() {
            let writes = orphans.batch(at).unwrap();
            assert!(!writes.is_empty());
            at += writes.len();
            let offer = Request::Offer(Offer {
                context: past.clone(),
                writes,
                state: OfferProgress::of(([10, 0, 0, 1], 80).into(), dir.path(), 300),
            });
            let mut frame = BytesMut::new();
            FrameEncoder { limit: FRAME_BYTES }
                .encode(Outgoing::Request(u64::MAX, &offer), &mut frame)
                .unwrap();
            longest = longest.max(frame.len());
        }
        assert!(longest > LONGEST_VALUE);
    }
}
