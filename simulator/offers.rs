//! Offers of orphaned writes: once it is out of the view it offers that to the others, one write
//! after the other, the oldest first, through whichever member is there. An offer that a member did
//! not see through is made again.

use super::operation::Operation;
use super::world::{Failed, What, World};
use causeway::protocol::context::Context;
use causeway::protocol::op::{Answer, Op};
use causeway::protocol::record;
use causeway::protocol::store::Store;
use causeway::protocol::version::Version;
use std::collections::VecDeque;

/// The pause after an offer that came to nothing, in microseconds.
const AGAIN_US: u64 = 100_000;

/// The offer of one node.
pub struct Offer {
    node: usize,
    left: VecDeque<Version>,
    /// Stands for all that was offered so far.
    context: Context,
    /// The operation that is under way for it.
    op: Option<usize>,
}

impl World {
    /// A node is out of the view for good. A node that has left in peace has no log that is not
    /// over, and offers nothing.
    pub fn begin_offer(&mut self, node: usize) -> Result<(), Failed> {
        let disk = &self.nodes[node].disk;
        // A later offer would not be over when the replicas are compared.
        if self.healed
            || record::load_logs(disk)
                .map_err(|e| e.to_string())?
                .is_empty()
        {
            return Ok(());
        }
        let mut found = Vec::new();
        let (from, to) = record::DATA;
        disk.scan(from, to, &mut |key, value| {
            found.push((key, value));
            true
        })
        .map_err(|e| e.to_string())?;
        let version = |(key, value): (_, _)| {
            let (key, value): (bytes::Bytes, bytes::Bytes) = (key, value);
            record::decode_version(record::key_of(&key), &value).map_err(|e| e.to_string())
        };
        let mut versions: Vec<Version> =
            found.into_iter().map(version).collect::<Result<_, _>>()?;
        versions.sort_by_key(Version::order);
        self.note(|| format!("m{node} offers {} writes", versions.len()));
        self.offers.push(Offer {
            node,
            left: versions.into(),
            context: Context::default(),
            op: None,
        });
        let delay = self.rng.below(300_000);
        self.after(delay, What::Offer(self.offers.len() - 1));
        Ok(())
    }

    /// Makes an offer's next operation.
    pub fn offer_next(&mut self, offer: usize) -> Result<(), Failed> {
        let state = &self.offers[offer];
        let (Some(version), None) = (state.left.front().cloned(), state.op) else {
            return Ok(());
        };
        let members = self.members();
        let entry = members[self.rng.index(members.len())];
        if self.nodes[entry].process.is_none() {
            self.after(AGAIN_US, What::Offer(offer));
            return Ok(());
        }
        let mut context = self.offers[offer].context.clone();
        context.join(&version.deps);
        let write = self.oracle.of_version(&version);
        let what = Op::Write {
            key: version.key,
            value: version.value,
            stamp: version.stamp,
            orphan: Some(version.wall_ms),
        };
        let op = self.ops.len();
        self.offers[offer].op = Some(op);
        let life = self.nodes[entry].life;
        let mut operation = Operation::new(entry, life, what, context, self.now);
        (operation.offer, operation.write) = (Some(offer), write);
        self.ops.push(operation);
        self.begin(op)
    }

    /// An operation of an offer is over, or ended with its node.
    pub fn offered(&mut self, offer: usize, op: usize, answer: Option<&Answer>) {
        if self.offers[offer].op != Some(op) {
            return;
        }
        self.offers[offer].op = None;
        let delay = match answer {
            Some(Answer::Written(written)) => {
                if let Some(write) = self.ops[op].write {
                    self.oracle.came_back(write, written.copies);
                }
                self.take_along(offer, &written.context)
            }
            Some(Answer::Declined(_, context)) => self.take_along(offer, context),
            _ => AGAIN_US,
        };
        self.after(delay, What::Offer(offer));
    }

    fn take_along(&mut self, offer: usize, context: &Context) -> u64 {
        let state = &mut self.offers[offer];
        state.context = context.clone();
        state.left.pop_front();
        self.rng.below(5_000)
    }

    /// The offers that a node was busy with when its process ended are made elsewhere.
    pub fn lose_offers_of(&mut self, node: usize) {
        for offer in 0..self.offers.len() {
            if let Some(op) = self.offers[offer].op
                && self.ops[op].entry == node
            {
                self.offered(offer, op, None);
            }
        }
    }

    /// I12: every offer comes to its end.
    pub fn check_offers(&self) -> Result<(), Failed> {
        match self.offers.iter().find(|o| !o.left.is_empty()) {
            Some(o) => Err(format!(
                "I12: node {} still offers {} writes",
                o.node,
                o.left.len()
            )),
            None => Ok(()),
        }
    }
}
