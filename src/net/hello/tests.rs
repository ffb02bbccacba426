//! The hello between two ends in memory, honest and not.

use super::identity::Lineage;
use super::layout::{FORMER, RESERVED};
use super::*;
use crate::protocol::cluster::{Cluster, ClusterId};
use tokio::io::{DuplexStream, duplex};

const LIMIT: Duration = Duration::from_secs(10);

fn identity(member: u16, secret: Option<&str>) -> NodeIdentity {
    NodeIdentity {
        member: MemberId(member),
        incarnation: 70 + u64::from(member),
        cluster: Belongs::default(),
        fingerprint: [9; 32],
        versions: (1, 3),
        secret: secret.map(|text| Secret::new(text.as_bytes())),
        also: None,
    }
}

type Outcome = Result<Greeted, HelloError>;

/// Member 1 dials member 2.
async fn meet(dialer: &NodeIdentity, listener: &NodeIdentity) -> (Outcome, Outcome) {
    meet_as(dialer, listener, Some(MemberId(2))).await
}

/// One dials another, which knows the members 1 and 2, and expects to meet a certain one there.
async fn meet_as(
    dialer: &NodeIdentity,
    listener: &NodeIdentity,
    expected: Option<MemberId>,
) -> (Outcome, Outcome) {
    let (mut a, mut b) = duplex(4096);
    tokio::join!(
        dial(&mut a, dialer, expected, LIMIT),
        answer(&mut b, listener, |member| member.0 <= 2, LIMIT, LIMIT),
    )
}

#[tokio::test]
async fn both_learn_who_the_other_is() {
    for secret in [None, Some("s3cret")] {
        let mut listener = identity(2, secret);
        listener.versions = (2, 9);
        let (a, b) = meet(&identity(1, secret), &listener).await;
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.member, a.incarnation, a.version), (MemberId(2), 72, 3));
        assert_eq!((b.member, b.incarnation, b.version), (MemberId(1), 71, 3));
    }
}

/// Checks that one side refuses with a reason and the other is told the same reason.
fn assert_refused((a, b): (Outcome, Outcome), by_listener: bool, reason: HelloRefusal) {
    let (refusing, refused) = if by_listener { (b, a) } else { (a, b) };
    assert!(
        matches!(refusing, Err(HelloError::Refusing(r)) if r == reason),
        "{refusing:?}"
    );
    assert!(
        matches!(refused, Err(HelloError::Refused(r)) if r == reason),
        "{refused:?}"
    );
}

#[tokio::test]
async fn every_refusal_reaches_the_other_side() {
    let me = || identity(1, Some("x"));
    let them = || identity(2, Some("x"));

    let mut old = me();
    old.versions = (0, 0);
    let reason = HelloRefusal::Version { min: 1, max: 3 };
    assert_refused(meet(&old, &them()).await, true, reason);

    let mut other = me();
    other.fingerprint = [8; 32];
    assert_refused(meet(&other, &them()).await, true, HelloRefusal::Fingerprint);

    let bare = identity(1, None);
    assert_refused(
        meet(&bare, &them()).await,
        true,
        HelloRefusal::SecretMissing,
    );
    let bare = identity(2, None);
    assert_refused(
        meet(&me(), &bare).await,
        true,
        HelloRefusal::SecretUnexpected,
    );

    let wrong = identity(2, Some("y"));
    assert_refused(meet(&me(), &wrong).await, true, HelloRefusal::BadSecret);

    let unknown = identity(3, Some("x"));
    assert_refused(meet(&unknown, &them()).await, true, HelloRefusal::NotMember);
    let third = identity(3, Some("x"));
    assert_refused(meet(&me(), &third).await, false, HelloRefusal::WrongMember);
}

/// A node while secrets are rotated: its own one, and what it takes beside that.
fn rotating(member: u16, own: Option<&str>, also: Option<Option<&str>>) -> NodeIdentity {
    NodeIdentity {
        also: also.map(|also| match also {
            Some(text) => Accepted::Secret(Secret::new(text.as_bytes())),
            None => Accepted::None,
        }),
        ..identity(member, own)
    }
}

#[tokio::test]
async fn nodes_talk_at_each_step_of_a_rotation() {
    let (none, one, two) = (None, Some("one"), Some("two"));
    // All nodes make a step before the first one makes the next.
    let steps = [
        (none, None),
        (none, Some(one)),
        (one, Some(none)),
        (one, None),
        (one, Some(two)),
        (two, Some(one)),
        (two, None),
    ];
    for (i, (a, also_a)) in steps.into_iter().enumerate() {
        for (j, (b, also_b)) in steps.into_iter().enumerate() {
            let met = meet(&rotating(1, a, also_a), &rotating(2, b, also_b)).await;
            let talk = met.0.is_ok() && met.1.is_ok();
            assert!(talk || i.abs_diff(j) > 1, "{i} with {j}: {met:?}");
            let apart = a != b && also_a != Some(b) && also_b != Some(a);
            assert!(!talk || !apart, "{i} with {j}");
        }
    }
    // Neither does a third one pass, nor none where none is taken.
    let both = rotating(2, two, Some(one));
    let met = meet(&identity(1, Some("three")), &both).await;
    assert_refused(met, true, HelloRefusal::BadSecret);
    assert_refused(
        meet(&identity(1, None), &both).await,
        true,
        HelloRefusal::SecretMissing,
    );
}

fn born(n: u8, former: Option<u8>) -> Belongs {
    Belongs::to(Some(&Cluster {
        id: ClusterId([n; 16]),
        key: crate::protocol::cluster::PayloadKey([n; 32]),
        former: former.map(|n| ClusterId([n; 16])),
    }))
}

#[tokio::test]
async fn nodes_of_two_clusters_do_not_talk_strangers_or_not() {
    for secret in [None, Some("x")] {
        let of = |mut identity: NodeIdentity, cluster: &Belongs| {
            identity.cluster = cluster.clone();
            identity
        };
        let (one, other) = (born(1, None), born(2, None));
        for dialer in [identity(1, secret), stranger(secret)] {
            for listener in [identity(2, secret), stranger(secret)] {
                let meet = async |a: &Belongs, b: &Belongs| {
                    meet_as(&of(dialer.clone(), a), &of(listener.clone(), b), None).await
                };
                assert_refused(meet(&one, &other).await, true, HelloRefusal::Foreign);
                // One that is not born yet, or has not heard of it, belongs to none.
                let (none, later, much_later) =
                    (Belongs::default(), born(2, Some(1)), born(3, Some(2)));
                for (a, b) in [(&one, &one), (&one, &none), (&none, &one), (&none, &none)] {
                    assert!(meet(a, b).await.0.is_ok());
                }
                for (a, b) in [(&one, &later), (&later, &one)] {
                    assert!(meet(a, b).await.0.is_ok(), "it goes on from the other");
                }
                assert_refused(meet(&one, &much_later).await, true, HelloRefusal::Foreign);
            }
        }
    }
    // It takes effect for the next connection.
    let (mut dialer, listener) = (identity(1, None), identity(2, None));
    dialer.cluster = born(1, None);
    assert!(meet(&dialer, &listener).await.0.is_ok());
    listener.cluster.set(&Cluster {
        id: ClusterId([2; 16]),
        key: crate::protocol::cluster::PayloadKey([2; 32]),
        former: None,
    });
    assert_refused(meet(&dialer, &listener).await, true, HelloRefusal::Foreign);
}

fn stranger(secret: Option<&str>) -> NodeIdentity {
    let secret = secret.map(|text| Secret::new(text.as_bytes()));
    NodeIdentity::stranger(99, (1, 3), secret)
}

/// A member of another cluster.
fn foreigner(member: u16, secret: Option<&str>) -> NodeIdentity {
    NodeIdentity {
        fingerprint: [8; 32],
        ..identity(member, secret)
    }
}

#[tokio::test]
async fn strangers_are_met_by_anybody_with_the_same_secret() {
    for secret in [None, Some("s3cret")] {
        let pairs = [
            // A number that the listener knows, and one that it does not.
            (identity(1, secret), stranger(secret)),
            (identity(7, secret), stranger(secret)),
            (foreigner(1, secret), stranger(secret)),
            (stranger(secret), identity(2, secret)),
            (stranger(secret), foreigner(2, secret)),
            (stranger(secret), stranger(secret)),
        ];
        for (dialer, listener) in pairs {
            for expected in [None, Some(listener.member)] {
                let (a, b) = meet_as(&dialer, &listener, expected).await;
                let (a, b) = (a.unwrap(), b.unwrap());
                let met = (listener.member, listener.incarnation, 3);
                assert_eq!((a.member, a.incarnation, a.version), met);
                let met = (dialer.member, dialer.incarnation, 3);
                assert_eq!((b.member, b.incarnation, b.version), met);
            }
        }
    }
}

#[tokio::test]
async fn members_of_two_clusters_refuse_each_other_whoever_is_expected() {
    let met = meet_as(&identity(1, None), &foreigner(2, None), None).await;
    assert_refused(met, true, HelloRefusal::Fingerprint);
    let met = meet_as(&identity(7, None), &identity(2, None), None).await;
    assert_refused(met, true, HelloRefusal::NotMember);
}

#[tokio::test]
async fn strangers_without_the_secret_are_refused() {
    let pairs = |dialer: Option<&'static str>, listener: Option<&'static str>| {
        [
            (identity(1, dialer), stranger(listener)),
            (stranger(dialer), identity(2, listener)),
            (stranger(dialer), stranger(listener)),
        ]
    };
    for (dialer, listener) in pairs(None, Some("x")) {
        let met = meet_as(&dialer, &listener, None).await;
        assert_refused(met, true, HelloRefusal::SecretMissing);
    }
    for (dialer, listener) in pairs(Some("x"), None) {
        let met = meet_as(&dialer, &listener, None).await;
        assert_refused(met, true, HelloRefusal::SecretUnexpected);
    }
    for (dialer, listener) in pairs(Some("y"), Some("x")) {
        let met = meet_as(&dialer, &listener, None).await;
        assert_refused(met, true, HelloRefusal::BadSecret);
    }
}

#[tokio::test]
async fn who_expects_a_certain_member_takes_no_stranger_nor_the_reverse() {
    let (member, strange) = (identity(1, None), stranger(None));
    for dialer in [&member, &strange] {
        let met = meet(dialer, &strange).await;
        assert_refused(met, false, HelloRefusal::WrongMember);
        let met = meet_as(dialer, &identity(2, None), Some(STRANGER)).await;
        assert_refused(met, false, HelloRefusal::WrongMember);
    }
    let met = meet_as(&strange, &identity(2, None), Some(MemberId(3))).await;
    assert_refused(met, false, HelloRefusal::WrongMember);
}

#[tokio::test]
async fn strangers_need_a_common_version_too() {
    let mut old = stranger(None);
    old.versions = (0, 0);
    let reason = HelloRefusal::Version { min: 1, max: 3 };
    assert_refused(meet(&old, &identity(2, None)).await, true, reason);
}

/// Plays the dialer by hand up to its proof; gives the listener's hello.
async fn dial_by_hand(stream: &mut DuplexStream, mine: &[u8; HELLO]) -> [u8; HELLO] {
    stream.write_all(mine).await.unwrap();
    read_verdict(stream).await.unwrap();
    read_array::<HELLO, _>(stream).await.unwrap()
}

/// Lets `forge` make the dialer's proof from the listener's hello. The listener proves itself
/// to a dialer that it takes, and to no other.
async fn dial_with(mine: [u8; HELLO], forge: impl FnOnce([u8; HELLO]) -> [u8; PROOF]) -> Outcome {
    let (mut a, mut b) = duplex(4096);
    let listener = identity(2, Some("x"));
    let (told, outcome) = tokio::join!(
        async {
            let theirs = dial_by_hand(&mut a, &mine).await;
            a.write_all(&verdict_bytes(None)).await.unwrap();
            a.write_all(&forge(theirs)).await.unwrap();
            let told = read_verdict(&mut a).await;
            match told {
                Ok(()) => {
                    read_array::<PROOF, _>(&mut a).await.unwrap();
                    a.write_all(&verdict_bytes(None)).await.unwrap();
                }
                Err(_) => assert_eq!(a.read(&mut [0; 1]).await.unwrap(), 0),
            }
            told
        },
        answer(&mut b, &listener, |_| true, LIMIT, LIMIT),
    );
    assert_eq!(told.is_ok(), outcome.is_ok());
    outcome
}

#[tokio::test]
async fn forged_and_replayed_proofs_are_refused() {
    let me = identity(1, Some("x"));
    let secret = me.secret.clone().unwrap();
    let mine = Hello::of(&me).to_bytes();
    let refused =
        |outcome: &Outcome| matches!(outcome, Err(HelloError::Refusing(HelloRefusal::BadSecret)));
    let proof = |role, theirs: &[u8; HELLO]| -> [u8; PROOF] {
        let mac = secret.mac(role, &mine, theirs);
        mac.finalize().into_bytes().into()
    };

    assert!(refused(&dial_with(mine, |_| [0; PROOF]).await));
    // What would be right for the other role.
    let outcome = dial_with(mine, |theirs| proof(ProofRole::Listener, &theirs));
    assert!(refused(&outcome.await));
    // A right proof with one bit changed.
    let outcome = dial_with(mine, |theirs| {
        let mut proof = proof(ProofRole::Dialer, &theirs);
        proof[31] ^= 1;
        proof
    });
    assert!(refused(&outcome.await));

    // A right proof is taken, but not a second time, with the same hello on a new connection.
    let mut recorded = [0; PROOF];
    let outcome = dial_with(mine, |theirs| {
        recorded = proof(ProofRole::Dialer, &theirs);
        recorded
    });
    assert!(outcome.await.is_ok());
    assert!(refused(&dial_with(mine, |_| recorded).await));
}

#[tokio::test]
async fn a_listener_shows_no_proof_to_a_dialer_that_has_shown_none() {
    let listener = identity(2, Some("x"));
    for mine in [identity(1, Some("guess")), stranger(Some("guess"))] {
        let (mut a, mut b) = duplex(4096);
        let dialer = async {
            dial_by_hand(&mut a, &Hello::of(&mine).to_bytes()).await;
            // Says nothing more, and gets nothing more before it is given up.
            let mut more = Vec::new();
            a.read_to_end(&mut more).await.unwrap();
            assert!(more.is_empty(), "{more:?}");
        };
        let limit = Duration::from_millis(50);
        let listener = async {
            let outcome = answer(&mut b, &listener, |_| true, limit, limit).await;
            drop(b);
            outcome
        };
        let ((), outcome) = tokio::join!(dialer, listener);
        assert!(matches!(outcome, Err(HelloError::TimedOut)));
    }
}

#[tokio::test]
async fn who_is_taken_without_a_secret_while_it_is_rotated_in_gets_no_proof() {
    let listener = rotating(2, Some("new"), Some(None));
    let (mut a, mut b) = duplex(4096);
    let dialer = async {
        dial_by_hand(&mut a, &Hello::of(&identity(1, None)).to_bytes()).await;
        a.write_all(&verdict_bytes(None)).await.unwrap();
        read_verdict(&mut a).await.unwrap();
        a.write_all(&verdict_bytes(None)).await.unwrap();
        let mut more = Vec::new();
        a.read_to_end(&mut more).await.unwrap();
        assert!(more.is_empty(), "{more:?}");
    };
    let listener = async {
        let outcome = answer(&mut b, &listener, |_| true, LIMIT, LIMIT).await;
        drop(b);
        outcome
    };
    let ((), outcome) = tokio::join!(dialer, listener);
    assert!(outcome.is_ok());
}

#[tokio::test]
async fn a_changed_hello_spoils_the_proof() {
    // Somebody in between raises the incarnation that the dialer gave.
    let me = identity(1, Some("x"));
    let secret = me.secret.clone().unwrap();
    let honest = Hello::of(&me);
    let mut changed = honest.clone();
    changed.incarnation += 1;
    let outcome = dial_with(changed.to_bytes(), |theirs| {
        let mac = secret.mac(ProofRole::Dialer, &honest.to_bytes(), &theirs);
        mac.finalize().into_bytes().into()
    });
    assert!(matches!(
        outcome.await,
        Err(HelloError::Refusing(HelloRefusal::BadSecret))
    ));
}

#[tokio::test]
async fn a_listener_without_the_secret_cannot_pass_for_a_member() {
    let me = identity(1, Some("x"));
    // A proof that it makes up, and the dialer's own sent back.
    for reflect in [false, true] {
        let (mut a, mut b) = duplex(4096);
        let (outcome, told) = tokio::join!(dial(&mut a, &me, Some(MemberId(2)), LIMIT), async {
            let _ = read_array::<HELLO, _>(&mut b).await.unwrap();
            b.write_all(&verdict_bytes(None)).await.unwrap();
            let fake = Hello::of(&identity(2, Some("guess"))).to_bytes();
            b.write_all(&fake).await.unwrap();
            read_verdict(&mut b).await.unwrap();
            let proof = read_array::<PROOF, _>(&mut b).await.unwrap();
            b.write_all(&verdict_bytes(None)).await.unwrap();
            let forged = if reflect { proof } else { [5; PROOF] };
            b.write_all(&forged).await.unwrap();
            read_verdict(&mut b).await
        });
        let reason = HelloRefusal::BadSecret;
        assert!(matches!(outcome, Err(HelloError::Refusing(r)) if r == reason));
        assert!(matches!(told, Err(HelloError::Refused(r)) if r == reason));
    }
}

#[tokio::test]
async fn foreign_bytes_and_silence_end_the_hello() {
    let me = identity(2, None);
    let (mut a, mut b) = duplex(4096);
    a.write_all(&[b'G'; HELLO]).await.unwrap();
    let outcome = answer(&mut b, &me, |_| true, LIMIT, LIMIT).await;
    assert!(matches!(outcome, Err(HelloError::Foreign)));

    let (_silent, mut b) = duplex(4096);
    let short = Duration::from_millis(20);
    for (first, whole) in [(LIMIT, short), (short, LIMIT)] {
        let outcome = answer(&mut b, &me, |_| true, first, whole).await;
        assert!(matches!(outcome, Err(HelloError::TimedOut)));
    }
    let outcome = dial(&mut b, &me, Some(MemberId(1)), short).await;
    assert!(matches!(outcome, Err(HelloError::TimedOut)));
}

#[test]
fn the_layout_is_frozen() {
    let hello = Hello {
        versions: (1, 2),
        cluster: Lineage {
            id: Some(ClusterId([7; 16])),
            former: [8; FORMER],
        },
        fingerprint: [3; FINGERPRINT],
        member: MemberId(4),
        incarnation: 5,
        nonce: [6; 32],
        secured: true,
    };
    let bytes = hello.to_bytes();
    assert_eq!(bytes[..12], *b"CAUSEWAY\x01\0\x02\0");
    assert_eq!(bytes[12..28], [7; 16]);
    assert_eq!(bytes[28..36], [8; 8]);
    assert_eq!(bytes[36..44], [3; 8]);
    assert_eq!(bytes[44..54], [4, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[54..86], [6; 32]);
    assert_eq!(bytes[86], 1);
    assert_eq!(bytes[87..], [0; RESERVED]);
    assert_eq!(Hello::from_bytes(&bytes), Some(hello));

    let bytes = Hello::of(&stranger(None)).to_bytes();
    assert_eq!(bytes[12..46], [[0; 32].as_slice(), &[0xff; 2]].concat());
}
