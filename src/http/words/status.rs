//! The node at one moment, as `/status`, the page and the metrics say it.

use super::name;
use crate::api::status::{
    ClientLoad, MemberStatus, PartitionStatus, PeerStatus, Status, ViewStatus,
};
use crate::node::{Absence, Member, Node, Role};
use crate::protocol::ids::{LogId, MemberId};
use crate::protocol::marks::Marks;
use crate::protocol::room::DiskRoom;

/// A member of another partition that was not heard of for this long counts as dead, in
/// microseconds. Beacons come ten times a second in clusters of up to 64 nodes.
const ELSEWHERE_DEAD_US: u64 = 2_000_000;

/// The node at this moment, but for its clients: the surface knows those.
pub fn status(node: &Node) -> Status {
    let (state, reason, number) = match &*node.role() {
        Role::Member(member) => {
            let offers = node.offers().into_iter().map(Into::into).collect();
            return Status {
                offers,
                ..of_member(member)
            };
        }
        Role::Standby => ("standby", "it is in no view", 0),
        Role::Removed { view } => ("removed", "it is in no view", *view),
        Role::Broken { views } => (
            "recovering",
            "storing failed: it looks through its data, and begins anew if a part of that is damaged",
            views.view.number,
        ),
        Role::Failed { views, .. } => ("failed", "POST /fail made it", views.view.number),
    };
    Status {
        node: node.config().address.to_string(),
        member: None,
        incarnation: 0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: state.to_owned(),
        reason: Some(reason.to_owned()),
        partition_id: None,
        view: ViewStatus {
            number,
            k: 0,
            partitions: Vec::new(),
        },
        keys: 0,
        tombstones: 0,
        lost_writes: 0,
        unstable: 0,
        stalled_reads: 0,
        peers: Vec::new(),
        offers: node.offers().into_iter().map(Into::into).collect(),
        storage_bytes: 0,
        free_bytes: 0,
        reserve_bytes: node.config().reserve.bytes(),
        room_for: None,
        uptime_seconds: node.uptime().as_secs(),
        clock_ms: 0,
        clients: ClientLoad::default(),
    }
}

/// Whether a node hears from a member.
pub fn is_alive(node: &Member, member: MemberId, marks: &Marks) -> bool {
    if member == node.me() {
        return true;
    }
    match marks.peers.iter().find(|p| p.member == member) {
        Some(peer) => peer.alive,
        None => node.router().is_alive(member, ELSEWHERE_DEAD_US),
    }
}

fn room_for(room: &DiskRoom) -> &'static str {
    match room {
        DiskRoom::Ample => "all",
        DiskRoom::Scarce(_) => "deletes",
        DiskRoom::None(_) => "nothing",
    }
}

fn of_member(member: &Member) -> Status {
    let forming = member.forming();
    let marks = member.marks();
    let (storage_bytes, free_bytes) = member.disk_bytes();
    let view = marks.view();
    let partitions = view.partitions().map(|(id, replicas)| PartitionStatus {
        partition_id: id.0,
        members: replicas
            .iter()
            .map(|m| MemberStatus {
                node: name(member, *m),
                member: m.0,
                alive: is_alive(member, *m, &marks),
                given_up: marks.views.given_up.contains(m),
            })
            .collect(),
    });
    Status {
        node: member.config().address.to_string(),
        member: Some(member.me().0),
        incarnation: incarnation(member, &marks),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: match member.absence() {
            _ if forming.is_some() => "forming",
            Some(Absence::Joining) => "joining",
            Some(Absence::Left { .. }) => "leaving",
            Some(Absence::GivenUp) => "given up",
            None if marks.recovering.is_none() => "serving",
            None => "recovering",
        }
        .to_owned(),
        reason: forming.or_else(|| marks.recovering.clone()),
        partition_id: marks.partition.map(|p| p.0),
        view: ViewStatus {
            number: view.number,
            k: view.replication_factor(),
            partitions: partitions.collect(),
        },
        keys: marks.gauges.live_keys,
        tombstones: marks.gauges.tombstones,
        lost_writes: marks.gauges.lost,
        unstable: marks.gauges.unstable,
        stalled_reads: marks.gauges.stalled_reads,
        peers: peers(member, &marks),
        offers: Vec::new(),
        storage_bytes,
        free_bytes,
        reserve_bytes: member.config().reserve.bytes(),
        room_for: Some(room_for(&member.disk_room()).to_owned()),
        uptime_seconds: member.uptime().as_secs(),
        clock_ms: member.clock_ms(),
        clients: ClientLoad::default(),
    }
}

fn incarnation(member: &Member, marks: &Marks) -> u64 {
    let own = marks.logs.keys().filter(|log| log.member == member.me());
    own.map(|log| log.incarnation).max().unwrap_or(0)
}

fn peers(member: &Member, marks: &Marks) -> Vec<PeerStatus> {
    let applied = |log: &LogId| marks.logs.get(log).map_or(0, |m| m.applied);
    marks
        .peers
        .iter()
        .map(|peer| PeerStatus {
            node: name(member, peer.member),
            member: peer.member.0,
            alive: peer.alive,
            lag: marks
                .logs
                .iter()
                .map(|(log, m)| {
                    m.applied
                        .saturating_sub(peer.applied.get(log).copied().unwrap_or(0))
                })
                .sum(),
            behind: peer
                .applied
                .iter()
                .filter(|(log, _)| marks.logs.contains_key(log))
                .map(|(log, theirs)| theirs.saturating_sub(applied(log)))
                .sum(),
        })
        .collect()
}
