//! Marks as readers see them.

use crate::cluster::Cluster;
use causeway::protocol::context::Context;
use causeway::protocol::op::Consistency;
use causeway::protocol::reads::{self, Lookup};
use causeway::protocol::record;

#[test]
fn a_write_is_not_shown_by_marks_from_before_its_log() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("1"), &none);
    c.run_ms(300);
    let before = c.marks(0);
    c.add();
    c.tell(0);
    // The new log's first write is durable here and nowhere else, and readers have not got newer
    // marks yet.
    c.cut(0, 1);
    let ticket = c.write(0, &key, Some("2"), &none);
    c.run_ms(2);
    let disk = &c.nodes[0].disk;
    assert_eq!(record::load(disk, &key).unwrap().unwrap().dot.seq, 1);
    let found = reads::lookup(disk, &before, &key, &none, Consistency::Causal);
    assert_eq!(found, Ok(Lookup::Hidden));
    c.run_ms(200);
    assert_eq!(c.written(ticket).map(|w| w.copies), Some(1));
}
