//! Gaps in a log, which are closed in order.

use crate::cluster::Cluster;
use causeway::protocol::context::Context;

#[test]
fn a_gap_is_filled_with_newer_versions_and_never_skipped() {
    let mut c = Cluster::new(3, 3);
    let (a, b, none) = (c.key(0, 0), c.key(0, 1), Context::default());
    c.cut(0, 2);
    c.cut(1, 2);
    c.put(0, &a, Some("1"), &none);
    c.put(0, &b, Some("2"), &none);
    let newest = c.put(0, &a, Some("3"), &none);
    assert_eq!(c.marks(2).logs.values().map(|m| m.applied).max(), Some(0));
    // The writer is gone: its log comes from the other replica.
    c.stop(0);
    c.heal();
    c.run_ms(1_000);
    assert_eq!(c.value(2, &a, &newest).as_deref(), Some("3"));
    assert_eq!(c.value(2, &b, &newest).as_deref(), Some("2"));
}
