//! What every request passes before its call begins: is it gRPC, who asks, may they, is there memory for it, and is it
//! whole. In this order, so that nothing is kept of what will be refused.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method as HttpMethod, StatusCode, Version};
use quorate_proto::{MESSAGE_LEN_MAX, REASON_KEY};
use quorate_service::Error;
use tonic::{Code, Status};

use crate::budget::{Budget, Reserved};
use crate::caller::Callers;
use crate::message::{self, HEALTH_LEN_MAX};
use crate::method::Method;
use crate::status::status;

/// Stands before the services of one node.
pub(crate) struct Guard {
    callers: Arc<Callers>,
    budget: Arc<Budget>,
}

impl Guard {
    pub(crate) fn new(callers: Arc<Callers>, budget: Arc<Budget>) -> Self {
        Self { callers, budget }
    }

    /// The request with its whole body, and what it takes of its principal's budget.
    async fn admit(&self, request: Request) -> Result<(Request, Reserved), Status> {
        let (mut head, body) = request.into_parts();
        let method = Method::parse(head.uri.path()).ok_or_else(|| Status::unimplemented("no such service here"))?;
        let caller = match (self.callers.headed(&head.headers, &head.extensions), method) {
            (Err(_), Method::Health) => None,
            (caller, _) => Some(caller?),
        };
        if let Some(caller) = &caller {
            method.check(&caller.principal).map_err(|denied| status(&denied.into()))?;
        }
        let whose = caller.as_ref().map(|caller| caller.principal.clone());
        let mut reserved = self.budget.take(whose, method.cost()).ok_or_else(|| status(&message::too_much()))?;
        let max = if method == Method::Health { HEALTH_LEN_MAX } else { MESSAGE_LEN_MAX };
        let body = message::read(body, max, &mut reserved).await.map_err(|e| status(&e))?;
        if let Some(caller) = caller {
            head.extensions.insert(caller);
        }
        Ok((Request::from_parts(head, Body::from(body)), reserved))
    }
}

/// Lets a request pass, or answers it.
pub(crate) async fn pass(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if !is_grpc(&request) {
        return (StatusCode::NOT_FOUND, "not found: this port serves gRPC, /health and /metrics\n").into_response();
    }
    match guard.admit(request).await {
        Ok((request, reserved)) => {
            let response = next.run(request).await;
            let response = explained(response.headers()).map_or(response, Status::into_http);
            // The answer, too, is in memory until the caller has taken it.
            reserved.until_taken(response)
        }
        Err(status) => status.into_http(),
    }
}

fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    let kind = kind.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
    kind && request.version() == Version::HTTP_2 && request.method() == HttpMethod::POST
}

/// A refusal that the protocol's library made, in our words: the only thing that can be wrong with a whole message is that
/// it is not the one that the call takes.
fn explained(headers: &HeaderMap) -> Option<Status> {
    if headers.contains_key(REASON_KEY) {
        return None;
    }
    let made = Status::from_header_map(headers).filter(|made| made.code() == Code::Internal)?;
    let why = format!("this is not the message that the call takes: {}", made.message());
    Some(status(&Error::InvalidArgument(why)))
}
