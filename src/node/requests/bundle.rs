//! Bundles: operations that go to the same node at the same time travel in one message, and so do
//! their answers.

use crate::node::wire::messages::Forward;
use crate::protocol::ids::MemberId;
use crate::protocol::op::{Answer, Op, Refusal};
use crate::protocol::route::AttemptOutcome;
use std::mem::take;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Bytes of keys, values and contexts in one message, unless one operation alone has more. The
/// contexts come back with the answers, so that these are bounded as well.
const BUNDLE_BYTES: usize = 4 << 20;

/// The most bytes that an entry of a context takes.
const ENTRY_BYTES: usize = 24;

/// Bytes of values in one reply to a bundle, unless the first one has more.
pub const BUNDLE_REPLY_BYTES: usize = 4 << 20;

/// Operations of one request that wait for being sent.
#[derive(Default)]
pub struct Bundles(Mutex<Vec<Waiting>>);

/// One of them.
struct Waiting {
    to: MemberId,
    forward: Forward,
    within: Duration,
    outcome: oneshot::Sender<AttemptOutcome>,
}

/// Operations for one node, on their way.
pub struct Bundle {
    /// The node.
    pub to: MemberId,
    /// The operations.
    pub forwards: Vec<Forward>,
    /// The time for the answers, without that for the bytes.
    pub within: Duration,
    /// Where each answer goes.
    pub outcomes: Vec<oneshot::Sender<AttemptOutcome>>,
}

impl Bundles {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        // Plain data: a thread that panicked cannot have left it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an operation to what goes to a node next, and returns how that came out.
    pub async fn send(&self, to: MemberId, forward: Forward, within: Duration) -> AttemptOutcome {
        let (outcome, came) = oneshot::channel();
        self.waiting().push(Waiting {
            to,
            forward,
            within,
            outcome,
        });
        // Whoever sends it has given up, which happens with the whole request only.
        came.await.unwrap_or(AttemptOutcome::NoAnswer)
    }

    /// What waits, put together by node and length.
    pub fn take(&self) -> Vec<Bundle> {
        let mut waiting = take(&mut *self.waiting());
        waiting.sort_by_key(|waiting| waiting.to);
        let mut bundles: Vec<Bundle> = Vec::new();
        let mut bytes = 0;
        for one in waiting {
            let length = length(&one.forward);
            let last = bundles.last_mut();
            let open = last.filter(|last| last.to == one.to && bytes + length <= BUNDLE_BYTES);
            if let Some(open) = open {
                bytes += length;
                open.forwards.push(one.forward);
                open.outcomes.push(one.outcome);
                open.within = open.within.max(one.within);
            } else {
                bytes = length;
                bundles.push(Bundle {
                    to: one.to,
                    forwards: vec![one.forward],
                    within: one.within,
                    outcomes: vec![one.outcome],
                });
            }
        }
        bundles
    }
}

fn length(forward: &Forward) -> usize {
    let value = match &forward.op {
        Op::Write {
            value: Some(value), ..
        } => value.len(),
        Op::Write { value: None, .. } | Op::Get { .. } => 0,
    };
    forward.op.key().len() + value + forward.context.len() * ENTRY_BYTES
}

/// The room for the values that are read for one reply.
pub struct ReplyRoom {
    left: AtomicUsize,
    most: usize,
}

impl ReplyRoom {
    /// Room for `most` bytes of values.
    pub fn new(most: usize) -> Self {
        Self {
            left: AtomicUsize::new(most),
            most,
        }
    }

    /// Takes the room for what was read; refuses it where there is not enough. The first value
    /// always fits.
    pub fn hold(&self, answer: Answer) -> Answer {
        let Answer::Read(read) = &answer else {
            return answer;
        };
        let bytes = read.found.as_ref().map_or(0, |found| found.value.len());
        let takes = |left: usize| {
            let fits = bytes <= left || left == self.most;
            fits.then(|| left.saturating_sub(bytes))
        };
        match self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, takes)
        {
            Ok(_) => answer,
            Err(_) => Answer::Refused(Refusal::ReplyFull),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::context::Context;
    use crate::protocol::op::{Found, Read};
    use crate::protocol::version::Stamp;
    use bytes::Bytes;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Poll, Waker};

    fn write(bytes: usize) -> Forward {
        Forward {
            op: Op::Write {
                key: Bytes::from_static(b"k"),
                value: Some(Bytes::from(vec![b'1'; bytes])),
                stamp: Stamp::default(),
                orphan: None,
            },
            context: Context::default(),
            stall_us: 0,
        }
    }

    #[test]
    fn what_goes_to_one_node_goes_together_as_far_as_a_message_takes_it() {
        let bundles = Bundles::default();
        let mut cx = std::task::Context::from_waker(Waker::noop());
        let within = Duration::from_millis;
        let mut sends = Vec::new();
        for (to, bytes, ms) in [
            (2, 10, 1),
            (1, 10, 2),
            (2, 20, 9),
            (2, BUNDLE_BYTES, 3),
            (2, 5, 4),
        ] {
            let mut send = Box::pin(bundles.send(MemberId(to), write(bytes), within(ms)));
            assert!(send.as_mut().poll(&mut cx).is_pending());
            sends.push(send);
        }
        let taken = bundles.take();
        let seen: Vec<_> = taken
            .iter()
            .map(|b| (b.to.0, b.forwards.len(), b.within))
            .collect();
        assert_eq!(
            seen,
            [
                (1, 1, within(2)),
                (2, 2, within(9)),
                (2, 1, within(3)),
                (2, 1, within(4))
            ]
        );
        assert!(bundles.take().is_empty());
        for bundle in taken {
            for outcome in bundle.outcomes {
                let _ = outcome.send(AttemptOutcome::NotSent);
            }
        }
        for send in sends {
            let mut send = pin!(send);
            let came = send.as_mut().poll(&mut cx);
            assert!(matches!(came, Poll::Ready(AttemptOutcome::NotSent)));
        }
    }

    #[test]
    fn a_reply_takes_values_as_far_as_it_has_room_and_one_always() {
        let read = |bytes| {
            Answer::Read(Read {
                found: Some(Found {
                    value: Bytes::from(vec![b'1'; bytes]),
                    wall_ms: 0,
                }),
                stamp: None,
                context: Context::default(),
                stale: false,
            })
        };
        let held = |room: &ReplyRoom, bytes| matches!(room.hold(read(bytes)), Answer::Read(_));
        let room = ReplyRoom::new(100);
        assert!(held(&room, 60) && !held(&room, 60) && held(&room, 40) && !held(&room, 1));
        let room = ReplyRoom::new(100);
        assert!(held(&room, 1_000) && !held(&room, 1));
    }
}
