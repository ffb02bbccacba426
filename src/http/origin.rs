//! From where a request comes: what a web page elsewhere may not make a browser ask of a node, and
//! what only a neighbour may ask of one that has no token.
//!
//! A page can send requests to any address that its visitor reaches, and by letting a name of its
//! own point there (DNS rebinding) it can read the replies too. The `Host` header tells by which
//! name a node was asked, `Origin` and `Sec-Fetch-Site` whose page asked.

use super::problem::Problem;
use super::routes::HttpRoute;
use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, HeaderName, ORIGIN};
use std::borrow::Cow;
use std::net::IpAddr;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Endings of names that nobody can have in the public name system.
const PRIVATE_NAMES: [&str; 3] = [".localhost", ".local", ".internal"];

/// What is wrong with where a request comes from. `hosts` are names by which nodes may be asked
/// beside those that are surely their owner's; `open` says that no token guards the node.
pub fn refusal(
    route: HttpRoute,
    req: &HttpRequest,
    hosts: &[String],
    open: bool,
) -> Option<Problem> {
    let header = |name| req.headers().get(name).map(|v| v.to_str().unwrap_or(""));
    let host = header(HOST);
    if let Some(host) = host.filter(|host| !is_expected(host, hosts)) {
        let message = format!(
            "this node is not to be asked as {host:?}: use its address, or put the name in HOSTS"
        );
        return Some(forbidden(message));
    }
    if req.method().is_safe() {
        return None;
    }
    let from_elsewhere = header(ORIGIN).is_some_and(|origin| !is_of(origin, host));
    if from_elsewhere || header(FETCH_SITE) == Some("cross-site") {
        return Some(forbidden(
            "a page of another site may not change anything here: send the request without a browser",
        ));
    }
    let from = req.peer_addr().map(|a| a.ip().to_canonical());
    if open && route.is_administration(req.method()) && !from.is_none_or(is_near) {
        return Some(forbidden(
            "without an API_TOKEN this node takes that from loopback and private addresses only: \
             set API_TOKEN (and CLUSTER_SECRET) on all nodes",
        ));
    }
    None
}

fn forbidden(message: impl Into<Cow<'static, str>>) -> Problem {
    Problem::titled(StatusCode::FORBIDDEN, "Forbidden", message)
}

/// Whether an origin is the page that the asked node itself serves.
fn is_of(origin: &str, host: Option<&str>) -> bool {
    let page = origin.split_once("://").map(|(_, authority)| authority);
    page.is_some() && page == host
}

/// Whether a `Host` header names the node by something that no stranger can let point to it: an
/// address, a name without a dot as containers have, or one that the operator has listed.
fn is_expected(host: &str, hosts: &[String]) -> bool {
    let name = without_port(host);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() || !name.contains('.') {
        return true;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let ends = |end: &&str| {
        let at = name.len().checked_sub(end.len());
        at.and_then(|at| name.get(at..))
            .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    };
    PRIVATE_NAMES.iter().any(ends) || hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of an address in brackets are its own.
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether an address is of this machine, or of a network that the public one does not reach.
fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::payload::Codec;
    use actix_web::test::TestRequest;

    fn status(route: HttpRoute, request: TestRequest) -> Option<u16> {
        let hosts = ["kv.example.org".to_owned()];
        let request = request.to_http_request();
        let problem = refusal(route, &request, &hosts, true)?;
        Some(problem.reply(&Codec::unborn()).status().as_u16())
    }

    #[test]
    fn a_node_is_asked_by_names_that_no_stranger_has() {
        let asked = |host| {
            status(
                HttpRoute::Kvs,
                TestRequest::get().insert_header((HOST, host)),
            )
        };
        for good in [
            "10.0.0.21:8080",
            "[::1]:8080",
            "[fe80::1]",
            "localhost:8080",
            "node1",
            "app.localhost",
            "host.docker.internal:80",
            "KV.example.org:8080",
            "kv.example.org.",
        ] {
            assert_eq!(asked(good), None, "{good}");
        }
        for bad in [
            "evil.example",
            "kv.example.org.evil.example:8080",
            "10.0.0.21.evil.example",
        ] {
            assert_eq!(asked(bad), Some(403), "{bad}");
        }
        assert_eq!(status(HttpRoute::Kvs, TestRequest::get()), None, "HTTP/1.0");
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let asked = |request: TestRequest, name: &str, value: &str| {
            let request = request.insert_header((HOST, "127.0.0.1:8080"));
            status(HttpRoute::Kvs, request.insert_header((name, value)))
        };
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "http://127.0.0.1:9090"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
        ] {
            assert_eq!(asked(TestRequest::put(), name, value), Some(403), "{value}");
            assert_eq!(asked(TestRequest::get(), name, value), None, "{value}");
        }
        for (name, value) in [
            ("origin", "http://127.0.0.1:8080"),
            ("sec-fetch-site", "same-origin"),
        ] {
            assert_eq!(asked(TestRequest::put(), name, value), None, "{value}");
        }
    }

    #[test]
    fn without_a_token_only_a_neighbour_changes_the_cluster() {
        let asked = |route, from: &str| {
            let from = std::net::SocketAddr::new(from.parse().unwrap(), 4_000);
            status(route, TestRequest::post().peer_addr(from))
        };
        for near in [
            "127.0.0.1",
            "172.17.0.1",
            "192.168.1.7",
            "::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(asked(HttpRoute::Fail, near), None, "{near}");
        }
        for far in ["8.8.8.8", "2001:db8::1", "::ffff:8.8.8.8"] {
            assert_eq!(asked(HttpRoute::Fail, far), Some(403), "{far}");
            assert_eq!(asked(HttpRoute::Write, far), None, "{far}");
        }
    }
}
