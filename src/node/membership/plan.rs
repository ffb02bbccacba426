//! The effect of a change before it begins: a dry run.

use super::asked::{Asked, ChangeFailed, refused};
use super::holders::UnheldSlots;
use super::part::Membership;
use crate::node::wire::messages::Progress;
use crate::protocol::changes::{ViewChanges, ViewCommand};
use crate::protocol::ids::MemberId;
use crate::protocol::placement::Change;
use crate::protocol::slots::{Slot, SlotSet};
use crate::protocol::view::{PartitionId, View};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The effect of a change that begins now.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The change.
    pub change: Change,
    /// The node that would come or go.
    pub node: Option<SocketAddr>,
    /// The number of the view that it begins from.
    pub from_view: u64,
    /// The view that it would lead to.
    pub next: View,
    /// Slots that would go from one partition to another.
    pub moves: Vec<Moved>,
    /// Members that would have to copy slots.
    pub gaining: Vec<Gain>,
    /// Slots whose data a removal would lose, because no live node holds them.
    pub data_loss: Vec<UnheldSlots>,
    /// The change that has to end first, and the node that it is about.
    pub busy: Option<(Change, Option<SocketAddr>)>,
}

/// Slots that would go from one partition to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The partition that has them.
    pub from: PartitionId,
    /// The partition that gets them.
    pub to: PartitionId,
    /// How many there are.
    pub slots: usize,
    /// Keys that this is likely to be.
    pub keys: u64,
}

/// Slots that a member would have to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gain {
    /// The member's address.
    pub node: SocketAddr,
    /// The partition that it would be in.
    pub partition: PartitionId,
    /// How many there are.
    pub slots: usize,
    /// Keys that this is likely to be.
    pub keys: u64,
}

impl Membership {
    /// Plans a change without beginning it. Nothing is changed, and no quorum is needed.
    ///
    /// # Errors
    /// Why the change would be refused.
    pub async fn plan(&self, asked: Asked) -> Result<Planned, ChangeFailed> {
        let changes = self.agreed();
        let now = &changes.views().view;
        let change = match asked {
            Asked::Add(address) => Change::Add(address),
            Asked::Remove(address) => {
                let member = now
                    .member_at(address)
                    .or_else(|| changes.member_at(address));
                Change::Remove(member.ok_or(ChangeFailed::NoSuchNode(address))?)
            }
            Asked::SetK(k) => Change::SetK(k),
        };
        let dead = self.gives_up(&changes, (change, asked), true).await?;
        let mut then = ViewChanges::clone(&changes);
        if !dead.is_empty() {
            let members = dead.clone();
            then.apply(ViewCommand::Dead { members });
        }
        let next = then.plan(&change);
        let next = next.map_err(|refusal| refused(refusal, asked))?;
        let progress = self.ask_progress(now.members().map(|(m, _)| m)).await;
        let keys = Density::of(now, &progress);
        let gaining = then.gaining_in(&next);
        let gain = |(member, slots): (MemberId, SlotSet)| {
            Some(Gain {
                node: next.address(member)?,
                partition: next.partition_of(member)?,
                slots: slots.len(),
                keys: keys.in_slots(slots.iter()),
            })
        };
        let node = match asked {
            Asked::Add(address) | Asked::Remove(address) => Some(address),
            Asked::SetK(_) => None,
        };
        let data_loss = self.at_stake(&changes, change, &dead).await;
        Ok(Planned {
            change,
            node,
            from_view: now.number,
            moves: moves(now, &next, &keys),
            gaining: gaining.into_iter().filter_map(gain).collect(),
            data_loss,
            busy: changes.running().map(|r| (r.change, r.node)),
            next,
        })
    }
}

/// The slots that go from one partition to another.
fn moves(now: &View, next: &View, keys: &Density) -> Vec<Moved> {
    let mut moved: BTreeMap<(PartitionId, PartitionId), Vec<Slot>> = BTreeMap::new();
    for slot in Slot::all() {
        let (from, to) = (now.partition(slot), next.partition(slot));
        if from != to {
            moved.entry((from, to)).or_default().push(slot);
        }
    }
    let one = |((from, to), slots): ((PartitionId, PartitionId), Vec<Slot>)| Moved {
        from,
        to,
        slots: slots.len(),
        keys: keys.in_slots(slots),
    };
    moved.into_iter().map(one).collect()
}

/// Keys per slot: a hash spreads them evenly over the slots of a partition.
struct Density<'a> {
    view: &'a View,
    partitions: BTreeMap<PartitionId, f64>,
    /// Where no replica says how many it has.
    elsewhere: f64,
}

impl<'a> Density<'a> {
    fn of(view: &'a View, progress: &BTreeMap<MemberId, Progress>) -> Self {
        let mut partitions: BTreeMap<PartitionId, f64> = BTreeMap::new();
        for (member, progress) in progress {
            let Some(partition) = view.partition_of(*member) else {
                continue;
            };
            if progress.holds > 0 {
                let density = progress.live_keys as f64 / progress.holds as f64;
                let known = partitions.entry(partition).or_default();
                *known = known.max(density);
            }
        }
        let elsewhere = partitions.values().sum::<f64>() / partitions.len().max(1) as f64;
        Self {
            view,
            partitions,
            elsewhere,
        }
    }

    fn in_slots(&self, slots: impl IntoIterator<Item = Slot>) -> u64 {
        let density = |slot| {
            let known = self.partitions.get(&self.view.partition(slot));
            known.copied().unwrap_or(self.elsewhere)
        };
        let keys: f64 = slots.into_iter().map(density).sum();
        keys.round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_estimated_from_the_partitions_that_answer() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let view = View::first(&[at(1), at(2), at(3), at(4)], 1).unwrap();
        let says = |live_keys| Progress {
            live_keys,
            holds: 4096,
            ..Progress::default()
        };
        let progress = BTreeMap::from([(MemberId(0), says(4096)), (MemberId(1), says(12_288))]);
        let keys = Density::of(&view, &progress);
        let all = |partition| view.slots_of(PartitionId(partition));
        assert_eq!(keys.in_slots(all(0).iter()), 4096);
        assert_eq!(keys.in_slots(all(1).iter()), 12_288);
        assert_eq!(
            keys.in_slots(all(2).iter()),
            8192,
            "as the others on average"
        );
        let next = view.changed(&Change::Remove(MemberId(3))).unwrap();
        let moves = moves(&view, &next, &keys);
        assert!(moves.iter().all(|m| m.from.0 == 3), "{moves:?}");
        assert_eq!(moves.iter().map(|m| m.slots).sum::<usize>(), 4096);
        let keys: u64 = moves.iter().map(|m| m.keys).sum();
        assert!((8190..=8194).contains(&keys), "{keys}");
    }
}
