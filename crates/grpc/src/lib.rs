//! The native door: gRPC over mutual TLS. It translates between `quorate.v1` and the service, and holds no rules.
//!
//! It leaves to others: listening, TLS and reading certificates (the binary, which gives each connection its
//! [`Caller`]), and everything that decides (`service`).

mod caller;
mod deadline;
mod health;
mod keys;
mod status;

use std::sync::Arc;

use quorate_proto::MESSAGE_LEN_MAX;
use quorate_proto::v1::keys_server::KeysServer;
use quorate_service::node::Node;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

pub use caller::Caller;

/// The services of one node. Each request must carry a [`Caller`] in its extensions; without one it is refused as
/// unauthenticated, health excepted.
pub fn routes(node: Arc<Node>) -> Routes {
    let keys = KeysServer::new(keys::KeysDoor::new(node.clone()))
        .max_decoding_message_size(MESSAGE_LEN_MAX)
        .max_encoding_message_size(MESSAGE_LEN_MAX);
    let health = HealthServer::new(health::HealthDoor::new(node)).max_decoding_message_size(1024);
    Routes::new(keys).add_service(health)
}
