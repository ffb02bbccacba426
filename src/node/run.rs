//! A stand-in for the life of a node: serves the stand-in facade until a signal; replaced on merge.

use super::Node;
use super::config::Config;
use crate::http;
use crate::protocol::context::Codec;
use crate::protocol::view::{View, ViewError};
use std::io;
use std::net::SocketAddr;
use tokio::signal::unix::{SignalKind, signal};

/// Why a node could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("cannot wait for signals: {0}")]
    Signal(io::Error),
}

/// Runs a node until it is told to end (Ctrl-C or SIGTERM).
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config) -> Result<(), RunError> {
    let codec = Codec::new(config.cluster_secret.as_deref().map(str::as_bytes));
    let view = match config.view {
        Some(view) => view,
        None => View::first(&[config.address], config.k)?,
    };
    let node = Node::stub(view, codec, config.max_value_bytes);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signal)?;
    let listen = |e| RunError::Listen(config.bind, e);
    let (server, _) = http::serve(node, config.bind, 1).map_err(listen)?;
    let handle = server.handle();
    let ended = tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        handle.stop(true).await;
    });
    let served = server.await.map_err(listen);
    ended.abort();
    served
}
