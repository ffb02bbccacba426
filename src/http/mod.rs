//! The node's HTTP surface, on actix-web.
//!
//! ```text
//! server.rs     every path and its handler
//! listen.rs     what listens for clients
//! connection.rs a client's connection, and how long it may keep the node waiting
//! linger.rs     clients that are answered while they send
//! clients.rs    what clients can make the node hold, and what was refused them
//! budget.rs     bytes that are held of bodies and replies
//! openapi.rs    the surface, described to machines
//! page.rs       the node at a glance, for people
//! surface       the handlers, one file per surface
//! words         what a node knows, put into data and sentences
//! host.rs       what handlers work with
//! metrics       what is counted
//! peer_port.rs  what is counted at the port for other nodes
//! slow.rs       requests that took long
//! request.rs    what clients send
//! key.rs        which keys there are, on all surfaces
//! session.rs    which session a request belongs to
//! reply.rs      what they get from `/kvs`
//! etags.rs      the conditions that `/keys` takes
//! problem.rs    what they get where nothing was done
//! reason.rs     the words that this is counted by
//! body.rs       bodies of replies
//! responses.rs  errors that several paths answer with, for the description
//! origin.rs     the guard against pages and strangers elsewhere
//! token.rs      the guard of what changes the cluster
//! routes.rs     every path, once
//! bare.rs       the framework alone, to compare with
//! ```
//!
//! Each handler is wrapped in one function that measures it and turns a `Problem` into its reply.
//! There is no middleware: it would box a future on every request. Handlers take nothing from the
//! framework that can fail, so every error that a handler can meet is answered in our own words.

mod bare;
mod body;
mod budget;
mod clients;
mod connection;
#[cfg(test)]
mod connection_tests;
mod etags;
#[cfg(test)]
mod etags_fuzz_tests;
mod exposition;
mod host;
mod key;
mod linger;
mod listen;
mod metrics;
mod openapi;
#[cfg(test)]
mod openapi_tests;
mod origin;
mod page;
mod peer_port;
mod problem;
mod reason;
mod reply;
mod request;
#[cfg(test)]
mod request_fuzz_tests;
mod responses;
mod routes;
mod server;
mod session;
mod slow;
mod surface;
#[cfg(test)]
mod tests;
mod token;
mod words;

pub use bare::{bare, bare_server};
pub use server::serve;
pub use words::status::status;
