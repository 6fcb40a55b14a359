use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::access::{Caller, NotAdmitted};
use crate::credential::Presented;
use crate::decide::model::{Store, TestIds, admin, as_role, plain_create};
use crate::decide::{Create, Disable};
use crate::id::KeyId;
use crate::request::{KeyHandle, Token};
use crate::time::Time;

const NOW: u64 = 1_800_000_000_000;

#[derive(Default)]
struct Bench {
    store: Store,
    ids: TestIds,
}

impl Bench {
    fn at<D: Decide>(&mut self, now_ms: u64, who: &Caller, request: &D) -> Result<D::Answer, Refusal> {
        let time = Time { cluster_ms: now_ms, local_ms: now_ms };
        self.store.commit(who, &self.ids, time, request)
    }
    fn commit<D: Decide>(&mut self, who: &Caller, request: &D) -> Result<D::Answer, Refusal> {
        self.at(NOW, who, request)
    }
}

fn certificate(n: u8) -> CredentialId {
    CredentialId::Certificate([n; 32])
}
fn named(name: &str, n: u8) -> Caller {
    let principal = Principal::certificate(Role::Admin, name.parse().unwrap());
    Caller { principal, presented: Presented { id: certificate(n), ends_ms: 0 }, ..admin() }
}
fn revoke(n: u8) -> RevokeCredential {
    RevokeCredential { id: certificate(n), whose: None, reason: RevocationReason::KeyCompromise }
}
fn enable(who: &Caller, enabled: bool) -> EnablePrincipal {
    EnablePrincipal { principal: who.principal.clone(), enabled }
}
fn nobody<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> NotAdmitted {
    match answer {
        Err(Refusal::NotAdmitted(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_revoked_is_dead_for_ever_and_its_holder_is_not() {
    let mut bench = Bench::default();
    let (alice, bob, bobs_other) = (named("alice", 1), named("bob", 2), named("bob", 3));
    bench.commit(&bob, &plain_create(None)).unwrap();
    let whose = Some(bob.principal.clone());
    let first = bench.commit(&alice, &RevokeCredential { whose: whose.clone(), ..revoke(2) }).unwrap();
    let by = alice.principal.clone();
    let revoked = Some(Revoked { at_ms: NOW, reason: RevocationReason::KeyCompromise, by });
    assert_eq!((first.whose.clone(), first.revoked.clone()), (whose, revoked));
    let why = nobody(bench.commit(&bob, &plain_create(None)));
    assert!(
        why.to_string().contains("key-compromise") && why.to_string().contains(&certificate(2).to_string()),
        "{why}"
    );
    bench.commit(&bobs_other, &plain_create(None)).unwrap();
    // Again, for another reason, an hour later: it stays as it was.
    let again = RevokeCredential { reason: RevocationReason::Superseded, ..revoke(2) };
    assert_eq!(bench.at(NOW + 3_600_000, &alice, &again), Ok(first));
    assert!(matches!(nobody(bench.commit(&bob, &enable(&alice, false))), NotAdmitted::Revoked { .. }));
}

#[test]
fn who_is_disabled_is_nobody_with_any_credential_until_enabled() {
    let mut bench = Bench::default();
    let (alice, bob, bobs_other) = (named("alice", 1), named("bob", 2), named("bob", 3));
    assert_eq!(bench.commit(&alice, &enable(&bob, true)).map(|bob| bob.enabled), Ok(true));
    assert!(bench.store.0.is_empty(), "they are, without a record");
    let disabled = bench.commit(&alice, &enable(&bob, false)).unwrap();
    assert_eq!(bench.commit(&alice, &enable(&bob, false)), Ok(disabled));
    for who in [&bob, &bobs_other] {
        let why = nobody(bench.commit(who, &plain_create(None)));
        assert_eq!(why, NotAdmitted::Disabled(bob.principal.clone()));
    }
    // A user called so is somebody else.
    let user = Caller { principal: "user/bob".parse().unwrap(), ..bob.clone() };
    let key = KeyHandle::Id(bench.commit(&alice, &plain_create(None)).unwrap().id);
    assert!(matches!(bench.commit(&user, &Disable { key }), Err(Refusal::Denied(_))));
    bench.commit(&alice, &enable(&bob, true)).unwrap();
    bench.commit(&bob, &plain_create(None)).unwrap();
}

#[test]
fn what_has_ended_is_good_no_longer() {
    let mut bench = Bench::default();
    let mut brief = named("alice", 1);
    brief.presented.ends_ms = NOW;
    bench.at(NOW - 1, &brief, &plain_create(None)).unwrap();
    assert_eq!(nobody(bench.commit(&brief, &plain_create(None))), NotAdmitted::Ended { ended_ms: NOW });
}

#[test]
fn nobody_shuts_himself_out_and_nodes_are_no_callers() {
    let mut bench = Bench::default();
    let (alice, again) = (named("alice", 1), named("alice", 2));
    assert_eq!(bench.commit(&alice, &revoke(1)), Err(Refusal::Yourself));
    assert_eq!(bench.commit(&again, &enable(&alice, false)), Err(Refusal::Yourself));
    let node: Principal = "node/n1".parse().unwrap();
    let of_node = RevokeCredential { whose: Some(node.clone()), ..revoke(3) };
    let refused = bench.commit(&alice, &of_node).unwrap_err();
    assert_eq!(refused.part(), Some(Part::Principal));
    let refused = bench.commit(&alice, &EnablePrincipal { principal: node, enabled: false }).unwrap_err();
    assert_eq!(refused.part(), Some(Part::Principal));
    for role in [Role::User, Role::Custodian, Role::Auditor, Role::Node] {
        assert!(matches!(bench.commit(&as_role(role), &revoke(1)), Err(Refusal::Denied(_))), "{role}");
        assert!(matches!(bench.commit(&as_role(role), &enable(&alice, false)), Err(Refusal::Denied(_))), "{role}");
    }
    assert!(bench.store.0.is_empty(), "nothing was changed");
    // Revoking what one has besides is fine.
    bench.commit(&alice, &revoke(2)).unwrap();
}

proptest! {
    /// Three administrators with two credentials each shut each other out: who is shut out does nothing more, and one is left.
    #[test]
    fn of_those_who_shut_each_other_out_one_is_left(steps in proptest::collection::vec((0..6u8, 0..6u8, 0..3u8), 1..60)) {
        let mut bench = Bench::default();
        let who = |n: u8| named(["alice", "bob", "carol"][n as usize / 2], n);
        let (mut revoked, mut disabled) = (BTreeSet::new(), BTreeSet::new());
        for (by, whom, how) in steps {
            let (actor, other) = (who(by), who(whom));
            let answer = match how {
                0 => bench.commit(&actor, &revoke(whom)).map(drop),
                how => bench.commit(&actor, &enable(&other, how == 1)).map(drop),
            };
            let is_nobody = revoked.contains(&by) || disabled.contains(&(by / 2));
            let himself = if how == 0 { by == whom } else { by / 2 == whom / 2 };
            match answer {
                Err(Refusal::NotAdmitted(_)) => prop_assert!(is_nobody),
                Err(refused) => prop_assert!(!is_nobody && himself && refused == Refusal::Yourself),
                Ok(()) => {
                    prop_assert!(!is_nobody && !himself);
                    match how {
                        0 => drop(revoked.insert(whom)),
                        1 => drop(disabled.remove(&(whom / 2))),
                        _ => drop(disabled.insert(whom / 2)),
                    }
                }
            }
            let left = (0..6).filter(|n| !revoked.contains(n) && !disabled.contains(&(n / 2)));
            prop_assert!(left.count() > 0);
        }
    }
}

#[test]
fn a_retry_of_who_was_shut_out_meanwhile_is_not_answered() {
    let mut bench = Bench::default();
    let (alice, bob) = (named("alice", 1), named("bob", 2));
    let token = Some(Token(KeyId::new(NOW, 7, [0; 4]).0));
    let create = Create { token, ..plain_create(None) };
    bench.commit(&bob, &create).unwrap();
    bench.commit(&alice, &revoke(2)).unwrap();
    nobody(bench.commit(&bob, &create));
}
