//! Every path that a node serves, once: registration, metrics labels, `Allow` headers and the
//! check of the OpenAPI document all go by this list.

/// A path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Kvs,
    PartitionId,
    AllPartitionIds,
    PartitionMembers,
    NumberOfKeys,
    ViewUpdate,
    View,
    ViewPlan,
    ViewChange,
    Explain,
    Keys,
    RaftStatus,
    Health,
    Ready,
    Metrics,
    Status,
    OpenApi,
    Page,
}

impl Route {
    /// All of them, in declaration order; the busiest first, because the router looks from the
    /// top.
    pub const ALL: [Self; 18] = [
        Self::Kvs,
        Self::PartitionId,
        Self::AllPartitionIds,
        Self::PartitionMembers,
        Self::NumberOfKeys,
        Self::ViewUpdate,
        Self::View,
        Self::ViewPlan,
        Self::ViewChange,
        Self::Explain,
        Self::Keys,
        Self::RaftStatus,
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
            Self::Health => "/health",
            Self::Ready => "/ready",
            Self::Metrics => "/metrics",
            Self::Status => "/status",
            Self::OpenApi => "/openapi.json",
            Self::Page => "/",
        }
    }

    /// The methods that the path takes, as an `Allow` header has them.
    pub const fn allow(self) -> &'static str {
        match self {
            Self::Kvs => "GET, HEAD, PUT, DELETE",
            Self::Keys => "GET, HEAD, POST, DELETE",
            Self::ViewUpdate => "PUT",
            Self::View => "GET, HEAD, PUT",
            Self::ViewChange => "DELETE",
            _ => "GET, HEAD",
        }
    }
}
