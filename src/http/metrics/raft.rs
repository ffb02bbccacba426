//! How the Raft group stands, which decides about lists and views.

use super::samples::gauges;
use crate::api::raft::RaftStatus;
use crate::http::words;
use crate::node::Member;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;

/// How the Raft group stands at a node. It is asked before metrics are written, since its answer
/// has to be waited for, which a collector cannot do.
#[derive(Debug)]
pub struct FromRaft {
    status: RaftStatus,
    /// Bytes of all lists together.
    list_bytes: usize,
}

impl FromRaft {
    /// How it stands now; nothing where there is none yet.
    pub async fn ask(member: &Member) -> Option<Self> {
        let status = words::raft::raft_status(member).await?;
        let raft = member.membership().raft()?;
        let list_bytes = raft.look(|decided| decided.keys.bytes());
        Some(Self { status, list_bytes })
    }
}

impl Collector for FromRaft {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Self { status, list_bytes } = self;
        gauges(
            &mut encoder,
            [
                (
                    "council_leads",
                    "Whether this node leads the council, which decides about lists and views",
                    None,
                    u64::from(status.state == "leader"),
                ),
                (
                    "council_has_quorum",
                    "Whether lists and views can be changed, as far as this node can tell",
                    None,
                    u64::from(status.has_quorum),
                ),
                (
                    "council_full",
                    "Whether this node's council stores nothing, for want of room on its disk",
                    None,
                    u64::from(status.full.is_some()),
                ),
                ("council_term", "Raft's term", None, status.term),
                (
                    "council_log_entries",
                    "Entries in the log that no snapshot has taken the place of",
                    None,
                    status.log_len,
                ),
                (
                    "council_committed",
                    "How many entries are decided, as far as this node knows",
                    None,
                    status.commit_idx.map_or(0, |index| index + 1),
                ),
                (
                    "council_applied",
                    "How many of them this node goes by",
                    None,
                    status.last_applied.map_or(0, |index| index + 1),
                ),
                ("lists", "Linearizable lists", None, status.keys as u64),
                (
                    "lists",
                    "What all lists together count, of the 256 MiB that they may",
                    Some(Unit::Bytes),
                    *list_bytes as u64,
                ),
            ],
        )?;
        let kind = ConstGauge::new(0u64).metric_type();
        let help = "The node that leads the council, as far as this one knows";
        let mut leader = encoder.encode_descriptor("council_leader", help, None, kind)?;
        if let Some(node) = &status.leader {
            let labels = [("leader", node.as_str())];
            ConstGauge::new(1u64).encode(leader.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
