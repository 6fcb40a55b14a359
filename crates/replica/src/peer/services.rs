//! What this node does for its peers. By here the sender is known and pinned; what it says may still be anything.

use std::sync::Arc;

use bytes::Bytes;
use openraft::errors::{Infallible, RaftError};
use openraft::raft::AppendEntriesResponse;
use quorate_core::codec::Malformed;
use quorate_core::id::NodeId;
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status, Streaming};

use super::pb::join_server::Join;
use super::pb::peer_server::Peer;
use super::preface::Purpose;
use super::server::{PeerInfo, Sender};
use super::{SERVE_LIMIT, convert, pb};
use crate::change::{Change, Changed};
use crate::node::Node;
use crate::propose::{Attempt, Proposal};
use crate::raft::TypeConfig;
use crate::snapshot::receive::receive;
use crate::snapshot::wire::ranges_out;

type Answer<T> = Result<Response<T>, Status>;

fn sender<T>(request: &Request<T>) -> Result<NodeId, Status> {
    request.extensions().get::<Sender>().map(|s| s.0).ok_or_else(|| Status::internal("no sender"))
}

fn malformed(e: Malformed) -> Status {
    Status::invalid_argument(e.to_string())
}

fn stopped(e: RaftError<TypeConfig, Infallible>) -> Status {
    Status::unavailable(e.to_string())
}

/// Answers members.
pub(crate) struct PeerDesk {
    node: Arc<Node>,
}

impl PeerDesk {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

#[tonic::async_trait]
impl Peer for PeerDesk {
    async fn vote(&self, request: Request<pb::VoteRequest>) -> Answer<pb::VoteResponse> {
        let from = sender(&request)?;
        self.node.takes_part()?;
        let request = request.into_inner();
        let pre_vote = request.pre_vote;
        let ballot = convert::ballot_in(request).map_err(malformed)?;
        if ballot.vote.leader_id.node_id != from.0 {
            return Err(Status::invalid_argument("a node asks for votes for itself only"));
        }
        let ballot = self.node.admit_ballot(ballot)?;
        let leadership = ballot.vote.leader_id;
        let response = match pre_vote {
            true => self.node.raft.pre_vote(ballot).await,
            false => self.node.raft.vote(ballot).await,
        };
        let mut response = response.map_err(stopped)?;
        response.vote_granted &= !pre_vote || !self.node.is_another_s_turn(from);
        let granted = response.vote_granted && !pre_vote;
        if granted {
            self.node.promise.voted_for(from);
        }
        let grant = granted.then(|| self.node.grants.give(leadership));
        let word = if granted { self.node.own.word() } else { Bytes::new() };
        Ok(Response::new(convert::voted_out(&response, grant, word)))
    }

    async fn transfer_leader(&self, request: Request<pb::TransferLeaderRequest>) -> Answer<pb::TransferLeaderResponse> {
        let from = sender(&request)?;
        let request = convert::transfer_in(request.into_inner()).map_err(malformed)?;
        if request.from_leader().leader_id.node_id != from.0 {
            return Err(Status::invalid_argument("only the leader hands on its leadership"));
        }
        self.node.takes_part()?;
        self.node.admit_transfer(&request)?;
        let result = self.node.raft.handle_transfer_leader(request).await;
        let result = result.map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(Response::new(pb::TransferLeaderResponse {
            refused: result.err().map(|e| e.to_string()).unwrap_or_default(),
        }))
    }

    async fn hello(&self, request: Request<pb::HelloMessage>) -> Answer<pb::HelloMessage> {
        let from = sender(&request)?;
        self.node.hear(from, request.into_inner(), None);
        Ok(Response::new(self.node.my_hello(from)))
    }

    async fn append(&self, request: Request<pb::AppendRequest>) -> Answer<pb::AppendResponse> {
        let from = sender(&request)?;
        let mut request = request.into_inner();
        let (grants, wants_grant) = (std::mem::take(&mut request.grants), request.wants_grant);
        let (word, about) = (std::mem::take(&mut request.word), std::mem::take(&mut request.about));
        let roster = std::mem::take(&mut request.roster);
        let mut append = convert::append_in(request).map_err(malformed)?;
        if append.vote.leader_id.node_id != from.0 {
            return Err(Status::invalid_argument("only the leader itself sends entries"));
        }
        self.node.hear_roster(from, roster);
        self.node.believe(&append.vote, &grants)?;
        self.node.judge_words(from, Some(&about).filter(|about| !about.is_empty()));
        self.node.words.keep(from, word);
        self.node.takes_part()?;
        if !self.node.takes(&append.entries) {
            // Heartbeats, votes and reads go on (key-log §4.6).
            return Err(Status::resource_exhausted("short of disk space: no entries are taken"));
        }
        self.node.refuse_contradiction(&append).await?;
        let sent = append.entries.len();
        self.node.refuse_unlisted(from, &mut append)?;
        let (leadership, whole) = (append.vote.leader_id, append.entries.len() == sent);
        let last = append.entries.last().map(|entry| entry.log_id).or(append.prev_log_id);
        let response = match self.node.raft.append_entries(append).await.map_err(stopped)? {
            AppendEntriesResponse::Success if !whole => AppendEntriesResponse::PartialSuccess(last),
            response => response,
        };
        let has = match &response {
            AppendEntriesResponse::Success => last,
            AppendEntriesResponse::PartialSuccess(upto) => *upto,
            _ => None,
        };
        if let Some(id) = has {
            self.node.own.note_acked(leadership, id);
        }
        let follows = matches!(response, AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_));
        let grant = (follows && wants_grant).then(|| self.node.grants.give(leadership));
        Ok(Response::new(convert::appended_out(&response, grant, self.node.own.word())))
    }

    async fn propose(&self, request: Request<pb::ProposeRequest>) -> Answer<pb::ProposeResponse> {
        let from = sender(&request)?;
        let Ok(_permit) = self.node.limits.of(from).forwards.try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many proposals in flight"));
        };
        let request = request.into_inner();
        let what = match request.what.ok_or_else(|| Status::invalid_argument("nothing is proposed"))? {
            pb::propose_request::What::Batch(bytes) => Proposal::Batch(bytes),
            pb::propose_request::What::Open(bytes) => Proposal::Open(bytes),
        };
        let claim = match request.claim.len() {
            0 => None,
            _ => Some(request.claim[..].try_into().map_err(|_| Status::invalid_argument("no such claim"))?),
        };
        use pb::propose_response::Result as R;
        let result = match timeout(SERVE_LIMIT, self.node.sequence(&what, from, claim)).await {
            Ok(Attempt::Done(_) | Attempt::Sequenced) => R::Sequenced(pb::Nothing {}),
            Ok(Attempt::Claim(to)) => R::Claim(pb::VoteId { term: to.term, node: to.node_id, committed: true }),
            Ok(Attempt::NotLeader(hint)) => R::NotLeader(hint.map_or(0, |id| id.0)),
            Ok(Attempt::Refused(why)) => R::Refused(why),
            Ok(Attempt::NoSpace(short)) => R::NoSpace(pb::NoSpace { why: short.why, moving: short.moving }),
            Ok(Attempt::Busy(why)) => return Err(Status::resource_exhausted(why)),
            Ok(Attempt::Unknown(_)) | Err(_) => R::Unknown(pb::Nothing {}),
        };
        Ok(Response::new(pb::ProposeResponse { result: Some(result) }))
    }

    async fn change_membership(
        &self,
        request: Request<pb::ChangeMembershipRequest>,
    ) -> Answer<pb::ChangeMembershipResponse> {
        use pb::change_membership_request::Change as C;
        use pb::change_membership_response::Result as R;
        let from = sender(&request)?;
        let Ok(_permit) = self.node.limits.of(from).changes.try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many questions about members at once"));
        };
        let request = request.into_inner();
        let limit = SERVE_LIMIT.min(std::time::Duration::from_millis(request.deadline_ms));
        let change = match request.change.ok_or_else(|| Status::invalid_argument("no change"))? {
            C::MayPromote(these) => Change::MayPromote(these.ids.into_iter().map(NodeId).collect()),
            C::MayRemove(id) => Change::MayRemove(NodeId(id)),
            C::CarryOut(serial) => Change::CarryOut(serial),
            C::Transfer(transfer) => Change::Transfer(Some(NodeId(transfer.to)).filter(|id| id.0 != 0)),
        };
        let result = match self.node.change_here(&change, Instant::now() + limit).await {
            Changed::Done(index) => R::Index(index),
            Changed::NotLeader(hint) => R::NotLeader(hint.map_or(0, |id| id.0)),
            Changed::Refused(why) => R::Refused(why),
            Changed::Unknown(_) => R::Unknown(pb::Nothing {}),
        };
        Ok(Response::new(pb::ChangeMembershipResponse { result: Some(result) }))
    }

    async fn call(&self, request: Request<pb::CallRequest>) -> Answer<pb::CallResponse> {
        let from = sender(&request)?;
        let Ok(_permit) = self.node.limits.of(from).calls.try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many calls in flight"));
        };
        let request = request.into_inner();
        let kind = u8::try_from(request.kind).map_err(|_| Status::invalid_argument("unknown kind of call"))?;
        let handled = timeout(SERVE_LIMIT, self.node.shared.handler.handle(from, kind, request.body)).await;
        use pb::call_response::Result as R;
        let result = match handled.map_err(|_| Status::deadline_exceeded("the call took too long"))? {
            Ok(body) => R::Body(body),
            Err(why) => R::Refused(why),
        };
        Ok(Response::new(pb::CallResponse { result: Some(result) }))
    }

    async fn held_snapshot(&self, request: Request<pb::HeldSnapshotRequest>) -> Answer<pb::HeldSnapshotResponse> {
        sender(&request)?;
        Ok(Response::new(ranges_out(self.node.receiving.held())))
    }

    async fn install_snapshot(&self, request: Request<Streaming<pb::SnapshotPart>>) -> Answer<pb::SnapshotResponse> {
        let from = sender(&request)?;
        if request.extensions().get::<PeerInfo>().is_none_or(|info| info.purpose != Purpose::Snapshot) {
            return Err(Status::permission_denied("a snapshot comes on a connection of its own"));
        }
        self.node.takes_part()?;
        if self.node.journal.low_space() {
            return Err(Status::resource_exhausted("short of disk space: no snapshot is taken"));
        }
        let vote = receive(&self.node, from, request.into_inner()).await?;
        Ok(Response::new(pb::SnapshotResponse { vote: Some(convert::vote_out(&vote)) }))
    }
}

/// Answers nodes that are no members.
pub(crate) struct JoinDesk {
    node: Arc<Node>,
}

impl JoinDesk {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

#[tonic::async_trait]
impl Join for JoinDesk {
    async fn join(&self, request: Request<pb::JoinRequest>) -> Answer<pb::JoinResponse> {
        let info = request.extensions().get::<PeerInfo>().cloned();
        let info = info.ok_or_else(|| Status::internal("no connection info"))?;
        let Ok(_permit) = self.node.limits.joins.clone().try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many nodes are joining"));
        };
        let body = request.into_inner().body;
        let handled = timeout(SERVE_LIMIT, self.node.shared.handler.join(info.identity, body)).await;
        use pb::join_response::Result as R;
        let result = match handled.map_err(|_| Status::deadline_exceeded("the call took too long"))? {
            Ok(body) => R::Body(body),
            Err(why) => R::Refused(why),
        };
        Ok(Response::new(pb::JoinResponse { result: Some(result) }))
    }
}
