//! What a node that does not lead asks of the one that does, and what that answers: to the wire and back, side by side.

use std::time::Duration;

use bytes::Bytes;
use openraft::vote::RaftLeaderId as _;
use quorate_core::codec::Malformed;
use quorate_core::id::NodeId;
use tonic::Status;

use super::pb;
use crate::change::{Change, Changed};
use crate::origins::CLAIM_LEN;
use crate::propose::{Attempt, Proposal};
use crate::raft::LeaderId;
use crate::space::Short;

/// Node 0 is nobody.
fn somebody(id: u64) -> Option<NodeId> {
    Some(NodeId(id)).filter(|id| id.0 != 0)
}

fn number(id: Option<NodeId>) -> u64 {
    id.map_or(0, |id| id.0)
}

pub(crate) fn proposal_out(what: &Proposal, claim: Bytes) -> pb::ProposeRequest {
    use pb::propose_request::What as W;
    let what = match what {
        Proposal::Batch(bytes) => W::Batch(bytes.clone()),
        Proposal::Open(bytes) => W::Open(bytes.clone()),
    };
    pb::ProposeRequest { what: Some(what), claim }
}

pub(crate) fn proposal_in(request: pb::ProposeRequest) -> Result<(Proposal, Option<[u8; CLAIM_LEN]>), Malformed> {
    use pb::propose_request::What as W;
    let what = match request.what.ok_or(Malformed("proposal: nothing is proposed"))? {
        W::Batch(bytes) => Proposal::Batch(bytes),
        W::Open(bytes) => Proposal::Open(bytes),
    };
    let claim = match request.claim.len() {
        0 => None,
        _ => Some(request.claim[..].try_into().map_err(|_| Malformed("proposal: no such claim"))?),
    };
    Ok((what, claim))
}

/// What became of a proposal here. That it can't be done now is no answer but a refusal of the call.
pub(crate) fn attempt_out(attempt: Attempt) -> Result<pb::ProposeResponse, Status> {
    use pb::propose_response::Result as R;
    let result = match attempt {
        Attempt::Done(_) | Attempt::Sequenced => R::Sequenced(pb::Nothing {}),
        Attempt::Claim(to) => R::Claim(pb::VoteId { term: to.term, node: to.node_id, committed: true }),
        Attempt::NotLeader(hint) => R::NotLeader(number(hint)),
        Attempt::Refused(why) => R::Refused(why),
        Attempt::NoSpace(short) => R::NoSpace(pb::NoSpace { why: short.why, moving: short.moving }),
        Attempt::Busy(why) => return Err(Status::resource_exhausted(why)),
        Attempt::Unknown(_) => R::Unknown(pb::Nothing {}),
    };
    Ok(pb::ProposeResponse { result: Some(result) })
}

/// What became of it there, by the word of `leader`.
pub(crate) fn attempt_in(response: pb::ProposeResponse, leader: NodeId) -> Attempt {
    use pb::propose_response::Result as R;
    match response.result {
        Some(R::Sequenced(_)) => Attempt::Sequenced,
        Some(R::NotLeader(id)) => Attempt::NotLeader(somebody(id)),
        Some(R::Unknown(_)) => Attempt::Unknown("the leader lost its leadership".into()),
        Some(R::Refused(why)) => Attempt::Refused(why),
        Some(R::NoSpace(short)) => Attempt::NoSpace(Short { why: short.why, moving: short.moving }),
        Some(R::Claim(to)) => Attempt::Claim(LeaderId::new(to.term, to.node)),
        None => Attempt::Unknown(format!("node {leader} answered nothing")),
    }
}

/// `limit`: how long the leader may take.
pub(crate) fn change_out(change: &Change, limit: Duration) -> pb::ChangeMembershipRequest {
    use pb::change_membership_request::Change as C;
    let change = match change {
        Change::MayPromote(ids) => C::MayPromote(pb::Members { ids: ids.iter().map(|id| id.0).collect() }),
        Change::MayRemove(id) => C::MayRemove(id.0),
        Change::CarryOut(serial) => C::CarryOut(*serial),
        Change::Transfer(to) => C::Transfer(pb::Transfer { to: number(*to) }),
    };
    pb::ChangeMembershipRequest { change: Some(change), deadline_ms: (limit.as_millis() as u64).max(1) }
}

pub(crate) fn change_in(request: pb::ChangeMembershipRequest) -> Result<(Change, Duration), Malformed> {
    use pb::change_membership_request::Change as C;
    let change = match request.change.ok_or(Malformed("question about members: nothing is asked"))? {
        C::MayPromote(these) => Change::MayPromote(these.ids.into_iter().map(NodeId).collect()),
        C::MayRemove(id) => Change::MayRemove(NodeId(id)),
        C::CarryOut(serial) => Change::CarryOut(serial),
        C::Transfer(transfer) => Change::Transfer(somebody(transfer.to)),
    };
    Ok((change, Duration::from_millis(request.deadline_ms)))
}

pub(crate) fn changed_out(changed: Changed) -> pb::ChangeMembershipResponse {
    use pb::change_membership_response::Result as R;
    let result = match changed {
        Changed::Done(index) => R::Index(index),
        Changed::NotLeader(hint) => R::NotLeader(number(hint)),
        Changed::Refused(why) => R::Refused(why),
        Changed::Unknown(_) => R::Unknown(pb::Nothing {}),
    };
    pb::ChangeMembershipResponse { result: Some(result) }
}

pub(crate) fn changed_in(response: pb::ChangeMembershipResponse) -> Changed {
    use pb::change_membership_response::Result as R;
    match response.result {
        Some(R::Index(index)) => Changed::Done(index),
        Some(R::NotLeader(id)) => Changed::NotLeader(somebody(id)),
        Some(R::Refused(why)) => Changed::Refused(why),
        Some(R::Unknown(_)) | None => Changed::Unknown("the leader lost its leadership".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_a_leader_comes_back_as_it_was() {
        for what in [Proposal::Batch(Bytes::from_static(b"b")), Proposal::Open(Bytes::from_static(b"o"))] {
            for claim in [None, Some([7; CLAIM_LEN])] {
                let sent = proposal_out(&what, claim.map(|c| Bytes::copy_from_slice(&c)).unwrap_or_default());
                assert_eq!(proposal_in(sent).ok(), Some((what.clone(), claim)));
            }
        }
        let limit = Duration::from_millis(1234);
        for change in [
            Change::MayPromote(vec![NodeId(2), NodeId(u64::MAX)]),
            Change::MayPromote(vec![]),
            Change::MayRemove(NodeId(3)),
            Change::CarryOut(9),
            Change::Transfer(Some(NodeId(3))),
            Change::Transfer(None),
        ] {
            assert_eq!(change_in(change_out(&change, limit)).ok(), Some((change, limit)));
        }
    }

    #[test]
    fn what_a_leader_answers_comes_back_as_far_as_its_word_goes() {
        let short = || Short { why: "n1 (2 MiB free)".into(), moving: true };
        for (said, heard) in [
            (Attempt::Sequenced, Attempt::Sequenced),
            (Attempt::NotLeader(None), Attempt::NotLeader(None)),
            (Attempt::NotLeader(Some(NodeId(3))), Attempt::NotLeader(Some(NodeId(3)))),
            (Attempt::Unknown("why".into()), Attempt::Unknown("the leader lost its leadership".into())),
            (Attempt::Refused("why".into()), Attempt::Refused("why".into())),
            (Attempt::NoSpace(short()), Attempt::NoSpace(short())),
            (Attempt::Claim(LeaderId::new(7, 3)), Attempt::Claim(LeaderId::new(7, 3))),
        ] {
            let sent = attempt_out(said).expect("an answer");
            assert_eq!(attempt_in(sent, NodeId(1)), heard);
        }
        assert!(attempt_out(Attempt::Busy("why".into())).is_err());
        for (said, heard) in [
            (Changed::Done(9), Changed::Done(9)),
            (Changed::NotLeader(Some(NodeId(3))), Changed::NotLeader(Some(NodeId(3)))),
            (Changed::Refused("why".into()), Changed::Refused("why".into())),
            (Changed::Unknown("why".into()), Changed::Unknown("the leader lost its leadership".into())),
        ] {
            assert_eq!(changed_in(changed_out(said)), heard);
        }
    }

    #[test]
    fn what_says_nothing_is_refused_or_unknown() {
        let nothing = pb::ProposeRequest { what: None, claim: Bytes::new() };
        assert!(proposal_in(nothing).is_err() && change_in(pb::ChangeMembershipRequest::default()).is_err());
        let cut = proposal_out(&Proposal::Batch(Bytes::new()), Bytes::from_static(&[7; CLAIM_LEN - 1]));
        assert!(proposal_in(cut).is_err());
        assert!(matches!(attempt_in(pb::ProposeResponse { result: None }, NodeId(1)), Attempt::Unknown(_)));
        assert!(matches!(changed_in(pb::ChangeMembershipResponse { result: None }), Changed::Unknown(_)));
    }
}
