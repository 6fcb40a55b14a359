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
use super::{SERVE_LIMIT, convert, forward, pb};
use crate::node::Node;
use crate::propose::Attempt;
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
pub(crate) struct PeerService {
    node: Arc<Node>,
}

impl PeerService {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn vote(&self, request: Request<pb::VoteRequest>) -> Answer<pb::VoteResponse> {
        let from = sender(&request)?;
        self.node.participation.check()?;
        let request = request.into_inner();
        let pre_vote = request.pre_vote;
        let ballot = convert::ballot_in(request).map_err(malformed)?;
        if ballot.vote.leader_id.node_id != from.0 {
            return Err(Status::invalid_argument("a node asks for votes for itself only"));
        }
        let ballot = self.node.doorkeeper.admit_ballot(ballot)?;
        let leadership = ballot.vote.leader_id;
        let response = match pre_vote {
            true => self.node.base.raft.pre_vote(ballot).await,
            false => self.node.base.raft.vote(ballot).await,
        };
        let mut response = response.map_err(stopped)?;
        response.vote_granted &= !pre_vote || !self.node.succession.another_is_being_elected(from);
        let granted = response.vote_granted && !pre_vote;
        if granted {
            self.node.base.promise.voted_for(from);
        }
        let grant = granted.then(|| self.node.base.grants.give(leadership));
        let word = if granted { self.node.base.own.word() } else { Bytes::new() };
        Ok(Response::new(convert::voted_out(&response, grant, word)))
    }

    async fn transfer_leader(&self, request: Request<pb::TransferLeaderRequest>) -> Answer<pb::TransferLeaderResponse> {
        let from = sender(&request)?;
        let request = convert::transfer_in(request.into_inner()).map_err(malformed)?;
        if request.from_leader().leader_id.node_id != from.0 {
            return Err(Status::invalid_argument("only the leader hands on its leadership"));
        }
        self.node.participation.check()?;
        self.node.doorkeeper.admit_transfer(&request)?;
        let result = self.node.base.raft.handle_transfer_leader(request).await;
        let result = result.map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(Response::new(pb::TransferLeaderResponse {
            refused: result.err().map(|e| e.to_string()).unwrap_or_default(),
        }))
    }

    async fn hello(&self, request: Request<pb::HelloMessage>) -> Answer<pb::HelloMessage> {
        let from = sender(&request)?;
        self.node.hellos.hear(from, request.into_inner(), None);
        Ok(Response::new(self.node.hellos.own(from)))
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
        self.node.rosters.hear(from, roster);
        self.node.doorkeeper.believe(&append.vote, &grants)?;
        self.node.witness.judge(from, Some(&about).filter(|about| !about.is_empty()));
        self.node.base.words.keep(from, word);
        self.node.participation.check()?;
        if !self.node.space.takes(&append.entries) {
            // Heartbeats, votes and reads go on (key-log §4.6).
            return Err(Status::resource_exhausted("short of disk space: no entries are taken"));
        }
        self.node.doorkeeper.refuse_contradiction(&append).await?;
        let sent = append.entries.len();
        self.node.rosters.refuse_entries(from, &mut append)?;
        let (leadership, whole) = (append.vote.leader_id, append.entries.len() == sent);
        let last = append.entries.last().map(|entry| entry.log_id).or(append.prev_log_id);
        let response = match self.node.base.raft.append_entries(append).await.map_err(stopped)? {
            AppendEntriesResponse::Success if !whole => AppendEntriesResponse::PartialSuccess(last),
            response => response,
        };
        let has = match &response {
            AppendEntriesResponse::Success => last,
            AppendEntriesResponse::PartialSuccess(upto) => *upto,
            _ => None,
        };
        if let Some(id) = has {
            self.node.base.own.note_acked(leadership, id);
        }
        let follows = matches!(response, AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_));
        let grant = (follows && wants_grant).then(|| self.node.base.grants.give(leadership));
        Ok(Response::new(convert::appended_out(&response, grant, self.node.base.own.word())))
    }

    async fn propose(&self, request: Request<pb::ProposeRequest>) -> Answer<pb::ProposeResponse> {
        let from = sender(&request)?;
        let Ok(_permit) = self.node.limits.of(from).forwards.try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many proposals in flight"));
        };
        let (what, claim) = forward::proposal_in(request.into_inner()).map_err(malformed)?;
        let attempt = timeout(SERVE_LIMIT, self.node.proposals.sequence(&what, from, claim.as_ref())).await;
        let attempt = attempt.unwrap_or_else(|_| Attempt::Unknown("it took too long".into()));
        Ok(Response::new(forward::attempt_out(attempt)?))
    }

    async fn change_membership(
        &self,
        request: Request<pb::ChangeMembershipRequest>,
    ) -> Answer<pb::ChangeMembershipResponse> {
        let from = sender(&request)?;
        let Ok(_permit) = self.node.limits.of(from).changes.try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many questions about members at once"));
        };
        let (change, limit) = forward::change_in(request.into_inner()).map_err(malformed)?;
        let changed = self.node.changes.answer(&change, Instant::now() + limit.min(SERVE_LIMIT)).await;
        Ok(Response::new(forward::changed_out(changed)))
    }

    async fn call(&self, request: Request<pb::CallRequest>) -> Answer<pb::CallResponse> {
        let from = sender(&request)?;
        let Ok(_permit) = self.node.limits.of(from).calls.try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many calls in flight"));
        };
        let request = request.into_inner();
        let kind = u8::try_from(request.kind).map_err(|_| Status::invalid_argument("unknown kind of call"))?;
        let handled = timeout(SERVE_LIMIT, self.node.base.shared.handler.handle(from, kind, request.body)).await;
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
        self.node.participation.check()?;
        if self.node.base.journal.low_space() {
            return Err(Status::resource_exhausted("short of disk space: no snapshot is taken"));
        }
        let vote = receive(&self.node, from, request.into_inner()).await?;
        Ok(Response::new(pb::SnapshotResponse { vote: Some(convert::vote_out(&vote)) }))
    }
}

/// Answers nodes that are no members.
pub(crate) struct JoinService {
    node: Arc<Node>,
}

impl JoinService {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

#[tonic::async_trait]
impl Join for JoinService {
    async fn join(&self, request: Request<pb::JoinRequest>) -> Answer<pb::JoinResponse> {
        let info = request.extensions().get::<PeerInfo>().cloned();
        let info = info.ok_or_else(|| Status::internal("no connection info"))?;
        let Ok(_permit) = self.node.limits.joins.clone().try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many nodes are joining"));
        };
        let body = request.into_inner().body;
        let handled = timeout(SERVE_LIMIT, self.node.base.shared.handler.join(info.identity, body)).await;
        use pb::join_response::Result as R;
        let result = match handled.map_err(|_| Status::deadline_exceeded("the call took too long"))? {
            Ok(body) => R::Body(body),
            Err(why) => R::Refused(why),
        };
        Ok(Response::new(pb::JoinResponse { result: Some(result) }))
    }
}
