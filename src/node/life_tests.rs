//! A node alone, in process, whose part in the Raft group ends.

use super::*;
use std::path::Path;

/// Only a node that hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// Starts a node alone.
async fn alone(dir: &Path) -> Arc<Node> {
    let lookup = |name: &str| match name {
        "ip_port" | "VIEW" => Some("127.0.0.1:8080".to_owned()),
        "DATA_DIR" => Some(dir.to_string_lossy().into_owned()),
        _ => None,
    };
    let mut settings = Config::from_env(lookup).unwrap();
    settings.peer_bind.set_port(0);
    Node::start(settings).await.unwrap()
}

/// The node as a member whose part in the Raft group decides.
async fn deciding(node: &Node) -> Arc<Member> {
    let member = async {
        loop {
            if let Role::Member(member) = &*node.role()
                && let Some(raft) = member.membership().raft()
                && raft.read().await.is_ok()
            {
                return Arc::clone(member);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, member).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_begins_anew_when_the_raft_library_gives_up_but_not_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let node = alone(dir.path()).await;
    let first = deciding(&node).await;
    first.membership().raft().unwrap().give_up().await;
    // The disk is opened again when nobody holds the former member.
    let former = Arc::downgrade(&first);
    drop(first);
    let second = deciding(&node).await;
    assert!(former.upgrade().is_none(), "the member did not change");
    second.membership().raft().unwrap().give_up().await;
    drop(second);
    let ended = tokio::time::timeout(PATIENCE, node.ended()).await.unwrap();
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("the Raft library gave up"), "{error}");
}
