//! How a member hears of newer views, and what it does with them: first onto the disk, then the
//! connections, then the replica.
//!
//! The Raft group tells its members. A member that the Raft group does not reach, such as one that
//! was removed while it was away, asks others.

use super::knowledge::Knowledge;
use super::part::Membership;
use super::state_machine::Agreed;
use crate::node::identity::Place;
use crate::node::replica::core::Input;
use crate::node::replica::inbox::Inbox;
use crate::node::seal::PayloadSeal;
use crate::node::wire::messages::{Request, Response, ViewsKnown};
use crate::protocol::ids::MemberId;
use crate::protocol::views::Views;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Time between questions for newer views.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Time for an answer to that.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);
/// After a failure of the disk it is tried again this often.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// Takes over what the Raft group decides.
pub async fn listen(knowledge: Arc<Knowledge>, mut agreed: watch::Receiver<Agreed>) {
    loop {
        let views = {
            let agreed = agreed.borrow_and_update();
            agreed.as_ref().map(|c| Arc::new(c.views().clone()))
        };
        if let Some(views) = views {
            knowledge.learned(&views);
        }
        if agreed.changed().await.is_err() {
            return;
        }
    }
}

/// Asks one of the other nodes after the other whether it knows newer views.
pub async fn ask(membership: Arc<Membership>) {
    let mut turn = 0;
    let knowledge = membership.knowledge();
    loop {
        // Anyone on this node may ask for an earlier look.
        knowledge.to_be_asked(ASK_EVERY).await;
        let known = knowledge.views();
        let others = known.members().into_iter();
        let others: Vec<_> = others.filter(|(m, _)| *m != membership.me()).collect();
        if others.is_empty() {
            continue;
        }
        turn = (turn + 1) % others.len();
        let (other, address) = others[turn];
        let told = views_known(&membership, other, address, known.version).await;
        if let Some(views) = told.and_then(|told| told.newer) {
            knowledge.learned(&Arc::from(views));
        }
    }
}

/// Asks a member what it knows of views, if that is newer than `version`.
pub async fn views_known(
    membership: &Membership,
    other: MemberId,
    address: SocketAddr,
    version: u64,
) -> Option<ViewsKnown> {
    let request = Request::ViewsKnown { version };
    let answered = membership.peers().request(other, &request, ANSWER_WITHIN);
    match answered.await {
        Ok(Response::ViewsKnown(told)) => Some(told),
        // The other node may no longer take this one for a member.
        _ => as_a_stranger(membership, address, version).await,
    }
}

/// Asks a node as somebody who is no member.
async fn as_a_stranger(
    membership: &Membership,
    address: SocketAddr,
    version: u64,
) -> Option<ViewsKnown> {
    let address = membership.config().peer_address(address)?;
    let request = Request::ViewsKnown { version };
    let called = membership
        .peers()
        .call(address, None, &request, ANSWER_WITHIN);
    match called.await {
        Ok(Response::ViewsKnown(told)) => Some(told),
        _ => None,
    }
}

/// Goes over to newer views, one after the other.
pub async fn take_over(
    membership: Arc<Membership>,
    mut known: watch::Receiver<Arc<Views>>,
    seal: Arc<PayloadSeal>,
    inbox: Inbox,
) {
    let peers = membership.peers();
    while known.changed().await.is_ok() {
        let views = Arc::clone(&known.borrow_and_update());
        // Nothing is done under views that a restart would not know of.
        while let Err(error) = save(&membership, &views).await {
            log::error!("newer views wait for the disk: {error}");
            tokio::time::sleep(DISK_RETRY).await;
        }
        if let Some(cluster) = &views.cluster {
            peers.belong_to(cluster);
            seal.learn(cluster, membership.config());
        }
        let members = views.members();
        if !members.contains_key(&membership.me()) {
            log::warn!(
                "this node was removed from the view (it is view {} now)",
                views.view.number
            );
            membership.knowledge().leave();
            return;
        }
        peers.meet(&members);
        inbox.input(Input::Views(views)).await;
        peers.leave_all_but(&members);
    }
}

async fn save(membership: &Membership, views: &Arc<Views>) -> Result<(), String> {
    let place = Place {
        member: membership.me(),
        views: Arc::clone(views),
    };
    let dir = membership.config().data_dir.clone();
    let saved = tokio::task::spawn_blocking(move || place.save(&dir)).await;
    match saved {
        Ok(saved) => saved.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
