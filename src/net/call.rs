//! One request on a connection of its own: between nodes that keep no connection, because one of
//! them is a stranger.

use super::{
    CallError, Payload,
    config::NetLimits,
    conn::make_room,
    frame::{Frame, FrameDecoder, FrameEncoder, Outgoing},
    hello::{self, Greeted, NodeIdentity},
};
use crate::protocol::ids::MemberId;
use bytes::{Buf, BytesMut};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{self, Instant, MissedTickBehavior},
};
use tokio_util::codec::{Decoder, Encoder};

/// The only request on its connection.
const ID: u64 = 0;

/// Connects to `addr`, sends a request, and returns the peer that answered and its answer. All of
/// it takes at most `timeout`; connecting and the hello also have limits of their own. Dropping the
/// future closes the connection.
///
/// Only the member `expected` is asked, or with `None` any node that listens there. Call members as
/// a stranger: the connection of a member would take the place of the one that its `Net` keeps. So
/// a member that calls a standby node should expect `STRANGER`.
pub async fn call<Q: Payload, R: Payload>(
    me: &NodeIdentity,
    addr: SocketAddr,
    expected: Option<MemberId>,
    request: &Q,
    limits: &NetLimits,
    timeout: Duration,
) -> Result<(Greeted, R), CallError> {
    let limits = limits.clone().checked();
    let mut encoder = FrameEncoder {
        limit: limits.frame_bytes,
    };
    let mut out = BytesMut::new();
    encoder
        .encode(Outgoing::Request(ID, request), &mut out)
        .map_err(CallError::Unfit)?;

    let now = Instant::now();
    // A time-out beyond the range of the clock: a very long one.
    let end = now
        .checked_add(timeout)
        .unwrap_or(now + Duration::from_secs(86_400));
    let within = |limit: Duration| limit.min(end.saturating_duration_since(Instant::now()));
    let mut stream = time::timeout(within(limits.connect), TcpStream::connect(addr))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(CallError::Connect)?;
    stream.set_nodelay(true).map_err(CallError::Connect)?;
    let greeted = hello::dial(&mut stream, me, expected, within(limits.hello)).await?;
    let answer = time::timeout_at(end, converse(stream, out, encoder, &limits))
        .await
        .unwrap_or(Err(CallError::TimedOut))?;
    Ok((greeted, answer))
}

/// Sends what is in `out`, then signs of life, until the answer comes.
async fn converse<R: Payload>(
    mut stream: TcpStream,
    mut out: BytesMut,
    encoder: FrameEncoder,
    limits: &NetLimits,
) -> Result<R, CallError> {
    let (mut reader, mut writer) = stream.split();
    let mut input = BytesMut::new();
    let mut decoder = FrameDecoder::<(), (), R>::new(limits.frame_bytes);
    let mut writable = true;
    let mut beat = time::interval(limits.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while let Some(frame) = decoder.decode(&mut input)? {
            match frame {
                Frame::Response(ID, answer) => return Ok(answer),
                Frame::Response(..) | Frame::Ping => {}
                Frame::Message(()) | Frame::Request(_, ()) => return Err(CallError::WrongWay),
            }
        }
        make_room(&mut input);
        tokio::select! {
            written = writer.write(&out), if writable && !out.is_empty() => {
                match written {
                    Ok(n) if n > 0 => out.advance(n),
                    // The peer has closed, maybe after its answer: reading on says how this ends.
                    _ => writable = false,
                }
            }
            read = reader.read_buf(&mut input) => {
                if read.map_err(CallError::Io)? == 0 {
                    return Err(CallError::Closed);
                }
            }
            _ = beat.tick() => {
                if out.is_empty() {
                    // Cannot fail: a ping's body has one byte.
                    let _ = encoder.ping(&mut out);
                }
            }
        }
    }
}
