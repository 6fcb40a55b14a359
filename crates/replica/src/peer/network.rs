//! openraft's network over the links.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::alias::SnapshotOf;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use quorate_core::codec::Malformed;
use quorate_core::id::NodeId;
use quorate_journal::Driver;

use super::link::{Link, Links};
use super::{APPEND_LIMIT, RpcFailure, bounded, convert, pb};
use crate::grants::Grants;
use crate::log::LogReader;
use crate::member::Member;
use crate::raft::machine::StateSnapshot;
use crate::raft::{LogId, TypeConfig, Vote};
use crate::shared::Shared;
use crate::snapshot::send::send;
use crate::snapshot::streams::Streams;
use crate::word::{Own, Words};

type Error = RPCError<TypeConfig>;

/// Makes networks to members.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) me: NodeId,
    pub(crate) links: Arc<Links>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) own: Arc<Own>,
    pub(crate) words: Arc<Words>,
    pub(crate) journal: LogReader,
    pub(crate) driver: Driver,
}

impl Network {
    fn peer(&self, target: u64, member: &Member, heartbeat: bool) -> Peer {
        Peer { link: self.links.to(NodeId(target), member), network: self.clone(), heartbeat }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, member: &Member) -> Peer {
        self.peer(target, member, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, member: &Member) -> Peer {
        self.peer(target, member, true)
    }
}

/// One member as openraft calls it.
pub(crate) struct Peer {
    network: Network,
    link: Arc<Link>,
    /// Appends go by the control connection and under openraft's own limit.
    heartbeat: bool,
}

impl Peer {
    /// Who shows less than it has said is sent nothing of Raft's, and nothing that it answers counts; nor what one answers whom
    /// the roster leaves out, whatever membership is still in force.
    fn heeded(&self) -> Result<(), Unreachable<TypeConfig>> {
        if self.network.words.shows_less(self.link.id) {
            return Err(Unreachable::from_string("it shows less than it has said of itself"));
        }
        match self.network.shared.members.has(self.link.id) {
            true => Ok(()),
            false => Err(Unreachable::from_string("the roster leaves it out")),
        }
    }

    /// Whether what would come next is of a part of the log that can't be read: openraft is to send the state for it, and begins
    /// anew after an error alone.
    fn readable(&self, rpc: &AppendEntriesRequest<TypeConfig>) -> Result<(), Unreachable<TypeConfig>> {
        let next = rpc.prev_log_id.map_or(0, |id| id.index + 1);
        let unread = !self.heartbeat && rpc.entries.is_empty();
        match self.network.journal.damage().filter(|damage| unread && next <= damage.upto) {
            Some(_) => Err(Unreachable::from_string("what it needs of the log is damaged here; it is sent the state")),
            None => Ok(()),
        }
    }

    fn error(&self, action: RPCTypes, failure: RpcFailure) -> Error {
        match failure {
            RpcFailure::Deadline(timeout) => {
                Timeout { action, id: self.network.me.0, target: self.link.id.0, timeout }.into()
            }
            other => Unreachable::from_string(other).into(),
        }
    }
}

/// Whether entries from after `before` to `last` can be answered so. openraft takes that for granted: it would panic, or
/// believe a follower to have what nobody has sent.
fn plausible(
    response: &AppendEntriesResponse<TypeConfig>,
    before: Option<LogId>,
    last: Option<LogId>,
    acked: Option<LogId>,
) -> Result<(), &'static str> {
    match response {
        AppendEntriesResponse::Conflict if before <= acked => {
            Err("a follower can't lack what it has acknowledged under this vote")
        }
        AppendEntriesResponse::PartialSuccess(upto) if *upto < before || *upto > last => {
            Err("a follower can't have taken more than it was sent")
        }
        _ => Ok(()),
    }
}

fn malformed(e: Malformed) -> Error {
    NetworkError::new(&e).into()
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = StateSnapshot;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Error> {
        self.heeded()?;
        self.readable(&rpc)?;
        let (before, last) = (rpc.prev_log_id, rpc.entries.last().map(|e| e.log_id).or(rpc.prev_log_id));
        let mut request = self.with_grants(&rpc.vote, convert::append_out(&rpc));
        request.about = self.network.words.newest(self.link.id);
        if !request.entries.is_empty() {
            request.word = self.network.own.word();
        }
        let (mut client, limit) = match self.heartbeat {
            true => (self.link.control(), option.soft_ttl()),
            // openraft hands on the heartbeat interval, which a follower's disk need not keep.
            false => (self.link.log(), APPEND_LIMIT),
        };
        let response = bounded(limit, client.append(request)).await.map_err(|e| {
            self.link.note_follows(None);
            self.error(RPCTypes::AppendEntries, e)
        })?;
        let (grant, word) = (response.grant.clone(), response.word.clone());
        self.network.words.keep(self.link.id, word);
        self.heeded()?;
        let response = match convert::appended_in(response).map_err(malformed)? {
            AppendEntriesResponse::HigherVote(vote) => AppendEntriesResponse::HigherVote(self.told(vote, &rpc.vote)?),
            followed => {
                self.follows(&rpc.vote, &grant);
                followed
            }
        };
        let acked = self.link.acked(&rpc.vote).max(self.network.words.acked(self.link.id, rpc.vote.leader_id));
        match plausible(&response, before, last, acked) {
            Ok(()) => {
                let has = match &response {
                    AppendEntriesResponse::Success => last,
                    AppendEntriesResponse::PartialSuccess(upto) => *upto,
                    _ => None,
                };
                if let Some(id) = has {
                    self.link.note_acked(rpc.vote, id);
                }
                Ok(response)
            }
            Err(why) => Err(NetworkError::from_string(why).into()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        self.ballot(rpc, false, option.soft_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        self.ballot(rpc, true, option.soft_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, StateSnapshot>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        self.heeded()?;
        let (StateSnapshot::View(view), Some(last)) = (snapshot.snapshot, snapshot.meta.last_log_id) else {
            return Err(Unreachable::from_string("nothing was applied yet that could be sent").into());
        };
        let stream = self.network.streams.begin(last.index);
        let grants = self.network.grants.collected(vote.leader_id);
        let sent = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            sent = send(&self.network.driver, &self.link, &stream, vote, grants, view) => sent,
        };
        match sent {
            Ok(told) => Ok(SnapshotResponse::new(self.told(told, &vote)?)),
            Err(error) => {
                // Tried again after a pause, with the state as it is then.
                let to = self.network.shared.members.name_of(self.link.id);
                tracing::warn!(%to, index = last.index, %error, "a snapshot was not installed; it is sent again");
                Err(Unreachable::from_string(error).into())
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Error> {
        self.heeded()?;
        self.network.grants.note_successor(NodeId(*req.to_node_id()));
        let mut client = self.link.control();
        let response = bounded(option.soft_ttl(), client.transfer_leader(convert::transfer_out(&req)))
            .await
            .map_err(|e| self.error(RPCTypes::TransferLeader, e))?;
        match response.refused.as_str() {
            "" => Ok(Ok(())),
            why => Err(NetworkError::from_string(why).into()),
        }
    }
}

impl Peer {
    async fn ballot(
        &self,
        rpc: VoteRequest<TypeConfig>,
        pre_vote: bool,
        limit: Duration,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        self.heeded()?;
        let mut client = self.link.control();
        let response = bounded(limit, client.vote(convert::ballot_out(&rpc, pre_vote)))
            .await
            .map_err(|e| self.error(RPCTypes::Vote, e))?;
        self.heeded()?;
        let grant = response.grant.clone();
        self.network.words.keep(self.link.id, response.word.clone());
        let mut response = convert::voted_in(response).map_err(malformed)?;
        // Whom others would not believe to have voted for this node has not.
        response.vote_granted &=
            pre_vote || self.network.grants.collect(rpc.vote.leader_id, self.link.id, self.link.identity(), &grant);
        response.vote = self.told(response.vote, &rpc.vote)?;
        Ok(response)
    }

    /// Shows who granted this leadership, until the member has answered it.
    fn with_grants(&self, vote: &Vote, mut request: pb::AppendRequest) -> pb::AppendRequest {
        if !self.link.follows(vote.leader_id) {
            request.grants = self.network.grants.collected(vote.leader_id);
            request.roster =
                self.network.shared.members.roster().map(|roster| roster.encode().clone()).unwrap_or_default();
        }
        request.wants_grant = self.network.grants.lacks(vote.leader_id, self.link.id);
        request
    }

    /// The member follows this leadership.
    fn follows(&self, vote: &Vote, grant: &Bytes) {
        self.link.note_follows(Some(vote.leader_id));
        if !grant.is_empty() && !self.network.grants.collect(vote.leader_id, self.link.id, self.link.identity(), grant)
        {
            tracing::warn!(from = %self.network.shared.members.name_of(self.link.id), "a grant does not hold");
        }
    }

    /// A vote told in an answer.
    fn told(&self, vote: Vote, sent: &Vote) -> Result<Vote, NetworkError<TypeConfig>> {
        self.network.grants.told(self.link.id, vote, sent).map_err(NetworkError::from_string)
    }
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId;

    use super::*;
    use crate::raft::LeaderId;

    #[test]
    fn a_follower_s_answer_must_fit_what_it_was_sent() {
        use AppendEntriesResponse::{Conflict, PartialSuccess, Success};
        let id = |index| Some(LogId::new(LeaderId::new(4, 2), index));
        for fits in [Success, Conflict, PartialSuccess(id(6)), PartialSuccess(id(8)), PartialSuccess(id(9))] {
            assert_eq!(plausible(&fits, id(6), id(9), id(5)), Ok(()), "{fits}");
        }
        for odd in [PartialSuccess(None), PartialSuccess(id(5)), PartialSuccess(id(10)), PartialSuccess(id(u64::MAX))] {
            assert!(plausible(&odd, id(6), id(9), None).is_err(), "{odd}");
        }
        assert!(plausible(&Conflict, None, id(9), None).is_err(), "nothing can conflict with the beginning of the log");
        assert!(
            plausible(&Conflict, id(6), id(9), id(6)).is_err(),
            "Raft would panic, or take what was lost for there"
        );
    }
}
