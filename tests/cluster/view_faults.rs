//! Changes of the view while nodes die, stand still, or are not there.

use crate::harness::{Cluster, LEVEL_WITHIN, PATIENCE, eventually};
use crate::load::{KEYS, Load, assert_causal};
use crate::session::Session;
use crate::views::{assert_filled, fill};
use std::time::Duration;

/// Every answer to a change is there within this time.
const ANSWERED_WITHIN: Duration = Duration::from_secs(16);
/// A node that is to come and dies is not waited for longer than this.
const CANCELLED_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let cluster = Cluster::new(2, 1).with_spares(2).all_up().await;
    let mut session = Session::default();
    fill(&cluster, &mut session, &[0, 1], 10).await;
    cluster.formed().await;
    // Not in the view; of two at once one has to wait; a node that is not there; one that is no
    // standby.
    let unknown = cluster.remove(0, 2).await;
    assert_eq!(unknown.status, 404, "{unknown:?}");
    let (one, other) = tokio::join!(cluster.add(0, 2), cluster.add(1, 3));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    let (nodes, done) = match (one.status, other.status) {
        (200, 200) => panic!("both were made: {one:?}, {other:?}"),
        (200, _) => (vec![0, 1, 2], one),
        _ => (vec![0, 1, 3], other),
    };
    assert_eq!(statuses, [200, 409]);
    cluster.assert_changed(&done, &nodes, 1).await;
    cluster.assert_keys(&nodes, 10).await;
    let nowhere = Cluster::new(1, 1);
    let url = format!("http://{}/kvs/view_update", cluster.at(0));
    let form = [
        ("ip_port", nowhere.at(0).to_string()),
        ("type", "add".to_owned()),
    ];
    let request = crate::harness::HTTP.put(url).form(&form);
    let dead = crate::session::send(request).await;
    assert!(dead.status == 503 && dead.retry_after, "{dead:?}");
    let error = dead.body["error"].as_str().unwrap();
    assert!(error.contains("nothing was changed"), "{error}");
    cluster.assert_view(&done, &nodes, 1).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_dies_in_the_middle_is_not_added() {
    let mut cluster = Cluster::new(3, 2).with_spares(2).apart().all_up().await;
    let mut session = Session::default();
    fill(&cluster, &mut session, &[0, 1, 2], 20).await;
    cluster.formed().await;
    // The standby accepts the invitation, and is not heard of again.
    let (reply, ()) = tokio::join!(cluster.add(0, 3), async {
        cluster.until_change_runs(3).await;
        cluster.freeze(3);
    });
    if reply.status == 200 {
        // The standby was faster than the test: then it is a dead node of the view, which can be
        // removed.
        cluster.thaw(3);
        cluster.end().await;
        return;
    }
    assert!(
        reply.status == 503 && reply.took < CANCELLED_WITHIN,
        "{reply:?}"
    );
    let error = reply.body["error"].as_str().unwrap();
    assert!(error.contains("cancelled"), "{error}");
    // The next one can be added at once.
    let reply = cluster.add(1, 4).await;
    cluster.assert_changed(&reply, &[0, 1, 2, 4], 2).await;
    cluster.assert_keys(&[0, 1, 2, 4], 20).await;
    cluster.kill(3);
    assert_filled(&cluster, &session, &[0, 1, 2, 4], 20).await;
    cluster.end().await;
}

impl Cluster {
    /// Waits until a change of the view has begun: a node that is to come says so.
    async fn until_change_runs(&self, spare_from: usize) {
        eventually("a change runs", PATIENCE, async || {
            for node in spare_from..self.nodes() {
                if self.status(node).await.state == "joining" {
                    return Ok(());
                }
            }
            Err("nobody is coming".to_owned())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_ends_while_a_node_stands_still_and_its_writes_are_kept() {
    let cluster = Cluster::new(4, 2).with_spares(1).apart().all_up().await;
    cluster.formed().await;
    let load = Load::start(&cluster, 10, 0.05).await;
    cluster.until_keys(&[0, 1, 2, 3], KEYS.into()).await;
    cluster.freeze(2);
    let reply = cluster.add(0, 4).await;
    // The view is in force without the node that stands still, but some data may wait for that
    // node.
    assert!(matches!(reply.status, 200 | 202), "{reply:?}");
    assert!(reply.took < ANSWERED_WITHIN, "{reply:?}");
    for node in [0, 1, 3, 4] {
        let number = cluster.status(node).await.view.number;
        assert_eq!(Some(number), reply.body["view"].as_u64());
    }
    cluster.thaw(2);
    cluster.until_settled(&[0, 1, 2, 3, 4]).await;
    let reply = cluster.add(0, 4).await;
    cluster.assert_changed(&reply, &[0, 1, 2, 3, 4], 2).await;
    assert_causal(&load.end(PATIENCE).await);
    cluster.level().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_on_its_way_in_takes_changes_as_others_do() {
    let cluster = Cluster::new(4, 2).with_spares(2).apart().all_up().await;
    cluster.formed().await;
    // One that gains slots stands still: for as long as it is waited for the change goes on.
    cluster.freeze(2);
    let (reply, ()) = tokio::join!(cluster.add(0, 4), async {
        cluster.until_change_runs(4).await;
        // Its own addition is the change that runs; another one has to wait.
        let (same, other) = tokio::join!(cluster.add(4, 4), cluster.remove(4, 3));
        assert!(matches!(same.status, 200 | 202), "{same:?}");
        assert_eq!(other.status, 409, "{other:?}");
    });
    assert!(matches!(reply.status, 200 | 202), "{reply:?}");
    cluster.thaw(2);
    cluster.until_settled(&[0, 1, 2, 3, 4]).await;
    cluster.end().await;
}

impl Cluster {
    /// Waits until nodes that were away have caught up.
    async fn until_settled(&self, nodes: &[usize]) {
        for node in nodes {
            self.until_state(*node, "serving").await;
        }
        eventually("they go by the same view", LEVEL_WITHIN, async || {
            let mut numbers = Vec::new();
            for node in nodes {
                numbers.push(self.status(*node).await.view.number);
            }
            let same = numbers.iter().all(|n| *n == numbers[0]);
            same.then_some(()).ok_or(format!("{numbers:?}"))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_in_the_middle_leaves_the_change_to_its_successor() {
    const OWN: usize = 20;
    let mut cluster = Cluster::new(3, 3).with_spares(1).apart().all_up().await;
    let mut session = Session::default();
    fill(&cluster, &mut session, &[0, 1, 2], OWN).await;
    cluster.formed().await;
    // One of the three leads, so with each of them killed once the leader is among them.
    let mut added = false;
    for victim in 0..3 {
        let via = (victim + 1) % 3;
        cluster.level().await;
        let change = async {
            match added {
                false => cluster.add(via, 3).await,
                true => cluster.remove(via, 3).await,
            }
        };
        let at = cluster.at(victim);
        let (reply, ()) = tokio::join!(change, async {
            tokio::time::sleep(Duration::from_millis(60 * victim as u64)).await;
            cluster.freeze(victim);
        });
        println!("node {victim} at {at} was gone meanwhile");
        assert!(matches!(reply.status, 200 | 202 | 503), "{reply:?}");
        assert!(reply.took < ANSWERED_WITHIN, "{reply:?}");
        cluster.kill(victim);
        cluster.up(victim).await;
        cluster.until_settled(&[0, 1, 2]).await;
        // Whatever was answered: it is asked for again until it is so.
        eventually("the change is made", PATIENCE, async || {
            let again = match added {
                false => cluster.add(via, 3).await,
                true => cluster.remove(via, 3).await,
            };
            let done = again.status == 200 || added && again.status == 404;
            done.then_some(()).ok_or(format!("{again:?}"))
        })
        .await;
        added = !added;
        let nodes: &[usize] = if added { &[0, 1, 2, 3] } else { &[0, 1, 2] };
        assert_filled(&cluster, &session, nodes, OWN).await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_changes_and_the_store_goes_on() {
    let mut cluster = Cluster::new(3, 3).with_spares(1).apart().all_up().await;
    let mut session = Session::default();
    fill(&cluster, &mut session, &[0, 1, 2], 10).await;
    cluster.formed().await;
    cluster.level().await;
    cluster.kill(1);
    cluster.kill(2);
    let (reply, ()) = tokio::join!(cluster.add(0, 3), async {
        for i in 0..20 {
            let put = session
                .put(cluster.at(0), "meanwhile", &i.to_string())
                .await;
            assert!(put.in_time().written());
            let read = session.get(cluster.at(0), "meanwhile").await.in_time();
            assert_eq!(read.value(), Some(i.to_string().as_str()));
        }
    });
    assert!(reply.status == 503 && reply.retry_after, "{reply:?}");
    assert!(reply.took < ANSWERED_WITHIN, "{reply:?}");
    // One of them is back without its disk and does not know any more who it is: there is nobody
    // who leads, and it is told all the same.
    cluster.lose_disk(1);
    cluster.name_in_view(1, false);
    cluster.up(1).await;
    cluster.until_state(1, "serving").await;
    assert_filled(&cluster, &session, &[1], 10).await;
    cluster.up(2).await;
    cluster.until_settled(&[0, 1, 2]).await;
    eventually("it is added", PATIENCE, async || {
        let again = cluster.add(1, 3).await;
        (again.status == 200)
            .then_some(())
            .ok_or(format!("{again:?}"))
    })
    .await;
    assert_filled(&cluster, &session, &[0, 1, 2, 3], 10).await;
    assert_eq!(
        session.get(cluster.at(3), "meanwhile").await.value(),
        Some("19")
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_dies_right_after_the_first_start_can_be_removed() {
    for victim in 0..3 {
        let mut cluster = Cluster::new(3, 3).apart().all_up().await;
        let mut session = Session::default();
        fill(&cluster, &mut session, &[0, 1, 2], 6).await;
        cluster.formed().await;
        cluster.kill(victim);
        let nodes: Vec<usize> = (0..3).filter(|n| *n != victim).collect();
        let reply = cluster.remove(nodes[0], victim).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        cluster.assert_view(&reply, &nodes, 3).await;
        assert_filled(&cluster, &session, &nodes, 6).await;
        cluster.end().await;
    }
}
