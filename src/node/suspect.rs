//! Stores that may lack what they show, at a node's start: they count as lost where others have
//! what is in them.

use super::config::Config;
use super::identity::{self, Place, RAFT_DIR};
use super::wire::links::{belongs, call, stranger};
use super::wire::messages::{Condition, Order, Request, Response};
use crate::protocol::ids::MemberId;
use crate::protocol::store::StoreError;
use crate::storage::{put_aside, suspicion};
use futures_util::future::join_all;
use std::path::Path;
use std::time::Duration;

/// How long another node may take to say how it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Makes the stores that may lack what they show empty ones, if another replica serves, or for the
/// Raft group's store any other member: they are filled from there, like a disk that was lost. What
/// the replica's store shows is offered, for it may be the only copy of what no other replica was
/// there to take. Stores of which nobody else has the content stay as they are, and cannot be
/// opened.
///
/// # Errors
/// When the disk cannot be read or changed.
pub async fn count_as_lost(config: &Config, place: &Place) -> Result<(), StoreError> {
    let (view, dir) = (&place.views.view, &config.data_dir);
    let counts = |why: &str, dir: &Path| {
        log::error!(
            "storing failed once ({why}): the store in {} counts as lost and is filled from another node",
            dir.display()
        );
    };
    if let Some(why) = suspicion(dir)? {
        let partition = view.partition_of(place.member);
        let replicas = partition.map_or(&[][..], |partition| view.replicas(partition));
        if serves_elsewhere(config, place, replicas).await {
            counts(&why, dir);
            return identity::put_aside(dir);
        }
    }
    let dir = dir.join(RAFT_DIR);
    if let Some(why) = suspicion(&dir)? {
        let all: Vec<MemberId> = view.members().map(|(member, _)| member).collect();
        if serves_elsewhere(config, place, &all).await {
            counts(&why, &dir);
            put_aside(&dir)?;
        }
    }
    Ok(())
}

/// Whether one of these members serves, beside this node.
async fn serves_elsewhere(config: &Config, place: &Place, holders: &[MemberId]) -> bool {
    let me = &stranger(config, &belongs(Some(&place.views)));
    let asked = holders.iter().filter(|m| **m != place.member);
    let asked = asked.map(|member| async move {
        let address = place.views.members().get(member).copied();
        let peer = config.peer_address(address?)?;
        let look = Request::Order(Order::Look);
        call(me, peer, None, &look, ANSWER_WITHIN).await.ok()
    });
    let serves = |answer| matches!(answer, Some(Response::Condition(Condition::Serving)));
    join_all(asked).await.into_iter().any(serves)
}
