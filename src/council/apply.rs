//! The replicated state of a node: what committed entries have made of the machine. It lives in memory, and is rebuilt at
//! a start from the last snapshot and the log after it.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{
    AnyError, EntryPayload, ErrorSubject, ErrorVerb, RaftSnapshotBuilder, StorageError,
    StorageIOError,
};
use tokio::sync::watch;

use super::disk::{Snapshots, fatal};
use super::machine::Machine;
use super::sessions::{Known, Sessions};
use super::types::{Answer, Entry, Group, LogId, Membership, Proposal, SnapshotMeta, Types};

type Failure = StorageError<u64>;

/// The machine, and the first log index that it has not applied.
pub struct Applied<M> {
    pub next: u64,
    pub machine: Arc<M>,
}

impl<M> Clone for Applied<M> {
    fn clone(&self) -> Self {
        Self {
            next: self.next,
            machine: Arc::clone(&self.machine),
        }
    }
}

/// Where others see the state.
pub struct Views<M> {
    /// After every entry.
    pub applied: watch::Sender<Applied<M>>,
    /// After entries that changed the machine.
    pub local: watch::Sender<Arc<M>>,
}

/// Applies entries to the machine, for the Raft library.
pub struct Applier<M> {
    state: State<M>,
    snapshots: Snapshots,
    views: Views<M>,
}

/// What a snapshot holds.
struct State<M> {
    last: Option<LogId>,
    membership: Membership,
    machine: Arc<M>,
    sessions: Arc<Sessions>,
}

impl<M> Clone for State<M> {
    fn clone(&self) -> Self {
        Self {
            last: self.last,
            membership: self.membership.clone(),
            machine: Arc::clone(&self.machine),
            sessions: Arc::clone(&self.sessions),
        }
    }
}

impl<M: Machine> Applier<M> {
    /// Starts from the snapshot on disk, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn open(snapshots: Snapshots) -> Result<Self, Failure> {
        let state = match snapshots.load().await.map_err(cannot_read)? {
            Some((meta, data)) => State::decode(&meta, &data)
                .map_err(|error| fatal(subject(&meta), ErrorVerb::Read, &error))?,
            None => State {
                last: None,
                membership: Membership::default(),
                machine: Arc::default(),
                sessions: Arc::default(),
            },
        };
        let views = Views {
            applied: watch::Sender::new(state.applied()),
            local: watch::Sender::new(Arc::clone(&state.machine)),
        };
        Ok(Self {
            state,
            snapshots,
            views,
        })
    }

    /// Where the state can be followed.
    pub fn views(&self) -> &Views<M> {
        &self.views
    }

    fn apply_group(&mut self, group: Group) -> Vec<Answer> {
        let machine = Arc::make_mut(&mut self.state.machine);
        // A snapshot that is being built holds the other copy.
        let sessions = Arc::make_mut(&mut self.state.sessions);
        let proposals = group.0.into_iter();
        proposals.map(|p| apply_one(machine, sessions, p)).collect()
    }

    fn publish(&self, changed: bool) {
        if changed {
            self.views
                .local
                .send_replace(Arc::clone(&self.state.machine));
        }
        self.views.applied.send_replace(self.state.applied());
    }
}

fn apply_one<M: Machine>(machine: &mut M, sessions: &mut Sessions, proposal: Proposal) -> Answer {
    match sessions.look(&proposal) {
        Known::Applied(outcome) => return Answer::Outcome(outcome),
        Known::Past => return Answer::Past,
        Known::New => {}
    }
    // The same bytes on every node: what cannot be read here is left out everywhere.
    let command = match postcard::from_bytes(&proposal.command) {
        Ok(command) => command,
        Err(error) => return Answer::Unreadable(error.to_string()),
    };
    let outcome = machine.apply(command);
    match postcard::to_stdvec(&outcome) {
        Ok(bytes) => {
            let bytes = Bytes::from(bytes);
            sessions.applied(&proposal, bytes.clone());
            Answer::Outcome(bytes)
        }
        Err(error) => Answer::Unreadable(error.to_string()),
    }
}

impl<M: Machine> State<M> {
    fn applied(&self) -> Applied<M> {
        Applied {
            next: self.last.map_or(0, |id| id.index + 1),
            machine: Arc::clone(&self.machine),
        }
    }

    fn decode(meta: &SnapshotMeta, data: &[u8]) -> Result<Self, postcard::Error> {
        let (machine, sessions): (M, Sessions) = postcard::from_bytes(data)?;
        Ok(Self {
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
            machine: Arc::new(machine),
            sessions: Arc::new(sessions),
        })
    }
}

impl<M: Machine> RaftStateMachine<Types> for Applier<M> {
    type SnapshotBuilder = Builder<M>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), Failure> {
        Ok((self.state.last, self.state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Answer>>, Failure>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut answers = Vec::new();
        let mut changed = false;
        for entry in entries {
            self.state.last = Some(entry.log_id);
            answers.push(match entry.payload {
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Normal(group) => {
                    changed = true;
                    self.apply_group(group)
                }
                EntryPayload::Membership(members) => {
                    self.state.membership = Membership::new(Some(entry.log_id), members);
                    Vec::new()
                }
            });
        }
        self.publish(changed);
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Builder<M> {
        Builder {
            state: self.state.clone(),
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
        let data = snapshot.into_inner();
        let state = State::decode(meta, &data)
            .map_err(|error| fatal(subject(meta), ErrorVerb::Read, &error))?;
        self.snapshots
            .save(meta, Bytes::from(data))
            .await
            .map_err(|error| fatal(subject(meta), ErrorVerb::Write, &error))?;
        self.state = state;
        self.publish(true);
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
    state: State<M>,
    snapshots: Snapshots,
}

impl<M: Machine> RaftSnapshotBuilder<Types> for Builder<M> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, Failure> {
        let state = self.state.clone();
        let meta = SnapshotMeta {
            last_log_id: state.last,
            last_membership: state.membership.clone(),
            snapshot_id: state.last.map_or_else(String::new, |id| id.to_string()),
        };
        let failed = |error: &(dyn std::error::Error + 'static)| {
            fatal(subject(&meta), ErrorVerb::Write, error)
        };
        // Away from the runtime's workers: it may take long.
        let encode = move || postcard::to_stdvec(&(&*state.machine, &*state.sessions));
        let data = tokio::task::spawn_blocking(encode).await;
        let data = data.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        let data = Bytes::from(data);
        let saved = self.snapshots.save(&meta, data.clone()).await;
        saved.map_err(|e| failed(&e))?;
        Ok(Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(data.into())),
        })
    }
}

fn subject(meta: &SnapshotMeta) -> ErrorSubject<u64> {
    ErrorSubject::Snapshot(Some(meta.signature()))
}

fn cannot_read(error: crate::protocol::store::StoreError) -> Failure {
    StorageIOError::read_state_machine(AnyError::new(&error)).into()
}
