//! The order of versions of a key.

use causeway::protocol::clock::Timestamp;
use causeway::protocol::context::Context;
use causeway::protocol::ids::{Dot, LogId, MemberId};
use causeway::protocol::version::{Stamp, Version};
use proptest::prelude::*;

fn version(ts: u64, by: u16, log: u64, seq: u64) -> Version {
    Version {
        key: "k".into(),
        value: None,
        stamp: Stamp {
            ts: Timestamp(ts),
            by: MemberId(by),
        },
        dot: Dot {
            log: LogId {
                member: MemberId(by),
                incarnation: log,
            },
            seq,
        },
        wall_ms: 0,
        deps: Context::default(),
    }
}

fn any_version() -> impl Strategy<Value = Version> {
    (0u64..4, 0u16..3, 0u64..3, 0u64..3).prop_map(|(t, b, l, s)| version(t, b, l, s))
}

proptest! {
    #[test]
    fn the_order_of_versions_is_total_and_causal(
        a in any_version(), b in any_version(), c in any_version()
    ) {
        prop_assert_eq!(a.beats(&b) || b.beats(&a), a.order() != b.order());
        prop_assert!(!(a.beats(&b) && b.beats(&a)));
        if a.beats(&b) && b.beats(&c) {
            prop_assert!(a.beats(&c));
        }
        if a.stamp.ts > b.stamp.ts {
            prop_assert!(a.beats(&b), "what was seen before loses");
        }
    }
}
