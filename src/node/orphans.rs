//! What a node has that was given up: offered to the owners when it comes back, with its original timestamps.
//!
//! Nobody waited for such a node, so it may hold the only copy of some writes. It offers all values that it has, from
//! the oldest to the newest, to any member, and that one takes them to their owners like a client with a session: a
//! write is offered when all that it can depend on has been. What is newer at the owner stays, and so does a newer
//! delete. Deletes are not offered: the node may not know what they were about any more. Who handed everything over
//! before it left has nothing to offer.

use super::config::Config;
use super::member::Member;
use super::peers::{belongs, identity};
use super::place::Place;
use super::wire::{Offer, Offered, Orphan, Request, Response};
use crate::net;
use crate::protocol::context::Context;
use crate::protocol::op::{Answer, Declined, Op};
use crate::protocol::record;
use crate::protocol::store::{Store, StoreError};
use crate::protocol::version::Stamp;
use crate::storage::Disk;
use bytes::Bytes;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Says in a data directory what became of the offer.
const DONE: &str = "offered";
/// Writes and bytes of one offer, at most, but for a single larger value.
const WRITES: usize = 256;
const BYTES: usize = 256 << 10;
/// The member that is asked takes so long at most, and then says how far it came.
const WORK: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// The pause after an offer that came to nothing.
const AGAIN: Duration = Duration::from_secs(1);
/// Time between looks at whether the data is still in use.
const LOOK: Duration = Duration::from_millis(50);

/// What became of the writes that were offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    taken: u64,
    newer: u64,
    deleted: u64,
}

/// The writes of a directory, oldest first.
struct Orphans {
    disk: Disk,
    place: Place,
    order: Vec<(Stamp, Bytes)>,
}

/// An offer under way.
pub(super) struct Offering {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Offering {
    /// Offers what is in a data directory, once nobody uses that any more.
    pub(super) fn start(config: Arc<Config>, dir: PathBuf, in_use: Weak<Disk>) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            while in_use.strong_count() > 0 && !stopped.is_cancelled() {
                tokio::time::sleep(LOOK).await;
            }
            if let Err(error) = offer_all(&config, dir.clone(), &stopped).await {
                log::error!("what is in {} cannot be offered: {error}", dir.display());
            }
        });
        Self { stop, task }
    }

    /// Stops it, and waits until the directory is free. What was not offered is offered the next time.
    pub(super) async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            log::error!("offering failed: {error}");
        }
    }
}

async fn offer_all(
    config: &Arc<Config>,
    dir: PathBuf,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let (from, stopped) = (dir.clone(), stop.clone());
    let found = tokio::task::spawn_blocking(move || Orphans::load(&from, &stopped)).await;
    let Some(orphans) = found.map_err(|error| failed("reading", &dir, &error))?? else {
        return Ok(());
    };
    log::warn!(
        "this node was given up: offering the {} values in {} to the cluster",
        orphans.order.len(),
        dir.display()
    );
    let views = Arc::clone(&orphans.place.views);
    let cluster = belongs(Some(&views));
    let members = views.members().into_values();
    let others: Vec<_> = members.filter(|a| *a != config.address).collect();
    let (mut tally, mut context) = (Tally::default(), Context::default());
    let (mut at, mut turn) = (0, 0);
    while at < orphans.order.len() {
        let offer = Offer {
            context: context.clone(),
            writes: orphans.batch(at)?,
        };
        let offered = match others.get(turn) {
            Some(to) => {
                stop.run_until_cancelled(ask(config, &cluster, *to, offer))
                    .await
            }
            None => stop.run_until_cancelled(std::future::pending()).await,
        };
        let Some(offered) = offered else {
            return Ok(());
        };
        let done = offered
            .as_ref()
            .map_or(0, |o| o.taken + o.newer + o.deleted);
        if let Some(offered) = offered {
            tally.taken += offered.taken;
            tally.newer += offered.newer;
            tally.deleted += offered.deleted;
            context = offered.context;
            at += usize::try_from(done).unwrap_or(usize::MAX);
        }
        if done == 0 {
            turn = (turn + 1) % others.len().max(1);
            if stop
                .run_until_cancelled(tokio::time::sleep(AGAIN))
                .await
                .is_none()
            {
                return Ok(());
            }
        }
    }
    let Tally {
        taken,
        newer,
        deleted,
    } = tally;
    let said = format!(
        "{taken} taken, {newer} there already or newer there, {deleted} declined: a newer delete may have been forgotten"
    );
    log::warn!("what this node alone may have had was offered: {said}");
    mark(&dir, &said)
}

impl Orphans {
    /// `None` when there is nothing to offer: no data, or it was all handed over or offered before.
    fn load(dir: &Path, stop: &CancellationToken) -> Result<Option<Self>, StoreError> {
        let Some(place) = Place::load(dir)?.filter(|_| !dir.join(DONE).exists()) else {
            return Ok(None);
        };
        let disk = Disk::open(dir)?;
        // Who left in peace has no log that is not over.
        if record::load_logs(&disk)?.is_empty() {
            return Ok(None);
        }
        let (mut order, mut damaged) = (Vec::new(), None);
        let (from, to) = record::DATA;
        disk.scan(from, to, &mut |key, value| {
            match record::decode_version(record::key_of(&key), &value) {
                Ok(version) if version.value.is_some() => order.push((version.stamp, key)),
                Ok(_) => {}
                Err(error) => damaged = Some(error),
            }
            damaged.is_none() && !stop.is_cancelled()
        })?;
        match damaged {
            Some(error) => Err(error),
            None if stop.is_cancelled() => Ok(None),
            None => {
                order.sort_unstable();
                Ok(Some(Self { disk, place, order }))
            }
        }
    }

    /// Some writes from one on.
    fn batch(&self, at: usize) -> Result<Vec<Orphan>, StoreError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for (_, place) in self.order[at..].iter().take(WRITES) {
            let version = record::load_at(&self.disk, place)?;
            let Some((version, value)) = version.and_then(|v| Some((v.clone(), v.value?))) else {
                return Err(StoreError::Corrupt {
                    what: "the data of this node as an earlier member".to_owned(),
                    detail: "a value that was there is gone".to_owned(),
                });
            };
            if bytes + value.len() > BYTES && !batch.is_empty() {
                break;
            }
            bytes += value.len();
            batch.push(Orphan {
                key: version.key,
                value,
                stamp: version.stamp,
                wall_ms: version.wall_ms,
                past: version.deps,
            });
        }
        Ok(batch)
    }
}

async fn ask(
    config: &Config,
    cluster: &net::Belongs,
    to: std::net::SocketAddr,
    offer: Offer,
) -> Option<Offered> {
    let address = config.peer_address(to)?;
    let me = identity(config, cluster);
    let limits = net::Limits::default();
    let request = Request::Offer(offer);
    match net::call(&me, address, None, &request, &limits, ANSWER_WITHIN).await {
        Ok((_, Response::Offered(offered))) => Some(offered),
        _ => None,
    }
}

impl Member {
    /// Takes orphaned writes to their owners, one after the other, as far as it gets in [`WORK`].
    pub(super) async fn adopt(&self, offer: Offer) -> Offered {
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
            if self.admit(stamped).is_err() {
                break;
            }
            let partition = self.partition_of_key(&orphan.key);
            let op = Op::Write {
                key: orphan.key,
                value: Some(orphan.value),
                stamp: orphan.stamp,
                orphan: Some(orphan.wall_ms),
            };
            match self.drive(op, partition, context).await {
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
}

/// Notes that all was offered.
fn mark(dir: &Path, said: &str) -> Result<(), StoreError> {
    let path = dir.join(DONE);
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
