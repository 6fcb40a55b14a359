//! The native door: gRPC over mutual TLS. It translates between `quorate.v1` and the service, and holds no rules.
//!
//! It leaves to others: listening, TLS and reading certificates (the binary, through [`CallerOf`]), and everything that
//! decides (`service`).

mod caller;
mod deadline;
mod health;
mod keys;
mod operator;
mod status;

use std::sync::Arc;

use caller::Callers;
use quorate_proto::MESSAGE_LEN_MAX;
use quorate_proto::v1::keys_server::KeysServer;
use quorate_proto::v1::operator_server::OperatorServer;
use quorate_service::node::Node;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use tonic_health::pb::health_server::HealthServer;

pub use caller::{Caller, CallerOf};

/// The services of one node. `caller_of` reads the certificates of the connections, which come as tonic's
/// `TlsConnectInfo`; where the listener gives something else, it puts a [`Caller`] into each request's extensions.
/// Without either a request is refused as unauthenticated, health excepted.
pub fn routes(node: Arc<Node>, caller_of: CallerOf) -> Routes {
    let callers = Arc::new(Callers::new(caller_of));
    // Before a request's body is read: what a stranger sends never takes memory here.
    let known = {
        let callers = callers.clone();
        move |mut request: Request<()>| {
            let caller = callers.of(&request)?;
            request.extensions_mut().insert(caller);
            Ok::<_, Status>(request)
        }
    };
    let keys = KeysServer::new(keys::KeysDoor::new(node.clone(), callers.clone()))
        .max_decoding_message_size(MESSAGE_LEN_MAX)
        .max_encoding_message_size(MESSAGE_LEN_MAX);
    let operator = OperatorServer::new(operator::OperatorDoor::new(node.clone(), callers))
        .max_decoding_message_size(MESSAGE_LEN_MAX)
        .max_encoding_message_size(MESSAGE_LEN_MAX);
    let health = HealthServer::new(health::HealthDoor::new(node)).max_decoding_message_size(1024);
    Routes::new(InterceptedService::new(keys, known.clone()))
        .add_service(InterceptedService::new(operator, known))
        .add_service(health)
}
