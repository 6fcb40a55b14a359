//! The API port: gRPC, `/health` and `/metrics` behind one TLS listener.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use quorate_grpc::{Budget, CallerOf, Identified, WatchSeat};
use quorate_replica::Quorum;
use quorate_service::Error;
use quorate_service::admission::Freshness;
use quorate_service::node::Node;
use quorate_service::seal::status::Health;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};
use tower::ServiceExt;

use super::denials::{self, Denials};
use super::metrics::{self, Metrics};
use crate::tls::{Admitted, ApiListener, Class, Trust, credential_of, identity_of};

/// An idle connection is asked for a sign of life this often …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// … and closed when it gives none.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is renewed this often (open requests end in peace): a sealed node looks at a client's certificate in the
/// handshake alone, and that must not outlive its date for as long as somebody keeps a connection open.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// A connection that is to end is closed after this long, whatever is open on it; above the longest deadline of a call.
const LINGER_MAX: Duration = Duration::from_secs(75);
/// Requests of one connection that may be under way at once. Strangers have nothing but questions about health.
const STREAMS_MAX: u32 = 256;
const STRANGERS_STREAMS_MAX: u32 = 4;
/// HTTP/2 windows: bodies are read as they come, so that these are what one connection can have us keep at a moment.
const WINDOW_LEN: u32 = 64 * 1024;
const CONNECTION_WINDOW_LEN: u32 = 128 * 1024;
/// Memory for an answer of `/metrics`, in bytes.
const SCRAPE_COST: usize = 128 * 1024;
/// Longest head of a request, in bytes.
const HEAD_LEN_MAX: usize = 8 * 1024;

#[derive(Clone)]
struct App {
    node: Arc<Node>,
    metrics: Arc<Metrics>,
    caller_of: CallerOf,
    budget: Arc<Budget>,
}

/// Serves until `stopping` turns true and open requests are done.
///
/// Whenever the node is sealed or unsealed, every connection is ended in peace (GOAWAY: clients open another, no request
/// is lost). What goes through a connection stays in the buffers of HTTP/2 and TLS until something else does or they are
/// freed, and so wiped: after a ceremony that was shares, before a seal what keys had opened.
pub async fn serve(
    node: Arc<Node>,
    metrics: Arc<Metrics>,
    trust: Arc<Trust>,
    listener: ApiListener,
    stopping: watch::Receiver<bool>,
) {
    let cluster = trust.cluster();
    // The chain was verified in the handshake; here the leaf is only read.
    let caller_of: CallerOf = Arc::new(move |chain: &[CertificateDer<'static>]| {
        let leaf = chain.first().ok_or("no client certificate")?;
        let (of, principal) = identity_of(leaf).map_err(|e| e.to_string())?;
        if of != cluster {
            return Err(format!("the certificate is of cluster {of}"));
        }
        Ok(Identified { principal, presented: credential_of(leaf)? })
    });
    let budget = Arc::<Budget>::default();
    let app = App { node: node.clone(), metrics, caller_of: caller_of.clone(), budget: budget.clone() };
    let denials = Denials::new(caller_of.clone());
    let router = quorate_grpc::router(node.clone(), caller_of, budget)
        .layer(middleware::from_fn_with_state(app.metrics.clone(), metrics::count))
        .layer(middleware::from_fn_with_state(denials, denials::look))
        .merge(Router::new().route("/health", get(health)).route("/metrics", get(scrape)).with_state(app));
    let mut incoming = listener.incoming();
    let mut serving = JoinSet::new();
    let mut stop = stopping.clone();
    let mut stopped = pin!(stop.wait_for(|stop| *stop));
    loop {
        let next = tokio::select! {
            _ = &mut stopped => break,
            Some(_) = serving.join_next() => continue,
            next = incoming.next() => next,
        };
        let Some(admitted) = next else { break };
        serving.spawn(serve_one(node.clone(), router.clone(), admitted, stopping.clone()));
    }
    drop(incoming);
    while serving.join_next().await.is_some() {}
}

/// One connection, until it ends or has to.
async fn serve_one(node: Arc<Node>, router: Router, admitted: Admitted, mut stopping: watch::Receiver<bool>) {
    let Admitted { connection, class, mut place } = admitted;
    let health = node.health();
    let (info, watch_seat) = (connection.connect_info(), WatchSeat::default());
    let service = service_fn(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(info.clone());
        request.extensions_mut().insert(watch_seat.clone());
        router.clone().oneshot(request)
    });
    let protocol = protocol(class);
    let mut served = pin!(protocol.serve_connection(TokioIo::new(connection), service));
    tokio::select! {
        ended = served.as_mut() => {
            if let Err(e) = ended {
                tracing::debug!(error = %e, "a connection failed");
            }
            return;
        }
        () = place.sent_away() => return,
        () = node.sealed_or_unsealed_since(health) => {}
        _ = stopping.wait_for(|stop| *stop) => {}
        () = sleep(CONNECTION_AGE_MAX) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(LINGER_MAX, served).await;
}

/// HTTP/1 and HTTP/2 as that kind of caller may speak it.
fn protocol(class: Class) -> auto::Builder<TokioExecutor> {
    let streams = if class == Class::Stranger { STRANGERS_STREAMS_MAX } else { STREAMS_MAX };
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    // With a timer, a head that does not come is waited for 30 seconds.
    protocol.http1().timer(TokioTimer::new()).max_buf_size(HEAD_LEN_MAX);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .initial_stream_window_size(WINDOW_LEN)
        .initial_connection_window_size(CONNECTION_WINDOW_LEN)
        .max_header_list_size(HEAD_LEN_MAX as u32)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    protocol
}

/// What a node that has no majority, or no leader, answers in place of its state.
const NO_MAJORITY: &str = "no majority";

/// What it is, in a word or two, without a certificate: for load balancers and people. Short of disk space a node serves all the
/// same, and says so on a second line. How many voters are missed is no secret; which, a stranger need not know.
async fn health(State(app): State<App>) -> (StatusCode, String) {
    let (health, quorum) = (app.node.health(), app.node.quorum());
    let code = if app.node.serves() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let space = if app.node.is_low_on_space() { "short of disk space\n" } else { "" };
    let (word, reachable) = match (health, &quorum) {
        (Health::Ok | Health::Sealed, Quorum::Leaderless) => (NO_MAJORITY, "no leader\n".to_owned()),
        (Health::Ok | Health::Sealed, Quorum::Missing { reachable, voters, .. }) => {
            (NO_MAJORITY, format!("{reachable} of {voters} voters reachable\n"))
        }
        _ => (health.as_str(), String::new()),
    };
    (code, format!("{word}\n{reachable}{space}"))
}

/// Prometheus' text format; counts tell an attacker who works when, so any client certificate is needed.
async fn scrape(State(app): State<App>, request: Request) -> Response {
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let chain = info.and_then(TlsConnectInfo::peer_certs).unwrap_or_default();
    match (app.caller_of)(&chain) {
        Ok(identified) => {
            let caller = identified.caller(info.and_then(|info| info.get_ref().remote_addr()));
            let Some(reserved) = app.budget.take(Some(caller.principal.clone()), SCRAPE_COST) else {
                return (StatusCode::TOO_MANY_REQUESTS, "too many requests of this principal\n").into_response();
            };
            match app.node.admitted(&caller, Freshness::Heard, Instant::now()).await {
                Ok(who) => reserved.until_taken(app.metrics.render(&app.node, &who).into_response()),
                Err(e @ Error::Unauthenticated(_)) => (StatusCode::UNAUTHORIZED, format!("{e}\n")).into_response(),
                Err(e) => (StatusCode::SERVICE_UNAVAILABLE, format!("{e}\n")).into_response(),
            }
        }
        Err(why) => {
            let text = format!("{why}; /metrics needs a client certificate of this cluster (quorate pki client)\n");
            (StatusCode::UNAUTHORIZED, text).into_response()
        }
    }
}
