//! Who is refused for want of a right or of a name is told in the log: once in a while, however often it is tried.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use quorate_grpc::{CallerOf, Identified};
use quorate_replica::Seldom;
use tonic::Code;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

/// The same caller is told of for the same call once in so long.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What was told.
#[derive(Clone)]
pub struct Denials {
    told: Arc<Seldom>,
    caller_of: CallerOf,
}

impl Denials {
    /// Nothing yet; callers are named as `caller_of` reads their certificates.
    pub fn new(caller_of: CallerOf) -> Self {
        Self { told: Arc::new(Seldom::every(TOLD_EVERY)), caller_of }
    }

    fn tell(&self, code: Code, call: &str, info: Option<&TlsConnectInfo<TcpConnectInfo>>) {
        let chain = info.and_then(TlsConnectInfo::peer_certs).unwrap_or_default();
        let (by, kind) = match (self.caller_of)(&chain) {
            Ok(Identified { principal, .. }) => (principal.to_string(), format!("{principal} {call}")),
            // What strangers ask for is theirs to make up.
            Err(why) => (format!("nobody known ({why})"), why.to_string()),
        };
        if let Some(times) = self.told.due(&kind) {
            let from =
                info.and_then(|info| info.get_ref().remote_addr()).map_or_else(String::new, |a| a.ip().to_string());
            let why = match code {
                Code::PermissionDenied => "its certificate's role has no right to it",
                _ => "it is nobody that this cluster knows",
            };
            tracing::warn!(by, from, call, times, "a call was denied: {why}");
        }
    }
}

/// Looks at each answer.
pub async fn look(State(denials): State<Denials>, request: Request, next: Next) -> Response {
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>().cloned();
    // Of paths that are none of ours nothing is repeated.
    let path = request.uri().path().strip_prefix("/quorate.v1.").filter(|call| call.len() < 64).map(str::to_owned);
    let response = next.run(request).await;
    let code = response.headers().get("grpc-status").map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()));
    if matches!(code, Code::PermissionDenied | Code::Unauthenticated) {
        denials.tell(code, path.as_deref().unwrap_or("another"), info.as_ref());
    }
    response
}
