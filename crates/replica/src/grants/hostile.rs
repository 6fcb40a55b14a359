//! A member that speaks the peer protocol with its own identity, and keeps to none of its rules.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

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

    /// A ballot of its own, with a log longer than all.
    pub(super) fn ballot(&self, term: u64, pre_vote: bool) -> pb::VoteRequest {
        pb::VoteRequest {
            vote: vote_id(term, self.id, false),
            last_log_id: Some(pb::LogId { term: 1 << 10, node: self.id.0, index: 1 << 30 }),
            leadership_transfer: !pre_vote,
            pre_vote,
        }
    }

    /// Is elected by the rules: by one that hears of no other leader. Its grants.
    pub(super) async fn elected_by(&self, to: &Site, term: u64) -> Vec<Bytes> {
        let ballot = self.ballot(term, false);
        // Refused for as long as the old leader's lease lasts.
        let elected = async {
            loop {
                let answer = self.ask(to, ballot).await.expect("an answer");
                if answer.granted {
                    return answer.grant;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        vec![tokio::time::timeout(PATIENCE, elected).await.expect("elected"), self.grant(term)]
    }

    pub(super) async fn install(
        &self,
        to: &Site,
        parts: Vec<pb::SnapshotPart>,
    ) -> Result<pb::SnapshotResponse, RpcFailure> {
        bounded(PATIENCE, self.link(to).snapshot().install_snapshot(tokio_stream::iter(parts))).await
    }
}

type Answering<A, B> = Box<dyn Fn(A) -> Result<B, Status> + Send + Sync>;

/// The answering half: what it says to each question.
pub(super) struct Answers {
    pub(super) vote: Answering<pb::VoteRequest, pb::VoteResponse>,
    pub(super) append: Answering<pb::AppendRequest, pb::AppendResponse>,
    pub(super) hello: Answering<pb::HelloMessage, pb::HelloMessage>,
    pub(super) propose: Answering<pb::ProposeRequest, pb::ProposeResponse>,
}

fn silent<A, B>(_: A) -> Result<B, Status> {
    Err(Status::unavailable("silent"))
}

impl Default for Answers {
    fn default() -> Self {
        Self { vote: Box::new(silent), append: Box::new(silent), hello: Box::new(silent), propose: Box::new(silent) }
    }
}

impl Answers {
    /// Answers in the place of a site's replica.
    pub(super) async fn serve(self, site: &Site) {
        let mut listener = site.world().net.listen(&site.member().peer_addr).await.expect("free");
        let (tx, rx) = mpsc::channel::<io::Result<Raw>>(16);
        let server = Server::builder().add_service(PeerServer::new(self));
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
impl Peer for Answers {
    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        (self.vote)(request.into_inner()).map(Response::new)
    }
    async fn append(&self, request: Request<pb::AppendRequest>) -> Result<Response<pb::AppendResponse>, Status> {
        (self.append)(request.into_inner()).map(Response::new)
    }
    async fn hello(&self, request: Request<pb::HelloMessage>) -> Result<Response<pb::HelloMessage>, Status> {
        (self.hello)(request.into_inner()).map(Response::new)
    }
    async fn propose(&self, request: Request<pb::ProposeRequest>) -> Result<Response<pb::ProposeResponse>, Status> {
        (self.propose)(request.into_inner()).map(Response::new)
    }
    async fn transfer_leader(
        &self,
        _: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        silent(())
    }
    async fn change_membership(
        &self,
        _: Request<pb::ChangeMembershipRequest>,
    ) -> Result<Response<pb::ChangeMembershipResponse>, Status> {
        silent(())
    }
    async fn call(&self, _: Request<pb::CallRequest>) -> Result<Response<pb::CallResponse>, Status> {
        silent(())
    }
    async fn held_snapshot(
        &self,
        _: Request<pb::HeldSnapshotRequest>,
    ) -> Result<Response<pb::HeldSnapshotResponse>, Status> {
        silent(())
    }
    async fn install_snapshot(
        &self,
        _: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        silent(())
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
