//! A member that speaks the peer protocol with its own identity, and keeps to none of its rules.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use openraft::vote::RaftLeaderId;
use quorate_core::id::{GroupId, NodeId};
use quorate_core::session::Session;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use super::wire::{BootKey, Realm};
use crate::net::BoxStream;
use crate::peer::link::{Link, Links};
use crate::peer::pb::peer_server::{Peer, PeerServer};
use crate::peer::{RpcFailure, bounded, pb, preface};
use crate::raft::LeaderId;
use crate::testing::{CLUSTER, Cluster, PATIENCE, Site};

const REALM: Realm = Realm { cluster: CLUSTER, group: GroupId(0) };

pub(super) fn vote_id(term: u64, node: NodeId, committed: bool) -> Option<pb::VoteId> {
    Some(pb::VoteId { term, node: node.0, committed })
}

/// The caller's half.
pub(super) struct Hostile {
    pub(super) id: NodeId,
    links: Links,
    key: BootKey,
}

impl Hostile {
    /// Speaks as that site, beside or instead of its replica.
    pub(super) fn new(cluster: &Cluster, place: usize) -> Self {
        let (site, world) = (&cluster.sites[place], cluster.sites[place].world());
        let boot = Session { origin: site.id, boot: 1, process: [9; 16] };
        let key = BootKey::make(REALM, boot, &*world.identity, &*world.entropy).expect("certified");
        let links = Links::new(world.net.clone(), CLUSTER, GroupId(0), site.id, Arc::default(), Handle::current());
        Self { id: site.id, links, key }
    }

    pub(super) fn link(&self, to: &Site) -> Arc<Link> {
        self.links.to(to.id, &to.member())
    }

    /// Its own grant, for whatever leadership it likes.
    pub(super) fn grant(&self, term: u64) -> Bytes {
        self.key.grant(LeaderId::new(term, self.id.0))
    }

    pub(super) async fn append(&self, to: &Site, request: pb::AppendRequest) -> Result<pb::AppendResponse, RpcFailure> {
        bounded(PATIENCE, self.link(to).log().append(request)).await
    }

    pub(super) async fn ask(&self, to: &Site, ballot: pb::VoteRequest) -> Result<pb::VoteResponse, RpcFailure> {
        bounded(PATIENCE, self.link(to).control().vote(ballot)).await
    }

    pub(super) async fn install(
        &self,
        to: &Site,
        parts: Vec<pb::SnapshotPart>,
    ) -> Result<pb::SnapshotResponse, RpcFailure> {
        bounded(PATIENCE, self.link(to).snapshot().install_snapshot(tokio_stream::iter(parts))).await
    }
}

/// The answering half: says to every leader that somebody else leads.
pub(super) struct FalseAnswers {
    pub(super) append: pb::VoteId,
    pub(super) vote: pb::VoteId,
    /// So many answers; then it says nothing.
    pub(super) left: AtomicU64,
}

impl FalseAnswers {
    fn next(&self) -> Result<(), Status> {
        let took = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        took.map(drop).map_err(|_| Status::unavailable("silent"))
    }

    /// Answers in the place of a site's replica.
    pub(super) async fn serve(self: Arc<Self>, site: &Site) {
        let mut listener = site.world().net.listen(&site.member().peer_addr).await.expect("free");
        let (tx, rx) = mpsc::channel::<io::Result<Raw>>(16);
        let server = Server::builder().add_service(PeerServer::from_arc(self));
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(rx)));
        tokio::spawn(async move {
            while let Ok(handshake) = listener.accept().await {
                let tx = tx.clone();
                tokio::spawn(async move {
                    let (mut stream, _) = handshake.await.expect("a handshake");
                    let known = preface::read(&mut stream).await.is_ok_and(|read| read.is_ok());
                    if known && preface::answer(&mut stream, None).await.is_ok() {
                        drop(tx.send(Ok(Raw(stream))).await);
                    }
                });
            }
        });
    }
}

#[tonic::async_trait]
impl Peer for FalseAnswers {
    async fn vote(&self, _: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        self.next()?;
        Ok(Response::new(pb::VoteResponse { vote: Some(self.vote), ..Default::default() }))
    }
    async fn append(&self, _: Request<pb::AppendRequest>) -> Result<Response<pb::AppendResponse>, Status> {
        self.next()?;
        let result = Some(pb::append_response::Result::HigherVote(self.append));
        Ok(Response::new(pb::AppendResponse { result, ..Default::default() }))
    }
    async fn transfer_leader(
        &self,
        _: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        Err(Status::unavailable("silent"))
    }
    async fn hello(&self, _: Request<pb::HelloMessage>) -> Result<Response<pb::HelloMessage>, Status> {
        Err(Status::unavailable("silent"))
    }
    async fn propose(&self, _: Request<pb::ProposeRequest>) -> Result<Response<pb::ProposeResponse>, Status> {
        Err(Status::unavailable("silent"))
    }
    async fn change_membership(
        &self,
        _: Request<pb::ChangeMembershipRequest>,
    ) -> Result<Response<pb::ChangeMembershipResponse>, Status> {
        Err(Status::unavailable("silent"))
    }
    async fn call(&self, _: Request<pb::CallRequest>) -> Result<Response<pb::CallResponse>, Status> {
        Err(Status::unavailable("silent"))
    }
    async fn install_snapshot(
        &self,
        _: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        Err(Status::unavailable("silent"))
    }
}

/// A stream that the server takes as it is.
struct Raw(BoxStream);

impl Connected for Raw {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Raw {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Raw {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
