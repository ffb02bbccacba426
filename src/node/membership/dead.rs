//! Members that are dead, and what a change of the view would need of them.

use super::asked::{Asked, ChangeFailed, Silent, refused};
use super::liveness;
use super::part::Membership;
use crate::protocol::changes::ViewChanges;
use crate::protocol::ids::MemberId;
use crate::protocol::placement::Change;
use crate::protocol::policy::Patience;
use crate::protocol::toll::Needed;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Time between looks at whether a member has come back.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A member that comes and goes for longer is not called dead.
const SURE_WITHIN: Duration = Duration::from_secs(5);

impl Membership {
    /// The members to be given up before a change: all of the partition of the one that it removes,
    /// and of others that this changes, if none of them answers, as far as can be told `at_once`,
    /// or else for so long that they count as dead.
    ///
    /// # Errors
    /// When the change makes no sense, or would wait for members that are dead.
    pub async fn gives_up(
        &self,
        changes: &ViewChanges,
        (change, asked): (Change, Asked),
        at_once: bool,
    ) -> Result<BTreeSet<MemberId>, ChangeFailed> {
        // The change that runs has to end first, or the same is asked for again.
        if changes.running().is_some() {
            return Ok(BTreeSet::new());
        }
        let dead_after = Duration::from_micros(Patience::default().dead_us);
        let began = Instant::now();
        loop {
            let mut silent = self.silent(changes);
            let toll = changes.toll(&change, &silent);
            let toll = toll.map_err(|refusal| refused(refusal, asked))?;
            let concerned: BTreeSet<MemberId> = toll.members().collect();
            let dead = |m: &MemberId| self.peers().away(*m).is_some_and(|away| away > dead_after);
            if at_once || concerned.iter().all(dead) {
                for heard in liveness::heard_by_others(self.peers(), concerned).await {
                    silent.remove(&heard);
                }
                let toll = changes.toll(&change, &silent);
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
    fn silent(&self, changes: &ViewChanges) -> BTreeSet<MemberId> {
        let members = changes.views().view.members().map(|(member, _)| member);
        let silent = members.filter(|m| !self.peers().is_here(*m));
        silent.collect()
    }

    fn describe(&self, needed: &Needed) -> Silent {
        Silent {
            nodes: self.knowledge().names(&needed.members),
            partition_id: needed.partition.0,
            is_dead: needed.is_dead,
        }
    }
}
