//! Between the wire's messages and our types.

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use openraft::vote::RaftLeaderId;
use quorate_core::codec::Malformed;

use super::pb;
use crate::raft::codec::{from_wire, to_wire};
use crate::raft::settings::PAYLOAD_ENTRIES_MAX;
use crate::raft::{LeaderId, LogId, TypeConfig, Vote};

/// Most entries of a message that are read: more than openraft sends.
const ENTRIES_MAX: usize = 4 * PAYLOAD_ENTRIES_MAX as usize;

pub(crate) fn log_id_out(id: &LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

pub(crate) fn log_id_in(id: &pb::LogId) -> LogId {
    LogId::new(LeaderId::new(id.term, id.node), id.index)
}

pub(crate) fn vote_out(vote: &Vote) -> pb::VoteId {
    pb::VoteId { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub(crate) fn vote_in(vote: Option<pb::VoteId>) -> Result<Vote, Malformed> {
    let vote = vote.ok_or(Malformed("message: no vote"))?;
    Ok(Vote { leader_id: LeaderId::new(vote.term, vote.node), committed: vote.committed })
}

/// The vote of an elected leader.
pub(crate) fn leadership_in(vote: Option<pb::VoteId>) -> Result<Vote, Malformed> {
    vote_in(vote)
        .and_then(|vote| if vote.committed { Ok(vote) } else { Err(Malformed("message: no elected leader's")) })
}

pub(crate) fn append_out(request: &AppendEntriesRequest<TypeConfig>) -> pb::AppendRequest {
    pb::AppendRequest {
        vote: Some(vote_out(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(log_id_out),
        leader_commit: request.leader_commit.as_ref().map(log_id_out),
        entries: request.entries.iter().map(to_wire).collect(),
        ..Default::default()
    }
}

/// Also checks what openraft takes for granted: entries in sequence, right after `prev_log_id`.
pub(crate) fn append_in(request: pb::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    if request.entries.len() > ENTRIES_MAX {
        return Err(Malformed("append: too many entries"));
    }
    let entries = request.entries.iter().map(from_wire).collect::<Result<Vec<_>, _>>()?;
    let prev_log_id = request.prev_log_id.as_ref().map(log_id_in);
    let mut previous = prev_log_id;
    for entry in &entries {
        let in_order = match &previous {
            Some(p) => p.index.checked_add(1) == Some(entry.log_id.index) && p.leader_id <= entry.log_id.leader_id,
            None => entry.log_id.index == 0,
        };
        if !in_order {
            return Err(Malformed("append: entries out of sequence"));
        }
        previous = Some(entry.log_id);
    }
    Ok(AppendEntriesRequest {
        vote: leadership_in(request.vote)?,
        prev_log_id,
        entries,
        leader_commit: request.leader_commit.as_ref().map(log_id_in),
    })
}

pub(crate) fn appended_out(
    response: &AppendEntriesResponse<TypeConfig>,
    grant: Option<Bytes>,
    word: Bytes,
) -> pb::AppendResponse {
    use pb::append_response::Result as R;
    let result = match response {
        AppendEntriesResponse::Success => R::Success(pb::Nothing {}),
        AppendEntriesResponse::PartialSuccess(id) => {
            R::Partial(pb::PartialSuccess { log_id: id.as_ref().map(log_id_out) })
        }
        AppendEntriesResponse::Conflict => R::Conflict(pb::Nothing {}),
        AppendEntriesResponse::HigherVote(vote) => R::HigherVote(vote_out(vote)),
    };
    pb::AppendResponse { result: Some(result), grant: grant.unwrap_or_default(), word }
}

pub(crate) fn appended_in(response: pb::AppendResponse) -> Result<AppendEntriesResponse<TypeConfig>, Malformed> {
    use pb::append_response::Result as R;
    Ok(match response.result.ok_or(Malformed("append: no result"))? {
        R::Success(_) => AppendEntriesResponse::Success,
        R::Partial(p) => AppendEntriesResponse::PartialSuccess(p.log_id.as_ref().map(log_id_in)),
        R::Conflict(_) => AppendEntriesResponse::Conflict,
        R::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_in(Some(vote))?),
    })
}

pub(crate) fn ballot_out(request: &VoteRequest<TypeConfig>, pre_vote: bool) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(vote_out(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_out),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

/// Who asks to be elected is not elected yet.
pub(crate) fn ballot_in(request: pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, Malformed> {
    let vote = vote_in(request.vote)?;
    if vote.committed {
        return Err(Malformed("ballot: it says to be elected already"));
    }
    Ok(VoteRequest {
        vote,
        last_log_id: request.last_log_id.as_ref().map(log_id_in),
        leadership_transfer: request.leadership_transfer,
    })
}

pub(crate) fn voted_out(response: &VoteResponse<TypeConfig>, grant: Option<Bytes>, word: Bytes) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(vote_out(&response.vote)),
        last_log_id: response.last_log_id.as_ref().map(log_id_out),
        granted: response.vote_granted,
        grant: grant.unwrap_or_default(),
        word,
    }
}

pub(crate) fn voted_in(response: pb::VoteResponse) -> Result<VoteResponse<TypeConfig>, Malformed> {
    Ok(VoteResponse {
        vote: vote_in(response.vote)?,
        vote_granted: response.granted,
        last_log_id: response.last_log_id.as_ref().map(log_id_in),
    })
}

pub(crate) fn transfer_out(request: &TransferLeaderRequest<TypeConfig>) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        from_leader: Some(vote_out(request.from_leader())),
        to: *request.to_node_id(),
        last_log_id: request.last_log_id().map(log_id_out),
    }
}

pub(crate) fn transfer_in(request: pb::TransferLeaderRequest) -> Result<TransferLeaderRequest<TypeConfig>, Malformed> {
    Ok(TransferLeaderRequest::new(
        leadership_in(request.from_leader)?,
        request.to,
        request.last_log_id.as_ref().map(log_id_in),
    ))
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;

    use super::*;
    use crate::raft::RaftEntry;

    fn id(index: u64) -> LogId {
        LogId::new(LeaderId::new(4, 2), index)
    }

    fn append(prev: Option<u64>, indexes: &[u64]) -> pb::AppendRequest {
        append_out(&AppendEntriesRequest {
            vote: Vote { leader_id: LeaderId::new(4, 2), committed: true },
            prev_log_id: prev.map(id),
            entries: indexes.iter().map(|i| RaftEntry { log_id: id(*i), payload: EntryPayload::Blank }).collect(),
            leader_commit: None,
        })
    }

    #[test]
    fn appends_must_be_in_sequence() {
        assert!(append_in(append(None, &[0, 1, 2])).is_ok());
        assert!(append_in(append(Some(6), &[7, 8])).is_ok());
        for (prev, indexes) in [(None, &[1][..]), (Some(6), &[8]), (Some(6), &[7, 7]), (Some(u64::MAX), &[0])] {
            assert!(append_in(append(prev, indexes)).is_err(), "{prev:?} {indexes:?}");
        }
        let mut garbled = append(Some(6), &[7]);
        garbled.entries[0] = Bytes::from_static(b"garbage");
        assert!(append_in(garbled).is_err());
        assert!(append_in(pb::AppendRequest::default()).is_err(), "no vote");
    }

    #[test]
    fn who_asks_for_votes_is_not_elected_and_who_leads_is() {
        let vote = |committed| Some(pb::VoteId { term: 4, node: 2, committed });
        let ballot = |committed| ballot_in(pb::VoteRequest { vote: vote(committed), ..Default::default() });
        assert!(ballot(false).is_ok() && ballot(true).is_err());
        let append = |committed| append_in(pb::AppendRequest { vote: vote(committed), ..Default::default() });
        assert!(append(true).is_ok() && append(false).is_err());
        let transfer = |committed| pb::TransferLeaderRequest { from_leader: vote(committed), ..Default::default() };
        assert!(transfer_in(transfer(true)).is_ok() && transfer_in(transfer(false)).is_err());
    }
}
