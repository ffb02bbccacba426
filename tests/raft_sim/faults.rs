//! Faults, as they are done to the nodes.

use super::disk::Trouble;
use super::nodes::Nodes;
use super::plan::{Fault, Target};
use super::views;
use causeway::protocol::ids::MemberId;
use causeway::raft::first_voters;
use causeway::raft::teeth::{RaftRule, broken};
use std::time::Duration;

impl Nodes {
    async fn target(&self, target: Target) -> Option<MemberId> {
        let all = self.all();
        let any = |n: usize| all.get(n % all.len().max(1)).copied();
        match target {
            Target::Leader => match self.leader().await {
                Some((leader, _)) => Some(leader),
                None => any(0),
            },
            Target::Node(n) => any(n),
        }
    }

    /// Lets something go wrong, until it is over.
    pub async fn suffer(self, number: usize, fault: Fault) {
        log::info!("fault {number}: {fault:?}");
        let for_ms = Duration::from_millis;
        match fault {
            Fault::Kill(target, ms) => {
                if let Some(node) = self.target(target).await {
                    self.kill(node);
                    self.start_after(node, for_ms(ms));
                }
            }
            Fault::Shutdown(target, ms) => {
                if let Some(node) = self.target(target).await
                    && self.device(node).trouble().is_none()
                {
                    self.shutdown(node).await;
                    self.start_after(node, for_ms(ms));
                }
            }
            Fault::Lose(target, ms) => {
                if let Some(node) = self.target(target).await
                    && self.may_lose(node).await
                {
                    self.kill(node);
                    self.wipe(node);
                    self.start_after(node, for_ms(ms));
                }
            }
            Fault::Freeze(target, ms) => {
                if let Some(node) = self.target(target).await {
                    self.freeze(node, true);
                    self.exec.sleep(for_ms(ms)).await;
                    self.freeze(node, false);
                }
            }
            Fault::Split(target, mask, one_way, ms) => {
                let Some(node) = self.target(target).await else {
                    return;
                };
                let all = self.all();
                let inside = |m: &MemberId| *m == node || mask >> (m.0 % 64) & 1 == 1;
                let (inside, outside): (Vec<_>, Vec<_>) = all.into_iter().partition(inside);
                let pairs = inside.iter().flat_map(|a| outside.iter().map(|b| (*a, *b)));
                let pairs: Vec<_> = pairs.collect();
                log::info!("{inside:?} cannot talk to {outside:?}");
                for (a, b) in &pairs {
                    self.net.cut(*b, *a);
                    if !one_way {
                        self.net.cut(*a, *b);
                    }
                }
                self.exec.sleep(for_ms(ms)).await;
                for (a, b) in &pairs {
                    self.net.join(*a, *b);
                    self.net.join(*b, *a);
                }
            }
            Fault::Weather { loss, late, ms } => {
                self.net.set_weather(loss, late);
                self.exec.sleep(for_ms(ms)).await;
                self.net.set_weather(0, 0);
            }
            Fault::Disk(target, trouble, ms) => {
                if let Some(node) = self.target(target).await {
                    self.set_trouble(node, Some(trouble));
                    self.exec.sleep(for_ms(ms)).await;
                    self.set_trouble(node, None);
                }
            }
            Fault::Power(ms) => {
                let leader = self.leader().await.map(|(leader, _)| leader);
                let all = self.all();
                for node in all.iter().filter(|m| Some(**m) != leader) {
                    self.set_trouble(*node, Some(Trouble::Slow(200)));
                }
                self.exec.sleep(for_ms(400)).await;
                for node in all {
                    self.kill(node);
                    self.set_trouble(node, None);
                    let late = Some(node) == leader && self.exec.draw(|rng| rng.percent(60));
                    let after = self.exec.draw(|rng| rng.below(ms)) + 3_000 * u64::from(late);
                    self.start_after(node, for_ms(after));
                }
            }
            Fault::Stumble(ms) => {
                if let Some((leader, _)) = self.leader().await {
                    self.set_trouble(leader, Some(Trouble::Slow(200)));
                    self.exec.sleep(for_ms(300)).await;
                    self.kill(leader);
                    self.set_trouble(leader, None);
                    self.start_after(leader, for_ms(ms));
                }
            }
            Fault::Trap {
                with_leader,
                behind_ms,
                gone_ms,
            } => self.trap(with_leader, for_ms(behind_ms), gone_ms).await,
            Fault::View(asked) => {
                let up = self.net.all_up();
                let able = up
                    .into_iter()
                    .filter_map(|(_, up)| Some((up.process, up.raft?)));
                let able: Vec<_> = able.collect();
                if !able.is_empty() {
                    let (process, raft) = able[self.exec.draw(|rng| rng.index(able.len()))].clone();
                    let ask = views::ask(self.clone(), raft, asked, number as u16);
                    self.exec.spawn(process, ask);
                }
            }
        }
    }

    async fn trap(&self, with_leader: bool, behind: Duration, gone_ms: u64) {
        let mut found = self.leader().await;
        for _ in 0..40 {
            if found.is_none() {
                self.exec.sleep(Duration::from_millis(100)).await;
                found = self.leader().await;
            }
        }
        let Some((leader, status)) = found else {
            return;
        };
        let (voters, all) = (status.voters, self.all());
        let minority = (voters.len() - 1) / 2;
        let mut order: Vec<MemberId> = voters.into_iter().filter(|m| *m != leader).collect();
        let turn = self.exec.draw(|rng| rng.index(order.len().max(1)));
        order.rotate_left(turn);
        order.insert(if with_leader { 0 } else { order.len() }, leader);
        let (cut, rest) = order.split_at(minority);
        let apart = |a: &MemberId, b: &MemberId| cut.contains(a) && !cut.contains(b);
        for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
            if apart(&a, &b) || apart(&b, &a) {
                self.net.cut(a, b);
            }
        }
        log::info!("{cut:?} are cut off");
        self.exec.sleep(behind).await;
        let now = self.leader().await.map(|(leader, _)| leader);
        let lost = rest
            .iter()
            .copied()
            .find(|m| Some(*m) != now && *m != leader);
        if let Some(lost) = lost
            && self.may_lose(lost).await
        {
            for node in all.iter().filter(|m| **m != lost && !cut.contains(m)) {
                self.kill(*node);
                self.start_after(*node, Duration::from_millis(gone_ms));
            }
            self.kill(lost);
            self.wipe(lost);
            self.start_after(lost, Duration::from_millis(20));
        }
        for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
            self.net.join(a, b);
        }
    }

    /// Whether the rules allow that this node loses its disk now.
    async fn may_lose(&self, node: MemberId) -> bool {
        let Some((_, status)) = self.leader().await else {
            return false;
        };
        let others: Vec<MemberId> = status
            .voters
            .iter()
            .copied()
            .filter(|m| *m != node)
            .collect();
        let all_vote = broken(RaftRule::VoteWithoutLog);
        let votes = |m: &MemberId| self.device(*m).has(b"e") || all_vote;
        // A majority of the first voters with empty disks takes itself for a first start, and forms
        // a Raft group of its own (`raft/forming.rs`), also when none of them votes any more.
        let first = first_voters(&self.founders());
        let empty = first.iter().filter(|m| **m == node || !self.is_born(**m));
        let forms = empty.count() > first.len() / 2;
        self.is_born(node) && !others.is_empty() && others.iter().all(votes) && !forms
    }
}
