//! The connections of one session, and which of its targets it asks next.

use super::route::{Routes, Routing};
use crate::cli::wire::Wire;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A session that roams goes on to another target when one does not take its connection for this
/// long.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// And leaves a target alone for this long after it failed: else all sessions would soon wait for
/// the one that is out of reach.
const LEFT_ALONE: Duration = Duration::from_secs(2);

pub struct Targets {
    session: u32,
    routes: Arc<Routes>,
    slots: Vec<Slot>,
    /// Where a session that roams goes.
    random: StdRng,
    pub reconnects: u64,
}

/// The connection to one node, opened when first needed.
#[derive(Default)]
struct Slot {
    wire: Option<Wire>,
    opened: bool,
    /// Set while the target is left alone.
    until: Option<Instant>,
}

impl Targets {
    pub fn new(session: u32, routes: &Arc<Routes>) -> Self {
        Self {
            session,
            routes: Arc::clone(routes),
            slots: routes.nodes.iter().map(|_| Slot::default()).collect(),
            random: StdRng::seed_from_u64(u64::from(session) + (2 << 32)),
            reconnects: 0,
        }
    }

    pub fn address(&self, at: usize) -> Option<SocketAddr> {
        self.routes.nodes.get(at).copied()
    }

    /// The position of the target for a key, and a connection to it. It goes back with
    /// [`Self::keep`] after a whole reply only: a connection with a reply still to come would
    /// answer the next request with it.
    pub async fn open(&mut self, key: &str) -> Result<(usize, Wire), String> {
        if self.routes.routing != Routing::Roam {
            let at = self.routes.choose(self.session, key);
            return Ok((at, self.wire(at).await?));
        }
        let mut error = "no target".to_owned();
        for at in self.ways() {
            match timeout(CONNECT_WITHIN, self.wire(at)).await {
                Ok(Ok(wire)) => return Ok((at, wire)),
                Ok(Err(broken)) => error = broken,
                Err(_) => error = "connecting: timed out".into(),
            }
            self.leave_alone(at);
        }
        Err(error)
    }

    pub fn keep(&mut self, at: usize, wire: Wire) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.wire = Some(wire);
        }
    }

    /// The target did not answer: others are asked first for a while.
    pub fn leave_alone(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.until = Some(Instant::now() + LEFT_ALONE);
        }
    }

    /// All targets from a random one on, those that failed lately last.
    fn ways(&mut self) -> Vec<usize> {
        let n = self.slots.len();
        let first = self.random.random_range(0..n.max(1));
        let mut ways: Vec<usize> = (0..n).map(|i| (first + i) % n).collect();
        if self.slots.iter().any(|slot| slot.until.is_some()) {
            let now = Instant::now();
            for slot in &mut self.slots {
                slot.until = slot.until.filter(|until| *until > now);
            }
            let alone = |at: &usize| self.slots.get(*at).is_some_and(|s| s.until.is_some());
            ways.sort_by_key(alone);
        }
        ways
    }

    async fn wire(&mut self, at: usize) -> Result<Wire, String> {
        let (Some(slot), Some(node)) = (self.slots.get_mut(at), self.routes.nodes.get(at)) else {
            return Err("no target".into());
        };
        if let Some(wire) = slot.wire.take().filter(|wire| !wire.is_closed()) {
            return Ok(wire);
        }
        self.reconnects += u64::from(slot.opened);
        slot.opened = true;
        Wire::connect(*node).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(n: u8) -> Targets {
        let nodes = (1..=n).map(|i| SocketAddr::from(([10, 0, 0, i], 80)));
        Targets::new(3, &Arc::new(Routes::roaming(nodes.collect())))
    }

    #[test]
    fn a_roaming_session_goes_everywhere_and_never_the_same_way_only() {
        let mut targets = targets(4);
        let mut firsts = [0; 4];
        for _ in 0..400 {
            let ways = targets.ways();
            firsts[ways[0]] += 1;
            let mut all = ways.clone();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3]);
        }
        assert!(firsts.iter().all(|n| *n > 50), "{firsts:?}");
    }

    #[test]
    fn what_failed_is_asked_last_for_a_while() {
        let mut targets = targets(3);
        targets.leave_alone(1);
        assert!((0..50).all(|_| targets.ways()[2] == 1));
        targets.slots[1].until = Some(Instant::now());
        assert!((0..50).any(|_| targets.ways()[0] == 1));
    }

    #[tokio::test]
    async fn it_goes_on_to_others_while_one_is_unreachable() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nodes = vec![closed.local_addr().unwrap(), open.local_addr().unwrap()];
        drop(closed);
        let mut targets = Targets::new(0, &Arc::new(Routes::roaming(nodes)));
        let local = tokio::task::LocalSet::new();
        let all = local.run_until(async {
            for _ in 0..20 {
                let (at, wire) = targets.open("k").await.unwrap();
                assert_eq!(at, 1);
                targets.keep(at, wire);
            }
        });
        all.await;
        drop(open);
        assert_eq!(targets.reconnects, 0);
    }
}
