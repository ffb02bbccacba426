//! An accepted connection after its hello: hands messages and requests to the handler and sends the
//! answers.
//!
//! Everything happens in one task. Frames are handed over in the order in which they came: the next
//! message only when the handler is done with the one before, requests without waiting for those
//! before them. A request whose handler answers at once costs no task of its own; the others are
//! kept aside, up to a limit, and answered when they are ready. A request that takes longer than
//! any caller waits is dropped: requests that hang must not add up to the limit. Answers that are
//! ready together leave in one write. A dialler that takes no more answers may have sent messages
//! before that: the handler still gets them.
//!
//! With a stranger at either end only requests are served, and few at a time.

use super::{
    Handler, Payload, PeerId,
    conn::{NetShared, Vital, Watch, make_room},
    frame::{Frame, FrameDecoder, FrameEncoder, FrameError, Outgoing},
    outbuf::OutBuf,
    stats::Stats,
};
use bytes::BytesMut;
use futures_util::{FutureExt, StreamExt, future::Fuse, stream::FuturesUnordered};
use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::Poll,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{
    codec::{Decoder, Encoder},
    sync::CancellationToken,
};

/// The dialler counts as gone after this many times its own limit without a sign of life. The
/// dialler notices earlier, and a connection too many does no harm.
const PATIENCE: u32 = 3;

/// Requests in work on a connection with a stranger at either end. A call makes one; with room for
/// more the connection is still read meanwhile, so that its end is noticed.
const STRANGE_REQUESTS: usize = 4;

/// Why an accepted connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Disconnect {
    #[error("closed by the peer")]
    ClosedByPeer,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("bad frame: {0}")]
    Frame(#[from] FrameError),
    #[error("an accepted connection got an answer")]
    WrongWay,
    #[error("a message where only requests are served")]
    StrangeMessage,
    #[error("the peer has been silent for too long")]
    Silent,
    #[error("the peer takes no more bytes")]
    Stalled,
    #[error("stopped")]
    Stopped,
}

/// Serves until the connection ends. When `stop` is cancelled nothing more is read, but requests in
/// work are still answered; the caller limits the time for that.
pub async fn serve<M, Q, R, H>(
    mut stream: TcpStream,
    from: PeerId,
    handler: &H,
    shared: &NetShared,
    stop: &CancellationToken,
) -> Disconnect
where
    M: Payload,
    Q: Payload,
    R: Payload,
    H: Handler<M, Q, R>,
{
    let limits = &shared.config.limits;
    let stats = &shared.stats;
    let strange = shared.strange(from);
    let max_in_work = match strange {
        true => limits.in_flight.min(STRANGE_REQUESTS),
        false => limits.in_flight,
    };
    let (mut reader, mut writer) = stream.split();
    let mut input = BytesMut::new();
    let mut decoder = FrameDecoder::<M, Q, ()>::new(limits.frame_bytes);
    let mut answers = Answers {
        out: OutBuf::default(),
        encoder: FrameEncoder {
            limit: limits.frame_bytes,
        },
        taken: true,
        stats,
    };
    let mut in_work = FuturesUnordered::new();
    let mut delivery = pin!(Fuse::terminated());
    let mut delivering = false;
    let mut stopping = false;
    let mut stopped = pin!(stop.cancelled());
    let mut watch = Watch::new(limits, limits.silence * PATIENCE);
    let mut beat = interval(limits.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);

    loop {
        let mut frames = 0;
        let listening = loop {
            if delivering
                || stopping
                || in_work.len() >= max_in_work
                || answers.out.len() >= limits.answer_bytes
            {
                break false;
            }
            match decoder.decode(&mut input) {
                Ok(None) => break true,
                Ok(Some(Frame::Ping)) => {}
                Ok(Some(Frame::Message(_))) if strange => return Disconnect::StrangeMessage,
                Ok(Some(Frame::Message(message))) => {
                    delivery.set(handler.message(from, message).fuse());
                    delivering = poll_now(delivery.as_mut()).await.is_pending();
                }
                Ok(Some(Frame::Request(id, request))) => {
                    let mut work = Box::pin(async move {
                        let answer = timeout(limits.work, handler.request(from, request)).await;
                        (id, answer.ok())
                    });
                    match poll_now(work.as_mut()).await {
                        Poll::Ready((id, answer)) => answers.done(from, id, answer.as_ref()),
                        Poll::Pending => in_work.push(work),
                    }
                }
                Ok(Some(Frame::Response(..))) => return Disconnect::WrongWay,
                Err(error) => return error.into(),
            }
            frames += 1;
        };
        Stats::add(&stats.frames_in, frames);
        // Gathers all answers that are ready, so that they leave in one write.
        while answers.out.len() < limits.answer_bytes
            && let Poll::Ready(Some((id, answer))) = poll_now(pin!(in_work.next())).await
        {
            answers.done(from, id, answer.as_ref());
        }
        if stopping && !delivering && in_work.is_empty() && answers.out.is_empty() {
            return Disconnect::Stopped;
        }
        make_room(&mut input);
        // In random order, so that under load neither reading nor writing keeps the other from its
        // turn.
        tokio::select! {
            () = &mut stopped, if !stopping => stopping = true,
            () = &mut delivery, if delivering => delivering = false,
            Some((id, answer)) = in_work.next(), if answers.out.len() < limits.answer_bytes => {
                answers.done(from, id, answer.as_ref());
            }
            written = writer.write(answers.out.front()), if !answers.out.is_empty() => {
                match written {
                    // The dialler takes no more. Frames that it sent before may still wait to be
                    // read; the end of reading then says how the connection ended.
                    Ok(0) | Err(_) => answers.drop_all(),
                    Ok(n) => {
                        answers.out.advance(n);
                        Stats::add(&stats.bytes_out, n as u64);
                    }
                }
                watch.wrote = true;
            }
            read = reader.read_buf(&mut input), if listening => {
                match read {
                    Ok(0) => return Disconnect::ClosedByPeer,
                    Ok(n) => Stats::add(&stats.bytes_in, n as u64),
                    Err(error) => return error.into(),
                }
                watch.heard = true;
            }
            _ = beat.tick() => {
                match watch.beat(listening, !answers.out.is_empty()) {
                    Vital::Good => {}
                    Vital::Silent => return Disconnect::Silent,
                    Vital::Stalled => return Disconnect::Stalled,
                }
                // Pings also while nothing is read: a node that is behind with its work is not
                // dead.
                if answers.out.is_empty() {
                    answers.ping();
                }
            }
        }
    }
}

/// Polls once, with the waker of this task.
async fn poll_now<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Answers on their way out.
struct Answers<'a> {
    out: OutBuf,
    encoder: FrameEncoder,
    /// The dialler still takes answers.
    taken: bool,
    stats: &'a Stats,
}

impl Answers<'_> {
    /// Ends a request: with its answer, or without one when it has taken so long that nobody waits.
    fn done<R: Payload>(&mut self, from: PeerId, id: u64, answer: Option<&R>) {
        match answer {
            Some(answer) => self.put(id, answer),
            None => log::warn!(
                "a request of {} took so long that it was dropped: nobody waits for its answer",
                from.member
            ),
        }
    }

    fn put<R: Payload>(&mut self, id: u64, answer: &R) {
        if !self.taken {
            return;
        }
        let encoder = &mut self.encoder;
        match self
            .out
            .append(|tail| encoder.encode(Outgoing::Response(id, answer), tail))
        {
            Ok(()) => Stats::add(&self.stats.frames_out, 1),
            // The dialler times out: its payload type has no value that could tell it.
            Err(error) => self.stats.note_unfit("an answer to", &error),
        }
    }

    fn ping(&mut self) {
        if !self.taken {
            return;
        }
        let encoder = self.encoder;
        // Cannot fail: a ping's body has one byte.
        let _ = self.out.append(|tail| encoder.ping(tail));
        Stats::add(&self.stats.frames_out, 1);
    }
    /// Drops all answers, now and from now on: the dialler takes no more.
    fn drop_all(&mut self) {
        self.out = OutBuf::default();
        self.taken = false;
    }
}
