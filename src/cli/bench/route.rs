//! Which node a request goes to.

use super::Bench;
use crate::cli::client::{PATIENCE, resolve};
use crate::cli::failure::{Code, Failure};
use crate::cli::status;
use crate::protocol::view::View;
use clap::ValueEnum;
use std::net::{SocketAddr, TcpStream};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Routing {
    Any,
    Aware,
    Roam,
}

/// The nodes that take requests.
pub struct Routes {
    pub nodes: Vec<SocketAddr>,
    pub routing: Routing,
    /// Set when requests go to owners; `nodes` are its members then, in their order.
    view: Option<View>,
}

impl Routes {
    /// Finds the nodes, and checks that they can be reached at all.
    pub fn learn(args: &Bench) -> Result<Self, Failure> {
        let routes = match args.routing {
            Routing::Any | Routing::Roam => Self {
                nodes: args
                    .target
                    .iter()
                    .map(|t| resolve(t))
                    .collect::<Result<_, _>>()?,
                routing: args.routing,
                view: None,
            },
            Routing::Aware => Self::aware(args)?,
        };
        for node in &routes.nodes {
            TcpStream::connect_timeout(node, PATIENCE).map_err(|e| {
                Failure::new(
                    Code::Unreachable,
                    format!("cannot reach {node} ({})", e.kind()),
                )
            })?;
        }
        Ok(routes)
    }

    /// The view of the first target, worked out from its members: a status does not list slots, so
    /// this holds for a cluster that still has the view it was started with.
    fn aware(args: &Bench) -> Result<Self, Failure> {
        let target = args.target.first().map_or("", String::as_str);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::not_done(format!("cannot start: {e}")))?;
        let seen = runtime
            .block_on(async { status::ask(&args.token.connect(target, PATIENCE)?).await })?
            .view;
        let mut members: Vec<(u16, &str)> = seen
            .partitions
            .iter()
            .flat_map(|p| p.members.iter().map(|m| (m.member, m.node.as_str())))
            .collect();
        members.sort_unstable();
        let nodes: Vec<SocketAddr> = members
            .iter()
            .map(|(_, node)| resolve(node))
            .collect::<Result<_, _>>()?;
        let view = View::first(&nodes, seen.k)
            .map_err(|e| Failure::not_done(format!("the node's view makes no sense: {e}")))?;
        if seen.number != view.number {
            return Err(Failure::not_done(format!(
                "the cluster is at view {}: aware routing knows only the one that a cluster is started with",
                seen.number
            )));
        }
        Ok(Self {
            nodes,
            routing: Routing::Aware,
            view: Some(view),
        })
    }

    /// The position in `nodes` of the one that a session's request for a key goes to, unless it
    /// roams. A session stays with one replica of each partition.
    pub fn choose(&self, session: u32, key: &str) -> usize {
        let turn = session as usize;
        let Some(view) = &self.view else {
            return turn % self.nodes.len().max(1);
        };
        let replicas = view.replicas(view.partition_of_key(key.as_bytes()));
        replicas
            .get(turn % replicas.len().max(1))
            .map_or(0, |member| usize::from(member.0))
    }

    #[cfg(test)]
    pub fn roaming(nodes: Vec<SocketAddr>) -> Self {
        Self {
            nodes,
            routing: Routing::Roam,
            view: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(n: u8) -> Vec<SocketAddr> {
        (1..=n)
            .map(|i| SocketAddr::from(([10, 0, 0, i], 80)))
            .collect()
    }

    #[test]
    fn any_routing_spreads_sessions_over_targets() {
        let routes = Routes {
            nodes: nodes(3),
            routing: Routing::Any,
            view: None,
        };
        let chosen: Vec<usize> = (0..6).map(|s| routes.choose(s, "k")).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn aware_routing_asks_an_owner() {
        let view = View::first(&nodes(5), 2).unwrap();
        let routes = Routes {
            nodes: nodes(5),
            routing: Routing::Aware,
            view: Some(view.clone()),
        };
        for session in 0..4 {
            for key in ["a", "b", "c", "d"] {
                let node = routes.nodes[routes.choose(session, key)];
                let owner = view.member_at(node).and_then(|m| view.partition_of(m));
                assert_eq!(owner, Some(view.partition_of_key(key.as_bytes())));
            }
        }
    }
}
