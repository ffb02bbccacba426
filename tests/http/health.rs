//! Health, readiness, metrics, and questions about the cluster.

use super::*;

#[actix_web::test]
async fn a_node_that_recovers_says_so_and_serves_nothing_but_eventual_reads() {
    let node = Fixture::without_peer().await;
    assert_eq!(node.get("/health").await.status(), 200);
    let why = error(node.get("/ready").await, 503).await.error;
    assert!(why.contains(&OTHER.to_string()), "{why}");
    // A payload may be of the cluster that is not known yet.
    for payload in ["", "MAAA__8Hqfi2BQ"] {
        for response in node.every_way(payload).await {
            assert!(response.headers().contains_key("retry-after"));
            let reply = error(response, 503).await;
            assert!(
                reply.error.contains("1 of 2 nodes of VIEW"),
                "{}",
                reply.error
            );
            assert!(reply.error.contains(&OTHER.to_string()), "{}", reply.error);
            assert!(reply.causal_payload.is_none() && reply.code.is_none());
        }
    }
    let eventual = node.get("/kvs?key=k&consistency=eventual").await;
    error(eventual, 503).await;
    let status: Status = node.get("/status").await.json().await.unwrap();
    assert_eq!(status.state, "forming");
    assert!(
        status
            .reason
            .is_some_and(|why| why.contains(&OTHER.to_string()))
    );
    let metrics = node.get("/metrics").await.text().await.unwrap();
    for line in [
        r#"causeway_peer_lag_dots{peer="127.0.0.1:8081"} 0"#,
        r#"causeway_peer_behind_dots{peer="127.0.0.1:8081"} 0"#,
        r#"causeway_peer_alive{peer="127.0.0.1:8081"} 0"#,
        "causeway_serving 0",
        "causeway_peer_hellos 0",
        r#"causeway_peer_hellos_closed_total{reason="crowded"} 0"#,
        "causeway_ready 0",
        r#"causeway_net_peer_up{peer="127.0.0.1:8081"} 0"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
}

#[actix_web::test]
async fn a_standby_is_alive_and_says_what_it_is() {
    let standby = Fixture::of(&[], &[]).await;
    let ask = async |method: Method, path: &str| {
        let request = standby.request(method, path);
        request.send().await.unwrap()
    };
    assert_eq!(ask(Method::GET, "/health").await.status(), 200);
    for (method, path) in [
        (Method::GET, "/ready"),
        (Method::GET, "/kvs?key=k"),
        (Method::PUT, "/kvs"),
        (Method::DELETE, "/kvs?key=k"),
        (Method::GET, "/kvs/get_partition_id"),
        (Method::GET, "/kvs/get_all_partition_ids"),
        (Method::GET, "/kvs/get_number_of_keys"),
        (Method::GET, "/view"),
        (Method::GET, "/view/plan?type=set_k&k=2"),
        (Method::DELETE, "/view/change"),
    ] {
        let reply = error(ask(method, path).await, 503).await;
        assert!(reply.error.contains("standby"), "{}", reply.error);
    }
    let add = "ip_port=10.0.0.9:8080&type=add";
    let update = standby
        .send(Method::PUT, "/kvs/view_update", FORM, add)
        .await;
    error(update, 503).await;
    let set = standby.send(Method::PUT, "/view", FORM, "k=2").await;
    error(set, 503).await;
    let status: Status = ask(Method::GET, "/status").await.json().await.unwrap();
    assert_eq!((status.state.as_str(), status.member), ("standby", None));
    assert_eq!(ask(Method::GET, "/metrics").await.status(), 200);
}

#[actix_web::test]
async fn a_standby_that_cannot_store_does_not_start() {
    // Nobody can make a directory there, not even root.
    let dir = std::path::Path::new("/proc/causeway");
    let mut config = common::config(NODE, &[], dir, &[]);
    config.peer_bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let Err(why) = Node::start(config).await else {
        panic!("it starts");
    };
    let why = why.to_string();
    assert!(
        why.contains("/proc/causeway") && why.contains("DATA_DIR"),
        "{why}"
    );
}

#[actix_web::test]
async fn the_cluster_can_be_asked_about() {
    let node = Fixture::start().await;
    let ask = async |path: &str| node.get(path).await.json::<Value>().await.unwrap();
    assert_eq!(
        ask("/kvs/get_partition_id").await,
        json!({"msg": "success", "partition_id": 0})
    );
    assert_eq!(
        ask("/kvs/get_all_partition_ids").await,
        json!({"msg": "success", "partition_id_list": [0]})
    );
    assert_eq!(
        ask("/kvs/get_partition_members?partition_id=0").await,
        json!({"msg": "success", "partition_members": ["127.0.0.1:8080"]})
    );
    node.send(Method::PUT, "/kvs", FORM, "key=k&value=v").await;
    assert_eq!(
        ask("/kvs/get_number_of_keys").await,
        json!({"msg": "success", "count": 1})
    );
    for (query, status) in [
        ("", 400),
        ("?partition_id=", 400),
        ("?partition_id=one", 400),
        ("?partition_id=-1", 400),
        ("?partition_id=99999999999", 400),
        ("?partition_id=1", 404),
    ] {
        error(
            node.get(&format!("/kvs/get_partition_members{query}"))
                .await,
            status,
        )
        .await;
    }
}

#[actix_web::test]
async fn operators_see_whether_it_serves() {
    let node = Fixture::start().await;
    assert_eq!(node.get("/health").await.status(), 200);
    assert_eq!(node.get("/ready").await.status(), 200);
    let status: Status = node.get("/status").await.json().await.unwrap();
    assert_eq!(status.node, "127.0.0.1:8080");
    assert_eq!((status.state.as_str(), status.reason), ("serving", None));
    assert_eq!(status.view, http::status(&node.node).view);
    assert!(status.clock_ms > 0 && status.free_bytes > 0);
    let page = node.get("/").await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let page = page.text().await.unwrap();
    assert!(page.contains("127.0.0.1:8080"));
    let document: Value = node.get("/openapi.json").await.json().await.unwrap();
    assert!(document["paths"]["/kvs"]["put"].is_object());
}

#[actix_web::test]
async fn alerts_and_the_dashboard_know_only_what_is_measured() {
    let node = Fixture::start().await;
    node.send(Method::PUT, "/kvs", FORM, "key=k&value=v").await;
    let metrics = node.request(Method::GET, "/metrics");
    let metrics = metrics.header("accept", "text/plain").send().await.unwrap();
    assert_eq!(
        metrics.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = metrics.text().await.unwrap();
    let types: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let measured = |name: &str| {
        types.iter().any(|(of, kind)| {
            let part = name.strip_prefix(of);
            match *kind {
                "histogram" => matches!(part, Some("_bucket" | "_count" | "_sum")),
                _ => part == Some(""),
            }
        })
    };
    let dashboard = include_str!("../../monitoring/dashboard.json");
    let _: Value = serde_json::from_str(dashboard).unwrap();
    for file in [include_str!("../../monitoring/alerts.yml"), dashboard] {
        let names = file.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let ours = |name: &&str| name.starts_with("causeway_") || name.starts_with("process_");
        let names: Vec<&str> = names.filter(ours).collect();
        assert!(names.len() > 12, "{names:?}");
        for name in names {
            assert!(measured(name), "{name} in\n{text}");
        }
    }
}

#[actix_web::test]
async fn metrics_count_what_happened() {
    let node = Fixture::start().await;
    node.send(Method::PUT, "/kvs", FORM, "key=k&value=v").await;
    for _ in 0..3 {
        node.get("/kvs?key=k").await;
    }
    node.get("/kvs").await;
    node.get("/nowhere").await;
    node.send(Method::DELETE, "/kvs", FORM, "key=k").await;
    node.send(Method::PUT, "/kvs", FORM, "key=l&value=v").await;
    let list = r#"{"type":"PUT","value":["cat"]}"#;
    node.send(Method::POST, "/keys/pets", JSON, list).await;
    node.send(Method::PATCH, "/kvs", FORM, "").await;
    let metrics = node.get("/metrics").await;
    let media = metrics.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(media.starts_with("application/openmetrics-text"));
    let text = metrics.text().await.unwrap();
    for line in [
        r#"causeway_http_request_duration_seconds_count{route="/kvs",method="GET",status="200"} 3"#,
        r#"causeway_http_request_duration_seconds_count{route="/kvs",method="PUT",status="201"} 2"#,
        r#"causeway_http_request_duration_seconds_count{route="/keys/{key}",method="POST",status="204"} 1"#,
        r#"causeway_http_request_duration_seconds_count{route="/kvs",method="other",status="405"} 1"#,
        r#"causeway_http_request_duration_seconds_count{route="/kvs",method="GET",status="400"} 1"#,
        r#"causeway_http_request_duration_seconds_count{route="none",method="GET",status="404"} 1"#,
        "causeway_context_entries_count 6",
        "causeway_keys 1",
        "causeway_unstable_dots 0",
        "causeway_stalled_reads 0",
        "causeway_serving 1",
        "causeway_ready 1",
        r#"causeway_refusals_total{reason="malformed"} 1"#,
        r#"causeway_refusals_total{reason="wrong_method"} 1"#,
        "causeway_peer_unfit_total 0",
        "causeway_net_bad_frames_total 0",
        "causeway_net_hellos_refused_total 0",
        "causeway_replica_queue_bytes 0",
        "causeway_client_connections_lingering 0",
        "causeway_request_bodies_bytes 0",
        "causeway_unread_replies_bytes 0",
        r#"causeway_clients_refused_total{reason="cut_off"} 0"#,
        r#"causeway_clients_refused_total{reason="late_head"} 0"#,
        &format!(
            "causeway_build_info{{version=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        ),
        "causeway_council_leads 1",
        r#"causeway_council_leader{leader="127.0.0.1:8080"} 1"#,
        "causeway_council_has_quorum 1",
        "causeway_council_full 0",
        "causeway_lists 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    let number = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|n| n.trim().parse::<f64>().ok()).unwrap()
    };
    for name in [
        "causeway_commits_total",
        "causeway_commit_batches_total",
        "causeway_commit_operations_total",
        "causeway_commit_seconds_total",
        "causeway_storage_bytes",
        "causeway_storage_free_bytes",
        "causeway_council_term",
        "causeway_council_committed",
        "causeway_council_applied",
        "causeway_lists_bytes",
        "causeway_client_connections",
        "causeway_client_connections_most",
        "causeway_client_memory_bytes",
        "causeway_commit_data_bytes_total",
        "causeway_engine_journals",
        "causeway_engine_journal_bytes",
        "causeway_engine_memtable_bytes",
        "causeway_cache_records_bytes",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_threads",
        "process_open_fds",
        "process_max_fds",
        "process_cpu_seconds_total",
        "process_start_time_seconds",
    ] {
        assert!(number(name) > 0.0, "{name} in\n{text}");
    }
}
