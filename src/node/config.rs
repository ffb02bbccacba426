//! Settings of a node from its environment, checked once, before anything is opened. The file that
//! `CONFIG` names adds to the environment (`env_file`).
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `ip_port` | the node's own address, as the others reach it | required |
//! | `VIEW` | the first view: comma-separated `ip:port`s | none: the node is a standby |
//! | `K` | replicas per partition | 1 |
//! | `BIND` | where it listens | `ip_port` |
//! | `PEER_PORT` | where it listens for other nodes | port of `ip_port` + 10000 |
//! | `DATA_DIR` | where its data lies | `./data/<ip_port>` |
//! | `CLUSTER_SECRET` | signs contexts, guards the connections between nodes | none |
//! | `CLUSTER_SECRET_ALSO` | a second secret, while secrets are rotated; `none`: no secret | none |
//! | `API_TOKEN` | needed to change the cluster, and for the operator's store | none |
//! | `WRITE_TOKEN` | needed to write keys and lists | none |
//! | `READ_TOKEN` | needed to read them, and how the cluster stands | none |
//! | these five with `_FILE` after the name | files that hold the secrets | none |
//! | `HOSTS` | names by which clients may ask for it, beside addresses and private names | none |
//! | `MAX_VALUE_BYTES` | the longest value that is taken | 8 MiB |
//! | `CLIENT_MEMORY_BYTES` | of bodies, and of unread replies, at a time | 1/8 of the memory |
//! | `DISK_RESERVE_BYTES` | room on the disk that stays free, half of it for deletes | 128 MiB |
//! | `SLOW_REQUEST_MS` | from when on a request leaves a line in the log; 0: never | 1000 |
//!
//! A node has to know the peer port of every other one without asking. So the *distance* between
//! the two ports is one for the whole cluster: 10000, or what `PEER_PORT` makes of it. Where
//! `PEER_PORT` is used, it has to lie at the same distance from `ip_port` on every node (with one
//! port everywhere, as in containers, that is the same `PEER_PORT` everywhere).

pub use super::error::ConfigError;
use super::secrets::{ClusterSecret, not_empty, secret};
use super::tokens::Tokens;
use crate::memory;
use crate::net::FRAME_BYTES;
use crate::protocol::limits::Limits;
use crate::protocol::view::{View, ViewError};
use crate::raft;
use crate::storage::Reserve;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// From the port of `ip_port` to the one for other nodes, where `PEER_PORT` says nothing.
const PEER_DISTANCE: i32 = 10_000;
/// All variables: what a file may name.
pub(super) const NAMES: [&str; 21] = [
    "ip_port",
    "VIEW",
    "K",
    "BIND",
    "PEER_PORT",
    "DATA_DIR",
    "CLUSTER_SECRET",
    "CLUSTER_SECRET_FILE",
    "CLUSTER_SECRET_ALSO",
    "CLUSTER_SECRET_ALSO_FILE",
    "API_TOKEN",
    "API_TOKEN_FILE",
    "WRITE_TOKEN",
    "WRITE_TOKEN_FILE",
    "READ_TOKEN",
    "READ_TOKEN_FILE",
    "HOSTS",
    "MAX_VALUE_BYTES",
    "CLIENT_MEMORY_BYTES",
    "DISK_RESERVE_BYTES",
    "SLOW_REQUEST_MS",
];
const MAX_VALUE_BYTES: usize = 8 * 1024 * 1024;
/// The longest value that nodes can send each other, in bytes: a replica's message has so much in
/// it, and may have one version more, with its key and its past.
pub const LONGEST_VALUE: usize = FRAME_BYTES - Limits::ORDINARY.message_bytes() - (1 << 20);
const _: () = assert!(MAX_VALUE_BYTES <= LONGEST_VALUE);
/// A request that takes this long is slow, where no setting says it.
const SLOW_REQUEST: Duration = Duration::from_secs(1);
/// The store's flushes and compactions need this much while they work, in bytes.
const LEAST_RESERVE: u64 = 64 << 20;

/// A node's settings.
#[derive(Clone)]
pub struct Config {
    /// The node's own address: its name in the cluster.
    pub address: SocketAddr,
    /// The first view, if the node was given one.
    pub view: Option<View>,
    /// Replicas per partition.
    pub k: usize,
    /// Where clients are listened for.
    pub bind: SocketAddr,
    /// Where other nodes are listened for.
    pub peer_bind: SocketAddr,
    /// Where its data lies.
    pub data_dir: PathBuf,
    /// Signs contexts, and guards the connections between nodes.
    pub cluster_secret: Option<ClusterSecret>,
    /// Accepted of other nodes beside the secret, while secrets are rotated.
    pub also_secret: Option<AlsoSecret>,
    /// The tokens that clients show as `Authorization: Bearer`. Without one nothing is guarded.
    pub tokens: Tokens,
    /// Names by which clients may ask for the node, in lower case, beside addresses and private
    /// names.
    pub hosts: Vec<String>,
    /// The longest value that is taken, in bytes of JSON text.
    pub max_value_bytes: usize,
    /// Bytes of request bodies that are held at a time, and as many of replies that clients have
    /// not read.
    pub client_memory_bytes: usize,
    /// A request that takes this long leaves a line in the log; none does without it.
    pub slow_request: Option<Duration>,
    /// Room on the disk that is kept free.
    pub reserve: Reserve,
    /// The Raft group's settings: no variable changes them, but for the reserve.
    pub raft: raft::RaftConfig,
    peer_distance: i32,
}

/// A second secret, which others may go by.
#[derive(Debug, Clone)]
pub enum AlsoSecret {
    /// A second secret.
    Secret(ClusterSecret),
    /// Others may have none.
    None,
}

impl Config {
    /// The settings in `lookup`, which is the process's environment or stands for it.
    ///
    /// # Errors
    /// Names the first variable that makes no sense.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let address = match lookup("ip_port") {
            Some(text) => reachable("ip_port", &text, &text)?,
            None => {
                return Err(ConfigError::Missing(
                    "ip_port",
                    "it is the node's own address, such as 10.0.0.21:8080",
                ));
            }
        };
        let k = positive("K", lookup("K"), 1)?;
        let view = match lookup("VIEW") {
            Some(text) if !text.trim().is_empty() => Some(first_view(&text, k)?),
            // A compose file without a view sets the variable to nothing: the same as none.
            _ => None,
        };
        let bind = match lookup("BIND") {
            Some(text) => socket("BIND", &text, &text)?,
            None => address,
        };
        let peer_distance = match lookup("PEER_PORT") {
            Some(text) => i32::from(peer_port(&text, bind)?) - i32::from(address.port()),
            None => PEER_DISTANCE,
        };
        for node in view.iter().flat_map(View::members).map(|(_, a)| a) {
            peer_address(node, peer_distance).ok_or_else(|| no_peer_port(node, peer_distance))?;
        }
        let peer = peer_address(address, peer_distance)
            .ok_or_else(|| no_peer_port(address, peer_distance))?;
        let cluster_secret = secret("CLUSTER_SECRET", "CLUSTER_SECRET_FILE", &lookup)?;
        let also_secret = secret("CLUSTER_SECRET_ALSO", "CLUSTER_SECRET_ALSO_FILE", &lookup)?;
        let tokens = Tokens::from_env(&lookup)?;
        if tokens.are_there() && cluster_secret.is_none() {
            return Err(ConfigError::TokenWithoutSecret);
        }
        let reserve = reserve(lookup("DISK_RESERVE_BYTES"))?;
        Ok(Self {
            address,
            view,
            k,
            bind,
            peer_bind: SocketAddr::new(bind.ip(), peer.port()),
            data_dir: match not_empty("DATA_DIR", lookup("DATA_DIR"))? {
                Some(dir) => dir.into(),
                None => PathBuf::from("data").join(address.to_string()),
            },
            cluster_secret: cluster_secret.map(ClusterSecret::new),
            also_secret: also_secret.map(|text| match text.as_str() {
                "none" => AlsoSecret::None,
                _ => AlsoSecret::Secret(ClusterSecret::new(text)),
            }),
            tokens,
            hosts: hosts(lookup("HOSTS").as_deref().unwrap_or_default())?,
            max_value_bytes: value_bytes(lookup("MAX_VALUE_BYTES"))?,
            client_memory_bytes: positive(
                "CLIENT_MEMORY_BYTES",
                lookup("CLIENT_MEMORY_BYTES"),
                memory::for_clients(),
            )?,
            slow_request: slow_request(lookup("SLOW_REQUEST_MS"))?,
            reserve,
            raft: raft::RaftConfig {
                reserve: reserve.bytes(),
                ..raft::RaftConfig::default()
            },
            peer_distance,
        })
    }

    /// Where the node that clients reach at `http` listens for other nodes. `None` when there is no
    /// such port: a node with that address cannot be in this cluster.
    #[must_use]
    pub fn peer_address(&self, http: SocketAddr) -> Option<SocketAddr> {
        peer_address(http, self.peer_distance)
    }

    /// Whether the node is in no view yet and waits to be added to one.
    #[must_use]
    pub fn is_standby(&self) -> bool {
        self.view
            .as_ref()
            .is_none_or(|view| view.member_at(self.address).is_none())
    }
}

/// Leaves the secrets out.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("address", &self.address)
            .field("bind", &self.bind)
            .field("peer_bind", &self.peer_bind)
            .field("k", &self.k)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

fn peer_address(http: SocketAddr, distance: i32) -> Option<SocketAddr> {
    let port = u16::try_from(i32::from(http.port()) + distance).ok()?;
    (port != 0).then(|| SocketAddr::new(http.ip(), port))
}

fn no_peer_port(node: SocketAddr, distance: i32) -> ConfigError {
    nonsense(
        "ip_port",
        &node.to_string(),
        &format!(
            "the port for other nodes would be {}, which is no port: set PEER_PORT to a free one, at the same distance from ip_port on every node",
            i32::from(node.port()) + distance
        ),
    )
}

fn nonsense(name: &'static str, value: &str, problem: &str) -> ConfigError {
    ConfigError::Nonsense {
        name,
        value: value.to_owned(),
        problem: problem.to_owned(),
    }
}

/// The address `part`, which stands in the variable's `whole` text.
fn socket(name: &'static str, whole: &str, part: &str) -> Result<SocketAddr, ConfigError> {
    let part = part.trim();
    let address: SocketAddr = part.parse().map_err(|_| {
        nonsense(
            name,
            whole,
            &format!("{part:?} is no address: it takes the form ip:port, such as 10.0.0.21:8080"),
        )
    })?;
    if address.port() == 0 {
        return Err(nonsense(name, whole, "port 0 is no port"));
    }
    Ok(address)
}

/// An address that other nodes can connect to.
fn reachable(name: &'static str, whole: &str, part: &str) -> Result<SocketAddr, ConfigError> {
    let address = socket(name, whole, part)?;
    if address.ip().is_unspecified() {
        return Err(nonsense(
            name,
            whole,
            "other nodes cannot reach that address: give the node's own, and BIND to listen on all",
        ));
    }
    Ok(address)
}

fn first_view(text: &str, k: usize) -> Result<View, ConfigError> {
    let addresses: Vec<SocketAddr> = text
        .split(',')
        .map(|part| reachable("VIEW", text, part))
        .collect::<Result<_, _>>()?;
    View::first(&addresses, k).map_err(|e: ViewError| nonsense("VIEW", text, &e.to_string()))
}

fn peer_port(text: &str, bind: SocketAddr) -> Result<u16, ConfigError> {
    match text.trim().parse::<u16>() {
        Ok(0) | Err(_) => Err(nonsense("PEER_PORT", text, "it is no port (1 to 65535)")),
        Ok(port) if port == bind.port() => Err(nonsense(
            "PEER_PORT",
            text,
            "it is the port for clients already",
        )),
        Ok(port) => Ok(port),
    }
}

fn positive(
    name: &'static str,
    text: Option<String>,
    default: usize,
) -> Result<usize, ConfigError> {
    let Some(text) = text else {
        return Ok(default);
    };
    match text.trim().parse() {
        Ok(0) | Err(_) => Err(nonsense(
            name,
            &text,
            "it has to be a whole number of 1 or more",
        )),
        Ok(n) => Ok(n),
    }
}

fn value_bytes(text: Option<String>) -> Result<usize, ConfigError> {
    const NAME: &str = "MAX_VALUE_BYTES";
    let given = text.clone().unwrap_or_default();
    match positive(NAME, text, MAX_VALUE_BYTES)? {
        bytes if bytes > LONGEST_VALUE => {
            let most = format!("nodes cannot send each other more than {LONGEST_VALUE} bytes");
            Err(nonsense(NAME, &given, &most))
        }
        bytes => Ok(bytes),
    }
}

fn slow_request(text: Option<String>) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = text else {
        return Ok(Some(SLOW_REQUEST));
    };
    match text.trim().parse() {
        Ok(0) => Ok(None),
        Ok(ms) => Ok(Some(Duration::from_millis(ms))),
        Err(_) => Err(nonsense(
            "SLOW_REQUEST_MS",
            &text,
            "it has to be a whole number of milliseconds, or 0 for no lines about slow requests",
        )),
    }
}

fn reserve(text: Option<String>) -> Result<Reserve, ConfigError> {
    let Some(text) = text else {
        return Ok(Reserve::default());
    };
    match text.trim().parse() {
        Ok(bytes) if bytes >= LEAST_RESERVE => Ok(Reserve::of(bytes)),
        _ => {
            let problem = format!(
                "it has to be a whole number of bytes, {LEAST_RESERVE} (64 MiB) or more: the store needs that much while it works"
            );
            Err(nonsense("DISK_RESERVE_BYTES", &text, &problem))
        }
    }
}

fn hosts(text: &str) -> Result<Vec<String>, ConfigError> {
    let name = |part: &str| {
        let part = part.trim();
        let of_a_name = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-' || b == b'_';
        if part.is_empty() || !part.bytes().all(of_a_name) {
            let problem = format!("{part:?} is no name of a host, such as kv.example.org");
            return Err(nonsense("HOSTS", text, &problem));
        }
        Ok(part.to_ascii_lowercase())
    };
    match text.trim().is_empty() {
        true => Ok(Vec::new()),
        false => text.split(',').map(name).collect(),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
