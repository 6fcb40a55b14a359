//! Take a credential, or somebody whoever they are, out of service; and let somebody in again (key-model §7.1).
//!
//! Nobody does it to himself: so whoever locks others out is still there, and two who lock each other out at once are one of them.

use super::{Change, Decide, Refusal, Write};
use crate::access::Access;
use crate::action::Action;
use crate::credential::{CredentialId, RevocationReason};
use crate::facts::Basis;
use crate::principal::{Principal, Role};
use crate::record::{CredentialRecord, PrincipalRecord, Revoked};
use crate::request::{InvalidRequest, Part};
use crate::seam::NewIds;
use crate::views::ShowsKeys;

/// Revokes a credential, for ever: whoever presents it from now on is nobody. Revoked already: it stays as it was.
///
/// Refused: [`Refusal::Yourself`]; it is a node's, as the request says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevokeCredential {
    /// Which.
    pub id: CredentialId,
    /// Whose it is, if that is known; for whoever looks at the record.
    pub whose: Option<Principal>,
    /// Why.
    pub reason: RevocationReason,
}

/// No node is a caller: it is a member, or none.
fn is_caller(who: &Principal) -> Result<(), Refusal> {
    if who.role() != Role::Node {
        return Ok(());
    }
    let why = "nodes are no callers of the cluster but its members: one is shut out by removing it";
    Err(Refusal::Invalid(InvalidRequest::wrong(Part::Principal, why)))
}

impl Decide for RevokeCredential {
    type Answer = CredentialRecord;

    fn action(&self) -> Action {
        Action::CredentialRevoke
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<CredentialRecord>, F::Error> {
        at.cluster()?;
        self.whose.as_ref().map_or(Ok(()), is_caller)?;
        if at.presented().id == self.id {
            return Err(Refusal::Yourself.into());
        }
        let known = at.get::<CredentialRecord>(self.id)?;
        let now_ms = at.time().stamp_ms();
        let mut record = match known.as_deref() {
            Some(known) if known.revoked.is_some() => return Ok(Change::none(known.clone())),
            Some(known) => known.clone(),
            None => {
                CredentialRecord { id: self.id, whose: None, created_ms: now_ms, updated_ms: now_ms, revoked: None }
            }
        };
        record.whose = record.whose.or_else(|| self.whose.clone());
        record.updated_ms = record.updated_ms.max(now_ms);
        let (at_ms, by) = (record.updated_ms, at.principal().clone());
        record.revoked = Some(Revoked { at_ms, reason: self.reason, by });
        Ok(Change { writes: vec![Write::Update(record.clone().into())], answer: record })
    }
}

/// Enables or disables somebody: who is disabled may do nothing, whatever they present. As they are already: nothing to do.
///
/// Refused: [`Refusal::Yourself`]; it is a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnablePrincipal {
    /// Who.
    pub principal: Principal,
    /// Whether they may do what they have the right to.
    pub enabled: bool,
}

impl Decide for EnablePrincipal {
    type Answer = PrincipalRecord;

    fn action(&self) -> Action {
        if self.enabled { Action::PrincipalEnable } else { Action::PrincipalDisable }
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<PrincipalRecord>, F::Error> {
        at.cluster()?;
        is_caller(&self.principal)?;
        if *at.principal() == self.principal {
            return Err(Refusal::Yourself.into());
        }
        let known = at.get::<PrincipalRecord>(self.principal.clone())?;
        let now_ms = at.time().stamp_ms();
        let (principal, enabled, updated_by) = (self.principal.clone(), self.enabled, at.principal().clone());
        let created_ms = known.as_ref().map_or(now_ms, |known| known.created_ms);
        let updated_ms = known.as_ref().map_or(now_ms, |known| known.updated_ms.max(now_ms));
        let record = PrincipalRecord { principal, enabled, created_ms, updated_ms, updated_by };
        Ok(match known.as_deref() {
            Some(known) if known.enabled == enabled => Change::none(known.clone()),
            // They are, without a record.
            None if enabled => Change::none(record),
            _ => Change { writes: vec![Write::Update(record.clone().into())], answer: record },
        })
    }
}

impl ShowsKeys for CredentialRecord {}
impl ShowsKeys for Vec<CredentialRecord> {}
impl ShowsKeys for PrincipalRecord {}
impl ShowsKeys for Vec<PrincipalRecord> {}

#[cfg(test)]
mod tests;
