//! Turns a node's state into the surface's data and sentences.

pub mod explain;
pub mod raft;
pub mod status;
pub mod view;

use crate::api;
use crate::api::view::Strategy;
use crate::node::{Member, OfferProgress, UnheldSlots};
use crate::protocol::ids::MemberId;
use crate::protocol::view::{FULL, View};

/// A member by its address, or by its number where that is not known.
pub fn name(node: &Member, member: MemberId) -> String {
    node.membership().knowledge().name(member)
}

/// The addresses of several members.
fn names<'a>(node: &Member, members: impl IntoIterator<Item = &'a MemberId>) -> Vec<String> {
    node.membership().knowledge().names(members)
}

/// How many nodes hold a key under a view.
pub fn strategy(view: &View) -> Strategy {
    match view.is_full() {
        true => Strategy::Full,
        false => Strategy::Consistent,
    }
}

/// Both name full replication by the same K.
const _: () = assert!(api::view::FULL == FULL);

/// Slots that no live node holds, in a sentence.
pub fn in_words(unheld: Vec<UnheldSlots>) -> String {
    let unheld: Vec<api::view::Unheld> = unheld.into_iter().map(Into::into).collect();
    api::view::in_words(&unheld)
}

impl From<UnheldSlots> for api::view::Unheld {
    fn from(unheld: UnheldSlots) -> Self {
        Self {
            partition_id: unheld.partition.0,
            slots: unheld.slots,
            nodes: unheld.nodes,
            keys: unheld.keys,
        }
    }
}

impl From<OfferProgress> for api::status::OfferState {
    fn from(state: OfferProgress) -> Self {
        let left = state.left();
        let OfferProgress {
            node,
            directory,
            writes,
            taken,
            there,
            declined,
            failed,
            ended,
        } = state;
        Self {
            node,
            directory,
            writes,
            taken,
            there,
            declined,
            left,
            failed,
            ended,
        }
    }
}
