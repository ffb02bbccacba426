//! Views that change: following them, and coming to an end.

use crate::cluster::Cluster;
use causeway::protocol::cluster::{self, ClusterId, PayloadKey};
use causeway::protocol::context::Context;
use causeway::protocol::placement::Change;
use causeway::protocol::view::View;
use causeway::protocol::views::Views;
use std::net::SocketAddr;

#[test]
pub fn views_of_another_cluster_are_not_taken_over() {
    let cluster = |n: u8, former: Option<u8>| cluster::Cluster {
        id: ClusterId([n; 16]),
        key: PayloadKey([n; 32]),
        former: former.map(|n| ClusterId([n; 16])),
    };
    let view = |k| {
        let at = [1, 2, 3].map(|n| SocketAddr::from(([10, 0, 0, n], 8080)));
        View::first(&at, k).unwrap()
    };
    let unborn = Views::first(view(2));
    let born = |cluster: cluster::Cluster, k: usize, version: u64| Views {
        version,
        ..Views::born(view(k), cluster)
    };
    let own = born(cluster(1, None), 2, 4);
    // At the first start, whatever the views of a cluster that was started with the same VIEW and K
    // say.
    assert!(unborn.may_become(&own));
    assert!(!unborn.may_become(&born(cluster(1, None), 1, 4)));
    // Newer ones of the same cluster, and those of one that goes on from it.
    assert!(own.may_become(&born(cluster(1, None), 2, 5)));
    assert!(!own.may_become(&born(cluster(1, None), 2, 4)));
    assert!(own.may_become(&born(cluster(2, Some(1)), 2, 5)));
    // A stranger's, however new, an earlier life's of the same nodes, and those of a node that lost
    // its disk.
    assert!(!own.may_become(&born(cluster(3, None), 1, 9)));
    assert!(!own.may_become(&born(cluster(3, None), 2, 9)));
    assert!(!own.may_become(&born(cluster(3, Some(2)), 2, 9)));
    assert!(!own.may_become(&Views {
        version: 9,
        ..unborn.clone()
    }));
}

#[test]
fn a_change_comes_to_an_end_and_keeps_everything() {
    let mut c = Cluster::new(2, 1);
    let (one, other, none) = (c.key(0, 0), c.key(1, 0), Context::default());
    c.put(0, &one, Some("1"), &none);
    let seen = c.put(1, &other, Some("2"), &none);
    c.change(Change::SetK(2));
    assert!(c.views_settle());
    for node in 0..2 {
        assert_eq!(c.value(node, &one, &seen).as_deref(), Some("1"));
        assert_eq!(c.value(node, &other, &seen).as_deref(), Some("2"));
    }
}
