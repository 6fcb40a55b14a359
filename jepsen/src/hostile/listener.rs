//! Where the member listens, somebody answers who claims a leadership in every answer.

#![allow(clippy::needless_update, reason = "the protocol grows")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_core::id::NodeId;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::pb::append_response::Result as Appended;
use super::pb::peer_server::{Peer, PeerServer};
use super::wire::{Wire, listen};
use super::{doors, pb};

/// What is claimed, and how often it was in answers.
pub struct Claims {
    me: NodeId,
    /// Whether it is in answers; else there is none.
    answers: bool,
    /// The highest term that anybody told.
    known: AtomicU64,
    answered: AtomicU64,
}

impl Claims {
    /// Of a member.
    pub fn new(me: NodeId, answers: bool) -> Arc<Self> {
        Arc::new(Self { me, answers, known: AtomicU64::new(0), answered: AtomicU64::new(0) })
    }

    /// Somebody knows of this term.
    pub fn learn(&self, term: u64) {
        self.known.fetch_max(term, Ordering::Relaxed);
    }

    /// The highest term that anybody told.
    pub fn known(&self) -> u64 {
        self.known.load(Ordering::Relaxed)
    }

    /// A claim ahead of all that anybody knows.
    pub fn claim(&self) -> pb::VoteId {
        doors::claim(self.me, self.known())
    }

    /// How many answers it was in since the last look.
    pub fn answered(&self) -> u64 {
        self.answered.swap(0, Ordering::Relaxed)
    }

    fn answer(&self, seen: Option<pb::VoteId>) -> Result<pb::VoteId, Status> {
        self.learn(seen.map_or(0, |vote| vote.term));
        if !self.answers {
            return Err(Status::unavailable("not now"));
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
        Ok(self.claim())
    }
}

/// Answers until the program ends.
///
/// # Errors
/// The address is taken.
pub async fn serve(addr: SocketAddr, wire: Wire, claims: Arc<Claims>) -> anyhow::Result<()> {
    let listener = listen(addr).await?;
    let (tx, rx) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (wire, tx) = (wire.clone(), tx.clone());
            tokio::spawn(async move {
                if let Ok(stream) = wire.accept(tcp).await {
                    let _ = tx.send(Ok::<_, std::io::Error>(stream)).await;
                }
            });
        }
    });
    let incoming = tokio_stream::wrappers::ReceiverStream::new(rx);
    tokio::spawn(Server::builder().add_service(PeerServer::new(Liar(claims))).serve_with_incoming(incoming));
    Ok(())
}

struct Liar(Arc<Claims>);

type Answer<T> = Result<Response<T>, Status>;

fn silent<T>() -> Answer<T> {
    Err(Status::unavailable("not now"))
}

#[tonic::async_trait]
impl Peer for Liar {
    async fn vote(&self, request: Request<pb::VoteRequest>) -> Answer<pb::VoteResponse> {
        let vote = Some(self.0.answer(request.into_inner().vote)?);
        Ok(Response::new(pb::VoteResponse { vote, ..Default::default() }))
    }

    async fn append(&self, request: Request<pb::AppendRequest>) -> Answer<pb::AppendResponse> {
        let result = Some(Appended::HigherVote(self.0.answer(request.into_inner().vote)?));
        Ok(Response::new(pb::AppendResponse { result, ..Default::default() }))
    }

    async fn install_snapshot(&self, _: Request<Streaming<pb::SnapshotPart>>) -> Answer<pb::SnapshotResponse> {
        Ok(Response::new(pb::SnapshotResponse { vote: Some(self.0.answer(None)?) }))
    }

    /// Ranges of no keys.
    async fn held_snapshot(&self, _: Request<pb::HeldSnapshotRequest>) -> Answer<pb::HeldSnapshotResponse> {
        let range = |upto: u8| pb::HeldRange { upto: vec![upto; 41].into(), hash: vec![upto; 32].into() };
        Ok(Response::new(pb::HeldSnapshotResponse { ranges: [9, 0, 0xff].map(range).into() }))
    }

    /// As healthy as who asks.
    async fn hello(&self, request: Request<pb::HelloMessage>) -> Answer<pb::HelloMessage> {
        let hello = request.into_inner();
        self.0.learn(hello.vote.map_or(0, |vote| vote.term));
        Ok(Response::new(pb::HelloMessage { roster: Default::default(), ..hello }))
    }

    async fn transfer_leader(&self, _: Request<pb::TransferLeaderRequest>) -> Answer<pb::TransferLeaderResponse> {
        silent()
    }

    async fn propose(&self, _: Request<pb::ProposeRequest>) -> Answer<pb::ProposeResponse> {
        silent()
    }

    async fn change_membership(&self, _: Request<pb::ChangeMembershipRequest>) -> Answer<pb::ChangeMembershipResponse> {
        silent()
    }

    async fn call(&self, _: Request<pb::CallRequest>) -> Answer<pb::CallResponse> {
        silent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_ahead_of_all_that_was_told() {
        let claims = Claims::new(NodeId(3), true);
        claims.learn(9);
        claims.learn(4);
        assert_eq!(claims.claim().term, doors::claim(NodeId(3), 9).term);
        assert!(claims.answer(Some(pb::VoteId { term: 50, node: 1, committed: true })).unwrap().term > 50);
        assert_eq!((claims.answered(), claims.answered()), (1, 0));
        let silent = Claims::new(NodeId(3), false);
        assert!(silent.answer(None).is_err());
        assert_eq!(silent.answered(), 0);
    }
}
