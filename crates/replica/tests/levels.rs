//! Nodes of newer and of older builds in one cluster. Who raises the level, and when, is the service's to decide: here it is done.
#![allow(clippy::disallowed_methods, reason = "tests")]

mod support;

use std::time::Duration;

use quorate_core::REPLACE_MEMBER;
use quorate_core::batch::Outcome;
use quorate_core::id::GroupId;
use quorate_core::level::Level;
use quorate_core::record_key::RecordKey;
use quorate_replica::{CompactionConfig, OpenError, Problem, Replica, ReplicaStatus, SignedLevel};
use support::{CLUSTER, Cluster, PATIENCE, Site, level_signature, problem, put_at, soon};

/// A cluster of nodes that speak these levels.
fn speaking<const N: usize>(levels: [u32; N]) -> Cluster {
    let cluster = Cluster::sites(N as u64);
    cluster.sites.iter().zip(levels).for_each(|(site, level)| site.speak(level));
    cluster
}

async fn raise(node: &Replica, level: u32) -> Outcome {
    node.read_index(soon()).await.expect("a read index");
    let rev = node.view().expect("a view").get(&RecordKey::level()).expect("readable").map_or(0, |(rev, _)| rev);
    let seq = node.open_seq(soon()).await.expect("a number");
    let value = SignedLevel::new(CLUSTER, GroupId(0), Level(level), level_signature).encode();
    node.propose(put_at(seq.id(), RecordKey::level(), rev, &value), soon()).await.expect("an outcome")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// What an operator must read, and must not.
fn says_to_upgrade(why: &str) {
    assert!(why.contains("level 2") && why.contains("upgrade quorate") && why.contains("Nothing is lost"), "{why}");
    assert!(!why.contains("damaged") && !why.contains(REPLACE_MEMBER), "{why}");
}

/// A start of a node that is too old: it is refused, or stops as soon as it knows.
async fn start_outdated(site: &Site) {
    let why = match Replica::open(site.config(), site.world(), site.service.clone()).await {
        Err(refused @ OpenError::UpgradeNeeded(_)) => refused.to_string(),
        Err(other) => panic!("{other:?}"),
        Ok(node) => {
            let why = problem(&node).await;
            node.shutdown().await;
            why.to_string()
        }
    };
    says_to_upgrade(&why);
}

/// Both hold the same at one index.
async fn same_state(a: &Replica, b: &Replica) {
    until("both have applied the same", || a.status().applied == b.status().applied).await;
    let [a, b] = [a, b].map(|node| node.view().expect("a view"));
    if a.applied() == b.applied() {
        assert_eq!(a.digest().expect("a digest"), b.digest().expect("a digest"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_knows_what_each_speaks_and_which_level_is_in_force() {
    let cluster = speaking([2, 1, 3]).start(2).await;
    let spoken = |status: &ReplicaStatus| {
        let within = Duration::from_secs(10);
        cluster.sites.iter().map(|site| status.spoken(site.id, within).map(|l| l.0)).collect::<Vec<_>>()
    };
    until("they have said so", || cluster.nodes.iter().all(|n| spoken(&n.status()) == [Some(2), Some(1), None])).await;
    let status = cluster.nodes[0].status();
    assert_eq!(status.spoken(cluster.sites[1].id, Duration::ZERO), None, "it was longer ago");
    assert_eq!((status.speaks, status.level), (Level(2), Level(1)));

    assert!(matches!(raise(&cluster.nodes[0], 1).await, Outcome::Applied(_)));
    assert_eq!(cluster.nodes[0].view().expect("a view").level().expect("readable"), Level(1));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_node_stops_where_the_level_rises_and_goes_on_once_it_is_upgraded() {
    let mut cluster = speaking([2, 2, 1]).start(3).await;
    cluster.write(0, "before", b"1").await;
    cluster.nodes[2].read_index(soon()).await.expect("a read index");
    let Outcome::Applied(raised) = raise(&cluster.nodes[0], 2).await else { panic!("raised") };
    cluster.write(1, "after", b"2").await;
    assert_eq!([0, 1].map(|i| cluster.nodes[i].level()), [Level(2), Level(2)]);

    // It has read all up to there, and nothing of what follows, however often it is started.
    let Problem::UpgradeNeeded(_) = problem(&cluster.nodes[2]).await else { panic!("another problem") };
    says_to_upgrade(&problem(&cluster.nodes[2]).await.to_string());
    let status = cluster.nodes[2].status();
    assert_eq!((status.applied, status.level), (raised - 1, Level(1)));
    assert!(cluster.nodes[2].read_index(soon()).await.is_err(), "it does not serve");
    cluster.nodes[2].shutdown().await;
    for _ in 0..2 {
        start_outdated(&cluster.sites[2]).await;
    }
    cluster.sites[2].speak(2);
    cluster.nodes[2] = cluster.sites[2].open().await;
    assert_eq!(cluster.read(2, "after").await.expect("there").1[..], *b"2");
    cluster.write(2, "upgraded", b"3").await;
    assert_eq!((cluster.nodes[2].level(), cluster.nodes[2].problem()), (Level(2), None));
    cluster.nodes[2].verify_state().await.expect("whole");
    same_state(&cluster.nodes[0], &cluster.nodes[2]).await;

    // There is no way back below it, and none is lost by trying.
    cluster.nodes[2].shutdown().await;
    cluster.sites[2].speak(1);
    start_outdated(&cluster.sites[2]).await;
    cluster.sites[2].speak(2);
    cluster.nodes[2] = cluster.sites[2].open().await;
    cluster.write(2, "again", b"4").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_node_takes_no_snapshot_of_a_level_above_its_own() {
    let mut cluster = speaking([2, 2, 1]);
    for site in &cluster.sites {
        *site.compaction.lock().expect("lock") = CompactionConfig {
            keep_bytes: Some(16 << 10),
            step_bytes: 32 << 10,
            interval: Duration::from_millis(200),
            stream_bytes: 1 << 30,
        };
    }
    cluster = cluster.start(3).await;
    cluster.write(2, "before", b"1").await;
    cluster.nodes[2].shutdown().await;
    let left_at = cluster.nodes[2].status().last_log;
    assert!(matches!(raise(&cluster.nodes[0], 2).await, Outcome::Applied(_)));
    for n in 0..128 {
        cluster.write(0, &format!("fill{}", n % 64), &[n; 8192]).await;
    }
    for node in &cluster.nodes[..2] {
        until("what it would need is purged", || node.status().purged.is_some_and(|p| p > left_at)).await;
    }

    cluster.nodes[2] = cluster.sites[2].open().await;
    let Problem::UpgradeNeeded(why) = problem(&cluster.nodes[2]).await else { panic!("another problem") };
    assert!(why.contains("the state that the leader sends"), "{why}");
    says_to_upgrade(&problem(&cluster.nodes[2]).await.to_string());
    assert_eq!(cluster.nodes[2].status().level, Level(1));
    cluster.nodes[2].shutdown().await;
    let names = std::fs::read_dir(&cluster.sites[2].dir).expect("readable");
    let names: Vec<_> = names.map(|f| f.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    assert!(names.contains(&"state.redb".to_owned()) && !names.iter().any(|n| n.ends_with(".new")), "{names:?}");

    cluster.sites[2].speak(3);
    cluster.nodes[2] = cluster.sites[2].open().await;
    assert_eq!(cluster.read(2, "before").await.expect("there").1[..], *b"1");
    assert_eq!(cluster.nodes[2].level(), Level(2));
    cluster.write(2, "after", b"2").await;
    same_state(&cluster.nodes[0], &cluster.nodes[2]).await;
    cluster.stop().await;
}
