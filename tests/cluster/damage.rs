//! Data on a disk that is not as it was written.

use crate::harness::{Cluster, HTTP, PATIENCE, eventually};
use crate::session::{Session, here};
use causeway::server::RunError;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Values of this length, so many that the engine has made tables of most.
const VALUE_BYTES: usize = 64 << 10;
const VALUES: usize = 420;

/// Between two tries to scrub a disk that is held.
const LOOK: Duration = Duration::from_millis(50);

fn key(i: usize) -> String {
    format!("key-{i}")
}

fn value(i: usize) -> String {
    format!("{i:08}").repeat(VALUE_BYTES / 8)
}

async fn fill(cluster: &Cluster) {
    let mut session = Session::default();
    for i in 0..VALUES {
        let at = cluster.at(i % cluster.nodes());
        let put = session.put(at, &key(i), &value(i)).await;
        assert!(put.written(), "{put:?}");
    }
    cluster.level().await;
}

/// The files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let nested = entries.map(|path| match path.is_dir() {
        true => files(&path),
        false => vec![path],
    });
    nested.flatten().collect()
}

/// Changes some bytes in the middle of the longest table of a node that is down.
fn damage_a_table(dir: &Path) -> PathBuf {
    let tables = files(&dir.join("data/keyspaces")).into_iter();
    let tables = tables.filter(|path| path.parent().is_some_and(|dir| dir.ends_with("tables")));
    let longest = tables.max_by_key(|path| path.metadata().unwrap().len());
    let table = longest.expect("a table");
    let mut bytes = fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64]
        .iter_mut()
        .for_each(|b| *b ^= 0x55);
    fs::write(&table, bytes).unwrap();
    table
}

/// Scrubs the disk of a node that is down. A scrub of the node's own that was under way may hold it
/// for a moment longer.
async fn scrub(dir: &Path) -> Output {
    let began = Instant::now();
    loop {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        let output = command.arg("scrub").arg(dir).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if !said.contains("a node runs on") || began.elapsed() > PATIENCE {
            return output;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Node 1 serves again, and has everything itself.
async fn assert_filled(cluster: &mut Cluster) {
    let aside = cluster.dir(1).join("damaged/data");
    eventually("the damaged data is put aside", 4 * PATIENCE, async || {
        aside
            .exists()
            .then_some(())
            .ok_or_else(|| "it is not".to_owned())
    })
    .await;
    cluster.serving().await;
    cluster.level().await;
    cluster.down(0).await;
    for i in 0..VALUES {
        let read = here(cluster.at(1), &key(i), "").await;
        assert_eq!(read.value(), Some(&value(i)[..]), "{}", read.status);
    }
    cluster.down(1).await;
    let output = scrub(cluster.dir(1)).await;
    assert!(output.status.success(), "{output:?}");
    let left = fs::read_dir(cluster.dir(1)).unwrap();
    let left: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
    assert!(left.contains(&"damaged".into()), "it is kept: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_a_reader_meets_is_put_aside_and_filled_by_the_others() {
    let mut cluster = Cluster::start(2, 2).await;
    fill(&cluster).await;
    cluster.down(1).await;
    let output = scrub(cluster.dir(1)).await;
    assert!(output.status.success(), "{output:?}");
    let table = damage_a_table(cluster.dir(1));
    let output = scrub(cluster.dir(1)).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&*table.to_string_lossy()), "{said}");

    cluster.up(1).await;
    cluster.serving().await;
    let mut session = Session::default();
    for i in 0..VALUES {
        // Each answer is right; while the node begins anew there may be none.
        let read = session.get(cluster.at(1), &key(i)).await;
        assert!(
            read.status == 503 || read.value() == Some(&value(i)),
            "{}",
            read.status
        );
    }
    assert_filled(&mut cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_nobody_meets_is_found_by_the_scrub() {
    let mut cluster = Cluster::start(2, 2).await;
    fill(&cluster).await;
    cluster.down(1).await;
    damage_a_table(cluster.dir(1));
    cluster.up(1).await;
    assert_filled(&mut cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_the_raft_log_is_found_by_the_scrub_and_filled_by_the_others() {
    let mut cluster = Cluster::start(3, 3).await;
    let list = |at, i: usize| HTTP.get(format!("http://{at}/keys/{}?consistency=local", key(i)));
    for i in 0..VALUES {
        let put = HTTP.post(format!("http://{}/keys/{}", cluster.at(0), key(i)));
        let put = put.json(&json!({"type": "PUT", "value": [value(i)]}));
        assert_eq!(put.send().await.unwrap().status(), 204);
    }
    cluster.down(1).await;
    damage_a_table(&cluster.dir(1).join("council"));
    cluster.up(1).await;
    let aside = cluster.dir(1).join("council/damaged/data");
    eventually("the damaged log is put aside", 4 * PATIENCE, async || {
        let there = aside.exists().then_some(());
        there.ok_or_else(|| "it is not".to_owned())
    })
    .await;
    cluster.serving().await;
    for i in 0..VALUES {
        eventually("the node has the list", PATIENCE, async || {
            let read = list(cluster.at(1), i).send().await;
            let read = read.map_err(|e| e.to_string())?;
            let whole =
                read.status() == 200 && read.json::<Vec<String>>().await.unwrap() == [value(i)];
            whole.then_some(()).ok_or_else(|| key(i))
        })
        .await;
    }
    // The repaired node votes again: with the two of them there is a leader.
    eventually("the node may vote", PATIENCE, async || {
        let view = HTTP.get(format!("http://{}/view", cluster.at(1))).send();
        let view: Value = view.await.unwrap().json().await.unwrap();
        let votes = view["council"]["may_vote"] == true;
        votes.then_some(()).ok_or_else(|| view.to_string())
    })
    .await;
    cluster.down(2).await;
    eventually("lists change", PATIENCE, async || {
        let put = HTTP.post(format!("http://{}/keys/new", cluster.at(1)));
        let put = put.json(&json!({"type": "PUT", "value": []})).send();
        let status = put.await.map_err(|e| e.to_string())?.status();
        (status == 204)
            .then_some(())
            .ok_or_else(|| status.to_string())
    })
    .await;
}

/// Overwrites what says which tables there are.
fn damage_the_manifests(dir: &Path) {
    let files = files(&dir.join("data/keyspaces")).into_iter();
    for current in files.filter(|path| path.ends_with("current")) {
        fs::write(current, [0; 25]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_a_start_meets_is_put_aside_if_others_have_the_data() {
    let mut cluster = Cluster::start(2, 2).await;
    let put = Session::default().put(cluster.at(0), "k", "v").await;
    assert!(put.written(), "{put:?}");
    cluster.level().await;
    cluster.down(1).await;
    damage_the_manifests(cluster.dir(1));
    damage_the_manifests(&cluster.dir(1).join("council"));
    cluster.up(1).await;
    cluster.serving().await;
    cluster.level().await;
    let read = here(cluster.at(1), "k", "").await;
    assert_eq!(read.value(), Some("v"));
    for dir in ["damaged", "council/damaged"] {
        assert!(cluster.dir(1).join(dir).exists(), "{dir}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_what_nobody_else_has_ends_the_start_and_is_left_alone() {
    let mut cluster = Cluster::start(2, 1).await;
    cluster.down(1).await;
    damage_the_manifests(cluster.dir(1));
    let Err(RunError::Start { error, .. }) = cluster.try_up(1).await else {
        panic!("it starts without its data");
    };
    let said = error.to_string();
    assert!(said.contains("no other node has this data"), "{said}");
    assert!(said.contains("/current"), "{said}");
    assert!(!cluster.dir(1).join("damaged").exists());
}
