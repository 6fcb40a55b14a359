//! The principals door: `quorate.v1.Principals`. As that of keys.

use std::sync::Arc;

use quorate_proto::v1;
use quorate_proto::v1::principals_server::Principals;
use quorate_service::Call;
use quorate_service::core::credential::{CredentialId, RevocationReason};
use quorate_service::core::decide::{EnablePrincipal, RevokeCredential};
use quorate_service::core::principal::Principal;
use quorate_service::core::record::{CredentialRecord, PrincipalRecord};
use quorate_service::core::request::{InvalidRequest, PageLen, Part};
use quorate_service::desk::Kms;
use quorate_service::node::Node;
use quorate_service::operation::{DescribeCredential, ListCredentials, ListPrincipals};
use tonic::{Request, Response, Status};

use crate::caller::Callers;
use crate::deadline::deadline;
use crate::keys::refused;
use crate::words::{next_page, optional, parse};

/// The principals door of one node.
pub(crate) struct PrincipalsDoor {
    node: Arc<Node>,
    callers: Arc<Callers>,
}

type Answer<T> = Result<Response<T>, Status>;

impl PrincipalsDoor {
    pub(crate) fn new(node: Arc<Node>, callers: Arc<Callers>) -> Self {
        Self { node, callers }
    }
    /// The call, the desk that answers it, and what it says.
    fn asked<T>(&self, request: Request<T>) -> Result<(Call, Arc<Kms>, T), Status> {
        let call = Call { caller: self.callers.of(&request)?, deadline: deadline(&request) };
        Ok((call, self.node.kms().map_err(refused)?, request.into_inner()))
    }

    async fn enable(&self, request: Request<v1::PrincipalRequest>, enabled: bool) -> Answer<v1::PrincipalResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = EnablePrincipal { principal: who(&asked.principal)?, enabled };
        let record = kms.commit(&call, &wanted).await.map_err(refused)?;
        Ok(Response::new(v1::PrincipalResponse { principal: Some(principal(record)) }))
    }
}

/// A principal as it is shown, `role/name`.
fn who(text: &str) -> Result<Principal, Status> {
    text.parse().map_err(|why: quorate_service::core::principal::InvalidPrincipal| {
        refused(InvalidRequest::wrong(Part::Principal, why.to_string()))
    })
}

fn principal(record: PrincipalRecord) -> v1::Principal {
    let PrincipalRecord { principal, enabled, created_ms, updated_ms, updated_by } = record;
    let (principal, updated_by) = (principal.to_string(), updated_by.to_string());
    v1::Principal { principal, enabled, created_ms, updated_ms, updated_by }
}

fn credential(record: CredentialRecord) -> v1::Credential {
    let principal = record.whose.map(|whose| whose.to_string()).unwrap_or_default();
    let known = v1::Credential { credential: record.id.to_string(), principal, ..Default::default() };
    match record.revoked {
        Some(revoked) => v1::Credential {
            revoked_ms: revoked.at_ms,
            reason: revoked.reason.as_str().into(),
            revoked_by: revoked.by.to_string(),
            ..known
        },
        None => known,
    }
}

fn told(credential: v1::Credential) -> Response<v1::CredentialResponse> {
    Response::new(v1::CredentialResponse { credential: Some(credential) })
}

#[tonic::async_trait]
impl Principals for PrincipalsDoor {
    async fn list_principals(&self, request: Request<v1::ListPrincipalsRequest>) -> Answer<v1::ListPrincipalsResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = ListPrincipals { len: PageLen::parse(asked.limit).map_err(refused)?, token: asked.page_token };
        let page = kms.page(&call, wanted).await.map_err(refused)?;
        let principals = page.items.into_iter().map(principal).collect();
        Ok(Response::new(v1::ListPrincipalsResponse { principals, next_page_token: next_page(page.next) }))
    }

    async fn enable_principal(&self, request: Request<v1::PrincipalRequest>) -> Answer<v1::PrincipalResponse> {
        self.enable(request, true).await
    }

    async fn disable_principal(&self, request: Request<v1::PrincipalRequest>) -> Answer<v1::PrincipalResponse> {
        self.enable(request, false).await
    }

    async fn revoke_credential(&self, request: Request<v1::RevokeCredentialRequest>) -> Answer<v1::CredentialResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let whose = (!asked.principal.is_empty()).then(|| who(&asked.principal)).transpose()?;
        let reason = optional(&asked.reason)?.unwrap_or(RevocationReason::Unspecified);
        let wanted = RevokeCredential { id: parse(&asked.credential)?, whose, reason };
        kms.commit(&call, &wanted).await.map(|record| told(credential(record))).map_err(refused)
    }

    async fn describe_credential(&self, request: Request<v1::CredentialRequest>) -> Answer<v1::CredentialResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let id: CredentialId = parse(&asked.credential)?;
        let known = kms.perform(&call, DescribeCredential { id }).await.map_err(refused)?;
        let nothing = || v1::Credential { credential: id.to_string(), ..Default::default() };
        Ok(told(known.map_or_else(nothing, credential)))
    }

    async fn list_credentials(
        &self,
        request: Request<v1::ListCredentialsRequest>,
    ) -> Answer<v1::ListCredentialsResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = ListCredentials { len: PageLen::parse(asked.limit).map_err(refused)?, token: asked.page_token };
        let page = kms.page(&call, wanted).await.map_err(refused)?;
        let credentials = page.items.into_iter().map(credential).collect();
        Ok(Response::new(v1::ListCredentialsResponse { credentials, next_page_token: next_page(page.next) }))
    }
}
