//! What a node says of itself, whatever it is at the moment.

use super::member;
use super::samples::gauges;
use crate::api::status::PeerStatus;
use crate::http::words;
use crate::node::{Node, Role};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::Arc;

/// Reads a node when somebody asks for its metrics.
pub struct FromNode(pub Arc<Node>);

impl fmt::Debug for FromNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromNode")
    }
}

impl Collector for FromNode {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let status = words::status::status(&self.0);
        let role = self.0.role();
        let values = [
            ("keys", "Live keys", None, status.keys),
            (
                "tombstones",
                "Deleted keys that are still remembered",
                None,
                status.tombstones,
            ),
            (
                "lost_writes",
                "Writes of nodes that were given up which nobody else got, as far as those had told of them",
                None,
                status.lost_writes,
            ),
            (
                "unstable_dots",
                "Writes that some replica is not known to have",
                None,
                status.unstable,
            ),
            (
                "stalled_reads",
                "Reads that wait for their client's past",
                None,
                status.stalled_reads,
            ),
            (
                "storage",
                "Disk space that the store takes",
                Some(Unit::Bytes),
                status.storage_bytes,
            ),
            (
                "storage_free",
                "Disk space that is left",
                Some(Unit::Bytes),
                status.free_bytes,
            ),
            (
                "storage_reserve",
                "Disk space that values leave free, and deletes half of it",
                Some(Unit::Bytes),
                status.reserve_bytes,
            ),
            (
                "storage_room",
                "What the disk has room for: 2 everything, 1 deletes alone, 0 nothing",
                None,
                match status.room_for.as_deref() {
                    Some("nothing") => 0,
                    Some("deletes") => 1,
                    _ => 2,
                },
            ),
            (
                "offered_writes_left",
                "Writes that this node had when it was given up and has not offered yet",
                None,
                status.offers.iter().map(|offer| offer.left).sum(),
            ),
            (
                "uptime",
                "Time since the start",
                Some(Unit::Seconds),
                status.uptime_seconds,
            ),
            (
                "serving",
                "Whether the node serves reads",
                None,
                u64::from(status.state == "serving"),
            ),
            (
                "ready",
                "Whether GET /ready is answered with 200",
                None,
                u64::from(is_ready(&role)),
            ),
        ];
        gauges(&mut encoder, values)?;
        self.peers(&mut encoder, &status.peers)?;
        match &*role {
            Role::Member(member) => member::encode(&mut encoder, member),
            Role::Standby | Role::Removed { .. } | Role::Failed { .. } | Role::Broken { .. } => {
                Ok(())
            }
        }
    }
}

fn is_ready(role: &Role) -> bool {
    matches!(role, Role::Member(member) if member.absence().is_none() && member.ready().is_ok())
}

impl FromNode {
    fn peers(&self, encoder: &mut DescriptorEncoder, peers: &[PeerStatus]) -> fmt::Result {
        type Read = fn(&PeerStatus) -> u64;
        let gauges: [(&str, &str, Read); 3] = [
            (
                "peer_alive",
                "Whether this node hears from the peer",
                |peer| u64::from(peer.alive),
            ),
            (
                "peer_lag_dots",
                "Writes of this node that the peer lacks",
                |peer| peer.lag,
            ),
            (
                "peer_behind_dots",
                "Writes of the peer that this node lacks",
                |peer| peer.behind,
            ),
        ];
        for (name, help, read) in gauges {
            let kind = ConstGauge::new(0u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for peer in peers {
                let labels = [("peer", peer.node.as_str())];
                ConstGauge::new(read(peer)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
