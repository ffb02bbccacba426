//! The program as a script starts it, and a node that gives prepared answers.

use causeway::protocol::clock::Timestamp;
use causeway::protocol::cluster::{Cluster, ClusterId, PayloadKey};
use causeway::protocol::context::Context;
use causeway::protocol::ids::{LogId, MemberId};
use causeway::protocol::payload::Codec;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::JoinHandle;

/// The program in an environment of its own, so that nothing of this machine's leaks in.
pub fn causeway(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(args).env_clear();
    command
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn cluster(n: u8) -> Cluster {
    Cluster {
        id: ClusterId([n; 16]),
        key: PayloadKey([n; 32]),
        former: None,
    }
}

pub fn payload(seq: u64) -> String {
    let mut context = Context::default();
    context.clock = Timestamp::from_ms(1_800_000_000_000);
    let log = LogId {
        member: MemberId(3),
        incarnation: 9,
    };
    context.see(log, seq);
    Codec::new(&cluster(1), None).encode(&context)
}

/// An address where nobody listens.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A request that a [`fake_node`] got: request line, body, and the other lines of the head, in
/// lower case.
pub type Got = (String, String, Vec<String>);

/// A node that gives the answers one after the other, a connection each, and returns the requests
/// it got. An answer's text may begin with header lines, each with its line end.
pub fn fake_node(answers: Vec<(u16, String)>) -> (String, JoinHandle<Vec<Got>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = move || {
        let mut seen = Vec::new();
        for (status, answer) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut first = String::new();
            reader.read_line(&mut first).unwrap();
            if first.is_empty() {
                // A look whether anyone is there.
                continue;
            }
            let (mut length, mut head) = (0, Vec::new());
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                let line = line.trim().to_lowercase();
                if let Some(n) = line.strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap();
                }
                head.push(line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let (headers, text) = answer.split_at(answer.rfind("\r\n").map_or(0, |at| at + 2));
            let length = text.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{text}",
            )
            .unwrap();
            seen.push((
                first.trim().to_owned(),
                String::from_utf8(body).unwrap(),
                head,
            ));
        }
        seen
    };
    (address, std::thread::spawn(serve))
}

pub fn in_session(args: &[&str], node: &str, session: &Path) -> Output {
    causeway(args)
        .env("CAUSEWAY_NODE", node)
        .env("CAUSEWAY_SESSION", session)
        .output()
        .unwrap()
}
