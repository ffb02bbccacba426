//! How far the offers are of what nodes had when they were given up, for operators: the offers that
//! this node makes, and those that it takes in.

use crate::node::wire::messages::OfferProgress;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An offer of another node's that was not heard of for this long goes on elsewhere, or not at all.
const HEARD: Duration = Duration::from_secs(15);
/// Offers of so many other nodes are remembered at a time.
const MOST_HEARD: usize = 1024;

/// The offers that a node knows of.
#[derive(Debug, Default)]
pub struct Offers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By directory.
    own: BTreeMap<String, OfferProgress>,
    /// By node.
    heard: BTreeMap<String, (Instant, OfferProgress)>,
}

impl Offers {
    /// How far an offer of this node is.
    pub fn under_way(&self, state: &OfferProgress) {
        let key = state.directory.clone();
        self.known().own.insert(key, state.clone());
    }

    /// An offer of the node at `node` cannot go on.
    pub fn failed(&self, node: SocketAddr, dir: &Path, why: &dyn std::fmt::Display) {
        let mut known = self.known();
        let state = known.own.entry(dir.display().to_string());
        let state = state.or_insert_with(|| OfferProgress::of(node, dir, 0));
        state.failed = Some(why.to_string());
    }

    /// An offer of this node is over.
    pub fn over(&self, dir: &Path) {
        self.known().own.remove(&dir.display().to_string());
    }

    /// Whether an offer has ended before all was offered.
    pub fn has_ended(&self, dir: &Path) -> bool {
        let known = self.known();
        let state = known.own.get(&dir.display().to_string());
        state.is_some_and(|state| state.ended.is_some())
    }

    /// The directories may be other ones from now on.
    pub fn forget_own(&self) {
        self.known().own.clear();
    }

    /// Another node offers.
    pub fn heard(&self, state: &OfferProgress) {
        let mut known = self.known();
        if known.heard.len() < MOST_HEARD || known.heard.contains_key(&state.node) {
            let heard = (Instant::now(), state.clone());
            known.heard.insert(state.node.clone(), heard);
        }
    }

    /// Those of this node that are not over.
    pub fn own(&self) -> Vec<OfferProgress> {
        self.known().own.values().cloned().collect()
    }

    /// All that are not over, as far as this node knows.
    pub fn all(&self) -> Vec<OfferProgress> {
        let mut known = self.known();
        known.heard.retain(|_, (at, _)| at.elapsed() < HEARD);
        let heard = known.heard.values().map(|(_, state)| state.clone());
        known.own.values().cloned().chain(heard).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Plain data: a thread that panicked cannot have left it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
