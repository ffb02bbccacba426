//! Changes of the view that an operator asks for, from the question to the view in force with its
//! data in place.

use super::asked::{Asked, ChangeFailed, Changed, refused};
use super::follow;
use super::part::Membership;
use super::state_machine::{Command, Outcome};
use crate::net;
use crate::node::wire::messages::Request;
use crate::protocol::changes::{self, End, ViewChanges};
use crate::protocol::ids::MemberId;
use crate::protocol::placement::Change;
use crate::protocol::view::View;
use crate::protocol::views::Views;
use crate::raft::missing_without;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request for a change is answered after this long, whether everything is in place or not.
const ANSWER_AFTER: Duration = Duration::from_secs(10);
/// Time between looks at whether everybody has settled.
const SETTLE_LOOK: Duration = Duration::from_millis(20);
/// A node that has not answered for this long is not waited for.
const SETTLE_SILENCE: Duration = Duration::from_millis(1_500);
/// The nodes of a cluster agree on their first view within this time, if enough of them are up.
const FORMED_WITHIN: Duration = Duration::from_secs(4);
/// A node that is to be added has to answer within this time.
const PROBE: Duration = Duration::from_secs(2);
const PROBE_AGAIN: Duration = Duration::from_millis(100);

impl Membership {
    /// Changes the view, and waits until everything is in place, for 10 s at most. What is so
    /// already is done at once. A removal loses data that no live node holds only with `lose_data`.
    ///
    /// # Errors
    /// Nothing was changed, except after [`ConsensusError::Undecided`] where that is open.
    pub async fn change(&self, asked: Asked, lose_data: bool) -> Result<Changed, ChangeFailed> {
        let began = Instant::now();
        let changes = self.decided().await?;
        let change = match asked {
            Asked::Add(address) => {
                if let Some(number) = is_adding(&changes, address) {
                    return self.settled(number, began).await;
                }
                if changes.views().view.member_at(address).is_some() && changes.running().is_none()
                {
                    // Its data may still be on the way.
                    return match changes.last().filter(|last| last.end == End::InForce) {
                        Some(last) => self.settled(last.number, began).await,
                        None => Ok(as_it_is(&changes)),
                    };
                }
                self.probe(address).await?;
                Change::Add(address)
            }
            Asked::Remove(address) => {
                let member = changes.member_at(address);
                let member = member.ok_or(ChangeFailed::NoSuchNode(address))?;
                self.leaves_majority(&changes, member, address).await?;
                Change::Remove(member)
            }
            Asked::SetK(k) if k == changes.views().view.k && changes.running().is_none() => {
                return Ok(as_it_is(&changes));
            }
            Asked::SetK(k) => Change::SetK(k),
        };
        let dead = self.gives_up(&changes, (change, asked), false).await?;
        let data_loss = self.at_stake(&changes, change, &dead).await;
        if !data_loss.is_empty() && !lose_data && changes.running().is_none() {
            return Err(ChangeFailed::LosesData(data_loss));
        }
        // Told that their data may be lost: the change must not wait for any of them.
        if lose_data && !data_loss.is_empty() && !dead.is_empty() {
            self.give_up(dead, asked).await?;
        }
        let command = changes::ViewCommand::Change {
            change,
            give_up: false,
            lose_data,
        };
        let changed = match self.propose(command).await? {
            changes::ViewOutcome::Started { number } | changes::ViewOutcome::Agreed { number } => {
                self.settled(number, began).await
            }
            changes::ViewOutcome::Refused(refusal) => Err(refused(refusal, asked)),
            // To remove a node that was just being added takes that back.
            _ => Ok(as_it_is(&*self.decided().await?)),
        }?;
        Ok(Changed {
            data_loss,
            ..changed
        })
    }

    /// Has members given up that are dead.
    async fn give_up(&self, dead: BTreeSet<MemberId>, asked: Asked) -> Result<(), ChangeFailed> {
        let names = self.knowledge().names(&dead).join(", ");
        log::warn!("told that what only they have may be lost, this node has given up: {names}");
        let command = changes::ViewCommand::Dead { members: dead };
        match self.propose(command).await? {
            changes::ViewOutcome::Refused(refusal) => Err(refused(refusal, asked)),
            _ => Ok(()),
        }
    }

    /// Drops the running change.
    ///
    /// # Errors
    /// When none is running, or there is no quorum.
    pub async fn cancel(&self) -> Result<Changed, ChangeFailed> {
        let running = self.decided().await?.running().map(|r| r.number);
        let number = running.ok_or(ChangeFailed::NothingRuns)?;
        match self
            .propose(changes::ViewCommand::Cancel { number })
            .await?
        {
            // The view came into force meanwhile.
            changes::ViewOutcome::Refused(_) => Err(ChangeFailed::NothingRuns),
            _ => Ok(as_it_is(&*self.decided().await?)),
        }
    }

    /// Whether the Raft group can do without a member, as it gives its vote back.
    async fn leaves_majority(
        &self,
        changes: &ViewChanges,
        member: MemberId,
        node: SocketAddr,
    ) -> Result<(), ChangeFailed> {
        let raft = self.raft().ok_or(ChangeFailed::NotFormed)?;
        let voters = raft.status().await.voters;
        let members = changes.views().view.members().map(|(m, _)| m).collect();
        let alive = |m| self.peers().is_here(m);
        let missing = missing_without(&members, &voters, member, alive);
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<String> = self.knowledge().names(&missing);
        let missing = missing.join(", ");
        Err(ChangeFailed::NoMajorityLeft { node, missing })
    }

    /// The decided state of the views.
    async fn decided(&self) -> Result<Arc<ViewChanges>, ChangeFailed> {
        let raft = self.raft().ok_or(ChangeFailed::NotFormed)?;
        // Nodes that have just started agree on the first view in a moment.
        let mut agreed = raft.followed();
        let formed = agreed.wait_for(Option::is_some);
        // The borrow locks the state: kept while the Raft group goes on, it would stop the whole
        // node.
        let formed = matches!(tokio::time::timeout(FORMED_WITHIN, formed).await, Ok(Ok(_)));
        if !formed {
            return Err(ChangeFailed::NotFormed);
        }
        raft.read().await?.views.ok_or(ChangeFailed::NotFormed)
    }

    async fn propose(
        &self,
        command: changes::ViewCommand,
    ) -> Result<changes::ViewOutcome, ChangeFailed> {
        let raft = self.raft().ok_or(ChangeFailed::NotFormed)?;
        match raft.propose(Command::View(command)).await? {
            Outcome::View(outcome) => Ok(outcome),
            Outcome::Begun | Outcome::Renewed | Outcome::TooEarly | Outcome::Keys(_) => {
                Err(ChangeFailed::NotFormed)
            }
        }
    }

    /// Waits until a change has come to its end.
    async fn settled(&self, number: u64, began: Instant) -> Result<Changed, ChangeFailed> {
        let mut agreed = self.raft().ok_or(ChangeFailed::NotFormed)?.followed();
        let view = self.view_of(number).await?;
        let left = || ANSWER_AFTER.saturating_sub(began.elapsed());
        let end = agreed.wait_for(|agreed| end_of(agreed.as_deref(), number).is_some());
        let end = tokio::select! {
            // `biased`: a node that is out of the view shuts down right after.
            biased;
            // This node is out of the view, and so has handed over its data: report Done.
            () = self.knowledge().left() => {
                Some((End::Done, Views::clone(&self.knowledge().views())))
            }
            // The change goes on without this node, which is ending.
            () = self.stop().cancelled() => None,
            end = tokio::time::timeout(left(), end) => {
                end.ok().and_then(Result::ok).and_then(|agreed| end_of(agreed.as_deref(), number))
            }
        };
        match end {
            Some((End::Cancelled, _)) => Err(ChangeFailed::Cancelled),
            None | Some((End::InForce, _)) => Ok(changed(view, false)),
            Some((End::Done, views)) => {
                let everywhere = tokio::time::timeout(left(), self.everywhere(&views)).await;
                Ok(changed(view, everywhere.is_ok()))
            }
        }
    }

    /// Waits until this node and all others that answer go by views at least as new as these, and
    /// keep no more than they are to.
    async fn everywhere(&self, views: &Views) {
        let others = views.view.members().filter(|(m, _)| *m != self.me());
        let all = others.map(|(other, address)| self.settles(other, address, views.version));
        futures_util::future::join_all(all).await;
        let settled = || {
            let marks = self.marks();
            marks.views.version >= views.version && !marks.gauges.dropping
        };
        while !self.knowledge().has_left() && !settled() {
            tokio::time::sleep(SETTLE_LOOK).await;
        }
    }

    /// Waits until another member has settled, or does not answer.
    async fn settles(&self, other: MemberId, address: SocketAddr, version: u64) {
        let mut heard = Instant::now();
        while heard.elapsed() < SETTLE_SILENCE {
            // The answer names only newer views, so ask from one version before.
            match follow::views_known(self, other, address, version - 1).await {
                Some(told) if told.newer.is_some() && told.settled => return,
                Some(_) => heard = Instant::now(),
                // A node that is out has no connections any more by which it could tell.
                None if !self.knowledge().has_left() && !self.peers().is_up(other) => return,
                None => {}
            }
            tokio::time::sleep(SETTLE_LOOK).await;
        }
    }

    /// The view that a change leads to, which may have come into force already.
    async fn view_of(&self, number: u64) -> Result<View, ChangeFailed> {
        let changes = self.decided().await?;
        let next = changes.views().next.as_ref().filter(|v| v.number == number);
        Ok(next.unwrap_or(&changes.views().view).clone())
    }

    /// Whether a node that is to be added is there and free.
    async fn probe(&self, address: SocketAddr) -> Result<(), ChangeFailed> {
        let not_there = |why: String| ChangeFailed::NotThere { address, why };
        let peer = self.config().peer_address(address).ok_or_else(|| {
            ChangeFailed::Senseless(format!("{address} has no port for other nodes"))
        })?;
        let request = Request::ViewsKnown { version: u64::MAX };
        let began = Instant::now();
        loop {
            let to = Some(net::STRANGER);
            match self.peers().call(peer, to, &request, PROBE).await {
                Ok(_) => return Ok(()),
                // A node that was removed a moment ago may not know it yet.
                Err(error) if began.elapsed() > PROBE => return Err(not_there(error.to_string())),
                Err(_) => tokio::time::sleep(PROBE_AGAIN).await,
            }
        }
    }
}

fn as_it_is(changes: &ViewChanges) -> Changed {
    changed(changes.views().view.clone(), true)
}

fn changed(view: View, done: bool) -> Changed {
    Changed {
        view,
        done,
        data_loss: Vec::new(),
    }
}

/// The number of the view of the change that runs, when it adds this node.
fn is_adding(changes: &ViewChanges, address: SocketAddr) -> Option<u64> {
    let running = changes.running();
    let running = running.filter(|r| r.change == Change::Add(address));
    running.map(|r| r.number)
}

/// How a change ended, if it has, and the views since then.
fn end_of(changes: Option<&ViewChanges>, number: u64) -> Option<(End, Views)> {
    let changes = changes?;
    let last = changes.last()?;
    let end = match last.end {
        // Another one began after it.
        _ if last.number > number => End::Done,
        end @ (End::Done | End::Cancelled) if last.number == number => end,
        _ => return None,
    };
    Some((end, changes.views().clone()))
}
