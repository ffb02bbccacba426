//! Whether a member serves, and why not.

use super::member::Member;
use super::membership::part::ClusterRaft;
use super::wire::messages::{Condition, Order};
use crate::protocol::ids::MemberId;
use crate::protocol::replica::GIVEN_UP;
use std::time::Duration;

/// A disk that has not stored for so long hangs.
const HUNG: Duration = Duration::from_secs(5);

/// Why a member does not serve clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// The member comes into the cluster with the next view.
    Joining,
    /// The member is out of the view, and hands over its data.
    Left {
        /// The number of the view.
        view: u64,
    },
    /// The member was given up while it was to be removed: the others go on without it.
    GivenUp,
}

impl Member {
    /// Why the member serves nobody, although it works.
    pub fn absence(&self) -> Option<Absence> {
        if self.membership().knowledge().is_given_up() {
            return Some(Absence::GivenUp);
        }
        let marks = self.marks();
        if marks.partition.is_some() {
            return None;
        }
        let view = marks.view();
        Some(match marks.views.leaving.contains_key(&self.me()) {
            true => Absence::Left { view: view.number },
            false => Absence::Joining,
        })
    }

    /// Why this node serves no client yet: its cluster is not born.
    pub fn forming(&self) -> Option<String> {
        // As soon as the replica goes by the birth, it is on the disk.
        let born = self.marks().views.is_born();
        (!born).then(|| self.membership().forming())
    }

    /// Whether reads are served, and writes of clients stamped.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), String> {
        self.is_at_work()?;
        if let Some(forming) = self.forming() {
            return Err(forming);
        }
        if let Some(reason) = &self.marks().recovering {
            return Err(reason.clone());
        }
        let clock = self.router().admission().check_clock();
        clock.map_err(|refusal| refusal.to_string())?;
        // With a full disk the node serves all the same, as far as it can: reads, and where it is
        // only the Raft group's, writes.
        self.has_room()?;
        self.stores()?;
        // As a node that is cut off does.
        self.is_talked_to()
    }

    /// Whether the parts of this node go on that everything else here waits for.
    fn is_at_work(&self) -> Result<(), String> {
        if let Some(silent) = self.inbox().wedged() {
            return Err(format!(
                "the replica's thread has not answered for {} s: its disk hangs, or the process",
                silent.as_secs()
            ));
        }
        let council = self.membership().raft().and_then(ClusterRaft::failure);
        council.map_or(Ok(()), |why| {
            Err(format!("the council has ended here: {why}"))
        })
    }

    /// Whether what is stored gets to the disk.
    fn stores(&self) -> Result<(), String> {
        if let Some(time) = self.counters().under_way().filter(|time| *time >= HUNG) {
            return Err(format!(
                "storing has taken {} s and is not done: the disk hangs",
                time.as_secs()
            ));
        }
        let raft = self.membership().raft();
        match raft.is_some_and(|raft| raft.hangs(HUNG)) {
            true => Err(format!(
                "the council has stored nothing for {} s: its disk hangs",
                HUNG.as_secs()
            )),
            false => Ok(()),
        }
    }

    /// Whether other nodes talk to this one: at least one of its partition's, where it has others,
    /// and one of all.
    fn is_talked_to(&self) -> Result<(), String> {
        let peers = self.membership().peers();
        let marks = self.marks();
        let near = marks
            .partition
            .map(|partition| marks.view().replicas(partition));
        let near = |member: MemberId| near.is_some_and(|near| near.contains(&member));
        if let Some(why) = peers.refused(|_| true) {
            return Err(format!("no other node talks to this one ({why})"));
        }
        match peers.refused(near) {
            None => Ok(()),
            Some(why) => Err(format!(
                "no other node of its partition talks to this one ({why})"
            )),
        }
    }

    /// Whether what this node is to store finds room.
    fn has_room(&self) -> Result<(), String> {
        if let Some(full) = self.room().lacks(false) {
            return Err(format!("writes are refused, the disk is full: {full}"));
        }
        let raft = self.membership().raft();
        let raft = raft.map_or(Ok(()), ClusterRaft::has_room);
        raft.map_err(|full| format!("the council stores nothing here, {full}"))
    }

    /// Takes an order from another node.
    pub(super) fn obey(&self, order: Order) -> Condition {
        self.switch().take(order);
        self.condition()
    }

    /// How the node is.
    pub(super) fn condition(&self) -> Condition {
        if self.switch().is_down() {
            return Condition::Starting("it is about to fail".to_owned());
        }
        match (self.absence(), self.ready()) {
            (None, Ok(())) => Condition::Serving,
            (None, Err(why)) => Condition::Starting(why),
            (Some(Absence::Joining), _) => Condition::Starting("it is being added".to_owned()),
            (Some(Absence::GivenUp), _) => Condition::Starting(GIVEN_UP.to_owned()),
            (Some(Absence::Left { view }), _) => {
                Condition::Starting(format!("it is not in view {view} any more"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::super::life::Node;
    use super::super::replica::core::Input;
    use super::super::role::Role;
    use super::*;
    use crate::protocol::store::StoreError;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Instant;

    /// Only a node that hangs takes longer.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A node alone, and itself as a member, when it is ready.
    async fn ready_node(dir: &Path) -> (Arc<Node>, Arc<Member>) {
        let lookup = |name: &str| match name {
            "ip_port" | "VIEW" => Some("127.0.0.1:8080".to_owned()),
            "DATA_DIR" => Some(dir.to_string_lossy().into_owned()),
            _ => None,
        };
        let mut config = Config::from_env(lookup).unwrap();
        config.peer_bind.set_port(0);
        let node = Node::start(config).await.unwrap();
        let Role::Member(member) = &*node.role() else {
            panic!("it is a member");
        };
        let member = Arc::clone(member);
        until("it is ready", || member.ready().is_ok()).await;
        (node, member)
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < PATIENCE, "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn failure() -> StoreError {
        StoreError::Io {
            what: "the test's device".into(),
            detail: "it is gone".into(),
        }
    }

    fn says(member: &Member, words: &str) -> bool {
        member.ready().is_err_and(|why| why.contains(words))
    }

    #[tokio::test]
    async fn a_replica_whose_thread_does_not_answer_is_not_ready() {
        let dir = tempfile::tempdir().unwrap();
        let (node, member) = ready_node(dir.path()).await;
        let held = member.inbox().hold();
        until("it is noticed", || says(&member, "thread has not answered")).await;
        drop(held);
        until("it is ready again", || member.ready().is_ok()).await;
        node.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn a_node_whose_council_ended_is_not_ready() {
        let dir = tempfile::tempdir().unwrap();
        let (node, member) = ready_node(dir.path()).await;
        member.membership().raft().unwrap().fail(failure());
        // At once, and as long as the node goes on.
        assert!(says(&member, "the test's device"), "{:?}", member.ready());
        until("it is no member any more", || {
            matches!(&*node.role(), Role::Broken { .. })
        })
        .await;
        drop(member);
        let ended = tokio::time::timeout(PATIENCE, node.ended()).await.unwrap();
        assert!(ended.unwrap_err().to_string().contains("the test's device"));
    }

    #[tokio::test]
    async fn a_node_whose_storing_fails_is_not_ready() {
        let dir = tempfile::tempdir().unwrap();
        let (node, member) = ready_node(dir.path()).await;
        let failed = Input::StorageFailed(failure());
        member.inbox().input(failed).await;
        until("it is no member any more", || {
            matches!(&*node.role(), Role::Broken { .. })
        })
        .await;
        drop(member);
        let ended = tokio::time::timeout(PATIENCE, node.ended()).await.unwrap();
        assert!(ended.unwrap_err().to_string().contains("the test's device"));
    }
}
