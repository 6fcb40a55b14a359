//! Three real nodes: invited, approved, unsealed by hand-over, promoted; cold starts; seals; and everybody who must not
//! get in.

#[path = "../src/testing/node.rs"]
mod support;

use std::time::Duration;

use quorate_core::principal::Role;
use quorate_service::Error;
use quorate_service::node::Node;
use quorate_service::operation::GenerateRandom;
use quorate_service::seal::{AbortSignature, Health, JoinToken};
use support::*;

type TestResult = Result<(), Error>;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_nodes_join_and_one_ceremony_opens_them_all() -> TestResult {
    let rig = Rig::new();
    let (n1, shares) = rig.unsealed().await;
    let (n2, unsealed) = rig.take_in(&n1, "n2").await;
    assert!(unsealed, "approval hands the key over");
    let (n3, _) = rig.take_in(&n1, "n3").await;
    within(30, n3.wait_for(Health::Ok)).await;
    n2.kms()?;

    let voters = n1.promote(&admin(), &["n2".into(), "n3".into()], false, soon()).await?;
    assert_eq!(voters.len(), 3);
    eventually("everybody sees three unsealed voters", || {
        [&n1, &n2, &n3].iter().all(|n| {
            let status = n.status(&admin()).expect("status");
            status.leader.is_some() && status.nodes.iter().filter(|n| n.voter && !n.sealed && n.reachable).count() == 3
        })
    })
    .await;
    // The ids are the same wherever one asks, and members know one another by name.
    let ids = |n: &quorate_service::node::Node| -> Vec<(u64, String)> {
        n.status(&admin()).expect("status").nodes.into_iter().map(|n| (n.id, n.name)).collect()
    };
    assert_eq!(ids(&n1), ids(&n3));
    // Each tells the index and digest of its own state, and at one index they are equal.
    eventually("all tell the same digest", || {
        let told = [&n1, &n2, &n3].map(|n| n.status(&admin()).expect("status").digest);
        told[0].is_some_and(|(index, _)| index > 0) && told.iter().all(|t| *t == told[0])
    })
    .await;
    let members = n2.list_members(&custodian(), soon()).await?;
    assert!(members.pending.is_empty() && members.members.len() == 3);

    // Cold start: everybody comes up sealed; a ceremony at n2, where the founder is not, opens all.
    for node in [&n1, &n2, &n3] {
        node.shutdown().await;
    }
    drop((n1, n2, n3));
    let (n1, n2, n3) = (rig.node("n1").await, rig.node("n2").await, rig.node("n3").await);
    assert!([&n1, &n2, &n3].iter().all(|n| n.health() == Health::Sealed));
    eventually("a leader among sealed nodes", || n3.status(&admin()).expect("status").leader.is_some()).await;
    assert!(!submit(&n2, &shares[1]).await?.unsealed);
    eventually("the progress is seen on every node", || {
        [&n1, &n3].iter().all(|n| {
            let ceremony = n.status(&admin()).expect("status").ceremony;
            ceremony.is_some_and(|c| c.node == "n2" && c.entered == [2])
        })
    })
    .await;
    assert!(submit(&n2, &shares[2]).await?.unsealed);
    for node in [&n1, &n3] {
        within(30, node.wait_for(Health::Ok)).await;
        node.kms()?.perform(&call(&admin(), soon()), GenerateRandom { len: 16 }).await?;
    }

    // A node that reconnects within ten minutes of the ceremony is opened again.
    n3.shutdown().await;
    drop(n3);
    let n3 = rig.node("n3").await;
    within(30, n3.wait_for(Health::Ok)).await;

    // An inviter that dies does not hold up whom it invited: any unsealed member knows of the applicant.
    let token = n3.invite(&admin(), "n4", 0, soon()).await?.token;
    let n4 = rig.joining("n4", &token).await.expect("starts");
    let fingerprint = pending_fingerprint(&n1, "n4").await;
    n3.shutdown().await;
    n1.approve(&admin(), "n4", &fingerprint, soon()).await?;
    within(30, n4.wait_for(Health::Ok)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_seal_holds_against_the_ceremony_before_it() -> TestResult {
    let rig = Rig::new();
    let (n1, shares) = rig.unsealed().await;
    let (n2, _) = rig.take_in(&n1, "n2").await;
    within(30, n2.wait_for(Health::Ok)).await;

    // One node, sealed by an operator, stays sealed though its peer could still hand over.
    n2.seal(&admin(), false, soon()).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((n1.health(), n2.health()), (Health::Ok, Health::Sealed));

    // Not even a restart makes it forget that, until custodians open it.
    n2.shutdown().await;
    drop(n2);
    let n2 = rig.node("n2").await;
    eventually("n1 hears of it again", || n1.status(&admin()).expect("status").nodes.iter().all(|n| n.reachable)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((n1.health(), n2.health()), (Health::Ok, Health::Sealed));
    let status = n1.status(&admin())?;
    assert!(status.nodes.iter().any(|n| n.name == "n2" && n.problem.contains("by an operator")), "and it shows");
    unseal(&n2, &shares[..2]).await;
    eventually("n1 hears that custodians have opened it", || {
        n1.status(&admin()).expect("status").nodes.iter().all(|n| !n.sealed)
    })
    .await;
    n2.shutdown().await;
    drop(n2);
    let n2 = rig.node("n2").await;
    within(30, n2.wait_for(Health::Ok)).await;

    // The whole cluster: immediate on every node, and no hand-over undoes it.
    let (kms1, kms2) = (n1.kms()?, n2.kms()?);
    let mut sealed = n2.seal(&admin(), true, soon()).await?;
    for kms in [&kms1, &kms2] {
        let used = kms.perform(&call(&admin(), soon()), GenerateRandom { len: 16 }).await;
        assert!(matches!(used, Err(Error::Sealed)), "refused from the acknowledgement on");
    }
    sealed.sort();
    assert_eq!(sealed, ["n1", "n2"]);
    within(10, n1.wait_for(Health::Sealed)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((n1.health(), n2.health()), (Health::Sealed, Health::Sealed));

    unseal(&n1, &shares[1..]).await;
    within(30, n2.wait_for(Health::Ok)).await;
    n2.kms()?.perform(&call(&admin(), soon()), GenerateRandom { len: 16 }).await?;
    Ok(())
}

/// Also when it is passed on by a node that the ceremony's node opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_ceremony_anywhere_opens_a_node_that_was_sealed_before_it() -> TestResult {
    let rig = Rig::new();
    let (n1, shares) = rig.unsealed().await;
    let (n2, _) = rig.take_in(&n1, "n2").await;
    let (n3, _) = rig.take_in(&n1, "n3").await;
    for node in [&n2, &n3] {
        within(30, node.wait_for(Health::Ok)).await;
    }
    for node in [&n2, &n3, &n1] {
        node.seal(&admin(), false, soon()).await?;
    }
    eventually("n2 has heard of both other seals", || {
        let nodes = n2.status(&admin()).expect("status").nodes;
        nodes.iter().filter(|n| n.name != "n2" && n.problem.contains("by an operator")).count() == 2
    })
    .await;
    n3.shutdown().await;
    drop(n3);
    unseal(&n2, &shares[..2]).await;
    within(30, n1.wait_for(Health::Ok)).await;
    n2.shutdown().await;
    let n3 = rig.node("n3").await;
    within(30, n3.wait_for(Health::Ok)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn shares_entered_before_a_cluster_seal_do_not_count_after_it() -> TestResult {
    let rig = Rig::new();
    let (n1, shares) = rig.unsealed().await;
    let (n2, _) = rig.take_in(&n1, "n2").await;
    within(30, n2.wait_for(Health::Ok)).await;
    n2.seal(&admin(), false, soon()).await?;
    assert!(!submit(&n2, &shares[0]).await?.unsealed);
    n1.seal(&admin(), true, soon()).await?;
    assert!(!submit(&n2, &shares[1]).await?.unsealed, "the share from before the seal is gone");
    assert_eq!(n2.status(&admin())?.ceremony.expect("open").entered, [2]);
    assert!(submit(&n2, &shares[0]).await?.unsealed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_seal_forgets_entered_shares_at_a_sealed_node_too() -> TestResult {
    let rig = Rig::new();
    let (n1, shares) = rig.unsealed().await;
    let (n2, _) = rig.take_in(&n1, "n2").await;
    within(30, n2.wait_for(Health::Ok)).await;
    n2.seal(&admin(), false, soon()).await?;
    let entered = |n: &Node| n.status(&admin()).expect("status").ceremony.map(|c| c.entered);
    // This node's, while it is sealed.
    submit(&n2, &shares[0]).await?;
    n2.seal(&admin(), false, soon()).await?;
    assert_eq!(entered(&n2), None);
    assert!(!submit(&n2, &shares[1]).await?.unsealed, "the first share counts no more");
    // And that of the whole cluster, which another node writes.
    n1.seal(&admin(), true, soon()).await?;
    eventually("the share is forgotten", || entered(&n2).is_none()).await;
    assert!(!submit(&n2, &shares[2]).await?.unsealed);
    assert!(submit(&n2, &shares[0]).await?.unsealed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_ceremony_ends_by_its_starter_or_by_t_custodians_and_by_nobody_else() -> TestResult {
    let rig = Rig::new();
    let (n1, shares) = rig.founded(4, 2).await;
    let ben = principal(Role::Custodian, "ben");
    let open = || n1.status(&admin()).expect("status").ceremony;
    let id = || open().expect("open").id;
    let abort = |who: &_, id, signature| n1.abort_ceremony(who, id, signature);
    assert!(matches!(abort(&custodian(), [0; 16], None), Err(Error::NotFound(_))));
    submit(&n1, &shares[0]).await?;
    let first = id();
    for other in [&admin(), &ben] {
        let refused = abort(other, first, None);
        assert!(matches!(&refused, Err(Error::WrongState(why)) if why.contains("custodian/ada")), "{refused:?}");
    }
    let user = principal(Role::User, "web");
    assert!(matches!(abort(&user, first, None), Err(Error::Denied(_))));
    assert!(matches!(abort(&custodian(), [7; 16], None), Err(Error::NotFound(_))));
    assert_eq!(open().expect("nothing was changed").entered, [1]);
    assert!(abort(&custodian(), first, None)?.aborted);
    assert!(open().is_none());
    assert!(matches!(abort(&custodian(), first, None), Err(Error::NotFound(_))), "it has ended");

    // Begun by ada again; ben and another custodian are against it.
    submit(&n1, &shares[0]).await?;
    let second = id();
    let signed = |share: &str, id| {
        let share = quorate_crypto::Share::parse(share).expect("good");
        let signature = share.sign_abort(CLUSTER, "n1", quorate_crypto::CeremonyId(id)).to_vec();
        Some(AbortSignature { x: share.x(), signature })
    };
    assert!(matches!(abort(&ben, second, signed(&shares[1], first)), Err(Error::ShareRefused(_))), "of another one");
    let forged = signed(&shares[1], second).map(|s| AbortSignature { x: 3, ..s });
    assert!(matches!(abort(&ben, second, forged), Err(Error::ShareRefused(_))));
    for _ in 0..2 {
        let once = abort(&ben, second, signed(&shares[1], second))?;
        assert_eq!((once.aborted, once.signatures, once.threshold), (false, 1, 2), "one custodian counts once");
    }
    assert!(abort(&ben, second, signed(&shares[3], second))?.aborted);
    assert!(open().is_none());
    unseal(&n1, &shares[..2]).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_share_entered_again_and_again_is_a_failure_like_any_other() -> TestResult {
    let rig = Rig::new();
    let (n1, shares) = rig.founded(3, 2).await;
    submit(&n1, &shares[0]).await?;
    for _ in 0..5 {
        assert!(
            matches!(submit(&n1, &shares[0]).await, Err(Error::ShareRefused(why)) if why.contains("already entered"))
        );
    }
    assert!(matches!(submit(&n1, &shares[0]).await, Err(Error::Busy(_))));
    assert!(submit(&n1, &shares[1]).await?.unsealed, "a valid share is taken at any time");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn invitations_are_for_one_node_once_and_for_a_time() -> TestResult {
    let rig = Rig::new();
    let (n1, _) = rig.unsealed().await;
    let root = admin();
    let invite = |name: &'static str| n1.invite(&root, name, 0, soon());
    assert!(matches!(n1.invite(&custodian(), "n2", 0, soon()).await, Err(Error::Denied(_))));
    assert!(matches!(invite("n1").await, Err(Error::AlreadyExists(_))));
    assert!(matches!(invite("a b").await, Err(Error::InvalidArgument(_))));
    assert!(matches!(n1.invite(&admin(), "n2", 1_000_000, soon()).await, Err(Error::InvalidArgument(_))));
    assert!(matches!(n1.approve(&admin(), "n2", "AB12", soon()).await, Err(Error::NotFound(_))));

    // A newer invitation voids the older; the token names its node and cluster.
    let old = invite("n2").await?.token;
    let token = invite("n2").await?.token;
    assert!(matches!(n1.approve(&admin(), "n2", "AB12", soon()).await, Err(Error::WrongState(_))), "not used yet");
    let error = rig.joining("n3", &token).await.err().expect("refused");
    assert!(error.to_string().contains("for a node called n2"), "{error}");
    let foreign =
        JoinToken { cluster: quorate_core::id::ClusterId([9; 16]), ..JoinToken::parse(&token).expect("good") };
    let error = rig.joining("n2", &foreign.to_text()).await.err().expect("refused");
    assert!(error.to_string().contains("is for cluster"), "{error}");
    let n2 = rig.joining("n2", &old).await.expect("starts");
    eventually("the old token is refused", || said(&n2).contains("no such invitation")).await;
    n2.shutdown().await;
    drop(n2);

    // The wrong fingerprint approves nobody.
    let n2 = rig.joining("n2", &token).await.expect("starts");
    let fingerprint = pending_fingerprint(&n1, "n2").await;
    assert_eq!(n2.health(), Health::Uninitialized);
    eventually("it says what it waits for", || said(&n2).contains(&fingerprint)).await;
    let error = n1.approve(&admin(), "n2", "0000", soon()).await.expect_err("refused");
    assert!(matches!(&error, Error::InvalidArgument(why) if why.contains(&fingerprint)), "{error}");
    assert!(matches!(
        n1.approve(&principal(Role::Auditor, "a"), "n2", &fingerprint, soon()).await,
        Err(Error::Denied(_))
    ));
    assert!(matches!(init(&n2, 3, 2).await, Err(Error::WrongState(_))), "a joining node founds nothing");

    // Another machine with the same token and name, but other keys.
    let twin = rig
        .start(
            "n2",
            Options { token: Some("thief"), folder: Some("twin"), join: Some(join(&token)), ..Options::default() },
        )
        .await
        .expect("starts");
    eventually("the second use is refused", || said(&twin).contains("used already")).await;
    twin.shutdown().await;

    let approved = n1.approve(&admin(), "n2", &fingerprint.to_lowercase().replace('-', ":"), soon()).await?;
    within(30, n2.wait_for(Health::Ok)).await;
    assert_eq!(n1.approve(&admin(), "n2", &fingerprint, soon()).await?.id, approved.id, "again, the same answer");
    assert!(matches!(n1.promote(&admin(), &["n9".into()], false, soon()).await, Err(Error::NotFound(_))));
    assert!(matches!(n1.promote(&admin(), &[], false, soon()).await, Err(Error::InvalidArgument(_))));
    let lonely = n1.promote(&admin(), &["n2".into()], false, soon()).await;
    assert!(matches!(lonely, Err(Error::WrongState(_))), "no lasting cluster of two voters");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_invitation_that_was_taken_back_lets_nobody_in_who_came_with_it() -> TestResult {
    let rig = Rig::new();
    let (n1, shares) = rig.unsealed().await;
    let uninvite = async |name: &'static str| n1.uninvite(&admin(), name, soon()).await;
    for nobody in ["n1", "n2"] {
        assert!(matches!(uninvite(nobody).await, Err(Error::NotFound(_))), "a member, and a stranger");
    }
    let unused = n1.invite(&admin(), "n2", 0, soon()).await?.token;
    let used = n1.invite(&admin(), "n3", 0, soon()).await?.token;
    assert!(matches!(n1.uninvite(&custodian(), "n2", soon()).await, Err(Error::Denied(_))));
    assert!(!uninvite("n2").await?, "nobody had come with it");
    let n2 = rig.joining("n2", &unused).await.expect("starts");
    eventually("it is refused", || said(&n2).contains("no such invitation")).await;

    let n3 = rig.joining("n3", &used).await.expect("starts");
    let fingerprint = pending_fingerprint(&n1, "n3").await;
    assert!(uninvite("n3").await?);
    assert!(matches!(n1.approve(&admin(), "n3", &fingerprint, soon()).await, Err(Error::NotFound(_))));
    assert!(n1.list_members(&admin(), soon()).await?.pending.is_empty());
    eventually("it is told", || said(&n3).contains("no such invitation")).await;
    assert!(matches!(uninvite("n3").await, Err(Error::NotFound(_))), "it was taken back already");

    // Once it is a member, there is nothing to take back.
    n3.shutdown().await;
    let (_n4, _) = rig.take_in(&n1, "n4").await;
    assert!(matches!(uninvite("n4").await, Err(Error::NotFound(_))));
    n1.seal(&admin(), false, soon()).await?;
    assert!(matches!(uninvite("n3").await, Err(Error::Sealed)));
    unseal(&n1, &shares[..2]).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sealed_member_takes_nobody_in_and_a_joiner_waits_for_it() -> TestResult {
    let rig = Rig::new();
    let (n1, shares) = rig.unsealed().await;
    let token = n1.invite(&admin(), "n2", 0, soon()).await?.token;
    n1.seal(&admin(), false, soon()).await?;
    let n2 = rig.joining("n2", &token).await.expect("starts");
    eventually("it says why it waits", || said(&n2).contains("sealed")).await;
    for refused in [
        n1.invite(&admin(), "n3", 0, soon()).await.err(),
        n1.approve(&admin(), "n2", "AB", soon()).await.err(),
        n1.promote(&admin(), &["n2".into()], false, soon()).await.err(),
    ] {
        assert_eq!(refused, Some(Error::Sealed));
    }
    unseal(&n1, &shares[..2]).await;
    let fingerprint = pending_fingerprint(&n1, "n2").await;
    n1.approve(&admin(), "n2", &fingerprint, soon()).await?;
    within(30, n2.wait_for(Health::Ok)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_expired_invitation_is_refused_and_can_not_be_approved() -> TestResult {
    let rig = Rig::new();
    let (n1, _) = rig.unsealed().await;
    let early = n1.invite(&admin(), "n2", 5, soon()).await?;
    let late = n1.invite(&admin(), "n3", 5, soon()).await?;
    let n2 = rig.joining("n2", &early.token).await.expect("starts");
    let fingerprint = pending_fingerprint(&n1, "n2").await;
    rig.clock.0.store(6 * 60_000, std::sync::atomic::Ordering::SeqCst);
    assert!(n1.list_members(&admin(), soon()).await?.pending.is_empty());
    assert!(matches!(n1.approve(&admin(), "n2", &fingerprint, soon()).await, Err(Error::NotFound(_))));
    let n3 = rig.joining("n3", &late.token).await.expect("starts");
    eventually("n3 is told", || said(&n3).contains("has expired")).await;
    n2.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn invitations_that_nobody_used_make_room_when_they_have_expired() -> TestResult {
    let rig = Rig::new();
    let (n1, _) = rig.unsealed().await;
    for i in 0..64 {
        n1.invite(&admin(), &format!("guest-{i}"), 5, soon()).await?;
    }
    let full = n1.invite(&admin(), "n2", 5, soon()).await.map(drop);
    assert!(matches!(full, Err(Error::WrongState(_))), "{full:?}");
    // A newer one for the same name takes the older one's place.
    n1.invite(&admin(), "guest-0", 5, soon()).await?;
    rig.clock.0.store(6 * 60_000, std::sync::atomic::Ordering::SeqCst);
    n1.invite(&admin(), "n2", 5, soon()).await?;
    let pending = n1.list_members(&admin(), soon()).await?.pending;
    assert_eq!(pending.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["n2"]);
    Ok(())
}

fn join(token: &str) -> quorate_service::node::JoinConfig {
    quorate_service::node::JoinConfig { addresses: vec![], token: JoinToken::parse(token).expect("a token") }
}
