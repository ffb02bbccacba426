//! A client's connection, and how long it may keep the node waiting: with the head of a request,
//! without one, by not reading replies, and by sending on when it was answered ([`linger`]).
//!
//! The framework times the first head alone. So what it reads from is a stream that knows whether a
//! request is under way: what comes meanwhile is that request's business, and what comes otherwise
//! begins a head, which has to be there in time.
//!
//! A client that does not read is noticed by writes that find no room. Until they do nothing more
//! is read of it, so that it cannot order what it does not fetch.
//!
//! One timer serves it all, and no request moves it: while requests come it fires every few
//! seconds, looks at what the connection is at, and is set anew.
//!
//! [`linger`]: super::linger

use super::linger::Linger;
use actix_http::{Extensions, Payload, Request};
use actix_web::HttpRequest;
use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// What a client gets whose request's head did not come in time.
const LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// How long a client may keep the node waiting.
#[derive(Debug, Clone, Copy)]
pub struct ClientPatience {
    /// From the first byte of a request's head to its last; for the first request, from the
    /// connection's begin.
    pub head: Duration,
    /// From one request to the next one's first byte, and up to `head` longer.
    pub idle: Duration,
    /// From when a reply finds no room with the client until it has read all of it, or as much of
    /// it as [`STEADY`].
    pub reply: Duration,
    /// How long a client that is answered may go on sending.
    pub linger: Duration,
    /// The longest pause that it may make meanwhile.
    pub linger_pause: Duration,
}

/// Bytes that a client has to read of its replies each time while it lets the node wait.
const STEADY: usize = 1 << 20;

/// Bytes that are read at a time only to be dropped.
const DROP_AT_ONCE: usize = 16 * 1024;

impl ClientPatience {
    /// What every node has.
    pub const DEFAULT: Self = Self {
        head: Duration::from_secs(5),
        // Longer than the usual client's own limit, so that it is mostly the client that closes.
        idle: Duration::from_secs(75),
        // As long as a body may take.
        reply: Duration::from_secs(20),
        linger: Duration::from_secs(30),
        linger_pause: Duration::from_secs(5),
    };
}

/// What was seen of clients' connections, all together.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    /// Connections that are open.
    pub open: AtomicU64,
    /// Connections that were closed since a head did not come in time.
    pub late_heads: AtomicU64,
    /// Connections that were cut off since their clients did not read replies.
    pub unread_replies: AtomicU64,
    /// Connections whose clients are answered and go on sending.
    pub lingering: AtomicU64,
    /// Of such connections, those that were closed while their clients went on.
    pub unread_bodies: AtomicU64,
}

/// What a connection is at, as its requests tell it.
#[derive(Debug)]
struct Progress {
    /// A handler is at work.
    under_way: Cell<bool>,
    /// The body of the last request is not all here, as far as is known.
    unread: Cell<bool>,
    /// When the head that is awaited began.
    head: Cell<Option<Instant>>,
    /// Requests so far.
    requests: Cell<u64>,
}

/// A request that a handler is at, until this is dropped.
#[derive(Debug)]
pub struct UnderWay(Rc<Progress>);

impl UnderWay {
    /// To be called when the request's head is there.
    pub fn begin(request: &mut Request) -> Option<Self> {
        let has_body = !matches!(request.payload(), Payload::None);
        let progress = Rc::clone(request.conn_data::<Rc<Progress>>()?);
        progress.under_way.set(true);
        progress.unread.set(has_body);
        progress.head.set(None);
        progress.requests.set(progress.requests.get() + 1);
        Some(Self(progress))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(false);
    }
}

/// Says that the request's whole body is here: its client will read the reply.
pub fn body_is_here(request: &HttpRequest) {
    if let Some(progress) = request.conn_data::<Rc<Progress>>() {
        progress.unread.set(false);
    }
}

/// A client does not read.
#[derive(Debug)]
struct Blocked {
    since: Instant,
    /// Bytes that it has read since then.
    taken: usize,
    /// Something may have come from it that was not read meanwhile.
    deaf: bool,
}

/// A client's connection.
pub struct Connection {
    io: TcpStream,
    progress: Rc<Progress>,
    patience: ClientPatience,
    counts: Arc<ConnectionCounts>,
    /// Fires when the connection is to be looked at.
    timer: Pin<Box<Sleep>>,
    /// Requests up to the last look that found new ones, and when that was.
    seen: (u64, Instant),
    blocked: Option<Blocked>,
    /// How many connections may linger.
    lingerers: usize,
    linger: Option<Linger>,
    /// The client was waited for long enough: nothing more is read.
    over: bool,
}

impl Connection {
    /// A connection that has just begun, and may linger beside `lingerers` - 1 others.
    pub fn new(
        io: TcpStream,
        patience: ClientPatience,
        counts: Arc<ConnectionCounts>,
        lingerers: usize,
    ) -> Self {
        let now = Instant::now();
        counts.open.fetch_add(1, Ordering::Relaxed);
        Self {
            io,
            progress: Rc::new(Progress {
                under_way: Cell::new(false),
                unread: Cell::new(false),
                head: Cell::new(Some(now)),
                requests: Cell::new(0),
            }),
            patience,
            counts,
            timer: Box::pin(tokio::time::sleep_until(now + patience.head)),
            seen: (0, now),
            blocked: None,
            lingerers,
            linger: None,
            over: false,
        }
    }

    /// Lets the connection's requests find it.
    pub fn introduce(&self, data: &mut Extensions) {
        data.insert(Rc::clone(&self.progress));
    }

    /// Whether the last request was answered and its client may send on.
    fn is_answered_early(&self) -> bool {
        self.progress.unread.get() && !self.progress.under_way.get()
    }

    /// Lingers, where there is a place: false where there is none.
    fn begin_to_linger(&mut self) -> bool {
        let request = self.progress.requests.get();
        if self.linger.as_ref().is_some_and(|l| l.request == request) {
            return true;
        }
        self.linger = Linger::begin(&self.counts, self.lingerers, &self.patience, request);
        if let Some(linger) = &self.linger {
            let deadline = linger.deadline(&self.patience);
            if self.timer.deadline() > deadline {
                self.timer.as_mut().reset(deadline);
            }
        }
        self.linger.is_some()
    }

    /// Something was read. The framework drops by itself what comes in chunks after the reply, and
    /// what comes behind them is the next request's.
    fn has_read(&mut self, bytes: usize) {
        if self.is_answered_early() {
            self.over |= !self.begin_to_linger();
            if let Some(linger) = &mut self.linger
                && !linger.drops(bytes)
            {
                linger.give_up();
                self.over = true;
            }
            return;
        }
        if self.progress.under_way.get() || self.progress.head.get().is_some() {
            return;
        }
        let now = Instant::now();
        self.progress.head.set(Some(now));
        // Only after a pause it is later than that.
        if self.timer.deadline() > now + self.patience.head {
            self.timer.as_mut().reset(now + self.patience.head);
        }
    }

    /// Looks at the connection when it is time to: ready when the client is to be waited for no
    /// more.
    fn look(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            let requests = self.progress.requests.get();
            let busy = self.progress.under_way.get() || self.blocked.is_some();
            let pause = self.seen.0 == requests && !busy;
            if !pause {
                self.seen = (requests, now);
            }
            let lingers = self.linger.as_ref().filter(|_| self.is_answered_early());
            let lingers = lingers.map(|linger| linger.deadline(&self.patience));
            let next = match (&mut self.blocked, self.progress.head.get()) {
                (Some(blocked), _) => {
                    if now >= blocked.since + self.patience.reply && blocked.taken >= STEADY {
                        (blocked.since, blocked.taken) = (now, 0);
                    }
                    blocked.since + self.patience.reply
                }
                (None, _) if lingers.is_some() => lingers.unwrap_or(now),
                (None, Some(began)) => began + self.patience.head,
                (None, None) if pause => self.seen.1 + self.patience.idle,
                (None, None) => now + self.patience.head,
            };
            if next <= now {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(next);
        }
    }

    /// Ends the connection of a client that keeps the node waiting: as its own end would, or with
    /// an error.
    fn end(&mut self) -> io::Result<()> {
        self.over = true;
        if self.blocked.is_some() {
            self.counts.unread_replies.fetch_add(1, Ordering::Relaxed);
            // What the kernel holds of the replies goes at once, too.
            self.io.set_zero_linger()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        if let Some(linger) = self.linger.as_ref().filter(|_| self.is_answered_early()) {
            if !linger.is_paused(&self.patience) {
                linger.give_up();
            }
            return Ok(());
        }
        if self.progress.head.get().is_some() {
            self.counts.late_heads.fetch_add(1, Ordering::Relaxed);
            // For a client that may still read it. Nothing else is on its way to it.
            let _sent = self.io.try_write(LATE);
        }
        Ok(())
    }

    /// The client has read everything.
    fn unblock(&mut self, cx: &mut Context<'_>) {
        let Some(blocked) = self.blocked.take() else {
            return;
        };
        // A head that began before had no chance to be looked at.
        if self.progress.head.get().is_some() {
            self.progress.head.set(Some(Instant::now()));
        }
        if blocked.deaf {
            cx.waker().wake_by_ref();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if this.over {
            return Poll::Ready(Ok(()));
        }
        if this.linger.is_some() && !this.is_answered_early() {
            this.linger = None;
        }
        let read = match &mut this.blocked {
            None => Pin::new(&mut this.io).poll_read(cx, buf),
            Some(blocked) => {
                blocked.deaf = true;
                Poll::Pending
            }
        };
        match read {
            Poll::Ready(read) => {
                if buf.filled().len() > before {
                    this.has_read(buf.filled().len() - before);
                }
                Poll::Ready(read)
            }
            Poll::Pending => {
                ready!(this.look(cx));
                Poll::Ready(this.end())
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        match (&written, &mut this.blocked) {
            (Poll::Ready(Ok(bytes)), Some(blocked)) => blocked.taken += bytes,
            (Poll::Ready(_), _) => {}
            (Poll::Pending, blocked) => {
                blocked.get_or_insert_with(|| Blocked {
                    since: Instant::now(),
                    taken: 0,
                    deaf: false,
                });
                ready!(this.look(cx));
                return Poll::Ready(this.end().map(|()| 0));
            }
        }
        written
    }

    /// Called when everything is written.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.unblock(cx);
        Pin::new(&mut this.io).poll_flush(cx)
    }

    /// Called when everything is written that will be; again until it is ready.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.over || !this.is_answered_early() || !this.begin_to_linger() {
            return Pin::new(&mut this.io).poll_shutdown(cx);
        }
        if let Some(linger) = this.linger.as_mut().filter(|l| !l.half_closed) {
            linger.half_closed = true;
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        let mut dropped = [MaybeUninit::uninit(); DROP_AT_ONCE];
        loop {
            let mut buf = ReadBuf::uninit(&mut dropped);
            ready!(Pin::new(&mut *this).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
