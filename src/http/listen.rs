//! The server under the surface: it listens, and takes so many connections as it may.

use super::connection::{ClientPatience, Connection, ConnectionCounts, UnderWay};
use super::linger;
use actix_http::{HttpService, KeepAlive, Request};
use actix_service::{Service as _, ServiceFactoryExt as _, apply_fn_factory, map_config};
use actix_web::dev::{AppConfig, Server, fn_service};
use actix_web::{App, web};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// A node that is told to end has 5 s; requests under way get this much of it.
const SHUTDOWN_TIMEOUT_SECONDS: u64 = 3;
/// Connections that the kernel may hold for us before we accept them.
pub const BACKLOG: u32 = 2048;

/// Where and how clients are served.
#[derive(Debug, Clone)]
pub struct Service {
    /// The address to listen on.
    pub bind: SocketAddr,
    /// Threads.
    pub workers: usize,
    /// Connections at a time: more wait until one ends.
    pub connections: usize,
    /// How long clients may keep it waiting.
    pub patience: ClientPatience,
    /// What is counted of connections.
    pub counts: Arc<ConnectionCounts>,
}

/// Serves what `configure` registers on each worker. The server runs when it is polled.
///
/// # Errors
/// When the address cannot be listened on.
pub fn listen(
    service: Service,
    configure: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
) -> io::Result<(Server, SocketAddr)> {
    let socket = match service.bind {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(service.bind)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    let bound = listener.local_addr()?;
    let workers = service.workers.max(1);
    let builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(service.connections.div_ceil(workers))
        .shutdown_timeout(SHUTDOWN_TIMEOUT_SECONDS)
        .disable_signals();
    let ending = builder.graceful_shutdown_signal();
    let server = builder.listen("clients", listener, move || {
        let app = map_config(App::new().configure(&configure), |()| AppConfig::default());
        let timed = apply_fn_factory(app, |mut request: Request, app| {
            let under_way = UnderWay::begin(&mut request);
            let answered = app.call(request);
            async move {
                let response = answered.await;
                drop(under_way);
                response
            }
        });
        let ending = ending.clone();
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let ending = ending.clone();
                async move { ending.notified().await }
            })
            // All three are the connection's own business.
            .client_request_timeout(Duration::ZERO)
            .keep_alive(KeepAlive::Os)
            .client_disconnect_timeout(Duration::ZERO)
            .local_addr(bound)
            .on_connect_ext(|connection: &Connection, data| connection.introduce(data))
            .h1(timed);
        let lingerers = linger::places(service.connections);
        let (patience, counts) = (service.patience, Arc::clone(&service.counts));
        fn_service(move |io: TcpStream| {
            let peer = io.peer_addr().ok();
            // A connection that has ended already says so when it is read.
            let _set = io.set_nodelay(true);
            let connection = Connection::new(io, patience, Arc::clone(&counts), lingerers);
            async move { Ok((connection, peer)) }
        })
        .and_then(http)
    })?;
    Ok((server.run(), bound))
}
