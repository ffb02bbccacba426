//! `/metrics`: one registry per node, so that several nodes can live in one process.
//!
//! Requests are counted where they end, through handles that each worker resolves once. Everything
//! that the node knows itself is read from it when somebody asks.

use super::clients::{Clients, FromClients};
use super::peer_port::FromPeerPort;
use super::routes::HttpRoute;
use super::words;
use crate::api::raft::RaftStatus;
use crate::api::status::PeerStatus;
use crate::node::{Member, Node, Role, ViewGauges};
use crate::protocol::marks::Gauges;
use crate::storage::CommitterStats;
use actix_web::HttpResponse;
use actix_web::http::{Method, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Upper bounds of the latency buckets, in seconds: from a read in memory to a request that
/// waited for everything it could.
const LATENCIES: [f64; 12] = [
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 500e-3, 1.0,
];
/// Upper bounds of the buckets for context entries: two is healthy.
const ENTRIES: [f64; 8] = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0];

/// Methods and statuses that have no label of their own share this one, so that no client can make
/// new time series.
const OTHER: &str = "other";
/// Methods that are told apart: all that some route takes.
const METHODS: [&str; 5] = ["GET", "HEAD", "PUT", "POST", "DELETE"];
/// Statuses that are told apart: all that the node answers with. Their class alone would not tell a
/// full disk from a partition that cannot be reached.
const STATUSES: [&str; 19] = [
    "200", "201", "202", "204", "304", "400", "403", "404", "405", "408", "409", "412", "413",
    "415", "421", "422", "500", "503", "507",
];
const METHOD_LABELS: usize = METHODS.len() + 1;
const STATUS_LABELS: usize = STATUSES.len() + 1;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: &'static str,
}

/// A node's metrics.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Histogram>,
    entries: Histogram,
}

impl Metrics {
    /// Metrics of a node and its clients.
    pub fn new(node: Arc<Node>, clients: Arc<Clients>) -> Self {
        let mut registry = Registry::with_prefix("causeway");
        let requests = Family::new_with_constructor((|| Histogram::new(LATENCIES)) as fn() -> _);
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request's head to its reply, and by its count the requests",
            Unit::Seconds,
            requests.clone(),
        );
        let entries = Histogram::new(ENTRIES);
        registry.register(
            "context_entries",
            "Entries in the contexts of replies",
            entries.clone(),
        );
        registry.register(
            "build",
            "The release that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_collector(Box::new(FromPeerPort(Arc::clone(&node))));
        registry.register_collector(Box::new(FromNode(node)));
        registry.register_collector(Box::new(FromClients(clients)));
        Self {
            registry,
            requests,
            entries,
        }
    }

    /// Handles for one worker.
    pub fn handles(&self) -> Handles {
        let slots = (HttpRoute::ALL.len() + 1) * METHOD_LABELS * STATUS_LABELS;
        Handles {
            requests: self.requests.clone(),
            resolved: (0..slots).map(|_| OnceCell::new()).collect(),
            entries: self.entries.clone(),
        }
    }

    /// Everything, as text; with how the Raft group stands, if the node takes part in one.
    ///
    /// # Errors
    /// When the text cannot be written.
    pub fn text(&self, raft: Option<FromRaft>) -> Result<String, fmt::Error> {
        let mut out = String::with_capacity(16 * 1024);
        text::encode_registry(&mut out, &self.registry)?;
        if let Some(raft) = raft {
            let mut registry = Registry::with_prefix("causeway");
            registry.register_collector(Box::new(raft));
            text::encode_registry(&mut out, &registry)?;
        }
        text::encode_eof(&mut out)?;
        Ok(out)
    }
}

/// A worker's way to the histograms: a family's own lookup hashes its labels on every call.
pub struct Handles {
    requests: Family<RequestLabels, Histogram>,
    resolved: Box<[OnceCell<Histogram>]>,
    pub entries: Histogram,
}

impl Handles {
    /// Counts a request that has been answered. No route: nothing was at its path.
    pub fn observe(
        &self,
        route: Option<HttpRoute>,
        method: &Method,
        response: &HttpResponse,
        began: Instant,
    ) {
        let (method, status) = (method_index(method), status_index(response.status()));
        let row = route.map_or(HttpRoute::ALL.len(), |r| r as usize);
        let slot = (row * METHOD_LABELS + method) * STATUS_LABELS + status;
        let Some(cell) = self.resolved.get(slot) else {
            return;
        };
        cell.get_or_init(|| {
            self.requests.get_or_create_owned(&RequestLabels {
                route: route.map_or("none", HttpRoute::path),
                method: METHODS.get(method).copied().unwrap_or(OTHER),
                status: STATUSES.get(status).copied().unwrap_or(OTHER),
            })
        })
        .observe(began.elapsed().as_secs_f64());
    }
}

/// Where a method is in [`METHODS`]; behind the last one if it is not.
fn method_index(method: &Method) -> usize {
    position(&METHODS, method.as_str())
}

/// Where a status is in [`STATUSES`]; behind the last one if it is not.
fn status_index(status: StatusCode) -> usize {
    position(&STATUSES, status.as_str())
}

fn position(labels: &[&str], label: &str) -> usize {
    let found = labels.iter().position(|known| *known == label);
    found.unwrap_or(labels.len())
}

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
        let gauges = [
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
        ];
        for (name, help, unit, value) in gauges {
            let gauge = ConstGauge::new(value);
            let metric =
                encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

/// Reads a node when somebody asks for its metrics.
struct FromNode(Arc<Node>);

impl fmt::Debug for FromNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromNode")
    }
}

impl Collector for FromNode {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let status = words::status::status(&self.0);
        let gauges = [
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
        ];
        for (name, help, unit, value) in gauges {
            let gauge = ConstGauge::new(value);
            let metric =
                encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        self.peers(&mut encoder, &status.peers)?;
        match &*self.0.role() {
            Role::Member(member) => {
                replica(&mut encoder, member.gauges())?;
                views(&mut encoder, member.membership().gauges())?;
                commits(&mut encoder, member.counters())
            }
            Role::Standby | Role::Removed { .. } | Role::Failed { .. } | Role::Broken { .. } => {
                Ok(())
            }
        }
    }
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

fn replica(encoder: &mut DescriptorEncoder, gauges: Gauges) -> fmt::Result {
    let gauges = [
        (
            "index_dots",
            "Writes that the index holds for replicas that may lack them",
            None,
            i64::try_from(gauges.indexed).unwrap_or(i64::MAX),
        ),
        (
            "clock_offset",
            "How far the wall clock is ahead of most other nodes', when it is too far to be gone by",
            Some(Unit::Seconds),
            gauges.clock_off_ms / 1_000,
        ),
    ];
    for (name, help, unit, value) in gauges {
        let gauge = ConstGauge::new(value);
        let metric = encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?;
        gauge.encode(metric)?;
    }
    Ok(())
}

fn views(encoder: &mut DescriptorEncoder, views: ViewGauges) -> fmt::Result {
    let gauges = [
        ("view_number", "The view in force", views.number),
        (
            "view_change_running",
            "Whether a change of the view is under way",
            u64::from(views.changing),
        ),
        (
            "view_slots_to_come",
            "Slots that this node is to hold and does not have in full",
            views.slots_to_come as u64,
        ),
        (
            "view_members_leaving",
            "Removed nodes that still hand over what they have",
            views.leaving as u64,
        ),
        (
            "slots_without_live_holder",
            "Slots that no live node holds the data of",
            views.unheld_slots as u64,
        ),
        (
            "keys_without_live_holder",
            "Keys in these slots, as far as the nodes that may have them last said",
            views.unheld_keys,
        ),
        (
            "view_change_given_up",
            "Whether the node that the latest change removed was not waited for",
            u64::from(views.given_up),
        ),
    ];
    for (name, help, value) in gauges {
        let gauge = ConstGauge::new(value);
        let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
        gauge.encode(metric)?;
    }
    Ok(())
}

fn commits(encoder: &mut DescriptorEncoder, counters: &CommitterStats) -> fmt::Result {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = [
        ("commits", "Commits, one fsync each", &counters.commits),
        (
            "commit_batches",
            "Batches that went into commits",
            &counters.batches,
        ),
        (
            "commit_operations",
            "Operations in those batches",
            &counters.ops,
        ),
    ];
    for (name, help, counter) in counts {
        let counter = ConstCounter::new(read(counter));
        let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
        counter.encode(metric)?;
    }
    let spent = ConstCounter::new(read(&counters.nanoseconds) as f64 / 1e9);
    let metric = encoder.encode_descriptor(
        "commit",
        "Time spent in commits",
        Some(&Unit::Seconds),
        spent.metric_type(),
    )?;
    spent.encode(metric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::openapi::Document;
    use utoipa::OpenApi;

    #[test]
    fn every_route_and_every_method_it_takes_has_a_label_of_its_own() {
        for (index, route) in HttpRoute::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, index, "{}", route.path());
            for method in route.allow().split(", ") {
                assert!(METHODS.contains(&method), "{method} {}", route.path());
            }
        }
    }

    #[test]
    fn every_status_that_is_described_has_a_label_of_its_own() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let operations = document["paths"].as_object().unwrap().values();
        for operation in operations.flat_map(|path| path.as_object().unwrap().values()) {
            for status in operation["responses"].as_object().unwrap().keys() {
                assert!(STATUSES.contains(&status.as_str()), "{status}");
            }
        }
    }

    #[test]
    fn what_has_no_label_of_its_own_shares_one() {
        assert_eq!(method_index(&Method::POST), 3);
        assert_eq!(method_index(&Method::PATCH), METHODS.len());
        assert_eq!(status_index(StatusCode::INSUFFICIENT_STORAGE), 18);
        assert_eq!(status_index(StatusCode::IM_A_TEAPOT), STATUSES.len());
    }
}
