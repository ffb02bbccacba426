//! The places of writes: which nodes hold a key, and which of them keep a write, or a newer one of
//! its key.

use super::super::oracle::WriteId;
use super::super::world::{Failed, World};
use causeway::protocol::ids::{LogId, MemberId};
use causeway::protocol::marks::Marks;
use causeway::protocol::record::{self, ReplicaIdentity};
use causeway::protocol::slots::Slot;
use causeway::protocol::version::{Key, Stamp, Version};
use causeway::protocol::view::PartitionId;
use causeway::protocol::views::{CohortId, Home, Views};
use std::sync::Arc;

impl World {
    /// The nodes of a partition.
    pub fn nodes_of(&self, partition: PartitionId) -> Vec<usize> {
        nodes(self.view().replicas(partition))
    }

    /// The nodes of a partition, as a node knows it.
    pub(super) fn replicas_at(&self, marks: &Marks) -> Vec<usize> {
        let partition = marks.partition;
        partition.map_or(Vec::new(), |p| nodes(marks.view().replicas(p)))
    }

    /// The nodes that hold a key in the view in force.
    pub fn holders(&self, key: &Key) -> Vec<usize> {
        self.nodes_of(self.view().partition_of_key(key))
    }

    /// Whether a node keeps a key's slot: the node holds the slot now or next, or held it and still
    /// helps.
    pub(super) fn keeps(&self, node: usize, key: &Key) -> bool {
        self.keeps_of(node, key, None)
    }

    /// Whether a node keeps a key's slot for the sake of a log's cohort, or of any.
    pub(super) fn keeps_of(&self, node: usize, key: &Key, log: Option<LogId>) -> bool {
        let Some(views) = self.views_at(node) else {
            return false;
        };
        let (slot, member) = (Slot::of(key), self.nodes[node].member);
        let cohorts = views.cohorts_of(member);
        cohorts.iter().any(|c| {
            let asked = log.is_none_or(|log| views.home(log) == Home::Cohort(c.id));
            asked && c.slots.contains(slot) && views.part(c, member).contains(slot)
        })
    }

    /// The views that a node's replica goes by.
    pub(super) fn views_at(&self, node: usize) -> Option<Arc<Views>> {
        let process = self.nodes[node].process.as_ref();
        let views = process.map(|p| p.driver.replica().views());
        views.or_else(|| self.nodes[node].known.clone())
    }

    pub fn version_at(&self, node: usize, key: &Key) -> Result<Option<Version>, Failed> {
        record::load(&self.nodes[node].disk, key).map_err(|e| e.to_string())
    }

    /// Whether a write ended with each process that took it: the write was durable nowhere yet. A
    /// replica that does not keep its key may have moved past the write all the same.
    pub(super) fn ended_with_writers(&self, write: WriteId) -> Result<bool, Failed> {
        let w = &self.oracle.writes[write];
        let over = w.dots.iter().zip(&w.taken_us).all(|(dot, taken_us)| {
            let writer = &self.nodes[usize::from(dot.log.member.0)];
            writer.process.is_none() || *taken_us < writer.up_us
        });
        Ok(over && w.copies < 2 && !self.is_kept_anywhere(write)?)
    }

    /// Whether a node only helps with a key, and those have the write who hold the key now.
    ///
    /// A replica keeps all slots of a cohort that was its own, also those that it does not hold any
    /// more. When it has lost its disk, or the end of its own log, and no disk is left that has all
    /// of the cohort, it gathers what is left of the slots that others hold. The holder of the
    /// other slots may have lost its disk too, and say that it has nothing: then the gathering
    /// replica passes over what is there. Nobody lacks the write.
    pub(super) fn is_helped_no_more(&self, node: usize, write: WriteId) -> Result<bool, Failed> {
        let w = &self.oracle.writes[write];
        let slots = self
            .views_at(node)
            .map(|v| v.slots_of(self.nodes[node].member));
        let helps = slots.is_some_and(|slots| !slots.contains(Slot::of(&w.key)));
        let mut holders = self.holders(&w.key);
        holders.retain(|n| !self.nodes[*n].lost && !self.is_given_up(*n));
        if !helps || holders.is_empty() {
            return Ok(false);
        }
        for holder in holders {
            if !self.holds(holder, &w.key, w.stamp)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a node that counts, for it holds the key or helped to, has a write or a newer one of
    /// its key. A member that is to hold the key only in the next view may be turned away again. A
    /// later write that came to a node in the place of one that it helps with does not count: the
    /// node shares no log of the later write, and drops that write when it helps no more. Nor does
    /// the rest of a copy on a disk that was lost: before all of the copy is there, nobody asks for
    /// it, and the next copy takes its place.
    pub fn is_kept_at(&self, node: usize, write: WriteId) -> Result<bool, Failed> {
        let w = &self.oracle.writes[write];
        let (views, slot) = (self.decisions.changes.views(), Slot::of(&w.key));
        let member = self.nodes[node].member;
        let holds = views.view.partition_of(member) == Some(views.view.partition(slot));
        let mut closing = views.closing.iter();
        let written_by = |until: u64| w.dots.iter().any(|d| d.log.view() < until);
        let held = closing.any(|c| {
            let holder = c.replicas.contains(&member) && c.slots.contains(slot);
            holder && c.until.is_some_and(written_by)
        });
        let counts = !self.nodes[node].out && views.is_present(member) && (holds || held);
        let counts = counts && (!self.nodes[node].replaced || self.claims(node, slot));
        Ok(counts && self.keeps(node, &w.key) && self.holds(node, &w.key, w.stamp)?)
    }

    /// Whether a node's disk says that it has everything of a cohort with a slot.
    pub(super) fn claims(&self, node: usize, slot: Slot) -> bool {
        let views = self.decisions.changes.views();
        let has = |id: &CohortId| views.cohort(*id).is_some_and(|c| c.slots.contains(slot));
        self.identity_at(node)
            .is_some_and(|identity| identity.filled.keys().any(has))
    }

    /// Whether any node that counts keeps a write.
    pub fn is_kept_anywhere(&self, write: WriteId) -> Result<bool, Failed> {
        for node in 0..self.nodes.len() {
            if self.is_kept_at(node, write)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a node was given up at some time.
    pub fn is_given_up(&self, node: usize) -> bool {
        self.oracle.given_up.contains(&self.nodes[node].member)
    }

    /// Whether another node keeps a write, so that it outlives this one's disk.
    pub fn is_kept_without(&self, node: usize, write: WriteId) -> Result<bool, Failed> {
        for other in (0..self.nodes.len()).filter(|n| *n != node) {
            if self.is_kept_at(other, write)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a node has a version of a key at least this new, or dropped a newer tombstone.
    pub fn holds(&self, node: usize, key: &Key, stamp: Stamp) -> Result<bool, Failed> {
        let version = self.version_at(node, key)?;
        let collected = self.oracle.collected.get(key);
        Ok(version.is_some_and(|v| v.stamp >= stamp) || collected.is_some_and(|c| *c >= stamp))
    }

    /// A node's identity on its disk.
    pub(super) fn identity_at(&self, node: usize) -> Option<ReplicaIdentity> {
        record::load_record(&self.nodes[node].disk, record::IDENTITY).unwrap_or(None)
    }
}

pub(super) fn nodes(members: &[MemberId]) -> Vec<usize> {
    members.iter().map(|m| usize::from(m.0)).collect()
}

/// Whether everything of a log's cohort is said to be here.
pub(super) fn is_filled(marks: &Marks, log: LogId) -> bool {
    match marks.views.home(log) {
        Home::Cohort(id) => marks.cohorts.get(&id) == Some(&true),
        Home::Over | Home::Ahead => false,
    }
}

/// The nodes that share a log, as a node knows it.
pub(super) fn sharing(marks: &Marks, log: LogId) -> Vec<usize> {
    let Home::Cohort(id) = marks.views.home(log) else {
        return Vec::new();
    };
    let cohort = marks.views.cohort(id);
    let members = cohort.map(|c| marks.views.sharing(&c));
    nodes(&members.into_iter().flatten().collect::<Vec<_>>())
}

/// The nodes that are the replicas of a log's cohort, as a node knows it.
pub(super) fn replicas_of(marks: &Marks, log: LogId) -> Vec<usize> {
    match marks.views.home(log) {
        Home::Cohort(id) => nodes(&marks.views.cohort(id).map_or(Vec::new(), |c| c.replicas)),
        Home::Over | Home::Ahead => Vec::new(),
    }
}
