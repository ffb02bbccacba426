//! A node that is in no view: it listens, says that it lives, and refuses everything else.

use super::operator;
use super::reply::Problem;
use super::routes::Route;
use super::{BACKLOG, DISCONNECT_TIMEOUT, HEAD_TIMEOUT, KEEP_ALIVE};
use crate::protocol::context::Codec;
use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use std::io;
use std::net::SocketAddr;

/// Serves a standby's HTTP surface on `bind`; `address` is the name it would have in a view.
///
/// # Errors
/// When the address cannot be listened on.
pub fn serve_standby(
    address: SocketAddr,
    bind: SocketAddr,
) -> io::Result<(Server, Vec<SocketAddr>)> {
    let server = HttpServer::new(move || {
        let refuse = move |req: HttpRequest| async move { answer(address, req.path()) };
        App::new().default_service(web::to(refuse))
    })
    .workers(1)
    .backlog(BACKLOG)
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(HEAD_TIMEOUT)
    .client_disconnect_timeout(DISCONNECT_TIMEOUT)
    .disable_signals()
    .bind(bind)?;
    let bound = server.addrs();
    Ok((server.run(), bound))
}

fn answer(address: SocketAddr, path: &str) -> HttpResponse {
    if path == Route::Health.path() {
        return operator::success();
    }
    let error = format!(
        "{address} is a standby: it is in no view. Ask a node of the cluster, or start this one with VIEW naming it"
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, error).reply(&Codec::new(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_is_alive_and_serves_nothing() {
        let address = SocketAddr::from(([10, 0, 0, 9], 8080));
        assert_eq!(answer(address, "/health").status(), StatusCode::OK);
        for path in ["/ready", "/kvs", "/kvs/get_partition_id", "/"] {
            let reply = answer(address, path);
            assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(reply.headers().contains_key("retry-after"), "{path}");
        }
    }
}
