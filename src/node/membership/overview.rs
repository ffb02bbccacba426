//! How the views stand, as one member knows it: what operators ask for.

use super::part::Membership;
use crate::node::wire::messages::{OfferProgress, Progress};
use crate::protocol::changes::End;
use crate::protocol::ids::MemberId;
use std::collections::BTreeMap;

/// Numbers about views, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ViewGauges {
    /// The number of the view in force.
    pub number: u64,
    /// A change is under way.
    pub changing: bool,
    /// Slots that this node is to hold and does not have yet.
    pub slots_to_come: usize,
    /// Members that are leaving.
    pub leaving: usize,
    /// The last change, or the running one, did not wait for the node that it removed.
    pub given_up: bool,
    /// Slots that no live node holds the data of, as far as this node knows.
    pub unheld_slots: usize,
    /// Keys in these slots, where some node remembers how many there were.
    pub unheld_keys: u64,
}

impl Membership {
    /// How the views stand, in numbers.
    pub fn gauges(&self) -> ViewGauges {
        let changes = self.agreed();
        let (running, last) = (changes.running(), changes.last());
        let given_up = match running {
            Some(running) => running.given_up,
            None => last.is_some_and(|last| last.given_up),
        };
        let unheld = self.unheld_as_known(&changes);
        ViewGauges {
            number: self.marks().view().number,
            changing: running.is_some() || last.is_some_and(|last| last.end == End::InForce),
            slots_to_come: self.slots_to_come(),
            leaving: changes.views().leaving.len(),
            given_up,
            unheld_slots: unheld.iter().map(|u| u.slots).sum(),
            unheld_keys: unheld.iter().filter_map(|u| u.keys).sum(),
        }
    }

    /// The offers that are not over of what nodes had that were given up, as those say that make or
    /// take them.
    pub fn offers_seen(&self, progress: &BTreeMap<MemberId, Progress>) -> Vec<OfferProgress> {
        let mut seen: BTreeMap<(String, String), OfferProgress> = BTreeMap::new();
        let told = progress.values().flat_map(|p| p.offers.iter().cloned());
        for offer in told {
            let known = seen.entry((offer.node.clone(), offer.directory.clone()));
            let known = known.or_insert_with(|| offer.clone());
            // When two members tell of the same offer, the later report is right.
            if offer.left() < known.left() {
                *known = offer;
            }
        }
        seen.into_values().collect()
    }
}
