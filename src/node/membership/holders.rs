//! Whether each slot has a live node that holds its data, and what would be lost if the others
//! never came back.
//!
//! A live holder is a member that answers now and serves with all of its data in place, or one that
//! has copied all that it is to hold in the next view. A name in the view is none.

use super::part::Membership;
use crate::node::wire::messages::Count;
use crate::protocol::changes::ViewChanges;
use crate::protocol::ids::MemberId;
use crate::protocol::placement::Change;
use crate::protocol::slots::SlotSet;
use crate::protocol::view::{PartitionId, View};
use crate::protocol::views::CohortId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Members are asked for this long before it is said that no live one holds some slots: a live one
/// may be busy, or on its way into a view that came into force a moment ago.
const SURE_AFTER: Duration = Duration::from_secs(2);
/// The pause before they are asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Slots of a partition that no live node holds the data of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnheldSlots {
    /// The partition.
    pub partition: PartitionId,
    /// How many slots of it.
    pub slots: usize,
    /// The nodes that may have the data, `ip:port`.
    pub nodes: Vec<String>,
    /// Keys in these slots, as far as the nodes last said; unknown when no node remembers that.
    pub keys: Option<u64>,
}

impl Membership {
    /// The slots that no live node holds the data of; `gone` does not count as live. A member that
    /// does not answer counts as dead.
    async fn unheld(&self, changes: &ViewChanges, gone: Option<MemberId>) -> Vec<UnheldSlots> {
        let members = changes.members().into_keys();
        let members = members.filter(|member| Some(*member) != gone);
        let said = self.ask_progress(members).await;
        let live = said.iter().map(|(member, p)| (*member, p.count()));
        self.without_holder(changes, &live.collect())
    }

    /// The unheld slots for display, by what members have last said: a member that is connected and
    /// has not said that it lacks data holds it.
    pub fn unheld_as_known(&self, changes: &ViewChanges) -> Vec<UnheldSlots> {
        let (views, known) = (changes.views(), self.counts().all());
        let here = |m: &MemberId| self.peers().is_here(*m);
        let count = |member| {
            let said = match member == self.me() {
                true => Some(self.progress().count()),
                false => known.get(&member).copied(),
            };
            let lacks = said.is_some_and(|count| count.serves.is_none());
            let serves = views.current(member).filter(|_| !lacks);
            Count {
                serves,
                ..said.unwrap_or_default()
            }
        };
        let live = views.members().into_keys().filter(here);
        let live = live.map(|member| (member, count(member))).collect();
        self.without_holder(changes, &live)
    }

    fn without_holder(
        &self,
        changes: &ViewChanges,
        live: &BTreeMap<MemberId, Count>,
    ) -> Vec<UnheldSlots> {
        let known = self.counts().all();
        let view = &changes.views().view;
        let unheld = |(partition, slots): (PartitionId, SlotSet)| UnheldSlots {
            partition,
            slots: slots.len(),
            nodes: self.knowledge().names(view.replicas(partition)),
            keys: keys(view, partition, &slots, &known),
        };
        unheld_slots(changes, live).map(unheld).collect()
    }

    /// The data that a removal would lose if no dead member ever came back: the slots of the node's
    /// partition, and of those of members that it gives up, if no live node holds them. Where
    /// nobody is left to be given up nothing more is lost.
    pub async fn at_stake(
        &self,
        changes: &ViewChanges,
        change: Change,
        gives_up: &BTreeSet<MemberId>,
    ) -> Vec<UnheldSlots> {
        let Change::Remove(member) = change else {
            return Vec::new();
        };
        let views = changes.views();
        let lost = |p: &PartitionId| {
            let mut replicas = views.view.replicas(*p).iter();
            replicas.all(|m| views.given_up.contains(m))
        };
        let members = gives_up.iter().copied().chain([member]);
        let partitions = members.filter_map(|m| views.view.partition_of(m));
        let partitions: BTreeSet<PartitionId> = partitions.filter(|p| !lost(p)).collect();
        if partitions.is_empty() {
            return Vec::new();
        }
        let began = Instant::now();
        loop {
            let mut unheld = self.unheld(changes, None).await;
            unheld.retain(|u| partitions.contains(&u.partition));
            if unheld.is_empty() || began.elapsed() > SURE_AFTER {
                return unheld;
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Whether slots of a dead member have no live holder, so that to do without it may lose data.
    pub async fn is_only_holder(&self, changes: &ViewChanges, member: MemberId) -> bool {
        let partition = changes.views().view.partition_of(member);
        let unheld = self.unheld(changes, Some(member)).await;
        unheld.iter().any(|u| Some(u.partition) == partition)
    }
}

/// The slots of each partition in force that nobody of `live` holds the data of.
fn unheld_slots<'a>(
    changes: &'a ViewChanges,
    live: &'a BTreeMap<MemberId, Count>,
) -> impl Iterator<Item = (PartitionId, SlotSet)> + 'a {
    let (views, running) = (changes.views(), changes.running());
    let next = views.next.as_ref().zip(running);
    // Members that have copied all that they are to hold.
    let copied = next.map(|(next, running)| {
        let ready = running.ready.iter().filter(|m| live.contains_key(m));
        let partitions: BTreeSet<_> = ready.filter_map(|m| next.partition_of(*m)).collect();
        let slots = partitions.iter().map(|p| next.slots_of(*p));
        slots.fold(SlotSet::default(), |mut all, slots| {
            all.join(&slots);
            all
        })
    });
    let copied = copied.unwrap_or_default();
    views
        .view
        .partitions()
        .filter_map(move |(partition, replicas)| {
            let since = views.view.since(partition)?;
            let cohort = Some(CohortId { partition, since });
            let given_up = |m: &MemberId| views.given_up.contains(m);
            let holds =
                |m: &MemberId| !given_up(m) && live.get(m).is_some_and(|c| c.serves == cohort);
            if replicas.iter().any(holds) {
                return None;
            }
            let slots = views.view.slots_of(partition).without(&copied);
            (!slots.is_empty()).then_some((partition, slots))
        })
}

/// Keys in some slots of a partition, by the fullest of the members that may have them.
fn keys(
    view: &View,
    partition: PartitionId,
    slots: &SlotSet,
    known: &BTreeMap<MemberId, Count>,
) -> Option<u64> {
    let counts = view.replicas(partition).iter().filter_map(|m| known.get(m));
    let share = |count: &Count| {
        let all = count.live_keys as f64 * slots.len() as f64;
        (count.slots > 0).then(|| (all / count.slots as f64).round() as u64)
    };
    counts.filter_map(share).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::changes::{ViewCommand, ViewOutcome};
    use crate::protocol::slots::SLOTS;
    use std::net::SocketAddr;

    fn changes(nodes: u16, k: usize) -> ViewChanges {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let addresses: Vec<_> = (1..=nodes).map(at).collect();
        ViewChanges::first(View::first(&addresses, k).unwrap())
    }

    /// The report of a member that serves its partition.
    fn serving(changes: &ViewChanges, member: u16) -> (MemberId, Count) {
        let member = MemberId(member);
        let count = Count {
            live_keys: 100,
            slots: 10,
            serves: changes.views().current(member),
        };
        (member, count)
    }

    fn unheld(changes: &ViewChanges, live: &[(MemberId, Count)]) -> Vec<(u32, usize)> {
        let live = live.iter().copied().collect();
        let found = unheld_slots(changes, &live);
        found
            .map(|(partition, slots)| (partition.0, slots.len()))
            .collect()
    }

    #[test]
    fn slots_are_held_by_a_live_member_that_serves_them_and_by_nobody_else() {
        let changes = changes(4, 2);
        let all: Vec<_> = (0..4).map(|m| serving(&changes, m)).collect();
        assert_eq!(unheld(&changes, &all), []);
        assert_eq!(unheld(&changes, &[all[1], all[2]]), []);
        let half = usize::from(SLOTS) / 2;
        assert_eq!(unheld(&changes, &all[..2]), [(1, half)]);
        // A member that is there without its data.
        let (member, mut empty) = all[3];
        empty.serves = None;
        let there = [all[0], (member, empty)];
        assert_eq!(unheld(&changes, &there), [(1, half)]);
        // A member that still goes by an earlier view.
        let since = changes.views().view.number + 1;
        empty.serves = Some(CohortId {
            partition: PartitionId(1),
            since,
        });
        assert_eq!(unheld(&changes, &[all[0], (member, empty)]), [(1, half)]);
    }

    #[test]
    fn who_has_copied_all_that_it_is_to_hold_holds_it() {
        let mut changes = changes(2, 1);
        let change = ViewCommand::Change {
            change: Change::Remove(MemberId(1)),
            give_up: false,
            lose_data: false,
        };
        let ViewOutcome::Started { number } = changes.apply(change) else {
            panic!("not started");
        };
        let half = usize::from(SLOTS) / 2;
        let first = serving(&changes, 0);
        assert_eq!(unheld(&changes, &[first]), [(1, half)]);
        let member = MemberId(0);
        changes.apply(ViewCommand::Ready { member, number });
        assert_eq!(unheld(&changes, &[first]), []);
        assert_eq!(unheld(&changes, &[]).len(), 2, "it is dead as well");
    }

    #[test]
    fn keys_are_those_that_the_fullest_last_had() {
        let changes = changes(2, 2);
        let view = &changes.views().view;
        let (partition, slots) = (PartitionId(0), view.slots_of(PartitionId(0)));
        let count = |live_keys, slots| Count {
            live_keys,
            slots,
            serves: None,
        };
        let all = usize::from(SLOTS);
        let mut known = BTreeMap::new();
        assert_eq!(keys(view, partition, &slots, &known), None);
        known.insert(MemberId(0), count(10_269, all));
        assert_eq!(keys(view, partition, &slots, &known), Some(10_269));
        known.insert(MemberId(1), count(30_000, 2 * all));
        assert_eq!(keys(view, partition, &slots, &known), Some(15_000));
    }
}
