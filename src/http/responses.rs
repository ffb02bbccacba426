//! Errors that several paths answer with, for the description of the surface. Nobody makes these
//! values: a `Problem` becomes the reply.

use crate::api::problem::{ErrorReply, RefusedReply};
use crate::api::view::ViewReply;
use std::collections::BTreeMap;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

/// Problems of a call whose body is a form or JSON.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description")]
pub enum BodyErrors {
    /// The body did not arrive in time
    #[response(status = 408)]
    Late(ErrorReply),
    /// The body is neither a form nor JSON
    #[response(status = 415)]
    Unknown(ErrorReply),
}

/// Problems of a call to the causal store.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description")]
pub enum StoreErrors {
    /// The request makes no sense
    #[response(status = 400)]
    Senseless(ErrorReply),
    /// The node's storage failed
    #[response(status = 500)]
    Failed(ErrorReply),
    /// Not possible now; Retry-After says when to try again
    #[response(status = 503)]
    NotNow(ErrorReply),
}

/// Problems of a change of the view.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description")]
pub enum ViewChangeReplies {
    /// The view is in force, and its data is where it belongs
    #[response(status = 200)]
    Done(ViewReply),
    /// The change goes on: data is still being moved
    #[response(status = 202)]
    GoesOn(ViewReply),
    /// The request makes no sense
    #[response(status = 400)]
    Senseless(ErrorReply),
    /// The body is too long
    #[response(status = 413)]
    TooLong(ErrorReply),
}

/// Problems of a call that any member takes, also one that is coming into the view or leaving it.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description")]
pub enum RemovedNode {
    /// This node was removed
    #[response(status = 421)]
    Removed(ErrorReply),
}

/// Problems of a call that a member answers by itself.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description")]
pub enum NoView {
    /// This node is in no view
    #[response(status = 503)]
    Standby(ErrorReply),
}

/// Problems of a call to a list: in text where the list or its Raft group is the reason, in JSON
/// where it is what all surfaces have in common.
pub struct ListErrors;

impl IntoResponses for ListErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let both = [
            ("400", "The request makes no sense"),
            (
                "503",
                "No quorum, or open whether a change was done, or this node is in no view; Retry-After says when to try again",
            ),
        ];
        let text = [
            ("500", "The node's storage failed"),
            (
                "507",
                "The node's disk is full, or there is no room for more lists",
            ),
        ];
        let both = both.map(|(status, why)| (status, in_text(why).content(JSON, error_reply())));
        let text = text.map(|(status, why)| (status, in_text(why)));
        let all = both.into_iter().chain(text);
        all.map(|(status, response)| (status.to_owned(), RefOr::T(response.build())))
            .collect()
    }
}

const JSON: &str = "application/json";

fn in_text(description: &str) -> ResponseBuilder {
    let text = Content::new(Some(String::schema()));
    ResponseBuilder::new()
        .description(description)
        .content("text/plain", text)
}

fn error_reply() -> Content {
    Content::new(Some(Ref::from_schema_name(ErrorReply::name())))
}

/// Problems of a change of a list.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description")]
pub enum ListChangeErrors {
    /// The condition does not hold
    #[response(status = 412, content_type = "text/plain")]
    Condition(String),
    /// The Idempotency-Key was used for another request
    #[response(status = 422, content_type = "text/plain")]
    Once(String),
}

/// Problems of a call to the operator's store that names a key.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description")]
pub enum PlainKeyErrors {
    /// The key is too long, or no UTF-8
    #[response(status = 400)]
    NoKey(RefusedReply),
    /// No such key
    #[response(status = 404)]
    NotFound(RefusedReply),
    /// Not possible now; Retry-After says when to try again
    #[response(status = 503)]
    NotNow(RefusedReply),
}

/// Problems of a call about a node, in the operator's store.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description")]
pub enum NodeErrors {
    /// No such node
    #[response(status = 404)]
    NotFound(RefusedReply),
}

/// Problems of a call that a node out of the view cannot answer, in the operator's store.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "a description")]
pub enum RemovedOperator {
    /// This node was removed
    #[response(status = 421)]
    Removed(RefusedReply),
}
