//! A node as a command sees it: requests with bounded waits, and failures in words.

use super::failure::{Code, Failure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Url};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

pub const DEFAULT_NODE: &str = "127.0.0.1:8081";
const CONNECT: Duration = Duration::from_secs(2);
/// A node answers within a second; more is only for the way there and back.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Where to find a node: shared by all commands that ask one.
#[derive(clap::Args)]
pub struct NodeArg {
    /// The node to ask, as ip:port or URL. Any node of the cluster will do
    #[arg(long, env = "CAUSEWAY_NODE", default_value = DEFAULT_NODE)]
    pub node: String,
    #[command(flatten)]
    pub token: TokenArg,
}

/// What a node with an API token is shown.
#[derive(clap::Args)]
pub struct TokenArg {
    /// A token of the cluster's, where it has any: its API_TOKEN, or the WRITE_TOKEN or READ_TOKEN
    /// where that is enough
    #[arg(long, env = "API_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
}

impl TokenArg {
    /// The `Authorization` header, if there is a token.
    pub fn header(&self) -> Result<Option<HeaderValue>, Failure> {
        // An empty variable is what a compose file hands on when there is no token.
        let Some(token) = self.token.as_deref().filter(|token| !token.is_empty()) else {
            return Ok(None);
        };
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value
            .map_err(|_| Failure::usage("--token has a character that a header cannot carry"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The node at `name`, which is asked for at most `patience`, and shown the token.
    pub fn connect(&self, name: &str, patience: Duration) -> Result<NodeClient, Failure> {
        let mut headers = HeaderMap::new();
        if let Some(token) = self.header()? {
            headers.insert(AUTHORIZATION, token);
        }
        NodeClient::with(name, patience, headers)
    }
}

impl NodeArg {
    /// The node, which is asked for at most `patience`, and shown the token.
    pub fn connect(&self, patience: Duration) -> Result<NodeClient, Failure> {
        self.token.connect(&self.node, patience)
    }
}

pub struct NodeClient {
    base: Url,
    /// As the user wrote it.
    name: String,
    http: Client,
}

/// A node's answer, as it came.
pub struct HttpAnswer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

/// A node's answer, in JSON.
pub struct Reply {
    pub status: u16,
    /// Its fields, but a stored value: that has its own digits, and may be deeper or larger than
    /// what is read here.
    pub body: Value,
    /// As it came.
    pub raw: String,
    value: Option<Box<RawValue>>,
}

impl Reply {
    /// Reads a reply; `None` where it is no JSON.
    pub fn of(status: u16, text: String) -> Option<Self> {
        let mut value = None;
        let body = match serde_json::from_str::<HashMap<String, &RawValue>>(&text) {
            Ok(fields) => {
                let mut body = serde_json::Map::new();
                for (name, raw) in fields {
                    if name == "value" {
                        value = Some(raw.to_owned());
                    } else {
                        body.insert(name, serde_json::from_str(raw.get()).ok()?);
                    }
                }
                Value::Object(body)
            }
            Err(_) => serde_json::from_str(&text).ok()?,
        };
        Some(Self {
            status,
            body,
            raw: text,
            value,
        })
    }

    /// The stored value that it has, for people: a string's text, anything else to the letter.
    ///
    /// # Errors
    /// When it has none.
    pub fn value(&self) -> Result<String, Failure> {
        let Some(raw) = &self.value else {
            return Err(Failure::not_done("the node's reply has no value"));
        };
        // A string that is no text, of half a surrogate pair, is shown as JSON as well.
        let text = serde_json::from_str::<String>(raw.get());
        Ok(text.unwrap_or_else(|_| raw.get().to_owned()))
    }

    pub fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether nothing was done because the cluster has not made the payload that it was asked
    /// with.
    pub fn is_foreign(&self) -> bool {
        self.status == 400 && self.text("code") == Some("foreign_payload")
    }

    /// The reply's error in words.
    pub fn error(&self) -> String {
        if self.status == 403 && self.text("error") == Some("Unauthorized") {
            return "the node refuses the token: give one of the cluster's that has the right with --token, or as API_TOKEN in the environment (HTTP 403)".to_owned();
        }
        // Where there are both, the error is a headline.
        let said = self.text("message").or_else(|| self.text("error"));
        said.map_or_else(
            || format!("the node answered HTTP {}", self.status),
            |said| format!("{said} (HTTP {})", self.status),
        )
    }

    /// A field that is a string.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.body.get(field).and_then(Value::as_str)
    }
}

impl NodeClient {
    /// The node at `name`, which is asked for at most `patience`.
    pub fn new(name: &str, patience: Duration) -> Result<Self, Failure> {
        Self::with(name, patience, HeaderMap::new())
    }

    /// A client with headers for every request.
    fn with(name: &str, patience: Duration, headers: HeaderMap) -> Result<Self, Failure> {
        let http = Client::builder()
            .default_headers(headers)
            // A cluster's addresses mean something in its own network only.
            .no_proxy()
            .connect_timeout(CONNECT.min(patience))
            .timeout(patience)
            .build()
            .map_err(|e| Failure::not_done(format!("cannot set up an HTTP client: {e}")))?;
        Ok(Self {
            base: base_url(name)?,
            name: name.to_owned(),
            http,
        })
    }

    /// A request to one of the node's paths.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(path);
        self.http.request(method, url)
    }

    /// Sends a request; any answer will do, errors included.
    pub async fn exchange(&self, request: RequestBuilder) -> Result<HttpAnswer, Failure> {
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let text = answer.text().await.map_err(|e| self.unreachable(&e))?;
        Ok(HttpAnswer {
            status,
            headers,
            text,
        })
    }

    /// Sends a request; any answer in JSON is a reply, errors included.
    pub async fn send(&self, request: RequestBuilder) -> Result<Reply, Failure> {
        let HttpAnswer { status, text, .. } = self.exchange(request).await?;
        Reply::of(status, text).ok_or_else(|| {
            Failure::not_done(format!(
                "{} answered HTTP {status} with something other than JSON: is that a Causeway node?",
                self.name
            ))
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let name = &self.name;
        let text = if error.is_connect() {
            format!(
                "cannot reach {name} ({}): is a node running? start one with `causeway local`",
                cause(error)
            )
        } else if error.is_timeout() {
            format!("{name} did not answer in time; whether it did what was asked is not known")
        } else {
            format!(
                "the connection to {name} broke ({}); whether it did what was asked is not known",
                cause(error)
            )
        };
        Failure::new(Code::Unreachable, text)
    }
}

/// The innermost reason, in the operating system's words where it has some.
fn cause(error: &reqwest::Error) -> String {
    let mut at: &dyn Error = error;
    loop {
        if let Some(io) = at.downcast_ref::<std::io::Error>()
            && io.raw_os_error().is_some()
        {
            return io.kind().to_string();
        }
        match at.source() {
            Some(inner) => at = inner,
            None if error.is_timeout() => return "no answer in time".into(),
            None => return at.to_string(),
        }
    }
}

/// What a path has for a key, or for a node's name. Steps in paths are taken before anything is
/// sent, and a part that is empty is none.
///
/// # Errors
/// When no path can have it.
pub fn in_path(name: &str) -> Result<String, Failure> {
    match name {
        "" => Err(Failure::usage(
            "an empty name is none: give 1 to 1024 bytes",
        )),
        "." | ".." => Err(Failure::usage(format!("no URL can name {name}"))),
        _ => Ok(utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()),
    }
}

/// The socket address of a node that is named like `--node`.
pub fn resolve(name: &str) -> Result<SocketAddr, Failure> {
    let mut found = base_url(name)?
        .socket_addrs(|| None)
        .map_err(|e| Failure::new(Code::Unreachable, format!("cannot find {name} ({e})")))?;
    found
        .pop()
        .ok_or_else(|| Failure::new(Code::Unreachable, format!("cannot find {name}")))
}

fn base_url(name: &str) -> Result<Url, Failure> {
    let name = name.trim();
    let text = match name.split_once("://") {
        Some(("http", _)) => name.to_owned(),
        Some(_) => {
            return Err(Failure::usage(format!(
                "--node {name}: nodes speak plain http only"
            )));
        }
        None => format!("http://{name}"),
    };
    match Url::parse(&text) {
        Ok(url) if url.has_host() => Ok(url),
        _ => Err(Failure::usage(format!(
            "--node {name:?} is no address: it takes the form ip:port or http://host:port"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_by_address_or_url() {
        for (name, url) in [
            ("127.0.0.1:8081", "http://127.0.0.1:8081/"),
            ("http://10.0.0.1:80/", "http://10.0.0.1/"),
            ("localhost:8082", "http://localhost:8082/"),
            ("[::1]:8081", "http://[::1]:8081/"),
        ] {
            assert_eq!(base_url(name).unwrap().as_str(), url);
        }
        for bad in ["", "https://a:1", "a b", "1.2.3.4:99999", "http://"] {
            assert_eq!(base_url(bad).map_err(|f| f.code), Err(Code::Usage), "{bad}");
        }
    }
}
