//! `status`: the cluster as its own nodes see it.
//!
//! The given node says who is in the view; then every member is asked for itself, all at once. A
//! node that does not answer is shown as such, beside what its peers say of it.

use super::client::{NodeArg, NodeClient, TokenArg};
use super::failure::{CommandResult, Failure, print};
use super::view::show::offer as offer_words;
use crate::api::raft::RaftStatus;
use crate::api::status::{MemberStatus, Status};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use futures_util::future::join_all;
use reqwest::Method;
use reqwest::header::ACCEPT;
use serde::Serialize;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    node: NodeArg,
    /// Print JSON: the status of every node that answered
    #[arg(long)]
    json: bool,
    /// End with 1 unless the asked node knows a view, and every node of it answers and serves
    #[arg(long)]
    check: bool,
}

/// The answer of one member of the view, or why there is none.
#[derive(Serialize)]
struct Answer {
    node: String,
    partition_id: u32,
    /// Whether the node that was asked first hears from it.
    alive: bool,
    status: Option<Status>,
    /// How the council stands that decides about `/keys` and the view, as this member sees it.
    council: Option<RaftStatus>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Report {
    asked: Status,
    nodes: Vec<Answer>,
}

pub async fn status(args: StatusArgs) -> CommandResult {
    let node = args.node.connect(PATIENCE)?;
    let asked = ask(&node).await?;
    let members = asked
        .view
        .partitions
        .iter()
        .flat_map(|p| p.members.iter().map(|m| (p.partition_id, m)));
    let nodes = join_all(members.map(|(partition_id, member)| {
        answer(&args.node.token, &asked, &node, partition_id, member)
    }))
    .await;
    let report = Report { nodes, asked };
    if args.json {
        let text = serde_json::to_string(&report)
            .map_err(|e| Failure::not_done(format!("cannot print the status: {e}")))?;
        print(text)?;
    } else {
        show(&report)?;
    }
    match trouble(&report).filter(|_| args.check) {
        Some(trouble) => Err(Failure::not_done(trouble)),
        None => Ok(()),
    }
}

/// The trouble of the cluster, if there is any.
fn trouble(report: &Report) -> Option<String> {
    if report.nodes.is_empty() {
        let (node, state) = (&report.asked.node, state(&report.asked));
        return Some(format!("{node} knows of no nodes: it is {state}"));
    }
    let bad: Vec<String> = report
        .nodes
        .iter()
        .filter_map(|node| match &node.status {
            Some(status) if status.state == "serving" => None,
            Some(status) => Some(format!("{} is {}", node.node, state(status))),
            None => Some(format!("{} does not answer", node.node)),
        })
        .collect();
    (!bad.is_empty()).then(|| bad.join(", "))
}

fn show(report: &Report) -> CommandResult {
    print(headline(report))?;
    print(leader(&report.nodes))?;
    print(table(&report.nodes).trim_fmt())?;
    for clients in report.nodes.iter().filter_map(turned_away) {
        print(clients)?;
    }
    let others = report.nodes.iter().filter(|n| n.node != report.asked.node);
    let others = others.filter_map(|n| n.status.as_ref());
    for offer in std::iter::once(&report.asked)
        .chain(others)
        .flat_map(|s| &s.offers)
    {
        print(offer_words(offer))?;
    }
    Ok(())
}

/// The status that a node gives of itself.
pub async fn ask(node: &NodeClient) -> Result<Status, Failure> {
    let reply = node.send(node.request(Method::GET, "/status")).await?;
    if !reply.ok() {
        return Err(Failure::not_done(reply.error()));
    }
    serde_json::from_value(reply.body)
        .map_err(|e| Failure::not_done(format!("the node's status is not understood: {e}")))
}

/// A node's status of the council.
async fn council(node: &NodeClient) -> Option<RaftStatus> {
    let request = node
        .request(Method::GET, "/admin/status")
        .header(ACCEPT, "application/json");
    let reply = node.send(request).await.ok()?;
    serde_json::from_value(reply.body).ok()
}

async fn answer(
    token: &TokenArg,
    asked: &Status,
    at: &NodeClient,
    partition_id: u32,
    member: &MemberStatus,
) -> Answer {
    let all = async {
        if member.node == asked.node {
            return Ok((asked.clone(), council(at).await));
        }
        let node = token.connect(&member.node, PATIENCE)?;
        Ok((ask(&node).await?, council(&node).await))
    };
    let (status, council, error) = match all.await {
        Ok((status, council)) => (Some(status), council, None),
        Err(Failure { text, .. }) => (None, None, Some(text)),
    };
    Answer {
        node: member.node.clone(),
        partition_id,
        alive: member.alive,
        status,
        council,
        error,
    }
}

fn headline(report: &Report) -> String {
    let view = &report.asked.view;
    let silent = report.nodes.iter().filter(|n| n.status.is_none()).count();
    let mut line = format!(
        "view {}: nodes {}, partitions {}, K {}",
        view.number,
        report.nodes.len(),
        view.partitions.len(),
        view.k
    );
    if silent > 0 {
        line += &format!("; {silent} did not answer");
    }
    if !report.nodes.iter().any(|n| n.node == report.asked.node) {
        line += &format!(
            "\n{} is not in it: {}",
            report.asked.node,
            state(&report.asked)
        );
    }
    line
}

/// The leader of the council, as nodes with a quorum see it; of two leaders the later one.
fn leader(nodes: &[Answer]) -> String {
    let councils = nodes.iter().filter_map(|node| node.council.as_ref());
    let newest = councils.max_by_key(|council| (council.has_quorum, council.term));
    match newest {
        Some(RaftStatus {
            has_quorum: true,
            leader: Some(leader),
            term,
            ..
        }) => {
            format!("council: leader {leader}, term {term}, quorum yes")
        }
        Some(council) => format!(
            "council: no leader, term {}, quorum no: /keys and changes of the view are refused",
            council.term
        ),
        None => "council: no node tells".to_owned(),
    }
}

fn table(nodes: &[Answer]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "PARTITION",
        "NODE",
        "ALIVE",
        "STATE",
        "COUNCIL",
        "KEYS",
        "TO SEND",
        "TO GET",
        "WAITING",
        "CLIENTS",
        "HELD",
        "DISK",
        "FREE",
        "UP",
    ]);
    for node in nodes {
        let mut row = vec![
            node.partition_id.to_string(),
            node.node.clone(),
            if node.alive { "yes" } else { "no" }.to_owned(),
        ];
        match &node.status {
            Some(s) => row.extend([
                state(s),
                node.council
                    .as_ref()
                    .map_or_else(|| "-".into(), |c| c.state.clone()),
                s.keys.to_string(),
                worst(s.peers.iter().map(|p| p.lag)),
                worst(s.peers.iter().map(|p| p.behind)),
                s.stalled_reads.to_string(),
                format!("{}/{}", s.clients.connections, s.clients.most_connections),
                mebibytes(s.clients.body_bytes + s.clients.unread_bytes),
                mebibytes(s.storage_bytes),
                free(s),
                duration(s.uptime_seconds),
            ]),
            None => row.push("no answer".into()),
        }
        table.add_row(row);
    }
    table
}

/// What a node has refused its clients, if anything.
fn turned_away(node: &Answer) -> Option<String> {
    let clients = &node.status.as_ref()?.clients;
    let reasons = [
        (
            clients.refused_bodies,
            "requests without room for their bodies",
        ),
        (
            clients.refused_replies,
            "requests without room for their replies",
        ),
        (clients.cut_off, "connections that did not read replies"),
        (
            clients.late_heads,
            "connections whose request did not come in time",
        ),
        (
            clients.unread_bodies,
            "connections that sent too much after their reply",
        ),
    ];
    let some = reasons.iter().filter(|(count, _)| *count > 0);
    let some: Vec<_> = some
        .map(|(count, what)| format!("{what}: {count}"))
        .collect();
    let most = mebibytes(clients.most_bytes);
    (!some.is_empty()).then(|| {
        format!(
            "{} has refused since its start, with {most} for bodies and as much for replies: {}",
            node.node,
            some.join(", "),
        )
    })
}

fn state(status: &Status) -> String {
    match &status.reason {
        Some(reason) => format!("{} ({reason})", status.state),
        None => status.state.clone(),
    }
}

/// The most that any peer lacks; nothing when there is no peer.
fn worst(writes: impl Iterator<Item = u64>) -> String {
    writes.max().map_or_else(|| "-".into(), |n| n.to_string())
}

/// What is free on the disk, and what for when that is not all.
fn free(status: &Status) -> String {
    let free = mebibytes(status.free_bytes);
    match status.room_for.as_deref() {
        Some(what @ ("deletes" | "nothing")) => format!("{free} (room for {what})"),
        _ => free,
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, (bytes >> 10) % 1024 * 10 / 1024)
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(duration(59), "59s");
        assert_eq!(duration(3_599), "59m59s");
        assert_eq!(duration(86_399), "23h59m");
        assert_eq!(duration(90_000), "1d01h");
        assert_eq!(mebibytes(1_572_864), "1.5 MiB");
        assert_eq!(worst([3, 9, 1].into_iter()), "9");
        assert_eq!(worst(std::iter::empty()), "-");
    }
}
