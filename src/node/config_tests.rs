//! Settings that make sense and settings that do not.

use super::super::tokens::Right;
use super::*;

fn config(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_env(|name| {
        vars.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| (*v).to_owned())
    })
}

/// The settings with `name` set to `value` beside a good `ip_port`, which must be refused.
fn refused(name: &str, value: &str) -> String {
    let vars = [(name, value), ("ip_port", "10.0.0.21:8080")];
    let error = config(&vars).expect_err(value).to_string();
    assert!(error.contains(name), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn a_lone_address_makes_a_standby_with_defaults() {
    let c = config(&[("ip_port", "10.0.0.21:8080")]).unwrap();
    assert!(c.is_standby() && c.view.is_none());
    assert_eq!((c.k, c.bind), (1, c.address));
    assert_eq!(c.peer_bind, "10.0.0.21:18080".parse().unwrap());
    assert_eq!(c.data_dir, PathBuf::from("data/10.0.0.21:8080"));
    assert!(c.cluster_secret.is_none());
    assert_eq!(c.max_value_bytes, 8 << 20);
    assert_eq!(c.slow_request, Some(Duration::from_secs(1)));
    assert_eq!(c.reserve.bytes(), 128 << 20);
    assert!(config(&[("ip_port", "10.0.0.21:8080"), ("VIEW", "")]).is_ok_and(|c| c.is_standby()));
}

#[test]
fn a_full_environment_is_taken_as_it_says() {
    let c = config(&[
        ("ip_port", "10.0.0.22:8080"),
        ("VIEW", "10.0.0.21:8080, 10.0.0.22:8080,10.0.0.23:8080"),
        ("K", "2"),
        ("BIND", "0.0.0.0:80"),
        ("PEER_PORT", "7000"),
        ("DATA_DIR", "/d"),
        ("CLUSTER_SECRET", "s"),
        ("API_TOKEN", "t-0"),
        ("MAX_VALUE_BYTES", "100"),
        ("CLIENT_MEMORY_BYTES", "1000"),
        ("DISK_RESERVE_BYTES", "1073741824"),
        ("SLOW_REQUEST_MS", "0"),
        ("HOSTS", "kv.example.org, KV2.example.org"),
    ])
    .unwrap();
    assert!(!c.is_standby());
    assert_eq!(c.slow_request, None);
    assert_eq!(c.view.as_ref().map(|v| v.partitions().count()), Some(2));
    assert_eq!(c.bind, "0.0.0.0:80".parse().unwrap());
    assert_eq!(c.peer_bind, "0.0.0.0:7000".parse().unwrap());
    assert_eq!(c.data_dir, PathBuf::from("/d"));
    assert_eq!(
        c.cluster_secret.as_ref().map(ClusterSecret::bytes),
        Some(&b"s"[..])
    );
    assert!(c.also_secret.is_none());
    assert_eq!((c.max_value_bytes, c.client_memory_bytes), (100, 1_000));
    assert_eq!(c.reserve.bytes(), 1 << 30);
    assert_eq!(c.tokens.right_of(b"t-0"), Some(Right::Administer));
    assert_eq!(c.hosts, ["kv.example.org", "kv2.example.org"]);
    let shown = format!("{c:?}");
    assert!(!shown.contains("cluster_secret") && !shown.contains("t-0"));
}

#[test]
fn a_second_secret_is_taken_and_none_is_a_word() {
    let also = |text: &str| {
        let vars = [("ip_port", "10.0.0.21:8080"), ("CLUSTER_SECRET_ALSO", text)];
        config(&vars).unwrap().also_secret
    };
    assert!(matches!(also("none"), Some(AlsoSecret::None)));
    assert!(matches!(also("other"), Some(AlsoSecret::Secret(s)) if s.bytes() == b"other"));
}

#[test]
fn the_peer_port_lies_at_one_distance_for_the_whole_cluster() {
    let at = |s: &str| s.parse::<SocketAddr>().unwrap();
    let c = config(&[("ip_port", "127.0.0.1:8081")]).unwrap();
    assert_eq!(
        c.peer_address(at("127.0.0.1:8084")),
        Some(at("127.0.0.1:18084"))
    );
    assert_eq!(c.peer_address(at("127.0.0.1:60000")), None);
    let c = config(&[("ip_port", "127.0.0.1:8081"), ("PEER_PORT", "7081")]).unwrap();
    assert_eq!(
        c.peer_address(at("127.0.0.1:8084")),
        Some(at("127.0.0.1:7084"))
    );
    assert_eq!(c.peer_address(at("127.0.0.1:1000")), None);
}

#[test]
fn a_port_too_high_for_the_default_asks_for_a_peer_port() {
    let e = config(&[("ip_port", "10.0.0.1:60000")]).unwrap_err();
    assert!(e.to_string().contains("PEER_PORT"), "{e}");
    assert!(refused("VIEW", "10.0.0.21:8080,VIEW").contains("no address"));
    let far = [
        ("ip_port", "10.0.0.1:80"),
        ("VIEW", "10.0.0.1:80,10.0.0.2:60000"),
    ];
    assert!(
        config(&far)
            .unwrap_err()
            .to_string()
            .contains("10.0.0.2:60000")
    );
    let set = [("ip_port", "10.0.0.1:60000"), ("PEER_PORT", "61000")];
    assert_eq!(config(&set).unwrap().peer_bind.port(), 61_000);
}

#[test]
fn an_address_is_required_and_has_to_be_one() {
    let e = config(&[]).unwrap_err().to_string();
    assert!(e.contains("ip_port is not set"), "{e}");
    for bad in [
        "",
        "host:80",
        "10.0.0.1",
        "10.0.0.1:0",
        "0.0.0.0:80",
        "1.2.3.4:99999",
    ] {
        let e = config(&[("ip_port", bad)]).unwrap_err().to_string();
        assert!(e.starts_with("ip_port="), "{e}");
    }
}

#[test]
fn nonsense_is_refused() {
    for bad in ["0", "abc", "", "-1", "1.5", "1\n2"] {
        refused("K", bad);
        refused("MAX_VALUE_BYTES", bad);
        refused("CLIENT_MEMORY_BYTES", bad);
        refused("DISK_RESERVE_BYTES", bad);
    }
    assert!(refused("VIEW", "10.0.0.1:80,10.0.0.1:80").contains("twice"));
    for bad in [
        "10.0.0.1:80,",
        "a",
        ",",
        "10.0.0.1:80;10.0.0.2:80",
        "0.0.0.0:80",
    ] {
        refused("VIEW", bad);
    }
    for bad in ["", "8080", "10.0.0.1:0"] {
        refused("BIND", bad);
    }
    for bad in ["", "0", "70000", "x", "8080"] {
        refused("PEER_PORT", bad);
    }
    for name in [
        "CLUSTER_SECRET",
        "CLUSTER_SECRET_ALSO",
        "API_TOKEN",
        "DATA_DIR",
    ] {
        refused(name, "");
        refused(name, "  ");
    }
    for bad in ["kv.example.org:8080", "a,,b", "http://kv"] {
        refused("HOSTS", bad);
    }
    let longest = LONGEST_VALUE.to_string();
    assert!(refused("MAX_VALUE_BYTES", &(LONGEST_VALUE + 1).to_string()).contains(&longest));
    assert!(refused("DISK_RESERVE_BYTES", "67108863").contains("64 MiB"));
    for bad in ["abc", "", "-1", "1.5", "1s"] {
        refused("SLOW_REQUEST_MS", bad);
    }
    assert!(refused("API_TOKEN", "t").contains("CLUSTER_SECRET"));
    for bad in ["to ken", " token", "t\nk", "t\u{f6}ken"] {
        assert!(!refused("API_TOKEN", bad).contains(bad), "it is a secret");
    }
}

#[test]
fn a_node_not_named_in_its_view_is_a_standby() {
    let vars = [
        ("ip_port", "10.0.0.9:80"),
        ("VIEW", "10.0.0.1:80,10.0.0.2:80"),
    ];
    assert!(config(&vars).unwrap().is_standby());
}

#[test]
fn every_variable_that_is_looked_up_may_stand_in_a_file() {
    let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let lookup = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        (name == "ip_port").then(|| "10.0.0.21:8080".to_owned())
    };
    Config::from_env(lookup).unwrap();
    let named = NAMES.iter().map(|name| (*name).to_owned());
    assert_eq!(asked.into_inner(), named.collect());
}
