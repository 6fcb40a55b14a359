//! One real node with a real token: genesis, the ceremony, seals, restarts, and every bad input on the way.

#[path = "../src/testing/node.rs"]
mod support;

use std::time::Duration;

use quorate_core::principal::Role;
use quorate_core::seam::WallClock as _;
use quorate_crypto::{FoundingParams, SealConfig, Secret, Share, found};
use quorate_service::operation::GenerateRandom;
use quorate_service::seal::{Health, Status, Step, Verdict};
use quorate_service::{Error, Reason};
use support::*;
use zeroize::Zeroizing;

type TestResult = Result<(), Error>;

/// A share of another founding: of another cluster, or another set of the same.
fn founded_elsewhere(cluster: quorate_core::id::ClusterId) -> String {
    let params = FoundingParams {
        shares: 5,
        threshold: 3,
        labels: vec![],
        lineage: quorate_core::id::Lineage([5; 16]),
        cluster,
        root_spki: ROOT_SPKI,
        hsm_random: &Secret::from_array([1; 32]),
        single_share: false,
        dev: false,
    };
    found(params, &OsEntropy).expect("founded").shares[1].to_text().to_string()
}

/// A share that looks right and is not the one that was dealt.
fn forged(share: &str) -> String {
    let (hrp, mut bytes) = bech32::decode(share).expect("a share");
    *bytes.last_mut().expect("long") ^= 1;
    bech32::encode::<bech32::Bech32m>(hrp, &bytes).expect("encoded")
}

#[tokio::test(flavor = "multi_thread")]
async fn genesis_leaves_the_node_sealed_and_the_shares_open_it() -> TestResult {
    let rig = Rig::new();
    let node = rig.node("n1").await;
    assert_eq!(node.health(), Health::Uninitialized);
    assert!(matches!(node.kms(), Err(Error::Uninitialized)));
    let status = node.status(&admin())?;
    assert_eq!(status.verdicts, [Verdict::Uninitialized]);

    let founded = init(&node, 5, 3).await?;
    assert_eq!((founded.shares.len(), founded.cluster), (5, CLUSTER));
    assert_eq!(node.health(), Health::Sealed);
    assert!(matches!(node.kms(), Err(Error::Sealed)));
    let config = SealConfig::decode(&node.seal_configs(&custodian())?[0]).expect("readable");
    assert_eq!((config.threshold, config.total, config.lineage), (3, 5, founded.lineage));

    for share in &founded.shares[..2] {
        assert!(!submit(&node, share).await?.unsealed, "one share short never opens");
    }
    let status = node.status(&custodian())?;
    let ceremony = status.ceremony.expect("open");
    assert_eq!((ceremony.entered.as_slice(), ceremony.threshold, ceremony.node.as_str()), (&[1, 2][..], 3, "n1"));
    let step = Step::Ceremony(ceremony);
    assert_eq!(status.verdicts, [Verdict::Sealed { nodes: vec!["n1".into()], all: true, step }]);
    assert!(matches!(node.kms(), Err(Error::Sealed)));

    let last = submit(&node, &founded.shares[4]).await?;
    assert!(last.unsealed && last.ceremony.is_none());
    assert_eq!(node.health(), Health::Ok);
    node.kms()?;
    let status = node.status(&admin())?;
    assert!(status.ceremony.is_none() && !status.nodes[0].sealed && status.nodes[0].role == "leader");
    assert_eq!((status.nodes[0].assurance.as_str(), status.nodes[0].voter), ("software", true));
    assert!(matches!(node.share_challenge(&custodian()), Err(Error::WrongState(_))), "no share is wanted now");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_init_is_refused_with_the_clusters_id_and_changes_nothing() -> TestResult {
    let rig = Rig::new();
    let (node, shares) = rig.founded(3, 2).await;
    for _ in 0..2 {
        let error = init(&node, 5, 3).await.err().expect("refused");
        assert_eq!(error, Error::AlreadyInitialized(CLUSTER));
        assert!(error.to_string().contains(&CLUSTER.to_string()));
    }
    unseal(&node, &shares[..2]).await;
    assert!(matches!(init(&node, 5, 3).await, Err(Error::AlreadyInitialized(_))));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_make_no_share_set_leave_the_node_as_it_was() {
    let rig = Rig::new();
    let node = rig.node("n1").await;
    for (shares, threshold) in [(5, 1), (3, 4), (0, 0), (5, 0), (256, 3), (1000, 300)] {
        let error = init(&node, shares, threshold).await.err().expect("refused");
        assert!(matches!(error, Error::InvalidArgument(_)), "{threshold} of {shares}: {error}");
    }
    let user = principal(Role::User, "web");
    let request = quorate_service::seal::InitRequest {
        shares: 3,
        threshold: 2,
        custodians: vec![],
        insecure_single_share: false,
    };
    assert!(matches!(node.init(&user, request.clone()).await, Err(Error::Denied(_))));
    let named = quorate_service::seal::InitRequest { custodians: vec!["ada".into()], ..request };
    assert!(matches!(node.init(&admin(), named).await, Err(Error::InvalidArgument(_))));
    assert_eq!(node.health(), Health::Uninitialized);
    assert!(!rig.data_dir("n1").exists(), "nothing was made");
    init(&node, 1, 1).await.expect("a single share, asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_wrong_share_is_named_and_nothing_is_kept() -> TestResult {
    let rig = Rig::new();
    let (node, shares) = rig.founded(5, 3).await;
    submit(&node, &shares[0]).await?;

    let refused = |result: Result<_, Error>| match result {
        Err(Error::ShareRefused(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("taken"),
    };
    let mut typo = shares[1].clone().into_bytes();
    typo[30] = if typo[30] == b'q' { b'p' } else { b'q' };
    let typo = String::from_utf8(typo).expect("ASCII");
    assert!(refused(submit_as(&node, &principal(Role::Custodian, "a"), &typo).await).contains("mistyped"));
    assert!(refused(submit_as(&node, &principal(Role::Custodian, "b"), "hunter2").await).contains("not a share"));
    assert!(refused(submit_as(&node, &principal(Role::Custodian, "c"), &shares[0]).await).contains("already entered"));

    let other_cluster = founded_elsewhere(quorate_core::id::ClusterId([9; 16]));
    assert!(
        refused(submit_as(&node, &principal(Role::Custodian, "g"), &other_cluster).await).contains("another cluster")
    );
    let old_set = founded_elsewhere(CLUSTER);
    assert!(refused(submit_as(&node, &principal(Role::Custodian, "h"), &old_set).await).contains("set"));
    let forged = forged(&shares[1]);
    assert!(refused(submit_as(&node, &principal(Role::Custodian, "i"), &forged).await).contains("forged"));

    // A good share with a proof for another node, an old challenge, or none.
    let share = Share::parse(&shares[1]).expect("good");
    let text = || Zeroizing::new(shares[1].clone());
    let challenge = node.share_challenge(&custodian())?;
    let wrong_node = share.prove(CLUSTER, "n2", &challenge.nonce).to_vec();
    let own_nonce = [7; 32];
    let own_proof = share.prove(CLUSTER, "n1", &own_nonce).to_vec();
    let nonce = challenge.nonce.to_vec();
    assert!(
        refused(node.submit_share(&principal(Role::Custodian, "d"), text(), nonce.clone(), wrong_node).await)
            .contains("proof")
    );
    assert!(
        refused(node.submit_share(&principal(Role::Custodian, "e"), text(), own_nonce.to_vec(), own_proof).await)
            .contains("challenge")
    );
    assert!(
        refused(node.submit_share(&principal(Role::Custodian, "f"), text(), nonce, vec![]).await).contains("proof")
    );

    let ceremony = node.status(&admin())?.ceremony.expect("still open");
    assert_eq!(ceremony.entered, [1], "no bad share counted, none ended the ceremony");
    assert!(matches!(submit_as(&node, &principal(Role::User, "web"), &shares[1]).await, Err(Error::Denied(_))));
    unseal(&node, &shares[3..5]).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_shares_silences_its_source_and_delays_no_good_one() -> TestResult {
    let rig = Rig::new();
    let (node, shares) = rig.founded(3, 2).await;
    let mallory = principal(Role::Custodian, "mallory");
    for _ in 0..5 {
        assert!(matches!(submit_as(&node, &mallory, "not a share").await, Err(Error::ShareRefused(_))));
    }
    for _ in 0..20 {
        let error = submit_as(&node, &mallory, "not a share").await.expect_err("refused");
        assert!(matches!(&error, Error::Busy(why) if why.contains("valid share")), "{error}");
    }
    // Not even from the same principal.
    assert!(!submit_as(&node, &mallory, &shares[0]).await?.unsealed);
    assert!(submit(&node, &shares[1]).await?.unsealed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_is_sealed_and_forgets_entered_shares() -> TestResult {
    let rig = Rig::new();
    let (node, shares) = rig.founded(3, 2).await;
    submit(&node, &shares[0]).await?;
    node.shutdown().await;
    drop(node);

    let node = rig.node("n1").await;
    assert_eq!(node.health(), Health::Sealed);
    assert!(node.status(&admin())?.ceremony.is_none(), "shares live in memory only");
    assert!(!submit(&node, &shares[2]).await?.unsealed);
    assert!(submit(&node, &shares[1]).await?.unsealed);
    node.shutdown().await;
    drop(node);

    let node = rig.node("n1").await;
    assert_eq!(node.health(), Health::Sealed, "a node that restarts alone needs its custodians");
    unseal(&node, &shares[..2]).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_node_refuses_and_a_new_ceremony_opens_it() -> TestResult {
    let rig = Rig::new();
    let (node, shares) = rig.unsealed().await;
    for cluster in [false, true, true] {
        let kms = node.kms()?;
        assert!(matches!(node.seal(&custodian(), cluster, soon()).await, Err(Error::Denied(_))));
        assert_eq!(node.seal(&admin(), cluster, soon()).await?, ["n1"]);
        assert_eq!(node.health(), Health::Sealed);
        assert!(matches!(node.kms(), Err(Error::Sealed)));
        let echoed = kms.perform(&call(&admin(), soon()), GenerateRandom { len: 16 }).await;
        assert!(matches!(echoed, Err(Error::Sealed)), "who still holds the desk is refused too");
        unseal(&node, &shares[1..]).await;
        node.kms()?.perform(&call(&admin(), soon()), GenerateRandom { len: 16 }).await?;
    }
    node.seal(&admin(), false, soon()).await?;
    assert!(
        matches!(node.seal(&admin(), true, soon()).await, Err(Error::Sealed)),
        "a sealed node can't write the seal"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_without_the_hsm_never_open() -> TestResult {
    let rig = Rig::new();
    let (node, shares) = rig.founded(3, 2).await;
    node.shutdown().await;
    drop(node);

    // The same disk with another token: the node says so at start, before anybody types a share.
    let node = rig.start("n1", Options { token: Some("thief"), ..Options::default() }).await.expect("starts");
    assert_eq!(node.health(), Health::Damaged);
    let error = submit(&node, &shares[0]).await.expect_err("refused");
    assert!(matches!(&error, Error::Damaged(what) if what.contains("HSM")), "{error}");
    let verdicts = node.status(&admin())?.verdicts;
    assert!(
        matches!(&verdicts[..], [Verdict::Damaged { node, what }] if node == "n1" && what.contains("HSM")),
        "{verdicts:?}"
    );
    node.shutdown().await;
    drop(node);

    // And with its own token again it is whole.
    let node = rig.node("n1").await;
    unseal(&node, &shares[..2]).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_and_clusters_that_do_not_belong_together_are_named() {
    let rig = Rig::new();
    let (node, _) = rig.founded(3, 2).await;
    node.shutdown().await;
    drop(node);

    let error = rig.start("n2", Options { folder: Some("n1"), ..Options::default() }).await.err().expect("refused");
    assert!(error.to_string().contains("belongs to node n1"), "{error}");
    let foreign = Rig { cluster: quorate_core::id::ClusterId([9; 16]), ..rig };
    let error = foreign.start("n1", Options::default()).await.err().expect("refused");
    assert!(error.to_string().contains(&CLUSTER.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_development_cluster_needs_the_dev_flag() {
    let rig = Rig::new();
    let dev = || Options { dev: true, ..Options::default() };
    let node = rig.start("n1", dev()).await.expect("starts");
    init(&node, 3, 2).await.expect("founded");
    assert!(node.status(&admin()).expect("status").dev);
    node.shutdown().await;
    drop(node);
    let error = rig.start("n1", Options::default()).await.err().expect("refused");
    assert!(error.to_string().contains("--dev"), "{error}");
    rig.start("n1", dev()).await.expect("starts").shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_reader_may_ask_and_a_node_certificate_may_not() -> TestResult {
    let rig = Rig::new();
    let node = rig.node("n1").await;
    for role in [Role::Admin, Role::User, Role::Custodian, Role::Auditor] {
        node.status(&principal(role, "x"))?;
    }
    assert!(matches!(node.status(&principal(Role::Node, "n1")), Err(Error::Denied(_))));
    assert!(matches!(node.seal_configs(&admin()), Err(Error::Uninitialized)));
    assert!(matches!(node.share_challenge(&custodian()), Err(Error::Uninitialized)));
    assert!(matches!(node.seal(&admin(), false, soon()).await, Err(Error::Uninitialized)));
    assert!(matches!(node.invite(&admin(), "n2", 0, soon()).await, Err(Error::Uninitialized)));
    tokio::time::timeout(Duration::from_millis(1), node.wait_for(Health::Uninitialized)).await.expect("at once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_a_lone_clock_waits_for_an_admin() -> TestResult {
    let rig = Rig::new();
    let node = rig.node("n1").await;
    let founded = init(&node, 3, 2).await?;
    let shares: Vec<String> = founded.shares.iter().map(|s| s.to_string()).collect();
    let confirm = |by, ms| {
        let node = node.clone();
        async move { node.confirm_time(&by, ms, soon()).await }
    };
    let now = || rig.clock.now_ms();
    assert_eq!(confirm(custodian(), now()).await.unwrap_err().reason(), Reason::Denied);
    assert_eq!(confirm(admin(), now()).await.unwrap_err().reason(), Reason::Sealed, "the word is a batch with a MAC");
    unseal(&node, &shares[..2]).await;
    assert_eq!(confirm(admin(), now()).await.unwrap_err().reason(), Reason::WrongState, "nothing waits yet");
    let before = node.status(&admin())?.cluster_time_ms;
    rig.clock.0.store(3_600_000, std::sync::atomic::Ordering::SeqCst);
    let status = |wanted: fn(&Status, u64) -> bool| {
        let node = node.clone();
        async move {
            let reached = async {
                loop {
                    let status = node.status(&admin()).expect("answered");
                    if wanted(&status, before) {
                        return status;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), reached).await.expect("within half a minute")
        }
    };
    let held = status(|s, _| matches!(s.verdicts[..], [Verdict::TimeHeld { .. }])).await;
    assert!(held.cluster_time_ms < before + 3_000_000, "time stands still: {held:?}");
    let refused = confirm(admin(), now() - 3_600_000).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::InvalidArgument, "the operator's clock says otherwise: {refused}");
    assert!(confirm(admin(), now() + 50_000).await? > before + 3_000_000);
    status(|s, before| s.cluster_time_ms > before + 3_000_000 && s.verdicts == [Verdict::Healthy]).await;

    // It was that clock that was wrong: it is set right, and so is cluster time, back.
    rig.clock.0.store(0, std::sync::atomic::Ordering::SeqCst);
    status(|s, _| matches!(s.verdicts[..], [Verdict::TimeAhead { .. }])).await;
    assert!(confirm(admin(), now()).await? < before + 1_000_000);
    status(|s, before| s.cluster_time_ms < before + 1_000_000 && s.verdicts == [Verdict::Healthy]).await;
    Ok(())
}
