//! Accepts connections from other nodes and keeps out those who may not speak.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use quorate_core::id::{ClusterId, GroupId, NodeId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, mpsc};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Status};

use super::link::stamp_of;
use super::preface::{self, Preface, Purpose, Refusal, Stamp};
use super::rounds;
use super::services::{JoinService, PeerService};
use super::{CONNECT_LIMIT, FORWARDS_MAX, KEEPALIVE_INTERVAL, KEEPALIVE_LIMIT, MESSAGE_LEN_MAX, WINDOW_BYTES, pb};
use crate::net::{BoxStream, Handshake, Listener, PeerIdentity};
use crate::node::Node;
use crate::seldom::Seldom;
use crate::shared::Shared;

/// Handshakes under way at once (key-hierarchy §6: each is a signature in the HSM).
const HANDSHAKES_MAX: usize = 64;

/// Of one who comes and may not, is told once in so long.
const TOLD_EVERY: Duration = Duration::from_secs(10 * 60);
/// And not before it has come for so long, if it may only be too early.
const KNOCKS_AFTER: Duration = Duration::from_secs(10);

/// Who is at the other end of a connection, and what it said it is for.
#[derive(Clone, Debug)]
pub(crate) struct PeerInfo {
    pub(crate) identity: PeerIdentity,
    pub(crate) purpose: Purpose,
}

/// Who a call comes from, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender(pub(crate) NodeId);

/// An accepted connection.
pub(super) struct ServerStream {
    stream: BoxStream,
    info: PeerInfo,
    stamp: Stamp,
    gatekeeper: Gatekeeper,
}

impl ServerStream {
    /// A member that was removed is cut off, in the middle of whatever it says. Keepalives come every second, so an
    /// idle connection ends within that; calls are checked one by one besides.
    pub(super) fn still_admitted(&self) -> std::io::Result<()> {
        self.gatekeeper.check(&self.stamp, self.info.purpose, &self.info.identity).map_err(|refusal| {
            std::io::Error::new(std::io::ErrorKind::ConnectionAborted, format!("the connection is cut: {refusal}"))
        })
    }
}

impl Drop for ServerStream {
    fn drop(&mut self) {
        if self.info.purpose == Purpose::Control {
            self.gatekeeper.shared.departed.notify_one();
        }
    }
}

impl Connected for ServerStream {
    type ConnectInfo = PeerInfo;
    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let filled = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > filled {
            self.still_admitted()?;
        }
        read
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The rule of who may speak: the same for the preface and for each call.
#[derive(Clone)]
pub(crate) struct Gatekeeper {
    cluster: ClusterId,
    group: GroupId,
    me: NodeId,
    shared: Arc<Shared>,
    purpose_join: bool,
}

impl Gatekeeper {
    fn check(&self, stamp: &Stamp, purpose: Purpose, who: &PeerIdentity) -> Result<(), Refusal> {
        if stamp.cluster != self.cluster || who.cluster != self.cluster {
            return Err(Refusal::ForeignCluster);
        }
        if stamp.group != self.group {
            return Err(Refusal::Group);
        }
        if purpose == Purpose::Join {
            return Ok(());
        }
        if stamp.to != self.me {
            return Err(Refusal::NotThisNode);
        }
        self.shared.members.admit(stamp.from, who)
    }
}

impl tonic::service::Interceptor for Gatekeeper {
    /// Before the body is read, let alone parsed.
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let refused = |refusal: Refusal| Status::permission_denied(refusal.to_string());
        let info =
            request.extensions().get::<PeerInfo>().cloned().ok_or_else(|| Status::internal("no connection info"))?;
        if (info.purpose == Purpose::Join) != self.purpose_join {
            return Err(refused(Refusal::Purpose));
        }
        let stamp = stamp_of(request.metadata()).map_err(refused)?;
        self.check(&stamp, info.purpose, &info.identity).map_err(refused)?;
        request.extensions_mut().insert(Sender(stamp.from));
        Ok(request)
    }
}

/// Serves until the runtime ends.
pub(crate) async fn serve(node: Arc<Node>, listener: Box<dyn Listener>) {
    let gatekeeper = |purpose_join| Gatekeeper {
        cluster: node.base.cluster,
        group: node.base.group,
        me: node.base.me,
        shared: node.base.shared.clone(),
        purpose_join,
    };
    let (tx, rx) = mpsc::channel::<std::io::Result<ServerStream>>(HANDSHAKES_MAX);
    let peer = pb::peer_server::PeerServer::new(PeerService::new(node.clone()))
        .max_decoding_message_size(MESSAGE_LEN_MAX)
        .max_encoding_message_size(MESSAGE_LEN_MAX);
    let join = pb::join_server::JoinServer::new(JoinService::new(node.clone()))
        .max_decoding_message_size(MESSAGE_LEN_MAX)
        .max_encoding_message_size(MESSAGE_LEN_MAX);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_LIMIT))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        // Forwards are refused by count; this only bounds what a peer can open besides.
        .max_concurrent_streams(2 * FORWARDS_MAX as u32)
        // A peer drops all its forwards at once when the leader changes; that must not cost the connection.
        .http2_max_pending_accept_reset_streams(Some(2 * FORWARDS_MAX))
        .add_service(InterceptedService::new(peer, gatekeeper(false)))
        .add_service(InterceptedService::new(join, gatekeeper(true)))
        .serve_with_incoming(tokio_stream::wrappers::ReceiverStream::new(rx));
    let ((), result) = tokio::join!(accept(node.clone(), gatekeeper(false), listener, tx), server);
    if let Err(error) = result {
        tracing::error!(%error, "the peer server stopped");
    }
}

async fn accept(
    node: Arc<Node>,
    gatekeeper: Gatekeeper,
    mut listener: Box<dyn Listener>,
    tx: mpsc::Sender<std::io::Result<ServerStream>>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let told = Arc::new(Strangers::default());
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let handshake = match listener.accept().await {
            Ok(handshake) => handshake,
            Err(error) => {
                // Out of descriptors, usually: wait for some to come free.
                tracing::warn!(%error, "accepting a peer connection failed");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (node, gatekeeper, tx, told) = (node.clone(), gatekeeper.clone(), tx.clone(), told.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(CONNECT_LIMIT, welcome(&node, gatekeeper, handshake)).await {
                Ok(Ok(stream)) if stream.info.purpose == Purpose::Rounds => {
                    drop(permit);
                    let from = stream.stamp.from;
                    rounds::serve(node.confirmer.clone(), stream, from).await;
                }
                Ok(Ok(stream)) => {
                    let _permit = permit;
                    drop(tx.send(Ok(stream)).await);
                }
                // Anyone who reaches the port can cause this: it is not told each time.
                Ok(Err(error)) => told.not_made(&error),
                Err(_) => tracing::debug!("a peer connected and then said nothing"),
            }
        });
    }
}

async fn welcome(node: &Node, gatekeeper: Gatekeeper, handshake: Handshake) -> std::io::Result<ServerStream> {
    let (mut stream, identity) = handshake.await?;
    let checked = preface::read(&mut stream).await?.and_then(|Preface { stamp, purpose, about }| {
        // Whoever calls: this node may not know it yet, for the very reason that its folder was put back.
        node.witness.judge_told(&about);
        gatekeeper.check(&stamp, purpose, &identity)?;
        Ok((stamp, purpose))
    });
    preface::answer(&mut stream, checked.as_ref().err().copied()).await?;
    match checked {
        Ok((stamp, purpose)) => Ok(ServerStream { stream, info: PeerInfo { identity, purpose }, stamp, gatekeeper }),
        Err(refusal) => Err(std::io::Error::other(Knock { name: identity.name, refusal })),
    }
}

/// A node of this cluster's root that was refused.
#[derive(Debug, thiserror::Error)]
#[error("{name} was refused: {refusal}")]
struct Knock {
    name: String,
    refusal: Refusal,
}

/// Who comes and may not.
struct Strangers {
    foreign: Seldom,
    knocks: Seldom,
}

impl Default for Strangers {
    fn default() -> Self {
        // A member that has just been approved is not known everywhere at once.
        Self { foreign: Seldom::every(TOLD_EVERY), knocks: Seldom::lasting(KNOCKS_AFTER, TOLD_EVERY) }
    }
}

impl Strangers {
    fn not_made(&self, error: &std::io::Error) {
        let knock = error.get_ref().and_then(|e| e.downcast_ref::<Knock>());
        match knock {
            Some(Knock { name, refusal }) => {
                if let Some(times) = self.knocks.due(&format!("{name} {refusal:?}")) {
                    tracing::warn!(node = %name, times, %refusal, "a node that may not asks for connections; if it was removed, stop it");
                }
            }
            None if error.kind() == std::io::ErrorKind::PermissionDenied => {
                if let Some(times) = self.foreign.due(&error.to_string()) {
                    tracing::warn!(%error, times, "a connection to the peer port was refused: not by a node of this cluster's root");
                }
            }
            None => tracing::debug!(%error, "a peer connection was not made"),
        }
    }
}
