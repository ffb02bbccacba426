//! The hello: before any frame, both ends of a connection say who they are and, where a cluster
//! secret is set, prove that they know it.
//!
//! ```text
//! dialer    hello
//! listener  verdict, hello, proof     (nothing follows a verdict other than "go on")
//! dialer    verdict, proof
//! listener  verdict
//! ```
//!
//! A proof is HMAC-SHA256 under the secret over the sender's role and both hellos, and each hello
//! holds a fresh random nonce. So an old proof does not fit a new connection, and the proof of one
//! role does not pass for the other's. Who has a secret says so in its hello, and proves it; a
//! secret on one side only is refused. While secrets are rotated a node takes a second one of
//! others beside its own, or none ([`Accepted`]); its own proof is always under its own.
//!
//! A hello names the cluster that the sender belongs to, once that is born ([`Belongs`]). Nodes of
//! two clusters do not talk, strangers or not, unless one cluster goes on from the other.
//!
//! A node without a member number is a stranger: its hello gives the number [`STRANGER`] and a
//! fingerprint of zeros. Two members must agree on the fingerprint, and the listener must know the
//! dialler; a stranger on either side is exempt from both, for it is how nodes of a cluster and
//! nodes outside of it find each other. The secret is asked of strangers too. Who dials a certain
//! member takes nobody else, so no stranger either: a node that waits at a member's old address is
//! not taken for the member.
//!
//! The hello says who is there; it neither hides nor seals what follows. Whoever can change packets
//! in flight can take over a connection after its hello: such a network needs a tunnel.
//!
//! The layout is frozen: nodes of different versions must understand each other up to here.

use crate::protocol::cluster::{Cluster, ClusterId};
use crate::protocol::ids::MemberId;
use arc_swap::ArcSwap;
use bytes::{Buf, BufMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::{fmt, io, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of a hello.
pub const HELLO: usize = 8 + 2 + 2 + (16 + FORMER + FINGERPRINT) + 2 + 8 + 32 + 1 + RESERVED;
/// Bytes of a verdict.
pub const VERDICT: usize = 5;
/// Bytes of a proof.
pub const PROOF: usize = 32;
const MAGIC: [u8; 8] = *b"CAUSEWAY";
/// Bytes of a cluster's id that say which one the sender's goes on from, and bytes of the
/// fingerprint: enough to tell random ones apart.
const FORMER: usize = 8;
const FINGERPRINT: usize = 8;
/// Bytes at the end, zeros: the place for a node's own random id, which a later version may send.
/// Nobody reads them.
const RESERVED: usize = 16;

/// The number that a node gives in its hello when it has no member number. No member has it.
pub const STRANGER: MemberId = MemberId(u16::MAX);

/// The secret that the nodes of one cluster share.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The secret made from these bytes, of any number.
    pub fn new(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The MAC over a role and both hellos, still to be finished or compared.
    fn mac(&self, role: Role, dialer: &[u8; HELLO], listener: &[u8; HELLO]) -> Hmac<Sha256> {
        // A key shorter than a block is filled up with zeros by the definition of HMAC.
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

/// What a node takes of others beside its own secret, while the nodes go over from one to another.
#[derive(Debug, Clone)]
pub enum Accepted {
    Secret(Secret),
    /// That they have none.
    None,
}

/// The cluster that a node belongs to, as its hellos say: none before that is born, or that the
/// node has heard of it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Belongs(Arc<ArcSwap<Lineage>>);

/// A cluster, and the one that it goes on from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Lineage {
    id: Option<ClusterId>,
    former: [u8; FORMER],
}

impl Belongs {
    /// To this cluster, if there is one yet.
    pub fn to(cluster: Option<&Cluster>) -> Self {
        let belongs = Self::default();
        if let Some(cluster) = cluster {
            belongs.set(cluster);
        }
        belongs
    }

    /// To this cluster from now on. Connections that are open stay so.
    pub fn set(&self, cluster: &Cluster) {
        self.0.store(Arc::new(Lineage {
            id: Some(cluster.id),
            former: cluster.former.map(beginning).unwrap_or_default(),
        }));
    }
}

impl Lineage {
    /// Whether nodes of both may talk.
    fn is_kin(&self, other: &Self) -> bool {
        let (Some(own), Some(theirs)) = (self.id, other.id) else {
            return true;
        };
        own == theirs || self.former == beginning(theirs) || other.former == beginning(own)
    }
}

fn beginning(id: ClusterId) -> [u8; FORMER] {
    let mut bytes = [0; FORMER];
    bytes.copy_from_slice(&id.0[..FORMER]);
    bytes
}

/// Who a node is.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    pub member: MemberId,
    /// Of this start; the peers see it in `Peer`.
    pub incarnation: u64,
    pub cluster: Belongs,
    /// Of the first view: decides whether two nodes were started for the same cluster. Its
    /// beginning is compared.
    pub fingerprint: [u8; 32],
    /// The oldest and newest protocol version that this node speaks.
    pub versions: (u16, u16),
    /// What it proves to know.
    pub secret: Option<Secret>,
    /// What it takes beside that.
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
    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let also = match &self.also {
            Some(Accepted::Secret(secret)) => Some(secret),
            Some(Accepted::None) | None => None,
        };
        self.secret.iter().chain(also)
    }

    /// Whether others need none.
    fn takes_none(&self) -> bool {
        self.secret.is_none() || matches!(self.also, Some(Accepted::None))
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeted {
    /// `STRANGER` if it has no member number.
    pub member: MemberId,
    pub incarnation: u64,
    /// The newest protocol version that both speak.
    pub version: u16,
}

/// Why one end will not talk to the other, seen from the end that refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloRefusal {
    #[error("no common protocol version (the refusing side speaks {min} to {max})")]
    Version { min: u16, max: u16 },
    #[error(
        "the cluster fingerprints differ: not started with the same view and replication factor"
    )]
    Fingerprint,
    #[error("a cluster secret is set only on the refusing side")]
    SecretMissing,
    #[error("a cluster secret is set, but not on the refusing side")]
    SecretUnexpected,
    #[error("the cluster secrets differ")]
    BadSecret,
    #[error("the refused node is not a member")]
    NotMember,
    #[error("another member was expected at this address")]
    WrongMember,
    #[error(
        "the two belong to different clusters (a node that is to change its cluster needs an empty data directory)"
    )]
    Foreign,
    #[error("for a reason that this version does not know (code {0})")]
    Other(u8),
}

impl HelloRefusal {
    /// Whether the two nodes were started for different clusters, so that it ends only when
    /// somebody does something.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Version { .. }
            | Self::Fingerprint
            | Self::SecretMissing
            | Self::SecretUnexpected
            | Self::BadSecret
            | Self::Foreign => true,
            Self::NotMember | Self::WrongMember | Self::Other(_) => false,
        }
    }
}

/// Why a hello came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    #[error("the other side refused: {0}")]
    Refused(HelloRefusal),
    #[error("refused by this side: {0}")]
    Refusing(HelloRefusal),
    #[error("the other side does not speak this protocol")]
    Foreign,
    #[error("the hello took too long")]
    TimedOut,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// In which role a proof is given.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Role {
    Dialer = b'D',
    Listener = b'L',
}

/// The fields of a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hello {
    versions: (u16, u16),
    cluster: Lineage,
    /// The beginning of it.
    fingerprint: [u8; FINGERPRINT],
    member: MemberId,
    incarnation: u64,
    nonce: [u8; 32],
    secured: bool,
}

impl Hello {
    fn of(me: &NodeIdentity) -> Self {
        let mut fingerprint = [0; FINGERPRINT];
        fingerprint.copy_from_slice(&me.fingerprint[..FINGERPRINT]);
        Self {
            versions: me.versions,
            cluster: **me.cluster.0.load(),
            fingerprint,
            member: me.member,
            incarnation: me.incarnation,
            nonce: rand::random(),
            secured: me.secret.is_some(),
        }
    }

    fn to_bytes(&self) -> [u8; HELLO] {
        let mut bytes = [0; HELLO];
        let mut dst = &mut bytes[..];
        dst.put_slice(&MAGIC);
        dst.put_u16_le(self.versions.0);
        dst.put_u16_le(self.versions.1);
        dst.put_slice(&self.cluster.id.map(|id| id.0).unwrap_or_default());
        dst.put_slice(&self.cluster.former);
        dst.put_slice(&self.fingerprint);
        dst.put_u16_le(self.member.0);
        dst.put_u64_le(self.incarnation);
        dst.put_slice(&self.nonce);
        dst.put_u8(u8::from(self.secured));
        bytes
    }

    /// None if the bytes are not from a node of this kind.
    fn from_bytes(bytes: &[u8; HELLO]) -> Option<Self> {
        let mut src = bytes.strip_prefix(&MAGIC)?;
        let versions = (src.get_u16_le(), src.get_u16_le());
        let mut id = [0; 16];
        src.copy_to_slice(&mut id);
        let mut former = [0; FORMER];
        src.copy_to_slice(&mut former);
        let id = (id != [0; 16]).then_some(ClusterId(id));
        let mut fingerprint = [0; FINGERPRINT];
        src.copy_to_slice(&mut fingerprint);
        let member = MemberId(src.get_u16_le());
        let incarnation = src.get_u64_le();
        let mut nonce = [0; 32];
        src.copy_to_slice(&mut nonce);
        Some(Self {
            versions,
            cluster: Lineage { id, former },
            fingerprint,
            member,
            incarnation,
            nonce,
            secured: src.get_u8() & 1 == 1,
        })
    }
}

/// Greets as the side that dialled, and takes only `expected` at the other end; None takes anybody,
/// `STRANGER` only a node without a member number.
pub async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    me: &NodeIdentity,
    expected: Option<MemberId>,
    limit: Duration,
) -> Result<Greeted, HelloError> {
    let hello = async {
        let mine = Hello::of(me).to_bytes();
        stream.write_all(&mine).await?;
        read_verdict(stream).await?;
        let theirs_raw = read_array::<HELLO, S>(stream).await?;
        let theirs = Hello::from_bytes(&theirs_raw).ok_or(HelloError::Foreign)?;
        let proof = match theirs.secured {
            true => Some(read_array::<PROOF, S>(stream).await?),
            false => None,
        };
        let right_member = match expected.is_none_or(|member| member == theirs.member) {
            true => Ok(()),
            false => Err(HelloRefusal::WrongMember),
        };
        let checked = check(me, &theirs).and_then(|version| {
            right_member?;
            prove(me, &theirs, proof, Role::Listener, &mine, &theirs_raw)?;
            Ok(version)
        });
        let version = settle(stream, checked).await?;
        let mut last = [0; VERDICT + PROOF];
        let mut used = VERDICT;
        if let Some(secret) = &me.secret {
            let proof = secret.mac(Role::Dialer, &mine, &theirs_raw).finalize();
            last[VERDICT..].copy_from_slice(&proof.into_bytes());
            used += PROOF;
        }
        stream.write_all(&last[..used]).await?;
        read_verdict(stream).await?;
        Ok(greeted(&theirs, version))
    };
    tokio::time::timeout(limit, hello)
        .await
        .unwrap_or(Err(HelloError::TimedOut))
}

/// Greets as the side that was dialled, and takes strangers and whom `is_member` knows; a stranger
/// takes anybody.
pub async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    me: &NodeIdentity,
    is_member: impl FnOnce(MemberId) -> bool,
    limit: Duration,
) -> Result<Greeted, HelloError> {
    let hello = async {
        let theirs_raw = read_array::<HELLO, S>(stream).await?;
        // Whoever speaks something else gets no answer: it would not understand one.
        let theirs = Hello::from_bytes(&theirs_raw).ok_or(HelloError::Foreign)?;
        let checked = check(me, &theirs).and_then(|version| {
            match strange(me, &theirs) || is_member(theirs.member) {
                true => Ok(version),
                false => Err(HelloRefusal::NotMember),
            }
        });
        let version = settle(stream, checked).await?;
        let mine = Hello::of(me).to_bytes();
        let mut reply = Vec::with_capacity(VERDICT + HELLO + PROOF);
        reply.extend_from_slice(&verdict_bytes(None));
        reply.extend_from_slice(&mine);
        if let Some(secret) = &me.secret {
            let proof = secret.mac(Role::Listener, &theirs_raw, &mine).finalize();
            reply.extend_from_slice(&proof.into_bytes());
        }
        stream.write_all(&reply).await?;
        read_verdict(stream).await?;
        let proof = match theirs.secured {
            true => Some(read_array::<PROOF, S>(stream).await?),
            false => None,
        };
        let proven = prove(me, &theirs, proof, Role::Dialer, &theirs_raw, &mine);
        settle(stream, proven).await?;
        stream.write_all(&verdict_bytes(None)).await?;
        Ok(greeted(&theirs, version))
    };
    tokio::time::timeout(limit, hello)
        .await
        .unwrap_or(Err(HelloError::TimedOut))
}

fn greeted(theirs: &Hello, version: u16) -> Greeted {
    Greeted {
        member: theirs.member,
        incarnation: theirs.incarnation,
        version,
    }
}

/// Whether one of the two is a stranger, so that they need not be of one cluster.
fn strange(me: &NodeIdentity, theirs: &Hello) -> bool {
    me.is_stranger() || theirs.member == STRANGER
}

/// Compares what both say about the cluster; gives the version to speak.
fn check(me: &NodeIdentity, theirs: &Hello) -> Result<u16, HelloRefusal> {
    let (min, max) = me.versions;
    let version = max.min(theirs.versions.1);
    if version < min.max(theirs.versions.0) {
        return Err(HelloRefusal::Version { min, max });
    }
    match theirs.secured {
        false if !me.takes_none() => return Err(HelloRefusal::SecretMissing),
        true if me.secrets().next().is_none() => return Err(HelloRefusal::SecretUnexpected),
        _ => {}
    }
    if !me.cluster.0.load().is_kin(&theirs.cluster) {
        return Err(HelloRefusal::Foreign);
    }
    if !strange(me, theirs) && me.fingerprint[..FINGERPRINT] != theirs.fingerprint {
        return Err(HelloRefusal::Fingerprint);
    }
    Ok(version)
}

/// Checks the other side's proof, in constant time. Passes if it has no secret, which was looked at
/// before.
fn prove(
    me: &NodeIdentity,
    theirs: &Hello,
    proof: Option<[u8; PROOF]>,
    role: Role,
    dialer: &[u8; HELLO],
    listener: &[u8; HELLO],
) -> Result<(), HelloRefusal> {
    if !theirs.secured {
        return Ok(());
    }
    let proof = proof.ok_or(HelloRefusal::SecretMissing)?;
    let proves = |secret: &Secret| {
        let mac = secret.mac(role, dialer, listener);
        mac.verify_slice(&proof).is_ok()
    };
    // Each is tried: how long it takes does not say which one it was.
    let proven = me.secrets().filter(|secret| proves(secret)).count();
    if proven > 0 {
        Ok(())
    } else {
        Err(HelloRefusal::BadSecret)
    }
}

/// Hands on what was decided; a refusal is told to the other side first.
async fn settle<S: AsyncWrite + Unpin, T>(
    stream: &mut S,
    decided: Result<T, HelloRefusal>,
) -> Result<T, HelloError> {
    match decided {
        Ok(value) => Ok(value),
        Err(refusal) => {
            // That it cannot be told changes nothing: the refusal stands.
            let _ = stream.write_all(&verdict_bytes(Some(refusal))).await;
            let _ = stream.shutdown().await;
            Err(HelloError::Refusing(refusal))
        }
    }
}

fn verdict_bytes(refusal: Option<HelloRefusal>) -> [u8; VERDICT] {
    let (code, min, max) = match refusal {
        None => (0, 0, 0),
        Some(HelloRefusal::Version { min, max }) => (1, min, max),
        Some(HelloRefusal::Fingerprint) => (2, 0, 0),
        Some(HelloRefusal::SecretMissing) => (3, 0, 0),
        Some(HelloRefusal::SecretUnexpected) => (4, 0, 0),
        Some(HelloRefusal::BadSecret) => (5, 0, 0),
        Some(HelloRefusal::NotMember) => (6, 0, 0),
        Some(HelloRefusal::WrongMember) => (7, 0, 0),
        Some(HelloRefusal::Foreign) => (8, 0, 0),
        Some(HelloRefusal::Other(code)) => (code, 0, 0),
    };
    let mut bytes = [0; VERDICT];
    let mut dst = &mut bytes[..];
    dst.put_u8(code);
    dst.put_u16_le(min);
    dst.put_u16_le(max);
    bytes
}

/// Reads a verdict; a refusal is an error.
async fn read_verdict<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), HelloError> {
    let bytes = read_array::<VERDICT, S>(stream).await?;
    let mut src = &bytes[..];
    let (code, min, max) = (src.get_u8(), src.get_u16_le(), src.get_u16_le());
    Err(HelloError::Refused(match code {
        0 => return Ok(()),
        1 => HelloRefusal::Version { min, max },
        2 => HelloRefusal::Fingerprint,
        3 => HelloRefusal::SecretMissing,
        4 => HelloRefusal::SecretUnexpected,
        5 => HelloRefusal::BadSecret,
        6 => HelloRefusal::NotMember,
        7 => HelloRefusal::WrongMember,
        8 => HelloRefusal::Foreign,
        other => HelloRefusal::Other(other),
    }))
}

async fn read_array<const N: usize, S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
