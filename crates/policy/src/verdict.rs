//! What policies say of a request, and what follows: the formula of key-model §7.2.

use quorate_core::id::{Name, Namespace};

/// What the policies of one place say of a request; each list in the order of the ids.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// The forbids that hold.
    pub forbids: Vec<Forbid>,
    /// The permits that hold, except the next.
    pub permits: Vec<Name>,
    /// The permits that hold and leave it to the caller's namespace.
    pub delegates: Vec<Name>,
    /// The policies that failed.
    pub errors: Vec<Erred>,
}

/// A forbid that holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Forbid {
    /// Which.
    pub policy: Name,
    /// To how many approvals it gives way; none = to nothing.
    pub approvals: Option<u8>,
}

/// A policy that failed when it was asked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Erred {
    /// Which.
    pub policy: Name,
    /// How, in Cedar's words.
    pub why: String,
}

impl Verdict {
    pub(crate) fn sort(&mut self) {
        self.forbids.sort_unstable();
        self.permits.sort_unstable();
        self.delegates.sort_unstable();
        self.errors.sort_unstable();
    }

    pub(crate) fn permits_something(&self) -> bool {
        !self.permits.is_empty() || !self.delegates.is_empty()
    }

    /// What follows if these policies are all that there are.
    pub fn outcome(&self) -> Outcome {
        outcome([self], (!self.permits.is_empty()).then(|| self.permits.iter().cloned().map(By::Policy).collect()))
    }
}

/// What follows from all that policies say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// They may, and by what.
    Allowed(Vec<By>),
    /// They may once so many others have approved: nothing but these forbids stands in the way.
    ApprovalNeeded {
        /// How many others: the most that one of the forbids asks for.
        approvals: u8,
        /// The forbids.
        policies: Vec<Name>,
    },
    /// They may not, and why.
    Denied(Why),
}

/// What a right comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum By {
    /// A policy.
    Policy(Name),
    /// A grant.
    Grant(String),
}

/// Why somebody may not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// These policies failed, and what they would have said nobody knows.
    Erred(Vec<Erred>),
    /// These policies forbid it.
    Forbidden(Vec<Name>),
    /// Nothing permits it.
    NotPermitted,
}

/// All that decides on one request: what the policies of each place say, and whether there is a grant.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The namespace that the object is in, or is itself.
    pub object_namespace: Namespace,
    /// The caller's namespace.
    pub caller_namespace: Namespace,
    /// What the policies of the object's namespace say.
    pub of_object: &'a Verdict,
    /// What those of the caller's namespace say.
    pub of_caller: &'a Verdict,
    /// What those of namespace 0 say.
    pub of_first: &'a Verdict,
    /// What the object's own policy says; none = it has none, as a namespace never has.
    pub key_policy: Option<&'a Verdict>,
    /// The grant that permits it, if one does.
    pub grant: Option<&'a str>,
}

impl Sources<'_> {
    /// What follows (key-model §7.2; an emergency administrator's rights are no affair of policies):
    ///
    /// ```text
    /// no forbid in (policies of the object's and the caller's namespaces and of 0 ∪ key policy)
    /// ∧ ( (key policy permits the caller ∨ a grant permits)
    ///       ∧ (the object is of the caller's namespace ∨ the caller's namespace's policies permit it too)
    ///   ∨ key policy delegates to the caller's namespace ∧ that one's policies, or those of 0, permit )
    /// ```
    ///
    /// Without a key policy all is delegated to the object's own namespace and to 0. A policy that fails anywhere denies.
    pub fn outcome(&self) -> Outcome {
        let places = [self.of_object, self.of_caller, self.of_first].into_iter().chain(self.key_policy);
        outcome(places, self.right())
    }

    /// What the right comes from, forbids apart.
    fn right(&self) -> Option<Vec<By>> {
        let policies = |of: &[Name]| of.iter().cloned().map(By::Policy).collect::<Vec<_>>();
        let at_home = self.object_namespace == self.caller_namespace;
        let own = policies(&self.of_caller.permits);
        let direct = self.key_policy.map(|policy| policies(&policy.permits)).unwrap_or_default();
        let direct: Vec<By> = direct.into_iter().chain(self.grant.map(|id| By::Grant(id.to_owned()))).collect();
        let mut by = Vec::new();
        if !direct.is_empty() && at_home {
            by.extend(direct);
        } else if !direct.is_empty() && !own.is_empty() {
            by.extend(direct.into_iter().chain(own.iter().cloned()));
        }
        let delegated = match self.key_policy {
            Some(policy) => !policy.delegates.is_empty(),
            None => at_home || self.caller_namespace == Namespace::FIRST,
        };
        if delegated {
            by.extend(own.into_iter().chain(policies(&self.of_first.permits)));
        }
        let mut once: Vec<By> = Vec::new();
        for one in by {
            if !once.contains(&one) {
                once.push(one);
            }
        }
        (!once.is_empty()).then_some(once)
    }
}

fn outcome<'v>(places: impl IntoIterator<Item = &'v Verdict>, right: Option<Vec<By>>) -> Outcome {
    let (mut forbids, mut errors) = (Vec::new(), Vec::new());
    for verdict in places {
        forbids.extend(verdict.forbids.iter().cloned());
        errors.extend(verdict.errors.iter().cloned());
    }
    // Two places may be one: the caller's namespace, the object's, the first.
    forbids.sort_unstable();
    forbids.dedup();
    errors.sort_unstable();
    errors.dedup();
    let named = |forbids: &[Forbid]| forbids.iter().map(|forbid| forbid.policy.clone()).collect();
    let firm: Vec<Forbid> = forbids.iter().filter(|forbid| forbid.approvals.is_none()).cloned().collect();
    let approvals = forbids.iter().filter_map(|forbid| forbid.approvals).max();
    match (right, approvals) {
        _ if !errors.is_empty() => Outcome::Denied(Why::Erred(errors)),
        _ if !firm.is_empty() => Outcome::Denied(Why::Forbidden(named(&firm))),
        (None, _) => Outcome::Denied(Why::NotPermitted),
        (Some(_), Some(approvals)) => Outcome::ApprovalNeeded { approvals, policies: named(&forbids) },
        (Some(by), None) => Outcome::Allowed(by),
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
