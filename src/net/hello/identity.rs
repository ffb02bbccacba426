//! A node's identity in hellos: member, incarnation, cluster, secrets.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::layout::{FORMER, HELLO, ProofRole};
use crate::protocol::cluster::{Cluster, ClusterId};
use crate::protocol::ids::MemberId;

/// The number that a node gives in its hello when it has no member number. No member has it.
pub const STRANGER: MemberId = MemberId(u16::MAX);

/// The secret that the nodes of one cluster share.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The secret made from these bytes, however many.
    pub fn new(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The MAC over a role and both hellos, still to be finished or compared.
    pub fn mac(
        &self,
        role: ProofRole,
        dialer: &[u8; HELLO],
        listener: &[u8; HELLO],
    ) -> Hmac<Sha256> {
        // HMAC is defined so: a key shorter than a block is filled up with zeros.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(b"causeway hello");
        mac.update(&[role as u8]);
        mac.update(dialer);
        mac.update(listener);
        mac
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A second secret, or none, that a node accepts of others while secrets are rotated.
#[derive(Debug, Clone)]
pub enum Accepted {
    /// A second secret.
    Secret(Secret),
    /// No secret at all.
    None,
}

/// The cluster that a node belongs to, as its hellos say. None before the cluster is born, and
/// before the node has heard of it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Belongs(Arc<ArcSwap<Lineage>>);

/// A cluster, and the one that it goes on from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lineage {
    /// `None` as long as the cluster is not born.
    pub id: Option<ClusterId>,
    /// The first bytes of the id of the cluster that it goes on from; zeros when there is none.
    pub former: [u8; FORMER],
}

impl Belongs {
    /// Belongs to `cluster`, if there is one yet.
    pub fn to(cluster: Option<&Cluster>) -> Self {
        let belongs = Self::default();
        if let Some(cluster) = cluster {
            belongs.set(cluster);
        }
        belongs
    }

    /// Belongs to `cluster` from now on. Open connections stay open.
    pub fn set(&self, cluster: &Cluster) {
        self.0.store(Arc::new(Lineage {
            id: Some(cluster.id),
            former: cluster.former.map(beginning).unwrap_or_default(),
        }));
    }

    /// The cluster as of now.
    pub fn lineage(&self) -> Lineage {
        **self.0.load()
    }
}

impl Lineage {
    /// Whether nodes of both clusters may talk: one is not born yet, they are the same, or one goes
    /// on from the other.
    pub fn is_kin(&self, other: &Self) -> bool {
        let (Some(own), Some(theirs)) = (self.id, other.id) else {
            return true;
        };
        own == theirs || self.former == beginning(theirs) || other.former == beginning(own)
    }
}

/// The first bytes of a cluster's id.
fn beginning(id: ClusterId) -> [u8; FORMER] {
    let mut bytes = [0; FORMER];
    bytes.copy_from_slice(&id.0[..FORMER]);
    bytes
}

/// A node's identity, and the secrets that it asks of others.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    /// `STRANGER` when the node has no member number.
    pub member: MemberId,
    /// The number of this start; peers see it in [`PeerId`](crate::net::PeerId).
    pub incarnation: u64,
    /// The cluster, read anew for each hello.
    pub cluster: Belongs,
    /// A digest of the first view: tells whether two nodes were started for the same cluster. Only
    /// its first bytes are compared.
    pub fingerprint: [u8; 32],
    /// The oldest and newest protocol version that this node speaks.
    pub versions: (u16, u16),
    /// The secret that this node proves to know.
    pub secret: Option<Secret>,
    /// Accepted of others beside this node's own secret.
    pub also: Option<Accepted>,
}

impl NodeIdentity {
    /// A node without a member number, of no cluster yet.
    pub fn stranger(incarnation: u64, versions: (u16, u16), secret: Option<Secret>) -> Self {
        Self {
            member: STRANGER,
            incarnation,
            cluster: Belongs::default(),
            fingerprint: [0; 32],
            versions,
            secret,
            also: None,
        }
    }

    /// Whether this node has no member number.
    pub fn is_stranger(&self) -> bool {
        self.member == STRANGER
    }

    /// The secrets that others may prove to know.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let also = match &self.also {
            Some(Accepted::Secret(secret)) => Some(secret),
            Some(Accepted::None) | None => None,
        };
        self.secret.iter().chain(also)
    }

    /// Whether others may have no secret.
    pub fn takes_none(&self) -> bool {
        self.secret.is_none() || matches!(self.also, Some(Accepted::None))
    }
}
