//! What clients can make a node hold, all of them together, and what was refused them.

use super::budget::Budget;
use super::connection::ConnectionCounts;
use super::request;
use crate::api::status::ClientLoad;
use crate::descriptors;
use crate::node::config::Config;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One for a node's whole surface.
#[derive(Debug)]
pub struct Clients {
    /// Connections that may be open at a time.
    pub most_connections: usize,
    /// What was seen of connections.
    pub connections: Arc<ConnectionCounts>,
    /// What was read of their requests' bodies.
    pub bodies: Budget,
    /// What they have not read of replies.
    pub replies: Arc<Budget>,
}

impl Clients {
    /// The clients of a node with these settings.
    pub fn new(config: &Config) -> Self {
        // One body of the longest kind fits always: else it would be refused for ever.
        let longest = request::longest_body(config.max_value_bytes);
        let bytes = config.client_memory_bytes.max(longest);
        Self {
            most_connections: descriptors::for_clients(),
            connections: Arc::default(),
            bodies: Budget::new(bytes),
            replies: Arc::new(Budget::new(bytes)),
        }
    }

    /// What they make the node hold now.
    pub fn load(&self) -> ClientLoad {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ClientLoad {
            connections: read(&self.connections.open),
            most_connections: self.most_connections as u64,
            body_bytes: self.bodies.used() as u64,
            unread_bytes: self.replies.used() as u64,
            most_bytes: self.bodies.limit() as u64,
            refused_bodies: self.bodies.refused(),
            refused_replies: self.replies.refused(),
            cut_off: read(&self.connections.unread_replies),
            late_heads: read(&self.connections.late_heads),
            lingering: read(&self.connections.lingering),
            unread_bodies: read(&self.connections.unread_bodies),
        }
    }
}

/// Tells of clients when somebody asks for metrics.
#[derive(Debug)]
pub struct FromClients(pub Arc<Clients>);

impl Collector for FromClients {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let load = self.0.load();
        let bytes = Some(Unit::Bytes);
        let gauges = [
            (
                "client_connections",
                "Connections of clients that are open",
                None,
                load.connections,
            ),
            (
                "client_connections_most",
                "Connections of clients that may be open; more wait until one ends",
                None,
                load.most_connections,
            ),
            (
                "client_connections_lingering",
                "Connections of clients that are answered and go on sending",
                None,
                load.lingering,
            ),
            (
                "request_bodies",
                "What was read of the bodies of requests that are under way",
                bytes.clone(),
                load.body_bytes,
            ),
            (
                "unread_replies",
                "What clients have not read of replies longer than 16 KiB",
                bytes.clone(),
                load.unread_bytes,
            ),
            (
                "client_memory",
                "How much each of these two may be",
                bytes,
                load.most_bytes,
            ),
        ];
        for (name, help, unit, value) in gauges {
            let gauge = ConstGauge::new(value);
            let metric =
                encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let reasons = [
            ("bodies", load.refused_bodies),
            ("replies", load.refused_replies),
            ("cut_off", load.cut_off),
            ("late_head", load.late_heads),
            ("unread_body", load.unread_bodies),
        ];
        let kind = ConstCounter::new(0u64).metric_type();
        let help = "Requests and connections that were refused: no room for bodies or replies, replies not read in time, heads too late, bodies that went on for too long after the reply";
        let mut family = encoder.encode_descriptor("clients_refused", help, None, kind)?;
        for (reason, count) in reasons {
            let labels = [("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
