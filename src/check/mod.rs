//! Is a history causally consistent?
//!
//! Checked is causal convergence (CCv): there is one order of all writes that agrees with
//! causality, and each read returns, of the writes of its key in its past, the last one in that
//! order. The past of an operation is what its session did before, what that had read, and so on.
//! The session guarantees (read your writes, monotonic reads, monotonic writes, writes follow
//! reads) follow from it; a violation says which one is broken. `spec/histories.md` has the rules.
//!
//! Each put writes a value of its own, so reads tell what they have read, and a history is
//! consistent if and only if it has none of five bad patterns ([`Pattern`]): A. Bouajjani, C. Enea,
//! R. Guerraoui, J. Hamza, "On verifying causal consistency", POPL 2017. They are looked for as in
//! L. Møldrup, A. Pavlogiannis, "AWDIT: an optimal weak database isolation tester", PLDI 2025: with
//! vector clocks, and for each read only the latest write of each session that wrote the key. The
//! work is operations × sessions; the memory is not, for the sessions are taken in blocks.
//!
//! - `input`: reading, and what is refused. `graph`: sessions and reads as one graph.
//! - `past`: vector clocks, with `places` of writes. `conflict`: the order of writes. `missing`:
//!   reads that found nothing.
//! - `search`, `explain`, `violation`: the shortest contradiction, in words.
//!
//! `lists` is about other histories: those of lists that claim to be linearizable.
//!
//! What is reported is a violation for certain. What may be missed has to do with reads that found
//! nothing: deletes look all the same, and where more than one explains a read, the read is left
//! out. [`Summary::undecided`] counts these; when it is 0, nothing was missed.

mod conflict;
mod explain;
mod graph;
pub mod history;
mod input;
mod intern;
mod lists;
mod missing;
mod past;
mod places;
mod search;
mod summary;
mod violation;

pub use input::{History, Invalid, Unreadable};
pub use lists::{ListHistory, ListsSummary, ListsViolation};
pub use summary::Summary;
pub use violation::{Guarantee, Pattern, Violation};

use graph::Graph;
use past::Past;

/// How often reads that found nothing are looked at again because others got a known source.
const ROUNDS: u32 = 4;

impl History {
    /// The same history gives the same answer, to the letter.
    pub fn check(&self) -> Result<Summary, Violation> {
        let mut graph = Graph::new(self);
        let reads = graph.add_reads();
        reads.map_err(|found| explain::thin_air(&graph, &found))?;
        let mut round = 1;
        let (mut conflicts, undecided) = loop {
            let order = graph.order(&[]);
            let order = order.map_err(|knot| explain::cyclic_order(&graph, &knot))?;
            let mut past = Past::new(&graph, order);
            let findings = missing::find(&graph, &mut past);
            if !findings.unexplained.is_empty() {
                return Err(explain::unexplained(&graph, &findings.unexplained));
            }
            let again = !findings.inferred.is_empty() && round < ROUNDS;
            for &(read, delete) in &findings.settled {
                graph.source[read as usize] = delete;
            }
            if !again {
                graph.link();
                let left = findings.inferred.len() as u64;
                break (findings.conflicts, findings.undecided + left);
            }
            for &(read, delete) in &findings.inferred {
                graph.source[read as usize] = delete;
            }
            graph.link();
            round += 1;
        };
        let order = graph.order(&[]);
        let order = order.map_err(|knot| explain::cyclic_order(&graph, &knot))?;
        let mut past = Past::new(&graph, order);
        match conflicts.check(&graph, &mut past) {
            Ok(()) => Ok(Summary::new(self, undecided)),
            Err(knot) => Err(explain::conflicts(&graph, &mut past, &conflicts, &knot)),
        }
    }
}
