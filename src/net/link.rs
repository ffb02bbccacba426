//! The state that callers share with a peer's connection task: the queue of frames on their way out
//! and the table of requests that wait for an answer.
//!
//! Callers push and wake the task; the task takes everything that is queued at once, so that many
//! frames leave in one write. With an empty queue a caller writes its message itself, and a request
//! if no other is waiting: that saves a hop to another thread. The task keeps the time-outs of
//! requests, so that callers need no timer and may run on any runtime.

use super::{
    config::NetLimits,
    error::{RequestError, SendError},
    frame::{FrameEncoder, Outgoing},
    hello::HelloRefusal,
    outbuf::{EncodedFrame, OutBuf},
    stats::{LinkStatus, Stats},
};
use crate::protocol::ids::MemberId;
use bytes::BytesMut;
use serde::Serialize;
use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::{Notify, oneshot},
    time::Instant,
};
use tokio_util::{codec::Encoder, sync::CancellationToken};

/// Room in a fresh frame's buffer, in bytes.
const USUAL_FRAME: usize = 256;

/// One peer, seen from the callers. `R` is the response payload.
#[derive(Debug)]
pub struct Link<R> {
    pub member: MemberId,
    pub addr: SocketAddr,
    /// Cancelled when the peer is to be dialled no more; what is queued may still leave.
    pub stop: CancellationToken,
    limits: NetLimits,
    stats: Arc<Stats>,
    state: Mutex<State<R>>,
    /// A copy of `up` in `state`, read before the lock so that nothing is encoded for a peer that
    /// is down.
    up: AtomicBool,
    wake: Notify,
    /// Notified when the peer has dialled this node.
    came: Notify,
    next_id: AtomicU64,
    dropped: AtomicU64,
    /// Why the last hello failed, if one end refused the other.
    refused: Mutex<Option<HelloRefusal>>,
}

#[derive(Debug)]
struct State<R> {
    /// The peer's incarnation, while it is connected and takes frames.
    up: Option<u64>,
    stream: Option<Arc<TcpStream>>,
    /// The task has taken frames that are not all written.
    writing: bool,
    queue: OutBuf,
    queued: Queued,
    pending: HashMap<u64, Waiting<R>>,
    /// No waiting request times out before this.
    earliest: Option<Instant>,
}

impl<R> State<R> {
    /// Writes a small frame to the connection if it is to leave `at_once` and the queue is empty.
    /// Queues what the connection does not take. Returns whether anything was queued.
    fn put(&mut self, frame: &EncodedFrame, at_once: bool, stats: &Stats) -> bool {
        let next = self.queue.is_empty() && !self.writing;
        let written = match (&self.stream, frame) {
            // An error is left to the connection's task, which meets the same one.
            (Some(stream), EncodedFrame::Small(bytes)) if at_once && next => {
                stream.try_write(bytes).unwrap_or(0)
            }
            _ => 0,
        };
        Stats::add(&stats.bytes_out, written as u64);
        let all = written == frame.len();
        if all {
            Stats::add(&stats.frames_out, 1);
        } else {
            self.queue.push_from(frame, written);
        }
        !all
    }
}

/// Frames in the queue, by kind.
#[derive(Debug, Default, Clone, Copy)]
struct Queued {
    messages: usize,
    requests: usize,
}

#[derive(Debug)]
struct Waiting<R> {
    answer: oneshot::Sender<Result<R, RequestError>>,
    deadline: Instant,
}

impl<R> Link<R> {
    pub fn new(member: MemberId, addr: SocketAddr, limits: NetLimits, stats: Arc<Stats>) -> Self {
        Self {
            member,
            addr,
            stop: CancellationToken::new(),
            limits,
            stats,
            state: Mutex::new(State {
                up: None,
                stream: None,
                writing: false,
                queue: OutBuf::default(),
                queued: Queued::default(),
                pending: HashMap::new(),
                earliest: None,
            }),
            up: AtomicBool::new(false),
            wake: Notify::new(),
            came: Notify::new(),
            next_id: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            refused: Mutex::default(),
        }
    }

    /// Notes that the peer has dialled this node: the peer is there, so dialling need not wait.
    pub fn note_coming(&self) {
        if !self.up.load(Ordering::Relaxed) {
            self.came.notify_one();
        }
    }

    /// Resolves when the peer has dialled this node, now or since the last call.
    pub async fn comes(&self) {
        self.came.notified().await;
    }

    /// Locks the state. Nothing that can panic half-way runs under this lock, so a poisoned state
    /// is still whole.
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn status(&self) -> LinkStatus {
        let state = self.lock();
        LinkStatus {
            member: self.member,
            addr: self.addr,
            up: state.up,
            queued_bytes: state.queue.len(),
            pending: state.pending.len(),
            dropped: self.dropped.load(Ordering::Relaxed),
            refused: *self.refused.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    // For callers.

    /// Sends a message that is already a frame, or queues it.
    ///
    /// # Errors
    /// When the message cannot be queued now. It is dropped, and counted.
    pub fn send(&self, frame: &EncodedFrame) -> Result<(), SendError> {
        let mut state = self.lock();
        if let Err(error) = self.room(&state, frame.len()) {
            drop(state);
            self.count_dropped(1);
            return Err(error);
        }
        let empty = state.queue.is_empty();
        let queued = state.put(frame, true, &self.stats);
        state.queued.messages += usize::from(queued);
        drop(state);
        if queued && empty {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Encodes a message, outside of any lock. Says at once if the peer is down.
    pub fn encode_message(&self, message: &impl Serialize) -> Result<EncodedFrame, SendError> {
        if !self.is_up() {
            self.count_dropped(1);
            return Err(SendError::NotConnected);
        }
        encode(&self.limits, Outgoing::Message(message)).inspect_err(|error| {
            self.count_dropped(1);
            self.stats.note_unfit("a message to", error);
        })
    }

    /// Queues a request. The reply resolves to the answer, or to the reason why there is none.
    pub fn request(
        self: &Arc<Self>,
        request: &impl Serialize,
        timeout: Duration,
    ) -> PendingReply<R> {
        self.try_request(request, timeout)
            .unwrap_or_else(|error| PendingReply::failed(error.into()))
    }

    fn try_request(
        self: &Arc<Self>,
        request: &impl Serialize,
        timeout: Duration,
    ) -> Result<PendingReply<R>, SendError> {
        if !self.is_up() {
            return Err(SendError::NotConnected);
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = encode(&self.limits, Outgoing::Request(id, request))
            .inspect_err(|error| self.stats.note_unfit("a request to", error))?;
        let (answer, waiting) = oneshot::channel();
        let now = Instant::now();
        // A time-out beyond the range of the clock: a very long one.
        let deadline = now
            .checked_add(timeout)
            .unwrap_or(now + Duration::from_secs(86_400));

        let mut state = self.lock();
        self.room(&state, frame.len())?;
        if state.pending.len() >= self.limits.pending {
            return Err(SendError::QueueFull);
        }
        let sooner = state.earliest.is_none_or(|earliest| deadline < earliest);
        if sooner {
            state.earliest = Some(deadline);
        }
        // Beside other requests it is queued: it leaves with those that follow, in fewer calls.
        let (alone, empty) = (state.pending.is_empty(), state.queue.is_empty());
        state.pending.insert(id, Waiting { answer, deadline });
        let queued = state.put(&frame, alone, &self.stats);
        state.queued.requests += usize::from(queued);
        drop(state);
        // With frames in the queue the task is awake already, and looks again before it sleeps.
        if sooner || (queued && empty) {
            self.wake.notify_one();
        }
        Ok(PendingReply {
            state: ReplyState::Waiting(waiting),
            link: Some((Arc::clone(self), id)),
        })
    }

    fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    fn room(&self, state: &State<R>, bytes: usize) -> Result<(), SendError> {
        if state.up.is_none() {
            return Err(SendError::NotConnected);
        }
        let waiting = state.queue.len();
        let frames = state.queued.messages + state.queued.requests;
        if (waiting > 0 && waiting + bytes > self.limits.queue_bytes)
            || frames >= self.limits.queue_frames
        {
            return Err(SendError::QueueFull);
        }
        Ok(())
    }

    pub fn count_dropped(&self, n: usize) {
        if n > 0 {
            self.dropped.fetch_add(n as u64, Ordering::Relaxed);
            Stats::add(&self.stats.dropped, n as u64);
        }
    }

    // For the connection's task.

    /// Notes how the last hello ended: `None` is well.
    pub fn note_hello(&self, refused: Option<HelloRefusal>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    /// Takes frames from now on, for this connection.
    pub fn open(&self, incarnation: u64, stream: &Arc<TcpStream>) {
        let mut state = self.lock();
        state.up = Some(incarnation);
        state.stream = Some(Arc::clone(stream));
        state.writing = false;
        drop(state);
        self.up.store(true, Ordering::Relaxed);
    }

    /// Takes no more frames. Queued ones stay, and requests still wait for their answers.
    pub fn refuse_more(&self) {
        self.up.store(false, Ordering::Relaxed);
        self.lock().up = None;
    }

    /// Drops the queue and ends every wait: the connection is gone.
    pub fn shut(&self) {
        self.up.store(false, Ordering::Relaxed);
        let mut state = self.lock();
        state.up = None;
        state.stream = None;
        state.queue = OutBuf::default();
        let lost = std::mem::take(&mut state.queued);
        state.earliest = None;
        let waiting = std::mem::take(&mut state.pending);
        drop(state);
        self.count_dropped(lost.messages);
        for (_, waiting) in waiting {
            // A caller that has stopped waiting needs no reason.
            let _ = waiting.answer.send(Err(RequestError::Closed));
        }
    }

    /// Resolves when something was queued, or a request times out sooner than all before it, since
    /// the last call.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Swaps the queue against `out`, which is empty. Gives the time at which the first request may
    /// time out.
    pub fn take(&self, out: &mut OutBuf) -> Option<Instant> {
        let mut state = self.lock();
        state.writing = !state.queue.is_empty();
        if state.writing {
            std::mem::swap(&mut state.queue, out);
            let taken = std::mem::take(&mut state.queued);
            Stats::add(
                &self.stats.frames_out,
                (taken.messages + taken.requests) as u64,
            );
        }
        state.earliest
    }

    /// Queues a sign of life, unless something else is on its way out.
    pub fn ping(&self, encoder: FrameEncoder) {
        let mut state = self.lock();
        if state.queue.is_empty() {
            // Cannot fail: a ping's body has one byte.
            let _ = state.queue.append(|tail| encoder.ping(tail));
            Stats::add(&self.stats.frames_out, 1);
        }
    }

    /// When the first request may time out.
    pub fn earliest(&self) -> Option<Instant> {
        self.lock().earliest
    }

    /// Hands out answers. An answer that nobody waits for any more is dropped.
    pub fn complete(&self, answers: &mut Vec<(u64, R)>) {
        if answers.is_empty() {
            return;
        }
        let mut found = Vec::with_capacity(answers.len());
        let mut state = self.lock();
        for (id, answer) in answers.drain(..) {
            if let Some(waiting) = state.pending.remove(&id) {
                found.push((waiting.answer, answer));
            }
        }
        drop(state);
        // Outside of the lock: each answer wakes its caller.
        for (waiting, answer) in found {
            let _ = waiting.send(Ok(answer));
        }
    }

    /// Ends the waits whose time is up.
    pub fn expire(&self, now: Instant) {
        let mut state = self.lock();
        let expired: Vec<_> = state
            .pending
            .extract_if(|_, waiting| waiting.deadline <= now)
            .collect();
        state.earliest = state.pending.values().map(|w| w.deadline).min();
        drop(state);
        for (_, waiting) in expired {
            let _ = waiting.answer.send(Err(RequestError::TimedOut));
        }
    }

    /// Whether no request waits for its answer.
    pub fn idle(&self) -> bool {
        let state = self.lock();
        state.pending.is_empty() && state.queue.is_empty()
    }

    fn forget(&self, id: u64) {
        self.lock().pending.remove(&id);
    }
}

/// Encodes one frame, for one queue or several.
pub fn encode<T: Serialize>(
    limits: &NetLimits,
    item: Outgoing<'_, T>,
) -> Result<EncodedFrame, SendError> {
    let limit = limits.frame_bytes;
    let mut frame = BytesMut::with_capacity(USUAL_FRAME);
    FrameEncoder { limit }
        .encode(item, &mut frame)
        .map_err(SendError::Unfit)?;
    Ok(frame.into())
}

/// The answer to a request that has been sent, or will be as soon as the connection's task runs.
/// Dropping it stops the wait, not the request.
#[derive(Debug)]
#[must_use = "the answer comes out of this future"]
pub struct PendingReply<R> {
    state: ReplyState<R>,
    /// Where the request is registered, until its answer came.
    link: Option<(Arc<Link<R>>, u64)>,
}

#[derive(Debug)]
enum ReplyState<R> {
    Waiting(oneshot::Receiver<Result<R, RequestError>>),
    /// Never sent, and why. `None` once the error was returned.
    Failed(Option<RequestError>),
}

impl<R> PendingReply<R> {
    pub(super) fn failed(error: RequestError) -> Self {
        Self {
            state: ReplyState::Failed(Some(error)),
            link: None,
        }
    }
}

impl<R> Future for PendingReply<R> {
    type Output = Result<R, RequestError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let result = match &mut this.state {
            ReplyState::Waiting(receiver) => ready!(Pin::new(receiver).poll(cx)),
            ReplyState::Failed(error) => Ok(Err(error.take().unwrap_or(RequestError::Closed))),
        };
        this.link = None;
        // The sender is dropped without an answer only when the whole runtime ends.
        Poll::Ready(result.unwrap_or(Err(RequestError::Closed)))
    }
}

impl<R> Drop for PendingReply<R> {
    fn drop(&mut self) {
        if let Some((link, id)) = self.link.take() {
            link.forget(id);
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
