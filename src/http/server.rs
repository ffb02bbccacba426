//! Every path and its handler, and the server that carries them.

use super::clients::Clients;
use super::connection::ClientPatience;
use super::host::{Handle, Surface};
use super::listen::{Service, listen};
use super::metrics::Metrics;
use super::problem::{unknown_path, wrong_method};
use super::routes::HttpRoute;
use super::slow::SlowLog;
use super::surface::operator::{keys as plain, nodes};
use super::surface::{batch, cluster, health, keys, kvs, raft_status, view};
use super::{openapi, page};
use crate::node::Node;
use actix_web::dev::Server;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, web};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Serves a node's HTTP surface on `bind` with `workers` threads, for so many connections at a time
/// as the process can have: more wait until one ends. The server runs when the returned future is
/// polled; signals are the caller's business, which stops the server by its handle.
///
/// # Errors
/// When the address cannot be listened on.
pub fn serve(
    node: Arc<Node>,
    bind: SocketAddr,
    workers: usize,
) -> io::Result<(Server, SocketAddr)> {
    let clients = Arc::new(Clients::new(node.config()));
    let metrics = Arc::new(Metrics::new(Arc::clone(&node), Arc::clone(&clients)));
    let slow = Arc::new(SlowLog::new(node.config().slow_request));
    let service = Service {
        bind,
        workers,
        connections: clients.most_connections,
        patience: ClientPatience::DEFAULT,
        counts: Arc::clone(&clients.connections),
    };
    listen(service, move |app| {
        let surface = Surface::new(
            Arc::clone(&node),
            Arc::clone(&clients),
            Arc::clone(&metrics),
            Arc::clone(&slow),
        );
        configure(app, &surface);
    })
}

/// Registers everything in `HttpRoute::ALL`.
pub(super) fn configure(app: &mut web::ServiceConfig, surface: &Rc<Surface>) {
    for route in HttpRoute::ALL {
        let on = Resource {
            surface,
            route,
            inner: web::resource(route.pattern()),
        };
        let resource = match route {
            HttpRoute::Kvs => on.get(kvs::get).put(kvs::put).delete(kvs::delete),
            HttpRoute::Batch => on.post(batch::batch),
            HttpRoute::Snapshot => on.post(batch::snapshot),
            HttpRoute::PartitionId => on.get(cluster::partition_id),
            HttpRoute::AllPartitionIds => on.get(cluster::all_partition_ids),
            HttpRoute::PartitionMembers => on.get(cluster::partition_members),
            HttpRoute::NumberOfKeys => on.get(cluster::number_of_keys),
            HttpRoute::ViewUpdate => on.put(view::view_update),
            HttpRoute::View => on.get(view::state).put(view::set),
            HttpRoute::ViewPlan => on.get(view::plan),
            HttpRoute::ViewChange => on.delete(view::cancel),
            HttpRoute::Explain => on.get(cluster::explain),
            HttpRoute::Keys => on.get(keys::get).post(keys::post).delete(keys::delete),
            HttpRoute::RaftStatus => on.get(raft_status::status),
            HttpRoute::Write => on.post(plain::write),
            HttpRoute::Read => on.get(plain::read),
            HttpRoute::Delete => on.delete(plain::delete),
            HttpRoute::NodesForKey => on.get(nodes::for_key),
            HttpRoute::Nodes => on.get(nodes::all),
            HttpRoute::Fail => on.post(nodes::fail),
            HttpRoute::Recover => on.post(nodes::recover),
            HttpRoute::SetStrategy => on.post(nodes::set_strategy),
            HttpRoute::Health => on.get(health::health),
            HttpRoute::Ready => on.get(health::ready),
            HttpRoute::Metrics => on.get(health::metrics),
            HttpRoute::Status => on.get(health::status),
            HttpRoute::OpenApi => on.get(openapi::document),
            HttpRoute::Page => on.get(page::page),
        };
        app.service(resource.others_refused());
    }
    let surface = Rc::clone(surface);
    app.default_service(web::to(move |req: HttpRequest| {
        let surface = Rc::clone(&surface);
        async move {
            let began = Instant::now();
            let response = unknown_path(req.path()).reply(&surface.node.codec());
            surface
                .handles
                .observe(None, req.method(), &response, began);
            response
        }
    }));
}

/// Leaves a line in the log of each call that changes the cluster, and of each that was forbidden.
fn record(route: HttpRoute, req: &HttpRequest, status: StatusCode) {
    let forbidden = status == StatusCode::FORBIDDEN;
    if forbidden || route.is_administration(req.method()) {
        let from = req.peer_addr().map(|a| a.ip().to_string());
        log::info!(
            "{} {} from {}: {}",
            req.method(),
            req.path(),
            from.as_deref().unwrap_or("somewhere"),
            status.as_u16()
        );
    }
}

/// A path under construction.
struct Resource<'a> {
    surface: &'a Rc<Surface>,
    route: HttpRoute,
    inner: actix_web::Resource,
}

impl Resource<'_> {
    /// Answers GET, and HEAD by the same handler.
    fn get<H: Handle>(self, handler: H) -> Self {
        self.on(Method::GET, handler).on(Method::HEAD, handler)
    }

    fn put<H: Handle>(self, handler: H) -> Self {
        self.on(Method::PUT, handler)
    }

    fn post<H: Handle>(self, handler: H) -> Self {
        self.on(Method::POST, handler)
    }

    fn delete<H: Handle>(self, handler: H) -> Self {
        self.on(Method::DELETE, handler)
    }

    fn on<H: Handle>(mut self, method: Method, handler: H) -> Self {
        let (surface, route) = (Rc::clone(self.surface), self.route);
        let measured = move |req: HttpRequest, body: web::Payload| {
            let surface = Rc::clone(&surface);
            async move {
                let began = Instant::now();
                let response = match surface.unauthorized(route, &req) {
                    Some(unauthorized) => unauthorized.reply(&surface.node.codec()),
                    None => match handler(&surface, &req, body).await {
                        Ok(response) => response,
                        Err(problem) => problem.reply(&surface.node.codec()),
                    },
                };
                let took = surface
                    .handles
                    .observe(Some(route), req.method(), &response, began);
                if surface.slow.is_slow(took) {
                    surface.handles.slow();
                    surface.slow.write(route, &req, &response, took);
                }
                record(route, &req, response.status());
                response
            }
        };
        self.inner = self.inner.route(web::method(method).to(measured));
        self
    }

    /// Answers every other method with 405.
    fn others_refused(self) -> actix_web::Resource {
        let (surface, route) = (Rc::clone(self.surface), self.route);
        self.inner.default_service(web::to(move |req: HttpRequest| {
            let surface = Rc::clone(&surface);
            async move {
                let began = Instant::now();
                let mut response = wrong_method(req.method(), route).reply(&surface.node.codec());
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static(route.allow()));
                surface
                    .handles
                    .observe(Some(route), req.method(), &response, began);
                response
            }
        }))
    }
}
