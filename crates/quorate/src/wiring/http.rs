//! The API port: gRPC, `/health` and `/metrics` behind one TLS listener.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use quorate_grpc::CallerOf;
use quorate_service::node::Node;
use quorate_service::seal::status::Health;
use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

use super::metrics::{self, Metrics};
use crate::tls::{ApiListener, Trust, identity_of};

/// An idle connection is asked for a sign of life this often …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// … and closed when it gives none.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is renewed this often (open requests end in peace): a client's certificate is looked at in the handshake
/// alone, and must not outlive its date for as long as somebody keeps a connection open.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// Requests of one connection that may be under way at once.
const STREAMS_MAX: u32 = 1024;
/// HTTP/2 windows: above the largest message, so that one request never waits for a window update.
const WINDOW_LEN: u32 = 2 * 1024 * 1024;

#[derive(Clone)]
struct App {
    node: Arc<Node>,
    metrics: Arc<Metrics>,
    caller_of: CallerOf,
}

/// Serves until `stopping` turns true and open requests are done.
///
/// Whenever the node is sealed or unsealed, every connection is ended in peace (GOAWAY: clients open another, no request
/// is lost). What goes through a connection stays in the buffers of HTTP/2 and TLS until something else does or they are
/// freed, and so wiped: after a ceremony that was shares, before a seal what keys had opened.
pub async fn serve(node: Arc<Node>, trust: Arc<Trust>, listener: ApiListener, mut stopping: watch::Receiver<bool>) {
    let cluster = trust.cluster();
    // The chain was verified in the handshake; here the leaf is only read.
    let caller_of: CallerOf = Arc::new(move |chain: &[CertificateDer<'static>]| {
        let leaf = chain.first().ok_or("no client certificate")?;
        let (of, principal) = identity_of(leaf).map_err(|e| e.to_string())?;
        if of == cluster { Ok(principal) } else { Err(format!("the certificate is of cluster {of}")) }
    });
    let app = App { node: node.clone(), metrics: Arc::new(Metrics::new()), caller_of: caller_of.clone() };
    let router = quorate_grpc::routes(node.clone(), caller_of)
        .into_axum_router()
        .layer(middleware::from_fn_with_state(app.metrics.clone(), metrics::count))
        .merge(Router::new().route("/health", get(health)).route("/metrics", get(scrape)).with_state(app));
    let mut server = Server::builder()
        .accept_http1(true)
        .tcp_nodelay(true)
        .max_connection_age(CONNECTION_AGE_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(Some(STREAMS_MAX))
        .initial_stream_window_size(Some(WINDOW_LEN))
        .initial_connection_window_size(Some(WINDOW_LEN));
    let routes = Routes::from(router);
    let mut incoming = listener.incoming();
    let mut serving = JoinSet::new();
    let mut stopped = pin!(stopping.wait_for(|stop| *stop));
    'open: loop {
        let health = node.health();
        let (connections, taken) = mpsc::channel(1);
        // It ends in peace when no more connections can come: after `connections` is dropped.
        let served =
            server.add_routes(routes.clone()).serve_with_incoming_shutdown(ReceiverStream::new(taken), pending());
        serving.spawn(async move {
            if let Err(e) = served.await {
                tracing::error!(error = %e, "the API port failed");
            }
        });
        let mut turned = pin!(node.turned_from(health));
        loop {
            let next = tokio::select! {
                _ = &mut stopped => break 'open,
                () = &mut turned => break,
                next = incoming.next() => next,
            };
            let Some(connection) = next else { break 'open };
            if connections.send(connection).await.is_err() {
                break 'open;
            }
        }
        while serving.try_join_next().is_some() {}
    }
    drop(incoming);
    while serving.join_next().await.is_some() {}
}

/// One word, without a certificate: for load balancers and people. Short of disk space a node serves all the same, and
/// says so on a second line.
async fn health(State(app): State<App>) -> (StatusCode, String) {
    let health = app.node.health();
    let code = if health == Health::Ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let space = if app.node.is_low_on_space() { "short of disk space\n" } else { "" };
    (code, format!("{}\n{space}", health.as_str()))
}

/// Prometheus' text format; counts tell an attacker who works when, so any client certificate is needed.
async fn scrape(State(app): State<App>, request: Request) -> Response {
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let chain = info.and_then(TlsConnectInfo::peer_certs).unwrap_or_default();
    match (app.caller_of)(&chain) {
        Ok(caller) => app.metrics.render(&app.node, &caller).into_response(),
        Err(why) => {
            let text = format!("{why}; /metrics needs a client certificate of this cluster (quorate pki client)\n");
            (StatusCode::UNAUTHORIZED, text).into_response()
        }
    }
}
