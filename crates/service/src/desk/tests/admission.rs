//! Who is shut out: by the view of each request, whatever the desks keep in memory.

use quorate_core::access::Caller;
use quorate_core::credential::{Presented, RevocationReason};
use quorate_core::decide::{EnablePrincipal, RevokeCredential};

use super::time::later;
use super::*;
use crate::call::Call;
use crate::operation::{Describe, ListCredentials};
use crate::seal::support::certificate;

fn enable(principal: Principal, enabled: bool) -> EnablePrincipal {
    EnablePrincipal { principal, enabled }
}

/// Uses are under way at two desks, which both keep the facts of them; whoever starts after the answer is judged by it.
#[tokio::test(flavor = "multi_thread")]
async fn from_the_answer_on_no_use_of_who_is_shut_out_succeeds() {
    let rig = Rig::new().await;
    let key = id(rig.key().await);
    let desks = [rig.kms.clone(), rig.other()];
    let uses = |desk: Arc<Kms>| {
        let key = key.clone();
        async move { desk.encrypt(&user(), &key, b"x", &no_aad(), soon()).await }
    };
    let mut raced = 0;
    for _ in 0..60 {
        let under_way: Vec<_> = (0..16).map(|n| tokio::spawn(uses(desks[n % 2].clone()))).collect();
        rig.commit(enable(user(), false)).await.unwrap();
        for desk in &desks {
            refused(uses(desk.clone()).await, Reason::Unauthenticated);
        }
        for under_way in under_way {
            match under_way.await.unwrap() {
                Ok(_) => {}
                Err(e) => {
                    assert_eq!(e.reason(), Reason::Unauthenticated, "{e}");
                    raced += 1;
                }
            }
        }
        rig.commit(enable(user(), true)).await.unwrap();
        for desk in &desks {
            uses(desk.clone()).await.unwrap();
        }
    }
    println!("{raced} of the uses under way were refused");
    let reason = RevocationReason::Unspecified;
    rig.commit(RevokeCredential { id: certificate(&user()), whose: None, reason }).await.unwrap();
    for desk in &desks {
        refused(uses(desk.clone()).await, Reason::Unauthenticated);
    }
    rig.replica.shutdown().await;
}

/// Uses, changes, lists, and what was filed: each path asks.
#[tokio::test(flavor = "multi_thread")]
async fn every_path_looks_and_what_was_filed_is_not_told_again() {
    let rig = Rig::new().await;
    let bob = Principal::certificate(Role::Admin, "bob".parse().unwrap());
    let create = wanted(None, Some(rig.token(1)));
    let made = rig.kms.commit(&call(&bob, soon()), &create).await.unwrap();
    rig.commit(enable(bob.clone(), false)).await.unwrap();
    let before = rig.records();
    let bobs = || call(&bob, soon());
    refused(rig.kms.commit(&bobs(), &create).await, Reason::Unauthenticated);
    refused(rig.kms.commit(&bobs(), &wanted(None, None)).await, Reason::Unauthenticated);
    refused(rig.kms.perform(&bobs(), Describe { key: id(made.id) }).await, Reason::Unauthenticated);
    let list = ListCredentials { len: PageLen::parse(0).unwrap(), token: Bytes::new() };
    refused(rig.kms.page(&bobs(), list).await, Reason::Unauthenticated);
    refused(rig.kms.last_use(&bobs(), &id(made.id)).await, Reason::Unauthenticated);
    assert_eq!(rig.records(), before, "nothing was changed");
}

/// A certificate's last day comes while its connection is open.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_is_good_no_longer() {
    let rig = Rig::new().await;
    let ends_ms = rig.wall.now_ms() + 60_000;
    let key = rig.key().await;
    let brief = || {
        let call = call(&user(), soon());
        let presented = Presented { ends_ms, ..call.caller.presented };
        Call { caller: Caller { presented, ..call.caller }, ..call }
    };
    rig.kms.perform(&brief(), Describe { key: id(key) }).await.unwrap();
    later(&rig, 60_000).await;
    let said = refused(rig.kms.perform(&brief(), Describe { key: id(key) }).await, Reason::Unauthenticated);
    assert!(said.contains("ended on"), "{said}");
}
