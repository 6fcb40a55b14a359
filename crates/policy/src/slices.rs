//! The policies of one place, a namespace or a key, sorted so that a request is judged by those alone that can apply to it: Cedar
//! itself looks at every policy it has.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cedar_policy::{AuthorizationError, Authorizer, EntityUid, PolicyId, PolicySet};
use quorate_core::action::Action;
use quorate_core::id::Name;

use crate::policy::{Effect, Policy, Reads};
use crate::request::{Context, Principal, Request, Resource, Unaskable};
use crate::verdict::{Erred, Forbid, Verdict};

/// The policies of one place.
#[derive(Clone, Debug, Default)]
pub struct Slices {
    policies: BTreeMap<Name, Arc<Policy>>,
    /// By whom they are about alone; none = everybody.
    by_scope: HashMap<Option<EntityUid>, Vec<Arc<Policy>>>,
}

impl Slices {
    /// Of these policies; of two with one id the later.
    pub fn of(policies: impl IntoIterator<Item = Policy>) -> Self {
        let mut slices = Self::default();
        for policy in policies {
            slices.put(policy);
        }
        slices
    }

    /// Takes a policy, in place of the one of that id. Slices that were cut before are as they were.
    pub fn put(&mut self, policy: Policy) {
        self.remove(policy.id());
        let policy = Arc::new(policy);
        self.by_scope.entry(policy.about.clone()).or_default().push(policy.clone());
        self.policies.insert(policy.id().clone(), policy);
    }

    /// Takes a policy away; whether there was one.
    pub fn remove(&mut self, id: &Name) -> bool {
        let Some(gone) = self.policies.remove(id) else { return false };
        if let Some(of_scope) = self.by_scope.get_mut(&gone.about) {
            of_scope.retain(|policy| policy.id() != id);
            if of_scope.is_empty() {
                self.by_scope.remove(&gone.about);
            }
        }
        true
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.policies.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }
    /// All policies, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values().map(Arc::as_ref)
    }

    /// The policies that can apply to that principal and that action. To be kept by whoever asks often: cutting it costs about a
    /// microsecond for each of its policies.
    pub fn slice(&self, who: &Principal, action: Action) -> Slice {
        let scopes = who.scopes().map(|uid| Some(uid.clone())).chain([None]);
        let applying = scopes.filter_map(|scope| self.by_scope.get(&scope)).flatten();
        Slice::of(applying.filter(|policy| policy.actions.has(action)).cloned())
    }

    /// Who of these may do that: each is asked for, one after the other.
    ///
    /// # Errors
    /// [`Unaskable`].
    pub fn who_can<'p>(
        &self,
        action: Action,
        resource: &Resource,
        context: &Context,
        principals: impl IntoIterator<Item = &'p Principal>,
    ) -> Result<Vec<(&'p Principal, Verdict)>, Unaskable> {
        let ask = |who: &'p Principal| {
            let slice = self.slice(who, action);
            let request = Request::new(who, action, resource, context, slice.reads())?;
            Ok((who, slice.decide(&request)))
        };
        principals
            .into_iter()
            .map(ask)
            .filter(|asked| !matches!(asked, Ok((_, verdict)) if !verdict.permits_something()))
            .collect()
    }
}

/// The policies that can apply to one principal and one action, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    policies: HashMap<PolicyId, Arc<Policy>>,
    // Apart, since Cedar does not say which permits hold where a forbid does.
    permits: PolicySet,
    forbids: PolicySet,
    reads: Reads,
}

impl Slice {
    fn of(policies: impl Iterator<Item = Arc<Policy>>) -> Self {
        let mut slice = Self::default();
        for policy in policies {
            let set = match policy.effect() {
                Effect::Permit => &mut slice.permits,
                Effect::Forbid => &mut slice.forbids,
            };
            // No two have one id, which is all that could be wrong.
            if set.add(policy.cedar.clone()).is_ok() {
                slice.reads.add(policy.reads());
                slice.policies.insert(policy.cedar.id().clone(), policy);
            }
        }
        slice
    }

    /// Whether it has no policy.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }
    /// How many policies it has.
    pub fn len(&self) -> usize {
        self.policies.len()
    }
    /// What its policies look at in the context; of nothing, its verdict on an object holds in every context.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Judges a request of the principal and the action that it was cut for. Every policy is asked: an error in one that would have
    /// changed nothing denies all the same, so that the order of policies never matters.
    pub fn decide(&self, request: &Request) -> Verdict {
        let mut verdict = Verdict::default();
        for set in [&self.permits, &self.forbids] {
            if set.is_empty() {
                continue;
            }
            let response = Authorizer::new().is_authorized(&request.request, set, &request.entities);
            for policy in response.diagnostics().reason().filter_map(|id| self.policies.get(id)) {
                let id = policy.id().clone();
                match policy.effect() {
                    Effect::Forbid => verdict.forbids.push(Forbid { policy: id, approvals: policy.approvals() }),
                    Effect::Permit if policy.delegates() => verdict.delegates.push(id),
                    Effect::Permit => verdict.permits.push(id),
                }
            }
            for AuthorizationError::PolicyEvaluationError(error) in response.diagnostics().errors() {
                if let Some(policy) = self.policies.get(error.policy_id()) {
                    verdict.errors.push(Erred { policy: policy.id().clone(), why: error.inner().to_string() });
                }
            }
        }
        verdict.sort();
        verdict
    }
}
