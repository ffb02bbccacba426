//! The state that handlers work with, and the trait of a handler.

use super::budget::counted;
use super::clients::Clients;
use super::connection::body_is_here;
use super::metrics::{Handles, Metrics};
use super::origin;
use super::problem::Problem;
use super::reason::Reason;
use super::request::{self, Body, BodyKind};
use super::routes::HttpRoute;
use super::slow::SlowLog;
use super::token;
use crate::node::{Absence, Member, Node, Role};
use crate::protocol::context::Context;
use crate::protocol::payload::Codec;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use arc_swap::Guard;
use std::rc::Rc;
use std::sync::Arc;

/// State of the HTTP surface; one per worker thread.
pub struct Surface {
    /// The node that is served.
    pub node: Arc<Node>,
    /// What all clients together hold.
    pub clients: Arc<Clients>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// This worker's way to that.
    pub handles: Handles,
    /// Requests that took long.
    pub slow: Arc<SlowLog>,
}

impl Surface {
    /// The state of one worker's handlers.
    pub fn new(
        node: Arc<Node>,
        clients: Arc<Clients>,
        metrics: Arc<Metrics>,
        slow: Arc<SlowLog>,
    ) -> Rc<Self> {
        let handles = metrics.handles();
        Rc::new(Self {
            node,
            clients,
            metrics,
            handles,
            slow,
        })
    }

    /// The problem with the sender of a request: a web page elsewhere, a stranger, or the sender of
    /// a guarded call that does not show the token.
    pub fn unauthorized(&self, route: HttpRoute, req: &HttpRequest) -> Option<Problem> {
        let config = self.node.config();
        let tokens = &config.tokens;
        origin::refusal(route, req, &config.hosts, !tokens.are_there())
            .or_else(|| token::refusal(tokens, route, req.method(), req.headers()))
    }

    /// A request's whole body: see [`request::body`].
    pub async fn body(
        &self,
        req: &HttpRequest,
        kind: BodyKind,
        payload: web::Payload,
        max: usize,
    ) -> Result<Body<'_>, Problem> {
        let body = request::body(req.headers(), kind, payload, max, &self.clients.bodies).await?;
        body_is_here(req);
        Ok(body)
    }

    /// A reply that may be long, counted until its client has read it; a problem where others have
    /// too much to read already.
    pub fn unread(&self, reply: HttpResponse) -> Result<HttpResponse, Problem> {
        counted(reply, &self.clients.replies).ok_or_else(|| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "this node holds as many replies as it may (CLIENT_MEMORY_BYTES) that clients have not read: try again, or ask another node",
            )
            .because(Reason::NoRoom)
        })
    }

    /// The node as a member, be it on its way in or out of the view.
    pub fn member(&self) -> Result<Arc<Member>, Problem> {
        match &*self.node.role() {
            Role::Member(member) => Ok(Arc::clone(member)),
            Role::Standby => Err(Problem::standby(&self.node)),
            Role::Removed { view } => Err(Problem::removed(&self.node, *view)),
            Role::Broken { .. } => Err(Problem::broken(&self.node)),
            Role::Failed { .. } => Err(Problem::failed(&self.node)),
        }
    }

    /// The codec of payloads, once the node knows of its cluster.
    pub fn codec(&self) -> Result<Guard<Arc<Codec>>, Problem> {
        let codec = self.node.codec();
        if codec.is_born() {
            return Ok(codec);
        }
        // In words that fit what the node is.
        self.serving()?;
        // The node has heard of its cluster meanwhile.
        Ok(self.node.codec())
    }

    /// The node as a member of the view in force: only such a one serves clients.
    pub fn serving(&self) -> Result<Arc<Member>, Problem> {
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

    /// The serving member, for a client with this context. To be asked when the request is here:
    /// what it holds on to may be removed any time.
    pub fn serving_to(&self, context: &Context) -> Result<Arc<Member>, Problem> {
        self.serving().map_err(|why| why.seen(context.clone()))
    }
}

/// A handler.
pub trait Handle:
    AsyncFn(&Surface, &HttpRequest, web::Payload) -> Result<HttpResponse, Problem> + Copy + 'static
{
}

impl<H> Handle for H where
    H: AsyncFn(&Surface, &HttpRequest, web::Payload) -> Result<HttpResponse, Problem>
        + Copy
        + 'static
{
}
