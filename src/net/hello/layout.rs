//! The bytes of a hello and of a verdict. The layout is frozen: nodes of different versions must
//! understand each other up to here.

use bytes::{Buf, BufMut};

use super::identity::{Lineage, NodeIdentity};
use super::refusal::HelloRefusal;
use crate::protocol::cluster::ClusterId;
use crate::protocol::ids::MemberId;

/// Bytes of a hello.
pub const HELLO: usize = 8 + 2 + 2 + (16 + FORMER + FINGERPRINT) + 2 + 8 + 32 + 1 + RESERVED;
/// Bytes of a verdict.
pub const VERDICT: usize = 5;
/// Bytes of a proof.
pub const PROOF: usize = 32;
/// The first bytes of every hello.
const MAGIC: [u8; 8] = *b"CAUSEWAY";
/// Bytes of the id of the cluster that the sender's goes on from: enough to tell random ids apart.
pub const FORMER: usize = 8;
/// Bytes of the fingerprint: enough to tell random ones apart.
pub const FINGERPRINT: usize = 8;
/// Zeros at the end, which nobody reads: the place for a node's own random id, which a later
/// version may send.
pub const RESERVED: usize = 16;

/// The end of the connection that gives a proof. Part of what is proven.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum ProofRole {
    Dialer = b'D',
    Listener = b'L',
}

/// The fields of a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The oldest and newest protocol version that the sender speaks.
    pub versions: (u16, u16),
    pub cluster: Lineage,
    /// The first bytes of the fingerprint.
    pub fingerprint: [u8; FINGERPRINT],
    pub member: MemberId,
    pub incarnation: u64,
    /// Fresh random bytes, so that no proof fits a second connection.
    pub nonce: [u8; 32],
    /// The sender has a secret, and will prove it.
    pub secured: bool,
}

impl Hello {
    /// This node's hello, with a fresh nonce.
    pub fn of(me: &NodeIdentity) -> Self {
        let mut fingerprint = [0; FINGERPRINT];
        fingerprint.copy_from_slice(&me.fingerprint[..FINGERPRINT]);
        Self {
            versions: me.versions,
            cluster: me.cluster.lineage(),
            fingerprint,
            member: me.member,
            incarnation: me.incarnation,
            nonce: rand::random(),
            secured: me.secret.is_some(),
        }
    }

    /// The hello as it is sent.
    pub fn to_bytes(&self) -> [u8; HELLO] {
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

    /// Reads a hello. `None` if the bytes do not begin with [`MAGIC`].
    pub fn from_bytes(bytes: &[u8; HELLO]) -> Option<Self> {
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

/// The verdict that tells a refusal, or "go on" if there is none.
pub fn verdict_bytes(refusal: Option<HelloRefusal>) -> [u8; VERDICT] {
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

/// The refusal that a verdict tells, if it is one.
pub fn refusal_in(verdict: &[u8; VERDICT]) -> Option<HelloRefusal> {
    let mut src = &verdict[..];
    let (code, min, max) = (src.get_u8(), src.get_u16_le(), src.get_u16_le());
    Some(match code {
        0 => return None,
        1 => HelloRefusal::Version { min, max },
        2 => HelloRefusal::Fingerprint,
        3 => HelloRefusal::SecretMissing,
        4 => HelloRefusal::SecretUnexpected,
        5 => HelloRefusal::BadSecret,
        6 => HelloRefusal::NotMember,
        7 => HelloRefusal::WrongMember,
        8 => HelloRefusal::Foreign,
        other => HelloRefusal::Other(other),
    })
}
