//! Errors of sending, and whether the peer may have got what was sent.

use super::{frame::FrameError, hello::HelloError};
use std::io;

/// Why a one-way message was dropped. It was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no connection to the member.
    #[error("no connection to this member")]
    NotConnected,
    /// Too much waits for the member already.
    #[error("the queue to this member is full")]
    QueueFull,
    /// The message is too long, or has no encoding.
    #[error("cannot be encoded: {0}")]
    Unfit(FrameError),
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Not sent: there is no connection to this member.
    #[error("no connection to this member")]
    NotConnected,
    /// Not sent: too much is already waiting for this member.
    #[error("the queue to this member is full")]
    QueueFull,
    /// Not sent: the request is too long, or has no encoding.
    #[error("cannot be encoded: {0}")]
    Unfit(FrameError),
    /// The peer may or may not have acted on it: no answer came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The peer may or may not have acted on it: the connection ended before the answer.
    #[error("the connection was lost before the answer came")]
    Closed,
}

impl RequestError {
    /// True if the peer certainly never saw the request, so that it may be sent elsewhere without a
    /// doubt.
    pub fn definitely_not_sent(&self) -> bool {
        matches!(self, Self::NotConnected | Self::QueueFull | Self::Unfit(_))
    }
}

impl From<SendError> for RequestError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NotConnected => Self::NotConnected,
            SendError::QueueFull => Self::QueueFull,
            SendError::Unfit(error) => Self::Unfit(error),
        }
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Not sent: the request is too long, or has no encoding.
    #[error("cannot be encoded: {0}")]
    Unfit(FrameError),
    /// Not sent: no connection came about, in time or at all.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// Not sent: one side refused the other, or the hello failed.
    #[error("hello: {0}")]
    Hello(#[from] HelloError),
    /// The peer may or may not have acted on it: no answer came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The peer may or may not have acted on it: it closed the connection before the answer.
    #[error("the connection was closed before the answer came")]
    Closed,
    /// The peer may or may not have acted on it: the connection broke before the answer.
    #[error("the connection was lost before the answer came: {0}")]
    Io(io::Error),
    /// The peer may or may not have acted on it: what it sent is no valid frame.
    #[error("bad frame: {0}")]
    Frame(#[from] FrameError),
    /// The peer may or may not have acted on it: instead of an answer it sent what only a dialler
    /// may send.
    #[error("the peer sent a frame that only a dialler may send")]
    WrongWay,
}

impl CallError {
    /// True if the peer certainly never saw the request, so that it may be sent elsewhere without a
    /// doubt.
    pub fn definitely_not_sent(&self) -> bool {
        matches!(self, Self::Unfit(_) | Self::Connect(_) | Self::Hello(_))
    }
}
