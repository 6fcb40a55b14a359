//! The operators' door: `quorate.v1.Operator`. Genesis, ceremonies, members, status; it translates and holds no rules.

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto::v1;
use quorate_proto::v1::operator_server::Operator;
use quorate_service::Error;
use quorate_service::admission::Freshness;
use quorate_service::core::id::{InvalidId, Name};
use quorate_service::core::principal::Principal;
use quorate_service::node::Node;
use quorate_service::seal::{
    AbortSignature, CeremonyStatus, InitRequest, NodeStatus, Pending, SecretText, Status as ClusterStatus,
};
use tonic::{Request, Response, Status};

use crate::caller::Callers;
use crate::deadline::deadline;
use crate::status::status;
use crate::verdict;

/// The operators' door of one node.
pub(crate) struct OperatorDoor {
    node: Arc<Node>,
    callers: Arc<Callers>,
}

type Answer<T> = Result<Response<T>, Status>;

impl OperatorDoor {
    pub(crate) fn new(node: Arc<Node>, callers: Arc<Callers>) -> Self {
        Self { node, callers }
    }

    /// Who calls, if that is somebody.
    async fn who<T>(&self, request: &Request<T>, by: Freshness) -> Result<Principal, Status> {
        let caller = self.callers.of(request)?;
        self.node.admitted(&caller, by, deadline(request)).await.map_err(|e| status(&e))
    }
}

#[tonic::async_trait]
impl Operator for OperatorDoor {
    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let who = self.who(&request, Freshness::Heard).await?;
        let answer = self.node.status(&who).map_err(|e| status(&e))?;
        Ok(Response::new(status_response(answer)))
    }

    async fn seal_config(&self, request: Request<v1::SealConfigRequest>) -> Answer<v1::SealConfigResponse> {
        let who = self.who(&request, Freshness::Heard).await?;
        let mut chain = self.node.seal_configs(&who).map_err(|e| status(&e))?;
        let seal_config = chain.pop().unwrap_or_default().into();
        let earlier = chain.into_iter().map(Bytes::from).collect();
        Ok(Response::new(v1::SealConfigResponse { seal_config, node_name: self.node.name().to_string(), earlier }))
    }

    async fn init(&self, request: Request<v1::InitRequest>) -> Answer<v1::InitResponse> {
        let who = self.who(&request, Freshness::Heard).await?;
        let v1::InitRequest { shares, threshold, custodians, insecure_single_share } = request.into_inner();
        let asked = InitRequest { shares, threshold, custodians, insecure_single_share };
        let founded = self.node.init(&who, asked).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::InitResponse {
            // From here the text is in tonic's hands; the zero-on-free allocator wipes what it frees.
            shares: founded.shares.iter().map(|share| share.to_string()).collect(),
            cluster_id: founded.cluster.to_string(),
            lineage: founded.lineage.to_string(),
            seal_config: founded.seal_config.into(),
        }))
    }

    async fn share_challenge(&self, request: Request<v1::ShareChallengeRequest>) -> Answer<v1::ShareChallengeResponse> {
        let who = self.who(&request, Freshness::Heard).await?;
        let challenge = self.node.share_challenge(&who).map_err(|e| status(&e))?;
        Ok(Response::new(v1::ShareChallengeResponse {
            nonce: Bytes::copy_from_slice(&challenge.nonce),
            node_name: challenge.node_name,
            cluster_id: challenge.cluster.to_string(),
        }))
    }

    async fn submit_share(&self, request: Request<v1::SubmitShareRequest>) -> Answer<v1::SubmitShareResponse> {
        let who = self.who(&request, Freshness::Heard).await?;
        let v1::SubmitShareRequest { share, nonce, proof } = request.into_inner();
        let share = SecretText::new(share);
        let submitted =
            self.node.submit_share(&who, share, nonce.to_vec(), proof.to_vec()).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::SubmitShareResponse {
            ceremony: submitted.ceremony.map(ceremony),
            unsealed: submitted.unsealed,
            node_name: self.node.name().to_string(),
        }))
    }

    async fn abort_ceremony(&self, request: Request<v1::AbortCeremonyRequest>) -> Answer<v1::AbortCeremonyResponse> {
        let who = self.who(&request, Freshness::Known).await?;
        let v1::AbortCeremonyRequest { ceremony_id, share_number, signature } = request.into_inner();
        let id = CeremonyStatus::parse_id(&ceremony_id).ok_or_else(|| {
            status(&Error::InvalidArgument("the ceremony's id is not 32 hex digits, as the status has it".into()))
        })?;
        let signature = match (share_number, signature) {
            (0, signature) if signature.is_empty() => None,
            (x, signature) => Some(AbortSignature {
                // No custodian has number 0, so that the service refuses whatever does not fit.
                x: x.try_into().unwrap_or_default(),
                signature: signature.to_vec(),
            }),
        };
        let aborted = self.node.abort_ceremony(&who, id, signature).map_err(|e| status(&e))?;
        Ok(Response::new(v1::AbortCeremonyResponse {
            aborted: aborted.aborted,
            signatures: aborted.signatures.into(),
            threshold: aborted.threshold.into(),
            node_name: self.node.name().to_string(),
        }))
    }

    async fn seal(&self, request: Request<v1::SealRequest>) -> Answer<v1::SealResponse> {
        // One node can be sealed whatever has become of the others.
        let by = if request.get_ref().cluster { Freshness::Round } else { Freshness::Known };
        let (who, until) = (self.who(&request, by).await?, deadline(&request));
        let sealed_nodes = self.node.seal(&who, request.get_ref().cluster, until).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::SealResponse { sealed_nodes }))
    }

    async fn invite(&self, request: Request<v1::InviteRequest>) -> Answer<v1::InviteResponse> {
        let (who, until) = (self.who(&request, Freshness::Round).await?, deadline(&request));
        let v1::InviteRequest { name, valid_minutes } = request.get_ref();
        let invited = self.node.invite(&who, name, *valid_minutes, until).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::InviteResponse { token: invited.token.to_string(), expires_ms: invited.expires_ms }))
    }

    async fn uninvite(&self, request: Request<v1::UninviteRequest>) -> Answer<v1::UninviteResponse> {
        let (who, until) = (self.who(&request, Freshness::Round).await?, deadline(&request));
        let name = parse(&request.get_ref().name)?;
        let waited = self.node.uninvite(&who, name.as_str(), until).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::UninviteResponse { waited }))
    }

    async fn approve(&self, request: Request<v1::ApproveRequest>) -> Answer<v1::ApproveResponse> {
        let (who, until) = (self.who(&request, Freshness::Round).await?, deadline(&request));
        let v1::ApproveRequest { name, fingerprint } = request.get_ref();
        let approved =
            self.node.approve(&who, parse(name)?.as_str(), fingerprint, until).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::ApproveResponse { id: approved.id.0, unsealed: approved.unsealed }))
    }

    async fn promote(&self, request: Request<v1::PromoteRequest>) -> Answer<v1::PromoteResponse> {
        let (who, until) = (self.who(&request, Freshness::Round).await?, deadline(&request));
        let v1::PromoteRequest { names, force } = request.get_ref();
        names.iter().try_for_each(|name| parse(name).map(drop))?;
        let voters = self.node.promote(&who, names, *force, until).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::PromoteResponse { voters: voters.into_iter().map(|id| id.0).collect() }))
    }

    async fn transfer_leader(&self, request: Request<v1::TransferLeaderRequest>) -> Answer<v1::TransferLeaderResponse> {
        let (who, until) = (self.who(&request, Freshness::Round).await?, deadline(&request));
        let name = Some(request.get_ref().name.as_str()).filter(|name| !name.is_empty()).map(parse).transpose()?;
        let leader =
            self.node.transfer_leader(&who, name.as_ref().map(Name::as_str), until).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::TransferLeaderResponse { leader: leader.id.0, name: leader.name }))
    }

    async fn remove_member(&self, request: Request<v1::RemoveMemberRequest>) -> Answer<v1::RemoveMemberResponse> {
        let (who, until) = (self.who(&request, Freshness::Round).await?, deadline(&request));
        let name = parse(&request.get_ref().name)?;
        let removed = self.node.remove_member(&who, name.as_str(), until).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::RemoveMemberResponse {
            id: removed.id.0,
            voters: removed.voters.into_iter().map(|id| id.0).collect(),
            root_generation: removed.root_generation,
        }))
    }

    async fn list_members(&self, request: Request<v1::ListMembersRequest>) -> Answer<v1::ListMembersResponse> {
        let (who, until) = (self.who(&request, Freshness::Round).await?, deadline(&request));
        let members = self.node.list_members(&who, until).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::ListMembersResponse {
            members: members.members.into_iter().map(node_status).collect(),
            pending: members.pending.into_iter().map(pending).collect(),
        }))
    }

    async fn confirm_time(&self, request: Request<v1::ConfirmTimeRequest>) -> Answer<v1::ConfirmTimeResponse> {
        let (who, until) = (self.who(&request, Freshness::Round).await?, deadline(&request));
        let time_ms = self.node.confirm_time(&who, request.get_ref().time_ms, until).await.map_err(|e| status(&e))?;
        Ok(Response::new(v1::ConfirmTimeResponse { time_ms }))
    }
}

/// A member's name: what is none is refused before it is looked for, or said again.
fn parse(name: &str) -> Result<Name, Status> {
    name.parse().map_err(|e: InvalidId| status(&Error::InvalidArgument(e.0)))
}

fn status_response(s: ClusterStatus) -> v1::StatusResponse {
    v1::StatusResponse {
        cluster_id: s.cluster.to_string(),
        lineage: s.lineage.map(|lineage| lineage.to_string()).unwrap_or_default(),
        leader: s.leader.map_or(0, |id| id.0),
        nodes: s.nodes.into_iter().map(node_status).collect(),
        ceremony: s.ceremony.map(ceremony),
        cluster_time_ms: s.cluster_time_ms,
        level: s.level.map_or(0, |level| level.0),
        answered_by: s.answered_by,
        dev: s.dev,
        state: s.health.as_str().into(),
        severity: s.verdicts.first().map_or(v1::Severity::Unspecified, |v| verdict::severity(v.severity())).into(),
        verdicts: s.verdicts.into_iter().map(verdict::verdict).collect(),
        seal_generation: s.seal.map_or(0, |(generation, _)| generation),
        seal_fingerprint: s.seal.map(|(_, fingerprint)| fingerprint.to_string()).unwrap_or_default(),
        digest: s.digest.map(|(index, hash)| v1::StateDigest { index, hash: hash.to_vec().into() }),
    }
}

fn node_status(n: NodeStatus) -> v1::NodeStatus {
    let problem = n.problems();
    v1::NodeStatus {
        id: n.id,
        name: n.name,
        role: n.role,
        voter: n.voter,
        reachable: n.reachable,
        sealed: n.sealed,
        applied_index: n.applied_index,
        lag: n.lag,
        api: n.api,
        peer: n.peer,
        assurance: n.assurance,
        hsm_algorithm: n.hsm_algorithm,
        version: n.version,
        level: n.level.map_or(0, |level| level.0),
        problem,
        state: n.health.map(|health| health.as_str().to_owned()).unwrap_or_default(),
        free_bytes: n.free_bytes,
        low_space: n.low_space,
        certificate_expires_ms: n.certificate_ends_ms,
    }
}

pub(crate) fn ceremony(c: CeremonyStatus) -> v1::Ceremony {
    v1::Ceremony {
        id: c.id_text(),
        node: c.node,
        threshold: c.threshold.into(),
        entered: c.entered.len() as u32,
        share_numbers: c.entered.iter().map(|x| u32::from(*x)).collect(),
        expires_ms: c.expires_ms,
        labels: c.labels,
    }
}

fn pending(p: Pending) -> v1::PendingMember {
    let state = if p.fingerprint.is_some() { "waiting for approval" } else { "invited" };
    v1::PendingMember {
        name: p.name,
        fingerprint: p.fingerprint.unwrap_or_default(),
        state: state.into(),
        expires_ms: p.expires_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceremony_keeps_its_numbers_and_an_applicant_its_state() {
        let shown = ceremony(CeremonyStatus {
            id: [0xAB; 16],
            node: "n2".into(),
            threshold: 3,
            entered: vec![1, 4],
            labels: vec![],
            expires_ms: 9,
        });
        assert_eq!((shown.entered, shown.share_numbers, shown.threshold), (2, vec![1, 4], 3));
        assert_eq!(shown.id, "ab".repeat(16));
        assert_eq!(CeremonyStatus::parse_id(&shown.id), Some([0xAB; 16]));
        for bad in ["", "ab", &"ab".repeat(17), &"xy".repeat(16), &"é".repeat(16), &"+a".repeat(16)] {
            assert_eq!(CeremonyStatus::parse_id(bad), None, "{bad}");
        }
        let invited = Pending { name: "n3".into(), fingerprint: None, expires_ms: 1 };
        assert_eq!(pending(invited.clone()).state, "invited");
        let waiting = pending(Pending { fingerprint: Some("AB12".into()), ..invited });
        assert_eq!((waiting.state.as_str(), waiting.fingerprint.as_str()), ("waiting for approval", "AB12"));
    }
}
