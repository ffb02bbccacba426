//! The linearizable lists on real nodes: through any node, without a quorum, over restarts, and checked for linearizability
//! while leaders are killed.

use crate::harness::{Cluster, HTTP, PATIENCE, eventually};
use futures_util::future::join_all;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use todc_utils::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;
use tokio::sync::Mutex;

/// Without a quorum everything is refused within this time; a little more than promised, on a busy machine.
const REFUSED_WITHIN: Duration = Duration::from_secs(4);

async fn get(at: SocketAddr, path: &str) -> Response {
    let url = format!("http://{at}{path}");
    HTTP.get(url).send().await.unwrap()
}

async fn post(at: SocketAddr, key: &str, body: &Value, headers: &[(&str, &str)]) -> Response {
    let url = format!("http://{at}/keys/{key}");
    let mut request = HTTP.request(Method::POST, url).json(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

fn append(item: &str) -> Value {
    json!({"type": "APPEND", "value": item})
}

async fn raft(at: SocketAddr) -> Result<Value, String> {
    let url = format!("http://{at}/admin/status");
    let request = HTTP.get(url).header("accept", "application/json");
    let reply = request.send().await.map_err(|e| e.to_string())?;
    reply.json().await.map_err(|e| e.to_string())
}

/// Waits until a node knows of a leader with a quorum: the leader's address.
async fn led(at: SocketAddr) -> SocketAddr {
    let leader = Mutex::new(None);
    eventually("there is a leader", PATIENCE, async || {
        let status = raft(at).await?;
        let known = status["leader"].as_str().and_then(|l| l.parse().ok());
        match known.filter(|_| status["has_quorum"] == true) {
            Some(address) => {
                *leader.lock().await = Some(address);
                Ok(())
            }
            None => Err(status.to_string()),
        }
    })
    .await;
    leader.into_inner().unwrap()
}

fn etag(reply: &Response) -> String {
    reply.headers()["etag"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_kept_through_any_node() {
    let cluster = Cluster::start(3, 1).await;
    let [a, b, c] = [0, 1, 2].map(|node| cluster.at(node));
    led(a).await;
    assert_eq!(get(b, "/keys/pets").await.status(), 404);
    let put = post(
        a,
        "pets",
        &json!({"type": "PUT", "value": ["cat", "dog"]}),
        &[],
    )
    .await;
    assert_eq!(put.status(), 204);
    let appended = post(b, "pets", &append("mouse"), &[]).await;
    assert_eq!(appended.status(), 204);
    let read = get(c, "/keys/pets").await;
    let tag = etag(&read);
    assert_eq!(tag, etag(&appended));
    assert_eq!(
        read.json::<Value>().await.unwrap(),
        json!(["cat", "dog", "mouse"])
    );
    // A key may be anything.
    assert_eq!(
        post(a, "a%2Fb%20%C3%A9", &append("x"), &[]).await.status(),
        204
    );
    assert_eq!(get(b, "/keys/a%2Fb%20%C3%A9").await.status(), 200);
    eventually("the others hear of it", PATIENCE, async || {
        let local = get(c, "/keys/pets?consistency=local").await;
        let marked = local.headers().get("causeway-consistency").is_some();
        match local.status() == 200 && marked {
            true => Ok(()),
            false => Err(local.status().to_string()),
        }
    })
    .await;

    // Compare and set.
    let put = json!({"type": "PUT", "value": ["fish"]});
    let conditional = async |header: &str, value: &str| {
        post(b, "pets", &put, &[(header, value)])
            .await
            .status()
            .as_u16()
    };
    assert_eq!(conditional("if-none-match", "*").await, 412);
    assert_eq!(conditional("if-match", "\"0\"").await, 412);
    assert_eq!(conditional("if-match", &tag).await, 204);
    assert_eq!(conditional("if-match", &tag).await, 412);
    assert_eq!(conditional("if-match", "*").await, 204);
    // A request that is sent twice counts once.
    let once = [("idempotency-key", "request-1")];
    let first = post(a, "pets", &append("bird"), &once).await;
    let again = post(c, "pets", &append("bird"), &once).await;
    assert_eq!(
        (first.status(), etag(&first)),
        (StatusCode::NO_CONTENT, etag(&again))
    );
    assert_eq!(post(b, "pets", &append("worm"), &once).await.status(), 422);
    let list: Value = get(b, "/keys/pets").await.json().await.unwrap();
    assert_eq!(list, json!(["fish", "bird"]));

    for (body, key) in [
        (json!({"type": "PUT", "value": "no list"}), "k"),
        (json!({"type": "APPEND", "value": ["no item"]}), "k"),
        (json!({"type": "SWAP", "value": "x"}), "k"),
        (json!(["PUT"]), "k"),
        (append("x"), "%ff"),
        (append("x"), &"k".repeat(1025)),
    ] {
        let refused = post(a, key, &body, &[]).await;
        assert_eq!(refused.status(), 400, "{body}");
        let media = refused.headers()["content-type"].to_str().unwrap();
        assert!(media.starts_with("text/plain"), "{media}");
    }
    let url = format!("http://{a}/keys/pets");
    assert_eq!(HTTP.delete(&url).send().await.unwrap().status(), 204);
    assert_eq!(HTTP.delete(&url).send().await.unwrap().status(), 404);
    let text = get(a, "/admin/status").await.text().await.unwrap();
    for name in [
        "self",
        "state",
        "leader",
        "term",
        "has_quorum",
        "log_len",
        "last_applied",
        "commit_idx",
        "version",
    ] {
        assert!(
            text.lines().any(|l| l.starts_with(&format!("{name}: "))),
            "{name} in\n{text}"
        );
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start(3, 1).await;
    let a = cluster.at(0);
    led(a).await;
    for item in ["1", "2", "3"] {
        assert_eq!(post(a, "k", &append(item), &[]).await.status(), 204);
    }
    for node in [1, 2] {
        cluster.down(node).await;
    }
    for request in 0..3 {
        let began = Instant::now();
        let refused = match request {
            0 => post(a, "k", &append("4"), &[]).await,
            1 => post(a, "new", &append("4"), &[]).await,
            _ => get(a, "/keys/k").await,
        };
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        assert!(began.elapsed() < REFUSED_WITHIN, "{:?}", began.elapsed());
    }
    let local: Value = get(a, "/keys/k?consistency=local")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(local, json!(["1", "2", "3"]));
    eventually("it sees that it has no quorum", PATIENCE, async || {
        let status = raft(a).await?;
        (status["has_quorum"] == false)
            .then_some(())
            .ok_or_else(|| status.to_string())
    })
    .await;
    // All of them start again from their disks.
    cluster.down(0).await;
    for node in 0..3 {
        cluster.up(node).await;
    }
    led(a).await;
    let list: Value = get(a, "/keys/k").await.json().await.unwrap();
    let items: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i.as_str().unwrap())
        .collect();
    assert_eq!(&items[..3], ["1", "2", "3"]);
    assert!(items[3..].iter().all(|i| *i == "4"), "{items:?}");
    cluster.end().await;
}

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

/// Whether the operations on one key can be put in one order in which each took place between its beginning and its end.
///
/// What became of an append without an answer shows in the last read, for all items differ: it was made, at some time until the
/// end, or it was not.
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
    for round in 0..3 {
        let before = items.load(Ordering::Relaxed);
        eventually("the clients get on", PATIENCE, async || {
            let now = items.load(Ordering::Relaxed);
            (now > before + 40)
                .then_some(())
                .ok_or_else(|| format!("{now}"))
        })
        .await;
        let leader = led(nodes[round]).await;
        let leader = nodes.iter().position(|n| *n == leader).unwrap();
        if round == 1 {
            cluster.freeze(leader);
            led(nodes[(leader + 1) % 3]).await;
            cluster.thaw(leader);
        } else {
            cluster.kill(leader);
            led(nodes[(leader + 1) % 3]).await;
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
