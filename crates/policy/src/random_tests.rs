//! Slices against Cedar over all policies, and against the model.

use std::collections::BTreeSet;

use cedar_policy::{Authorizer, Context as CedarContext, Entities, PolicySet, Request as CedarRequest};
use proptest::prelude::*;
use quorate_core::id::Name;

use crate::model::{Question, Rule, What, World, context, question, rule, world};
use crate::policy::Policy;
use crate::schema::{CONTEXT, schema};
use crate::{Principal, Reads, Request, Resource, Slices, Verdict};

fn id(n: usize) -> Name {
    format!("r{n}").parse().unwrap()
}

/// Those that can be taken; what is never true is refused, and so is what may fail, which is taken here all the same.
fn policies(rules: &[Rule]) -> Vec<(Policy, &Rule)> {
    let taken = rules.iter().enumerate().filter_map(|(n, rule)| {
        let policy = match Policy::parse(id(n), &rule.text()) {
            Ok(policy) => policy,
            Err(faults) => {
                let all_as_expected = faults.0.iter().all(|fault| match fault.what.as_str() {
                    "this may fail when it is judged" => rule.may_fail(),
                    what => what == "the policy is never true",
                });
                assert!(all_as_expected, "{}\n{faults}", rule.text());
                if !rule.may_fail() {
                    return None;
                }
                Policy::dangerous_unchecked(id(n), &rule.text())
            }
        };
        Some((policy, rule))
    });
    taken.collect()
}

fn facts(world: &World, asked: &Question) -> (Principal, Resource) {
    let resource = match asked.what {
        What::Object(n) => Resource::object(&world.objects[usize::from(n)]).unwrap(),
        What::Namespace(n) => Resource::namespace(quorate_core::id::Namespace(n.into())),
    };
    (Principal::new(&world.principals[usize::from(asked.principal)]).unwrap(), resource)
}

/// What the slice says, asked with no more of the context than it looks at.
fn sliced(slices: &Slices, world: &World, asked: &Question) -> Verdict {
    let (who, resource) = facts(world, asked);
    let slice = slices.slice(&who, asked.action);
    slice.decide(&Request::new(&who, asked.action, &resource, &asked.context, slice.reads()).unwrap())
}

type Said = (BTreeSet<Name>, BTreeSet<Name>, BTreeSet<Name>);

/// Forbids, permits, errors.
fn said(verdict: &Verdict) -> Said {
    let forbids = verdict.forbids.iter().map(|forbid| forbid.policy.clone()).collect();
    let errors = verdict.errors.iter().map(|erred| erred.policy.clone()).collect();
    (forbids, verdict.permits.iter().cloned().collect(), errors)
}

fn by_model(policies: &[(Policy, &Rule)], world: &World, asked: &Question) -> Said {
    let mut said = Said::default();
    for (policy, rule) in policies {
        let id = policy.id().clone();
        let _ = match rule.holds(world, asked) {
            None => said.2.insert(id),
            Some(true) if rule.forbids => said.0.insert(id),
            Some(true) => said.1.insert(id),
            Some(false) => false,
        };
    }
    said
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_slice_says_what_cedar_says_of_all_policies_and_what_the_model_says(
        world in world(),
        rules in prop::collection::vec(rule(), 0..12),
        asked in prop::collection::vec(question(), 1..8),
    ) {
        let policies = policies(&rules);
        let slices = Slices::of(policies.iter().map(|(policy, _)| policy.clone()));
        let whole = PolicySet::from_policies(policies.iter().map(|(policy, _)| policy.cedar.clone())).unwrap();
        for asked in &asked {
            let verdict = sliced(&slices, &world, asked);
            let (forbids, permits, errors) = said(&verdict);
            prop_assert_eq!(&(forbids.clone(), permits.clone(), errors.clone()), &by_model(&policies, &world, asked), "{:#?}", asked);

            // With everything that there is to know, checked by Cedar against the schema.
            let (who, resource) = facts(&world, asked);
            let full = Request::new(&who, asked.action, &resource, &asked.context, &Reads::all()).unwrap();
            let entities = Entities::from_entities(full.entities.iter().filter(|e| !e.uid().to_string().starts_with("Q::Action")).cloned(), Some(schema())).unwrap();
            let request = full.request;
            let request = CedarRequest::new(
                request.principal().unwrap().clone(),
                request.action().unwrap().clone(),
                request.resource().unwrap().clone(),
                request.context().cloned().unwrap_or_else(CedarContext::empty),
                Some(schema()),
            ).unwrap();
            let response = Authorizer::new().is_authorized(&request, &whole, &entities);
            let of_cedar: BTreeSet<Name> = response.diagnostics().reason().map(|id| id.to_string().parse().unwrap()).collect();
            let failed: BTreeSet<Name> = response.diagnostics().errors().map(|e| match e {
                cedar_policy::AuthorizationError::PolicyEvaluationError(e) => e.policy_id().to_string().parse().unwrap(),
            }).collect();
            prop_assert_eq!(&failed, &errors);
            prop_assert_eq!(&of_cedar, if forbids.is_empty() { &permits } else { &forbids });
            let allows = response.decision() == cedar_policy::Decision::Allow;
            prop_assert_eq!(allows, forbids.is_empty() && !permits.is_empty());
            // Where Cedar skips what fails, we deny.
            let outcome = verdict.outcome();
            prop_assert_eq!(matches!(outcome, crate::Outcome::Allowed(_)), allows && errors.is_empty());
        }
    }

    #[test]
    fn slices_that_were_changed_are_those_that_would_be_made_anew(
        world in world(),
        rules in prop::collection::vec(rule(), 1..8),
        changes in prop::collection::vec((0..8usize, prop::option::of(rule())), 0..8),
        asked in prop::collection::vec(question(), 1..5),
    ) {
        let mut all: Vec<Option<Rule>> = rules.into_iter().map(Some).collect();
        all.resize(8, None);
        let of = |rule: &Rule, n: usize| Policy::dangerous_unchecked(id(n), &rule.text());
        let mut slices = Slices::of(all.iter().enumerate().filter_map(|(n, rule)| rule.as_ref().map(|rule| of(rule, n))));
        for (n, change) in changes {
            match &change {
                Some(rule) => slices.put(of(rule, n)),
                None => prop_assert_eq!(slices.remove(&id(n)), all[n].is_some()),
            }
            all[n] = change;
        }
        let left: Vec<_> = all.iter().enumerate().filter_map(|(n, rule)| rule.as_ref().map(|rule| (of(rule, n), rule))).collect();
        prop_assert_eq!(slices.iter().count(), left.len());
        let anew = Slices::of(left.iter().map(|(policy, _)| policy.clone()));
        for asked in &asked {
            let verdict = sliced(&slices, &world, asked);
            prop_assert_eq!(&verdict, &sliced(&anew, &world, asked));
            prop_assert_eq!(said(&verdict), by_model(&left, &world, asked));
        }
    }

    #[test]
    fn a_slice_that_looks_at_nothing_of_the_context_says_the_same_in_each(
        world in world(),
        rules in prop::collection::vec(rule(), 0..6),
        asked in question(),
        other in context(),
    ) {
        let slices = Slices::of(policies(&rules).into_iter().map(|(policy, _)| policy));
        let (who, resource) = facts(&world, &asked);
        let slice = slices.slice(&who, asked.action);
        if slice.reads().is_nothing() {
            let judge = |context| slice.decide(&Request::new(&who, asked.action, &resource, context, &Reads::all()).unwrap());
            prop_assert_eq!(judge(&asked.context), judge(&other));
        }
    }

    #[test]
    fn who_can_is_whoever_is_permitted_something(
        world in world(),
        rules in prop::collection::vec(rule(), 0..8),
        asked in question(),
    ) {
        let policies = policies(&rules);
        let slices = Slices::of(policies.iter().map(|(policy, _)| policy.clone()));
        let all: Vec<_> = world.principals.iter().map(|facts| Principal::new(facts).unwrap()).collect();
        let (_, resource) = facts(&world, &asked);
        let found = slices.who_can(asked.action, &resource, &asked.context, &all).unwrap();
        let expected: Vec<_> = (0..all.len() as u8).filter_map(|principal| {
            let said = by_model(&policies, &world, &Question { principal, ..asked.clone() });
            (!said.1.is_empty()).then_some(said)
        }).collect();
        prop_assert_eq!(found.iter().map(|(_, verdict)| said(verdict)).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn the_request_for_everything_has_every_attribute() {
    assert_eq!(Reads::all().iter().collect::<BTreeSet<_>>(), BTreeSet::from(CONTEXT));
}
