//! The node's HTTP surface, on actix-web: the routes, and the server that carries them.
//!
//! One file per surface: `kvs` (the causal store), `cluster` (where things are), `view` (changes of the view), `keys` (the
//! linearizable lists), `admin` (how the council stands), `plain` and `nodes` (the operator's store), `operator`
//! (health, metrics, status), `page` (for people). `request` reads what clients send, `reply`
//! writes what they get, `token` guards what changes the cluster, `routes` lists what there is, `openapi` describes it to
//! machines.
//!
//! Each handler is wrapped in one function that measures it and turns a `Problem` into its reply.
//! There is no middleware: it would box a future on every request. Handlers take nothing from the
//! framework that can fail, so every error that a handler can meet is answered in our own words.

mod admin;
mod cluster;
mod keys;
mod kvs;
mod metrics;
mod nodes;
mod openapi;
mod operator;
mod page;
mod plain;
mod reply;
mod request;
mod routes;
#[cfg(test)]
mod tests;
mod token;
mod view;
mod words;

pub use reply::{ErrorReply, GetReply, WriteReply};
pub use words::status::status;

use crate::node::{Absence, Member, Node, Role};
use crate::protocol::context::{Codec, Context};
use actix_web::dev::Server;
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use arc_swap::Guard;
use metrics::{Handles, Metrics};
use reply::Problem;
use routes::Route;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A connection without a request is kept this long; longer than the usual client's own limit, so
/// that it is mostly the client that closes.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The head of a request has to arrive within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection that is being closed may go on sending.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A node that is told to end has 5 s; requests under way get this much of it.
const SHUTDOWN_TIMEOUT_SECONDS: u64 = 3;
/// Connections that the kernel may hold for us before we accept them.
const BACKLOG: u32 = 2048;

/// What handlers work with; one per worker thread.
struct Surface {
    node: Arc<Node>,
    metrics: Arc<Metrics>,
    handles: Handles,
}

impl Surface {
    fn new(node: Arc<Node>, metrics: Arc<Metrics>) -> Rc<Self> {
        let handles = metrics.handles();
        Rc::new(Self {
            node,
            metrics,
            handles,
        })
    }

    /// The reply to a guarded call that does not show the token.
    fn unauthorized(&self, route: Route, req: &HttpRequest) -> Option<HttpResponse> {
        let token = self.node.config().api_token.as_ref()?;
        let guarded = route.is_guarded(req.method());
        guarded.then(|| token::refusal(token, req.headers()))?
    }

    /// The node as a member, be it on its way in or out of the view.
    fn member(&self) -> Result<Arc<Member>, Problem> {
        match &*self.node.role() {
            Role::Member(member) => Ok(Arc::clone(member)),
            Role::Standby => Err(Problem::standby(&self.node)),
            Role::Removed { view } => Err(Problem::removed(&self.node, *view)),
            Role::Failed { .. } => Err(Problem::failed(&self.node)),
        }
    }

    /// What writes and reads payloads, once the node knows of its cluster.
    fn codec(&self) -> Result<Guard<Arc<Codec>>, Problem> {
        let codec = self.node.codec();
        if codec.is_born() {
            return Ok(codec);
        }
        // In words that fit what the node is.
        self.serving()?;
        // It has heard of it meanwhile.
        Ok(self.node.codec())
    }

    /// The node as a member of the view in force: only such a one serves clients.
    fn serving(&self) -> Result<Arc<Member>, Problem> {
        let member = self.member()?;
        if let Some(forming) = member.forming() {
            return Err(Problem::forming(forming));
        }
        match member.absence() {
            None => Ok(member),
            Some(Absence::Joining) => Err(Problem::joining(&self.node)),
            Some(Absence::Left { view }) => Err(Problem::removed(&self.node, view)),
            Some(Absence::GivenUp) => Err(Problem::given_up(&self.node)),
        }
    }

    /// The same for a client who has seen that much. To be asked when the request is here: what it holds on to may be
    /// removed any time.
    fn serving_to(&self, context: &Context) -> Result<Arc<Member>, Problem> {
        self.serving().map_err(|why| why.seen(context.clone()))
    }
}

/// Serves a node's HTTP surface on `bind` with `workers` threads. The server runs when the
/// returned future is polled; signals are the caller's business, who stops it by its handle.
///
/// # Errors
/// When the address cannot be listened on.
pub fn serve(
    node: Arc<Node>,
    bind: SocketAddr,
    workers: usize,
) -> io::Result<(Server, Vec<SocketAddr>)> {
    let metrics = Arc::new(Metrics::new(Arc::clone(&node)));
    let server = HttpServer::new(move || {
        let surface = Surface::new(Arc::clone(&node), Arc::clone(&metrics));
        App::new().configure(|app| configure(app, &surface))
    })
    .workers(workers)
    .backlog(BACKLOG)
    .keep_alive(KEEP_ALIVE)
    .tcp_nodelay(true)
    .client_request_timeout(HEAD_TIMEOUT)
    .client_disconnect_timeout(DISCONNECT_TIMEOUT)
    .shutdown_timeout(SHUTDOWN_TIMEOUT_SECONDS)
    .disable_signals()
    .bind(bind)?;
    let bound = server.addrs();
    Ok((server.run(), bound))
}

/// Serves `GET /bare`: what the framework alone can do on this machine, to compare with.
///
/// # Errors
/// When the address cannot be listened on.
pub fn bare_server(bind: SocketAddr, workers: usize) -> io::Result<(Server, Vec<SocketAddr>)> {
    let server = HttpServer::new(|| App::new().route("/bare", web::get().to(bare)))
        .workers(workers)
        .backlog(BACKLOG)
        .keep_alive(KEEP_ALIVE)
        .tcp_nodelay(true)
        .disable_signals()
        .bind(bind)?;
    let bound = server.addrs();
    Ok((server.run(), bound))
}

/// A fixed reply about as long as that to a small `GET /kvs`.
pub async fn bare() -> HttpResponse {
    const BODY: &str = r#"{"msg":"success","value":"0123456789abcdef","partition_id":0,"causal_payload":"EOCp5-uyAwAAAgECAwQFBgcICQoLDA","timestamp":1790000000000}"#;
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(BODY)
}

/// Registers everything in `Route::ALL`.
fn configure(app: &mut web::ServiceConfig, surface: &Rc<Surface>) {
    for route in Route::ALL {
        let on = Resource {
            surface,
            route,
            inner: web::resource(route.path()),
        };
        let resource = match route {
            Route::Kvs => on.get(kvs::get).put(kvs::put).delete(kvs::delete),
            Route::PartitionId => on.get(cluster::partition_id),
            Route::AllPartitionIds => on.get(cluster::all_partition_ids),
            Route::PartitionMembers => on.get(cluster::partition_members),
            Route::NumberOfKeys => on.get(cluster::number_of_keys),
            Route::ViewUpdate => on.put(view::view_update),
            Route::View => on.get(view::state).put(view::set),
            Route::ViewPlan => on.get(view::plan),
            Route::ViewChange => on.delete(view::cancel),
            Route::Explain => on.get(cluster::explain),
            Route::Keys => on.get(keys::get).post(keys::post).delete(keys::delete),
            Route::RaftStatus => on.get(admin::status),
            Route::Write => on.post(plain::write),
            Route::Read => on.get(plain::read),
            Route::Delete => on.delete(plain::delete),
            Route::NodesForKey => on.get(nodes::for_key),
            Route::Nodes => on.get(nodes::all),
            Route::Fail => on.post(nodes::fail),
            Route::Recover => on.post(nodes::recover),
            Route::SetStrategy => on.post(nodes::set_strategy),
            Route::Health => on.get(operator::health),
            Route::Ready => on.get(operator::ready),
            Route::Metrics => on.get(operator::metrics),
            Route::Status => on.get(operator::status),
            Route::OpenApi => on.get(openapi::document),
            Route::Page => on.get(page::page),
        };
        app.service(resource.others_refused());
    }
    let surface = Rc::clone(surface);
    app.default_service(web::to(move |req: HttpRequest| {
        let surface = Rc::clone(&surface);
        async move {
            let began = Instant::now();
            let response = reply::unknown_path(req.path()).reply(&surface.node.codec());
            surface
                .handles
                .observe(None, req.method(), &response, began);
            response
        }
    }));
}

/// A path under construction.
struct Resource<'a> {
    surface: &'a Rc<Surface>,
    route: Route,
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
                    Some(unauthorized) => unauthorized,
                    None => match handler(&surface, &req, body).await {
                        Ok(response) => response,
                        Err(problem) => problem.reply(&surface.node.codec()),
                    },
                };
                surface
                    .handles
                    .observe(Some(route), req.method(), &response, began);
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
                let mut response =
                    reply::wrong_method(req.method(), route).reply(&surface.node.codec());
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

/// What a handler is.
trait Handle:
    AsyncFn(&Surface, &HttpRequest, web::Payload) -> Result<HttpResponse, Problem> + Copy + 'static
{
}

impl<H> Handle for H where
    H: AsyncFn(&Surface, &HttpRequest, web::Payload) -> Result<HttpResponse, Problem>
        + Copy
        + 'static
{
}
