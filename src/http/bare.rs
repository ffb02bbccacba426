//! A bare handler: the most that the framework can do on this machine, to compare with.

use super::connection::ClientPatience;
use super::listen::BACKLOG;
use actix_web::dev::Server;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{App, HttpResponse, HttpServer, web};
use std::io;
use std::net::SocketAddr;

/// Serves `GET /bare`: what the framework alone can do on this machine, to compare with.
///
/// # Errors
/// When the address cannot be listened on.
pub fn bare_server(bind: SocketAddr, workers: usize) -> io::Result<(Server, SocketAddr)> {
    let server = HttpServer::new(|| App::new().route("/bare", web::get().to(bare)))
        .workers(workers)
        .backlog(BACKLOG)
        .keep_alive(ClientPatience::DEFAULT.idle)
        .tcp_nodelay(true)
        .disable_signals()
        .bind(bind)?;
    let bound = server.addrs().first().copied();
    let bound = bound.ok_or_else(|| io::Error::other("the address is none"))?;
    Ok((server.run(), bound))
}

/// A fixed reply about as long as that to a small `GET /kvs`.
pub async fn bare() -> HttpResponse {
    const BODY: &str = r#"{"msg":"success","value":"0123456789abcdef","partition_id":0,"causal_payload":"EOCp5-uyAwAAAgECAwQFBgcICQoLDA","timestamp":1790000000000}"#;
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(BODY)
}
