//! Seals: a log begins only where the earlier logs of its writer are.

use crate::cluster::Cluster;
use crate::index::two_of_three;
use causeway::protocol::context::Context;
use causeway::protocol::limits::Limits;

#[test]
fn a_context_stays_short_however_often_nodes_start_again() {
    let mut c = two_of_three(Limits::ORDINARY);
    let mut context = Context::default();
    for round in 0..40 {
        let (node, other) = (round % 2, 1 - round % 2);
        c.stop(node);
        c.start(node);
        c.run_ms(300);
        assert!(c.serves(node), "round {round}");
        let (key, value) = (c.key(0, round % 7), round.to_string());
        context = c.put(node, &key, Some(&value), &context);
        c.run_ms(150);
        context = c.get(other, &key, &context).unwrap().context;
        assert!(context.len() <= 3, "round {round}: {context:?}");
    }
    c.start(2);
    c.run_ms(2_000);
    let key = c.key(0, 39 % 7);
    assert_eq!(c.value(2, &key, &context).as_deref(), Some("39"));
    assert_eq!(c.marks(0).gauges.unstable, 0);
    assert!(c.get(0, &key, &context).unwrap().context.is_empty());
}

#[test]
pub fn a_log_does_not_begin_before_the_earlier_ones_of_its_writer_are_there() {
    let mut c = Cluster::new(3, 3);
    let (old, new) = (c.key(0, 0), c.key(0, 1));
    // Node 2 misses the end of node 0's log, and cannot ask for it.
    c.nodes[2].pulls_nothing = true;
    c.mute(0, 2);
    let first = c.put(0, &old, Some("1"), &Context::default());
    c.stop(0);
    c.heal();
    c.start(0);
    c.run_ms(300);
    let context = c.put(0, &new, Some("2"), &first);
    assert_eq!(context.len(), 1, "the new log's write tells of the old one");
    assert!(c.get(2, &old, &context).is_err());
    assert_eq!(c.value(1, &old, &context).as_deref(), Some("1"));
    c.nodes[2].pulls_nothing = false;
    c.run_ms(1_000);
    assert_eq!(c.value(2, &old, &context).as_deref(), Some("1"));
    assert_eq!(c.value(2, &new, &context).as_deref(), Some("2"));
}
