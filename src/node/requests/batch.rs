//! Many operations of one client at once: a batch of them, and a snapshot of several keys.

use super::admission::Failed;
use super::bundle::{Bundles, ReplyRoom};
use super::operations::{Wrote, unexpected};
use super::router::Router;
use crate::protocol::collect::Collect;
use crate::protocol::context::Context;
use crate::protocol::op::{Answer, Consistency, Op, Read, Refusal};
use crate::protocol::reads::Lookup;
use crate::protocol::version::Key;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Bytes of values that the reply to a batch or a snapshot has, unless the first one has more.
const REPLY_BYTES: usize = 16 << 20;

/// A snapshot ends within this time.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(1);

/// One operation of a batch.
#[derive(Debug, Clone)]
pub enum BatchOp {
    /// Read the key.
    Get,
    /// Write this JSON text.
    Put(Bytes),
    /// Delete the key.
    Delete,
}

/// What an operation of a batch came to.
#[derive(Debug)]
pub enum BatchOutcome {
    /// The key was read.
    Read(Read),
    /// The key was written or deleted, or there was nothing to delete.
    Wrote(Wrote),
}

impl BatchOutcome {
    /// What the client has seen with it.
    fn context(&self) -> &Context {
        match self {
            Self::Read(read) => &read.context,
            Self::Wrote(Wrote::Written(written)) => &written.context,
            Self::Wrote(Wrote::NothingToDelete(context)) => context,
        }
    }
}

impl Router {
    /// Does the operations of a batch: those on one key in their order, all others at once. Each
    /// ends within a second after it began. Returns what each came to, in order, and the client's
    /// context after all of them.
    ///
    /// # Errors
    /// When the context is refused, and with it all operations.
    pub async fn batch(
        &self,
        asked: Vec<(Key, BatchOp)>,
        context: Context,
    ) -> Result<(Vec<Result<BatchOutcome, Refusal>>, Context), Failed> {
        let context = self.admission().admit(context)?;
        let (bundles, room) = (Bundles::default(), ReplyRoom::new(REPLY_BYTES));
        let mut results: Vec<Option<Result<BatchOutcome, Refusal>>> = Vec::new();
        results.resize_with(asked.len(), || None);
        let mut lanes: BTreeMap<Key, Vec<(usize, BatchOp)>> = BTreeMap::new();
        for (at, (key, what)) in asked.into_iter().enumerate() {
            lanes.entry(key).or_default().push((at, what));
        }
        let work = lanes
            .into_iter()
            .map(|(key, lane)| self.lane(key, lane, context.clone(), &bundles, &room));
        let done = self.bundled(&bundles, work).await;
        let mut seen = context;
        for (at, result) in done.into_iter().flatten() {
            match &result {
                Ok(did) => seen.join(did.context()),
                Err(failed) => seen.join(&failed.context),
            }
            results[at] = Some(result.map_err(|failed| failed.refusal));
        }
        Ok((results.into_iter().flatten().collect(), seen))
    }

    /// Does the operations of a batch on one key, one after the other, each with what the one
    /// before it has seen.
    async fn lane(
        &self,
        key: Key,
        lane: Vec<(usize, BatchOp)>,
        mut context: Context,
        bundles: &Bundles,
        room: &ReplyRoom,
    ) -> Vec<(usize, Result<BatchOutcome, Failed>)> {
        let mut done = Vec::with_capacity(lane.len());
        for (at, what) in lane {
            let asked = (key.clone(), context.clone());
            let result = match what {
                BatchOp::Get => self
                    .read_one(asked, bundles, room)
                    .await
                    .map(BatchOutcome::Read),
                BatchOp::Put(value) => self
                    .write_one(asked, Some(value), bundles)
                    .await
                    .map(BatchOutcome::Wrote),
                BatchOp::Delete => self
                    .write_one(asked, None, bundles)
                    .await
                    .map(BatchOutcome::Wrote),
            };
            match &result {
                Ok(did) => context.join(did.context()),
                Err(failed) => context.join(&failed.context),
            }
            done.push((at, result));
        }
        done
    }

    /// Reads keys as one causal cut: no value is older than what another one depends on. See
    /// [`Collect`]. Ends within a second.
    ///
    /// # Errors
    /// When the context is refused, a key cannot be read, or the keys change faster than they can
    /// be read: with what was seen.
    pub async fn snapshot(
        &self,
        keys: &[Key],
        context: Context,
    ) -> Result<(Vec<Read>, Context), Failed> {
        let context = self.admission().admit(context)?;
        let mut collect = Collect::new(context);
        let rounds = async {
            loop {
                let (bundles, room) = (Bundles::default(), ReplyRoom::new(REPLY_BYTES));
                let context = collect.context().clone();
                let work = keys
                    .iter()
                    .map(|key| self.read_one((key.clone(), context.clone()), &bundles, &room));
                let round = self.bundled(&bundles, work).await;
                let round: Vec<Read> = round.into_iter().collect::<Result<_, _>>()?;
                if collect.take(&round) {
                    return Ok::<_, Failed>(round);
                }
            }
        };
        let rounds = tokio::time::timeout(SNAPSHOT_WITHIN, rounds).await;
        match rounds {
            Ok(Ok(reads)) => Ok((reads, collect.context().clone())),
            Ok(Err(mut failed)) => {
                failed.context.join(collect.context());
                Err(failed)
            }
            Err(_) => Err(Failed {
                refusal: Refusal::Unsettled,
                context: collect.context().clone(),
            }),
        }
    }

    async fn read_one(
        &self,
        (key, context): (Key, Context),
        bundles: &Bundles,
        room: &ReplyRoom,
    ) -> Result<Read, Failed> {
        let partition = self.partition_of_key(&key);
        let consistency = Consistency::Causal;
        let here = if self.is_here(partition) {
            // Many reads in a row that need nobody else would keep this thread from its other
            // requests. What goes elsewhere does not wait for that, so that it goes together.
            tokio::task::consume_budget().await;
            self.look(&key, partition, &context, consistency)
        } else {
            None
        };
        let (answer, context) = match here {
            Some(Ok(Lookup::Answer(read))) => (Answer::Read(read), context),
            _ => {
                let op = Op::Get { key, consistency };
                let (answer, context, _) = self
                    .drive_with(op, partition, context, Some(bundles))
                    .await?;
                (answer, context)
            }
        };
        match room.hold(answer) {
            Answer::Read(read) => Ok(read),
            Answer::Refused(refusal) => Err(Failed { refusal, context }),
            other => Err(unexpected(&other, context)),
        }
    }

    async fn write_one(
        &self,
        (key, context): (Key, Context),
        value: Option<Bytes>,
        bundles: &Bundles,
    ) -> Result<Wrote, Failed> {
        let partition = self.partition_of_key(&key);
        self.write_with(key, partition, value, context, Some(bundles))
            .await
    }

    /// Does work at once, of which what goes to other nodes at the same time goes in `bundles`.
    async fn bundled<F: Future>(
        &self,
        bundles: &Bundles,
        work: impl IntoIterator<Item = F>,
    ) -> Vec<F::Output> {
        let mut work = pin!(join_all(work));
        let mut sends = FuturesUnordered::new();
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(done) = work.as_mut().poll(cx) {
                    return Poll::Ready(done);
                }
                // All of the work that can go on has done so: what it wants to send is together.
                for bundle in bundles.take() {
                    sends.push(self.deliver(bundle));
                }
                match sends.poll_next_unpin(cx) {
                    Poll::Ready(Some(())) => {}
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}
