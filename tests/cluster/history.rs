//! Loads of which every answer is written down and checked: first in peace, then while nodes are
//! killed, frozen and wiped.

use crate::harness::{Cluster, PATIENCE};
use crate::load::{KEYS, Load, SESSIONS, assert_causal, check, count};
use crate::session::here;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// A request is answered or given up within a second; the rest is for a machine that is busy with
/// other tests.
const NOTHING_ON_ITS_WAY: Duration = Duration::from_millis(1_500);

/// Every replica of a key has the same value of it.
async fn assert_agreed(cluster: &Cluster, operations: &[Value]) {
    let keys: BTreeSet<&str> = operations
        .iter()
        .filter_map(|o| o["key"].as_str())
        .collect();
    assert_eq!(keys.len(), KEYS as usize);
    for key in keys {
        let replicas = cluster.replicas(key);
        let reads = join_all(replicas.iter().map(|at| here(*at, key, ""))).await;
        let first = reads[0].value();
        let same = reads.iter().all(|read| read.value() == first);
        assert!(same, "{key} at {replicas:?}: {reads:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_in_peace_is_recorded_as_it_was_and_is_causal() {
    let cluster = Cluster::start(4, 2).await;
    let operations = Load::start(&cluster, 2, 0.08).await.end(PATIENCE).await;
    let ok = ["put", "get", "delete"].map(|op| count(&operations, op, "ok"));
    assert!(ok.iter().all(|n| *n > 10), "{ok:?}");
    let failed = ["put", "get", "delete"].map(|op| count(&operations, op, "fail"));
    // A read that the end of the run cut off has failed.
    assert!(failed[0] == 0 && failed[1] <= SESSIONS as usize && failed[2] == 0);
    let prefill = operations.iter().filter(|o| o["session"] == "p0");
    assert!(prefill.count() >= 1);
    let nodes: BTreeSet<&str> = operations
        .iter()
        .filter_map(|o| o["node"].as_str())
        .collect();
    assert!(nodes.len() >= 4, "{nodes:?}");
    assert_causal(&operations);
    cluster.level().await;
    assert_agreed(&cluster, &operations).await;
    cluster.end().await;
}

/// Faults of the nodes, drawn from a seed.
struct Faults {
    random: StdRng,
    nodes: usize,
}

impl Faults {
    /// One or two nodes at a time, each killed or frozen for a while. Their disks stay, so that
    /// nothing may get lost, whichever nodes they are.
    async fn away(&mut self, cluster: &mut Cluster) {
        let all: Vec<usize> = (0..self.nodes).collect();
        let many = self.random.random_range(1..=2);
        let victims: Vec<usize> = all.sample(&mut self.random, many).copied().collect();
        let victims: Vec<(usize, bool)> = victims
            .into_iter()
            .map(|node| (node, self.random.random_bool(0.5)))
            .collect();
        for (node, killed) in &victims {
            println!("{} {node}", if *killed { "kill" } else { "freeze" });
            match killed {
                true => cluster.kill(*node),
                false => cluster.freeze(*node),
            }
        }
        self.pause(200..1_200).await;
        for (node, killed) in victims {
            match killed {
                true => cluster.up(node).await,
                false => cluster.thaw(node),
            }
        }
    }

    /// A node loses its disk. With an acknowledged write that only this disk has, clients would
    /// rightly miss something: so the load stands still until every replica has everything.
    async fn wipe(&mut self, cluster: &mut Cluster, load: &Load) {
        let node = self.random.random_range(0..self.nodes);
        println!("wipe {node}");
        load.process.freeze();
        cluster.serving().await;
        tokio::time::sleep(NOTHING_ON_ITS_WAY).await;
        cluster.level().await;
        cluster.kill(node);
        cluster.lose_disk(node);
        load.process.thaw();
        self.pause(100..600).await;
        cluster.up(node).await;
    }

    async fn pause(&mut self, ms: std::ops::Range<u64>) {
        let ms = self.random.random_range(ms);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// `HISTORY_SEED` repeats the faults of a run, as far as real nodes repeat anything.
fn seed() -> u64 {
    let given = std::env::var("HISTORY_SEED").ok();
    given.map_or_else(rand::random, |text| text.parse().expect("a number"))
}

async fn under_faults(nodes: usize, k: usize) {
    const SECONDS: u32 = 10;
    let seed = seed();
    println!("HISTORY_SEED={seed}");
    let mut faults = Faults {
        random: StdRng::seed_from_u64(seed),
        nodes,
    };
    let mut cluster = Cluster::new(nodes, k).apart().all_up().await;
    let mut load = Load::start(&cluster, SECONDS, 0.08).await;
    // A load that is about to end is not held up by another fault.
    let last_wipe = Instant::now() + Duration::from_secs((SECONDS - 2).into());
    let mut turns: Vec<bool> = Vec::new();
    while !load.process.has_ended() {
        if turns.is_empty() {
            turns = vec![true, false, false, false];
            turns.shuffle(&mut faults.random);
        }
        match turns.pop() {
            Some(true) if Instant::now() < last_wipe => faults.wipe(&mut cluster, &load).await,
            _ => faults.away(&mut cluster).await,
        }
        faults.pause(0..500).await;
    }
    let operations = load.end(PATIENCE).await;
    for op in ["put", "get", "delete"] {
        let of = |status| count(&operations, op, status);
        println!(
            "{op}: {} ok, {} failed, {} unknown",
            of("ok"),
            of("fail"),
            of("unknown")
        );
        assert!(of("ok") > 10);
    }
    assert_causal(&operations);
    let wrong = with_an_old_value(&operations);
    assert!(check(&wrong).is_err(), "an old value is not noticed");
    cluster.serving().await;
    cluster.level().await;
    assert_agreed(&cluster, &operations).await;
    cluster.end().await;
}

/// The same history, but that a session reads what it has itself written over.
fn with_an_old_value(operations: &[Value]) -> Vec<Value> {
    let mut written: HashMap<(&str, &str), Vec<&Value>> = HashMap::new();
    for (i, o) in operations.iter().enumerate() {
        if o["status"] != "ok" {
            continue;
        }
        let (Some(session), Some(key)) = (o["session"].as_str(), o["key"].as_str()) else {
            panic!("{o}");
        };
        let own = written.entry((session, key)).or_default();
        match o["op"].as_str() {
            Some("put") => own.push(&o["value"]),
            Some("get") if own.len() >= 2 => {
                let mut wrong = operations.to_vec();
                wrong[i]["value"] = own[0].clone();
                return wrong;
            }
            _ => {}
        }
    }
    panic!("no session reads what it wrote twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_under_faults_are_causal_and_agree_in_the_end() {
    under_faults(4, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threes_under_faults_are_causal_and_agree_in_the_end() {
    under_faults(6, 3).await;
}
