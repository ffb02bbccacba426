//! Hellos, verdicts and proofs of any bytes: what is read is sent as what is read the same again,
//! and nobody gets in with them.

use super::identity::Lineage;
use super::layout::FORMER;
use super::*;
use crate::fuzz::{bounded, changed};
use crate::protocol::cluster::ClusterId;
use proptest::array::{uniform5, uniform32};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::duplex;

/// The first bytes of every hello.
const MAGIC: [u8; 8] = *b"CAUSEWAY";
/// Only a hello that hangs takes longer: all that comes is there.
const LIMIT: Duration = Duration::from_secs(60);

fn hellos() -> impl Strategy<Value = Hello> {
    let cluster = (any::<[u8; 16]>(), any::<[u8; FORMER]>(), any::<bool>());
    let sender = (any::<u16>(), any::<u64>(), any::<[u8; FINGERPRINT]>());
    let rest = (any::<(u16, u16)>(), uniform32(any::<u8>()), any::<bool>());
    (cluster, sender, rest).prop_map(|((id, former, born), sender, (versions, nonce, secured))| {
        let (member, incarnation, fingerprint) = sender;
        Hello {
            versions,
            cluster: Lineage {
                // Zeros stand for none.
                id: (born && id != [0; 16]).then_some(ClusterId(id)),
                former,
            },
            fingerprint,
            member: MemberId(member),
            incarnation,
            nonce,
            secured,
        }
    })
}

/// The bytes, cut or filled up to the length of a hello, as a connection is read.
fn taken_or_refused(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut whole = [0; HELLO];
    let len = bytes.len().min(HELLO);
    whole[..len].copy_from_slice(&bytes[..len]);
    match bounded(HELLO, || Hello::from_bytes(&whole)) {
        None => prop_assert!(!whole.starts_with(&MAGIC)),
        Some(hello) => prop_assert_eq!(Hello::from_bytes(&hello.to_bytes()), Some(hello)),
    }
    Ok(())
}

fn identity(secret: Option<Secret>) -> NodeIdentity {
    NodeIdentity {
        member: MemberId(2),
        incarnation: 72,
        cluster: Belongs::default(),
        fingerprint: [9; 32],
        versions: (1, 3),
        secret,
        also: None,
    }
}

/// How both sides of a hello end when these bytes come from the other one, and nothing after them.
fn outcomes(me: &NodeIdentity, bytes: &[u8]) -> [Result<Greeted, HelloError>; 2] {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    [false, true].map(|dials| {
        runtime.block_on(async {
            let (mut near, mut far) = duplex(4096);
            far.write_all(bytes).await.unwrap();
            far.shutdown().await.unwrap();
            match dials {
                true => dial(&mut near, me, None, LIMIT).await,
                false => answer(&mut near, me, |_| true, LIMIT, LIMIT).await,
            }
        })
    })
}

/// What one side says in a whole hello, with a proof that is none.
fn dialogues() -> impl Strategy<Value = Vec<u8>> {
    let said = (
        any::<bool>(),
        hellos(),
        uniform32(any::<u8>()),
        any::<bool>(),
    );
    said.prop_map(|(dials, mut hello, proof, kin)| {
        if kin {
            (hello.versions, hello.fingerprint) = ((1, 3), [9; FINGERPRINT]);
            hello.cluster = Lineage::default();
        }
        let go_on = &verdict_bytes(None)[..];
        let hello = &hello.to_bytes()[..];
        match dials {
            true => [hello, go_on, &proof, go_on].concat(),
            false => [go_on, hello, go_on, &proof].concat(),
        }
    })
}

proptest! {
    #[test]
    fn nobody_gets_in_without_the_secret(bytes in prop_oneof![
        dialogues(),
        changed(dialogues()),
        vec(any::<u8>(), 0..300),
    ]) {
        let secret = Some(Secret::new(b"secret"));
        for outcome in outcomes(&identity(secret), &bytes) {
            prop_assert!(!matches!(outcome, Ok(_) | Err(HelloError::TimedOut)), "{outcome:?}");
        }
        // Without one whoever says the right things gets in.
        for outcome in outcomes(&identity(None), &bytes) {
            prop_assert!(!matches!(outcome, Err(HelloError::TimedOut)), "{outcome:?}");
        }
    }

    #[test]
    fn a_hello_comes_back_as_it_was_sent(hello in hellos()) {
        prop_assert_eq!(Hello::from_bytes(&hello.to_bytes()), Some(hello));
    }

    #[test]
    fn changed_hellos_are_taken_or_refused(bytes in changed(hellos().prop_map(|hello| hello.to_bytes().to_vec()))) {
        taken_or_refused(&bytes)?;
    }

    #[test]
    fn any_hello_is_taken_or_refused(rest in vec(any::<u8>(), 0..HELLO)) {
        taken_or_refused(&rest)?;
        taken_or_refused(&[&MAGIC, &rest[..]].concat())?;
    }

    #[test]
    fn any_verdict_is_taken_or_refused(bytes in uniform5(any::<u8>())) {
        let refusal = refusal_in(&bytes);
        prop_assert_eq!(refusal_in(&verdict_bytes(refusal)), refusal);
        prop_assert_eq!(refusal.is_none(), bytes[0] == 0);
    }
}
