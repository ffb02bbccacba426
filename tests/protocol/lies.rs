//! Bytes that no node can have made, from a node that is let in all the same: they are refused
//! where they are read, or do no harm to the replica that reads them.

use crate::cluster::Cluster;
use causeway::protocol::changes::ViewCommand;
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::message::Message;
use causeway::protocol::placement::Change;
use causeway::protocol::replica::Event;
use causeway::protocol::version::Key;
use causeway::protocol::views::Views;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

/// A message of each kind that there is, several of the frequent ones, as bytes.
static MESSAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut c = Cluster::stopped(3, 2);
    c.sent = Some(Vec::new());
    for node in 0..3 {
        c.start(node);
    }
    c.run_ms(200);
    let mut seen = Context::default();
    let keys: Vec<_> = (0..3).flat_map(|n| [c.key(0, n), c.key(1, n)]).collect();
    let mut put = |c: &mut Cluster, key: &Key, value: Option<&str>| {
        let partition = c.view().partition_of_key(key);
        let node = usize::from(c.view().replicas(partition)[0].0);
        seen = c.put(node, key, value, &seen);
    };
    for key in &keys {
        put(&mut c, key, Some("1"));
    }
    put(&mut c, &keys[3], None);
    // One that misses something pulls it; one that lost its disk copies.
    c.cut(0, 1);
    put(&mut c, &keys[0], Some("2"));
    c.run_ms(700);
    c.heal();
    c.run_ms(700);
    c.stop(1);
    c.nodes[1].disk = Default::default();
    c.start(1);
    c.run_ms(2_000);
    // Slots move while they are written to.
    let added = c.add();
    for key in &keys {
        put(&mut c, key, Some("3"));
    }
    assert!(c.views_settle());
    c.change(Change::Remove(MemberId(added as u16)));
    put(&mut c, &keys[0], Some("4"));
    assert!(c.views_settle());
    let mut kinds: BTreeSet<(u8, Vec<u8>)> = BTreeSet::new();
    for message in c.sent.take().unwrap() {
        let bytes = postcard::to_allocvec(&message).unwrap();
        let kind = bytes[0];
        if kinds.iter().filter(|(k, _)| *k == kind).count() < 12 {
            kinds.insert((kind, bytes));
        }
    }
    // Sent only where nodes know different views: made up.
    for message in [
        Message::Outdated { known: 9 },
        Message::Early(Vec::new()),
        Message::EarlyKept(Vec::new()),
    ] {
        let bytes = postcard::to_allocvec(&message).unwrap();
        kinds.insert((bytes[0], bytes));
    }
    let found: BTreeSet<u8> = kinds.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(found, (0..11).collect(), "one of each kind");
    kinds.into_iter().map(|(_, bytes)| bytes).collect()
});

/// Something done to bytes.
#[derive(Debug, Clone)]
enum Twist {
    /// The byte there is another one.
    Byte(usize, u8),
    /// The largest number is there, as it is encoded.
    Huge(usize),
    /// A byte is not there.
    Less(usize),
    /// A byte more is there.
    More(usize, u8),
    /// All after it is something else.
    Tail(usize, Vec<u8>),
}

fn any_twist() -> impl Strategy<Value = Twist> {
    let at = any::<prop::sample::Index>().prop_map(|index| index.index(4096));
    let small = prop_oneof![0u8..8, any::<u8>()];
    prop_oneof![
        4 => (at.clone(), small.clone()).prop_map(|(at, byte)| Twist::Byte(at, byte)),
        2 => at.clone().prop_map(Twist::Huge),
        1 => at.clone().prop_map(Twist::Less),
        1 => (at.clone(), small).prop_map(|(at, byte)| Twist::More(at, byte)),
        1 => (at, prop::collection::vec(any::<u8>(), 0..24)).prop_map(|(at, tail)| Twist::Tail(at, tail)),
    ]
}

fn twisted(bytes: &[u8], twists: &[Twist]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for twist in twists {
        let end = bytes.len();
        let place = |at: &usize| at % end.max(1);
        match twist {
            _ if bytes.is_empty() => {}
            Twist::Byte(at, byte) => bytes[place(at)] = *byte,
            Twist::Huge(at) => {
                let at = place(at);
                let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
                bytes.splice(at..=at, huge);
            }
            Twist::Less(at) => {
                bytes.remove(place(at));
            }
            Twist::More(at, byte) => bytes.insert(place(at), *byte),
            Twist::Tail(at, tail) => {
                bytes.truncate(place(at));
                bytes.extend_from_slice(tail);
            }
        }
    }
    bytes
}

/// Tells node 0 something, as if another one had said it.
fn tell(c: &mut Cluster, from: usize, message: Message) {
    let driver = c.nodes[from].driver.as_ref().unwrap();
    let event = Event::Message {
        from: MemberId(from as u16),
        incarnation: driver.log_id().incarnation,
        message,
    };
    c.step(0, event);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_twisted_message_is_refused_or_does_no_harm(
        lies in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec(any_twist(), 0..3), 1usize..3),
            1..8,
        ),
    ) {
        let mut c = Cluster::new(3, 2);
        let key = c.key(0, 0);
        c.put(0, &key, Some("1"), &Context::default());
        for (which, twists, from) in lies {
            let bytes = twisted(&MESSAGES[which.index(MESSAGES.len())], &twists);
            if let Ok(message) = postcard::from_bytes::<Message>(&bytes) {
                tell(&mut c, from, message);
                c.run_ms(5);
            }
        }
        c.run_ms(50);
    }

    #[test]
    fn any_bytes_are_refused_or_do_no_harm(
        kind in 0u8..12,
        rest in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..64),
    ) {
        let bytes = [vec![kind], rest].concat();
        if let Ok(message) = postcard::from_bytes::<Message>(&bytes) {
            let mut c = Cluster::new(3, 2);
            tell(&mut c, 1, message);
            c.run_ms(20);
        }
    }

    #[test]
    fn twisted_views_are_refused_or_do_no_harm(
        which in any::<prop::sample::Index>(),
        twists in prop::collection::vec(any_twist(), 1..4),
    ) {
        let mut c = Cluster::new(3, 2);
        let own = c.nodes[0].views.clone();
        let bytes = twisted(&VIEWS[which.index(VIEWS.len())], &twists);
        if let Ok(views) = postcard::from_bytes::<Views>(&bytes)
            && own.may_become(&views)
            && views.members().contains_key(&MemberId(0))
        {
            c.nodes[0].views = Arc::new(views.clone());
            c.nodes[0].driver.as_mut().unwrap().learn(Arc::new(views));
            c.run_ms(300);
        }
    }
}

/// Views in the course of changes, as bytes.
static VIEWS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut c = Cluster::new(3, 2);
    let mut found = Vec::new();
    let mut note = |c: &Cluster| found.push(postcard::to_allocvec(c.changes.views()).unwrap());
    c.add();
    note(&c);
    assert!(c.views_settle());
    note(&c);
    c.decide(ViewCommand::Change {
        change: Change::Remove(MemberId(1)),
        give_up: true,
        lose_data: false,
    });
    note(&c);
    c.views_settle();
    note(&c);
    c.change(Change::SetK(1));
    note(&c);
    found
});
