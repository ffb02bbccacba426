//! How a member hears of newer views, and what it does with them: first onto the disk, then the connections, then the
//! replica.
//!
//! The council tells its members. Whom it does not reach, such as a node that was removed while it was away, asks.

use crate::net;
use crate::node::member::Member;
use crate::node::membership::identity::{self as place, Place};
use crate::node::membership::state_machine::Agreed;
use crate::node::replica::inbox::Input;
use crate::node::wire::links::identity;
use crate::node::wire::messages::{Request, Response, Standing};
use crate::protocol::ids::MemberId;
use crate::protocol::views::Views;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Time between questions for newer views.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Time for an answer to that.
pub(in crate::node) const ANSWER_WITHIN: Duration = Duration::from_millis(400);
/// After a failure of the disk it is tried again this often.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// Takes over what the council decides.
pub(in crate::node) async fn listen(member: Weak<Member>, mut agreed: watch::Receiver<Agreed>) {
    loop {
        let views = {
            let agreed = agreed.borrow_and_update();
            agreed.as_ref().map(|c| Arc::new(c.views().clone()))
        };
        match (member.upgrade(), views) {
            (Some(member), Some(views)) => member.learned(&views),
            (Some(_), None) => {}
            (None, _) => return,
        }
        if agreed.changed().await.is_err() {
            return;
        }
    }
}

/// Asks one of the other nodes after the other whether it knows newer views.
pub(in crate::node) async fn ask(member: Weak<Member>) {
    let mut turn = 0;
    loop {
        let Some(it) = member.upgrade() else {
            return;
        };
        // Whoever wants to know sooner says so.
        let _ = tokio::time::timeout(ASK_EVERY, it.ask.notified()).await;
        let known = Arc::clone(&it.known.borrow());
        let others: Vec<_> = known
            .members()
            .into_iter()
            .filter(|(m, _)| *m != it.me)
            .collect();
        if others.is_empty() {
            continue;
        }
        turn = (turn + 1) % others.len();
        let (other, address) = others[turn];
        let standing = standing(&it, other, address, known.version).await;
        if let Some(views) = standing.and_then(|s| s.newer) {
            it.learned(&Arc::from(views));
        }
    }
}

/// Asks a member what it knows of views, if that is newer than `version`.
pub(in crate::node) async fn standing(
    member: &Member,
    other: MemberId,
    address: SocketAddr,
    version: u64,
) -> Option<Standing> {
    let request = Request::Standing { version };
    let answered = match member.links.get() {
        Some(links) => links.request(other, &request, ANSWER_WITHIN).await.ok(),
        None => None,
    };
    match answered {
        Some(Response::Standing(standing)) => Some(standing),
        // It may be that it takes this node for a member no more.
        _ => as_a_stranger(member, address, version).await,
    }
}

/// Asks a node as somebody who is no member.
async fn as_a_stranger(member: &Member, address: SocketAddr, version: u64) -> Option<Standing> {
    let address = member.config.peer_address(address)?;
    let me = identity(&member.config, &member.cluster);
    let limits = net::Limits::default();
    let request = Request::Standing { version };
    let called = net::call(&me, address, None, &request, &limits, ANSWER_WITHIN).await;
    match called {
        Ok((_, Response::Standing(standing))) => Some(standing),
        _ => None,
    }
}

/// Goes over to newer views, one after the other.
pub(in crate::node) async fn take_over(
    member: Weak<Member>,
    mut known: watch::Receiver<Arc<Views>>,
) {
    while known.changed().await.is_ok() {
        let views = Arc::clone(&known.borrow_and_update());
        let Some(member) = member.upgrade() else {
            return;
        };
        // Nothing is done under views that a restart would not know of.
        while let Err(error) = save(&member, &views).await {
            log::error!("newer views wait for the disk: {error}");
            tokio::time::sleep(DISK_RETRY).await;
        }
        if let Some(cluster) = &views.cluster {
            member.cluster.set(cluster);
            member.seal.learn(cluster, &member.config);
        }
        let members = views.members();
        if !members.contains_key(&member.me) {
            log::warn!(
                "this node was removed from the view (it is view {} now)",
                views.view.number
            );
            member.out.cancel();
            return;
        }
        let Some(links) = member.links.get() else {
            continue;
        };
        for (other, http) in &members {
            match member.config.peer_address(*http) {
                Some(address) => links.add_peer(*other, address),
                None => log::error!("{http} has no port for other nodes"),
            }
        }
        member.inbox.input(Input::Views(Arc::clone(&views))).await;
        let gone = links.peers().into_iter().map(|peer| peer.member);
        for other in gone.filter(|m| !members.contains_key(m)) {
            links.remove_peer(other);
        }
    }
}

async fn save(member: &Arc<Member>, views: &Arc<Views>) -> Result<(), String> {
    let place = Place {
        member: member.me,
        views: Arc::clone(views),
    };
    let dir = member.config.data_dir.clone();
    let saved = tokio::task::spawn_blocking(move || {
        place.save(&dir)?;
        place::mark_cluster(&dir, &place.views)
    })
    .await;
    match saved {
        Ok(saved) => saved.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
