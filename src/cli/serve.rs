//! The commands that a container runs: the node itself, and the check of its health. And the bare
//! server that `bench` compares a node with.

use super::failure::{Code, CommandResult, Failure, print};
use crate::node::config::{Config, ConfigError};
use crate::node::with_file;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// A health check that takes longer has its answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A variable of this process's environment.
pub fn variable(name: &str) -> Option<String> {
    // A value that is not UTF-8 must be refused, not taken for unset.
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// What a node's log goes by, as its environment says or the file of its settings.
pub fn setting(name: &str) -> Option<String> {
    match with_file(variable) {
        Ok(lookup) => lookup(name),
        // A file that makes no sense is told of where the settings are read.
        Err(_) => variable(name),
    }
}

/// The settings in this process's environment, and in the file that it names.
pub fn environment() -> Result<Config, Failure> {
    with_file(variable).and_then(Config::from_env).map_err(|why| match why {
        // Without any setting the user may not have meant to run a node.
        ConfigError::Missing(..) => Failure::usage(format!(
            "{why}; `causeway local` runs a whole cluster to try, `causeway help` lists the commands"
        )),
        why => Failure::usage(why),
    })
}

/// Threads for connections and the council. HTTP, the replica and the committers have their own:
/// with as many here as there are cores they all get in each other's way, and lists are changed and
/// read more slowly.
pub fn runtime_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

/// Runs a node until it is told to end.
pub async fn node(config: Config) -> CommandResult {
    match &config.cluster_secret {
        None => log::warn!(
            "CLUSTER_SECRET is not set: whoever reaches this node can forge contexts and speak as a node"
        ),
        Some(secret) if secret.is_weak() => log::warn!(
            "CLUSTER_SECRET has fewer than 8 characters: it can be guessed; take 32 random ones, as of `openssl rand -hex 16`"
        ),
        Some(_) => {}
    }
    crate::server::run(config).await.map_err(Failure::not_done)
}

/// Serves the empty handler, with as many threads as there are processors.
pub async fn bare(bind: SocketAddr) -> CommandResult {
    let failed = |e| Failure::not_done(format!("cannot serve on {bind}: {e}"));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let (server, _) = crate::http::bare_server(bind, workers).map_err(failed)?;
    server.await.map_err(failed)
}

/// Asks the node that this environment describes whether it is alive.
pub async fn health() -> CommandResult {
    let at = local(environment()?.bind);
    let fail = |why: String| Failure::new(Code::NotDone, format!("{at} is not healthy: {why}"));
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .map_err(|e| fail(e.to_string()))?;
    let reply = http.get(format!("http://{at}/health")).send().await;
    match reply {
        Ok(reply) if reply.status().is_success() => print("healthy"),
        Ok(reply) => Err(fail(format!("HTTP {}", reply.status().as_u16()))),
        Err(e) if e.is_timeout() => Err(fail("no answer in time".into())),
        Err(_) => Err(fail("no connection".into())),
    }
}

/// Where this machine reaches what listens at `bind`.
fn local(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_listens_everywhere_is_asked_on_loopback() {
        for (bind, at) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ] {
            assert_eq!(local(bind.parse().unwrap()), at.parse().unwrap());
        }
    }
}
