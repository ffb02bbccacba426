//! Shared by integration tests and benchmarks: settings of a node, read as from its environment.

use causeway::node::config::Config;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// The environment of the node at `address` in a cluster of `view`, with its data in `dir`.
/// Variables in `more` are added, or put in place of the rest.
pub fn environment(
    address: SocketAddr,
    view: &[SocketAddr],
    dir: &Path,
    more: &[(&str, &str)],
) -> BTreeMap<String, String> {
    let view: Vec<String> = view.iter().map(ToString::to_string).collect();
    let own = [
        ("ip_port", address.to_string()),
        ("VIEW", view.join(",")),
        ("DATA_DIR", dir.to_string_lossy().into_owned()),
    ];
    let more = more
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    own.into_iter()
        .chain(more)
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The settings in that environment.
pub fn config(
    address: SocketAddr,
    view: &[SocketAddr],
    dir: &Path,
    more: &[(&str, &str)],
) -> Config {
    let environment = environment(address, view, dir, more);
    Config::from_env(|name| environment.get(name).cloned()).expect("a sound environment")
}
