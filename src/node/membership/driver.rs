//! A member's work for the Raft group: it reports what its replica has come to, and, while it
//! leads, looks after the running change.

use super::liveness;
use super::part::Membership;
use super::state_machine::Command;
use crate::net;
use crate::node::replica::core::ReplicaReport;
use crate::node::wire::links;
use crate::node::wire::messages::{Request, Response};
use crate::protocol::changes::{self, ViewChanges};
use crate::protocol::ids::MemberId;
use crate::protocol::policy::{Patience, Situation};
use crate::raft::{ConsensusError, RaftRole};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Time between looks at what is to be done.
const LOOK: Duration = Duration::from_millis(100);
/// Members that are away are told this often that they are members.
const INVITE_EVERY: Duration = Duration::from_secs(1);
const INVITE_WITHIN: Duration = Duration::from_millis(800);
/// A command is not proposed again within this time.
const SAID: Duration = Duration::from_millis(300);

/// Tells the Raft group what the replica says, until it knows.
pub async fn report(membership: Arc<Membership>, mut heard: mpsc::Receiver<ReplicaReport>) {
    let mut said: BTreeMap<ReplicaReport, Instant> = BTreeMap::new();
    while let Some(report) = heard.recv().await {
        said.retain(|_, at| at.elapsed() < SAID);
        let Some(raft) = membership.raft() else {
            continue;
        };
        let me = membership.me();
        let news = {
            let agreed = raft.followed().borrow().clone();
            let views = agreed.as_ref();
            !said.contains_key(&report) && views.is_some_and(|views| is_news(views, me, report))
        };
        if !news {
            continue;
        }
        let command = match report {
            ReplicaReport::Ready(number) => changes::ViewCommand::Ready { member: me, number },
            ReplicaReport::Over(cohort) => changes::ViewCommand::Over { cohort },
        };
        // A command that fails is proposed again.
        if let Err(error) = raft.propose(Command::View(command)).await {
            log::debug!("the council does not hear {report:?}: {error}");
        }
        said.insert(report, Instant::now());
    }
}

fn is_news(changes: &ViewChanges, me: MemberId, report: ReplicaReport) -> bool {
    match report {
        ReplicaReport::Ready(number) if number == changes.views().view.number => {
            changes.behind().contains(&me)
        }
        ReplicaReport::Ready(number) => {
            let running = changes.running();
            running.is_some_and(|r| r.number == number && !r.ready.contains(&me))
        }
        ReplicaReport::Over(cohort) => changes.views().closing.iter().any(|c| c.id == cohort),
    }
}

/// Looks after the running change and after members that are away, while this node leads. Without a
/// leader all look after those that are away.
pub async fn steer(membership: Arc<Membership>) {
    let mut invited: BTreeMap<MemberId, Instant> = BTreeMap::new();
    let mut leading: Option<Instant> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(raft) = membership.raft() else {
            continue;
        };
        let agreed = raft.followed().borrow().clone();
        let status = raft.status().await;
        if status.role != RaftRole::Leader || !status.has_quorum {
            leading = None;
            // A node that lost its disk must not have to wait for a leader: it may be needed for
            // one.
            if !status.has_quorum {
                invite(&membership, agreed.as_deref(), &mut invited);
            }
            continue;
        }
        let led = leading.get_or_insert_with(Instant::now).elapsed();
        let due = due(&membership, agreed.as_deref(), status.voters, led).await;
        invite(&membership, agreed.as_deref(), &mut invited);
        for command in due {
            let what = format!("{command:?}");
            match raft.propose(command).await {
                Ok(outcome) => log::info!("{what}: {outcome:?}"),
                Err(ConsensusError::NoQuorum { .. }) => break,
                Err(error) => log::warn!("{what}: {error}"),
            }
        }
    }
}

/// The commands that the leader has to propose now. It has led for `led`, with a majority behind
/// it.
async fn due(
    membership: &Membership,
    changes: Option<&ViewChanges>,
    voters: BTreeSet<MemberId>,
    led: Duration,
) -> Vec<Command> {
    let known = membership.knowledge().views();
    let Some(changes) = changes else {
        return Vec::new();
    };
    let others = known
        .members()
        .into_keys()
        .filter(|m| *m != membership.me());
    let micros = |away: Duration| u64::try_from(away.as_micros()).unwrap_or(u64::MAX);
    let away = others.filter_map(|m| Some((m, micros(membership.peers().away(m)?))));
    let mut situation = Situation {
        changes,
        away: away.collect(),
        led_us: micros(led),
        voters,
        heard: BTreeSet::new(),
        only_holder: None,
        patience: Patience::default(),
    };
    let doubted = situation.doubted();
    situation.heard = liveness::heard_by_others(membership.peers(), doubted).await;
    if let Some(dead) = situation.not_to_be_lost()
        && membership.is_only_holder(changes, dead).await
    {
        situation.only_holder = Some(dead);
    }
    situation.due().into_iter().map(Command::View).collect()
}

/// Tells members that are away that they are members: a node that is being added, or one that lost
/// its disk.
fn invite(
    membership: &Membership,
    changes: Option<&ViewChanges>,
    invited: &mut BTreeMap<MemberId, Instant>,
) {
    let Some(changes) = changes else {
        return;
    };
    invited.retain(|_, at| at.elapsed() < INVITE_EVERY);
    for (other, http) in changes.members() {
        let here = membership.peers().is_here(other);
        let Some(address) = membership.config().peer_address(http).filter(|_| !here) else {
            continue;
        };
        if invited.contains_key(&other) {
            continue;
        }
        invited.insert(other, Instant::now());
        let request = Request::Invite(Box::new(changes.views().clone()));
        let me = net::NodeIdentity {
            member: membership.me(),
            fingerprint: changes.views().view.fingerprint(),
            ..membership.peers().stranger()
        };
        tokio::spawn(async move {
            let to = Some(net::STRANGER);
            match links::call(&me, address, to, &request, INVITE_WITHIN).await {
                Ok(Response::Coming) => log::info!("{http} joins as {other}"),
                Ok(answer) => log::warn!("{http} does not join as {other}: {answer:?}"),
                // Most often it is down.
                Err(error) => log::debug!("{http} cannot be told that it is {other}: {error}"),
            }
        });
    }
}
