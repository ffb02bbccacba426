//! What a change would do: a dry run.

use super::{Move, Plan, PlannedGain, PlannedPartition};
use crate::node::member::Member;
use crate::node::membership::asked::{Asked, ChangeFailed, refused};
use crate::node::wire::messages::Progress;
use crate::protocol::council::{Command, Council};
use crate::protocol::ids::MemberId;
use crate::protocol::placement::Change;
use crate::protocol::slots::{Slot, SlotSet};
use crate::protocol::view::{PartitionId, View};
use std::collections::BTreeMap;
use std::net::SocketAddr;

impl Member {
    /// What a change would do, if it began now. Nothing is changed, and no quorum is needed.
    ///
    /// # Errors
    /// Why the change would be refused.
    pub async fn plan(&self, asked: Asked) -> Result<Plan, ChangeFailed> {
        let (membership, council) = (self.membership(), self.membership().agreed());
        let now = &council.views().view;
        let change = match asked {
            Asked::Add(address) => Change::Add(address),
            Asked::Remove(address) => {
                let member = now
                    .member_at(address)
                    .or_else(|| council.member_at(address));
                Change::Remove(member.ok_or(ChangeFailed::NoSuchNode(address))?)
            }
            Asked::SetK(k) => Change::SetK(k),
        };
        let dead = membership.gives_up(&council, (change, asked), true).await?;
        let mut then = Council::clone(&council);
        if !dead.is_empty() {
            let members = dead.clone();
            then.apply(Command::Dead { members });
        }
        let next = then.plan(&change);
        let next = next.map_err(|refusal| refused(refusal, asked))?;
        let progress = membership.ask_progress(now.members().map(|(m, _)| m)).await;
        let keys = Density::of(now, &progress);
        let gaining = then.gaining_in(&next);
        let gain = |(member, slots): (MemberId, SlotSet)| {
            Some(PlannedGain {
                node: next.address(member)?.to_string(),
                partition_id: next.partition_of(member)?.0,
                slots: slots.len(),
                keys: keys.in_slots(slots.iter()),
            })
        };
        let (node, leaving) = match asked {
            Asked::Add(address) => (Some(address), None),
            Asked::Remove(address) => (Some(address), Some(address)),
            Asked::SetK(_) => (None, None),
        };
        let data_loss = membership.at_stake(&council, change, &dead).await;
        let data = self.change_data(change, node);
        let running = council.running();
        Ok(Plan {
            text: data.to_string(),
            change: data,
            from_view: now.number,
            view: next.number,
            k: next.replication_factor(),
            partitions: partitions(&next),
            moves: moves(now, &next, &keys),
            gaining: gaining.into_iter().filter_map(gain).collect(),
            leaving: leaving.as_ref().map(SocketAddr::to_string),
            data_loss,
            busy: running.map(|r| self.change_data(r.change, r.node).to_string()),
        })
    }
}

fn partitions(view: &View) -> Vec<PlannedPartition> {
    let partition = |(id, replicas): (PartitionId, &[MemberId])| PlannedPartition {
        partition_id: id.0,
        slots: view.slots_of(id).len(),
        members: replicas
            .iter()
            .filter_map(|m| view.address(*m))
            .map(|address| address.to_string())
            .collect(),
    };
    view.partitions().map(partition).collect()
}

/// The slots that go from one partition to another.
fn moves(now: &View, next: &View, keys: &Density) -> Vec<Move> {
    let mut moved: BTreeMap<(u32, u32), Vec<Slot>> = BTreeMap::new();
    for slot in Slot::all() {
        let (from, to) = (now.partition(slot), next.partition(slot));
        if from != to {
            moved.entry((from.0, to.0)).or_default().push(slot);
        }
    }
    let one = |((from, to), slots): ((u32, u32), Vec<Slot>)| Move {
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
        assert!(moves.iter().all(|m| m.from == 3), "{moves:?}");
        assert_eq!(moves.iter().map(|m| m.slots).sum::<usize>(), 4096);
        let keys: u64 = moves.iter().map(|m| m.keys).sum();
        assert!((8190..=8194).contains(&keys), "{keys}");
    }
}
