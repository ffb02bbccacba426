//! An operator at the command line: changes planned, made, watched and cancelled, and a Raft group
//! that lost most of its voters.

use crate::harness::{Cluster, HTTP, PATIENCE, eventually};
use crate::session::Session;
use causeway::api::view::{ChangeData, Ending, Phase, Plan, ViewState};
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

/// Runs the command line.
async fn causeway(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(args).env_clear();
    let run = tokio::task::spawn_blocking(move || command.output());
    run.await.unwrap().unwrap()
}

/// Asks a node with `causeway view`: the exit code, and what was printed.
async fn view(at: SocketAddr, args: &[&str]) -> (Option<i32>, String) {
    let at = at.to_string();
    let args = [&["view"], args, &["--node", &at]].concat();
    let output = causeway(&args).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// The same, which succeeds and says `says`.
async fn done(at: SocketAddr, args: &[&str], says: &str) {
    let (code, text) = view(at, args).await;
    assert_eq!(code, Some(0), "{args:?}: {text}");
    assert!(text.contains(says), "{args:?} says {says:?}: {text}");
}

async fn state(at: SocketAddr) -> Result<ViewState, String> {
    let reply = HTTP.get(format!("http://{at}/view")).send().await;
    let reply = reply.map_err(|e| e.to_string())?;
    reply.json().await.map_err(|e| e.to_string())
}

/// Waits until the Raft group can decide, and can lose a node.
async fn voting(nodes: &[SocketAddr]) {
    for at in nodes {
        eventually("the council can decide", PATIENCE, async || {
            let council = state(*at).await?.council;
            let decides = council.has_quorum && council.may_vote && council.last_log > Some(0);
            decides.then_some(()).ok_or(format!("{council:?}"))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_and_go_and_k_changes_by_the_command_line() {
    let cluster = Cluster::new(3, 1);
    let (one, two, three) = (cluster.at(0), cluster.at(1), cluster.at(2));
    let first = format!("{one},{two}");
    let mut cluster = cluster
        .with(0, "VIEW", &first)
        .with(1, "VIEW", &first)
        .with(2, "VIEW", "");
    for node in 0..3 {
        cluster.up(node).await;
    }
    let mut session = Session::default();
    for i in 0..120 {
        eventually("it serves", PATIENCE, async || {
            let put = session.put(one, &format!("key-{i}"), "v").await;
            put.written().then_some(()).ok_or(format!("{put:?}"))
        })
        .await;
    }
    let third = three.to_string();
    done(two, &["status"], "view 1: nodes 2, partitions 2, K 1").await;
    done(two, &["status"], "last change: none yet").await;

    let (code, text) = view(two, &["plan", "add", &third, "--json"]).await;
    assert_eq!(code, Some(0), "{text}");
    let plan: Plan = serde_json::from_str(&text).unwrap();
    let moved: usize = plan.moves.iter().map(|m| m.slots).sum();
    assert_eq!((moved, plan.partitions.len()), (5461, 3), "a third");
    let keys: u64 = plan.gaining.iter().map(|g| g.keys).sum();
    assert!((30..=50).contains(&keys), "about a third: {plan:?}");
    assert_eq!(plan.gaining[0].node, third);
    done(two, &["plan", "add", &third], "Nothing was changed").await;

    let says = format!("added {third} to partition 2: view 2, partitions 3");
    done(two, &["add", &third], &says).await;
    done(three, &["status"], "view 2: nodes 3, partitions 3, K 1").await;
    let says = format!("last change: add {third} (view 2): ");
    done(three, &["status"], &says).await;
    done(three, &["set-k", "3"], "K is 3: view 3, partitions 1").await;
    let says = format!("removed {third}: view 5, partitions 1");
    done(one, &["remove", &third], &says).await;
    // No view names it any more.
    let says = format!("last change: remove {third} (view 5): done");
    done(two, &["status"], &says).await;

    let (code, text) = view(one, &["remove", &third]).await;
    assert_eq!(code, Some(4), "{text}");
    let (code, text) = view(one, &["cancel"]).await;
    assert_eq!(code, Some(4), "{text}");
    let (code, text) = view(one, &["add", "here"]).await;
    assert_eq!(code, Some(1), "{text}");
    let (code, text) = view(three, &["status"]).await;
    assert!(code == Some(1) && text.contains("was removed"), "{text}");
    for i in 0..120 {
        let key = format!("key-{i}");
        assert_eq!(session.get(two, &key).await.value(), Some("v"));
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_says_what_it_waits_for_and_can_be_cancelled() {
    let cluster = Cluster::new(5, 1).apart().all_up().await;
    voting(&(0..5).map(|node| cluster.at(node)).collect::<Vec<_>>()).await;
    // One of those that are to copy stands still. A leader could not decide anything then.
    let leader = cluster.view(0, "/view").await["council"]["leader"].clone();
    let goes = 4;
    let still = match leader == cluster.at(3).to_string().as_str() {
        true => 2,
        false => 3,
    };
    cluster.freeze(still);
    let (one, other) = (cluster.at(0), cluster.at(goes));
    let gone = other.to_string();
    let removal = ["remove", &gone, "--no-wait"];
    let (removed, ()) = tokio::join!(view(one, &removal), async {
        eventually("the change is seen", PATIENCE, async || {
            let state = state(one).await?;
            let change = state.change.as_ref().ok_or("none runs")?;
            // Number 2 is kept for the view in force, should its node be given up.
            assert_eq!((change.phase, change.view), (Phase::MovingData, 3));
            let node = gone.clone();
            assert_eq!(change.change, ChangeData::Remove { node });
            assert_eq!(change.gaining.len(), 4, "{change:?}");
            assert!(change.gaining.iter().all(|g| g.slots > 0));
            let waits = !change.waits_for.is_empty();
            waits.then_some(()).ok_or(format!("{change:?}"))
        })
        .await;
        // Another one has to wait, and says for what.
        let set = HTTP.put(format!("http://{other}/view"));
        let refused = set.form(&[("k", "2")]).send().await.unwrap();
        let (status, said) = (refused.status(), refused.text().await.unwrap());
        assert_eq!(status, 409, "{said}");
        let plan = HTTP.get(format!("http://{other}/view/plan?type=set_k&k=2"));
        let plan: Plan = plan.send().await.unwrap().json().await.unwrap();
        assert_eq!(plan.busy, Some(format!("remove {gone}")));
        done(other, &["cancel"], "stays in force").await;
    });
    assert!(
        removed.0 == Some(1) && removed.1.contains("cancelled"),
        "{removed:?}"
    );
    cluster.thaw(still);
    let last = state(one).await.unwrap().last.unwrap();
    assert_eq!((last.view, last.end), (3, Ending::Cancelled));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_voter_of_three_goes_on_alone_when_it_is_forced() {
    let mut cluster = Cluster::start(3, 3).await;
    let left = cluster.at(2);
    let lost = [cluster.at(0).to_string(), cluster.at(1).to_string()];
    voting(&cluster.running()).await;
    let mut session = Session::default();
    assert_eq!(session.put(left, "k", "v").await.status, 201);
    cluster.level().await;
    cluster.down(0).await;
    cluster.down(1).await;
    let (code, text) = view(left, &["set-k", "2"]).await;
    assert_eq!(code, Some(1), "{text}");

    let dir = cluster.config(2).data_dir;
    let force = ["view", "force", "--data-dir", dir.to_str().unwrap()];
    let forced = async |yes: &[&'static str]| {
        let output = causeway(&[&force, yes].concat()).await;
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = forced(&["--yes"]).await;
    assert!(code == Some(1) && text.contains("a node runs"), "{text}");
    cluster.down(2).await;
    // A node in this process may let go of its disk a little later.
    eventually("the disk is free", PATIENCE, async || {
        let (code, text) = forced(&[]).await;
        assert_eq!(code, Some(1), "{text}");
        text.contains("--yes").then_some(()).ok_or(text)
    })
    .await;
    let (_, text) = forced(&[]).await;
    assert!(text.contains(&lost[0]) && text.contains(&lost[1]), "{text}");
    let (code, text) = forced(&["--yes"]).await;
    assert_eq!(code, Some(0), "{text}");

    cluster.up(2).await;
    cluster.serving().await;
    voting(&[left]).await;
    // A session cannot wait for what the lost nodes may have shown to it.
    let old = session.get(left, "k").await;
    assert_eq!(
        (old.status, &old.body["code"]),
        (400, &"foreign_payload".into())
    );
    session = Session::default();
    assert_eq!(session.get(left, "k").await.value(), Some("v"));
    // As long as the other one is in the view it is waited for.
    let (code, text) = view(left, &["remove", &lost[0], "--no-wait"]).await;
    assert!(code == Some(0) && text.contains("goes on"), "{text}");
    let waits = state(left).await.unwrap().change.unwrap().waits_for;
    let silent = format!("{} does not answer since", lost[1]);
    assert!(waits.iter().any(|w| w.contains(&silent)), "{waits:?}");
    done(left, &["remove", &lost[1]], "view 5, partitions 1").await;
    let state = state(left).await.unwrap();
    let last = state.last.unwrap();
    assert!(last.given_up && last.end == Ending::Done, "{last:?}");
    assert_eq!(state.council.voters, [left.to_string()]);
    assert_eq!(session.get(left, "k").await.value(), Some("v"));
    let within = Duration::from_secs(1);
    eventually("it is alone", within, async || {
        let put = session.put(left, "k", "w").await;
        (put.status == 200).then_some(()).ok_or(format!("{put:?}"))
    })
    .await;
    cluster.end().await;
}
