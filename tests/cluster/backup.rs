//! A node's data directory: looked into, copied, and put back.

use crate::failing::{read, write};
use crate::harness::{Cluster, PATIENCE, eventually};
use crate::keys::{append, get, led, post};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Runs `causeway inspect`: the exit code, and what was printed.
fn inspect(dir: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_causeway"))
        .arg("inspect")
        .arg(dir)
        .args(more)
        .env_clear()
        // Without the warning of what is mended in the copy.
        .env("RUST_LOG", "error")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// All files below a directory, with what is in them.
fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(content(&path)),
            false => files.push((path.display().to_string(), fs::read(&path).unwrap())),
        }
    }
    files.sort();
    files
}

/// Lets the engine's journal end in the beginning of a batch, as when the power goes while it is
/// written.
fn interrupt_a_commit(dir: &Path) {
    let files = fs::read_dir(dir.join("data")).unwrap();
    let journals = files.map(|file| file.unwrap().path());
    let newest = journals
        .filter(|file| file.extension().is_some_and(|is| is == "jnl"))
        .max_by_key(|file| fs::metadata(file).unwrap().modified().unwrap())
        .unwrap();
    let bytes = fs::read(&newest).unwrap();
    let mut journal = File::options().append(true).open(&newest).unwrap();
    journal.write_all(&bytes[..40]).unwrap();
}

fn copy(from: &Path, to: &Path) {
    // As an operator would.
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_looked_into_copied_and_put_back() {
    let mut cluster = Cluster::new(2, 2).apart().all_up().await;
    let (one, other) = (cluster.at(0), cluster.at(1));
    for i in 0..5 {
        assert_eq!(write(one, &format!("k-{i}"), "old").await.status, 200);
    }
    led(one).await;
    assert_eq!(post(one, "list", &append("old"), &[]).await.status(), 204);
    let dir = cluster.config(0).data_dir;
    cluster.level().await;
    let (code, text) = inspect(&dir, &[]);
    assert!(code == Some(1) && text.contains("a node runs"), "{text}");
    // Killed in the middle of a commit: whoever opens the directory itself mends it.
    cluster.kill(0);
    interrupt_a_commit(&dir);
    let before = content(&dir);
    let (code, text) = inspect(&dir, &["--json", "--limit", "0"]);
    assert_eq!(code, Some(0), "{text}");
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&found["member"], &found["node"]),
        (&json!(0), &json!(one.to_string()))
    );
    assert_eq!(
        (&found["live_keys"], &found["tombstones"]),
        (&json!(5), &json!(0))
    );
    let keys = found["keys"].as_array().unwrap();
    assert!(
        keys.len() == 5 && keys.iter().all(|key| key["value"] == "old"),
        "{found}"
    );
    let logs = found["logs"].as_array().unwrap();
    let own = logs.iter().filter(|log| log["member"] == 0);
    let applied: u64 = own.map(|log| log["applied"].as_u64().unwrap()).sum();
    assert_eq!(applied, 5, "{found}");
    assert!(
        logs.iter()
            .all(|log| log["stable"].as_u64() <= log["applied"].as_u64())
    );
    let (code, text) = inspect(&dir, &["--prefix", "k-3"]);
    assert!(
        code == Some(0) && text.contains("k-3") && !text.contains("k-2"),
        "{text}"
    );
    let (_, text) = inspect(&dir, &["--limit", "2"]);
    assert!(text.contains("there are more keys"), "{text}");
    assert_eq!(content(&dir), before, "nothing was changed");

    // A backup, and what happens after it.
    let safe = tempfile::tempdir().unwrap();
    copy(&dir, &safe.path().join("backup"));
    cluster.up(0).await;
    cluster.serving().await;
    let put = |i: usize| (format!("k-{i}"), "after the backup");
    let mut session = crate::session::Session::default();
    for (key, value) in (0..3).map(put) {
        assert!(session.put(one, &key, value).await.written());
    }
    led(one).await;
    let late = append("after the backup");
    assert_eq!(post(one, "list", &late, &[]).await.status(), 204);
    cluster.level().await;

    // The old copy is put back: the node notices what it lacks, and gets it before it answers.
    cluster.down(0).await;
    fs::remove_dir_all(&dir).unwrap();
    copy(&safe.path().join("backup"), &dir);
    // The copy is put back without the Raft group's data: the node may have promised more there
    // since.
    std::fs::remove_dir_all(dir.join("council")).unwrap();
    cluster.up(0).await;
    cluster.serving().await;
    for i in 0..5 {
        let value = if i < 3 { "after the backup" } else { "old" };
        let read = read(one, &format!("k-{i}")).await;
        assert_eq!(read.body["value"], value, "{read:?}");
        assert_eq!(read.body["message"], format!("answered by node 0 ({one})"));
    }
    cluster.level().await;
    assert_eq!(read(other, "k-4").await.body["value"], "old");
    // The lists come from the other voter, those that are newer than the backup too.
    eventually("it has the lists", PATIENCE, async || {
        let list = get(one, "/keys/list?consistency=local").await.text().await;
        let list = list.map_err(|error| error.to_string())?;
        let whole = list == r#"["old","after the backup"]"#;
        whole.then_some(()).ok_or(list)
    })
    .await;
    led(one).await;
    assert_eq!(get(one, "/keys/list").await.status(), 200);

    let nothing = tempfile::tempdir().unwrap();
    let (code, text) = inspect(nothing.path(), &[]);
    assert!(
        code == Some(1) && text.contains("not the data directory"),
        "{text}"
    );
    assert_eq!(fs::read_dir(nothing.path()).unwrap().count(), 0);
    cluster.end().await;
}
