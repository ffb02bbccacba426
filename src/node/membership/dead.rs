//! Members that are dead, and what a change of the view would need of them.

use crate::node::member::Member;
use crate::node::membership::absent;
use crate::node::membership::change::{Asked, ChangeFailed, refused};
use crate::protocol::council::Council;
use crate::protocol::ids::MemberId;
use crate::protocol::placement::Change;
use crate::protocol::policy::Patience;
use crate::protocol::toll::Needed;
use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Time between looks at whether a member has come back.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A member that comes and goes for longer is not called dead.
const SURE_WITHIN: Duration = Duration::from_secs(5);

/// Nodes that do not answer, and that a change of the view would wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    pub nodes: Vec<String>,
    pub partition_id: u32,
    /// They are all of the partition, which is in the view already.
    pub is_dead: bool,
}

impl Member {
    /// The members to be given up before a change: all of the partition of the one that it removes, and of others that
    /// this changes, if none of them answers, as far as can be told `at_once`, or else for so long that they
    /// count as dead.
    ///
    /// # Errors
    /// When the change makes no sense, or would wait for members that are dead.
    pub(in crate::node) async fn gives_up(
        &self,
        council: &Council,
        (change, asked): (Change, Asked),
        at_once: bool,
    ) -> Result<BTreeSet<MemberId>, ChangeFailed> {
        // The change that runs has to end first, or the same is asked for again.
        if council.running().is_some() {
            return Ok(BTreeSet::new());
        }
        let dead_after = Duration::from_micros(Patience::default().dead_us);
        let began = Instant::now();
        loop {
            let mut silent = self.silent(council);
            let toll = council.toll(&change, &silent);
            let toll = toll.map_err(|refusal| refused(refusal, asked))?;
            let concerned: BTreeSet<MemberId> = toll.members().collect();
            let dead = |m: &MemberId| self.presence.away(*m).is_some_and(|away| away > dead_after);
            if at_once || concerned.iter().all(dead) {
                if let Some(links) = self.links.get() {
                    for heard in absent::heard_by_others(links, concerned).await {
                        silent.remove(&heard);
                    }
                }
                let toll = council.toll(&change, &silent);
                let toll = toll.map_err(|refusal| refused(refusal, asked))?;
                if toll.needs.is_empty() {
                    return Ok(toll.gives_up);
                }
                let needs = toll.needs.iter().map(|needed| self.describe(needed));
                return Err(ChangeFailed::NeedsDead(needs.collect()));
            }
            if began.elapsed() > SURE_WITHIN {
                return Ok(BTreeSet::new());
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The members of the view in force that this node does not hear.
    fn silent(&self, council: &Council) -> BTreeSet<MemberId> {
        let members = council.views().view.members().map(|(member, _)| member);
        let silent = members.filter(|m| *m != self.me && !self.presence.is_up(*m));
        silent.collect()
    }

    fn describe(&self, needed: &Needed) -> Silent {
        Silent {
            nodes: self.names(&needed.members),
            partition_id: needed.partition.0,
            is_dead: needed.is_dead,
        }
    }
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, partition) = (self.nodes.join(", "), self.partition_id);
        match self.is_dead {
            true => write!(f, "{nodes}, all that partition {partition} has"),
            false => write!(f, "{nodes}, all that partition {partition} would have"),
        }
    }
}

/// All of them in a sentence.
pub(in crate::node) fn in_words(silent: &[Silent]) -> String {
    let each: Vec<String> = silent.iter().map(Silent::to_string).collect();
    each.join("; ")
}
