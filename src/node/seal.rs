//! The writer and reader of payloads: made with the cluster's key, so that there is none before the
//! node has heard of the cluster's birth.

use crate::node::config::{AlsoSecret, Config};
use crate::node::secrets::ClusterSecret;
use crate::protocol::cluster::Cluster;
use crate::protocol::payload::Codec;
use arc_swap::{ArcSwap, Guard};
use std::sync::Arc;

/// The node's codec, whatever cluster it belongs to.
pub struct PayloadSeal(ArcSwap<Codec>);

impl PayloadSeal {
    /// The seal of a node that belongs to no cluster yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(Codec::unborn())))
    }

    /// Goes by this cluster from now on. A secret need not be stretched here: the key has more in
    /// it that only nodes know, so that no payload lets a secret be guessed.
    pub fn learn(&self, cluster: &Cluster, config: &Config) {
        let secret = config.cluster_secret.as_ref().map(ClusterSecret::bytes);
        let codec = Codec::new(cluster, secret);
        let codec = match &config.also_secret {
            None => codec,
            Some(AlsoSecret::None) => codec.taking(cluster, None),
            Some(AlsoSecret::Secret(also)) => codec.taking(cluster, Some(also.bytes())),
        };
        self.0.store(Arc::new(codec));
    }

    /// The codec of the cluster that the node belongs to now.
    pub fn codec(&self) -> Guard<Arc<Codec>> {
        self.0.load()
    }
}
