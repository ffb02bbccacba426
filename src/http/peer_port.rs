//! Metrics of the port for other nodes: who stands at the door, and who was sent away.

use crate::net::{ClosedHellos, Stats};
use crate::node::{Node, Role};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells of that port when somebody asks for metrics. Only a member has it open for long.
pub struct FromPeerPort(pub Arc<Node>);

impl fmt::Debug for FromPeerPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromPeerPort")
    }
}

impl Collector for FromPeerPort {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let role = self.0.role();
        let Role::Member(member) = &*role else {
            return Ok(());
        };
        match member.membership().peers().links() {
            Some(links) => encode(&mut encoder, links.hellos(), links.stats()),
            None => Ok(()),
        }
    }
}

fn encode(encoder: &mut DescriptorEncoder, in_hello: usize, stats: &Stats) -> fmt::Result {
    let unfit = ConstCounter::new(stats.unfit.load(Ordering::Relaxed));
    let help = "Messages, requests and answers to other nodes that were too long to be sent";
    let metric = encoder.encode_descriptor("peer_unfit", help, None, unfit.metric_type())?;
    unfit.encode(metric)?;

    let gauge = ConstGauge::new(in_hello as u64);
    let help = "Connections to the port for nodes that have not proven yet whose they are";
    let metric = encoder.encode_descriptor("peer_hellos", help, None, gauge.metric_type())?;
    gauge.encode(metric)?;

    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let ClosedHellos {
        refused,
        late,
        crowded,
        foreign,
        broken,
    } = &stats.hellos;
    let reasons = [
        ("refused", refused),
        ("late", late),
        ("crowded", crowded),
        ("foreign", foreign),
        ("broken", broken),
    ];
    let kind = ConstCounter::new(0u64).metric_type();
    let help = "Such connections that were closed: one node refused the other, too slow, a newer one needed the place, no node's protocol, broken";
    let mut family = encoder.encode_descriptor("peer_hellos_closed", help, None, kind)?;
    for (reason, count) in reasons {
        let labels = [("reason", reason)];
        ConstCounter::new(read(count)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
