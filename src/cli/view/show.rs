//! Views for people: how they stand, and what a change would do.

use super::change::moved;
use crate::api::status::{MemberStatus, OfferState};
use crate::api::view::{
    ChangeState, Ending, LastChange, Phase, Plan, Strategy, ViewState, in_words,
};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use indicatif::{HumanBytes, HumanCount};

/// How views stand.
pub fn state(state: &ViewState) -> String {
    let view = &state.view;
    let nodes: usize = view.partitions.iter().map(|p| p.members.len()).sum();
    let headline = format!(
        "view {}: nodes {nodes}, partitions {}, K {}{}\n",
        view.number,
        view.partitions.len(),
        view.k,
        match view.strategy {
            Strategy::Full => " (full replication)",
            Strategy::Consistent => "",
        }
    );
    let mut partitions = table(&["PARTITION", "SLOTS", "NODES"]);
    for partition in &view.partitions {
        let members: Vec<String> = partition.members.iter().map(member).collect();
        partitions.add_row([
            partition.partition_id.to_string(),
            partition.slots.to_string(),
            members.join(", "),
        ]);
    }
    let mut parts = vec![headline, partitions.trim_fmt(), String::new()];
    match &state.change {
        Some(change) => parts.extend(running(change)),
        None => parts.push("change: none is running".to_owned()),
    }
    for cohort in &state.closing {
        parts.push(format!(
            "closing: partition {} of views {} to {}: {}",
            cohort.partition_id,
            cohort.since,
            cohort.until.map_or(cohort.since, |until| until - 1),
            cohort.waits_for
        ));
    }
    if !state.without_live_holder.is_empty() {
        parts.push(format!(
            "NO LIVE NODE HOLDS: {}",
            in_words(&state.without_live_holder)
        ));
    }
    parts.extend(state.offers.iter().map(offer));
    for (what, nodes) in [("behind", &state.behind), ("leaving", &state.leaving)] {
        if !nodes.is_empty() {
            parts.push(format!("{what}: {}", nodes.join(", ")));
        }
    }
    match &state.last {
        Some(last) => parts.push(ended(last)),
        None => parts.push("last change: none yet".to_owned()),
    }
    let council = &state.council;
    parts.push(format!(
        "council: {}; leader {}, term {}, votes {}; {} is {}",
        match council.has_quorum {
            true => "has a quorum",
            false => "has NO quorum: the view cannot change",
        },
        council.leader.as_deref().unwrap_or("none"),
        council.term,
        council.voters.join(", "),
        state.node,
        council.role,
    ));
    parts.join("\n")
}

/// How far the offer is of what a node had when it was given up.
pub fn offer(offer: &OfferState) -> String {
    let (node, dir) = (&offer.node, &offer.directory);
    let hands_off = "do not touch that directory before it is over";
    if let Some(why) = &offer.failed {
        return format!("OFFER FAILS: {node} cannot offer what is in {dir}: {why}; {hands_off}");
    }
    if let Some(why) = &offer.ended {
        return format!(
            "OFFER ENDED: {node} offers no more of what is in {dir}: {why}; {} of {} writes were taken, what else is there \
             nobody has; look at it with `causeway inspect`, and remove the directory when nobody needs it",
            HumanCount(offer.taken),
            HumanCount(offer.writes)
        );
    }
    let (done, all) = (offer.writes.saturating_sub(offer.left), offer.writes);
    format!(
        "offer: {node} offers what it had as a member that was given up, in {dir}: {} of {} writes, {} taken; {hands_off}",
        HumanCount(done),
        HumanCount(all),
        HumanCount(offer.taken)
    )
}

fn member(member: &MemberStatus) -> String {
    match (member.given_up, member.alive) {
        (true, _) => format!("{} (given up: remove it)", member.node),
        (false, true) => member.node.clone(),
        (false, false) => format!("{} (no answer)", member.node),
    }
}

/// The change that is under way.
fn running(change: &ChangeState) -> Vec<String> {
    let slots = match change.phase {
        Phase::MovingData => format!(
            "moving data, {} of {} slots, ",
            change.slots_here, change.slots
        ),
        Phase::Closing => "closing, ".to_owned(),
    };
    let given_up = match change.given_up {
        true => "; the node is given up: what only it has is lost",
        false => "",
    };
    let mut lines = vec![format!(
        "change: {} (view {}): {slots}{}{given_up}",
        change.text,
        change.view,
        moved(change)
    )];
    if !change.gaining.is_empty() {
        let mut nodes = table(&[
            "GAINS",
            "PARTITION",
            "SLOTS",
            "HERE",
            "KEYS",
            "BYTES",
            "STATE",
        ]);
        let number = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
        for node in &change.gaining {
            nodes.add_row([
                node.node.clone(),
                number(node.partition_id.map(u64::from)),
                node.slots.to_string(),
                number(node.slots_here.map(|n| n as u64)),
                number(node.keys),
                node.bytes
                    .map_or_else(|| "?".to_owned(), |n| HumanBytes(n).to_string()),
                node.state.clone(),
            ]);
        }
        lines.push(nodes.trim_fmt());
    }
    lines
}

/// How the last change ended.
fn ended(last: &LastChange) -> String {
    let end = match last.end {
        Ending::Cancelled => "cancelled",
        Ending::InForce => "in force",
        Ending::Done => "done",
    };
    let mut line = format!("last change: {} (view {}): {end}", last.text, last.view);
    if last.given_up {
        line += "; it was given up: what only it had is lost";
    }
    if !last.without.is_empty() {
        line += &format!("; not waited for: {}", last.without.join(", "));
    }
    line
}

/// The effect of a change, as text.
pub fn plan(plan: &Plan) -> String {
    let mut parts = vec![format!(
        "{}: view {} to view {}, partitions {}, K {}. Nothing was changed.",
        plan.text,
        plan.from_view,
        plan.view,
        plan.partitions.len(),
        plan.k
    )];
    if let Some(busy) = &plan.busy {
        parts.push(format!("another change has to end first: {busy}"));
    }
    if let Some(leaving) = &plan.leaving {
        parts.push(format!("leaves: {leaving}"));
    }
    if !plan.data_loss.is_empty() {
        parts.push(format!(
            "WOULD LOSE what no live node holds: {}. It is refused without --lose-data.",
            in_words(&plan.data_loss)
        ));
    }
    let mut partitions = table(&["PARTITION", "SLOTS", "NODES"]);
    for partition in &plan.partitions {
        partitions.add_row([
            partition.partition_id.to_string(),
            partition.slots.to_string(),
            partition.members.join(", "),
        ]);
    }
    parts.extend([String::new(), partitions.trim_fmt()]);
    let keys = |keys| HumanCount(keys).to_string();
    if plan.moves.is_empty() {
        parts.push("\nno slot goes to another partition".to_owned());
    } else {
        let mut moves = table(&["FROM", "TO", "SLOTS", "KEYS, ABOUT"]);
        for one in &plan.moves {
            moves.add_row([
                one.from.to_string(),
                one.to.to_string(),
                one.slots.to_string(),
                keys(one.keys),
            ]);
        }
        parts.extend([String::new(), moves.trim_fmt()]);
    }
    if plan.gaining.is_empty() {
        parts.push("no node has to copy anything".to_owned());
    } else {
        let mut gains = table(&["COPIES", "PARTITION", "SLOTS", "KEYS, ABOUT"]);
        for node in &plan.gaining {
            gains.add_row([
                node.node.clone(),
                node.partition_id.to_string(),
                node.slots.to_string(),
                keys(node.keys),
            ]);
        }
        parts.extend([String::new(), gains.trim_fmt()]);
    }
    parts.join("\n")
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table
}
