//! The replicated state of a node: what committed entries have made of the machine. It lives in
//! memory, and is rebuilt at a start from the last snapshot and the log after it.

use std::io::Cursor;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{
    AnyError, EntryPayload, ErrorSubject, ErrorVerb, RaftSnapshotBuilder, StorageError,
    StorageIOError,
};
use tokio::sync::watch;

use super::compact::Growth;
use super::disk::{Durable, Snapshots, fatal};
use super::machine::Machine;
use super::propose::batch::Proposal;
use super::rpc::entry_size;
use super::runtime;
use super::sessions::{KnownProposal, Sessions};
use super::teeth::{RaftRule, broken};
use super::types::{
    EncodedOutcome, Entry, EntryId, ProposalResult, SnapshotMeta, StoredMembership, Types,
};
use crate::protocol::store::StoreError;

type Failure = StorageError<u64>;

/// The machine as others see it. Clones share it.
///
/// The machine is changed in place, a log entry or more at a time, and a reader holds changes up. A
/// copy for each reader would make every change copy what readers share with it.
pub struct Shown<M: Machine> {
    machine: Arc<RwLock<M>>,
    /// The first log index that the machine has not applied.
    next: watch::Sender<u64>,
    followed: watch::Sender<M::Followed>,
}

impl<M: Machine> Clone for Shown<M> {
    fn clone(&self) -> Self {
        Self {
            machine: Arc::clone(&self.machine),
            next: self.next.clone(),
            followed: self.followed.clone(),
        }
    }
}

impl<M: Machine> Shown<M> {
    fn new(machine: M, next: u64) -> Self {
        Self {
            followed: watch::Sender::new(machine.followed()),
            machine: Arc::new(RwLock::new(machine)),
            next: watch::Sender::new(next),
        }
    }

    /// Looks at the machine, which stands still meanwhile: `look` must be quick.
    pub fn look<R>(&self, look: impl FnOnce(&M) -> R) -> R {
        // A thread that panicked cannot have left it half changed: applying does not panic.
        look(&self.machine.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<R>(&self, next: u64, change: impl FnOnce(&mut M) -> R) -> R {
        let (result, followed) = {
            let mut machine = self.machine.write().unwrap_or_else(PoisonError::into_inner);
            let result = change(&mut machine);
            (result, machine.followed())
        };
        self.followed.send_if_modified(|known| {
            let changed = *known != followed;
            if changed {
                *known = followed;
            }
            changed
        });
        self.next.send_replace(next);
        result
    }

    /// The first log index that the machine has not applied. A look comes no earlier.
    pub fn next(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    /// The part that is followed.
    pub fn followed(&self) -> watch::Receiver<M::Followed> {
        self.followed.subscribe()
    }
}

/// Applies entries to the machine, for the Raft library.
pub struct Applier<M: Machine> {
    shown: Shown<M>,
    at: At,
    snapshots: Snapshots,
    durable: Durable,
    growth: Growth,
}

/// The part of a snapshot beside the machine.
#[derive(Clone)]
struct At {
    last: Option<EntryId>,
    membership: StoredMembership,
    sessions: Arc<Sessions>,
}

impl At {
    fn next(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }
}

impl<M: Machine> Applier<M> {
    /// Starts from the snapshot on disk, if there is one. Nothing is applied that is not `durable`
    /// in this node's log.
    ///
    /// # Errors
    /// When the snapshot cannot be read.
    pub async fn open(
        snapshots: Snapshots,
        durable: Durable,
        growth: Growth,
    ) -> Result<Self, Failure> {
        let (machine, at) = match snapshots.load().await.map_err(cannot_read)? {
            Some((meta, data)) => {
                growth.snapshot(data.len());
                decode(&meta, &data)
                    .map_err(|error| fatal(subject(&meta), ErrorVerb::Read, &error))?
            }
            None => (
                M::default(),
                At {
                    last: None,
                    membership: StoredMembership::default(),
                    sessions: Arc::default(),
                },
            ),
        };
        Ok(Self {
            shown: Shown::new(machine, at.next()),
            at,
            snapshots,
            durable,
            growth,
        })
    }

    /// Where others see the machine.
    pub fn shown(&self) -> &Shown<M> {
        &self.shown
    }
}

fn apply_one<M: Machine>(
    machine: &mut M,
    sessions: &mut Sessions,
    proposal: Result<Proposal<'_>, postcard::Error>,
) -> ProposalResult {
    // Every node has the same bytes: a command that cannot be decoded here is left out everywhere.
    let unreadable = |error: postcard::Error| ProposalResult::Unreadable(error.to_string());
    let Proposal { header, command } = match proposal {
        Ok(proposal) => proposal,
        Err(error) => return unreadable(error),
    };
    match sessions.look(&header) {
        _ if broken(RaftRule::ApplyTwice) => {}
        KnownProposal::Applied(outcome) => return ProposalResult::Outcome(outcome),
        KnownProposal::Past => return ProposalResult::Past,
        KnownProposal::New => {}
    }
    let command = match postcard::from_bytes(command) {
        Ok(command) => command,
        Err(error) => return unreadable(error),
    };
    match postcard::to_extend(&machine.apply(command), EncodedOutcome::new()) {
        Ok(outcome) => {
            sessions.applied(&header, outcome.clone());
            ProposalResult::Outcome(outcome)
        }
        Err(error) => unreadable(error),
    }
}

fn decode<M: Machine>(meta: &SnapshotMeta, data: &[u8]) -> Result<(M, At), postcard::Error> {
    let (machine, sessions): (M, Sessions) = postcard::from_bytes(data)?;
    let at = At {
        last: meta.last_log_id,
        membership: meta.last_membership.clone(),
        sessions: Arc::new(sessions),
    };
    Ok((machine, at))
}

impl<M: Machine> RaftStateMachine<Types> for Applier<M> {
    type SnapshotBuilder = Builder<M>;

    async fn applied_state(&mut self) -> Result<(Option<EntryId>, StoredMembership), Failure> {
        Ok((self.at.last, self.at.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<ProposalResult>>, Failure>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut answers = Vec::new();
        for entry in entries {
            if !broken(RaftRule::CountBeforeDurable) {
                // An only voter commits an entry before it is durable here.
                let stored = self.durable.wait(entry.log_id.index + 1).await;
                stored.map_err(|error| fatal(ErrorSubject::Logs, ErrorVerb::Write, &error))?;
            }
            self.at.last = Some(entry.log_id);
            self.growth.add(entry_size(&entry));
            let next = entry.log_id.index + 1;
            answers.push(match entry.payload {
                EntryPayload::Blank => self.shown.change(next, |_| Vec::new()),
                EntryPayload::Normal(batch) => {
                    // A snapshot that is being built holds the other copy.
                    let sessions = Arc::make_mut(&mut self.at.sessions);
                    self.shown.change(next, |machine| {
                        let proposals = batch.iter();
                        proposals.map(|p| apply_one(machine, sessions, p)).collect()
                    })
                }
                EntryPayload::Membership(members) => {
                    self.at.membership = StoredMembership::new(Some(entry.log_id), members);
                    self.shown.change(next, |_| Vec::new())
                }
            });
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Builder<M> {
        self.growth.restart();
        Builder {
            growth: self.growth.clone(),
            machine: self.shown.look(M::clone),
            at: self.at.clone(),
            snapshots: self.snapshots.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, Failure> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            fatal(subject(meta), ErrorVerb::Read, error)
        };
        let data = Bytes::from(snapshot.into_inner());
        // Decoding may take long, so it runs away from the runtime's workers.
        let (of, read) = (meta.clone(), data.clone());
        let decoded = runtime::blocking(move || decode(&of, &read)).await;
        // The log waits for the snapshot, or for the end of all storing.
        let failed = |error: &(dyn std::error::Error + 'static)| {
            self.durable.fail(StoreError::Io {
                what: "a snapshot that was sent to this node".to_owned(),
                detail: error.to_string(),
            });
            failed(error)
        };
        let (machine, at) = decoded.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        let bytes = data.len();
        self.snapshots
            .save(meta, data)
            .await
            .map_err(|error| fatal(subject(meta), ErrorVerb::Write, &error))?;
        self.shown.change(at.next(), |shown| *shown = machine);
        self.at = at;
        self.growth.restart();
        self.growth.snapshot(bytes);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, Failure> {
        let found = self.snapshots.load().await.map_err(cannot_read)?;
        Ok(found.map(|(meta, data)| Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(data)),
        }))
    }
}

/// Makes a snapshot of the state as it was when the builder was made.
pub struct Builder<M> {
    machine: M,
    at: At,
    snapshots: Snapshots,
    growth: Growth,
}

impl<M: Machine> RaftSnapshotBuilder<Types> for Builder<M> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, Failure> {
        let (machine, at) = (self.machine.clone(), self.at.clone());
        let meta = SnapshotMeta {
            last_log_id: at.last,
            last_membership: at.membership.clone(),
            snapshot_id: at.last.map_or_else(String::new, |id| id.to_string()),
        };
        let failed = |error: &(dyn std::error::Error + 'static)| {
            fatal(subject(&meta), ErrorVerb::Write, error)
        };
        // Encoding may take long, so it runs away from the runtime's workers.
        let room = self.growth.room();
        let encode =
            move || postcard::to_extend(&(&machine, &*at.sessions), Vec::with_capacity(room));
        let data = runtime::blocking(encode).await;
        let data = data.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        let data = Bytes::from(data);
        let saved = self.snapshots.save(&meta, data.clone()).await;
        saved.map_err(|e| failed(&e))?;
        self.growth.snapshot(data.len());
        Ok(Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(data.into())),
        })
    }
}

fn subject(meta: &SnapshotMeta) -> ErrorSubject<u64> {
    ErrorSubject::Snapshot(Some(meta.signature()))
}

fn cannot_read(error: StoreError) -> Failure {
    StorageIOError::read_state_machine(AnyError::new(&error)).into()
}
