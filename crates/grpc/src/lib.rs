//! The native door: gRPC over mutual TLS. It translates between `quorate.v1` and the service, and holds no rules.
//!
//! It leaves to others: listening, TLS and reading certificates (the binary, through [`CallerOf`]), and everything that
//! decides (`service`).

mod budget;
mod caller;
mod deadline;
mod guard;
mod health;
mod keys;
mod message;
mod method;
mod namespaces;
mod operator;
mod principals;
mod secrets;
mod status;
mod verdict;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use caller::Callers;
use guard::Guard;
use quorate_proto::v1::keys_server::KeysServer;
use quorate_proto::v1::namespaces_server::NamespacesServer;
use quorate_proto::v1::operator_server::OperatorServer;
use quorate_proto::v1::principals_server::PrincipalsServer;
use quorate_proto::v1::secrets_server::SecretsServer;
use quorate_proto::{ANSWER_LEN_MAX, MESSAGE_LEN_MAX};
use quorate_service::node::Node;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

pub use budget::{Budget, Reserved};
pub use caller::{CallerOf, Identified};
pub use health::WatchSeat;
pub use quorate_service::core::access::{Caller, Door};
pub use verdict::verdict;

/// The services of one node, behind a guard; whatever is not gRPC is not found there. `caller_of` reads the certificates of
/// the connections, which come as tonic's `TlsConnectInfo`; where the listener gives something else, it puts a [`Caller`]
/// into each request's extensions. Without either a request is refused as unauthenticated, health excepted. Each
/// connection has a [`WatchSeat`], in its requests' extensions. What requests take in memory comes out of `budget`.
pub fn router(node: Arc<Node>, caller_of: CallerOf, budget: Arc<Budget>) -> Router {
    let callers = Arc::new(Callers::new(caller_of));
    let keys = KeysServer::new(keys::KeysDoor::new(node.clone(), callers.clone()))
        .max_decoding_message_size(MESSAGE_LEN_MAX)
        .max_encoding_message_size(ANSWER_LEN_MAX);
    let secrets = SecretsServer::new(secrets::SecretsDoor::new(node.clone(), callers.clone()))
        .max_decoding_message_size(MESSAGE_LEN_MAX)
        .max_encoding_message_size(ANSWER_LEN_MAX);
    let namespaces = NamespacesServer::new(namespaces::NamespacesDoor::new(node.clone(), callers.clone()))
        .max_decoding_message_size(MESSAGE_LEN_MAX)
        .max_encoding_message_size(ANSWER_LEN_MAX);
    let principals = PrincipalsServer::new(principals::PrincipalsDoor::new(node.clone(), callers.clone()))
        .max_decoding_message_size(MESSAGE_LEN_MAX)
        .max_encoding_message_size(ANSWER_LEN_MAX);
    let operator = OperatorServer::new(operator::OperatorDoor::new(node.clone(), callers.clone()))
        .max_decoding_message_size(MESSAGE_LEN_MAX)
        .max_encoding_message_size(ANSWER_LEN_MAX);
    let health = HealthServer::new(health::HealthDoor::new(node));
    let services = Routes::new(keys).add_service(secrets).add_service(namespaces).add_service(principals);
    let services = services.add_service(operator).add_service(health);
    services.into_axum_router().layer(from_fn_with_state(Arc::new(Guard::new(callers, budget)), guard::pass))
}
