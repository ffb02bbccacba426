//! Histories of the linearizable lists, recorded while leaders are killed and frozen, and checked.

use crate::harness::{Cluster, PATIENCE, eventually};
use crate::keys::{append, get, led};
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use todc_utils::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// A list, as clients see it.
#[derive(Debug, Clone)]
enum Seen {
    Append(u32),
    Read(Vec<u32>),
}

struct Lists;

impl Specification for Lists {
    type State = Vec<u32>;
    type Operation = Seen;

    fn init() -> Vec<u32> {
        Vec::new()
    }

    fn apply(operation: &Seen, state: &Vec<u32>) -> (bool, Vec<u32>) {
        match operation {
            Seen::Append(item) => {
                let mut list = state.clone();
                list.push(*item);
                (true, list)
            }
            Seen::Read(list) => (list == state, state.clone()),
        }
    }
}

/// One operation: when it began and ended, the latter not known when no good answer came.
#[derive(Debug, Clone)]
struct Operation {
    client: usize,
    key: usize,
    began: Instant,
    ended: Option<Instant>,
    seen: Seen,
}

const KEYS: usize = 3;
const CLIENTS: usize = 6;

/// A client that appends and reads through any node until it is told to stop.
async fn client(
    number: usize,
    nodes: Vec<SocketAddr>,
    items: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
) -> Vec<Operation> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(4))
        .build()
        .unwrap();
    let mut done = Vec::new();
    let mut turn = number;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let (key, node) = (turn % KEYS, nodes[(turn / KEYS + number) % nodes.len()]);
        let url = format!("http://{node}/keys/list{key}");
        let began = Instant::now();
        let (seen, good) = if turn.is_multiple_of(2) {
            let item = items.fetch_add(1, Ordering::Relaxed);
            let sent = http.post(url).json(&append(&item.to_string())).send().await;
            let good = sent.is_ok_and(|reply| reply.status() == 204);
            (Seen::Append(item), good)
        } else {
            let reply = match http.get(url).send().await {
                Ok(reply) => reply,
                Err(_) => continue,
            };
            let list = match reply.status().as_u16() {
                200 => reply.json::<Vec<String>>().await.ok(),
                404 => Some(Vec::new()),
                _ => None,
            };
            // A read without an answer says nothing.
            let Some(list) = list else {
                continue;
            };
            let list = list.iter().map(|item| item.parse().unwrap()).collect();
            (Seen::Read(list), true)
        };
        done.push(Operation {
            client: number,
            key,
            began,
            ended: good.then(Instant::now),
            seen,
        });
    }
    done
}

/// Whether the operations on one key can be put in one order in which each took place between its
/// beginning and its end.
///
/// The last read shows what became of an append without an answer, for all items differ: the append
/// was made, at some time until the end, or it was not.
fn is_linearizable(operations: &[Operation], at_last: &[u32]) -> bool {
    let end = operations.iter().filter_map(|o| o.ended).max().unwrap();
    let mut events = Vec::new();
    for (number, operation) in operations.iter().enumerate() {
        if let (Seen::Append(item), None) = (&operation.seen, operation.ended)
            && !at_last.contains(item)
        {
            continue;
        }
        let ended = operation.ended.unwrap_or(end + Duration::from_secs(1));
        events.push((
            operation.began,
            number,
            Action::Call(operation.seen.clone()),
        ));
        events.push((ended, number, Action::Response(operation.seen.clone())));
    }
    events.sort_by_key(|(at, ..)| *at);
    let actions = events
        .into_iter()
        .map(|(_, number, action)| (number, action));
    WGLChecker::<Lists>::is_linearizable(History::from_actions(actions.collect()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable_while_leaders_are_killed() {
    let mut cluster = Cluster::new(3, 1).apart().all_up().await;
    let nodes: Vec<SocketAddr> = (0..3).map(|node| cluster.at(node)).collect();
    led(nodes[0]).await;
    let (items, stop) = (
        Arc::new(AtomicU32::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let clients: Vec<_> = (0..CLIENTS)
        .map(|c| {
            tokio::spawn(client(
                c,
                nodes.clone(),
                Arc::clone(&items),
                Arc::clone(&stop),
            ))
        })
        .collect();
    for round in 0..5 {
        let before = items.load(Ordering::Relaxed);
        eventually("the clients get on", PATIENCE, async || {
            let now = items.load(Ordering::Relaxed);
            (now > before + 40)
                .then_some(())
                .ok_or_else(|| format!("{now}"))
        })
        .await;
        let leader = led(nodes[round % 3]).await;
        let leader = nodes.iter().position(|n| *n == leader).unwrap();
        if round == 1 {
            cluster.freeze(leader);
            led(nodes[(leader + 1) % 3]).await;
            cluster.thaw(leader);
        } else {
            cluster.kill(leader);
            // In the later rounds it is back before anybody has missed it.
            if round < 3 {
                led(nodes[(leader + 1) % 3]).await;
            }
            cluster.up(leader).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let histories = join_all(clients).await;
    let operations: Vec<Operation> = histories.into_iter().flat_map(Result::unwrap).collect();
    led(nodes[0]).await;
    let mut lists = BTreeMap::new();
    for key in 0..KEYS {
        let list: Vec<String> = get(nodes[0], &format!("/keys/list{key}"))
            .await
            .json()
            .await
            .unwrap();
        let list: Vec<u32> = list.iter().map(|item| item.parse().unwrap()).collect();
        assert_eq!(
            list.iter().collect::<BTreeSet<_>>().len(),
            list.len(),
            "nothing counts twice"
        );
        lists.insert(key, list);
    }
    let acknowledged = operations.iter().filter(|o| o.ended.is_some()).count();
    println!(
        "{acknowledged} of {} operations have a good answer",
        operations.len()
    );
    for (key, list) in &lists {
        let mut own: Vec<Operation> = operations
            .iter()
            .filter(|o| o.key == *key)
            .cloned()
            .collect();
        let now = Instant::now();
        own.push(Operation {
            client: CLIENTS,
            key: *key,
            began: now,
            ended: Some(now + Duration::from_millis(1)),
            seen: Seen::Read(list.clone()),
        });
        assert!(
            is_linearizable(&own, list),
            "list{key} of clients {:?}",
            own.iter().map(|o| o.client).max()
        );
        // The checker can say no: a read that lacks what was acknowledged before.
        let mut forged = own.clone();
        if let Some(Operation {
            seen: Seen::Read(list),
            ..
        }) = forged.last_mut()
        {
            list.remove(0);
        }
        assert!(!is_linearizable(&forged, list));
    }
    cluster.end().await;
}
