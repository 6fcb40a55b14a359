//! The standard gRPC health service (`grpc.health.v1`): what this node can do right now, asked without a certificate.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use futures::future::select_all;
use futures::stream::unfold;
use quorate_service::node::Node;
use quorate_service::seal::Health as NodeHealth;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// The health service of one node.
pub(crate) struct HealthDoor {
    node: Arc<Node>,
}

impl HealthDoor {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

/// The services one can ask about.
#[derive(Clone, Copy)]
enum Service {
    /// `""` and `quorate.v1.Keys`: serving while unsealed.
    Keys,
    /// `quorate.v1.Operator`: always serving.
    Operator,
}

impl Service {
    fn parse(name: &str) -> Result<Self, Status> {
        match name {
            "" | "quorate.v1.Keys" => Ok(Self::Keys),
            "quorate.v1.Operator" => Ok(Self::Operator),
            _ => Err(Status::not_found("no such service; ask for \"\", quorate.v1.Keys or quorate.v1.Operator")),
        }
    }
    fn answer(self, health: NodeHealth) -> HealthCheckResponse {
        let serving = match (self, health) {
            (Self::Operator, _) | (Self::Keys, NodeHealth::Ok) => ServingStatus::Serving,
            (Self::Keys, NodeHealth::Sealed | NodeHealth::Uninitialized | NodeHealth::Damaged) => {
                ServingStatus::NotServing
            }
        };
        HealthCheckResponse { status: serving.into() }
    }
}

#[tonic::async_trait]
impl Health for HealthDoor {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = Service::parse(&request.get_ref().service)?;
        Ok(Response::new(service.answer(self.node.health())))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = Service::parse(&request.get_ref().service)?;
        let stream = unfold((self.node.clone(), None), move |(node, last)| async move {
            if let Some(last) = last {
                changed(&node, last).await;
            }
            let health = node.health();
            Some((Ok(service.answer(health)), (node, Some(health))))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Waits until the node's health is no longer `last`.
async fn changed(node: &Node, last: NodeHealth) {
    let all = [NodeHealth::Ok, NodeHealth::Sealed, NodeHealth::Uninitialized, NodeHealth::Damaged];
    select_all(all.into_iter().filter(|health| *health != last).map(|health| Box::pin(node.wait_for(health)))).await;
}
