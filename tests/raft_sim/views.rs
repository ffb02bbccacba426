//! Views that change: nodes say what they have come to, the leader looks after the change that runs
//! and starts who is to come, and an operator asks for changes. All of it is decided by the Raft
//! group of the simulation.
//!
//! There is no data here but the Raft group's: a node is ready as soon as it knows that it is to
//! be.

use super::exec::Process;
use super::net::Node;
use super::nodes::{Nodes, address};
use causeway::node::state_machine::Command;
use causeway::protocol::changes;
use causeway::protocol::ids::MemberId;
use causeway::protocol::placement::Change;
use causeway::protocol::policy::{Patience, Situation};
use causeway::raft::RaftRole;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long members may be away: less than in life, so that nodes are often given up that come
/// back.
const PATIENCE: Patience = Patience {
    dead_us: 1_500_000,
    leaving_us: 2_500_000,
    coming_us: 4_000_000,
};
const WITHIN: Duration = Duration::from_millis(1500);

/// A change that an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Add,
    /// The place of the node among those that are there.
    Remove(usize),
    Cancel,
}

/// Begins what a node does for the views.
pub fn begin(nodes: &Nodes, me: MemberId, process: Process, raft: &Node) {
    let report = report(nodes.clone(), me, raft.clone());
    nodes.exec.spawn(process, report);
    let steer = steer(nodes.clone(), me, raft.clone());
    nodes.exec.spawn(process, steer);
}

async fn pause(nodes: &Nodes, from: u64, to: u64) {
    let time = nodes.exec.draw(|rng| rng.within(from, to));
    nodes.exec.sleep(Duration::from_millis(time)).await;
}

async fn propose(raft: &Node, command: changes::ViewCommand) {
    let what = format!("{command:?}");
    let proposal = raft.propose_within(Command::View(command), WITHIN);
    match proposal.await {
        Ok(outcome) => log::info!("{what}: {outcome:?}"),
        Err(error) => log::debug!("{what}: {error}"),
    }
}

/// Says that this node has what it is to have, and that what is closing is over.
async fn report(nodes: Nodes, me: MemberId, raft: Node) {
    loop {
        pause(&nodes, 100, 500).await;
        let Some(known) = raft.followed().borrow().clone() else {
            continue;
        };
        let views = known.views();
        if known.behind().contains(&me) {
            let number = views.view.number;
            propose(&raft, changes::ViewCommand::Ready { member: me, number }).await;
        }
        if let Some(running) = known.running()
            && !running.ready.contains(&me)
            && known.members().contains_key(&me)
        {
            let number = running.number;
            propose(&raft, changes::ViewCommand::Ready { member: me, number }).await;
        }
        if let Some(cohort) = views.closing.first()
            && nodes.exec.draw(|rng| rng.percent(30))
        {
            let cohort = cohort.id;
            propose(&raft, changes::ViewCommand::Over { cohort }).await;
        }
    }
}

/// Looks after the running change while this node leads, as `node/membership/driver.rs` has it.
async fn steer(nodes: Nodes, me: MemberId, raft: Node) {
    let mut leading = None;
    let mut away_since: BTreeMap<MemberId, u64> = BTreeMap::new();
    loop {
        pause(&nodes, 80, 120).await;
        let agreed = raft.followed().borrow().clone();
        let status = raft.status().await;
        let Some(agreed) = agreed else {
            continue;
        };
        if status.role != RaftRole::Leader || !status.has_quorum {
            leading = None;
            continue;
        }
        for member in agreed.members().into_keys() {
            if nodes.exec.draw(|rng| rng.percent(20)) {
                nodes.begin(member);
            }
        }
        let now = nodes.exec.now_us();
        let led_us = now - *leading.get_or_insert(now);
        for member in agreed.members().into_keys() {
            match member == me || nodes.net.hears(member, me) {
                true => drop(away_since.remove(&member)),
                false => drop(away_since.entry(member).or_insert(now)),
            }
        }
        let away = away_since.iter().map(|(m, since)| (*m, now - since));
        let mut situation = Situation {
            changes: &agreed,
            away: away.collect(),
            led_us,
            voters: status.voters,
            heard: Default::default(),
            only_holder: None,
            patience: PATIENCE,
        };
        let doubted = situation.doubted().into_iter();
        let others: Vec<MemberId> = agreed.members().into_keys().collect();
        let heard = |m: &MemberId| {
            others
                .iter()
                .any(|o| *o != me && *o != *m && nodes.net.hears(*m, *o))
        };
        situation.heard = doubted.filter(heard).collect();
        for command in situation.due() {
            propose(&raft, command).await;
        }
    }
}

/// Asks for a change, at any node.
pub async fn ask(nodes: Nodes, raft: Node, asked: Asked, spare: u16) {
    let Some(known) = raft.followed().borrow().clone() else {
        return;
    };
    let members: Vec<MemberId> = known.views().view.members().map(|(m, _)| m).collect();
    let change = match asked {
        Asked::Add => {
            let address: SocketAddr = address(MemberId(1000 + spare));
            Change::Add(address)
        }
        Asked::Remove(_) if members.len() < 3 => return,
        Asked::Remove(which) => Change::Remove(members[which % members.len()]),
        Asked::Cancel => {
            if let Some(running) = known.running() {
                let number = running.number;
                propose(&raft, changes::ViewCommand::Cancel { number }).await;
            }
            return;
        }
    };
    log::info!("the operator asks for {change:?}");
    let give_up = match change {
        Change::Remove(member) => nodes.net.up(member).is_none(),
        _ => false,
    };
    let command = changes::ViewCommand::Change {
        change,
        give_up,
        lose_data: true,
    };
    propose(&raft, command).await;
}
