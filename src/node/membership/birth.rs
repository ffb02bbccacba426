//! The birth of a cluster, at its very first start: a majority of the nodes that may vote form the council, whose first
//! entry gives the cluster its id and its key. Before a node has heard of that it serves no client, for what it answered
//! could belong to no cluster. Later starts know from the disk which cluster it is, and wait for nobody.

use crate::council::{self as raft, Council, Past, Step};
use crate::node::member::Member;
use crate::node::membership::identity;
use crate::node::membership::state_machine::{Command, Decided};
use crate::node::wire::links::Peers;
use crate::node::wire::messages::{Request, Response, Standing};
use crate::protocol::cluster::Cluster;
use crate::protocol::ids::MemberId;
use crate::protocol::views::Views;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Time between looks at who is there.
const LOOK: Duration = Duration::from_millis(20);
/// Time for another node to say what it knows.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// Time for the council to decide the birth; it is proposed again after that.
const DECIDED_WITHIN: Duration = Duration::from_secs(1);

/// Nodes that are missing and named, at most.
const NAMED: usize = 5;

/// How far the birth is, as one node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forming {
    /// Nodes of `VIEW` that are up and started with the same `VIEW`, this one included.
    up: usize,
    of: usize,
    /// Where the others are to be, and no such node answers.
    missing: Vec<SocketAddr>,
    /// Why another one does not talk to this one.
    refused: Option<String>,
}

impl fmt::Display for Forming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { up, of, .. } = self;
        write!(
            f,
            "the cluster is being formed: {up} of {of} nodes of VIEW are up"
        )?;
        let named = self.missing.iter().take(NAMED).map(SocketAddr::to_string);
        let named: Vec<String> = named.collect();
        if !named.is_empty() {
            let rest = match self.missing.len() - named.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let named = named.join(", ");
            write!(
                f,
                "; no answer, as started with this VIEW and K, from {named}{rest}"
            )?;
        }
        match &self.refused {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}

/// Takes part in the birth, until the cluster is born: a first voter forms the council with the others. Then it sees to
/// it that the council knows the same cluster.
pub(in crate::node) async fn attend(member: Weak<Member>) {
    let (mut soon, mut formed) = (None::<Instant>, false);
    loop {
        let Some(it) = member.upgrade() else {
            return;
        };
        let known = it.known();
        let Some(council) = it.council().cloned() else {
            return;
        };
        if let Some(cluster) = known.cluster {
            drop(it);
            return confirm(&council, cluster).await;
        }
        let members: BTreeSet<MemberId> = known.view.members().map(|(m, _)| m).collect();
        let voters = raft::first_voters(&members);
        let others = look_around(&it, &known, &voters).await;
        let votes = voters.contains(&it.me);
        drop(it);
        let own = council.past().await;
        formed |= own == Past::Met;
        if votes && formed {
            propose(&council, &known).await;
        } else if votes {
            let since = soon.map_or(Duration::ZERO, |at: Instant| at.elapsed());
            let step = raft::next_step(own, &others, since);
            let done = match step {
                Step::Wait | Step::Soon | Step::Follow => Ok(()),
                Step::Vote => council.gain_vote().await,
                Step::Form => council.initialize(&members).await,
            };
            match (done, step) {
                (Ok(()), Step::Soon) => drop(soon.get_or_insert_with(Instant::now)),
                (Ok(()), step) => {
                    soon = None;
                    formed = step == Step::Form;
                }
                (Err(error), _) => log::error!("the council cannot be formed: {error}"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks all others at the same time what they know.
/// The first voters among them say what they know of councils of the past.
async fn look_around(
    it: &Arc<Member>,
    known: &Views,
    voters: &BTreeSet<MemberId>,
) -> Vec<Option<Past>> {
    let others = known.view.members().filter(|(m, _)| *m != it.me);
    let asked = others.map(|(other, _)| async move {
        let request = Request::Standing {
            version: known.version,
        };
        let links = it.links.get()?;
        match links.request(other, &request, ANSWER_WITHIN).await.ok()? {
            Response::Standing(standing) => {
                // At once: another one may not answer for a while.
                if let Some(views) = &standing.newer {
                    it.learned(&Arc::new(Views::clone(views)));
                }
                Some((other, standing))
            }
            _ => None,
        }
    });
    let answers: Vec<(MemberId, Standing)> = join_all(asked).await.into_iter().flatten().collect();
    let here = |member: &MemberId| *member == it.me || answers.iter().any(|(m, _)| m == member);
    let missing = known.view.members().filter(|(m, _)| !here(m));
    it.forming.send_replace(Forming {
        missing: missing.map(|(_, address)| address).collect(),
        up: 1 + answers.len(),
        of: known.view.members().count(),
        refused: it.refused(),
    });
    let others = voters.iter().filter(|voter| **voter != it.me);
    let said = |voter: &MemberId| answers.iter().find(|(m, _)| m == voter);
    others
        .map(|voter| said(voter).map(|(_, standing)| standing.past))
        .collect()
}

/// Proposes the birth. All voters do so, and the first proposal counts.
async fn propose(council: &Council<Decided, Peers>, known: &Views) {
    let command = Command::Begin {
        view: known.view.clone(),
        cluster: identity::draw(None),
    };
    if let Err(error) = council.propose_within(command, DECIDED_WITHIN).await {
        log::debug!("the birth of the cluster is not decided yet: {error}");
    }
}

/// Has the council decide a cluster that the disk names and that it does not know: an operator has made it go on from the
/// one before.
async fn confirm(council: &Council<Decided, Peers>, cluster: Cluster) {
    loop {
        let decided = {
            let mut followed = council.followed();
            let agreed = followed.wait_for(Option::is_some).await;
            agreed.ok().and_then(|a| a.as_ref()?.views().cluster)
        };
        let Some(decided) = decided.filter(|d| d.id != cluster.id) else {
            return;
        };
        if !cluster.goes_on_from(decided.id) {
            return;
        }
        match council.propose(Command::Renew(cluster)).await {
            Ok(_) => log::warn!("the cluster goes on from {} as {}", decided.id, cluster.id),
            Err(error) => {
                log::warn!("that the cluster goes on as another one is not decided yet: {error}");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}
