//! Every path that a node serves, once: registration, metrics labels, `Allow` headers and the
//! check of the OpenAPI document all go by this list.

use crate::node::tokens::Right;
use actix_web::http::Method;

/// A path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpRoute {
    Kvs,
    Batch,
    Snapshot,
    Keys,
    PartitionId,
    AllPartitionIds,
    PartitionMembers,
    NumberOfKeys,
    ViewUpdate,
    View,
    ViewPlan,
    ViewChange,
    Explain,
    RaftStatus,
    Write,
    Read,
    Delete,
    NodesForKey,
    Nodes,
    Fail,
    Recover,
    SetStrategy,
    Health,
    Ready,
    Metrics,
    Status,
    OpenApi,
    Page,
}

impl HttpRoute {
    /// All of them, in declaration order; the busiest first, because the router looks from the
    /// top.
    pub const ALL: [Self; 28] = [
        Self::Kvs,
        Self::Batch,
        Self::Snapshot,
        Self::Keys,
        Self::PartitionId,
        Self::AllPartitionIds,
        Self::PartitionMembers,
        Self::NumberOfKeys,
        Self::ViewUpdate,
        Self::View,
        Self::ViewPlan,
        Self::ViewChange,
        Self::Explain,
        Self::RaftStatus,
        Self::Write,
        Self::Read,
        Self::Delete,
        Self::NodesForKey,
        Self::Nodes,
        Self::Fail,
        Self::Recover,
        Self::SetStrategy,
        Self::Health,
        Self::Ready,
        Self::Metrics,
        Self::Status,
        Self::OpenApi,
        Self::Page,
    ];

    /// The path in a URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Kvs => "/kvs",
            Self::Batch => "/kvs/batch",
            Self::Snapshot => "/kvs/snapshot",
            Self::PartitionId => "/kvs/get_partition_id",
            Self::AllPartitionIds => "/kvs/get_all_partition_ids",
            Self::PartitionMembers => "/kvs/get_partition_members",
            Self::NumberOfKeys => "/kvs/get_number_of_keys",
            Self::ViewUpdate => "/kvs/view_update",
            Self::View => "/view",
            Self::ViewPlan => "/view/plan",
            Self::ViewChange => "/view/change",
            Self::Explain => "/kvs/explain",
            Self::Keys => "/keys/{key}",
            Self::RaftStatus => "/admin/status",
            Self::Write => "/write",
            Self::Read => "/read/{key}",
            Self::Delete => "/delete/{key}",
            Self::NodesForKey => "/nodes_for_key/{key}",
            Self::Nodes => "/nodes",
            Self::Fail => "/fail/{node_id}",
            Self::Recover => "/recover/{node_id}",
            Self::SetStrategy => "/set_replication_strategy",
            Self::Health => "/health",
            Self::Ready => "/ready",
            Self::Metrics => "/metrics",
            Self::Status => "/status",
            Self::OpenApi => "/openapi.json",
            Self::Page => "/",
        }
    }

    /// The path as the router matches it. A key takes all that is left of it, nothing and slashes
    /// too: what is no key is refused as one.
    pub fn pattern(self) -> String {
        self.path().replace("{key}", "{key:.*}")
    }

    /// Whether a call changes the cluster itself: its view, its replication, its faults.
    pub fn is_administration(self, method: &Method) -> bool {
        match self {
            Self::ViewUpdate | Self::View | Self::ViewChange => !method.is_safe(),
            Self::Fail | Self::Recover | Self::SetStrategy => true,
            _ => false,
        }
    }

    /// Whether a call is one of the operator's store, or changes a list.
    pub fn is_operators(self, method: &Method) -> bool {
        match self {
            Self::Keys => !method.is_safe(),
            Self::Write | Self::Read | Self::Delete | Self::NodesForKey | Self::Nodes => true,
            _ => false,
        }
    }

    /// The right that a call takes; `None` when everybody may make it.
    pub fn right(self, method: &Method) -> Option<Right> {
        match self {
            Self::Health | Self::Ready | Self::Metrics | Self::OpenApi | Self::Page => None,
            _ if self.is_administration(method) => Some(Right::Administer),
            // The keys come in a body, which GET has not.
            Self::Snapshot => Some(Right::Read),
            _ if method.is_safe() => Some(Right::Read),
            _ => Some(Right::Write),
        }
    }

    /// The methods that the path takes, as an `Allow` header has them.
    pub const fn allow(self) -> &'static str {
        match self {
            Self::Kvs => "GET, HEAD, PUT, DELETE",
            Self::Keys => "GET, HEAD, POST, DELETE",
            Self::Batch
            | Self::Snapshot
            | Self::Write
            | Self::Fail
            | Self::Recover
            | Self::SetStrategy => "POST",
            Self::Delete => "DELETE",
            Self::ViewUpdate => "PUT",
            Self::View => "GET, HEAD, PUT",
            Self::ViewChange => "DELETE",
            _ => "GET, HEAD",
        }
    }
}
