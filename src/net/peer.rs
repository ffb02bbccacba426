//! The dialling side: one task per peer that keeps a connection to it, writes what the link has
//! queued, and hands out the answers.
//!
//! The task gives a connection up when nothing has come for `silence` (the other side sends signs
//! of life when it has nothing else to say), or when no byte can be written for `stall`; then it
//! dials again after a short, random pause.

use super::{
    Payload,
    config::{NetConfig, PeerState},
    conn::{NetShared, Vital, Watch, make_room},
    frame::{Frame, FrameDecoder, FrameEncoder, FrameError},
    hello::{self, Greeted, HelloError},
    link::Link,
    outbuf::OutBuf,
    stats::Stats,
};
use bytes::BytesMut;
use std::{io, net::Shutdown, os::fd::AsFd, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::codec::Decoder;

/// Why there is no connection any more, or why none came about.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("cannot connect in time")]
    ConnectTimedOut,
    #[error("hello: {0}")]
    Hello(#[from] HelloError),
    #[error("closed by the peer")]
    ClosedByPeer,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("bad frame: {0}")]
    Frame(#[from] FrameError),
    #[error("the peer sent a frame that only a dialler may send")]
    WrongWay,
    #[error("the peer has been silent for too long")]
    Silent,
    #[error("the peer takes no more bytes")]
    Stalled,
    #[error("stopped")]
    Stopped,
}

/// Keeps a connection to the link's peer until the link is stopped.
pub async fn keep_dialling<R: Payload>(link: Arc<Link<R>>, shared: Arc<NetShared>) {
    let limits = &shared.config.limits;
    let mut pause = limits.backoff_min;
    let mut ever_up = false;
    // The last log line: a peer that stays away for the same reason is logged once.
    let mut last_logged = String::new();
    loop {
        let greeted = tokio::select! {
            biased;
            () = link.stop.cancelled() => return,
            greeted = connect(&link, &shared) => greeted,
        };
        let ended = match greeted {
            Ok((stream, greeted)) => {
                log::info!(
                    "connected to {} at {} (incarnation {:x}, version {})",
                    greeted.member,
                    link.addr,
                    greeted.incarnation,
                    greeted.version
                );
                last_logged.clear();
                pause = limits.backoff_min;
                if std::mem::replace(&mut ever_up, true) {
                    Stats::add(&shared.stats.reconnects, 1);
                }
                let stream = Arc::new(stream);
                let up = Up::new(&link, &shared, greeted.incarnation, &stream);
                let ended = converse(&stream, &link, &shared).await;
                drop(up);
                ended
            }
            Err(ended) => ended,
        };
        if matches!(ended, Ended::Stopped) {
            return;
        }
        let refused = match ended {
            Ended::Hello(HelloError::Refused(why) | HelloError::Refusing(why)) => Some(why),
            _ => None,
        };
        Stats::add(&shared.stats.refused, u64::from(refused.is_some()));
        link.note_hello(refused);
        let line = ended.to_string();
        if line != last_logged {
            log::warn!("no connection to {} at {}: {line}", link.member, link.addr);
            last_logged = line;
        }
        // At least half of the pause, so that a peer that is down is not hammered.
        let wait = pause.mul_f64(rand::random_range(0.5..1.0));
        pause = (pause * 2).min(limits.backoff_max);
        tokio::select! {
            () = link.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            // The peer has dialled this node, so it is back: ends the pause.
            () = link.comes() => pause = limits.backoff_min,
        }
    }
}

/// Marks the link as up until dropped, however the conversation ends.
struct Up<'a, R> {
    link: &'a Link<R>,
    shared: &'a NetShared,
}

impl<'a, R> Up<'a, R> {
    fn new(
        link: &'a Link<R>,
        shared: &'a NetShared,
        incarnation: u64,
        stream: &Arc<TcpStream>,
    ) -> Self {
        link.open(incarnation, stream);
        shared.tell(link.member, PeerState::Up { incarnation });
        Self { link, shared }
    }
}

impl<R> Drop for Up<'_, R> {
    fn drop(&mut self) {
        self.link.shut();
        self.shared.tell(self.link.member, PeerState::Down);
    }
}

async fn connect<R>(link: &Link<R>, shared: &NetShared) -> Result<(TcpStream, Greeted), Ended> {
    let NetConfig {
        identity, limits, ..
    } = &shared.config;
    let mut stream = timeout(limits.connect, TcpStream::connect(link.addr))
        .await
        .map_err(|_| Ended::ConnectTimedOut)?
        .map_err(Ended::Connect)?;
    stream.set_nodelay(true)?;
    let greeted = hello::dial(&mut stream, identity, Some(link.member), limits.hello).await?;
    Ok((stream, greeted))
}

/// Writes and reads until the connection ends. When the link is stopped, sends what is queued,
/// waits for the answers still out, and then for the peer to have read everything, all that at most
/// for `drain`.
async fn converse<R: Payload>(stream: &TcpStream, link: &Link<R>, shared: &NetShared) -> Ended {
    let limits = &shared.config.limits;
    let stats = &shared.stats;
    let mut input = BytesMut::new();
    let mut decoder = FrameDecoder::<(), (), R>::new(limits.frame_bytes);
    let encoder = FrameEncoder {
        limit: limits.frame_bytes,
    };
    let mut out = OutBuf::default();
    let mut answers = Vec::new();
    let mut watch = Watch::new(limits, limits.silence);
    let mut beat = interval(limits.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stopped = pin!(link.stop.cancelled());
    let mut drain_until = None;
    let mut finished = false;
    let mut timer = pin!(sleep_until(Instant::now() + limits.heartbeat));
    let mut armed = None;

    loop {
        let earliest = match out.is_empty() {
            true => link.take(&mut out),
            false => link.earliest(),
        };
        if drain_until.is_some() && !finished && out.is_empty() && link.idle() {
            // Not closed yet: to a sign of life that comes when nobody reads it the operating
            // system answers with a reset, and throws away what the peer has not taken.
            if finish(stream).is_err() {
                return Ended::Stopped;
            }
            finished = true;
        }
        if earliest != armed {
            armed = earliest;
            if let Some(at) = armed {
                // A little late, so that requests that were sent together expire together.
                timer.as_mut().reset(at + Duration::from_millis(1));
            }
        }
        make_room(&mut input);
        // In random order, so that under load neither reading nor writing keeps the other from its
        // turn.
        tokio::select! {
            () = &mut stopped, if drain_until.is_none() => {
                link.refuse_more();
                drain_until = Some(Instant::now() + limits.drain);
            }
            written = write(stream, out.front()), if !out.is_empty() => {
                match written {
                    Ok(0) => return Ended::ClosedByPeer,
                    Ok(n) => {
                        out.advance(n);
                        Stats::add(&stats.bytes_out, n as u64);
                    }
                    Err(error) => return error.into(),
                }
                watch.wrote = true;
            }
            read = read(stream, &mut input) => {
                match read {
                    Ok(0) | Err(_) if finished => return Ended::Stopped,
                    Ok(0) => return Ended::ClosedByPeer,
                    Ok(n) => Stats::add(&stats.bytes_in, n as u64),
                    Err(error) => return error.into(),
                }
                watch.heard = true;
                let read = decode(&mut decoder, &mut input, &mut answers, stats);
                link.complete(&mut answers);
                if let Err(ended) = read {
                    return ended;
                }
            }
            () = link.woken() => {}
            () = &mut timer, if armed.is_some() => {
                link.expire(Instant::now());
                armed = None;
            }
            _ = beat.tick() => {
                if drain_until.is_some_and(|until| until <= Instant::now()) {
                    return Ended::Stopped;
                }
                match watch.beat(true, !out.is_empty()) {
                    Vital::Good => {}
                    Vital::Silent => return Ended::Silent,
                    Vital::Stalled => return Ended::Stalled,
                }
                if out.is_empty() && !finished {
                    link.ping(encoder);
                }
            }
        }
    }
}

/// Writes as much as the connection takes, and at least a byte.
async fn write(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return written,
        }
    }
}

/// Says that nothing more will be written. What was written before arrives first.
fn finish(stream: &TcpStream) -> io::Result<()> {
    let same = stream.as_fd().try_clone_to_owned()?;
    std::net::TcpStream::from(same).shutdown(Shutdown::Write)
}

/// Reads what has come; 0 bytes are the end.
async fn read(stream: &TcpStream, input: &mut BytesMut) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read_buf(input) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// Takes all whole frames from `input`.
fn decode<R: Payload>(
    decoder: &mut FrameDecoder<(), (), R>,
    input: &mut BytesMut,
    answers: &mut Vec<(u64, R)>,
    stats: &Stats,
) -> Result<(), Ended> {
    let mut frames = 0;
    let result = loop {
        match decoder.decode(input) {
            Ok(None) => break Ok(()),
            Ok(Some(Frame::Response(id, answer))) => answers.push((id, answer)),
            Ok(Some(Frame::Ping)) => {}
            Ok(Some(Frame::Message(()) | Frame::Request(_, ()))) => break Err(Ended::WrongWay),
            Err(error) => break Err(error.into()),
        }
        frames += 1;
    };
    Stats::add(&stats.frames_in, frames);
    result
}
