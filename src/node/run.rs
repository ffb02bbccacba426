//! A node from start to end: its disk and connections, its HTTP surface, its signals.

use super::config::Config;
use super::{Node, StartError};
use crate::http;
use crate::protocol::store::StoreError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// What is left of the five seconds after SIGTERM for the disk and the connections.
const END_WITHIN: Duration = Duration::from_millis(1_500);

/// Why a node could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot start in {data_dir}: {error}")]
    Start { data_dir: String, error: StartError },
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    #[error("the storage failed: {0}")]
    Storage(#[from] StoreError),
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

/// A node that serves.
pub struct Running {
    /// `None` for a standby.
    pub node: Option<Arc<Node>>,
    server: actix_web::dev::ServerHandle,
}

/// Starts a node and its HTTP surface with `workers` threads.
///
/// # Errors
/// When an address is taken or the disk cannot be used.
pub async fn launch(config: Config, workers: usize) -> Result<Running, RunError> {
    let bind = config.bind;
    let (node, server) = if config.is_standby() {
        log::info!("{} is in no view: standing by", config.address);
        (None, http::serve_standby(config.address, bind))
    } else {
        let data_dir = config.data_dir.display().to_string();
        let node = Node::start(config)
            .await
            .map_err(|error| RunError::Start { data_dir, error })?;
        (Some(Arc::clone(&node)), http::serve(node, bind, workers))
    };
    let (server, bound) = server.map_err(|e| RunError::Listen(bind, e))?;
    for address in bound {
        log::info!("listening on {address}");
    }
    let handle = server.handle();
    tokio::spawn(server);
    Ok(Running {
        node,
        server: handle,
    })
}

impl Running {
    /// Answers what is under way, makes durable what was taken, and ends.
    ///
    /// # Errors
    /// What made the storage fail.
    pub async fn stop(self) -> Result<(), StoreError> {
        self.server.stop(true).await;
        match self.node {
            None => Ok(()),
            // A disk that stands still must not keep the process: all that it was acknowledged
            // for is on it.
            Some(node) => tokio::time::timeout(END_WITHIN, node.shutdown())
                .await
                .unwrap_or(Ok(())),
        }
    }

    /// Resolves when the node's storage has failed.
    async fn failed(&self) -> Result<(), StoreError> {
        match &self.node {
            Some(node) => node.ended().await,
            None => std::future::pending().await,
        }
    }
}

/// Runs a node until it is told to end (SIGTERM or Ctrl-C) or its storage fails.
///
/// # Errors
/// When it cannot start, or its storage failed.
pub async fn run(config: Config) -> Result<(), RunError> {
    let mut term = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut int = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let running = launch(config, workers).await?;
    let failed = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        failed = running.failed() => failed,
    };
    log::info!("ending");
    let ended = running.stop().await;
    failed.and(ended).map_err(RunError::Storage)
}
