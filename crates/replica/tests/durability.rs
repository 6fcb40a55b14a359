//! Journal and state are two files of one node: whatever of each survives a crash, the node comes back.
#![allow(clippy::disallowed_methods, reason = "tests")]

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quorate_replica::{NodeIdentity, OpenError, Problem, Replica, ReplicaConfig, Rollback, World};
use support::{Cluster, PATIENCE, copy, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_is_never_durable_ahead_of_the_log() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let site = &cluster.sites[leader];
    // The followers' disks are a majority: the leader applies what its own journal does not have yet.
    site.disk.hold_journal(true);
    let index = cluster.write(leader, "ahead", b"1").await;
    assert!(cluster.nodes[leader].status().applied >= index);
    // A checkpoint is made every two seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let killed = site.dir.with_extension("killed");
    copy(&site.dir, &killed);
    site.disk.hold_journal(false);
    cluster.stop().await;

    let config = ReplicaConfig { data_dir: killed, ..site.config() };
    let back = Replica::open(config, site.world(), site.service.clone()).await.expect("it comes back");
    let status = back.status();
    assert!(status.applied <= status.last_log, "{} in the state, {} in the log", status.applied, status.last_log);
    assert!(status.last_log < index);
    back.shutdown().await;
}

/// Beside a checkpoint that waits for its disk, changes are acknowledged: until so much is in memory that no more is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_checkpoint_stops_no_acknowledgement_before_memory_is_full() {
    const VALUES: usize = 250;
    const VALUE_LEN: usize = 48 << 10;
    let cluster = Cluster::voters(1).await;
    let (node, disk) = (&cluster.nodes[0], &cluster.sites[0].disk);
    disk.hold_state(true);
    cluster.write(0, "something to make durable", b"1").await;
    let stalled = async {
        while !disk.state_is_waited_for() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stalled).await.expect("a checkpoint every two seconds");
    for n in 0..20 {
        cluster.write(0, &format!("beside it {n}"), b"1").await;
    }
    assert!(disk.state_is_waited_for());

    let written = Arc::new(AtomicUsize::new(0));
    let writer = {
        let (node, written) = (node.clone(), written.clone());
        tokio::spawn(async move {
            for n in 0..VALUES {
                write(&node, &format!("value {n}"), &vec![n as u8; VALUE_LEN]).await.expect("written");
                written.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let mut before = VALUES + 1;
    while before != written.load(Ordering::Relaxed) {
        before = written.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // As much as the cache may take, and what is on its way through Raft.
    let bytes = before * VALUE_LEN;
    println!("{} KiB were acknowledged before the disk had to go on", bytes >> 10);
    assert!(bytes <= cluster.sites[0].config().cache_bytes + (2 << 20), "memory is bounded");
    disk.hold_state(false);
    writer.await.expect("all of it");
    for n in 0..VALUES {
        let value = cluster.read(0, &format!("value {n}")).await.expect("there").1;
        assert!(value[..] == vec![n as u8; VALUE_LEN][..]);
    }
    node.verify_state().await.expect("adds up");
    cluster.stop().await;
}

/// A disk that lies about syncs and loses power takes back what its node has acknowledged, and leaves no trace of it on the
/// disk. The leader knows: the node is told, names the damage, and takes no part any more; the leader goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_disk_took_back_what_it_acknowledged_is_told_and_takes_no_part() {
    let mut cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let follower = (leader + 1) % 3;
    let dir = cluster.sites[follower].dir.clone();
    let before = dir.with_extension("before");
    copy(&dir, &before);
    let kept = cluster.nodes[follower].status().last_log;
    let mut acknowledged = 0;
    for n in 0..50 {
        acknowledged = cluster.write(leader, &format!("taken back {n}"), b"1").await;
    }
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while cluster.nodes[follower].status().applied < acknowledged {
        assert!(tokio::time::Instant::now() < end, "the follower does not follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.nodes[follower].shutdown().await;
    std::fs::rename(&dir, dir.with_extension("lost")).expect("moved");
    std::fs::rename(&before, &dir).expect("moved");
    // It did not stop in order, so it has marked nothing of it in its token.
    cluster.sites[follower].token.objects.lock().expect("lock").clear();
    cluster.nodes[follower] = cluster.sites[follower].open().await;

    let told = || match cluster.nodes[follower].status().problem {
        Some(Problem::Lost(Rollback::Entries { acked })) => acked > kept,
        _ => false,
    };
    while !told() {
        assert!(tokio::time::Instant::now() < end, "{:?}", cluster.nodes[follower].status().problem);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.write(leader, "after", b"1").await;
    assert_eq!(cluster.nodes[leader].status().problem, None);
    // What it lost it is not sent: it is to be replaced.
    assert!(cluster.nodes[follower].status().last_log < acknowledged);

    // Nor does its word count when the leader asks whether it still leads: with it alone there is no majority.
    let third = 3 - leader - follower;
    let silence = |silent| cluster.board.set_silent(&cluster.sites[leader].name, &cluster.sites[third].name, silent);
    silence(true);
    let unconfirmed = cluster.nodes[leader].read_index(tokio::time::Instant::now() + Duration::from_secs(2)).await;
    assert!(unconfirmed.is_err(), "{unconfirmed:?}");
    silence(false);
    cluster.stop().await;
}

/// A token that does not sign, at this start.
struct Unsigning(Vec<u8>);

impl NodeIdentity for Unsigning {
    fn public_key(&self) -> Vec<u8> {
        self.0.clone()
    }
    fn sign(&self, _: &[u8]) -> io::Result<Vec<u8>> {
        Err(io::Error::other("CKR_DEVICE_ERROR"))
    }
}

/// Whoever is told that a start failed may try again at once: journal and state are closed by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_late_has_closed_what_it_opened() {
    let mut cluster = Cluster::voters(1).await;
    cluster.write(0, "before", b"1").await;
    cluster.nodes[0].shutdown().await;
    let site = &cluster.sites[0];
    for _ in 0..20 {
        let world = World { identity: Arc::new(Unsigning(site.spki.clone())), ..site.world() };
        let failed =
            Replica::open(site.config(), world, site.service.clone()).await.map(drop).expect_err("it can't sign");
        assert!(matches!(&failed, OpenError::Io { doing, .. } if doing.contains("identity key")), "{failed}");
    }
    cluster.nodes[0] = site.open().await;
    assert_eq!(cluster.read(0, "before").await.expect("there").1[..], *b"1");
    cluster.stop().await;
}
