//! Ends that a script goes by: exit codes, one line for each failure.

use super::fake::{causeway, fake_node, nobody, stderr, stdout};
use std::net::TcpListener;
use std::process::Command;

#[test]
fn a_bad_environment_ends_the_node_with_one_line_and_code_2() {
    let good = ("ip_port", "127.0.0.1:8080");
    for vars in [
        vec![],
        vec![("ip_port", "here")],
        vec![good, ("K", "0")],
        vec![good, ("K", "abc")],
        vec![good, ("VIEW", "127.0.0.1:8080,127.0.0.1:8080")],
        vec![good, ("VIEW", "127.0.0.1:8080,garbage")],
        vec![good, ("CLUSTER_SECRET", "")],
        vec![("ip_port", "127.0.0.1:60000")],
    ] {
        let output = causeway(&[]).envs(vars.clone()).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{vars:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{vars:?}: {text}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn a_file_of_settings_is_read_and_a_bad_line_of_it_ends_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings");
    let ended = |text: &str, vars: &[(&str, &str)]| {
        std::fs::write(&file, text).unwrap();
        let mut node = causeway(&[]);
        let node = node.env("CONFIG", &file).envs(vars.iter().copied());
        let output = node.output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    };
    let text = ended("# one node\nip_port=127.0.0.1:8080\nMAX_VALUES=1\n", &[]);
    assert!(
        text.contains("line 3: MAX_VALUES") && text.contains("MAX_VALUE_BYTES"),
        "{text}"
    );
    // What is in it counts, and what is in the environment counts more.
    assert!(ended("ip_port=here", &[]).contains("ip_port=\"here\""));
    let text = ended("ip_port=here\nK=x", &[("ip_port", "127.0.0.1:8080")]);
    assert!(text.contains("K=\"x\""), "{text}");
}

#[test]
fn a_node_that_may_open_too_few_files_ends_with_one_line() {
    let output = Command::new("sh")
        .args([
            "-c",
            "ulimit -n 400; exec \"$0\"",
            env!("CARGO_BIN_EXE_causeway"),
        ])
        .env("ip_port", "127.0.0.1:8080")
        .env("RUST_LOG", "error")
        .output()
        .unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("400 files") && text.contains("ulimit -n"),
        "{text}"
    );
}

#[test]
fn nodes_that_a_process_cannot_have_files_for_are_refused_with_what_they_need() {
    let limited = "ulimit -n 1024; exec \"$0\" \"$@\"";
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let output = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_causeway")])
        .args(["local", "--nodes", "32", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("1024 files") && text.contains("2816"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!data.exists());
}

#[test]
fn a_bad_command_line_ends_with_code_2() {
    for args in [
        &["nonsense"][..],
        &["put", "k"],
        &["bench", "--read-share", "1.5"],
        &["bench", "--read-share", "0.6", "--delete-share", "0.6"],
        &["bench", "--history", "h", "--consistency", "eventual"],
        &["bench", "--history", "h", "--protocol", "etcd"],
        &["local", "--nodes", "0"],
        &["local", "--port", "60000"],
        &["get", "k", "--node", "https://127.0.0.1:1"],
        &["explain", "no payload"],
        &["keys"],
        &["keys", "append", "k"],
        &["keys", "get", ".."],
        &[
            "keys",
            "put",
            "k",
            "--if-match",
            "*",
            "--if-none-match",
            "*",
        ],
        &["keys", "put", "k", "--idempotency-key", "a\nb"],
        &["view"],
        &["view", "set-k", "0"],
        &["view", "plan"],
        &["view", "force"],
        &["view", "status", "--node", "https://127.0.0.1:1"],
    ] {
        let output = causeway(args).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    }
    let help = stdout(&causeway(&["--help"]).output().unwrap());
    assert!(help.contains("Exit codes"), "{help}");
}

#[test]
fn health_is_0_or_1() {
    let health = |at: &str| {
        let mut command = causeway(&["health"]);
        command.env("ip_port", at).env("PEER_PORT", "1");
        command.output().unwrap()
    };
    let (node, served) = fake_node(vec![(200, "ok".into())]);
    let healthy = health(&node);
    assert_eq!(healthy.status.code(), Some(0), "{}", stderr(&healthy));
    assert_eq!(served.join().unwrap()[0].0, "GET /health HTTP/1.1");
    assert_eq!(health(&nobody()).status.code(), Some(1));
}

#[test]
fn a_port_in_use_is_named() {
    // Below the range that the system gives out, so that its peer port is one.
    let taken = (20_000u16..30_000)
        .step_by(97)
        .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let args = ["local", "--nodes", "1", "--port", port.as_str(), "--data"];
    let output = causeway(&args).arg(dir.path()).output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
