//! An upgrade of a running cluster, with nodes of older and of newer builds.

use std::time::Duration;

use quorate_core::REPLACE_MEMBER;
use quorate_core::level::Level;
use quorate_core::record::Duty;
use quorate_core::record_key::RecordKey;

use super::support::*;
use super::tests::opened;
use crate::duty::Duties;
use crate::error::Reason;
use crate::node::Node;
use crate::seal::{Health, JoinToken};

/// The level in force, and what each member speaks, as a node shows it.
fn shown(node: &Node) -> (u32, Vec<u32>) {
    let status = node.status(&admin()).expect("status");
    let spoken = status.nodes.iter().map(|n| n.level.map_or(0, |level| level.0)).collect();
    (status.level.map_or(0, |level| level.0), spoken)
}

/// Looks after the duty, as the node itself does every few seconds.
async fn raised(node: &Node) -> bool {
    Duties::new(opened(node).records.clone()).look_after(Duty::RaiseLevel).await.expect("looked after") > 0
}

fn says_to_upgrade(why: &str) {
    assert!(why.contains("level 2") && why.contains("upgrade quorate on this node"), "{why}");
    assert!(!why.contains("damaged") && !why.contains(REPLACE_MEMBER), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_is_upgraded_node_by_node_and_rises_when_the_last_one_is() {
    let rig = Rig::new();
    // All old; a learner counts like a voter.
    let (n1, shares) = rig.unsealed().await;
    let (n2, _) = rig.take_in(&n1, "n2").await;
    within(30, n2.wait_for(Health::Ok)).await;

    // The first one is replaced: it serves, and the level waits for the other.
    n1.shutdown().await;
    drop(n1);
    let n1 = rig.speaking("n1", 2).await;
    unseal(&n1, &shares[..2]).await;
    eventually("n1 hears what n2 speaks", || shown(&n1) == (1, vec![2, 1])).await;
    assert!(!raised(&n1).await, "one is behind");

    // Nobody knows what a silent one would say.
    n2.shutdown().await;
    n1.shutdown().await;
    drop((n1, n2));
    let n1 = rig.speaking("n1", 2).await;
    unseal(&n1, &shares[..2]).await;
    assert_eq!(shown(&n1), (1, vec![2, 0]));
    assert!(!raised(&n1).await, "one is silent");

    // The last one, sealed or not. (If the node's own look comes first, there is nothing left to do.)
    let n2 = rig.speaking("n2", 3).await;
    eventually("n1 hears n2", || shown(&n1).1 == [2, 3]).await;
    raised(&n1).await;
    for node in [&n1, &n2] {
        eventually("the level that both speak is in force", || shown(node) == (2, vec![2, 3])).await;
    }
    assert!(!raised(&n1).await, "only n2 speaks more");

    // No way back below it; and nothing is lost by trying.
    n2.shutdown().await;
    drop(n2);
    let n2 = rig.speaking("n2", 1).await;
    within(30, n2.wait_for(Health::UpgradeNeeded)).await;
    says_to_upgrade(&said(&n2));
    let refused = n2.kms().err().expect("it does not serve");
    assert_eq!(refused.reason(), Reason::UpgradeNeeded);
    says_to_upgrade(&refused.to_string());
    n2.shutdown().await;
    drop(n2);
    let n2 = rig.speaking("n2", 2).await;
    within(30, n2.wait_for(Health::Ok)).await;
    assert_eq!(shown(&n2).0, 2);

    // Who would join must speak it.
    let token = n1.invite(&admin(), "n3", 0, soon()).await.expect("invited").token;
    let join =
        || Some(crate::node::JoinConfig { addresses: vec![], token: JoinToken::parse(&token).expect("a token") });
    let start = |level| rig.start("n3", Options { join: join(), level: Some(level), ..Options::default() });
    let n3 = start(1).await.expect("starts");
    eventually("n3 is refused", || said(&n3).contains("joining was refused")).await;
    says_to_upgrade(&said(&n3));
    let pending = n1.list_members(&admin(), soon()).await.expect("listed").pending;
    assert!(pending.iter().all(|p| p.fingerprint.is_none()), "nothing is kept of it: {pending:?}");
    n3.shutdown().await;
    let n3 = start(2).await.expect("starts");
    let fingerprint = pending_fingerprint(&n1, "n3").await;
    n1.approve(&admin(), "n3", &fingerprint, soon()).await.expect("approved");
    within(30, n3.wait_for(Health::Ok)).await;
    eventually("it is at their level", || shown(&n3) == (2, vec![2, 2, 2])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_was_left_behind_while_it_waited_is_not_approved_before_it_is_upgraded() {
    let rig = Rig::new();
    let (n1, shares) = rig.unsealed().await;
    let token = n1.invite(&admin(), "n2", 0, soon()).await.expect("invited").token;
    let n2 = rig.joining("n2", &token).await.expect("starts");
    let fingerprint = pending_fingerprint(&n1, "n2").await;
    n2.shutdown().await;
    n1.shutdown().await;
    drop((n1, n2));
    let n1 = rig.speaking("n1", 2).await;
    unseal(&n1, &shares[..2]).await;
    raised(&n1).await;
    eventually("the cluster has risen without it", || shown(&n1).0 == 2).await;

    let refused = n1.approve(&admin(), "n2", &fingerprint, soon()).await.expect_err("it speaks no such level");
    assert_eq!(refused.reason(), Reason::WrongState, "{refused}");
    says_to_upgrade(&refused.to_string());
    assert_eq!(shown(&n1).1.len(), 1, "nobody has joined");
    // Nor by an approval that passes the raise.
    let records = opened(&n1).records.clone();
    let view = records.fresh_view(soon()).await.expect("a view");
    let mut facts = records.facts(&view).expect("open");
    assert_eq!(records.level(&mut facts).expect("readable"), Level(2));
    assert!(
        facts.into_expects().iter().any(|expect| expect.key == RecordKey::level()),
        "it stands while the level does"
    );

    // What it works at now, it tells as it asks again.
    let join = Some(crate::node::JoinConfig { addresses: vec![], token: JoinToken::parse(&token).expect("a token") });
    let n2 = rig.start("n2", Options { join, level: Some(2), ..Options::default() }).await.expect("starts");
    within(30, async {
        while n1.approve(&admin(), "n2", &fingerprint, soon()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    within(30, n2.wait_for(Health::Ok)).await;
    assert_eq!(shown(&n2), (2, vec![2, 2]));
}

/// Refused as it asks, and no approval lets in what is refused: what it runs now counts, not what it ran as it introduced itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_went_back_to_an_older_build_while_it_waited_is_not_approved() {
    let rig = Rig::new();
    let n1 = rig.speaking("n1", 2).await;
    let shares = init(&n1, 3, 2).await.expect("founded").shares;
    let shares: Vec<_> = shares.iter().map(|share| share.to_string()).collect();
    unseal(&n1, &shares[..2]).await;
    raised(&n1).await;
    eventually("the cluster has risen", || shown(&n1).0 == 2).await;
    let token = n1.invite(&admin(), "n2", 0, soon()).await.expect("invited").token;
    let join =
        || Some(crate::node::JoinConfig { addresses: vec![], token: JoinToken::parse(&token).expect("a token") });
    let start = |level| rig.start("n2", Options { join: join(), level: Some(level), ..Options::default() });
    let n2 = start(2).await.expect("starts");
    let fingerprint = pending_fingerprint(&n1, "n2").await;
    n2.shutdown().await;
    let n2 = start(1).await.expect("starts");
    eventually("n2 is refused", || said(&n2).contains("joining was refused")).await;
    let refused = n1.approve(&admin(), "n2", &fingerprint, soon()).await.expect_err("it speaks no such level");
    assert_eq!(refused.reason(), Reason::WrongState, "{refused}");
    says_to_upgrade(&refused.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_build_that_has_left_the_first_level_behind_founds_a_cluster_at_its_own() {
    let rig = Rig::new();
    let levels = || Options { level: Some(3), lowest: Some(2), ..Options::default() };
    let node = rig.start("n1", levels()).await.expect("starts");
    let shares = init(&node, 3, 2).await.expect("founded").shares;
    let shares: Vec<_> = shares.iter().map(|share| share.to_string()).collect();
    assert_eq!(shown(&node), (2, vec![3]));
    node.shutdown().await;
    drop(node);
    let node = rig.start("n1", levels()).await.expect("starts again");
    unseal(&node, &shares[..2]).await;
    raised(&node).await;
    eventually("it rises like any other", || shown(&node).0 == 3).await;
}
