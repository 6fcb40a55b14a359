//! Nodes whose disks are nearly full: what they refuse, what they go on doing, and that they recover by themselves.
#![allow(clippy::disallowed_methods, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use quorate_core::id::NodeId;
use quorate_core::seam::WallClock;
use quorate_journal::testing::QuotaDisk;
use quorate_replica::{CompactionConfig, MembershipError, OpenError, Problem, ProposeError, ReadError, Replica, World};
use support::{Cluster, genesis, put, soon, until, write};

/// Two segments of the tests' size: the limit, as low_space_bytes is 0 there.
const LIMIT: u64 = 2 * (4 << 20);

/// Sets what a node's disk has free, and waits until it and every other node know what that means.
async fn set_free(cluster: &Cluster, node: usize, bytes: u64, low: bool) {
    cluster.sites[node].disk.set_free_bytes(Some(bytes));
    let id = cluster.sites[node].id;
    until("the node knows", || cluster.nodes[node].status().space.low == low).await;
    for other in (0..cluster.nodes.len()).filter(|o| *o != node) {
        let knows = || cluster.nodes[other].status().peers.iter().any(|p| p.id == id && p.low_space == low);
        until("the others know", knows).await;
    }
}

/// One attempt to write.
async fn propose(node: &Replica, name: &str) -> Result<(), ProposeError> {
    let seq = node.open_seq(soon()).await?;
    node.propose(put(seq.id(), name, 0, b"value"), soon()).await.map(|_| ())
}

async fn equal_digests(cluster: &Cluster) {
    let equal = || {
        let states: Vec<_> = cluster.nodes.iter().map(|n| n.view().expect("a view")).collect();
        let first = (states[0].applied(), states[0].digest().expect("a digest"));
        states.iter().all(|s| (s.applied(), s.digest().expect("a digest")) == first)
    };
    until("all nodes hold the same", equal).await;
    for node in &cluster.nodes {
        node.verify_state().await.expect("the digest holds");
        assert_eq!(node.problem(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_space_hands_on_and_no_writer_sees_it() {
    let cluster = Cluster::voters(3).await;
    let first = cluster.leader(&[0, 1, 2]).await;
    let writers = (0..3).map(|node| {
        let replica = cluster.nodes[node].clone();
        tokio::spawn(async move {
            for n in 0..60 {
                write(&replica, &format!("w{node}-{n}"), b"value").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, String>(())
        })
    });
    let writers: Vec<_> = writers.collect();
    cluster.sites[first].disk.set_free_bytes(Some(LIMIT - 1));
    let others: Vec<usize> = (0..3).filter(|i| *i != first).collect();
    until("leadership moves", || {
        cluster.nodes[others[0]].status().leader.is_some_and(|l| l != cluster.sites[first].id)
    })
    .await;
    let leader = cluster.leader(&others).await;
    let lagging = cluster.nodes[first].clone();
    for (node, writer) in writers.into_iter().enumerate() {
        match writer.await.expect("no panic") {
            Ok(()) => {}
            // The one that stays behind says so at once, and that another node has to be asked.
            Err(e) => assert!(node == first && e.contains("no longer follows"), "{node}: {e}"),
        }
    }
    // It is not led back there, neither by itself nor by an operator.
    let refused = cluster.nodes[leader].transfer_leader(Some(cluster.sites[first].id), soon()).await;
    assert!(
        matches!(&refused, Err(MembershipError::Refused(why)) if why.contains("short of disk space")),
        "{refused:?}"
    );
    // More than the tail: it stays behind, and nobody waits for it.
    for n in 0..40 {
        cluster.write(leader, &format!("more{}", n % 4), &[n; 60 << 10]).await;
    }
    match lagging.read_index(soon()).await {
        Err(ReadError::Unavailable(why)) => assert!(why.contains("ask one of them"), "{why}"),
        other => panic!("it can't know what the others have: {other:?}"),
    }
    // Up to twice the limit nothing changes.
    set_free(&cluster, first, 2 * LIMIT - 1, true).await;
    assert!(lagging.read_index(soon()).await.is_err());
    set_free(&cluster, first, 2 * LIMIT, false).await;
    cluster.read(first, "more3").await.expect("it has caught up");
    cluster.write(first, "through it", b"again").await;
    equal_digests(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_space_anywhere_changes_are_refused_and_reads_go_on_across_an_election() {
    let mut cluster = Cluster::voters(3).await;
    cluster.write(0, "before", b"1").await;
    for node in 0..3 {
        set_free(&cluster, node, 0, true).await;
    }
    let before = cluster.nodes[0].view().expect("a view").digest().expect("a digest");
    for node in &cluster.nodes {
        match propose(node, "refused").await {
            Err(ProposeError::NoSpace(why)) => assert!(why.contains("MiB free"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let refused = support::remove(&cluster.nodes[0], NodeId(3)).await;
    assert!(matches!(&refused, Err(MembershipError::Refused(why)) if why.contains("disk space")), "{refused:?}");
    for node in 0..3 {
        assert_eq!(cluster.read(node, "before").await.expect("there").1[..], *b"1");
        assert!(cluster.read(node, "refused").await.is_none(), "what was refused never happens");
    }
    // An election's first entry is taken, or nobody could read on.
    let leader = cluster.leader(&[0, 1, 2]).await;
    cluster.nodes[leader].shutdown().await;
    let others: Vec<usize> = (0..3).filter(|i| *i != leader).collect();
    cluster.leader(&others).await;
    for node in &others {
        assert_eq!(cluster.read(*node, "before").await.expect("there").1[..], *b"1");
    }
    cluster.nodes[leader] = cluster.sites[leader].open().await;
    assert!(cluster.nodes[leader].status().space.low, "known from the start on");
    assert_eq!(cluster.read(leader, "before").await.expect("there").1[..], *b"1");
    assert_eq!(cluster.nodes[leader].view().expect("a view").digest().expect("a digest"), before);
    for node in 0..3 {
        set_free(&cluster, node, 2 * LIMIT, false).await;
    }
    for node in 0..3 {
        cluster.write(node, &format!("after{node}"), b"1").await;
    }
    equal_digests(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_space_refuses_what_too_few_others_could_store() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let others: Vec<usize> = (0..3).filter(|i| *i != leader).collect();
    set_free(&cluster, others[0], 0, true).await;
    cluster.write(leader, "two of three store it", b"1").await;
    set_free(&cluster, others[1], 0, true).await;
    for node in &cluster.nodes {
        match propose(node, "refused").await {
            Err(ProposeError::NoSpace(why)) => {
                let named = |place: usize| why.contains(&cluster.sites[place].name);
                assert!(named(others[0]) && named(others[1]) && !named(leader), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(cluster.leader(&[0, 1, 2]).await, leader, "it has space and stays");
    set_free(&cluster, others[1], 2 * LIMIT, false).await;
    cluster.write(others[1], "again", b"1").await;
    set_free(&cluster, others[0], 2 * LIMIT, false).await;
    equal_digests(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_waits_for_space_and_leaves_nothing_behind() {
    const TINY: CompactionConfig = CompactionConfig {
        keep_bytes: Some(16 << 10),
        step_bytes: 32 << 10,
        interval: Duration::from_millis(200),
        stream_bytes: 1 << 30,
    };
    // Two of these sites' segments.
    let limit = 2 * (256 << 10);
    let sites = Cluster::sites(3);
    for site in &sites.sites {
        *site.compaction.lock().expect("lock") = TINY;
    }
    let mut cluster = sites.start(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let away = (leader + 1) % 3;
    cluster.nodes[away].shutdown().await;
    let last = cluster.nodes[away].status().last_log;
    for n in 0..200u32 {
        cluster.write(leader, &format!("fill{}", n % 32), &[n as u8; 8192]).await;
    }
    until("the log is gone", || cluster.nodes[leader].status().purged.is_some_and(|purged| purged > last)).await;
    cluster.sites[away].disk.set_free_bytes(Some(limit - 1));
    cluster.nodes[away] = cluster.sites[away].open().await;
    until("the leader knows", || cluster.nodes[leader].status().peers.iter().any(|p| p.low_space)).await;
    cluster.write(leader, "goes on", b"1").await;
    // Several attempts to send it the state.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let received = || {
        let names = std::fs::read_dir(&cluster.sites[away].dir).expect("readable");
        names.filter(|n| n.as_ref().expect("readable").file_name().to_string_lossy().ends_with(".new")).count()
    };
    assert_eq!(received(), 0, "nothing is written of it");
    assert_eq!(cluster.nodes[away].status().last_log, last);
    set_free(&cluster, away, 2 * limit, false).await;
    cluster.read(away, "goes on").await.expect("it has caught up");
    equal_digests(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_is_nearly_full_the_log_is_let_go_of() {
    let cluster = Cluster::voters(1).await;
    // Far below what is usually kept.
    for n in 0..200u8 {
        cluster.write(0, &format!("fill{}", n % 4), &[n; 60 << 10]).await;
    }
    let segments = || {
        let names = std::fs::read_dir(cluster.sites[0].dir.join("journal")).expect("readable");
        names.filter(|n| n.as_ref().expect("readable").path().extension().is_some_and(|e| e == "seg")).count()
    };
    assert!(segments() >= 3 && cluster.nodes[0].status().purged.is_none());
    cluster.sites[0].disk.set_free_bytes(Some(LIMIT - 1));
    until("all segments go but the newest", || segments() == 1).await;
    assert_eq!(cluster.read(0, "fill3").await.expect("there").1[..], *vec![199; 60 << 10]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_unseen_stops_the_node_by_name_and_loses_nothing() {
    let cluster = Cluster::sites(1);
    let site = &cluster.sites[0];
    let disk = Arc::new(QuotaDisk::default());
    let world = || World { disk: disk.clone(), ..site.world() };
    let started = async |made: bool| {
        let (mut config, service) = (site.config(), site.service.clone());
        // The journal has room for much more than what is set aside for the state.
        config.journal.segment_bytes = 16 << 20;
        match made {
            false => Replica::create(config, world(), service).await,
            true => Replica::open(config, world(), service).await,
        }
    };
    disk.fill_up();
    match started(false).await {
        Err(e @ OpenError::DiskFull { .. }) => assert!(e.to_string().contains("make room"), "{e}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    disk.make_room(128 << 20);
    let node = started(false).await.expect("created");
    node.set_keys(Some(Arc::new(support::TestKeys)));
    node.found(site.member(), genesis("n1", site.wall.now_ms()), soon()).await.expect("founded");
    // It looks once a second, and others fill the disk meanwhile.
    disk.pretend(Some(1 << 40));
    disk.fill_up();
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 1000 {
        let name = format!("key {}", acknowledged.len());
        let seq = node.open_seq(soon()).await.expect("a sequence number");
        let stopped = async {
            while node.problem().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            biased;
            done = node.propose(put(seq.id(), &name, 0, &[7; 60 << 10]), soon()) => match done {
                Ok(_) => acknowledged.push(name),
                Err(_) => break,
            },
            () = stopped => break,
        }
    }
    until("it says why it stopped", || matches!(node.status().problem, Some(Problem::DiskFull(_)))).await;
    assert!(matches!(node.read_index(soon()).await, Err(ReadError::Stopped(Problem::DiskFull(_)))));
    assert!(acknowledged.len() > 30, "journal and state had room set aside: {}", acknowledged.len());
    node.shutdown().await;
    disk.make_room(128 << 20);
    disk.pretend(None);
    let node = started(true).await.expect("there is room again");
    node.set_keys(Some(Arc::new(support::TestKeys)));
    node.read_index(soon()).await.expect("it serves");
    let view = node.view().expect("a view");
    for name in &acknowledged {
        assert!(view.get(&support::key(name)).expect("readable").is_some(), "{name} was acknowledged");
    }
    node.verify_state().await.expect("adds up");
    write(&node, "goes on", b"1").await.expect("written");
    node.shutdown().await;
}
