//! How far a member is on its way to holding all that it is to hold, and asking others for it.

use super::part::Membership;
use crate::node::wire::messages::{Progress, Request, Response};
use crate::protocol::ids::MemberId;
use crate::protocol::marks::Marks;
use crate::protocol::slots::{Slot, SlotSet};
use crate::protocol::views::CohortId;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Time for other members to say how far they are.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);
/// Time between questions to one other member after the other how many keys it has.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Asks one of the other members after the other how many keys it has, so that somebody knows when
/// it is dead.
pub async fn count(membership: Arc<Membership>) {
    let mut turn = 0;
    loop {
        tokio::time::sleep(COUNT_EVERY).await;
        let members = membership.knowledge().views().members();
        let others = members.into_keys().filter(|m| *m != membership.me());
        let others: Vec<_> = others.collect();
        turn = (turn + 1) % others.len().max(1);
        membership.ask_progress(others.get(turn).copied()).await;
    }
}

impl Membership {
    /// How far this member is.
    pub fn progress(&self) -> Progress {
        let counts = self.counts().all().into_iter();
        Progress {
            remembers: counts.filter(|(m, _)| !self.peers().is_here(*m)).collect(),
            offers: self.offers().all(),
            ..progress_of(&self.marks())
        }
    }

    /// Slots that this member is to hold and does not have in full.
    pub fn slots_to_come(&self) -> usize {
        missing(&self.marks()).len()
    }

    /// How far members are, of those that say so in time.
    pub async fn ask_progress(
        &self,
        members: impl IntoIterator<Item = MemberId>,
    ) -> BTreeMap<MemberId, Progress> {
        let asked = members.into_iter().map(|member| async move {
            if member == self.me() {
                return Some((member, self.progress()));
            }
            let answer = self
                .peers()
                .request(member, &Request::Progress, ANSWER_WITHIN);
            match answer.await {
                Ok(Response::Progress(progress)) => Some((member, progress)),
                _ => None,
            }
        });
        let said = join_all(asked).await.into_iter().flatten().collect();
        self.counts().note(&said);
        said
    }
}

/// The progress of the replica with these marks.
fn progress_of(marks: &Marks) -> Progress {
    let gauges = &marks.gauges;
    let view = marks.view();
    Progress {
        version: marks.views.version,
        missing: missing(marks).len(),
        keys: gauges.copied.keys,
        bytes: gauges.copied.bytes,
        from: gauges.copying.map(|c| c.from),
        lacking: lacking(marks),
        live_keys: gauges.live_keys,
        holds: marks.partition.map_or(0, |p| view.slots_of(p).len()),
        serves: serves(marks),
        remembers: Vec::new(),
        offers: Vec::new(),
    }
}

/// The slots that a member is to hold, in the next view or else the one in force, and does not have
/// in full.
fn missing(marks: &Marks) -> SlotSet {
    let views = &marks.views;
    let view = views.next.as_ref().unwrap_or(&views.view);
    let mut missing = SlotSet::default();
    let Some(partition) = view.partition_of(marks.own.member) else {
        return missing;
    };
    let wanted = view.slots_of(partition);
    let now = views.view.owners(&wanted);
    let now = now.into_iter().filter_map(|partition| {
        let since = views.view.since(partition)?;
        Some(CohortId { partition, since })
    });
    let closing = views.closing.iter().map(|c| c.id);
    let lacking = now
        .chain(closing)
        .filter(|id| marks.cohorts.get(id) != Some(&true));
    for id in lacking {
        let slots = views.cohort(id).map(|c| c.slots.common(&wanted));
        let copying = marks.gauges.copying.filter(|c| c.cohort == id);
        let upto = copying.map_or(Slot(0), |c| c.upto);
        let slots = slots.iter().flat_map(SlotSet::iter);
        missing.join(&slots.filter(|s| *s >= upto).collect());
    }
    missing
}

/// The cohort of its own partition, when the member has all of it and serves.
fn serves(marks: &Marks) -> Option<CohortId> {
    let cohort = marks.views.current(marks.own.member)?;
    let whole = marks.cohorts.get(&cohort) == Some(&true);
    (whole && marks.recovering.is_none()).then_some(cohort)
}

/// Writes that others are known to have and this replica lacks.
fn lacking(marks: &Marks) -> u64 {
    let known = |log| marks.peers.iter().filter_map(move |p| p.applied.get(log));
    let logs = marks.logs.iter();
    logs.map(|(log, mark)| {
        let most = known(log).max().copied().unwrap_or_default();
        most.saturating_sub(mark.applied)
    })
    .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::LogId;
    use crate::protocol::marks::{Copying, Gauges, Mark, PeerMark};
    use crate::protocol::placement::Change;
    use crate::protocol::slots::SLOTS;
    use crate::protocol::view::{PartitionId, View};
    use crate::protocol::views::Views;
    use std::net::SocketAddr;
    use std::sync::Arc;

    /// The marks of a member that is to hold half of the only partition's slots.
    fn joining() -> Marks {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut views = Views::first(View::first(&[at(1)], 1).unwrap());
        views.next = Some(views.view.changed(&Change::Add(at(2))).unwrap());
        Marks {
            views: Arc::new(views),
            own: LogId {
                member: MemberId(1),
                incarnation: 1,
            },
            partition: None,
            cohorts: BTreeMap::new(),
            recovering: None,
            logs: BTreeMap::new(),
            finished: Arc::default(),
            elsewhere: Arc::default(),
            peers: Vec::new(),
            gauges: Gauges::default(),
        }
    }

    #[test]
    fn slots_come_in_order_and_all_are_there_with_the_cohort() {
        let mut marks = joining();
        let half = usize::from(SLOTS) / 2;
        assert_eq!(missing(&marks).len(), half);
        let cohort = CohortId {
            partition: PartitionId(0),
            since: 1,
        };
        marks.cohorts.insert(cohort, false);
        assert_eq!(missing(&marks).len(), half);
        let upto = missing(&marks).iter().nth(100).unwrap();
        marks.gauges.copying = Some(Copying {
            from: MemberId(0),
            cohort,
            upto,
        });
        assert_eq!(missing(&marks).len(), half - 100);
        marks.cohorts.insert(cohort, true);
        assert!(missing(&marks).is_empty());
    }

    #[test]
    fn writes_that_others_have_are_counted_once() {
        let mut marks = joining();
        let log = LogId {
            member: MemberId(0),
            incarnation: 7,
        };
        let peer = |member, applied| PeerMark {
            member: MemberId(member),
            replica: false,
            alive: true,
            serving: true,
            applied: BTreeMap::from([(log, applied)]),
        };
        marks.peers = vec![peer(0, 10), peer(2, 8)];
        let applied = 4;
        let mark = Mark {
            applied,
            ..Mark::default()
        };
        marks.logs.insert(log, mark);
        assert_eq!(lacking(&marks), 6);
    }
}
