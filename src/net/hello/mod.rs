//! The hello: before any frame, both ends of a connection say who they are and, where a cluster
//! secret is set, prove that they know it.
//!
//! ```text
//! dialer    hello
//! listener  verdict, hello            (nothing follows a verdict other than "go on")
//! dialer    verdict, proof
//! listener  verdict, proof
//! dialer    verdict
//! ```
//!
//! A proof is HMAC-SHA256 under the secret over the sender's role and both hellos, and each hello
//! holds a fresh random nonce. So an old proof does not fit a new connection, and the proof of one
//! role does not pass for the other's. A node with a secret says so in its hello, and proves it. A
//! secret on one side only is refused. While secrets are rotated a node accepts of others a second
//! secret, or none, beside its own ([`Accepted`]); its own proof is always under its own secret.
//!
//! The dialler proves first, and the listener only to a dialler that has proven: a proof is a MAC
//! over known text, by which secrets can be guessed elsewhere, as fast as a computer can. Whoever
//! connects to a node gets none. But a dialler gives its proof to whoever listens at the address
//! that it dials. What that leaves: an attacker who has the address of a member, or has taken over
//! the network to it, gets a proof to guess by, and so does one who can have a node dial an address
//! of the attacker's choice (an operator's token does that, by adding it). So a secret has to be
//! one that cannot be guessed; short ones are stretched (`node::secrets`), which makes each guess
//! dear and no more.
//!
//! A hello names the sender's cluster, once that is born ([`Belongs`]). Nodes of
//! two clusters do not talk, strangers or not, unless one cluster goes on from the other.
//!
//! A node without a member number is a stranger: its hello gives the number [`STRANGER`] and a
//! fingerprint of zeros. Two members must agree on the fingerprint, and the listener must know the
//! dialler. With a stranger on either side neither is asked: that is how nodes of a cluster and
//! nodes outside of it find each other. Strangers have to prove the secret too. A node that dials a
//! certain member accepts nobody else, so no stranger either: a node that waits at a member's old
//! address is not taken for the member.
//!
//! The hello authenticates the two ends. It neither encrypts nor authenticates what follows: an
//! attacker who can change packets in flight can take over a connection after its hello. Such a
//! network needs a tunnel.

#[cfg(test)]
mod fuzz_tests;
mod identity;
mod layout;
mod refusal;
#[cfg(test)]
mod tests;

pub use identity::{Accepted, Belongs, NodeIdentity, STRANGER, Secret};
pub use layout::{HELLO, PROOF, VERDICT};
pub use refusal::{HelloError, HelloRefusal};

use std::{io, time::Duration};

use hmac::Mac;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::protocol::ids::MemberId;
use layout::{FINGERPRINT, Hello, ProofRole, refusal_in, verdict_bytes};

/// The node at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeted {
    /// `STRANGER` if it has no member number.
    pub member: MemberId,
    /// The number of the other end's start.
    pub incarnation: u64,
    /// The newest protocol version that both speak.
    pub version: u16,
}

/// Does the hello as the side that dialled, within `limit`. Accepts only `expected` at the other
/// end: `None` accepts any node, `STRANGER` only one without a member number.
///
/// # Errors
/// `Refused` or `Refusing` when one end does not accept the other, and as the connection fails.
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
        let right_member = match expected.is_none_or(|member| member == theirs.member) {
            true => Ok(()),
            false => Err(HelloRefusal::WrongMember),
        };
        let checked = check(me, &theirs).and_then(|version| right_member.map(|()| version));
        let version = settle(stream, checked).await?;
        tell_proof(stream, me, ProofRole::Dialer, &mine, &theirs_raw).await?;
        read_verdict(stream).await?;
        // Who proves nothing is proven nothing to.
        if theirs.secured && me.secret.is_some() {
            let proof = read_array::<PROOF, S>(stream).await?;
            let proven = prove(me, proof, ProofRole::Listener, &mine, &theirs_raw);
            settle(stream, proven).await?;
        }
        stream.write_all(&verdict_bytes(None)).await?;
        Ok(greeted(&theirs, version))
    };
    tokio::time::timeout(limit, hello)
        .await
        .unwrap_or(Err(HelloError::TimedOut))
}

/// Does the hello as the side that was dialled, within `limit`; the other side's first message has
/// to come within `first`. Accepts strangers and the members that `is_member` names. If this node
/// is a stranger itself it accepts any node.
///
/// # Errors
/// As [`dial`].
pub async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    me: &NodeIdentity,
    is_member: impl FnOnce(MemberId) -> bool,
    first: Duration,
    limit: Duration,
) -> Result<Greeted, HelloError> {
    let hello = async {
        let theirs_raw = tokio::time::timeout(first, read_array::<HELLO, S>(stream))
            .await
            .map_err(|_| HelloError::TimedOut)??;
        // A peer that speaks another protocol gets no answer: it would not understand one.
        let theirs = Hello::from_bytes(&theirs_raw).ok_or(HelloError::Foreign)?;
        let checked = check(me, &theirs).and_then(|version| {
            match strange(me, &theirs) || is_member(theirs.member) {
                true => Ok(version),
                false => Err(HelloRefusal::NotMember),
            }
        });
        let version = settle(stream, checked).await?;
        let mine = Hello::of(me).to_bytes();
        let mut reply = [0; VERDICT + HELLO];
        reply[..VERDICT].copy_from_slice(&verdict_bytes(None));
        reply[VERDICT..].copy_from_slice(&mine);
        stream.write_all(&reply).await?;
        read_verdict(stream).await?;
        if theirs.secured {
            let proof = read_array::<PROOF, S>(stream).await?;
            let proven = prove(me, proof, ProofRole::Dialer, &theirs_raw, &mine);
            settle(stream, proven).await?;
            tell_proof(stream, me, ProofRole::Listener, &theirs_raw, &mine).await?;
        } else {
            // `check` has decided that none is needed.
            stream.write_all(&verdict_bytes(None)).await?;
        }
        read_verdict(stream).await?;
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

/// Whether one of the two is a stranger: then fingerprint and membership are not asked.
fn strange(me: &NodeIdentity, theirs: &Hello) -> bool {
    me.is_stranger() || theirs.member == STRANGER
}

/// Compares versions, secrets, clusters and fingerprints. Returns the version to speak.
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
    if !me.cluster.lineage().is_kin(&theirs.cluster) {
        return Err(HelloRefusal::Foreign);
    }
    if !strange(me, theirs) && me.fingerprint[..FINGERPRINT] != theirs.fingerprint {
        return Err(HelloRefusal::Fingerprint);
    }
    Ok(version)
}

/// Sends "go on", and in the same write this node's proof, if it has a secret.
async fn tell_proof<S: AsyncWrite + Unpin>(
    stream: &mut S,
    me: &NodeIdentity,
    role: ProofRole,
    dialer: &[u8; HELLO],
    listener: &[u8; HELLO],
) -> io::Result<()> {
    let mut bytes = [0; VERDICT + PROOF];
    bytes[..VERDICT].copy_from_slice(&verdict_bytes(None));
    let mut used = VERDICT;
    if let Some(secret) = &me.secret {
        let proof = secret.mac(role, dialer, listener).finalize();
        bytes[VERDICT..].copy_from_slice(&proof.into_bytes());
        used += PROOF;
    }
    stream.write_all(&bytes[..used]).await
}

/// Checks the other side's proof, in constant time.
fn prove(
    me: &NodeIdentity,
    proof: [u8; PROOF],
    role: ProofRole,
    dialer: &[u8; HELLO],
    listener: &[u8; HELLO],
) -> Result<(), HelloRefusal> {
    let proves = |secret: &Secret| {
        let mac = secret.mac(role, dialer, listener);
        mac.verify_slice(&proof).is_ok()
    };
    // Tries every secret, so that the time taken does not tell which one it was.
    let proven = me.secrets().filter(|secret| proves(secret)).count();
    if proven > 0 {
        Ok(())
    } else {
        Err(HelloRefusal::BadSecret)
    }
}

/// Returns the decision. A refusal is first told to the other side.
async fn settle<S: AsyncWrite + Unpin, T>(
    stream: &mut S,
    decided: Result<T, HelloRefusal>,
) -> Result<T, HelloError> {
    match decided {
        Ok(value) => Ok(value),
        Err(refusal) => {
            // If telling fails the refusal stands all the same.
            let _ = stream.write_all(&verdict_bytes(Some(refusal))).await;
            let _ = stream.shutdown().await;
            Err(HelloError::Refusing(refusal))
        }
    }
}

/// Reads a verdict; a refusal is an error.
async fn read_verdict<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), HelloError> {
    let verdict = read_array(stream).await?;
    refusal_in(&verdict).map_or(Ok(()), |refusal| Err(HelloError::Refused(refusal)))
}

async fn read_array<const N: usize, S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
