//! The effect of each fault on the cluster, when its moment comes.

use super::journal::survivors;
use super::node::Input;
use super::plan::Fault;
use super::world::{Failed, What, World};
use causeway::protocol::marks::Marks;

impl World {
    /// Plans the faults of a run, and their end.
    pub fn plan_faults(&mut self) {
        for (i, planned) in self.plan.faults.clone().into_iter().enumerate() {
            self.after(planned.at_us, What::Fault(i));
        }
        let end = self.plan.healed_us() - 100_000;
        self.after(end, What::Heal);
    }

    pub fn fault(&mut self, i: usize) -> Result<(), Failed> {
        let fault = self.plan.faults[i].fault.clone();
        self.note(|| format!("FAULT {i}: {fault:?}"));
        let now = self.now;
        match fault {
            Fault::Crash { node, down_us } => return self.crash(node, down_us),
            Fault::LoseDisk { node, down_us } => return self.lose_disk(node, down_us),
            Fault::OldDisk { node, down_us } => return self.old_disk(node, down_us),
            Fault::Copy { node } => {
                let applied = self.oracle.applied_at(node);
                self.nodes[node].copy = Some((self.nodes[node].disk.copy(), applied));
            }
            Fault::Split { side, us, holds } => {
                let apart = |a: usize, b: usize| (side >> a ^ side >> b) & 1 == 1;
                for (a, b) in self.pairs().into_iter().filter(|&(a, b)| apart(a, b)) {
                    if !self.is_shielded(a, b) {
                        self.net.cut(a, b, now + us, holds);
                    }
                }
            }
            Fault::OneWay {
                from,
                to,
                us,
                holds,
            } if !self.is_shielded(from, to) => self.net.cut(from, to, now + us, holds),
            Fault::Apart { a, b, us, holds } if !self.is_shielded(a, b) => {
                self.net.cut(a, b, now + us, holds);
                self.net.cut(b, a, now + us, holds);
            }
            Fault::Flap {
                a,
                b,
                period_us,
                times,
            } if !self.is_shielded(a, b) => self.flap(a, b, period_us, times),
            Fault::Reset { a, b } if a != b => self.reset(a, b),
            Fault::Loss {
                from,
                to,
                us,
                percent,
            } if !self.is_shielded(from, to) => self.net.lose(from, to, now + us, percent),
            Fault::Duplicate {
                from,
                to,
                us,
                percent,
            } => self.net.duplicate(from, to, now + us, percent),
            Fault::SlowLink { from, to, us } if !self.is_shielded(from, to) => {
                self.net.slow(from, to, now + us);
            }
            Fault::Ask(asked) => return self.ask_for(asked),
            Fault::Jump { node, skew_ms } => self.nodes[node].wall.skew_ms = skew_ms,
            Fault::Drift { node, ppm } => {
                let skew_ms = self.nodes[node].wall.skew_at(now);
                let wall = &mut self.nodes[node].wall;
                (wall.skew_ms, wall.drift_ppm, wall.since_us) = (skew_ms, ppm, now);
            }
            Fault::Pause { node, us } if !self.is_shielded(node, node) => {
                let paused = &mut self.nodes[node].paused_until;
                *paused = (now + us).max(*paused);
            }
            Fault::SlowDisk { node, us } => self.nodes[node].slow_disk_until = now + us,
            Fault::HungDisk { node, us } => self.nodes[node].hung_until = now + us,
            Fault::BadReads { node, us } => self.nodes[node].failing_until = now + us,
            Fault::RestartAll { down_us, lost } => return self.restart_all(down_us, lost),
            Fault::FirstStart {
                die,
                wiped,
                down_us,
            } => return self.first_start(die, wiped, down_us),
            Fault::CutOff { node, us } => {
                for other in 0..self.nodes.len() {
                    if other != node && !self.is_shielded(node, other) {
                        self.net.cut(node, other, now + us, false);
                        self.net.cut(other, node, now + us, false);
                    }
                }
            }
            Fault::FullDisk { node, us } => {
                self.nodes[node].full_until = now + us;
                self.tell_room(node);
            }
            Fault::ScarceDisk { node, us } => {
                self.nodes[node].scarce_until = now + us;
                self.tell_room(node);
            }
            _ => {}
        }
        Ok(())
    }

    /// Everything that is wrong ends. Processes that are down start again when their time comes.
    pub fn heal(&mut self) {
        self.note(|| "HEALED".to_owned());
        self.net.heal(self.now);
        self.healed = true;
        for node in 0..self.nodes.len() {
            let it = &mut self.nodes[node];
            it.wall = Default::default();
            it.slow_disk_until = 0;
            it.hung_until = 0;
            it.failing_until = 0;
            if it.lacks_room_until() > self.now {
                (it.full_until, it.scarce_until) = (self.now, self.now);
                self.later(node, 0, Input::Room);
            }
        }
    }

    /// The replica hears that its disk has too little room, and when it has more again.
    pub fn tell_room(&mut self, node: usize) {
        let it = &self.nodes[node];
        let (full_until, scarce_until) = (it.full_until, it.scarce_until);
        if it.lacks_room_until() <= self.now {
            return;
        }
        let delay = self.rng.below(5_000);
        self.later(node, delay, Input::Room);
        for until in [full_until, scarce_until] {
            if until > self.now {
                self.later(node, until - self.now + 5_000, Input::Room);
            }
        }
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let n = self.nodes.len();
        (0..n)
            .flat_map(|a| (0..n).map(move |b| (a, b)))
            .filter(|(a, b)| a != b)
            .collect()
    }

    /// A node that runs on an old copy of its disk can find that out from its peers alone. Until
    /// such a node has found out, no fault meets it, its peers or the links between them; nothing
    /// is promised of what it does alone.
    fn is_shielded(&self, a: usize, b: usize) -> bool {
        let comparing = |n: usize| self.nodes[n].comparing;
        if !self.nodes.iter().any(|n| n.comparing) {
            return false;
        }
        let near = |n: usize, other: usize| n == other || self.tied_to(n).contains(&other);
        near(a, b) && (0..self.nodes.len()).any(|n| comparing(n) && near(n, a) && near(n, b))
    }

    fn flap(&mut self, a: usize, b: usize, period_us: u64, times: u8) {
        let cut = What::Flap {
            a,
            b,
            us: period_us / 2,
        };
        for i in 0..u64::from(times) {
            self.after(i * period_us, cut.clone());
        }
    }

    /// One of the times that a link goes.
    pub fn flap_once(&mut self, a: usize, b: usize, us: u64) {
        if self.healed || a == b || self.is_shielded(a, b) {
            return;
        }
        let until = self.now + us;
        self.net.cut(a, b, until, false);
        self.net.cut(b, a, until, false);
        self.reset(a, b);
    }

    pub fn crash(&mut self, node: usize, down_us: u64) -> Result<(), Failed> {
        if self.nodes[node].process.is_none() || self.is_shielded(node, node) {
            return Ok(());
        }
        let unsynced = self.nodes[node].disk.unsynced();
        let keep = survivors(&unsynced, &mut self.rng);
        self.stop_node(node, keep)?;
        self.after(down_us, What::Restart(node));
        Ok(())
    }

    /// Ends all processes at one moment; one node may lose its disk with that.
    fn restart_all(&mut self, down_us: u64, lost: Option<usize>) -> Result<(), Failed> {
        if let Some(node) = lost {
            self.lose_disk(node, down_us)?;
        }
        for node in 0..self.nodes.len() {
            let later = self.rng.below(200_000);
            self.crash(node, down_us + later)?;
        }
        Ok(())
    }

    /// Ends some processes, and wipes the disks of some of these, while nothing that was written
    /// can be lost by that.
    fn first_start(&mut self, die: u64, wiped: u64, down_us: u64) -> Result<(), Failed> {
        let written = self.oracle.writes.iter().any(|w| !w.dots.is_empty());
        if written || !self.decisions.is_first() {
            return Ok(());
        }
        for node in (0..self.nodes.len()).filter(|n| die >> n & 1 == 1) {
            let later = self.rng.below(300_000);
            if wiped >> node & 1 == 1 && self.nodes[node].process.is_some() {
                self.stop_node(node, 0)?;
                self.nodes[node].disk.wipe();
                self.oracle.set_applied(node, Vec::new());
                self.after(down_us + later, What::Restart(node));
            } else {
                self.crash(node, down_us + later)?;
            }
        }
        Ok(())
    }

    /// Loses a disk, where the promise of two copies allows it.
    fn lose_disk(&mut self, node: usize, down_us: u64) -> Result<(), Failed> {
        if !self.may_go(node, None) {
            return Ok(());
        }
        self.stop_node(node, 0)?;
        self.nodes[node].disk.wipe();
        (self.nodes[node].lost, self.nodes[node].replaced) = (true, true);
        self.forget_views(node);
        self.oracle.set_applied(node, Vec::new());
        self.after(down_us, What::Restart(node));
        Ok(())
    }

    /// Puts an old copy in the place of a disk, where the promise of two copies allows it.
    fn old_disk(&mut self, node: usize, down_us: u64) -> Result<(), Failed> {
        let Some((content, applied)) = self.nodes[node].copy.clone() else {
            return Ok(());
        };
        if !self.may_go(node, Some(&applied)) {
            return Ok(());
        }
        self.stop_node(node, 0)?;
        self.nodes[node].disk.put_back(content);
        (self.nodes[node].lost, self.nodes[node].comparing) = (true, true);
        self.nodes[node].replaced = true;
        self.forget_views(node);
        self.oracle.set_applied(node, applied);
        self.after(down_us, What::Restart(node));
        Ok(())
    }

    /// With its disk a node loses what it knew of views. The node does not start before another one
    /// has told it of views again.
    fn forget_views(&mut self, node: usize) {
        if self.plan.changes() {
            self.nodes[node].known = None;
        }
    }

    /// Whether a disk may be lost: another replica serves, nothing that was acknowledged with two
    /// copies is only there, and no other disk of the partition is being refilled. A write that is
    /// only on this disk, and not on the copy that takes its place, is gone.
    fn may_go(&mut self, node: usize, copy: Option<&super::oracle::Applied>) -> bool {
        let member = self.nodes[node].member;
        let Some(partition) = self.view().partition_of(member) else {
            return false;
        };
        // The node is given up: for the others its data is gone anyway.
        if self.is_given_up(node) {
            return false;
        }
        let mut replicas = self.nodes_of(partition);
        replicas.retain(|n| *n != node);
        // While cohorts are closing, more than the partition's replicas may count on it.
        let views = self.decisions.changes.views();
        let open = views.next.is_some() || !views.closing.is_empty();
        let refilling = replicas.iter().any(|n| self.nodes[*n].lost);
        let refilling = refilling || (open && self.nodes.iter().any(|n| n.lost));
        let down = self.nodes[node].process.is_none();
        // One that serves under an earlier view may lack what this one asks of it. The others would
        // wait for the node then, and an old copy would wait for one of them.
        let view = self.view().number;
        let serves = |n: &usize| {
            let process = self.nodes[*n].process.as_ref();
            let serves = |p: &Marks| p.recovering.is_none() && p.views.view.number == view;
            process.is_some_and(|p| serves(&p.marks))
        };
        let alone = !replicas.iter().any(serves);
        if down || alone || refilling || self.nodes[node].comparing {
            return false;
        }
        let (mut gone, mut lost) = (Vec::new(), Vec::new());
        for write in 0..self.oracle.writes.len() {
            let w = &self.oracle.writes[write];
            if w.is_lost() || w.dots.is_empty() || !self.oracle.has(node, write) {
                continue;
            }
            let copied = copy.is_some_and(|c| self.oracle.is_in(write, c));
            if !copied {
                lost.push(((node, write), self.now));
            }
            let Ok(elsewhere) = self.is_kept_without(node, write) else {
                return false;
            };
            if !elsewhere && !copied {
                if w.copies >= 2 {
                    return false;
                }
                gone.push(write);
            }
        }
        self.note(|| format!("m{node} loses its disk, and writes {gone:?} with it"));
        for write in gone {
            self.oracle.lose(write);
        }
        self.oracle.lost.extend(lost);
        true
    }

    /// The nodes that share logs with a node.
    fn tied_to(&self, node: usize) -> Vec<usize> {
        let (views, member) = (self.decisions.changes.views(), self.nodes[node].member);
        let cohorts = views.cohorts_of(member).into_iter();
        let members = cohorts.flat_map(|c| views.sharing(&c));
        members
            .map(|m| usize::from(m.0))
            .filter(|n| *n != node)
            .collect()
    }

    /// Whether a node that stands on an old copy may start: a node with which it compares itself is
    /// there and in reach, another replica of its partition that serves. Where no such replica is,
    /// any peer that serves will do, or one that is out of the view and has what it helps with.
    pub fn may_compare(&self, node: usize) -> bool {
        let views = self.decisions.changes.views();
        let member = self.nodes[node].member;
        let partition = views.view.partition_of(member);
        let mut nodes = partition.map_or(Vec::new(), |p| self.nodes_of(p));
        nodes.retain(|n| *n != node);
        if nodes.is_empty() {
            nodes = self.tied_to(node);
        }
        let has = |m: &Marks| {
            let helps = m.partition.is_none() && m.cohorts.values().all(|filled| *filled);
            m.recovering.is_none() || helps
        };
        let runs = |n: usize| {
            let process = self.nodes[n].process.as_ref();
            self.nodes[n].paused_until <= self.now && process.is_some_and(|p| has(&p.marks))
        };
        let reaches = |n: usize| {
            !self.net.is_faulty(n, node, self.now) && !self.net.is_faulty(node, n, self.now)
        };
        nodes
            .into_iter()
            .any(|n| n != node && runs(n) && reaches(n))
    }
}
