//! A node from start to end: its disk and connections, its HTTP surface, its signals.

use crate::descriptors::{self, TooFew};
use crate::http;
use crate::node::config::Config;
use crate::node::{Node, StartError};
use rustix::fs::Mode;
use rustix::process::umask;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Time for the disk and the connections to end: the rest of the five seconds after SIGTERM.
const END_WITHIN: Duration = Duration::from_millis(1_500);

/// Why a node could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The node cannot start.
    #[error("cannot start in {data_dir}: {error}")]
    Start {
        /// Its data directory.
        data_dir: String,
        /// The reason.
        error: StartError,
    },
    /// The HTTP surface cannot listen on the address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The node has ended, and not because it was told to.
    #[error("cannot go on: {0}")]
    Failed(Arc<StartError>),
    /// The operating system does not hand on signals.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    /// The process may have too few files open.
    #[error(transparent)]
    TooFewDescriptors(#[from] TooFew),
}

/// A node that serves.
pub struct Running {
    /// The node itself.
    pub node: Arc<Node>,
    server: actix_web::dev::ServerHandle,
}

/// Starts a node and its HTTP surface with `workers` threads.
///
/// # Errors
/// When an address is taken or the disk cannot be used.
pub async fn launch(config: Config, workers: usize) -> Result<Running, RunError> {
    let bind = config.bind;
    let data_dir = config.data_dir.display().to_string();
    let node = Node::start(config)
        .await
        .map_err(|error| RunError::Start { data_dir, error })?;
    let server = http::serve(Arc::clone(&node), bind, workers);
    let (server, bound) = server.map_err(|e| RunError::Listen(bind, e))?;
    log::info!("listening on {bound}");
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
    /// Why the node could not end in order.
    pub async fn stop(self) -> Result<(), Arc<StartError>> {
        self.server.stop(true).await;
        // A disk that stands still must not keep the process: all that it was acknowledged for is
        // on it.
        let ended = tokio::time::timeout(END_WITHIN, self.node.shutdown()).await;
        ended.unwrap_or(Ok(()))
    }
}

/// Runs a node until it is told to end (SIGTERM or Ctrl-C) or its storage fails.
///
/// # Errors
/// When it cannot start, or its storage failed.
pub async fn run(config: Config) -> Result<(), RunError> {
    descriptors::raise()?;
    // What a node stores is its clients' data and its cluster's keys: nobody else's to read.
    umask(Mode::from_raw_mode(0o077));
    let mut term = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut int = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let running = launch(config, workers).await?;
    let failed = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        failed = running.node.ended() => failed,
    };
    log::info!("ending");
    let ended = running.stop().await;
    failed.and(ended).map_err(RunError::Failed)
}
