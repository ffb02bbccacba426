//! The OpenAPI document: it is valid, complete and the one in `spec`, and replies are what it says.
//!
//! The rules are checked here, so that a machine with nothing but Rust notices what is wrong. The
//! published schema of OpenAPI 3.1 documents says what an object may have; what it cannot say
//! (references, unique names, parameters of paths) has a test of its own. `.ci/run` asks a
//! validator of another make as well, where it can be had.
//!
//! The validator of JSON Schema is boon. The jsonschema crate is better known, but switches on
//! serde_json's `float_roundtrip`, for the whole build: tests would read numbers by other code than
//! a release.

use super::openapi::Document;
use super::routes::HttpRoute;
use super::tests::Reply;
use actix_web::http::{Method, StatusCode};
use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::OpenApi;

/// <https://spec.openapis.org/oas/3.1/schema/2022-10-07>, as the OpenAPI Initiative publishes it
/// under the Apache License 2.0.
const SCHEMA: &str = include_str!("../../tests/http/openapi-3.1.schema.json");
/// Where the document is, for references within it.
const HERE: &str = "http://localhost/openapi.json";

fn document() -> Value {
    serde_json::to_value(Document::openapi()).unwrap()
}

/// A compiler of schemas that knows the document.
fn compiler() -> Compiler {
    let mut compiler = Compiler::new();
    compiler.set_default_draft(Draft::V2020_12);
    compiler.add_resource(HERE, document()).unwrap();
    compiler
}

/// Path, method, and what is said of them.
fn operations(document: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (path, method, operation))
    })
}

fn route(path: &str) -> HttpRoute {
    let mut routes = HttpRoute::ALL.into_iter();
    routes.find(|route| route.path() == path).unwrap()
}

/// Visits every value of a JSON document.
fn walk<'a>(value: &'a Value, visit: &mut dyn FnMut(&'a Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        Value::Object(fields) => fields.values().for_each(|field| walk(field, visit)),
        _ => {}
    }
}

/// A step in a JSON pointer that is the fragment of a URL.
fn step(name: &str) -> String {
    let escaped = name.replace('~', "~0").replace('/', "~1");
    percent_encoding::utf8_percent_encode(&escaped, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// What the document says of replies.
pub(super) struct Described {
    document: Value,
    /// Compiled when they are first met.
    schemas: RefCell<(Schemas, BTreeMap<String, SchemaIndex>)>,
}

impl Described {
    pub fn new() -> Self {
        Self {
            document: document(),
            schemas: RefCell::default(),
        }
    }

    /// Whether an operation may be answered with a status.
    pub fn has(&self, route: HttpRoute, method: &Method, status: StatusCode) -> bool {
        self.response(route, method, status).is_some()
    }

    fn operation(&self, route: HttpRoute, method: &Method) -> Option<&Value> {
        self.document["paths"][route.path()].get(method.as_str().to_lowercase())
    }

    fn response(&self, route: HttpRoute, method: &Method, status: StatusCode) -> Option<&Value> {
        self.operation(route, method)?["responses"].get(status.as_str())
    }

    /// Whether a reply is one that the document describes.
    pub fn is(&self, route: HttpRoute, method: &Method, reply: &Reply) -> Result<(), String> {
        let status = reply.status;
        let what = format!("{method} {}: {status}", route.path());
        if self.operation(route, method).is_none() {
            return match status {
                StatusCode::METHOD_NOT_ALLOWED => Ok(()),
                _ => Err(format!("{what} of a method that is not described")),
            };
        }
        let response = self.response(route, method, status);
        let response = response.ok_or_else(|| format!("{what} is not described"))?;
        let content = response["content"].as_object();
        if method == Method::HEAD {
            return match content {
                None => Ok(()),
                Some(_) => Err(format!("{what} has no body, and one is described")),
            };
        }
        let media = reply.media.as_deref().unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default();
        match content {
            None if reply.body.is_empty() => return Ok(()),
            None => return Err(format!("{what} has a body, and none is described")),
            Some(content) if content.contains_key(media) => {}
            Some(content) => {
                return Err(format!(
                    "{what} is {media:?}, described are {:?}",
                    content.keys()
                ));
            }
        }
        if media != "application/json" {
            return Ok(());
        }
        let body = serde_json::from_slice(&reply.body).map_err(|why| format!("{what}: {why}"))?;
        let at = [
            "paths",
            route.path(),
            &method.as_str().to_lowercase(),
            "responses",
            status.as_str(),
            "content",
            media,
            "schema",
        ];
        let at: String = at.iter().map(|name| format!("/{}", step(name))).collect();
        self.matches(&body, &at)
            .map_err(|why| format!("{what}: {body}: {why}"))
    }

    fn matches(&self, body: &Value, at: &str) -> Result<(), String> {
        let (schemas, compiled) = &mut *self.schemas.borrow_mut();
        let index = match compiled.get(at) {
            Some(index) => *index,
            None => {
                let location = format!("{HERE}#{at}");
                let index = compiler().compile(&location, schemas);
                let index = index.map_err(|why| format!("{why:#}"))?;
                compiled.insert(at.to_owned(), index);
                index
            }
        };
        let valid = schemas.validate(body, index);
        valid.map_err(|why| format!("{why:#}"))
    }
}

#[test]
fn the_document_in_spec_is_the_one_that_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/openapi.json");
    let now = Document::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_SPEC").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == now,
        "spec/openapi.json is out of date: UPDATE_SPEC=1 cargo test openapi"
    );
}

#[test]
fn every_route_and_method_is_there_and_no_other() {
    let document = document();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(|method| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let registered = HttpRoute::ALL
        .iter()
        .flat_map(|route| {
            let methods = route.allow().split(", ");
            methods.map(|method| (route.path().to_owned(), method.to_owned()))
        })
        .collect();
    assert_eq!(documented, registered);
}

#[test]
fn the_document_is_valid_by_the_schema_of_openapi() {
    let mut compiler = Compiler::new();
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let id = schema["$id"].as_str().unwrap().to_owned();
    compiler.add_resource(&id, schema).unwrap();
    let mut schemas = Schemas::new();
    let index = compiler.compile(&id, &mut schemas).unwrap();
    if let Err(why) = schemas.validate(&document(), index) {
        panic!("{why:#}");
    }
}

#[test]
fn every_schema_is_a_json_schema() {
    let document = document();
    let mut schemas = Schemas::new();
    for name in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        let location = format!("{HERE}#/components/schemas/{}", step(name));
        let compiled = compiler().compile(&location, &mut schemas);
        assert!(compiled.is_ok(), "{name}: {:#}", compiled.unwrap_err());
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut seen = 0;
    walk(&document, &mut |value| {
        if let Some(Value::String(reference)) = value.get("$ref") {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
            seen += 1;
        }
    });
    assert!(seen > 100);
}

#[test]
fn operations_have_names_of_their_own() {
    let document = document();
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "{method} {path}: {name} is taken");
    }
}

#[test]
fn every_response_says_what_it_means() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let says = response["description"].as_str().unwrap_or_default();
            assert!(!says.is_empty(), "{method} {path}: {status}");
        }
        assert!(operation["summary"].is_string(), "{method} {path}");
    }
}

#[test]
fn the_parameters_of_paths_are_those_that_the_paths_have() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let parts = path.split('/');
        let in_path: BTreeSet<&str> = parts
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        let parameters = operation["parameters"].as_array().cloned();
        let parameters = parameters.unwrap_or_default();
        let declared: BTreeSet<&str> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "path" && parameter["required"] == true)
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        assert_eq!(declared, in_path, "{method} {path}");
        let mut names = BTreeSet::new();
        for parameter in &parameters {
            let name = (parameter["in"].to_string(), parameter["name"].to_string());
            assert!(names.insert(name), "{method} {path}: {parameter} twice");
        }
    }
}

#[test]
fn every_tag_is_explained() {
    let document = document();
    let tags = document["tags"].as_array().unwrap();
    let explained: BTreeSet<&str> = tags.iter().filter_map(|tag| tag["name"].as_str()).collect();
    let used: BTreeSet<&str> = operations(&document)
        .flat_map(|(_, _, operation)| operation["tags"].as_array().unwrap())
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(used, explained);
}

#[test]
fn what_the_token_guards_names_it_and_says_what_comes_without() {
    let document = document();
    let scheme = &document["components"]["securitySchemes"]["api_token"];
    assert_eq!(
        (&scheme["type"], &scheme["scheme"]),
        (&"http".into(), &"bearer".into())
    );
    for (path, method, operation) in operations(&document) {
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let guarded = route(path).right(&method).is_some();
        let security = &operation["security"];
        assert_eq!(
            security[0]["api_token"].is_array(),
            guarded,
            "{method} {path}"
        );
        let refused = operation["responses"]["403"]["description"].as_str();
        let names_it = refused.is_some_and(|text| text.contains("API token"));
        assert_eq!(names_it, guarded, "{method} {path}");
    }
}

#[test]
fn the_document_says_where_nodes_are() {
    let document = document();
    let servers = document["servers"].as_array().unwrap();
    let urls: Vec<&str> = servers.iter().filter_map(|s| s["url"].as_str()).collect();
    assert_eq!(urls, ["http://{node}", "/"]);
    assert_eq!(servers[0]["variables"]["node"]["default"], "127.0.0.1:8081");
}

#[test]
fn a_reply_that_is_not_described_is_noticed() {
    let described = Described::new();
    let is = |status: u16, media: &str, body: &str| {
        let reply = Reply {
            status: StatusCode::from_u16(status).unwrap(),
            media: Some(media.to_owned()),
            body: body.as_bytes().to_vec(),
        };
        described.is(HttpRoute::NumberOfKeys, &Method::GET, &reply)
    };
    let count = r#"{"msg":"success","count":1}"#;
    assert_eq!(is(200, "application/json", count), Ok(()));
    assert!(is(201, "application/json", count).is_err());
    assert!(is(200, "text/plain", count).is_err());
    assert!(is(200, "application/json", r#"{"msg":"success"}"#).is_err());
    assert!(is(200, "application/json", r#"{"msg":"success","count":"1"}"#).is_err());
}
