//! The Raft library's network: how it calls one other node.
//!
//! openraft counts the leader's own copy as soon as an entry is in memory. So a follower's
//! acknowledgement reaches openraft only once the entry is durable here too.
//!
//! openraft does not wait for calls that need no answer. That the commit index has grown is said
//! in a task of its own, or by the next entry if proposals wait.

use std::time::{Duration, Instant};

use openraft::AnyError;
use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use tokio_util::task::TaskTracker;

use super::config::{ELECTION_MIN, HEARTBEAT};
use super::disk::Durable;
use super::propose::decide::Queue;
use super::rpc::{self, RaftCallError, RaftReply, RaftRequest};
use super::runtime;
use super::teeth::{RaftRule, broken};
use super::transport::{Transport, TransportError};
use super::types::{EntryId, Types, Vote, member};

/// Pause before a node that could not be reached is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Connects to nodes.
#[derive(Clone)]
pub struct Network<T> {
    pub transport: T,
    /// How far this node's log is on its disk.
    pub durable: Durable,
    /// The proposals that wait on this node.
    pub queue: Queue,
    /// Runs the calls that nobody waits for.
    pub tasks: TaskTracker,
}

/// The calls to one node.
pub struct PeerNetwork<T> {
    network: Network<T>,
    to: u64,
    confirmed: Option<Confirmed>,
}

/// A node's last answer: it has all entries of the leader with this vote, up to `last`.
struct Confirmed {
    vote: Vote,
    last: EntryId,
    /// The commit index that the node was told.
    decided: Option<EntryId>,
    when: Instant,
}

impl Confirmed {
    /// Whether this answer serves for `rpc` too: no entries to store, and nothing new but the
    /// commit index.
    fn answers(&self, rpc: &AppendEntriesRequest<Types>) -> bool {
        rpc.entries.is_empty()
            && rpc.vote == self.vote
            && rpc.prev_log_id == Some(self.last)
            && rpc.leader_commit > self.decided
            // openraft takes it for an answer of now.
            && runtime::now() - self.when < HEARTBEAT
    }
}

impl<T: Transport> RaftNetworkFactory<Types> for Network<T> {
    type Network = PeerNetwork<T>;

    async fn new_client(&mut self, target: u64, _node: &()) -> PeerNetwork<T> {
        PeerNetwork {
            network: self.clone(),
            to: target,
            confirmed: None,
        }
    }
}

type Failed<E> = RPCError<u64, (), RaftError<u64, E>>;

impl<T: Transport> PeerNetwork<T> {
    async fn call<E: std::error::Error>(
        &self,
        request: RaftRequest,
        option: &RPCOption,
    ) -> Result<RaftReply, Failed<E>> {
        let Some(to) = member(self.to) else {
            return Err(unreachable("no member has this number"));
        };
        let reply = rpc::call(&self.network.transport, to, &request, option.hard_ttl()).await;
        match reply {
            Ok(RaftReply::Failed(reason)) => Err(unreachable(reason)),
            Ok(reply) => Ok(reply),
            Err(RaftCallError::Transport(TransportError::Unreachable(_))) => {
                Err(unreachable("down"))
            }
            Err(error) => Err(RPCError::Network(NetworkError::new(&error))),
        }
    }

    /// Returns when this node has the log below index `next` on its disk.
    async fn stored<E: std::error::Error>(&self, next: u64) -> Result<(), Failed<E>> {
        if broken(RaftRule::CountBeforeDurable) {
            return Ok(());
        }
        // Unreachable makes the library pause before it tries again: any other error makes it try
        // at once, without end.
        self.network.durable.wait(next).await.map_err(unreachable)
    }

    /// Sends a request that needs no answer. Skipped when proposals wait: the next entry says it
    /// too, and if none comes, the next heartbeat.
    fn tell(&self, rpc: AppendEntriesRequest<Types>, option: &RPCOption) {
        let Some(to) = member(self.to).filter(|_| self.network.queue.is_empty()) else {
            return;
        };
        let (transport, timeout) = (self.network.transport.clone(), option.hard_ttl());
        runtime::spawn(&self.network.tasks, async move {
            let _ = rpc::call(&transport, to, &RaftRequest::Append(rpc), timeout).await;
        });
    }
}

fn unreachable<E: std::error::Error>(why: impl ToString) -> Failed<E> {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(why)))
}

fn unfit<E: std::error::Error>() -> Failed<E> {
    unreachable("its answer is of another kind")
}

impl<T: Transport> RaftNetwork<Types> for PeerNetwork<T> {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, (), RaftError<u64>>> {
        // A leader whose disk hangs sends nothing, so that the others elect another one.
        if self.network.durable.hangs(ELECTION_MIN) {
            return Err(unreachable("this node's disk hangs"));
        }
        let (vote, decided) = (rpc.vote, rpc.leader_commit);
        // An only voter commits an entry before it is durable here.
        self.stored(decided.map_or(0, |id| id.index + 1)).await?;
        if let Some(confirmed) = self.confirmed.as_mut().filter(|c| c.answers(&rpc)) {
            confirmed.decided = decided;
            self.tell(rpc, &option);
            return Ok(AppendEntriesResponse::Success);
        }
        self.confirmed = None;
        let last = rpc.entries.last().map(|entry| entry.log_id);
        let last = last.or(rpc.prev_log_id);
        let RaftReply::Append(reply) = self.call(RaftRequest::Append(rpc), &option).await? else {
            return Err(unfit());
        };
        self.stored(rpc::confirmed(&reply, last)).await?;
        if let (AppendEntriesResponse::Success, Some(last)) = (&reply, last) {
            self.confirmed = Some(Confirmed {
                vote,
                last,
                decided,
                when: runtime::now(),
            });
        }
        Ok(reply)
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RPCError<u64, (), RaftError<u64, InstallSnapshotError>>>
    {
        match self.call(RaftRequest::Snapshot(rpc), &option).await? {
            RaftReply::Snapshot(Ok(reply)) => Ok(reply),
            RaftReply::Snapshot(Err(error)) => Err(RPCError::RemoteError(RemoteError::new(
                self.to,
                RaftError::APIError(error),
            ))),
            _ => Err(unfit()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, (), RaftError<u64>>> {
        match self.call(RaftRequest::Vote(rpc), &option).await? {
            RaftReply::Vote(reply) => Ok(reply),
            _ => Err(unfit()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::MemberId;
    use crate::raft::propose::batch::Proposals;
    use crate::raft::transport::{Rpc, RpcReply};
    use crate::raft::types::Entry;
    use futures_util::FutureExt;
    use openraft::{CommittedLeaderId, EntryPayload};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, PoisonError};

    /// Answers at once, and counts what it was asked.
    #[derive(Clone, Default)]
    struct Other {
        asked: Arc<AtomicUsize>,
        last: Arc<Mutex<Option<EntryId>>>,
    }

    impl Transport for Other {
        async fn call(
            &self,
            _: MemberId,
            request: Rpc,
            _: Duration,
        ) -> Result<RpcReply, TransportError> {
            let request: RaftRequest = rpc::decode(&request.0).unwrap();
            let RaftRequest::Append(rpc) = request else {
                panic!("{request:?}");
            };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = rpc.leader_commit;
            self.asked.fetch_add(1, Ordering::Relaxed);
            let reply = RaftReply::Append(AppendEntriesResponse::Success);
            Ok(RpcReply(rpc::encode(&reply, 0).unwrap()))
        }

        fn alive(&self, _: MemberId) -> bool {
            true
        }
    }

    impl Other {
        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    fn id(index: u64) -> EntryId {
        EntryId::new(CommittedLeaderId::new(3, 1), index)
    }

    /// With the entries from `prev` to `last`.
    fn append(prev: u64, last: u64, decided: u64) -> AppendEntriesRequest<Types> {
        let entry = |index| Entry {
            log_id: id(index),
            payload: EntryPayload::Blank,
        };
        AppendEntriesRequest {
            vote: Vote::new_committed(3, 1),
            prev_log_id: Some(id(prev)),
            entries: (prev + 1..=last).map(entry).collect(),
            leader_commit: Some(id(decided)),
        }
    }

    fn option() -> RPCOption {
        RPCOption::new(HEARTBEAT)
    }

    /// To another node, from one whose log is on its disk below `stored`.
    async fn peer(stored: u64) -> (PeerNetwork<Other>, Other, Network<Other>, impl Sized) {
        let (queue, gathering) = Queue::new();
        let other = Other::default();
        let mut network = Network {
            transport: other.clone(),
            durable: Durable::new(stored),
            queue,
            tasks: TaskTracker::new(),
        };
        let peer = network.new_client(2, &()).await;
        (peer, other, network, gathering)
    }

    #[tokio::test]
    async fn a_copy_elsewhere_counts_when_this_node_has_stored_it_too() {
        let (mut peer, other, network, _waiting) = peer(6).await;
        let mut answer = Box::pin(peer.append_entries(append(5, 7, 5), option()));
        assert!(answer.as_mut().now_or_never().is_none());
        network.durable.reached(7, true);
        assert!(answer.as_mut().now_or_never().is_none());
        // The call was sent before.
        assert_eq!(other.asked(), 1);
        network.durable.reached(8, false);
        answer.await.unwrap();
    }

    #[tokio::test]
    async fn what_an_only_voter_decides_is_told_when_it_is_stored() {
        let (mut peer, other, network, _waiting) = peer(6).await;
        let mut answer = Box::pin(peer.append_entries(append(5, 6, 6), option()));
        assert!(answer.as_mut().now_or_never().is_none());
        assert_eq!(other.asked(), 0);
        network.durable.reached(7, false);
        answer.await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_sent_while_the_disk_hangs_and_no_copy_counts_when_it_failed() {
        let (mut peer, other, network, _waiting) = peer(6).await;
        network.durable.queued();
        while !network.durable.hangs(ELECTION_MIN) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let refused = peer.append_entries(append(5, 5, 5), option()).await;
        assert!(refused.is_err());
        assert_eq!(other.asked(), 0);
        network.durable.reached(7, false);
        peer.append_entries(append(5, 6, 5), option())
            .await
            .unwrap();

        let error = crate::protocol::store::StoreError::Io {
            what: "a test".to_owned(),
            detail: "the disk is full".to_owned(),
        };
        network.durable.fail(error);
        // With a pause before the next attempt: there is nothing that would take time.
        let refused = peer.append_entries(append(6, 7, 6), option());
        let refused = refused.now_or_never().unwrap();
        assert!(matches!(refused, Err(RPCError::Unreachable(_))));
    }

    #[tokio::test]
    async fn that_more_is_decided_is_told_without_waiting() {
        let (mut peer, other, network, _waiting) = peer(100).await;
        peer.append_entries(append(5, 6, 5), option())
            .await
            .unwrap();
        assert_eq!(other.asked(), 1);
        let told = peer.append_entries(append(6, 6, 6), option());
        told.now_or_never().unwrap().unwrap();
        assert_eq!(other.asked(), 1);
        network.tasks.close();
        network.tasks.wait().await;
        assert_eq!(other.asked(), 2);
        assert_eq!(*other.last.lock().unwrap(), Some(id(6)));
        // With no news it is a heartbeat, whose answer has to be a real one.
        peer.append_entries(append(6, 6, 6), option())
            .await
            .unwrap();
        assert_eq!(other.asked(), 3);
    }

    #[tokio::test]
    async fn only_the_same_leader_that_was_just_confirmed_gets_no_real_answer() {
        let of = async |first: AppendEntriesRequest<Types>, then: AppendEntriesRequest<Types>| {
            let (mut peer, other, _network, _waiting) = peer(100).await;
            peer.append_entries(first, option()).await.unwrap();
            peer.append_entries(then, option()).await.unwrap();
            other.asked()
        };
        assert_eq!(
            of(append(5, 6, 5), append(5, 5, 6)).await,
            2,
            "another place"
        );
        let mut later = append(6, 6, 6);
        later.vote = Vote::new_committed(4, 1);
        assert_eq!(of(append(5, 6, 5), later).await, 2, "another leader");
        assert_eq!(of(append(5, 6, 5), append(6, 7, 6)).await, 2, "entries");

        let (mut peer, other, _network, _waiting) = peer(100).await;
        peer.append_entries(append(5, 6, 5), option())
            .await
            .unwrap();
        tokio::time::sleep(HEARTBEAT).await;
        peer.append_entries(append(6, 6, 6), option())
            .await
            .unwrap();
        assert_eq!(other.asked(), 2, "too long ago");
    }

    #[tokio::test]
    async fn the_next_entry_tells_what_is_decided_when_proposals_wait() {
        let (mut peer, other, network, _waiting) = peer(100).await;
        peer.append_entries(append(5, 6, 5), option())
            .await
            .unwrap();
        network.queue.fill(Proposals::join(&[]));
        peer.append_entries(append(6, 6, 6), option())
            .await
            .unwrap();
        network.tasks.close();
        network.tasks.wait().await;
        assert_eq!(other.asked(), 1);
    }
}
