//! Nodes that are out of the view: dead when they were removed, back on their old disk, back as new
//! ones.

use crate::harness::{Cluster, eventually};
use crate::session::{Session, here};
use crate::views::{CHANGED_WITHIN, assert_filled, fill};
use std::time::Duration;

/// A dead node is given up after three seconds.
const GIVEN_UP_WITHIN: Duration = CHANGED_WITHIN.saturating_add(Duration::from_secs(3));
const OFFERED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_removed_and_comes_back_only_as_a_new_one() {
    const OWN: usize = 30;
    let mut cluster = Cluster::new(4, 2).apart().all_up().await;
    let mut session = Session::default();
    fill(&cluster, &mut session, &[0, 1, 2, 3], OWN).await;
    cluster.level().await;
    cluster.formed().await;
    cluster.kill(3);
    let reply = cluster.remove(0, 3).await;
    assert!(reply.took < GIVEN_UP_WITHIN, "{reply:?}");
    assert_eq!(reply.status, 200, "{reply:?}");
    cluster.assert_view(&reply, &[0, 1, 2], 2).await;
    cluster.assert_keys(&[0, 1, 2], OWN as u64).await;
    // Values that are written over or deleted meanwhile do not come back with the removed node.
    for i in 0..10 {
        let (at, key) = (cluster.at(i % 3), format!("key-{i}"));
        let gone = session.delete(at, &key).await;
        assert_eq!(gone.status, 200, "{gone:?}");
        let put = session.put(at, &format!("key-{}", 10 + i), "newer").await;
        assert_eq!(put.status, 200, "{put:?}");
    }
    cluster.up(3).await;
    cluster.serving().await;
    cluster.assert_removed(3, &session).await;
    cluster.assert_keys(&[0, 1, 2], OWN as u64 - 10).await;
    for node in [0, 1, 2] {
        for i in 0..10 {
            let at = cluster.at(node);
            let read = session.get(at, &format!("key-{i}")).await;
            assert_eq!(read.value(), None, "{read:?}");
            let read = session.get(at, &format!("key-{}", 10 + i)).await;
            assert_eq!(read.value(), Some("newer"), "{read:?}");
        }
    }
    // Once more: it knows what it is from its own disk by now.
    cluster.kill(3);
    cluster.up(3).await;
    cluster.serving().await;
    cluster.assert_removed(3, &session).await;
    let before = cluster.status(2).await.member;
    let reply = cluster.add(1, 3).await;
    cluster.assert_changed(&reply, &[0, 1, 2, 3], 2).await;
    cluster.assert_keys(&[0, 1, 2, 3], OWN as u64 - 10).await;
    let member = cluster.status(3).await.member;
    assert!(member > before && member == Some(4), "{member:?}");
    let put = session.put(cluster.at(3), "key-0", "again").await;
    assert_eq!(put.status, 201, "{put:?}");
    for node in 0..4 {
        let read = session.get(cluster.at(node), "key-0").await;
        assert_eq!(read.value(), Some("again"), "{read:?}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_its_disk_comes_back_as_the_member_that_it_was() {
    const OWN: usize = 30;
    let mut cluster = Cluster::new(3, 2).with_spares(1).all_up().await;
    let mut session = Session::default();
    fill(&cluster, &mut session, &[0, 1, 2], OWN).await;
    let reply = cluster.add(0, 3).await;
    cluster.assert_changed(&reply, &[0, 1, 2, 3], 2).await;
    cluster.level().await;
    // One that never had a VIEW, and one that was started with it and is again.
    for (node, named) in [(3, false), (1, true)] {
        let before = cluster.status(node).await;
        cluster.down(node).await;
        cluster.lose_disk(node);
        cluster.name_in_view(node, named);
        cluster.up(node).await;
        cluster.until_state(node, "serving").await;
        let after = cluster.status(node).await;
        assert_eq!(after.member, before.member);
        assert_eq!(after.partition_id, before.partition_id);
        assert_eq!(after.keys, before.keys);
        cluster.level().await;
        assert_filled(&cluster, &session, &[node], OWN).await;
    }
    let reply = cluster.remove(2, 3).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    cluster.assert_view(&reply, &[0, 1, 2], 2).await;
    cluster.assert_keys(&[0, 1, 2], OWN as u64).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_through_several_changes_catches_up() {
    const OWN: usize = 30;
    let mut cluster = Cluster::new(4, 2).with_spares(2).all_up().await;
    let mut session = Session::default();
    fill(&cluster, &mut session, &[0, 1, 2, 3], OWN).await;
    cluster.level().await;
    cluster.formed().await;
    cluster.down(3).await;
    let mut nodes = vec![0, 1, 2, 3];
    for (add, node) in [(true, 4), (true, 5), (false, 0)] {
        let via = if add { 1 } else { 4 };
        let reply = match add {
            true => cluster.add(via, node).await,
            false => cluster.remove(via, node).await,
        };
        match add {
            true => nodes.push(node),
            false => nodes.retain(|n| *n != node),
        }
        // Some of the logs cannot be over without node 3, which is not removed: the rest is done.
        assert!(matches!(reply.status, 200 | 202), "{reply:?}");
        let here: Vec<usize> = nodes.iter().copied().filter(|n| *n != 3).collect();
        for node in &here {
            let status = cluster.status(*node).await;
            assert_eq!(Some(status.view.number), reply.body["view"].as_u64());
        }
        assert_filled(&cluster, &session, &here, OWN).await;
        let put = session
            .put(cluster.at(via), "meanwhile", &node.to_string())
            .await;
        assert!(put.written(), "{put:?}");
    }
    cluster.up(3).await;
    cluster.until_state(3, "serving").await;
    let newest = cluster.status(1).await.view.number;
    assert_eq!(cluster.status(3).await.view.number, newest);
    assert_eq!(
        session.get(cluster.at(3), "meanwhile").await.value(),
        Some("0")
    );
    assert_filled(&cluster, &session, &nodes, OWN).await;
    cluster.until_keys(&nodes, OWN as u64 + 1).await;
    cluster.until_removed(0).await;
    cluster.level().await;
    let read = here(cluster.at(3), "meanwhile", "").await;
    assert_eq!(read.value(), Some("0"), "{read:?}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_dead_node_had_comes_back_with_it() {
    const OWN: usize = 10;
    let mut cluster = Cluster::new(3, 1).apart().all_up().await;
    let mut session = Session::default();
    cluster.formed().await;
    // Each of these depends on those before it.
    let keys: Vec<String> = cluster.keys(2, "own").take(OWN).collect();
    let mut times = Vec::new();
    for key in &keys {
        let put = session.put(cluster.at(0), key, "before").await;
        assert!(put.written(), "{put:?}");
        times.push(put.body["timestamp"].clone());
    }
    cluster.kill(2);
    let reply = cluster.remove_losing_data(0, 2).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    // A client without a past finds nothing of what is lost, and goes on.
    let mut fresh = Session::default();
    for key in &keys {
        assert_eq!(fresh.get(cluster.at(1), key).await.value(), None);
    }
    let (newer, deleted, lost) = (&keys[0], &keys[1], &keys[2..]);
    assert!(fresh.put(cluster.at(0), newer, "newer").await.written());
    assert!(fresh.put(cluster.at(0), deleted, "newer").await.written());
    let gone = fresh.delete(cluster.at(1), deleted).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    cluster.up(2).await;
    cluster.until_state(2, "removed").await;
    let (last, at) = (&lost[lost.len() - 1], cluster.at(0));
    eventually("the last of them is back", OFFERED_WITHIN, async || {
        let read = Session::default().get(at, last).await;
        match read.value() {
            Some("before") => Ok(()),
            _ => Err(format!("{read:?}")),
        }
    })
    .await;
    for node in 0..2 {
        let at = cluster.at(node);
        for (key, time) in keys.iter().zip(&times).skip(2) {
            let read = fresh.get(at, key).await;
            assert_eq!(read.value(), Some("before"), "{read:?}");
            assert_eq!(&read.body["timestamp"], time, "{read:?}");
        }
        assert_eq!(fresh.get(at, newer).await.value(), Some("newer"));
        assert_eq!(fresh.get(at, deleted).await.value(), None);
    }
    // The removed node offers its data once: a delete from now on has nothing to fear.
    let said = cluster.config(2).data_dir.join("offered");
    eventually("all was offered", OFFERED_WITHIN, async || {
        let said = std::fs::read_to_string(&said).map_err(|e| e.to_string())?;
        assert!(said.starts_with("8 taken, 2 there already"), "{said}");
        Ok(())
    })
    .await;
    let gone = fresh.delete(cluster.at(0), last).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let reply = cluster.add(1, 2).await;
    cluster.assert_changed(&reply, &[0, 1, 2], 1).await;
    cluster.assert_keys(&[0, 1, 2], OWN as u64 - 2).await;
    cluster.end().await;
}
