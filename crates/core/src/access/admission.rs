//! Whether who asks is somebody: looked at in the view of each request, so that a credential which is revoked is dead at every node
//! from the moment at which that is confirmed, whatever connections it had opened before.

use thiserror::Error;

use super::{Access, Ask, Caller, Granted, PolicyEngine, Resource};
use crate::action::Action;
use crate::credential::{CredentialId, RevocationReason};
use crate::facts::{Basis, Facts};
use crate::id::Namespace;
use crate::principal::Principal;
use crate::record::{CredentialRecord, PrincipalRecord};

/// Why nobody is asked further.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NotAdmitted {
    /// What was presented is good no longer.
    #[error("the certificate presented ended on {}; have another issued", crate::time::utc(*ended_ms))]
    Ended {
        /// When it ended, ms since 1970.
        ended_ms: u64,
    },
    /// It was revoked.
    #[error(
        "the credential {id} was revoked on {}{}; ask an administrator for another",
        crate::time::utc(*at_ms),
        match reason { RevocationReason::Unspecified => String::new(), reason => format!(" ({})", reason.as_str()) }
    )]
    Revoked {
        /// Which.
        id: CredentialId,
        /// When (display time, ms since 1970).
        at_ms: u64,
        /// Why.
        reason: RevocationReason,
    },
    /// Whoever it is, may do nothing.
    #[error("{0} is disabled; an administrator can enable them")]
    Disabled(Principal),
}

impl<'a, F: Basis> Access<'a, F> {
    /// Over facts that are true at one index, for one action of somebody whose credential, and who himself, is good at it.
    ///
    /// # Errors
    /// [`crate::decide::Refusal::NotAdmitted`].
    pub fn admit(
        facts: &'a mut F,
        policies: &'a dyn PolicyEngine,
        caller: &'a Caller,
        action: Action,
    ) -> Result<Self, F::Error> {
        admit(facts, caller)?;
        let ask = Ask { caller, action, resource: Resource::Namespace(Namespace::FIRST) };
        Ok(Self { facts, policies, ask, within: None, granted: Granted::default() })
    }
}

impl<F: Facts> Access<'_, F> {
    /// What is known of a credential, if the caller may do it to what is of no one namespace.
    ///
    /// # Errors
    /// [`crate::decide::Refusal::Denied`].
    pub fn credential(&mut self, id: CredentialId) -> Result<Option<CredentialRecord>, F::Error> {
        self.cluster()?;
        Ok(self.facts.get::<CredentialRecord>(id)?.as_deref().cloned())
    }
}

/// Whether who asks is somebody, for what is not done with keys.
///
/// # Errors
/// [`crate::decide::Refusal::NotAdmitted`].
pub fn admit<F: Basis>(facts: &mut F, caller: &Caller) -> Result<(), F::Error> {
    let presented = caller.presented;
    let refuse = |why| Err(crate::decide::Refusal::NotAdmitted(why).into());
    if facts.time().ended(presented.ends_ms) {
        return refuse(NotAdmitted::Ended { ended_ms: presented.ends_ms });
    }
    if let Some(known) = facts.get::<CredentialRecord>(presented.id)?
        && let Some(revoked) = &known.revoked
    {
        let (at_ms, reason) = (revoked.at_ms, revoked.reason);
        return refuse(NotAdmitted::Revoked { id: presented.id, at_ms, reason });
    }
    match facts.get::<PrincipalRecord>(caller.principal.clone())? {
        Some(known) if !known.enabled => refuse(NotAdmitted::Disabled(caller.principal.clone())),
        _ => Ok(()),
    }
}
