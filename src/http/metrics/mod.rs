//! `/metrics`: one registry per node, so that several nodes can live in one process.
//!
//! Requests are counted where they end, through handles that each worker resolves once. Everything
//! that the node knows itself is read from it when somebody asks:
//!
//! ```text
//! node.rs     what `/status` has
//! member.rs   of a member: its replica, views, stores and connections
//! raft.rs     how the Raft group stands
//! process.rs  what the operating system knows of the process
//! samples.rs  writes gauges and counters
//! ```

mod member;
mod node;
mod process;
mod raft;
mod samples;

pub use raft::FromRaft;

use super::clients::{Clients, FromClients};
use super::peer_port::FromPeerPort;
use super::reason::Reason;
use super::routes::HttpRoute;
use crate::node::Node;
use actix_web::HttpResponse;
use actix_web::http::{Method, StatusCode};
use node::FromNode;
use process::FromProcess;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// The label of a refusal: one of a fixed set of words.
type RefusalLabels = [(&'static str, &'static str); 1];

/// A node's metrics.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Histogram>,
    refusals: Family<RefusalLabels, Counter>,
    slow: Counter,
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
        let refusals = Family::<RefusalLabels, Counter>::default();
        registry.register(
            "refusals",
            "Requests that were not done, by the reason that their replies gave",
            refusals.clone(),
        );
        let slow = Counter::default();
        registry.register(
            "slow_requests",
            "Requests that took at least SLOW_REQUEST_MS",
            slow.clone(),
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
            refusals,
            slow,
            entries,
        }
    }

    /// Handles for one worker.
    pub fn handles(&self) -> Handles {
        let slots = (HttpRoute::ALL.len() + 1) * METHOD_LABELS * STATUS_LABELS;
        Handles {
            requests: self.requests.clone(),
            refusals: self.refusals.clone(),
            slow: self.slow.clone(),
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
        // Under the names that all programs have for these.
        let mut registry = Registry::default();
        registry.register_collector(Box::new(FromProcess));
        text::encode_registry(&mut out, &registry)?;
        text::encode_eof(&mut out)?;
        Ok(out)
    }
}

/// A worker's way to the histograms: a family's own lookup hashes its labels on every call.
pub struct Handles {
    requests: Family<RequestLabels, Histogram>,
    refusals: Family<RefusalLabels, Counter>,
    slow: Counter,
    resolved: Box<[OnceCell<Histogram>]>,
    pub entries: Histogram,
}

impl Handles {
    /// Counts a request that has been answered, and says how long it took. No route: nothing was at
    /// its path.
    pub fn observe(
        &self,
        route: Option<HttpRoute>,
        method: &Method,
        response: &HttpResponse,
        began: Instant,
    ) -> Duration {
        let took = began.elapsed();
        if let Some(reason) = Reason::of(response) {
            let labels = [("reason", reason)];
            self.refusals.get_or_create_owned(&labels).inc();
        }
        let (method, status) = (method_index(method), status_index(response.status()));
        let row = route.map_or(HttpRoute::ALL.len(), |r| r as usize);
        let slot = (row * METHOD_LABELS + method) * STATUS_LABELS + status;
        let Some(cell) = self.resolved.get(slot) else {
            return took;
        };
        cell.get_or_init(|| {
            self.requests.get_or_create_owned(&RequestLabels {
                route: route.map_or("none", HttpRoute::path),
                method: METHODS.get(method).copied().unwrap_or(OTHER),
                status: STATUSES.get(status).copied().unwrap_or(OTHER),
            })
        })
        .observe(took.as_secs_f64());
        took
    }

    /// Counts a request that took long.
    pub fn slow(&self) {
        self.slow.inc();
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
