//! Nodes that are gone or stand still while others are asked.

use crate::harness::{Cluster, HTTP, LEVEL_WITHIN, PATIENCE, Process, eventually};
use crate::keys::{append, get, led, post};
use crate::session::{Reply, Session, here};
use causeway::protocol::payload::decode_unverified;
use serde_json::{Value, json};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stands_still_keeps_nobody_waiting() {
    let cluster = Cluster::new(4, 2).apart().all_up().await;
    let mut session = Session::default();
    let keys: Vec<String> = cluster.keys(1, "key").take(12).collect();
    for key in &keys {
        assert_eq!(session.put(cluster.at(0), key, "old").await.status, 201);
    }
    // One that is stopped takes connections and answers nothing, like one behind a wall.
    cluster.freeze(3);
    for (i, key) in keys.iter().enumerate() {
        let at = cluster.at(i % 3);
        let put = session.put(at, key, "new").await.in_time();
        assert_eq!(put.status, 200, "{put:?}");
        let read = session.get(cluster.at((i + 1) % 3), key).await.in_time();
        assert_eq!(read.value(), Some("new"), "{read:?}");
    }
    cluster.thaw(3);
    cluster.level().await;
    for key in &keys {
        assert_eq!(here(cluster.at(3), key, "").await.value(), Some("new"));
    }
    cluster.end().await;
}

/// A refusal of a partition that is gone, which keeps the client's past.
fn assert_unreachable(reply: Reply, session: &Session) {
    let reply = reply.in_time();
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(
        reply.retry_after && reply.body["partition_id"] == 1,
        "{reply:?}"
    );
    let text = reply.body["error"].as_str().unwrap();
    assert!(text.contains("partition 1"), "{text}");
    let back = reply.body["causal_payload"].as_str().unwrap();
    let (back, seen) = (decode_unverified(back), decode_unverified(&session.payload));
    // The payload may leave out writes that every replica has by now.
    assert_eq!(back.unwrap().0.clock, seen.unwrap().0.clock);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_gone_is_refused_in_time_and_the_other_serves() {
    let mut cluster = Cluster::new(4, 2).apart().all_up().await;
    let lost: Vec<String> = cluster.keys(1, "lost").take(3).collect();
    let kept: Vec<String> = cluster.keys(0, "kept").take(3).collect();
    let mut session = Session::default();
    for key in &lost {
        assert_eq!(session.put(cluster.at(2), key, "v").await.status, 201);
    }
    cluster.level().await;
    // First both stand still; then both are dead.
    for step in ["frozen", "dead"] {
        for node in [2, 3] {
            match step {
                "frozen" => cluster.freeze(node),
                _ => cluster.kill(node),
            }
        }
        for (i, key) in lost.iter().enumerate() {
            let at = cluster.at(i % 2);
            let before = session.clone();
            assert_unreachable(session.get(at, key).await, &before);
            assert_unreachable(session.put(at, key, "w").await, &before);
            assert_unreachable(session.delete(at, key).await, &before);
            let put = session.put(at, &kept[i], step).await.in_time();
            assert!(put.written(), "{put:?}");
            let other = cluster.at((i + 1) % 2);
            let read = session.get(other, &kept[i]).await.in_time();
            assert_eq!(read.value(), Some(step), "{read:?}");
        }
    }
    for node in [2, 3] {
        cluster.up(node).await;
    }
    cluster.serving().await;
    cluster.level().await;
    for key in &lost {
        let put = session.put(cluster.at(0), key, "w").await;
        assert_eq!(put.status, 200, "{put:?}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_never_shown_less_than_it_has_seen() {
    let mut cluster = Cluster::start(2, 2).await;
    let (one, other) = (cluster.at(0), cluster.at(1));
    let mut session = Session::default();
    assert_eq!(session.put(one, "k", "old").await.status, 201);
    cluster.level().await;
    // Only node 0 has the new value, and node 1 is asked while node 0 is away.
    cluster.down(1).await;
    assert_eq!(session.put(one, "k", "new").await.status, 200);
    cluster.down(0).await;
    cluster.up(1).await;
    cluster.serving().await;
    let seen = decode_unverified(&session.payload).unwrap().0;
    assert!(!seen.is_empty());
    let refused = session.get(other, "k").await.in_time();
    assert!(refused.status == 503 && refused.retry_after, "{refused:?}");
    let text = refused.body["error"].as_str().unwrap();
    assert!(text.contains("needed is"), "{text}");
    let kept = decode_unverified(&session.payload).unwrap().0;
    assert!(kept.covers(&seen));
    let stale = here(other, "k", &session.payload).await.in_time();
    assert_eq!(stale.value(), Some("old"));
    assert_eq!(stale.body["stale"], true);
    // Others are served, and writes are taken, also the client's own.
    let mut stranger = Session::default();
    assert_eq!(stranger.get(other, "k").await.value(), Some("old"));
    let put = session.put(other, "l", "after new").await.in_time();
    assert_eq!(put.status, 201, "{put:?}");
    cluster.up(0).await;
    eventually("it reads on", LEVEL_WITHIN, async || {
        let read = session.get(other, "k").await.in_time();
        let found = read.status == 200 && read.value() == Some("new");
        found.then_some(()).ok_or(format!("{read:?}"))
    })
    .await;
    cluster.level().await;
    assert_eq!(here(one, "l", "").await.value(), Some("after new"));
    cluster.end().await;
}

/// A command that runs `causeway` with its data on a disk of `size` of its own: a file system in
/// memory, in a namespace of the process's, so that it needs no privileges and leaves nothing.
fn on_a_small_disk(node: &Command, size: &str) -> Command {
    small_disk_at("$DATA_DIR", node, size, "exec \"$0\"")
}

/// The same with a directory of its own, and with what is to be done there.
fn small_disk_at(dir: &str, node: &Command, size: &str, run: &str) -> Command {
    let mut command = Command::new("unshare");
    let mount =
        format!("mkdir -p \"{dir}\" && mount -t tmpfs -o size={size} tmpfs \"{dir}\" && {run}");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount])
        .arg(node.get_program())
        .env_clear()
        .envs(node.get_envs().filter_map(|(n, v)| Some((n, v?))));
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Starts the first node with a small disk, if the system lets a process mount one, and waits until
/// it serves.
async fn start_on_a_small_disk(cluster: &Cluster, size: &str) -> Option<Process> {
    start_with_small_disk_at(cluster, "$DATA_DIR", size, "exec \"$0\"").await
}

async fn start_with_small_disk_at(
    cluster: &Cluster,
    mount: &str,
    size: &str,
    run: &str,
) -> Option<Process> {
    let mut probe = on_a_small_disk(&Command::new("true"), "1m");
    let dir = tempfile::tempdir().unwrap();
    probe.env("DATA_DIR", dir.path()).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        println!("skipped: this system does not let a process mount a file system of its own");
        return None;
    }
    let at = cluster.at(0);
    let process = Process::spawn(small_disk_at(mount, &cluster.command(0), size, run));
    eventually("it serves", PATIENCE, async || {
        let ready = HTTP.get(format!("http://{at}/ready")).send().await;
        let ready = ready.and_then(reqwest::Response::error_for_status);
        ready.map(drop).map_err(|e| e.to_string())
    })
    .await;
    Some(process)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_serves_reads() {
    let cluster = Cluster::new(1, 1);
    let at = cluster.at(0);
    let Some(process) = start_on_a_small_disk(&cluster, "192m").await else {
        return;
    };
    let mut session = Session::default();
    let value = |i: usize| format!("{i:8}").repeat(128 << 10);
    let mut taken = Vec::new();
    let mut next = 0;
    let refused = loop {
        let put = session.put(at, &format!("key-{next}"), &value(next)).await;
        match put.status {
            201 => taken.push(next),
            // A busy machine did not store it in time: it may be there later, or not.
            500 => {}
            _ => break put.in_time(),
        }
        next += 1;
        assert!(next < 192, "more than the disk has room for");
    };
    assert_eq!(refused.status, 507, "{refused:?}");
    assert!(taken.len() > 5, "{taken:?}");
    let again = session.put(at, &format!("key-{}", taken[0]), "small").await;
    assert_full(&again.in_time());
    for i in &taken {
        let (i, read) = (*i, format!("key-{i}"));
        let read = session.get(at, &read).await.in_time();
        assert!(
            read.value() == Some(value(i).as_str()),
            "{i}: {}",
            read.status
        );
    }
    assert_eq!(session.get(at, &format!("key-{next}")).await.value(), None);

    // Without any room deletes are refused as well.
    let mut filler = Filler::on_the_disk_of(&process, cluster.dir(0));
    eventually("deletes are refused", PATIENCE, async || {
        filler.leave(32 << 20);
        let delete = session.delete(at, "nothing").await.in_time();
        (delete.status == 507)
            .then_some(())
            .ok_or(format!("{delete:?}"))
    })
    .await;
    assert_full(&session.delete(at, &format!("key-{}", taken[0])).await);
    filler.remove();
    // The rest of the reserve is for deletes, and they make room.
    eventually("all is deleted", 3 * PATIENCE, async || {
        let mut open = Vec::new();
        for i in &taken {
            let delete = session.delete(at, &format!("key-{i}")).await.in_time();
            if !matches!(delete.status, 200 | 404) {
                open.push(delete);
            }
        }
        open.is_empty().then_some(()).ok_or(format!("{open:?}"))
    })
    .await;
    eventually("values are taken again", PATIENCE, async || {
        let put = session.put(at, "key", "small").await.in_time();
        put.written().then_some(()).ok_or(format!("{put:?}"))
    })
    .await;
    process.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_full_disk_starts_and_serves_reads() {
    let cluster = Cluster::new(1, 1);
    let at = cluster.at(0);
    // The script starts the node once more on the same disk.
    let twice = "\"$0\"; exec \"$0\"";
    let started = start_with_small_disk_at(&cluster, "$DATA_DIR", "256m", twice).await;
    let Some(process) = started else {
        return;
    };
    let mut session = Session::default();
    for key in ["a", "b"] {
        assert_eq!(session.put(at, key, "v").await.status, 201);
    }
    let mut filler = Filler::on_the_disk_of(&process, cluster.dir(0));
    filler.leave(0);
    let shell = process.pid().as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
    let node = children.unwrap().trim().parse().unwrap();
    let node = rustix::process::Pid::from_raw(node).unwrap();
    rustix::process::kill_process(node, rustix::process::Signal::KILL).unwrap();
    eventually("it is gone", PATIENCE, async || {
        let gone = std::fs::exists(format!("/proc/{}", node.as_raw_nonzero()));
        gone.is_ok_and(|there| !there)
            .then_some(())
            .ok_or(String::new())
    })
    .await;
    eventually("it serves reads", PATIENCE, async || {
        let url = format!("http://{at}/kvs?key=a");
        let status = HTTP.get(url).send().await.map(|r| r.status().as_u16());
        matches!(status, Ok(200))
            .then_some(())
            .ok_or(format!("{status:?}"))
    })
    .await;
    assert_eq!(session.get(at, "b").await.value(), Some("v"));
    let (status, why) = text(at, "/ready").await;
    assert!(status == 503 && why.contains("disk is full"), "{why}");
    let (_, page) = text(at, "/metrics").await;
    assert!(page.contains("\ncauseway_storage_room 0\n"), "{page}");
    assert_full(&session.put(at, "a", "w").await.in_time());
    filler.remove();
    eventually("values are taken", PATIENCE, async || {
        let put = session.put(at, "a", "w").await.in_time();
        put.written().then_some(()).ok_or(format!("{put:?}"))
    })
    .await;
    process.end().await;
}

fn assert_full(reply: &Reply) {
    assert_eq!(reply.status, 507, "{reply:?}");
    let text = reply.body["error"].as_str().unwrap();
    assert!(text.contains("disk is full"), "{text}");
}

/// A file that takes the room on a disk that only a process sees.
struct Filler {
    path: String,
    file: std::fs::File,
}

impl Filler {
    fn on_the_disk_of(process: &Process, dir: &Path) -> Self {
        let pid = process.pid().as_raw_nonzero();
        let path = format!("/proc/{pid}/root{}/filler", dir.display());
        let file = std::fs::File::create(&path).unwrap();
        Self { path, file }
    }

    /// Takes all but so many bytes.
    fn leave(&mut self, bytes: u64) {
        let piece = vec![0; 64 << 10];
        let free = |file: &std::fs::File| {
            let stat = rustix::fs::fstatvfs(file).unwrap();
            stat.f_bavail * stat.f_frsize
        };
        while free(&self.file) > bytes && self.file.write(&piece).is_ok_and(|n| n > 0) {}
    }

    fn remove(self) {
        std::fs::remove_file(self.path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_raft_group_goes_on_when_a_full_disk_has_room_again() {
    let mut cluster = Cluster::new(3, 3).apart();
    cluster.up(1).await;
    cluster.up(2).await;
    let Some(process) = start_on_a_small_disk(&cluster, "512m").await else {
        return;
    };
    let [at, other] = [0, 1].map(|node| cluster.at(node));
    led(at).await;
    eventually("it has a list", PATIENCE, async || {
        post(at, "list", &append("item"), &[]).await;
        let local = get(at, "/keys/list?consistency=local").await.status();
        (local == 200).then_some(()).ok_or(local.to_string())
    })
    .await;
    // The disk as the process sees it.
    let pid = process.pid().as_raw_nonzero();
    let dir = cluster.dir(0).display();
    let filler = format!("/proc/{pid}/root{dir}/filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    let piece = vec![0; 64 << 10];
    let mut fill = || while file.write(&piece).is_ok_and(|n| n > 0) {};
    fill();
    eventually("changes are refused there", PATIENCE, async || {
        let status = post(at, "list", &append("item"), &[]).await.status();
        (status == 507).then_some(()).ok_or(status.to_string())
    })
    .await;
    // The other nodes go on, until what they decide finds no room there.
    let large = json!({"type": "PUT", "value": ["x".repeat(1_000_000)]});
    eventually("nothing is stored there", 3 * PATIENCE, async || {
        fill();
        post(other, "large", &large, &[]).await;
        let status = get(at, "/keys/large").await.status();
        (status == 507).then_some(()).ok_or(status.to_string())
    })
    .await;
    // The node had this list before its disk was full.
    let local = get(at, "/keys/list?consistency=local").await;
    assert_eq!(local.status(), 200);
    eventually("the others go on", PATIENCE, async || {
        let status = post(other, "list", &append("item"), &[]).await.status();
        (status == 204).then_some(()).ok_or(status.to_string())
    })
    .await;
    assert_eq!(get(at, "/keys/list").await.status(), 507);

    std::fs::remove_file(&filler).unwrap();
    drop(file);
    eventually("changes are taken again", PATIENCE, async || {
        let status = post(at, "list", &append("more"), &[]).await.status();
        (status == 204).then_some(()).ok_or(status.to_string())
    })
    .await;
    let list: Value = get(at, "/keys/list").await.json().await.unwrap();
    assert_eq!(list.as_array().and_then(|l| l.last()), Some(&json!("more")));
    process.end().await;
    cluster.end().await;
}

/// The lines of text in which a node tells how it is, or why it is not ready.
async fn text(at: SocketAddr, path: &str) -> (u16, String) {
    let response = HTTP.get(format!("http://{at}{path}")).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_raft_group_has_no_room_is_not_ready_and_says_so() {
    let mut cluster = Cluster::new(3, 3).apart();
    cluster.up(1).await;
    cluster.up(2).await;
    let dir = "$DATA_DIR/council";
    let Some(process) = start_with_small_disk_at(&cluster, dir, "512m", "exec \"$0\"").await else {
        return;
    };
    let [at, other] = [0, 1].map(|node| cluster.at(node));
    led(at).await;
    let (_, lines) = text(at, "/admin/status").await;
    assert!(lines.contains("\nfull: no\n"), "{lines}");
    // The disk as the process sees it.
    let pid = process.pid().as_raw_nonzero();
    let filler = cluster.dir(0).join("council/filler");
    let filler = format!("/proc/{pid}/root{}", filler.display());
    let mut file = std::fs::File::create(&filler).unwrap();
    let piece = vec![0; 64 << 10];
    let large = json!({"type": "PUT", "value": ["x".repeat(1_000_000)]});
    eventually("its council stores nothing", 3 * PATIENCE, async || {
        while file.write(&piece).is_ok_and(|n| n > 0) {}
        post(other, "large", &large, &[]).await;
        let said = HTTP.get(format!("http://{at}/admin/status"));
        let said = said.header("accept", "application/json").send();
        let said: Value = said.await.unwrap().json().await.unwrap();
        let full = said["full"].as_str().is_some();
        full.then_some(()).ok_or(said.to_string())
    })
    .await;
    let (status, why) = text(at, "/ready").await;
    assert_eq!(status, 503, "{why}");
    assert!(
        why.contains("council") && why.contains("disk is full"),
        "{why}"
    );
    let (_, lines) = text(at, "/admin/status").await;
    assert!(
        lines.contains("\nfull: ") && !lines.contains("\nfull: no\n"),
        "{lines}"
    );
    // Its own disk has room.
    let mut session = Session::default();
    assert_eq!(session.put(at, "k", "v").await.status, 201);
    assert_eq!(text(other, "/ready").await.0, 200);

    std::fs::remove_file(&filler).unwrap();
    drop(file);
    eventually("it is ready again", PATIENCE, async || {
        let (status, why) = text(at, "/ready").await;
        (status == 200).then_some(()).ok_or(why)
    })
    .await;
    let (_, lines) = text(at, "/admin/status").await;
    assert!(lines.contains("\nfull: no\n"), "{lines}");
    process.end().await;
    cluster.end().await;
}
