//! `/openapi.json`: the surface for machines, gathered from the handlers. `spec/openapi.json` is
//! the same, kept equal by a test; `UPDATE_SPEC=1 cargo test openapi` writes it anew.
//!
//! Each operation is named by its handler's attribute. What the attributes cannot say is added
//! here: HEAD is GET without a body, calls that the server guards name the API token, and a header
//! is there or not there, but never null.

use super::body::json;
use super::host::Surface;
use super::page;
use super::problem::Problem;
use super::routes::HttpRoute;
use super::surface::operator::{keys as plain, nodes};
use super::surface::{batch, cluster, health, keys, kvs, raft_status, view};
use crate::api::batch::SnapshotValue;
use crate::api::problem::{ErrorReply, RefusedReply};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{self, RefOr};
use utoipa::{Modify, OpenApi, ToSchema};

/// The name of the security scheme.
const API_TOKEN: &str = "api_token";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Causeway",
        description = "A partitioned, replicated key-value store with causal consistency across all keys"
    ),
    paths(
        kvs::get,
        kvs::put,
        kvs::delete,
        batch::batch,
        batch::snapshot,
        keys::get,
        keys::post,
        keys::delete,
        raft_status::status,
        cluster::partition_id,
        cluster::all_partition_ids,
        cluster::partition_members,
        cluster::number_of_keys,
        view::view_update,
        view::state,
        view::set,
        view::plan,
        view::cancel,
        plain::write,
        plain::read,
        plain::delete,
        nodes::for_key,
        nodes::all,
        nodes::fail,
        nodes::recover,
        nodes::set_strategy,
        cluster::explain,
        health::health,
        health::ready,
        health::metrics,
        health::status,
        document,
        page::page,
    ),
    components(schemas(ErrorReply, RefusedReply, SnapshotValue)),
    // The first is where a generated client goes that is told nothing else: the first node of a
    // local cluster.
    servers(
        (
            url = "http://{node}", description = "Any node of the cluster",
            variables(("node" = (default = "127.0.0.1:8081", description = "The node's ip:port"))),
        ),
        (url = "/", description = "The node that served this document"),
    ),
    tags(
        (name = "store", description = "The causal store"),
        (name = "keys", description = "Linearizable lists, by Raft"),
        (name = "cluster", description = "Where keys are, what a payload says, and the view"),
        (name = "operator", description = "Plain keys, faults on demand, the replication strategy"),
        (name = "operations", description = "Is the node alive, does it serve, how is it doing"),
    ),
    modifiers(&Completed),
)]
pub struct Document;

/// Adds what the attributes of handlers cannot say.
struct Completed;

impl Modify for Completed {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let mut token = Http::new(HttpAuthScheme::Bearer);
        token.description =
            Some("The cluster's API_TOKEN, or its WRITE_TOKEN or READ_TOKEN where that is enough. Nodes that have none ask for none.".to_owned());
        document
            .components
            .get_or_insert_default()
            .add_security_scheme(API_TOKEN, SecurityScheme::Http(token));
        for route in HttpRoute::ALL {
            // Documented and served are the same paths: a test compares them.
            let Some(item) = document.paths.paths.get_mut(route.path()) else {
                continue;
            };
            let operations = [
                (Method::GET, &mut item.get),
                (Method::HEAD, &mut item.head),
                (Method::PUT, &mut item.put),
                (Method::POST, &mut item.post),
                (Method::DELETE, &mut item.delete),
            ];
            for (method, operation) in operations {
                let Some(operation) = operation else {
                    continue;
                };
                headers_without_null(operation);
                let right = route.right(&method);
                forbidden(operation, right.is_some());
                if method == Method::HEAD {
                    as_head(operation);
                }
                if right.is_some() {
                    let token = SecurityRequirement::new(API_TOKEN, Vec::<String>::new());
                    // The empty one: without a token, where the cluster has none.
                    operation.security = Some(vec![token, SecurityRequirement::default()]);
                }
            }
        }
    }
}

/// Every path refuses a request whose `Host` or `Origin` a stranger may have chosen; most may need
/// a token.
fn forbidden(operation: &mut Operation, token: bool) {
    let description = match token {
        true => {
            "Without an API token that gives the right, or from a page, by a name or out of a network that may not ask"
        }
        false => "From a page, or by a name that may not ask",
    };
    let forbidden = openapi::ResponseBuilder::new()
        .description(description)
        .content(
            "application/json",
            openapi::Content::new(Some(openapi::Ref::from_schema_name(RefusedReply::name()))),
        )
        .build();
    let responses = &mut operation.responses.responses;
    responses.insert("403".to_owned(), forbidden.into());
}

/// Makes of GET's description that of HEAD, which was made by the same attribute.
fn as_head(operation: &mut Operation) {
    if let Some(id) = &mut operation.operation_id {
        id.push_str("_head");
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.content.clear();
        }
    }
}

/// An optional parameter is described as "a string or null", which no header can be.
fn headers_without_null(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter
            && parameter.parameter_in == ParameterIn::Header
            && let Some(schema) = &mut parameter.schema
        {
            never_null(schema);
        }
    }
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else {
            continue;
        };
        for header in response.headers.values_mut() {
            if let RefOr::T(header) = header
                && let Some(schema) = &mut header.schema
            {
                never_null(schema);
            }
        }
    }
}

fn never_null(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(schema)) = schema
        && let SchemaType::Array(types) = &schema.schema_type
        && let [one, Type::Null] = types.as_slice()
    {
        schema.schema_type = SchemaType::Type(one.clone());
    }
}

/// This document.
#[utoipa::path(
    method(get, head), path = "/openapi.json", operation_id = "openapi", tag = "operations",
    responses((status = 200, body = serde_json::Value, description = "An OpenAPI 3.1 document"))
)]
pub async fn document(
    _surface: &Surface,
    _req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    Ok(json(StatusCode::OK, &Document::openapi()))
}
