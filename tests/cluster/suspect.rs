//! Nodes whose disk failed while it stored, at their next start.

use crate::harness::{Cluster, HTTP, LEVEL_WITHIN, PATIENCE, Process, eventually};
use crate::keys::{append, post};
use crate::session::{Session, here};
use std::path::Path;

/// Says in a store's directory that storing failed once.
fn suspect(dir: &Path) {
    std::fs::write(dir.join("SUSPECT"), "a test").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_failed_is_filled_from_another_one() {
    let mut cluster = Cluster::new(3, 3).apart().all_up().await;
    let mut session = Session::default();
    for key in ["a", "b"] {
        assert_eq!(session.put(cluster.at(0), key, "v").await.status, 201);
    }
    cluster.level().await;
    // Only node 2 has this one.
    cluster.down(0).await;
    cluster.down(1).await;
    let at = cluster.at(2);
    assert_eq!(session.put(at, "c", "v").await.status, 201);
    cluster.kill(2);
    suspect(cluster.dir(2));
    for node in [0, 1] {
        cluster.up(node).await;
    }
    eventually("another one serves", PATIENCE, async || {
        let url = format!("http://{}/ready", cluster.at(0));
        let status = HTTP.get(url).send().await.map(|r| r.status().as_u16());
        matches!(status, Ok(200))
            .then_some(())
            .ok_or(format!("{status:?}"))
    })
    .await;
    cluster.up(2).await;
    cluster.serving().await;
    cluster.level().await;
    assert!(!cluster.dir(2).join("SUSPECT").exists());
    assert!(cluster.dir(2).join("former.1").is_dir());
    for key in ["a", "b", "c"] {
        eventually("all have what it had", LEVEL_WITHIN, async || {
            for node in 0..3 {
                let read = here(cluster.at(node), key, "").await;
                if read.value() != Some("v") {
                    return Err(format!("{key} at {node}: {read:?}"));
                }
            }
            Ok(())
        })
        .await;
    }
    // Nothing of the Raft group's store is needed beside what others have.
    cluster.kill(2);
    let council = cluster.dir(2).join("council");
    suspect(&council);
    cluster.up(2).await;
    cluster.serving().await;
    assert!(!council.join("SUSPECT").exists());
    assert!(council.join("damaged/data").is_dir());
    eventually("lists are changed through it", PATIENCE, async || {
        let status = post(at, "list", &append("item"), &[]).await.status();
        (status == 204).then_some(()).ok_or(status.to_string())
    })
    .await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_whose_disk_failed_says_how_to_go_on() {
    let mut cluster = Cluster::new(1, 1).apart().all_up().await;
    let mut session = Session::default();
    assert_eq!(session.put(cluster.at(0), "a", "v").await.status, 201);
    cluster.down(0).await;
    suspect(cluster.dir(0));
    let mut process = Process::spawn(cluster.command(0));
    let (code, log) = process.ended(PATIENCE).await;
    assert_eq!(code, Some(1), "{log}");
    let dir = cluster.dir(0).display().to_string();
    assert!(log.contains("SUSPECT") && log.contains(&dir), "{log}");
    std::fs::remove_file(cluster.dir(0).join("SUSPECT")).unwrap();
    cluster.up(0).await;
    cluster.serving().await;
    assert_eq!(session.get(cluster.at(0), "a").await.value(), Some("v"));
    cluster.end().await;
}
