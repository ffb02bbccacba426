//! The linearizable lists on real nodes: through any node, without a quorum, over restarts and lost
//! disks, and beside `/kvs`.

use crate::harness::{Cluster, HTTP, PATIENCE, eventually};
use crate::session::Session;
use causeway::protocol::cluster::{ClusterId, PayloadKey};
use causeway::protocol::payload::{Codec, decode_unverified};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Without a quorum everything is refused within this time.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);
/// Time that the client itself may need for a request, on a machine that does other things as well.
const OVERHEAD: Duration = Duration::from_millis(500);

pub async fn get(at: SocketAddr, path: &str) -> Response {
    let url = format!("http://{at}{path}");
    HTTP.get(url).send().await.unwrap()
}

pub async fn post(at: SocketAddr, key: &str, body: &Value, headers: &[(&str, &str)]) -> Response {
    let url = format!("http://{at}/keys/{key}");
    let mut request = HTTP.request(Method::POST, url).json(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

pub fn append(item: &str) -> Value {
    json!({"type": "APPEND", "value": item})
}

async fn raft(at: SocketAddr) -> Result<Value, String> {
    let url = format!("http://{at}/admin/status");
    let request = HTTP.get(url).header("accept", "application/json");
    let reply = request.send().await.map_err(|e| e.to_string())?;
    reply.json().await.map_err(|e| e.to_string())
}

/// Waits until a node knows of a leader with a quorum: the leader's address.
pub async fn led(at: SocketAddr) -> SocketAddr {
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
        assert!(
            began.elapsed() < REFUSED_WITHIN + OVERHEAD,
            "{:?}",
            began.elapsed()
        );
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_a_list_sees_what_its_writer_had_seen() {
    let cluster = Cluster::new(3, 3).apart().all_up().await;
    let [a, b, c] = [0, 1, 2].map(|node| cluster.at(node));
    led(a).await;
    let mut writer = Session::default();
    eventually("a write has all copies", PATIENCE, async || {
        let put = writer.put(a, "warm", "up").await;
        put.written().then_some(()).ok_or(format!("{put:?}"))
    })
    .await;
    cluster.level().await;

    // A write that the third node has not got does not count as known to all: the payload has to
    // name that write.
    cluster.freeze(2);
    let put = writer.put(a, "photo", "p1").await;
    assert!(put.written(), "{put:?}");
    let seen = decode_unverified(&writer.payload).unwrap().0;
    assert!(!seen.is_empty());
    led_without(b, c).await;
    let with = [("causal-payload", writer.payload.as_str())];
    let list = json!({"type": "PUT", "value": ["see photo"]});
    let posted = post(a, "news", &list, &with).await;
    assert_eq!(posted.status(), 204);
    let own = decode_unverified(&payload(&posted)).unwrap().0;
    assert!(own.covers(&seen));
    // Others who add to the list take nothing away.
    assert_eq!(post(b, "news", &append("nice"), &[]).await.status(), 204);

    let read = get(b, "/keys/news").await;
    let list = payload(&read);
    assert!(decode_unverified(&list).unwrap().0.covers(&seen));
    let mut reader = Session { payload: list };
    cluster.thaw(2);
    // The third node may take its time to catch up, but it does not say that there is nothing.
    eventually("the node that was away shows it", PATIENCE, async || {
        let photo = reader.get(c, "photo").await;
        if photo.status == 503 {
            return Err(format!("{photo:?}"));
        }
        assert_eq!(photo.value(), Some("p1"), "{photo:?}");
        Ok(())
    })
    .await;

    // A list that is not there does not lose what its reader had seen before.
    let url = format!("http://{b}/keys/none");
    let missing = HTTP
        .get(url)
        .header("causal-payload", &reader.payload)
        .send()
        .await
        .unwrap();
    assert_eq!(missing.status(), 404);
    assert!(missing.headers().contains_key("causal-payload"));
    let earlier = causeway::protocol::cluster::Cluster {
        id: ClusterId([1; 16]),
        key: PayloadKey([1; 32]),
        former: None,
    };
    for bad in ["no payload", &Codec::new(&earlier, None).encode(&own)] {
        let refused = post(a, "news", &append("x"), &[("causal-payload", bad)]).await;
        assert_eq!(refused.status(), 400, "{bad}");
        let why: serde_json::Value = refused.json().await.unwrap();
        assert_eq!(why["code"], "foreign_payload", "{why}");
    }
    cluster.end().await;
}

fn payload(reply: &Response) -> String {
    reply.headers()["causal-payload"]
        .to_str()
        .unwrap()
        .to_owned()
}

/// Waits until a node knows of a leader other than `not`.
async fn led_without(at: SocketAddr, not: SocketAddr) {
    eventually("there is another leader", PATIENCE, async || {
        let leader = led(at).await;
        (leader != not)
            .then_some(())
            .ok_or(format!("{leader} leads"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_outlast_restarts_and_a_lost_disk() {
    let mut cluster = Cluster::start(3, 3).await;
    let nodes = [0, 1, 2].map(|node| cluster.at(node));
    let mut expected = Vec::new();
    for victim in 0..3 {
        let leader = led(nodes[victim]).await;
        // The leader at first, then one that follows; each comes back with its disk, the last one
        // without.
        let leads = nodes.iter().position(|node| *node == leader).unwrap();
        let down = if victim == 0 { leads } else { (leads + 1) % 3 };
        let other = nodes[(down + 1) % 3];
        let item = format!("before-{victim}");
        assert_eq!(post(other, "k", &append(&item), &[]).await.status(), 204);
        expected.push(item);
        cluster.down(down).await;
        led_without(other, nodes[down]).await;
        let item = format!("meanwhile-{victim}");
        assert_eq!(post(other, "k", &append(&item), &[]).await.status(), 204);
        expected.push(item);
        if victim == 2 {
            cluster.lose_disk(down);
        }
        cluster.up(down).await;
        eventually("it has the list", PATIENCE, async || {
            let reply = get(nodes[down], "/keys/k?consistency=local").await;
            let list: Value = reply.json().await.map_err(|e| e.to_string())?;
            (list == json!(expected))
                .then_some(())
                .ok_or(list.to_string())
        })
        .await;
        if victim == 2 {
            // The node is a voter as before: with it, one other is a majority.
            eventually("it votes", PATIENCE, async || {
                let view = get(nodes[down], "/view").await;
                let view: Value = view.json().await.map_err(|e| e.to_string())?;
                let votes = view["council"]["may_vote"] == true;
                votes.then_some(()).ok_or(view["council"].to_string())
            })
            .await;
            let leader = led(nodes[down]).await;
            let leads = nodes.iter().position(|node| *node == leader).unwrap();
            cluster.down(leads).await;
            led_without(nodes[down], leader).await;
            let list = get(nodes[down], "/keys/k").await;
            assert_eq!(list.json::<Value>().await.unwrap(), json!(expected));
            cluster.up(leads).await;
        }
    }
    cluster.end().await;
}

/// The lists of the test take less.
const SNAPSHOT_AFTER: u64 = 12 << 10;
/// So many entries that the leader has let go of the first ones: what is between two snapshots
/// stays before the last. Each counts more than 128 bytes.
const BEYOND_THE_LOG: u64 = 2 * SNAPSHOT_AFTER / 128 + 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_for_longer_than_the_log_goes_gets_the_lists_in_a_snapshot() {
    let cluster = Cluster::new(3, 1).snapshot_after(SNAPSHOT_AFTER);
    let mut cluster = cluster.all_up().await;
    let (a, away) = (cluster.at(0), cluster.at(2));
    led(a).await;
    let once = [("idempotency-key", "first")];
    let first = post(a, "k0", &append("once"), &once).await;
    assert_eq!(first.status(), 204);
    cluster.down(2).await;
    led_without(a, away).await;
    let behind = raft(a).await.unwrap()["last_applied"].as_u64().unwrap();
    // One by one: each is an entry of its own.
    for item in 0..BEYOND_THE_LOG {
        let (key, list) = (
            item % 50 + 1,
            json!({"type": "PUT", "value": [item.to_string()]}),
        );
        // With one of three nodes down, a leader that a busy machine holds up is enough for a 503.
        eventually("it is put", PATIENCE, async || {
            let status = post(a, &format!("k{key}"), &list, &[]).await.status();
            assert!(matches!(status.as_u16(), 204 | 503), "{status}");
            (status == 204).then_some(()).ok_or("503".to_owned())
        })
        .await;
    }
    eventually("the log is cut", PATIENCE, async || {
        let leader = led(a).await;
        let status = raft(leader).await?;
        let [applied, length] = ["last_applied", "log_len"].map(|n| status[n].as_u64().unwrap());
        let cut = applied > behind + length;
        cut.then_some(()).ok_or_else(|| status.to_string())
    })
    .await;
    cluster.up(2).await;
    let all = async |at| {
        let mut lists = Vec::new();
        for key in 0..=50 {
            let reply = get(at, &format!("/keys/k{key}?consistency=local")).await;
            let tag = reply.headers().get("etag").cloned();
            lists.push((tag, reply.text().await.unwrap()));
        }
        lists
    };
    let expected = all(a).await;
    eventually("it has the lists", PATIENCE, async || {
        let found = all(away).await;
        let same = found == expected;
        same.then_some(()).ok_or_else(|| format!("{found:?}"))
    })
    .await;
    // All of them go on from their own snapshots, and still know what was answered.
    for node in 0..3 {
        cluster.down(node).await;
    }
    for node in 0..3 {
        cluster.up(node).await;
    }
    led(away).await;
    let again = post(away, "k0", &append("once"), &once).await;
    assert_eq!(
        (again.status(), etag(&again)),
        (first.status(), etag(&first))
    );
    assert_eq!(all(away).await, expected);
    cluster.end().await;
}
