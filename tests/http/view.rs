//! The view: asked about, planned, and changed as far as one node alone can.

use super::{FORM, Fixture, JSON, NODE, error};
use causeway::api::view::{ChangeData, Ending, Plan, ViewState};
use reqwest::Method;
use serde_json::{Value, json};

#[actix_web::test]
async fn a_change_of_the_view_that_cannot_be_is_refused() {
    let node = Fixture::start().await;
    let update = async |media: &str, body: &str| {
        let sent = node.send(Method::PUT, "/kvs/view_update", media, body);
        sent.await
    };
    for (body, status, says) in [
        ("", 400, "ip_port"),
        ("type=add", 400, "ip_port"),
        ("ip_port=here&type=add", 400, "ip_port"),
        ("ip_port=0.0.0.0:80&type=add", 400, "ip_port"),
        ("ip_port=10.0.0.9:8080", 400, "type"),
        ("ip_port=10.0.0.9:8080&type=swap", 400, "type"),
        ("ip_port=127.0.0.1:60000&type=add", 400, "port"),
        ("ip_port=127.0.0.1:9&type=remove", 404, "not in the view"),
        ("ip_port=127.0.0.1:8080&type=remove", 400, "last node"),
        ("ip_port=127.0.0.1:9&type=add", 503, "cannot be added"),
    ] {
        let refused = error(update(FORM, body).await, status).await;
        assert!(refused.error.contains(says), "{body}: {}", refused.error);
    }
    // A change to what is already so succeeds.
    for (media, body) in [
        (FORM, "ip_port=127.0.0.1:8080&type=add"),
        (JSON, r#"{"ip_port": "127.0.0.1:8080", "type": "add"}"#),
    ] {
        let reply = update(media, body).await;
        assert_eq!(reply.status(), 200);
        let reply: Value = reply.json().await.unwrap();
        let is = json!({"msg": "success", "partition_id": 0, "number_of_partitions": 1, "view": 1});
        assert_eq!(reply, is);
    }
}

#[actix_web::test]
async fn a_cluster_that_is_being_formed_refuses_every_change_alike() {
    // The node waits for the others for a moment: an operator who has just started a cluster is not
    // sent away.
    let node = Fixture::without_peer().await;
    let remove = "ip_port=127.0.0.1:8081&type=remove";
    let strategy = r#"{"strategy": "full"}"#;
    let (update, set, strategy) = tokio::join!(
        node.send(Method::PUT, "/kvs/view_update", FORM, remove),
        node.send(Method::PUT, "/view", FORM, "k=1"),
        node.send(Method::POST, "/set_replication_strategy", JSON, strategy),
    );
    let (update, set) = (error(update, 503).await, error(set, 503).await);
    assert_eq!(update.error, set.error);
    let strategy: Value = strategy.json().await.unwrap();
    assert_eq!(strategy["message"].as_str(), Some(set.error.as_ref()));
}

#[actix_web::test]
async fn k_is_set_and_the_view_says_so() {
    let node = Fixture::start().await;
    let set = async |media: &str, body: &str| node.send(Method::PUT, "/view", media, body).await;
    let view = async || node.get("/view").await.json::<ViewState>().await.unwrap();
    let first = view().await;
    assert_eq!(first.node, NODE.to_string());
    assert_eq!((first.view.number, first.view.k), (1, 1));
    let partition = &first.view.partitions[0];
    assert_eq!((partition.partition_id, partition.slots), (0, 16_384));
    assert!(partition.members[0].alive && partition.members[0].node == NODE.to_string());
    assert_eq!((first.change, first.last), (None, None));

    for (media, body, k, number) in [
        (FORM, "k=2", 2, 2),
        (FORM, "k=2", 2, 2),
        (JSON, r#"{"k": 3}"#, 3, 3),
        (JSON, r#"{"k": "1"}"#, 1, 4),
    ] {
        let reply = set(media, body).await;
        assert_eq!(reply.status(), 200, "{body}");
        let reply: Value = reply.json().await.unwrap();
        let is = json!({"msg": "success", "number_of_partitions": 1, "view": number});
        assert_eq!(reply, is);
        let now = view().await;
        assert_eq!((now.view.number, now.view.k), (number, k));
        let last = now.last.unwrap();
        assert_eq!((last.view, last.end), (number, Ending::Done));
        assert_eq!(last.change, ChangeData::SetK { k });
        assert_eq!(last.text, format!("set K to {k}"));
        assert!(!last.given_up && last.without.is_empty());
        assert!(now.change.is_none() && now.closing.is_empty());
        assert!(now.behind.is_empty() && now.leaving.is_empty());
        assert!(now.council.has_quorum);
        assert_eq!(now.council.role, "leader");
        assert_eq!(now.council.voters, [NODE.to_string()]);
    }
    for (media, body) in [
        (FORM, ""),
        (FORM, "k="),
        (FORM, "k=0"),
        (FORM, "k=two"),
        (FORM, "k=70000"),
        (FORM, "k=1&k=2"),
        (JSON, "{}"),
        (JSON, r#"{"k": 0}"#),
        (JSON, r#"{"k": -1}"#),
        (JSON, r#"{"k": 1.5}"#),
        (JSON, r#"{"k": [1]}"#),
    ] {
        error(set(media, body).await, 400).await;
    }
    let cancel = node.request(Method::DELETE, "/view/change").send().await;
    let refused = error(cancel.unwrap(), 404).await;
    assert!(refused.error.contains("no change"), "{}", refused.error);
    assert_eq!(view().await.view.number, 4);
    let metrics = node.get("/metrics").await.text().await.unwrap();
    for line in [
        "causeway_view_number 4",
        "causeway_view_change_running 0",
        "causeway_view_slots_to_come 0",
        "causeway_view_members_leaving 0",
        "causeway_view_change_given_up 0",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
}

#[actix_web::test]
async fn a_change_can_be_planned() {
    let node = Fixture::start().await;
    for i in 0..64 {
        let body = format!("key=k{i}&value=v");
        node.send(Method::PUT, "/kvs", FORM, &body).await;
    }
    let plan = async |query: &str| {
        let reply = node.get(&format!("/view/plan?{query}")).await;
        assert_eq!(reply.status(), 200, "{query}");
        reply.json::<Plan>().await.unwrap()
    };
    let added = plan("type=add&ip_port=127.0.0.1:9").await;
    let other = "127.0.0.1:9".to_owned();
    assert_eq!(
        added.change,
        ChangeData::Add {
            node: other.clone()
        }
    );
    assert_eq!((added.from_view, added.view, added.k), (1, 2, 1));
    assert_eq!(added.partitions.len(), 2);
    assert_eq!(added.partitions[1].members[..], [other.as_str()]);
    let [moved] = &added.moves[..] else {
        panic!("{added:?}");
    };
    assert_eq!((moved.from, moved.to, moved.slots), (0, 1, 8192));
    assert_eq!(moved.keys, 32, "half of 64");
    let [gain] = &added.gaining[..] else {
        panic!("{added:?}");
    };
    assert_eq!((&gain.node, gain.partition_id), (&other, 1));
    assert_eq!((gain.slots, gain.keys), (8192, 32));
    assert_eq!((added.leaving, added.busy), (None, None));
    let wider = plan("type=set_k&k=2").await;
    assert!(wider.k == 2 && wider.moves.is_empty() && wider.gaining.is_empty());

    for (query, status, says) in [
        ("", 400, "type"),
        ("type=swap&k=1", 400, "type"),
        ("type=set_k", 400, "k"),
        ("type=set_k&k=0", 400, "k"),
        ("type=set_k&k=1", 400, "K is 1 already"),
        ("type=add&type=add", 400, "once"),
        ("type=add&ip_port=here", 400, "ip_port"),
        ("type=add&ip_port=127.0.0.1:8080", 400, "in the view"),
        ("type=remove&ip_port=127.0.0.1:8080", 400, "last node"),
        ("type=remove&ip_port=127.0.0.1:9", 404, "not in the view"),
    ] {
        let refused = node.get(&format!("/view/plan?{query}")).await;
        let refused = error(refused, status).await;
        assert!(refused.error.contains(says), "{query}: {}", refused.error);
    }
    // Nothing was changed.
    let view: ViewState = node.get("/view").await.json().await.unwrap();
    assert_eq!((view.view.number, view.change, view.last), (1, None, None));
}
