//! How far the offers are of what nodes had when they were given up, for operators: the offers that
//! this node makes, and those that it takes in.

use crate::node::config::Config;
use crate::node::wire::messages::Offered;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// An offer of another node's that was not heard of for this long goes on elsewhere, or not at all.
const HEARD: Duration = Duration::from_secs(15);

/// How far an offer is of what a node had when it was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfferState {
    /// The node that offers, `ip:port`.
    pub node: String,
    /// The directory there that has the data. Until the offer is over it may be the only place that
    /// has it.
    pub directory: String,
    /// Values and deletes in it; 0 before they are counted.
    pub writes: u64,
    /// Of these the cluster had none newer.
    pub taken: u64,
    /// They were there already, or newer ones of their keys.
    pub there: u64,
    /// A newer delete of their keys may have been forgotten.
    pub declined: u64,
    /// Why the offer cannot go on, when it cannot. It is tried again every 10 s.
    pub failed: Option<String>,
    /// Why the offer has ended before all was offered, when it has. What is left is in the directory, and nowhere else.
    #[serde(default)]
    pub ended: Option<String>,
}

impl OfferState {
    /// One that begins.
    pub(in crate::node) fn of(config: &Config, dir: &Path, writes: usize) -> Self {
        Self {
            node: config.address.to_string(),
            directory: dir.display().to_string(),
            writes: writes as u64,
            taken: 0,
            there: 0,
            declined: 0,
            failed: None,
            ended: None,
        }
    }

    pub(in crate::node) fn add(&mut self, offered: &Offered) {
        self.taken += offered.taken;
        self.there += offered.newer;
        self.declined += offered.deleted;
    }

    /// Writes that are still to be offered.
    pub fn left(&self) -> u64 {
        if self.ended.is_some() {
            return 0;
        }
        let offered = self.taken + self.there + self.declined;
        self.writes.saturating_sub(offered)
    }
}

/// The offers that a node knows of.
#[derive(Debug, Default)]
pub(in crate::node) struct Offers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By directory.
    own: BTreeMap<String, OfferState>,
    /// By node.
    heard: BTreeMap<String, (Instant, OfferState)>,
}

impl Offers {
    pub(in crate::node) fn under_way(&self, state: &OfferState) {
        let key = state.directory.clone();
        self.known().own.insert(key, state.clone());
    }

    pub(in crate::node) fn failed(&self, config: &Config, dir: &Path, why: &dyn std::fmt::Display) {
        let mut known = self.known();
        let state = known.own.entry(dir.display().to_string());
        let state = state.or_insert_with(|| OfferState::of(config, dir, 0));
        state.failed = Some(why.to_string());
    }

    pub(in crate::node) fn over(&self, dir: &Path) {
        self.known().own.remove(&dir.display().to_string());
    }

    /// Whether an offer has ended before all was offered.
    pub(in crate::node) fn has_ended(&self, dir: &Path) -> bool {
        let known = self.known();
        let state = known.own.get(&dir.display().to_string());
        state.is_some_and(|state| state.ended.is_some())
    }

    /// The directories may be other ones from now on.
    pub(in crate::node) fn forget_own(&self) {
        self.known().own.clear();
    }

    /// Another node offers.
    pub(in crate::node) fn heard(&self, state: &OfferState) {
        let heard = (Instant::now(), state.clone());
        self.known().heard.insert(state.node.clone(), heard);
    }

    /// Those of this node that are not over.
    pub(in crate::node) fn own(&self) -> Vec<OfferState> {
        self.known().own.values().cloned().collect()
    }

    /// All that are not over, as far as this node knows.
    pub(in crate::node) fn all(&self) -> Vec<OfferState> {
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
