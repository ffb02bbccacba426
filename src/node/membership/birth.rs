//! The birth of a cluster, at its very first start: a majority of the nodes that may vote form the
//! Raft group, whose first entry gives the cluster its id and its key. Before a node has heard of
//! that it serves no client, for what it answered could belong to no cluster. Later starts know
//! from the disk which cluster it is, and wait for nobody.

use super::forming::Forming;
use super::part::{ClusterRaft, Membership};
use super::state_machine::Command;
use crate::node::identity;
use crate::node::wire::messages::{Request, Response, ViewsKnown};
use crate::protocol::cluster::Cluster;
use crate::protocol::ids::MemberId;
use crate::protocol::views::Views;
use crate::raft::{self, FormingStep, GroupPast};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time between looks at which nodes are there.
const LOOK: Duration = Duration::from_millis(20);
/// Time for another node to say what it knows.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// Time for the Raft group to decide the birth; it is proposed again after that.
const DECIDED_WITHIN: Duration = Duration::from_secs(1);

/// Takes part in the birth, until the cluster is born: a first voter forms the Raft group with the
/// others. Then it sees to it that the Raft group knows the same cluster.
pub async fn attend(membership: Arc<Membership>) {
    let (mut soon, mut formed) = (None::<Instant>, false);
    loop {
        let known = membership.knowledge().views();
        let Some(raft) = membership.raft() else {
            return;
        };
        if let Some(cluster) = known.cluster {
            return confirm(raft, cluster).await;
        }
        let members: BTreeSet<MemberId> = known.view.members().map(|(m, _)| m).collect();
        let voters = raft::first_voters(&members);
        let others = look_around(&membership, &known, &voters).await;
        let votes = voters.contains(&membership.me());
        let own = raft.past().await;
        formed |= own == GroupPast::Met;
        if votes && formed {
            propose(raft, &known).await;
        } else if votes {
            let since = soon.map_or(Duration::ZERO, |at: Instant| at.elapsed());
            let step = raft::next_step(own, &others, since);
            let done = match step {
                FormingStep::Wait | FormingStep::Soon | FormingStep::Follow => Ok(()),
                FormingStep::Vote => raft.gain_vote().await,
                FormingStep::Form => raft.initialize(&members).await,
            };
            match (done, step) {
                (Ok(()), FormingStep::Soon) => drop(soon.get_or_insert_with(Instant::now)),
                (Ok(()), step) => {
                    soon = None;
                    formed = step == FormingStep::Form;
                }
                (Err(error), _) => log::error!("the council cannot be formed: {error}"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks all others at the same time what they know.
/// The first voters among them say what they know of Raft groups of the past.
async fn look_around(
    it: &Membership,
    known: &Views,
    voters: &BTreeSet<MemberId>,
) -> Vec<Option<GroupPast>> {
    let others = known.view.members().filter(|(m, _)| *m != it.me());
    let asked = others.map(|(other, _)| async move {
        let request = Request::ViewsKnown {
            version: known.version,
        };
        match it.peers().request(other, &request, ANSWER_WITHIN).await {
            Ok(Response::ViewsKnown(told)) => {
                // At once: another one may not answer for a while.
                if let Some(views) = &told.newer {
                    it.knowledge().learned(&Arc::new(Views::clone(views)));
                }
                Some((other, told))
            }
            _ => None,
        }
    });
    let answers: Vec<(MemberId, ViewsKnown)> =
        join_all(asked).await.into_iter().flatten().collect();
    let here = |member: &MemberId| *member == it.me() || answers.iter().any(|(m, _)| m == member);
    let missing = known.view.members().filter(|(m, _)| !here(m));
    it.formed(Forming {
        missing: missing.map(|(_, address)| address).collect(),
        up: 1 + answers.len(),
        of: known.view.members().count(),
        refused: it.peers().refused(|_| true),
    });
    let others = voters.iter().filter(|voter| **voter != it.me());
    let said = |voter: &MemberId| answers.iter().find(|(m, _)| m == voter);
    others
        .map(|voter| said(voter).map(|(_, told)| told.past))
        .collect()
}

/// Proposes the birth. All voters do so, and the first proposal counts.
async fn propose(raft: &ClusterRaft, known: &Views) {
    let command = Command::Begin {
        view: known.view.clone(),
        cluster: identity::draw(None),
    };
    if let Err(error) = raft.propose_within(command, DECIDED_WITHIN).await {
        log::debug!("the birth of the cluster is not decided yet: {error}");
    }
}

/// Has the Raft group decide a cluster that the disk names and that it does not know: an operator
/// has made it go on from the one before.
async fn confirm(raft: &ClusterRaft, cluster: Cluster) {
    loop {
        let decided = {
            let mut followed = raft.followed();
            let agreed = followed.wait_for(Option::is_some).await;
            agreed.ok().and_then(|a| a.as_ref()?.views().cluster)
        };
        let Some(decided) = decided.filter(|d| d.id != cluster.id) else {
            return;
        };
        if !cluster.goes_on_from(decided.id) {
            return;
        }
        match raft.propose(Command::Renew(cluster)).await {
            Ok(_) => log::warn!("the cluster goes on from {} as {}", decided.id, cluster.id),
            Err(error) => {
                log::warn!("that the cluster goes on as another one is not decided yet: {error}");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}
