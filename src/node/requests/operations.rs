//! Reads and writes of the causal store, for clients of this node.

use super::admission::Failed;
use super::bundle::Bundles;
use super::router::Router;
use crate::protocol::context::Context;
use crate::protocol::ids::MemberId;
use crate::protocol::op::{Answer, Consistency, Op, Read, Refusal, Written};
use crate::protocol::reads::Lookup;
use crate::protocol::version::Key;
use crate::protocol::view::PartitionId;
use bytes::Bytes;

/// The outcome of a write.
#[derive(Debug)]
pub enum Wrote {
    /// The write is on as many disks as it has to be.
    Written(Written),
    /// A delete of a key that is not there.
    NothingToDelete(Context),
}

impl Router {
    /// Reads a key of `partition`, never older than `context` unless asked so; ends within a
    /// second. Says which replica answered.
    ///
    /// # Errors
    /// When no replica could answer as asked.
    pub async fn get(
        &self,
        key: Key,
        partition: PartitionId,
        context: Context,
        consistency: Consistency,
    ) -> Result<(Read, MemberId), Failed> {
        let context = self.admission().admit(context)?;
        if let Some(Ok(Lookup::Answer(read))) = self.look(&key, partition, &context, consistency) {
            return Ok((read, self.me()));
        }
        let op = Op::Get { key, consistency };
        match self.drive(op, partition, context).await? {
            (Answer::Read(read), _, by) => Ok((read, by)),
            (other, context, _) => Err(unexpected(&other, context)),
        }
    }

    /// Writes a key of `partition`, or deletes it with `None`; ends within a second.
    ///
    /// # Errors
    /// When no replica took the write, or none said so in time.
    pub async fn write(
        &self,
        key: Key,
        partition: PartitionId,
        value: Option<Bytes>,
        context: Context,
    ) -> Result<Wrote, Failed> {
        let context = self.admission().admit(context)?;
        self.write_with(key, partition, value, context, None).await
    }

    /// As [`Router::write`], with a context that is let in; to other nodes it goes in `bundles`.
    pub(super) async fn write_with(
        &self,
        key: Key,
        partition: PartitionId,
        value: Option<Bytes>,
        context: Context,
        bundles: Option<&Bundles>,
    ) -> Result<Wrote, Failed> {
        if let Err(refusal) = self.admission().checked_clock().await {
            return Err(Failed { refusal, context });
        }
        let stamp = self.admission().stamp(context.clock);
        let op = Op::Write {
            key,
            value,
            stamp,
            orphan: None,
        };
        match self.drive_with(op, partition, context, bundles).await? {
            (Answer::Written(written), ..) => Ok(Wrote::Written(written)),
            (Answer::NothingToDelete(context), ..) => Ok(Wrote::NothingToDelete(context)),
            (other, context, _) => Err(unexpected(&other, context)),
        }
    }
}

pub(super) fn unexpected(answer: &Answer, context: Context) -> Failed {
    log::error!("an operation got an answer of another kind: {answer:?}");
    Failed {
        refusal: Refusal::Storage("a replica answered something else than it was asked".into()),
        context,
    }
}
