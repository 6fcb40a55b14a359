//! The standard gRPC health service (`grpc.health.v1`): whether this node serves right now, asked without a certificate.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use quorate_service::Error;
use quorate_service::node::Node;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::status::status;

/// A `Watch` that is refused for want of the connection's seat waits this long first: the one before it may just be ending.
const SEAT_WAIT: Duration = Duration::from_secs(1);

/// The one `Watch` that a connection may have open: an answer that never ends is nothing to have many of. Clones are the
/// same seat.
#[derive(Clone, Debug)]
pub struct WatchSeat(Arc<Semaphore>);

impl Default for WatchSeat {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl WatchSeat {
    async fn take(request: &Request<HealthCheckRequest>) -> Result<OwnedSemaphorePermit, Status> {
        let seat = request.extensions().get::<Self>().map(|seat| seat.0.clone());
        let taken = timeout(SEAT_WAIT, seat.unwrap_or_else(|| Arc::new(Semaphore::new(0))).acquire_owned()).await;
        taken.ok().and_then(Result::ok).ok_or_else(|| {
            status(&Error::Busy("this connection watches already, and may watch once; use the watch it has".into()))
        })
    }
}

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
    /// `""` and `quorate.v1.Keys`: serving while unsealed, with a majority within reach.
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
    fn answer(self, serves: bool) -> HealthCheckResponse {
        let serving = match (self, serves) {
            (Self::Operator, _) | (Self::Keys, true) => ServingStatus::Serving,
            (Self::Keys, false) => ServingStatus::NotServing,
        };
        HealthCheckResponse { status: serving.into() }
    }
}

#[tonic::async_trait]
impl Health for HealthDoor {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = Service::parse(&request.get_ref().service)?;
        Ok(Response::new(service.answer(self.node.serves())))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = Service::parse(&request.get_ref().service)?;
        let seat = WatchSeat::take(&request).await?;
        let first = Some((None, seat));
        let stream = unfold((self.node.clone(), first), move |(node, watch)| async move {
            let (before, seat) = watch?;
            if let Some((serves, _)) = before {
                node.serves_otherwise_than(serves).await;
            }
            let (serves, unsealed) = (node.serves(), node.kms().is_ok());
            // Every connection ends when the node is sealed or unsealed, and so does what is open on it.
            let ended = before.is_some_and(|(_, before)| before != unsealed);
            Some((Ok(service.answer(serves)), (node, (!ended).then_some((Some((serves, unsealed)), seat)))))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
