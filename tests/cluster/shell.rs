//! The operator's client at a real cluster: the menu fed by a script and at a terminal, and each
//! choice by itself.

use crate::harness::{Cluster, PATIENCE, eventually};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

fn command(at: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(args).env_clear().env("CAUSEWAY_NODE", at);
    command
}

/// Runs a command with lines piped into it.
async fn fed(mut command: Command, lines: &'static str) -> Output {
    let run = tokio::task::spawn_blocking(move || {
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(lines.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    });
    run.await.unwrap()
}

async fn run(at: SocketAddr, args: &[&str]) -> (Option<i32>, String) {
    let output = fed(command(&at.to_string(), args), "").await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_goes_through_the_whole_menu() {
    let cluster = Cluster::start(3, 1).await;
    cluster.formed().await;
    let at = cluster.at(0).to_string();
    let lines = "2\ncolour\nblue\nread\n\ncolour\n1\n1\n5\n2\n7\n8\nnode\n4\ncolour\n1\n2\nmany\n2\n9\nnever read\n";
    let output = fed(command(&at, &["shell"]), lines).await;
    let text = String::from_utf8(output.stdout).unwrap();
    // Two lines were no answers: the empty key, and "many".
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours in a pipe: {text}");
    let mut rest = text.as_str();
    for says in [
        "9  Exit",
        "written in partition",
        "error: the key is empty",
        "Key:\nblue\n",
        "every node holds every key",
        "node 2 (",
        "acts as failed",
        "dead    failed",
        "3 nodes, 1 dead",
        "node 2 (",
        "has caught up, and serves",
        "3 nodes, 0 dead",
        "deleted in partition",
        "error: \"many\" is no number",
        "2 nodes hold each key",
    ] {
        let at = rest.find(says);
        let at = at.unwrap_or_else(|| panic!("{says:?} is not in {rest:?} of {text}"));
        rest = &rest[at + says.len()..];
    }

    // A command that fails does not end the shell, but shows in its exit code. The shell ends with
    // its input.
    let output = fed(command(&at, &["shell"]), "3\nno such key\n7\n").await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(
        text.contains("error: there is no key") && text.contains("0 dead"),
        "{text}"
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_choice_is_a_command_and_says_what_is_wrong() {
    let cluster = Cluster::start(2, 2).await;
    cluster.formed().await;
    let (one, other) = (cluster.at(0), cluster.at(1).to_string());
    for (args, code, says) in [
        (&["operator", "write", "a/b", "-1"][..], 0, "on 2 nodes"),
        (&["operator", "write", "a/b", "x"], 1, "has a value"),
        (&["operator", "read", "a/b"], 0, "-1"),
        (&["operator", "where", "a/b"], 0, other.as_str()),
        (&["operator", "delete", "a/b"], 0, "deleted"),
        (&["operator", "read", "a/b"], 4, "there is no key"),
        (&["strategy", "consistent", "1"], 0, "partitions 2"),
        (&["strategy", "consistent", "0"], 2, "invalid value"),
        (&["node", "fail", &other], 0, "acts as failed"),
        (&["node", "fail", "7"], 4, "there is no node"),
        (&["node", "list"], 0, "2 nodes, 1 dead"),
        (&["node", "recover-all"], 0, "has caught up"),
        (&["node", "recover-all"], 0, "all nodes are alive"),
        (&["node", "recover", "1"], 0, "serves"),
        (&["strategy", "full"], 0, "partitions 1"),
    ] {
        let (is, text) = run(one, args).await;
        assert_eq!(is, Some(code), "{args:?}: {text}");
        assert!(text.contains(says), "{args:?}: {text}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_asked_for_in_words_and_sent_when_it_is_given() {
    let cluster = Cluster::new(1, 1)
        .with_all("CLUSTER_SECRET", "of the nodes")
        .with_all("API_TOKEN", "s3cret")
        .all_up()
        .await;
    let at = cluster.at(0);
    for args in [
        &["node", "list"][..],
        &["view", "set-k", "2"],
        &["operator", "read", "x"],
    ] {
        let (code, text) = run(at, args).await;
        assert!(
            code == Some(1) && text.contains("--token"),
            "{args:?}: {text}"
        );
        let (code, text) = run(at, &[args, &["--token", "wrong"]].concat()).await;
        assert!(
            code == Some(1) && text.contains("--token"),
            "{args:?}: {text}"
        );
    }
    let (code, text) = run(at, &["node", "list", "--token", "s3cret"]).await;
    assert!(
        code == Some(0) && text.contains("1 nodes, 0 dead"),
        "{text}"
    );
    let mut asked = command(&at.to_string(), &["view", "set-k", "2"]);
    asked.env("API_TOKEN", "s3cret");
    assert_eq!(fed(asked, "").await.status.code(), Some(0));
    crate::keys::led(at).await;
    let target = at.to_string();
    let load = "bench --protocol keys --keys 1 --connections 1 --seconds 1 --warmup 0 --read-share 0 --json --target";
    let mut load: Vec<&str> = load.split(' ').collect();
    load.push(&target);
    let (_, text) = run(at, &load).await;
    assert!(
        text.contains("\"requests\":0,") && text.contains("403"),
        "{text}"
    );
    load.extend(["--token", "s3cret"]);
    let (code, text) = run(at, &load).await;
    assert!(code == Some(0) && text.contains("\"errors\":0,"), "{text}");
    cluster.end().await;
    let (code, text) = run(at, &["node", "list"]).await;
    assert!(code == Some(3) && text.contains("cannot reach"), "{text}");
    let output = fed(command(&at.to_string(), &["shell"]), "7\n9\n").await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_show_the_token_to_every_node_that_they_ask() {
    let mut cluster = Cluster::new(3, 2)
        .with_all("CLUSTER_SECRET", "of the nodes")
        .with_all("API_TOKEN", "a")
        .with_all("WRITE_TOKEN", "w")
        .with_all("READ_TOKEN", "r");
    for node in 0..3 {
        cluster.up(node).await;
    }
    let at = cluster.at(0);
    let asked = async |args: &str, token: &str| {
        let args: Vec<&str> = args.split(' ').collect();
        let mut asked = command(&at.to_string(), &args);
        asked.env("API_TOKEN", token);
        let output = fed(asked, "").await;
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text)
    };
    eventually("all nodes are heard", PATIENCE, async || {
        let (code, text) = asked("status --check", "r").await;
        (code == Some(0)).then_some(()).ok_or(text)
    })
    .await;
    let load = format!(
        "bench --keys 4 --connections 2 --seconds 1 --warmup 0 --read-share 0.5 --routing aware --json --target {at}"
    );
    for (token, errors) in [("r", false), ("w", true)] {
        let (code, text) = asked(&load, token).await;
        let without = code == Some(0) && text.contains("\"errors\":0,");
        assert_eq!(without, errors, "{token}: {text}");
    }
    cluster.end().await;
}

/// The command at a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    fn open(mut command: Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let ours: OwnedFd = openpt(flags).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let name = name.into_string().unwrap();
        let theirs = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(Path::new(&name))
                .unwrap()
        };
        let child = command
            .env("TERM", "xterm-256color")
            .stdin(theirs())
            .stdout(theirs())
            .stderr(theirs())
            .spawn()
            .unwrap();
        let keyboard = File::from(ours);
        let (mut reader, screen) = (
            keyboard.try_clone().unwrap(),
            Arc::<Mutex<String>>::default(),
        );
        let into = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..n]);
                into.lock().unwrap().push_str(&text);
            }
        });
        Self {
            child,
            keyboard,
            screen,
        }
    }

    /// Waits until a text is on the screen, and wipes what is there up to its end.
    async fn shows(&self, text: &str) {
        eventually("the screen shows it", PATIENCE, async || {
            let mut screen = self.screen.lock().unwrap();
            let found = screen
                .find(text)
                .ok_or_else(|| format!("no {text:?} in {screen:?}"))?;
            screen.drain(..found + text.len());
            Ok(())
        })
        .await;
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The process may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_terminal_arrows_and_numbers_choose_and_history_comes_back() {
    const UP: &str = "\u{1b}[A";
    const DOWN: &str = "\u{1b}[B";
    let cluster = Cluster::start(1, 1).await;
    let at = cluster.at(0).to_string();
    let mut terminal = Terminal::open(command(&at, &["shell"]));
    terminal.shows("9  Exit").await;
    terminal.types(DOWN);
    terminal.types("\r");
    terminal.shows("Key").await;
    terminal.types("\r");
    terminal.shows("the key is empty").await;
    terminal.types("colour\r");
    terminal.shows("Value").await;
    terminal.types("blue\r");
    terminal.shows("\u{1b}[32mwritten in partition").await;
    terminal.shows("9  Exit").await;
    terminal.types("3\r");
    terminal.shows("Key").await;
    // The value was typed last, the key before it.
    terminal.types(UP);
    terminal.types(UP);
    terminal.shows("colour").await;
    terminal.types("\r");
    terminal.shows("\u{1b}[32mblue").await;
    terminal.shows("9  Exit").await;
    terminal.types(UP);
    terminal.types("\r");
    eventually("it ends", PATIENCE, async || {
        let ended = terminal.child.try_wait().unwrap();
        let ended = ended.ok_or_else(|| terminal.screen.lock().unwrap().clone())?;
        assert!(ended.success());
        Ok(())
    })
    .await;
    cluster.end().await;
}
