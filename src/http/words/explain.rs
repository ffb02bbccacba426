//! A context in words.

use super::name;
use crate::api::explain::{EntryState, Explained};
use crate::node::Member;
use crate::protocol::context::Context;
use crate::protocol::ids::{self, LogId};
use crate::protocol::marks::Marks;

/// Says of each entry of a context what it stands for and which nodes have it.
pub fn explain(member: &Member, context: &Context) -> Vec<Explained> {
    let marks = member.marks();
    context
        .iter()
        .map(|(log, seq)| entry(member, &marks, log, seq))
        .collect()
}

fn entry(member: &Member, marks: &Marks, log: LogId, seq: u64) -> Explained {
    let writer = name(member, log.member);
    let mut holders: Vec<String> = marks
        .peers
        .iter()
        .filter(|p| p.applied.get(&log).is_some_and(|a| *a >= seq))
        .map(|p| name(member, p.member))
        .collect();
    let here = marks.logs.get(&log).is_some_and(|m| m.applied >= seq);
    if here {
        holders.insert(0, member.config().address.to_string());
    }
    let first = format!("the first {seq} writes that {writer} took since its start");
    let first = format!("{first} {:x}", ids::start_of(log.incarnation));
    let partition = marks.partition_of(log);
    let (state, text) = if marks.is_finished(log) {
        let text = "that log is closed and was complete at every replica";
        (EntryState::Finished, text.to_owned())
    } else if marks.is_stable(log, seq) {
        let text = "every replica of the partition has them, no read waits for them";
        (EntryState::Stable, text.to_owned())
    } else if here {
        let text = "they are here, but not known to be at every replica";
        (EntryState::Here, text.to_owned())
    } else if marks.is_tracked(log) {
        let have = marks.logs.get(&log).map_or(0, |m| m.applied);
        let text = format!(
            "here are only the first {have}: a read of this partition has to wait or go to {}",
            if holders.is_empty() {
                writer.clone()
            } else {
                holders.join(" or ")
            }
        );
        (EntryState::Missing, text)
    } else {
        let text = "they belong to another partition: ask one of its nodes who has them";
        (EntryState::Elsewhere, text.to_owned())
    };
    Explained {
        node: writer,
        member: log.member.0,
        incarnation: log.incarnation,
        seq,
        partition_id: partition.map(|p| p.0),
        state,
        holders,
        text: format!("{first}: {text}"),
    }
}
