//! What goes wrong, and when.

use super::world::{Failed, What, World};

/// How long a node that went down stays away, at most, in microseconds.
const DOWN_US: u64 = 3_000_000;

/// A fault. Where it strikes is decided when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Crash,
    LoseDisk,
    /// The nodes fall into two halves that cannot talk.
    Split,
    /// One direction between two nodes is dead.
    OneWay,
    Reset,
    Loss,
    SlowLink,
    Jump,
    Pause,
    SlowDisk,
    Heal,
}

impl World {
    /// Plans the faults of a run.
    pub fn plan_faults(&mut self) {
        let kinds = [
            Fault::Crash,
            Fault::Crash,
            Fault::LoseDisk,
            Fault::Split,
            Fault::Split,
            Fault::OneWay,
            Fault::Reset,
            Fault::Loss,
            Fault::SlowLink,
            Fault::Jump,
            Fault::Pause,
            Fault::SlowDisk,
        ];
        let mut at = self.rng.below(500_000);
        while at < self.plan.faults_us {
            let fault = kinds[self.rng.index(kinds.len())];
            let wanted = match fault {
                Fault::LoseDisk => self.plan.lose_disks,
                Fault::Jump => self.plan.jump_clocks,
                _ => true,
            };
            if wanted {
                self.after(at, What::Fault(fault));
            }
            at += self.rng.below(self.plan.fault_every_us * 2) + 1;
        }
        self.after(self.plan.faults_us + DOWN_US, What::Fault(Fault::Heal));
    }

    /// When the faults are over and every node has been started again.
    pub fn healed_at(&self) -> u64 {
        1_000_000 + self.plan.faults_us + DOWN_US + 100_000
    }

    pub fn fault(&mut self, fault: Fault) -> Result<(), Failed> {
        let node = self.rng.index(self.nodes.len());
        let other = self.rng.index(self.nodes.len());
        let until = self.now + self.rng.within(50_000, DOWN_US - 100_000);
        let holds = self.rng.percent(50);
        self.note(|| format!("FAULT {fault:?} m{node} m{other} until {until}"));
        match fault {
            Fault::Crash => return self.crash(node, until),
            Fault::LoseDisk => return self.lose_disk(node, until),
            Fault::Split => {
                let side: Vec<bool> = self.nodes.iter().map(|_| self.rng.percent(50)).collect();
                for (a, b) in self.pairs() {
                    if side[a] != side[b] {
                        self.net.cut(a, b, until, holds);
                    }
                }
            }
            Fault::OneWay => self.net.cut(node, other, until, holds),
            Fault::Reset if node != other => self.reset(node, other),
            Fault::Loss => self.net.lose(node, other, until),
            Fault::SlowLink => self.net.slow(node, other, until),
            Fault::Jump => self.nodes[node].skew_ms = self.rng.below(60_001) as i64 - 30_000,
            Fault::Pause => {
                let until = until.min(self.now + 2_000_000);
                let paused = &mut self.nodes[node].paused_until;
                *paused = until.max(*paused);
            }
            Fault::SlowDisk => self.nodes[node].slow_disk_until = until,
            Fault::Reset => {}
            Fault::Heal => {
                self.net.heal(self.now);
                self.healed = true;
                for node in &mut self.nodes {
                    node.skew_ms = 0;
                    node.slow_disk_until = 0;
                }
            }
        }
        Ok(())
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let n = self.nodes.len();
        (0..n)
            .flat_map(|a| (0..n).map(move |b| (a, b)))
            .filter(|(a, b)| a != b)
            .collect()
    }

    fn crash(&mut self, node: usize, until: u64) -> Result<(), Failed> {
        if self.nodes[node].process.is_none() {
            return Ok(());
        }
        let waiting = self.nodes[node].disk.waiting();
        let keep = self.rng.index(waiting + 1);
        self.stop_node(node, keep)?;
        self.after(until - self.now, What::Restart { node, above: 0 });
        Ok(())
    }

    /// Loses a disk, where the promise of two copies allows it: nothing that was acknowledged with
    /// two copies is only there, and no other disk of the partition is being refilled.
    fn lose_disk(&mut self, node: usize, until: u64) -> Result<(), Failed> {
        let Some(partition) = self.view.partition_of(self.nodes[node].member) else {
            return Ok(());
        };
        let others: Vec<usize> = self.nodes_of(partition);
        let others: Vec<usize> = others.into_iter().filter(|n| *n != node).collect();
        let refilling = others.iter().any(|n| self.nodes[*n].lost);
        if self.nodes[node].process.is_none() || others.is_empty() || refilling {
            return Ok(());
        }
        let mut gone = Vec::new();
        for write in 0..self.oracle.writes.len() {
            if self.oracle.partition(write) != partition || self.oracle.writes[write].gone {
                continue;
            }
            let elsewhere = others.iter().any(|n| self.oracle.has(*n, write));
            if !elsewhere {
                if self.oracle.writes[write].copies >= 2 {
                    return Ok(());
                }
                gone.push(write);
            }
        }
        self.note(|| format!("m{node} loses its disk, and writes {gone:?} with it"));
        for write in gone {
            self.oracle.writes[write].gone = !self.oracle.writes[write].dots.is_empty();
        }
        self.stop_node(node, 0)?;
        self.nodes[node].disk.wipe();
        self.nodes[node].lost = true;
        self.oracle.applied.retain(|(n, _), _| *n != node);
        self.after(until - self.now, What::Restart { node, above: 0 });
        Ok(())
    }
}
