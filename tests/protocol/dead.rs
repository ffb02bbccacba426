//! Nodes that are dead for good, and what is left without them.

use crate::cluster::Cluster;
use causeway::protocol::context::Context;
use causeway::protocol::council::{Command, Outcome};
use causeway::protocol::ids::MemberId;
use causeway::protocol::placement::Change;
use causeway::protocol::version::Key;

/// A cluster in which these nodes are dead for good: an operator says so, and removes one after the other.
fn removing_the_dead(n: usize, k: usize, dead: &[usize]) {
    let mut c = Cluster::new(n, k);
    let none = Context::default();
    let keys: Vec<Key> = (0..5).map(|i| c.key(0, i)).collect();
    for key in &keys {
        c.put(0, key, Some("1"), &none);
    }
    for node in dead {
        c.stop(*node);
    }
    c.run_ms(1_000);
    let members = dead.iter().map(|n| MemberId(*n as u16)).collect();
    assert_eq!(c.decide(Command::Dead { members }), Outcome::Changed);
    for node in dead {
        c.change(Change::Remove(MemberId(*node as u16)));
        assert!(c.views_settle(), "{:?}", c.council.views());
    }
    // What only they had is lost, and its slots are served again.
    c.run_ms(500);
    for key in &keys {
        for member in c.view().replicas(c.view().partition_of_key(key)).to_vec() {
            let node = usize::from(member.0);
            assert!(c.serves(node), "{:?}", c.marks(node).recovering);
            assert_eq!(c.value(node, key, &none), None);
        }
    }
}

#[test]
fn a_partition_that_is_dead_for_good_can_be_removed_node_by_node() {
    removing_the_dead(4, 2, &[0, 1]);
}

#[test]
fn dead_nodes_that_are_alone_in_their_partitions_can_be_removed_one_after_the_other() {
    removing_the_dead(4, 1, &[0, 1]);
}

#[test]
fn a_dead_partition_and_dead_nodes_of_others_can_be_removed_one_after_the_other() {
    removing_the_dead(6, 2, &[0, 1, 3]);
    removing_the_dead(6, 2, &[3, 1, 0]);
}
